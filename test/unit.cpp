// A connection with the clock moved by hand. maintd.cpp is included whole, with its main() renamed.
// The pragma is needed because only a real main() may lack a return.
#pragma GCC diagnostic ignored "-Wreturn-type"
#define main maintd_main
#include "../maintd.cpp"
#undef main

#include "catch.hpp"

namespace {

// One connection of a server, over a pair of sockets.
struct Visit {
    Server server;
    const Clock::time_point accepted = server.now;
    Fd client{};

    explicit Visit(std::size_t page_size = 4)
        : server{"header" + std::string(page_size, 'p'), page_size, Fd{}, -1} {
        int ends[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        client = Fd{ends[1]};
        server.table.push_back(
            {Fd{ends[0]}, accepted + read_timeout, accepted + read_timeout});
    }

    // Sends `input`, and lets poll() return `time` after accept(). Returns the new state.
    State at(Clock::duration time, std::string_view input = "") {
        if (!input.empty()) CHECK(write(client.number, input.data(), input.size()) > 0);
        Connection& connection = server.table.front();
        pollfd entry{connection.fd.number, POLLIN, 0};
        if (connection.state == State::writing) entry.events |= POLLOUT;
        poll(&entry, 1, 0);
        server.now = accepted + time;
        if (entry.revents != 0 || server.now >= connection.deadline)
            server.advance(connection, entry.revents);
        return connection.state;
    }

    // Returns what the client has received, and "|" if a FIN came after it.
    std::string response() const {
        char bytes[100] = "", next = 0;
        const ssize_t size = recv(client.number, bytes, sizeof bytes, MSG_DONTWAIT);
        const bool ended = recv(client.number, &next, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
        return std::string(bytes, size < 0 ? 0 : static_cast<std::size_t>(size)) +
               (ended ? "|" : "");
    }

    // Sends `input` at once. Returns whether the server then waits no longer for a request line.
    bool line_ends_after(std::string_view input) {
        at(0s, input);
        return server.table.front().line_ended;
    }
};

const auto request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"s;

}  // namespace

// ---- A request ----------------------------------------------------------------------------------

TEST_CASE(
    "a request is complete if its header ends with the input and announces no body") {
    for (const std::string& input :
         {request, "HEAD / HTTP/1.1\r\n\r\n"s, "POST / HTTP/1.1\r\nX: y\r\n\r\n"s})
        for (std::size_t size = 0; size <= input.size(); ++size)
            CHECK(is_complete(input.substr(0, size)) == (size == input.size()));
    for (const char* input :
         {"\n", "\r\n", "\n\n", "GET / HTTP/1.1\n\n",
          "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
          "GET / HTTP/1.1\r\nX: y\r\ncontent-LENGTH:0\r\nZ: z\r\n\r\n",
          "PUT / HTTP/1.1\nTransfer-Encoding: chunked\n\r\n",
          "PUT / HTTP/1.1\r\ntransfer-ENCODING: x\r\nX: y\r\n\r\n",
          "GET / HTTP/1.1\r\n\r\nG", "GET / HTTP/1.1\r\n\r\nbody\r\n\r\n",
          "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"}) {
        CAPTURE(input);
        CHECK_FALSE(is_complete(input));
    }
}

TEST_CASE("a client may pause, or close its side, after any byte of its request") {
    for (const std::string& input :
         {request, "x\n"s, "GET / HTTP/1.1\nHost: x\n"s,
          "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"s, "\r\n\r\nHEAD /\r\n"s, "\n\rHEAD \n"s,
          "\r\r\n\n\nx\n"s, "HEAD\t/\n"s, "HEADER /\n"s, "head /\n"s}) {
        const std::size_t begin = input.find_first_not_of("\r\n");
        const std::size_t end = input.find('\n', begin) + 1;
        const bool is_head = input.compare(begin, 5, "HEAD ") == 0;
        Visit byte_by_byte;
        for (std::size_t cut = 0; cut <= input.size(); ++cut) {
            CAPTURE(input, cut);
            Visit in_two, ending;
            CHECK(in_two.line_ends_after(input.substr(0, cut)) == (cut >= end));
            CHECK(in_two.line_ends_after(input.substr(cut)));
            in_two.at(1s);
            CHECK(in_two.response() == (is_head ? "header" : "headerpppp"));
            ending.at(0s, input.substr(0, cut));
            shutdown(ending.client.number, SHUT_WR);
            CHECK(ending.at(1ms) == State::closed);
            const bool says_head = is_head && cut >= begin + 5;
            CHECK(ending.response() == (cut == 0    ? ""
                                        : says_head ? "header"
                                                    : "headerpppp"));
            if (cut > 0)
                CHECK(byte_by_byte.line_ends_after(input.substr(cut - 1, 1)) ==
                      (cut >= end));
        }
        byte_by_byte.at(1s);
        CHECK(byte_by_byte.response() == (is_head ? "header" : "headerpppp"));
    }
}

TEST_CASE(
    "what cannot become a request line ends it: 8,192 bytes, an invisible first byte") {
    for (const char byte : {'x', '\n', '\r'}) {
        Visit visit;
        CHECK_FALSE(visit.line_ends_after(std::string(8191, byte)));
        CHECK(visit.line_ends_after({&byte, 1}));
    }
    for (int value = 0; value < 256; ++value) {
        CAPTURE(value);
        const char byte = static_cast<char>(value);
        const bool waits = (value >= '!' && value <= '~') || byte == '\r' || byte == '\n';
        CHECK(Visit().line_ends_after({&byte, 1}) == !waits);
        CHECK(Visit().line_ends_after("\r\n"s + byte) == !waits);
        CHECK(Visit().line_ends_after("G"s + byte) == (byte == '\n'));
    }
}

// ---- Deadlines: each is checked just before and just after --------------------------------------

TEST_CASE("a complete request is answered and closed at once if the response is small") {
    Visit in_two_parts;
    CHECK(Visit(14'000 - 6).at(1s, request) == State::closed);
    CHECK(Visit(14'000 - 5).at(1s, request) == State::lingering);
    CHECK(in_two_parts.at(1s, request.substr(0, 20)) == State::reading);
    CHECK(in_two_parts.at(1s, request.substr(20)) == State::reading);
}

TEST_CASE("reading ends 10 s after accept(), and no byte puts that off") {
    for (const std::string start : {"", "x", "POST / HTTP/1.1\r\nx"}) {
        Visit visit;
        for (auto time = 0ms; time < 10s; time += 249ms)
            CHECK(visit.at(time, time == 0s || start.empty() ? start : "x") ==
                  State::reading);
        CHECK(visit.at(9999ms) == State::reading);
        CHECK(visit.at(10s) == (start.empty() ? State::closed : State::lingering));
        CHECK(visit.response() == (start.empty() ? "" : "headerpppp"));
    }
}

TEST_CASE("the response waits for a pause: 20 ms for GET and HEAD, 250 ms for all else") {
    for (const char* line :
         {"GET / HTTP/1.1\r\n", "HEAD / HTTP/1.1\r\n", "POST / HTTP/1.1\r\n", "get /\n",
          "GETTY /\n", "HEADER /\n", "GET\n", "\x16"}) {
        CAPTURE(line);
        const bool is_short =
            line == "GET / HTTP/1.1\r\n"sv || line == "HEAD / HTTP/1.1\r\n"sv;
        const auto pause = is_short ? 20ms : 250ms;
        Visit visit;
        CHECK(visit.at(1s, line) == State::reading);
        CHECK(visit.at(1s + pause - 1ms, "x") == State::reading);  // Input puts it off.
        CHECK(visit.at(1s + 2 * pause - 2ms) == State::reading);
        CHECK(visit.at(1s + 2 * pause - 1ms) == State::lingering);
    }
}

TEST_CASE("writing ends 60 s after it began") {
    Visit visit(4 << 20);
    CHECK(visit.at(9s, request) == State::writing);
    CHECK(visit.at(68s, "x") == State::writing);
    CHECK(visit.response().size() == 100);  // Reading does not put it off, either.
    CHECK(visit.at(68'999ms) == State::writing);
    CHECK(visit.at(69s) == State::closed);
}

TEST_CASE("FIN comes 250 ms after the last input, and close() 5 s after the last input") {
    Visit visit;
    CHECK(visit.at(1s, "GET / HTTP/1.1\r\n") == State::reading);
    CHECK(visit.at(2s) == State::lingering);
    CHECK(visit.at(2249ms, "x") == State::lingering);
    CHECK(visit.at(2498ms) == State::lingering);
    CHECK(visit.response() == "headerpppp");
    CHECK(visit.at(2499ms) == State::closing);
    CHECK(visit.response() == "|");
    CHECK(visit.at(7498ms, "x") == State::closing);
    CHECK(visit.at(12'497ms) == State::closing);
    CHECK(visit.at(12'498ms) == State::closed);
}
