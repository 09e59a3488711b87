// How maintd responds to one client: whatever the request is, and however it is cut or broken off,
// the client gets exactly one whole response, at the right time, and a clean end of the stream.
// unit.cpp checks every limit of time and size exactly.
#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

const std::string post =
    "POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
const std::string cookie = "Cookie: " + std::string(64 << 10, 'c') + "\r\n\r\n";

// Sends all requests at the same time, each on a connection of its own, and checks all responses.
void check_responses(const std::vector<std::string>& requests, bool head_only = false) {
    const Maintd maintd;
    std::vector<Client> clients;
    for (const std::string& request : requests) {
        clients.emplace_back(maintd.port);
        CHECK(clients.back().send(request));
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(requests[i]);
        CHECK(is_whole(clients[i].receive_all(), built_in_page(), head_only));
    }
}

// What a browser says first to a port where it expects TLS: a record of type 22 (handshake) with a
// ClientHello. Its random bytes are all the same here.
std::string tls_hello(char random) {
    const std::string hello =
        "\x03\x03"s + std::string(32, random) + std::string(478, '\0');
    return "\x16\x03\x01\x02\x04\x01\x00\x02\x00"s + hello;
}

// Whether `seconds` is the length of this pause. Without a pause, it must be shorter than the
// shortest pause that maintd makes, which is 0.02 s.
bool lasts(double seconds, double pause) {
    return seconds >= 0.9 * pause && seconds < (pause > 0 ? 5 * pause : 0.015);
}

// Sends a request in pieces, each of them after the server has received those before it. If the
// first piece is empty, the client asks 300 ms after it has connected. Returns whether the response
// comes after `pause`, and its end at once after a complete request.
bool is_in_time(std::uint16_t port, const std::vector<std::string>& pieces, double pause,
                bool half_closes) {
    Client client(port);
    auto start = Clock::now();
    for (const std::string& piece : pieces) {
        if (piece != pieces.front()) visit(port);
        if (piece.empty()) std::this_thread::sleep_for(300ms);
        start = Clock::now();
        client.send(piece);
    }
    if (half_closes) client.half_close();
    client.readable(patience);
    const double response = seconds_since(start);
    const bool whole =
        is_whole(client.receive_all(), built_in_page(), pieces[0][0] == 'H');
    return whole && lasts(response, pause) &&
           lasts(seconds_since(start) - response, pause > 0 ? 0.25 : 0);
}

}  // namespace

TEST_CASE(
    "any method, target and version, long input, and what is not HTTP get the page") {
    std::vector<std::string> requests;
    for (const std::string& input :
         {"hello\r\n"s, "G\r\n"s, "GET\r\n"s, "\xff\xfe\xfd\r\n"s, "\0\0\0\0\r\n"s,
          "\t\r\n"s, " GET / HTTP/1.1\r\n"s, "GET\t/\0\x1b[2J\r\n"s,
          "SSH-2.0-OpenSSH_9.2\r\n"s, "{\"json\": 1}\r\n"s,
          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"s,
          "GET / HTTP/1.1\nHost: x\n\n"s, tls_hello('\n'), tls_hello('x'),
          std::string(8192, '\r'), std::string(5000, '\x80') + "\r\n",
          "GET / HTTP/1.1\r\n" + cookie,
          "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n"})
        requests.push_back(input);
    for (const char* line :
         {"GET / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/0.9", "GET / HTTP/9.9", "GET /",
          "POST /x?y=z HTTP/1.0", "PUT /a/b/c HTTP/1.1", "DELETE * HTTP/1.1",
          "OPTIONS * HTTP/1.1", "TRACE / HTTP/1.1", "CONNECT example:443 HTTP/1.1",
          "PROPFIND / HTTP/1.1", "GET http://example/ HTTP/1.1",
          "GET //../../etc/passwd HTTP/1.1", "GET /%00%0d%0a HTTP/1.1",
          "HEADER / HTTP/1.1", "HEAD/ HTTP/1.1", "head / HTTP/1.1",
          "BREW coffee HTCPCP/1.0"})
        requests.push_back(line + "\r\nHost: x\r\n\r\n"s);
    check_responses(requests);
}

