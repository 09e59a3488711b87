// What maintd answers: any request, however it is written, cut or broken off, gets exactly one
// whole 503 and a clean end of stream.
#include <netinet/tcp.h>

#include <algorithm>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// Whether `client`, which has sent all that it is to send for now, has got nothing in return. No
// wait is needed: a visitor who comes later has been answered, so what came before was dealt with.
bool is_unanswered(Client& client, std::uint16_t port) {
    return visit(port).end == End::clean && !client.readable(0ms);
}

// A client whose every send() is a packet of its own.
Client eager_client(std::uint16_t port) {
    Client client(port);
    const int yes = 1;
    setsockopt(client.descriptor(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return client;
}

// What a browser says first to a port where it expects TLS: a record of type 22 (handshake) with a
// ClientHello; the random bytes in it hold no newline, or all of them.
std::string tls_hello(char random) {
    const std::string hello = "\x03\x03"s + std::string(32, random) + std::string(478, '\0');
    return "\x16\x03\x01\x02\x04\x01\x00\x02\x00"s + hello;
}

}  // namespace

TEST_CASE("any method, target and version gets the page") {
    const Maintd maintd;
    for (const char* line :
         {"GET / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/0.9", "GET / HTTP/9.9", "GET /",
          "POST /x?y=z HTTP/1.0", "PUT /a/b/c HTTP/1.1", "DELETE * HTTP/1.1", "OPTIONS * HTTP/1.1",
          "TRACE / HTTP/1.1", "CONNECT example:443 HTTP/1.1", "PROPFIND / HTTP/1.1",
          "GET http://example/ HTTP/1.1", "GET //../../etc/passwd HTTP/1.1",
          "GET /%00%0d%0a HTTP/1.1", "HEADER / HTTP/1.1", "HEAD/ HTTP/1.1", "head / HTTP/1.1",
          "BREW coffee HTCPCP/1.0"}) {
        CAPTURE(line);
        CHECK(is_whole(Client(maintd.port).ask(line + "\r\nHost: x\r\n\r\n"s), built_in_page()));
    }
}

TEST_CASE("a line that is no HTTP gets the page") {
    const Maintd maintd;
    for (const std::string& line :
         {"hello"s, "G"s, "GET"s, "\xff\xfe\xfd"s, "\0\0\0\0"s, " GET / HTTP/1.1"s, "\t"s,
          "GET\t/\0\x1b[2J"s, "SSH-2.0-OpenSSH_9.2"s, "{\"json\": 1}"s,
          std::string(5000, '\x80')}) {
        CAPTURE(line);
        CHECK(is_whole(Client(maintd.port).ask(line + "\r\n"), built_in_page()));
    }
}

TEST_CASE("HEAD gets the same header and no body") {
    const Maintd maintd;
    const std::string header = visit(maintd.port).header();
    for (const std::string& request :
         {head, "\r\n\n\r\n"s + head, "HEAD /x\n"s, "HEAD  \n"s, head + head,
          "HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"s}) {
        CAPTURE(request);
        const Reply reply = Client(maintd.port).ask(request);
        CHECK(is_whole(reply, built_in_page(), true));
        CHECK(reply.header() == header);
    }
}

TEST_CASE("the header says what a browser, a proxy and a search engine need, and no more") {
    const Maintd maintd({"-r", "345"});
    std::istringstream header(visit(maintd.port).header());
    std::vector<std::string> lines;  // sorted, for the order of fields means nothing
    for (std::string line; std::getline(header, line);) lines.push_back(line);
    REQUIRE(lines.size() == 8);
    CHECK(lines.front() == "HTTP/1.1 503 Service Unavailable\r");
    CHECK(lines.back() == "\r");
    std::sort(lines.begin() + 1, lines.end() - 1);
    CHECK(std::vector(lines.begin() + 1, lines.end() - 1) ==
          std::vector{"Cache-Control: no-store\r"s, "Connection: close\r"s,
                      "Content-Length: " + std::to_string(built_in_page().size()) + "\r",
                      "Content-Type: text/html; charset=utf-8\r"s, "Retry-After: 345\r"s,
                      "Server: maintd\r"s});
}

TEST_CASE("a TLS hello is answered and ended within a second") {
    const Maintd maintd;
    for (const char random : {'\n', '\x7f'}) {
        Client client(maintd.port);
        const auto start = Clock::now();
        CHECK(is_whole(client.ask(tls_hello(random)), built_in_page()));
        CHECK(seconds_since(start) < 1);
    }
}

TEST_CASE("a first byte that cannot begin a method is answered at once, any other is not") {
    const std::string tchars =
        "!#$%&'*+-.^_`|~0123456789"
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";  // RFC 9110 section 5.6.2
    const Maintd maintd;
    for (int value = 0; value < 256; ++value) {
        const char byte = static_cast<char>(value);
        if (byte == '\r' || byte == '\n') continue;
        CAPTURE(value);
        Client client(maintd.port);
        client.send({&byte, 1});
        if (tchars.find(byte) != std::string::npos)
            REQUIRE(is_unanswered(client, maintd.port));
        else
            REQUIRE(is_whole(client.receive_all(2s), built_in_page()));
    }
}

TEST_CASE("the HTTP/2 preface gets the page, and a clean end") {
    const Maintd maintd;
    const std::string settings("\0\0\0\x04\0\0\0\0\0", 9);
    Client client(maintd.port);
    CHECK(is_whole(client.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings), built_in_page()));
}

