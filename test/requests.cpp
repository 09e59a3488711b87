// How maintd responds to one client: whatever the request is, and however it is cut or broken off,
// the client gets exactly one whole response, at the right time, and a clean end of the stream.
#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

const std::string post = "POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
const std::string cookie = "Cookie: " + std::string(64 << 10, 'c') + "\r\n\r\n";

// Sends all requests at the same time, each on a connection of its own, and checks all responses.
void check_responses(std::uint16_t port, const std::vector<std::string>& requests,
                     bool head_only = false) {
    std::vector<Client> clients;
    for (const std::string& request : requests) {
        clients.emplace_back(port);
        CHECK(clients.back().send(request));
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(requests[i]);
        CHECK(is_whole(clients[i].receive_all(5s), built_in_page(), head_only));
    }
}

// Sends one of the `parts` on each new connection. Returns the clients after a later one has waited
// for the longest pause and has got its response. So if a part is enough, it has one, too.
std::vector<Client> clients_after_pause(std::uint16_t port, const std::vector<std::string>& parts) {
    std::vector<Client> clients;
    for (const std::string& part : parts) {
        clients.emplace_back(port);
        clients.back().send(part);
    }
    check_responses(port, {"later\n"});
    return clients;
}

// What a browser says first to a port where it expects TLS: a record of type 22 (handshake) with a
// ClientHello. Its random bytes are all the same here.
std::string tls_hello(char random) {
    const std::string hello = "\x03\x03"s + std::string(32, random) + std::string(478, '\0');
    return "\x16\x03\x01\x02\x04\x01\x00\x02\x00"s + hello;
}

// The seconds from the last byte of a request to the first byte of the response, and from there to
// the end of the stream.
struct Timing {
    double response = 0, end = 0;
    bool is_whole = false;
};

// Sends a request in pieces, each of them after the server has received those before it.
Timing measure(std::uint16_t port, const std::vector<std::string>& pieces, bool half_closes,
               const std::string& page) {
    Client client(port);
    auto start = Clock::now();
    for (const std::string& piece : pieces) {
        if (piece != pieces.front()) visit(port);
        start = Clock::now();
        client.send(piece);
    }
    if (half_closes) client.half_close();
    client.readable(patience);
    const double response = seconds_since(start);
    const Reply reply = client.receive_all();
    const bool is_head = pieces.front().starts_with("HEAD ");
    return {response, seconds_since(start) - response, is_whole(reply, page, is_head)};
}

// Whether `seconds` is the length of this pause. Without a pause, it must be shorter than the
// shortest pause that maintd makes, which is 0.02 s.
bool lasts(double seconds, double pause) {
    return seconds >= 0.9 * pause && seconds < (pause > 0 ? 5 * pause : 0.015);
}

}  // namespace

TEST_CASE("a request with any method, target and version gets the page") {
    const Maintd maintd;
    std::vector<std::string> requests;
    for (const char* line :
         {"GET / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/0.9", "GET / HTTP/9.9", "GET /",
          "POST /x?y=z HTTP/1.0", "PUT /a/b/c HTTP/1.1", "DELETE * HTTP/1.1", "OPTIONS * HTTP/1.1",
          "TRACE / HTTP/1.1", "CONNECT example:443 HTTP/1.1", "PROPFIND / HTTP/1.1",
          "GET http://example/ HTTP/1.1", "GET //../../etc/passwd HTTP/1.1",
          "GET /%00%0d%0a HTTP/1.1", "HEADER / HTTP/1.1", "HEAD/ HTTP/1.1", "head / HTTP/1.1",
          "BREW coffee HTCPCP/1.0"})
        requests.push_back(line + "\r\nHost: x\r\n\r\n"s);
    check_responses(maintd.port, requests);
}

TEST_CASE("input that is long, or that is not HTTP, gets the page") {
    const Maintd maintd;
    check_responses(
        maintd.port,
        {"hello\r\n", "G\r\n", "GET\r\n", "\xff\xfe\xfd\r\n", "\0\0\0\0\r\n"s, "\t\r\n",
         " GET / HTTP/1.1\r\n", "GET\t/\0\x1b[2J\r\n"s, "SSH-2.0-OpenSSH_9.2\r\n",
         "{\"json\": 1}\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"s,
         "GET / HTTP/1.1\nHost: x\n\n", tls_hello('\n'), tls_hello('x'),
         std::string(5000, '\x80') + "\r\n",
         "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n" + cookie});
}