TEST_CASE("HEAD gets the same header and no body") {
    const Maintd maintd;
    CHECK(Client(maintd.port).ask(head).header() == visit(maintd.port).header());
    check_responses({head, "\r\n\n\r\n" + head, "HEAD /x\n", "HEAD  \n", head + head,
                     "HEAD / HTTP/1.1\nHost: x\n\n", "HEAD / HTTP/1.1\r\n" + cookie,
                     "HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
                    true);
}

TEST_CASE(
    "the header has what browsers, proxies and search engines need, and nothing else") {
    const TemporaryFile file("<p>Back soon.");
    const Reply reply = visit(Maintd({"-r", "345", file.path}).port);
    CHECK(is_whole(reply, "<p>Back soon."));
    for (const char* field :
         {"Cache-Control: no-store", "Connection: close", "Retry-After: 345",
          "Content-Type: text/html; charset=utf-8", "Server: maintd"})
        CHECK(reply.has_field(field));
    const std::string header = reply.header();
    CHECK(std::count(header.begin(), header.end(), '\n') == 8);
}

TEST_CASE("a complete request is answered at once, and any other after a pause") {
    const Maintd maintd;
    struct Case {
        std::vector<std::string> pieces;
        double pause;  // until the response
        bool half_closes = false;
    };
    const std::vector<Case> cases{
        {{get}, 0},
        {{"\r\n" + get}, 0},
        {{"", get}, 0},
        {{"POST / HTTP/1.1\r\nHost: x\r\n\r\n"}, 0},
        {{"GE"}, 0, true},
        {{post}, 0, true},
        {{"GET / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, 0.02},
        {{"HEAD / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, 0.02},
        {{"GET / HT", "TP/1.1\r\n\r\n"}, 0.02},
        {{get + get}, 0.02},
        {{get + "\r\n"}, 0.02},
        {{"GET / HTTP/1.1\r\ncontent-length:5\r\n\r\n"}, 0.02},
        {{post}, 0.25},
        {{post.substr(0, post.size() - 5), "hello"}, 0.25},
        {{"POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\n\r\n"}, 0.25},
        {{tls_hello('x')}, 0.25},
        {{std::string(8192, 'x')}, 0.25}};
    const auto is_right = together(static_cast<int>(cases.size()), [&](int i) {
        const Case& each = cases[static_cast<std::size_t>(i)];
        return succeeds_once([&] {
            return is_in_time(maintd.port, each.pieces, each.pause, each.half_closes);
        });
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
        CAPTURE(cases[i].pieces, cases[i].half_closes);
        CHECK(is_right[i]);
    }
}

TEST_CASE(
    "a second request does not destroy the large page that a slow client still reads") {
    const std::string page(200'000, 'p');
    const TemporaryFile file(page);
    const Maintd maintd({file.path});
    Client early(maintd.port, 4096), late(maintd.port, 4096);
    for (Client* client : {&early, &late}) {
        client->send(get);
        CHECK(client->readable(patience));
    }
    std::this_thread::sleep_for(50ms);  // The server still lingers.
    early.send(get);
    std::this_thread::sleep_for(350ms);  // It has sent FIN.
    late.send(get);
    for (Client* client : {&early, &late}) CHECK(is_whole(client->receive_all(), page));
}

TEST_CASE(
    "one connection gets one response, or none if the client closes it without a byte") {
    Maintd maintd;
    std::string many;
    for (int i = 0; i < 1000; ++i) many += get;
    CHECK(is_whole(Client(maintd.port).ask(many), built_in_page()));
    Client slow(maintd.port), silent(maintd.port);
    slow.send("GET / HTTP/1.1\r\n");  // The response comes before the end of the header.
    CHECK(slow.readable(patience));
    CHECK(is_whole(slow.ask("Host: x\r\n\r\n" + get), built_in_page()));
    slow.abort();
    silent.half_close();
    const Reply reply = silent.receive_all();
    CHECK((reply.bytes.empty() && reply.clean));
    CHECK(last_count(maintd.stop()) == 2);
}