TEST_CASE("a request line of 100 kB and cookies of 64 kB get the page") {
    const Maintd maintd;
    const std::string target(100'000, 'a');
    const std::string cookie(64 << 10, 'c');
    CHECK(is_whole(Client(maintd.port).ask("GET /" + target + " HTTP/1.1\r\nHost: x\r\n\r\n"),
                   built_in_page()));
    CHECK(is_whole(Client(maintd.port).ask("GET / HTTP/1.1\r\nCookie: " + cookie + "\r\n\r\n"),
                   built_in_page()));
    CHECK(is_whole(Client(maintd.port).ask("HEAD / HTTP/1.1\r\nCookie: " + cookie + "\r\n\r\n"),
                   built_in_page(), true));
}

TEST_CASE("8,192 bytes without a newline are answered at once, 8,191 are waited for") {
    const Maintd maintd;
    for (const char byte : {'a', '\r'}) {
        Client client(maintd.port);
        client.send(std::string(8191, byte));
        CHECK(is_unanswered(client, maintd.port));
        client.send({&byte, 1});
        CHECK(is_whole(client.receive_all(2s), built_in_page()));
    }
}

TEST_CASE("empty lines before the request line are skipped") {
    const Maintd maintd;
    for (const char* empty : {"\r\n", "\n", "\r\n\r\n\n\n\r\n", "\r\r\n"}) {
        CAPTURE(empty);
        Client client(maintd.port);
        client.send(empty);
        CHECK(is_unanswered(client, maintd.port));
        CHECK(is_whole(client.ask(get), built_in_page()));
        CHECK(is_whole(Client(maintd.port).ask(empty + head), built_in_page(), true));
    }
}

TEST_CASE("a bare LF ends the request line") {
    const Maintd maintd;
    CHECK(is_whole(Client(maintd.port).ask("GET / HTTP/1.1\nHost: x\n\n"), built_in_page()));
    CHECK(is_whole(Client(maintd.port).ask("HEAD / HTTP/1.1\n"), built_in_page(), true));
}

TEST_CASE("a request that is cut off and half-closed at any byte is answered") {
    const Maintd maintd;
    for (const std::string& request : {get, head})
        for (std::size_t size = 1; size <= request.size(); ++size) {
            const std::string part = request.substr(0, size);
            CAPTURE(part);
            Client client(maintd.port);
            client.send(part);
            client.half_close();
            CHECK(is_whole(client.receive_all(2s), built_in_page(), part.starts_with("HEAD ")));
        }
}

TEST_CASE("a request in two parts, cut at any byte, gets one answer") {
    const Maintd maintd;
    for (const std::string& request : {get, head})
        for (std::size_t size = 1; size < request.size(); ++size) {
            const std::string part = request.substr(0, size);
            CAPTURE(part);
            Client client = eager_client(maintd.port);
            client.send(part);
            const bool line_is_whole = part.find('\n') != std::string::npos;
            CHECK((line_is_whole ? client.readable(patience) : is_unanswered(client, maintd.port)));
            CHECK(is_whole(client.ask(request.substr(size)), built_in_page(), request == head));
        }
}

TEST_CASE("a request that comes one byte at a time is answered when its line is whole") {
    const Maintd maintd;
    for (const std::string& request : {get, head}) {
        Client client = eager_client(maintd.port);
        for (std::size_t i = 0; i <= request.find('\n'); ++i) {
            CHECK(is_unanswered(client, maintd.port));
            client.send(request.substr(i, 1));
        }
        CHECK(client.readable(2s));
        for (const char& byte : request.substr(request.find('\n') + 1)) client.send({&byte, 1});
        CHECK(is_whole(client.receive_all(), built_in_page(), request == head));
    }
}

TEST_CASE("who closes without a byte gets nothing, and is not counted") {
    Maintd maintd;
    Client client(maintd.port);
    client.half_close();
    const Reply reply = client.receive_all();
    CHECK(reply.bytes.empty());
    CHECK(reply.end == End::clean);
    CHECK(maintd.stop().errors.find("maintd: 0 requests answered") != std::string::npos);
}

TEST_CASE("nothing is answered twice on one connection") {
    Maintd maintd;
    std::string many;
    for (int i = 0; i < 1000; ++i) many += get;
    CHECK(is_whole(Client(maintd.port).ask(many), built_in_page()));

    {  // The header is not over when the answer comes, and what follows it is another request.
        Client client(maintd.port);
        client.send("GET / HTTP/1.1\r\n");
        CHECK(client.readable(2s));
        CHECK(is_whole(client.ask("Host: x\r\n\r\n" + get), built_in_page()));
    }
    CHECK(maintd.stop().errors.find("maintd: 2 requests answered") != std::string::npos);
}
