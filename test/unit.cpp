// The pure parts, called directly: maintd.cpp is included whole, with its main() renamed.
// Only a main() may do without a return, hence the pragma.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wreturn-type"
#define main maintd_main
#include "../maintd.cpp"
#undef main
#pragma GCC diagnostic pop

#include "catch.hpp"

namespace {

const Clock::time_point start = Clock::now();

Connection new_connection() { return Connection{Fd{}, start, start}; }

Connection connection_in(State state) {
    Connection client = new_connection();
    client.state = state;
    return client;
}

// Feeds `input` in two parts, cut at `cut`; returns how many parts it took until there was
// something to answer, or 0 if there never was.
int parts_until_answer(Connection& client, std::string_view input, std::size_t cut) {
    if (client.take(input.substr(0, cut))) return 1;
    return client.take(input.substr(cut)) ? 2 : 0;
}

}  // namespace

// ---- The answer ---------------------------------------------------------------------------------

TEST_CASE("the header is one status line and six fields, and ends with an empty line") {
    Options options;
    options.retry_after = 67;
    const std::string header = build_header(12345, options);
    CHECK(header.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    CHECK(header.ends_with("\r\n\r\n"));
    CHECK(header.find("\r\n\r\n") == header.size() - 4);
    CHECK(std::count(header.begin(), header.end(), '\n') == 8);
    CHECK(std::count(header.begin(), header.end(), '\r') == 8);
    for (const char* field :
         {"Server: maintd", "Content-Length: 12345", "Retry-After: 67",
          "Content-Type: text/html; charset=utf-8", "Cache-Control: no-store", "Connection: close"})
        CHECK(header.find("\r\n"s + field + "\r\n") != header.npos);
}

// ---- A request ----------------------------------------------------------------------------------

TEST_CASE("a request is over when its header is whole and announces no body") {
    for (const char* request :
         {"GET / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
          "GET /Content-Length:5 HTTP/1.1\r\nX-Content-Length: 5\r\nCookie: y\r\n\r\n"}) {
        CAPTURE(request);
        CHECK(is_over(request));
    }
}

TEST_CASE("a request of which more may follow is not over") {
    for (const char* request :
         {"", "\r\n\r\n", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n",
          "GET / HTTP/1.1\n\n",                                     // in doubt
          "POST / HTTP/1.1\r\n\r\n", "get / HTTP/1.1\r\n\r\n",      // any method but these two
          "GETTY / HTTP/1.1\r\n\r\n", "HEADER / HTTP/1.1\r\n\r\n",  //
          "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
          "GET / HTTP/1.1\r\ncontent-length:5\r\nHost: x\r\n\r\n",
          "HEAD / HTTP/1.1\r\nHost: x\r\nCONTENT-LENGTH: 5\r\n\r\n",
          "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
          "GET / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n",
          "GET / HTTP/1.1\nContent-Length: 5\r\n\r\n",
          "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n",         // the next one has begun,
          "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"}) {  // or is there
        CAPTURE(request);
        CHECK_FALSE(is_over(request));
    }
    const std::string whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(is_over(whole.substr(0, size)));
}

// ---- A connection -------------------------------------------------------------------------------

TEST_CASE("the line ends at the first newline, wherever the input is cut") {
    for (const std::string_view request :
         {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n", "x\n",
          "HEAD / HTTP/1.1\r\n\r\n", "\r\n\r\nGET /\r\n", "\n\rPOST / HTTP/1.1\r\n"}) {
        const std::size_t begin = request.find_first_not_of("\r\n");
        const std::size_t end = request.find('\n', begin) + 1;
        for (std::size_t cut = 0; cut <= request.size(); ++cut) {
            CAPTURE(request, cut);
            Connection client = new_connection();
            CHECK(parts_until_answer(client, request, cut) == (cut < end ? 2 : 1));
        }
    }
}

TEST_CASE("what is no line yet is waited for") {
    for (const std::string& input :
         {""s, "\r"s, "\n"s, "\r\n\r\n\r\n"s, "G"s, "GET / HTTP/1.1\r"s, "HEAD / HTTP/1.1"s,
          std::string(line_limit - 1, 'x'), std::string(line_limit - 1, '\n')}) {
        CAPTURE(input);
        CHECK_FALSE(new_connection().take(input));
    }
}

TEST_CASE("a line that is too long is not waited for, wherever the input is cut") {
    for (const char byte : {'x', '\n'})
        for (const std::size_t cut :
             {std::size_t{0}, std::size_t{1}, line_limit / 2, line_limit - 1}) {
            Connection client = new_connection();
            CHECK(parts_until_answer(client, std::string(line_limit, byte), cut) == 2);
        }
}

TEST_CASE("a first byte that cannot begin a method is not waited for, a later one is") {
    const std::string tchars =
        "!#$%&'*+-.^_`|~0123456789"
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";  // RFC 9110 section 5.6.2
    for (int value = 0; value < 256; ++value) {
        const char byte = static_cast<char>(value);
        CAPTURE(value);
        const bool waits = tchars.find(byte) != tchars.npos || byte == '\r' || byte == '\n';
        CHECK(new_connection().take({&byte, 1}) == !waits);
        CHECK(new_connection().take("\r\n"s + byte) == !waits);
        CHECK(new_connection().take("G"s + byte) == (byte == '\n'));
    }
}

TEST_CASE("what is kept of the line tells HEAD from all else, wherever the input is cut") {
    for (const std::string request : {"HEAD / HTTP/1.1\r\n", "\r\n\nHEAD /\n"})
        for (std::size_t cut = 0; cut <= request.size(); ++cut) {
            Connection client = new_connection();
            parts_until_answer(client, request, cut);
            CHECK(client.start == "HEAD ");
        }
    for (const char* request : {"GET / HTTP/1.1\n", "head / HTTP/1.1\n", "HEADER /\n", "HEAD\t/\n",
                                "HEAD\n", "HEAD/ \n", "XHEAD /\n"}) {
        CAPTURE(request);
        Connection client = new_connection();
        CHECK(client.take(request));
        CHECK(client.start != "HEAD ");
    }
}

TEST_CASE("no byte puts off the end of reading and writing") {
    for (const auto& [state, limit] :
         {std::pair<State, Clock::duration>{State::reading, 10s}, {State::writing, 60s}}) {
        Connection client = connection_in(state);
        CHECK(client.deadline() == start + limit);
        client.seen = start + 9s;
        CHECK(client.deadline() == start + limit);
    }
}

TEST_CASE("draining ends after 5 s of silence, and after 60 s in all") {
    Connection client = connection_in(State::draining);
    CHECK(client.deadline() == start + 5s);
    client.seen = start + 9s;
    CHECK(client.deadline() == start + 14s);
    client.seen = start + 59s;
    CHECK(client.deadline() == start + 60s);
}

TEST_CASE("input is waited for until it has ended, room only while there is something to send") {
    CHECK(connection_in(State::reading).events() == POLLIN);
    CHECK(connection_in(State::draining).events() == POLLIN);
    Connection client = connection_in(State::writing);
    CHECK(client.events() == (POLLIN | POLLOUT));
    client.input_ended = true;  // it would be there for ever, and poll() would not wait
    CHECK(client.events() == POLLOUT);
}

// ---- The command line ---------------------------------------------------------------------------
// What is wrong ends the program: command_line.cpp sees to that.

TEST_CASE("a number is read as it stands, up to the most there may be") {
    CHECK(parse_number("-p", "0", 65535) == 0);
    CHECK(parse_number("-p", "80", 65535) == 80);
    CHECK(parse_number("-p", "0080", 65535) == 80);
    CHECK(parse_number("-p", "65535", 65535) == 65535);
    CHECK(parse_number("-u", "4294967294", 4294967294) == 4294967294);
}

TEST_CASE("an address is IPv6 or IPv4, with the port in network order") {
    const Address v4 = parse_address("127.0.0.1", 8080);
    CHECK(v4.any.sa_family == AF_INET);
    CHECK(ntohl(v4.v4.sin_addr.s_addr) == 0x7f000001);
    CHECK(ntohs(v4.v4.sin_port) == 8080);

    const Address v6 = parse_address("::1", 65535);
    CHECK(v6.any.sa_family == AF_INET6);
    CHECK(IN6_IS_ADDR_LOOPBACK(&v6.v6.sin6_addr));
    CHECK(ntohs(v6.v6.sin6_port) == 65535);
    CHECK(v6.v6.sin6_scope_id == 0);

    const Address any = parse_address("::", 0);
    CHECK(IN6_IS_ADDR_UNSPECIFIED(&any.v6.sin6_addr));
}

// ---- Ownership ----------------------------------------------------------------------------------

TEST_CASE("a descriptor is closed exactly once, by its last owner") {
    const auto is_open = [](int number) { return fcntl(number, F_GETFD) >= 0; };
    const int first = dup(STDOUT_FILENO);
    const int second = dup(STDOUT_FILENO);
    REQUIRE(first >= 0);
    REQUIRE(second >= 0);
    {
        Fd owner{first};
        Fd heir{std::move(owner)};
        CHECK(is_open(first));
        heir = Fd{second};
        CHECK_FALSE(is_open(first));
        CHECK(is_open(second));
    }
    CHECK_FALSE(is_open(second));
}