TEST_CASE("HEAD gets the same header and no body") {
    const Maintd maintd;
    CHECK(Client(maintd.port).ask(head).header() == visit(maintd.port).header());
    check_responses(maintd.port,
                    {head, "\r\n\n\r\n" + head, "HEAD /x\n", "HEAD  \n", head + head,
                     "HEAD / HTTP/1.1\nHost: x\n\n", "HEAD / HTTP/1.1\r\n" + cookie,
                     "HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
                    true);
}

TEST_CASE("the header has what browsers, proxies and search engines need, and nothing else") {
    const TemporaryFile file("<p>Back soon.");
    const Maintd maintd({"-r", "345", file.path});
    const std::string header = visit(maintd.port).header();
    CHECK(header.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    for (const char* field :
         {"Cache-Control: no-store", "Connection: close", "Content-Length: 13", "Retry-After: 345",
          "Content-Type: text/html; charset=utf-8", "Server: maintd"})
        CHECK(header.find("\r\n"s + field + "\r\n") != std::string::npos);
    CHECK(std::count(header.begin(), header.end(), '\n') == 8);
}

TEST_CASE("a page that names its charset is sent as it is, and the header names none") {
    const TemporaryFile latin("<meta charset=iso-8859-1><p>Alles f\xFCr Sie.");
    for (const std::string& path : {"maintenance.html"s, latin.path}) {
        const Maintd maintd({path});
        const Reply reply = visit(maintd.port);
        CHECK(is_whole(reply, file_content(path)));
        CHECK(reply.header().find("\r\nContent-Type: text/html\r\n") != std::string::npos);
    }
}

TEST_CASE("a first byte that is not a visible ASCII character ends the wait for the request line") {
    const Maintd maintd;
    std::vector<std::string> visible, others;
    for (int value = 0; value < 256; ++value)
        if (value != '\r' && value != '\n' && (value <= 0x88 || value % 8 == 0))
            (value > 0x20 && value < 0x7f ? visible : others).emplace_back(1, value);
    for (Client& client : clients_after_pause(maintd.port, visible))
        CHECK_FALSE(client.readable(0ms));
    check_responses(maintd.port, others);
}

TEST_CASE("the server waits for the newline of 8,191 bytes, but not of 8,192") {
    const Maintd maintd;
    const std::vector<std::string> parts{std::string(8191, 'a'), std::string(8191, '\r')};
    std::vector<Client> clients = clients_after_pause(maintd.port, parts);
    for (std::size_t i = 0; i < clients.size(); ++i) {
        CHECK_FALSE(clients[i].readable(0ms));
        CHECK(is_whole(clients[i].ask(parts[i].substr(0, 1), 5s), built_in_page()));
    }
}

TEST_CASE("empty lines before the request line are skipped") {
    const Maintd maintd;
    const std::vector<std::string> empty{"\r\n",     "\n",           "\n\r\n",
                                         "\r\n\r\n", "\r\n\r\n\n\n", "\r\r\n"};
    std::vector<Client> clients = clients_after_pause(maintd.port, empty);
    for (std::size_t i = 0; i < clients.size(); ++i) {
        CAPTURE(empty[i]);
        CHECK_FALSE(clients[i].readable(0ms));
        clients[i].send(get);
    }
    for (Client& client : clients) CHECK(is_whole(client.receive_all(), built_in_page()));
    for (const std::string& each : empty) check_responses(maintd.port, {each + head}, true);
}

TEST_CASE("a request that is cut off and half-closed at any byte is answered") {
    const Maintd maintd;
    for (const std::string& request : {get, head, post})
        for (std::size_t size = 1; size <= request.size(); ++size) {
            const std::string part = request.substr(0, size);
            CAPTURE(part);
            Client client(maintd.port);
            client.send(part);
            client.half_close();
            CHECK(is_whole(client.receive_all(5s), built_in_page(), part.starts_with("HEAD ")));
        }
}

TEST_CASE("a client that pauses at any byte of its request gets one response") {
    const Maintd maintd;
    struct Part {
        Client client;
        std::string request;
        std::size_t sent;
        bool has_line() const { return sent > request.find('\n'); }
    };
    std::vector<Part> parts;
    for (const std::string& request : {get, head, post})
        for (std::size_t sent = 1; sent < request.size(); ++sent) {
            parts.push_back({Client(maintd.port), request, sent});
            parts.back().client.send(request.substr(0, sent));
        }
    for (Part& part : parts)
        if (part.has_line()) CHECK(part.client.readable(5s));
    for (Part& part : parts) CHECK(part.client.readable(0ms) == part.has_line());
    for (Part& part : parts) part.client.send(part.request.substr(part.sent));
    for (Part& part : parts) {
        CAPTURE(part.request, part.sent);
        CHECK(is_whole(part.client.receive_all(), built_in_page(), part.request == head));
    }
}

TEST_CASE("a request line that comes one byte at a time is answered when it is whole") {
    const Maintd maintd;
    Client client(maintd.port);
    for (const char byte : "HEAD / HTTP/1.1\r\n"s) {
        CHECK(is_whole(visit(maintd.port), built_in_page()));  // The server has read the others.
        CHECK_FALSE(client.readable(0ms));
        client.send({&byte, 1});
    }
    CHECK(is_whole(client.receive_all(5s), built_in_page(), true));
}

TEST_CASE("a response comes at once after a complete request, and after a pause in doubt") {
    const Maintd maintd;
    struct Case {
        std::vector<std::string> pieces;
        double pause;  // until the response
        bool half_closes = false;
    };
    const std::vector<Case> cases{{{get}, 0},
                                  {{"\r\n" + get}, 0},
                                  {{"HEADER / HTTP/1.1\r\nX: y\r\n\r\n"}, 0},
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
                                  {{"POST / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, 0.25},
                                  {{"GETX / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, 0.25},
                                  {{"HEADER / HTTP/1.1\r\n", "Host: x\r\n\r\n"}, 0.25},
                                  {{tls_hello('x')}, 0.25},
                                  {{std::string(8192, 'x')}, 0.25}};
    const auto is_right = together(static_cast<int>(cases.size()), [&](int i) {
        const Case& each = cases[static_cast<std::size_t>(i)];
        return succeeds_once([&] {
            const Timing timing =
                measure(maintd.port, each.pieces, each.half_closes, built_in_page());
            // The server closes at once after a complete request, and lingers in doubt.
            return timing.is_whole && lasts(timing.response, each.pause) &&
                   lasts(timing.end, each.pause > 0 ? 0.25 : 0);
        });
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
        CAPTURE(cases[i].pieces, cases[i].half_closes);
        CHECK(is_right[i]);
    }
}

TEST_CASE("the stream ends at once after 14,000 bytes of response, but not after 14,001") {
    const TemporaryFile other(std::string(13'000, 'p'));
    const std::size_t header = visit(Maintd({other.path}).port).header().size();
    for (const std::size_t size : {14'000 - header, 14'001 - header}) {
        const std::string page(size, 'p');
        const TemporaryFile file(page);
        const Maintd maintd({file.path});
        CHECK(succeeds_once([&] {
            const Timing timing = measure(maintd.port, {get}, false, page);
            return timing.is_whole && lasts(timing.response, 0) &&
                   lasts(timing.end, size > 14'000 - header ? 0.25 : 0);
        }));
    }
}

TEST_CASE("a second request does not destroy the large page that a slow client still reads") {
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

TEST_CASE("a client that connects and asks later is answered as fast as any other") {
    const Maintd maintd;
    const auto is_right = together(2, [&](int i) {
        return succeeds_once([&] {
            std::vector<Client> clients;
            for (int n = 0; n < 11; ++n) clients.emplace_back(maintd.port);
            std::this_thread::sleep_for(i == 0 ? 300ms : 1200ms);
            std::vector<double> late, fresh;
            for (Client& client : clients) {
                const auto start = Clock::now();
                if (!is_whole(client.ask(get), built_in_page())) return false;
                late.push_back(seconds_since(start));
                if (!is_whole(visit(maintd.port), built_in_page())) return false;
                fresh.push_back(seconds_since(start) - late.back());
            }
            return median(late) < median(fresh) + 0.005;
        });
    });
    CHECK(is_right == std::vector{true, true});
}

TEST_CASE("one connection gets one response, or none if the client closes it without a byte") {
    Maintd maintd;
    std::string many;
    for (int i = 0; i < 1000; ++i) many += get;
    CHECK(is_whole(Client(maintd.port).ask(many), built_in_page()));
    Client slow(maintd.port), silent(maintd.port);
    slow.send("GET / HTTP/1.1\r\n");  // The response comes before the end of the header.
    CHECK(slow.readable(5s));
    CHECK(is_whole(slow.ask("Host: x\r\n\r\n" + get), built_in_page()));
    slow.abort();
    silent.half_close();
    const Reply reply = silent.receive_all();
    CHECK(reply.bytes.empty());
    CHECK(reply.end == End::clean);
    CHECK(maintd.stop().errors.starts_with("maintd: 2 requests answered"));
}
