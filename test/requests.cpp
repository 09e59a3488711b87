// SPDX-License-Identifier: 0BSD
// How maintd responds to one client over TCP: whatever the request, and however large its
// body, the client gets exactly one whole response. unit.cpp has each limit.
#include "fixture.hpp"

using namespace fixture;

namespace {

std::string upload(const std::string& method, std::size_t size) {
    return method + " / HTTP/1.1\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n";
}

std::string repeated(int count, const std::string& text) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
}

// Sends all requests at the same time, each on its own connection. Checks all responses.
void check_responses(const std::vector<std::string>& requests, bool head_only) {
    Maintd maintd;
    const auto replies = together(static_cast<int>(requests.size()), [&](int i) {
        return Client(maintd.port).ask(requests[static_cast<std::size_t>(i)]);
    });
    for (std::size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(requests[i].substr(0, 200));
        CHECK(is_whole(replies[i], built_in_page, head_only));
    }
    CHECK(last_count(maintd.stop()) == requests.size());
}

}  // namespace

TEST_CASE(
    "any request or upload, and what is not HTTP, gets the page, and HEAD its header") {
    const std::string cookie = "Cookie: " + std::string(64 << 10, 'c') + "\r\n\r\n";
    const std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    const std::string chunk = "fa00\r\n" + std::string(64'000, 'c') + "\r\n";
    check_responses(
        {"hello\r\n", "\xff\xfe\xfd\r\n", " GET / HTTP/1.1\r\n", "GET\t/\0\x1b[2J\r\n"s,
         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"s,
         "\x16\x03\x01\x02\x04\x01\x00\x02\x00\x03\x03"s + std::string(510, 'x'),  // TLS
         std::string(20'000, '\x80'), "GET /\r\n",
         "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n",
         "GET / HTTP/1.1\r\n" + cookie, "GET //../../etc/passwd HTTP/1.1\r\n\r\n",
         "CONNECT example:443 HTTP/1.1\r\n\r\n", "HEADER / HTTP/1.1\r\n\r\n",
         "HEAD/ HTTP/1.1\r\n\r\n", "head / HTTP/1.1\r\n\r\n", repeated(1000, get),
         upload("GET", 5) + "hello",
         upload("PUT", 10'000'000) + std::string(10'000'000, 'b'),
         chunked + repeated(50, chunk) + "0\r\n\r\n"},
        false);
    check_responses({head, "\r\n\n\r\n" + head, "HEAD /x\n", head + head,
                     "HEAD / HTTP/1.1\nHost: x\n\n", "HEAD / HTTP/1.1\r\n" + cookie,
                     upload("HEAD", 5) + "hello"},
                    true);
}

TEST_CASE(
    "the header has what browsers, proxies and search engines need, and nothing else") {
    const TemporaryFile file("<p>Back soon.");
    const Maintd maintd({"-r", "345", file.path});
    const Reply reply = visit(maintd.port);
    CHECK(is_whole(reply, "<p>Back soon."));
    for (const char* field :
         {"Cache-Control: no-store", "Connection: close", "Retry-After: 345",
          "Content-Type: text/html; charset=utf-8", "Server: maintd"})
        CHECK(reply.has_field(field));
    const std::string header = reply.header();
    CHECK(std::count(header.begin(), header.end(), '\n') == 8);
    CHECK(Client(maintd.port).ask(head).header() == header);
}

// The large page does not fit into the sockets: page and body have to go side by side.
TEST_CASE("a body that comes after the page has begun does not destroy it") {
    for (const std::string& page : {"page"s, std::string(8 << 20, 'p')}) {
        const TemporaryFile file(page);
        const Maintd maintd({file.path});
        for (const std::string& request :
             {upload("POST", 10'000'000),
              "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"s}) {
            Client client(maintd.port);
            client.send(request);
            CHECK(client.readable(patience));
            CHECK(client.send(std::string(10'000'000, 'b')));
            CHECK(is_whole(client.receive_all(), page));
        }
    }
}
