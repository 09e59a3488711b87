// Who sends a body can send all of it, and still reads the page: nobody loses the answer to a reset
// or waits for a "100 Continue" that does not come.
#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

constexpr std::size_t kB = 1000;
constexpr std::size_t MB = 1000 * kB;

std::string upload_header(const std::string& method, std::size_t size) {
    return method + " /form HTTP/1.1\r\nHost: example\r\nContent-Length: " + std::to_string(size) +
           "\r\n\r\n";
}

// The chunked form of `count` times `size` bytes (RFC 9112 section 7.1).
std::string chunks(int count, std::size_t size) {
    std::ostringstream body;
    for (int i = 0; i < count; ++i)
        body << std::hex << size << "\r\n" << std::string(size, 'c') << "\r\n";
    return body.str() + "0\r\n\r\n";
}

}  // namespace

TEST_CASE("an upload of any size can be sent whole, and then gets the page") {
    const Maintd maintd;
    for (const char* method : {"POST", "PUT", "GET"})
        for (const std::size_t size : {10 * kB, 100 * kB, 1 * MB, 30 * MB}) {
            CAPTURE(method, size);
            Client client(maintd.port);
            CHECK(client.send(upload_header(method, size) + std::string(size, 'b')));
            CHECK(is_whole(client.receive_all(), built_in_page()));
        }
}

TEST_CASE("who expects 100-continue gets the 503 at once, and may send the body all the same") {
    const Maintd maintd;
    const std::string header =
        "POST / HTTP/1.1\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    CHECK(is_whole(Client(maintd.port).ask(header, 2s), built_in_page()));

    Client stubborn(maintd.port);
    stubborn.send(header);
    CHECK(stubborn.readable(2s));
    CHECK(stubborn.send(std::string(1 * MB, 'b')));
    CHECK(is_whole(stubborn.receive_all(), built_in_page()));
}

TEST_CASE("a chunked upload gets the page") {
    const Maintd maintd;
    const std::string header = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const auto& [count, size] :
         {std::pair<int, std::size_t>{1, 5}, {1000, 10}, {100, 64 * kB}}) {
        CAPTURE(count, size);
        Client client(maintd.port);
        CHECK(client.send(header + chunks(count, size)));
        CHECK(is_whole(client.receive_all(), built_in_page()));
    }
}

TEST_CASE("a body that comes after the answer does not destroy it") {
    const Maintd maintd;
    // A GET or HEAD that announces no body is over: what would follow it is another request.
    for (const char* field :
         {"Content-Length: 10000", "content-length:10000", "TRANSFER-ENCODING: chunked",
          "X: y\r\nContent-Length: 10000", "X: y"})
        for (const char* method : {"GET", "HEAD", "POST", "OPTIONS"}) {
            if (field == "X: y"s && (method == "GET"s || method == "HEAD"s)) continue;
            CAPTURE(field, method);
            Client client(maintd.port);
            client.send(method + " / HTTP/1.1\r\nHost: x\r\n"s + field + "\r\n\r\n");
            CHECK(client.readable(2s));
            for (int i = 0; i < 10; ++i) CHECK(client.send(std::string(1000, 'b')));
            // Only now does it read: a reset would have thrown the answer away.
            CHECK(visit(maintd.port).end == End::clean);
            CHECK(is_whole(client.receive_all(), built_in_page(), method == "HEAD"s));
        }
}

TEST_CASE("a large upload and a large page do not wait for each other") {
    const std::string page(8 << 20, 'p');
    const TemporaryFile file(page);
    const Maintd maintd({file.path});
    Client client(maintd.port);
    CHECK(client.send(upload_header("POST", 30 * MB) + std::string(30 * MB, 'b')));
    CHECK(is_whole(client.receive_all(), page));
}

TEST_CASE("a large page is received whole by one who reads it slowly or closes his side at once") {
    const std::string page(8 << 20, 'p');
    const TemporaryFile file(page);
    const Maintd maintd({file.path});
    for (const bool closes : {false, true}) {
        Client client(maintd.port, 4096);
        client.send(get);
        if (closes) client.half_close();
        CHECK(visit(maintd.port).bytes.size() > page.size());  // in the meantime
        CHECK(is_whole(client.receive_all(), page));
    }
}
