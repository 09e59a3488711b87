// SPDX-License-Identifier: 0BSD
// The server with the clock moved by hand: each deadline one step before it, and at it.
// maintd.cpp is included whole, with a poll() and an accept() that are defined below.
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <optional>

#include "catch.hpp"

namespace by_hand {
using Time = std::chrono::nanoseconds;
std::optional<Time> clock;  // what the clock says; without it the kernel's clock counts
std::optional<Time> after_poll;  // and says when poll() returns; without it poll() waits
int timeout;                     // what poll() was called with, in ms
int pending = 0;           // clients that accept() still has, which are gone by then
int rests = 0;             // how often nanosleep() was called
bool interrupted = false;  // A signal ends poll().

int poll(pollfd* entries, nfds_t count, int limit) {
    const int ready = ::poll(entries, count, 0);
    timeout = limit;
    const Time waited = std::chrono::milliseconds(ready == 0 ? limit : 0);
    clock = after_poll ? *after_poll : *clock + waited;
    errno = EINTR;
    return interrupted ? -1 : ready;
}

int accept() {
    errno = EAGAIN;
    if (pending == 0) return -1;
    --pending;
    return socket(AF_UNIX, SOCK_STREAM, 0);
}
}  // namespace by_hand

// Replaces the C library's function, which every clock of C++ calls.
extern "C" int clock_gettime(clockid_t id, timespec* result) noexcept {
    if (!by_hand::clock) return static_cast<int>(syscall(SYS_clock_gettime, id, result));
    const auto seconds = std::chrono::floor<std::chrono::seconds>(*by_hand::clock);
    *result = {seconds.count(), (*by_hand::clock - seconds).count()};
    return 0;
}

#pragma GCC diagnostic ignored "-Wreturn-type"  // Only a real main() may lack a return.
#define main maintd_main
#define poll(entries, count, limit) by_hand::poll(entries, count, limit)
#define accept(listener, name, size) by_hand::accept()
#define nanosleep(time, rest) ++by_hand::rests
#include "../maintd.cpp"
#undef main

namespace {

// A server with one client, an end of a pair of sockets, accepted at 1,000 s.
struct Visit {
    Server server;
    Fd client;

    explicit Visit(std::size_t page = 4) {
        by_hand::clock = by_hand::after_poll = 1000s;
        now = Clock::now();
        response = "header" + std::string(page, 'p');
        page_size = page;
        int ends[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        client = Fd{ends[1]};
        server.table.push_back({Fd{ends[0]}});
    }
    ~Visit() { by_hand::clock = by_hand::after_poll = std::nullopt; }

    void send(std::string_view input) const {
        CHECK(write(client.number, input.data(), input.size()) ==
              static_cast<ssize_t>(input.size()));
    }

    // Sends `input`. Has one round end `time` after accept(). Returns the new state.
    std::string at(Clock::duration time, std::string_view input = "") {
        if (!input.empty()) send(input);
        by_hand::after_poll = 1000s + time;
        server.poll_once(now + 1s);
        if (server.table.empty()) return "closed";
        const char* const names[] = {"waiting", "reading", "writing", "lingering",
                                     "closing"};
        return names[static_cast<int>(server.table.front().state)];
    }

    // What the client has received, at most 200,000 bytes, and "|" if FIN came after.
    std::string received() const {
        std::string bytes(200'000, '\0');
        const ssize_t size =
            recv(client.number, bytes.data(), bytes.size(), MSG_DONTWAIT);
        bytes.resize(static_cast<std::size_t>(std::max(size, ssize_t{0})));
        char next = 0;
        const ssize_t more = recv(client.number, &next, 1, MSG_DONTWAIT | MSG_PEEK);
        return bytes + (more == 0 ? "|" : "");
    }
};

const auto request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"s;
const auto small = "headerpppp"s;

}  // namespace

TEST_CASE(
    "a request is complete if its header ends with the input and announces no body") {
    for (const std::string& input :
         {request, "HEAD / HTTP/1.1\r\n\r\n"s, "GET / HTTP/1.1\n\n"s,
          "POST / HTTP/1.1\r\nX-Content-Length: 5\r\nX: transfer-encoding\r\n\r\n"s})
        for (std::size_t size = 0; size <= input.size(); ++size) {
            CAPTURE(input, size);
            CHECK(is_complete(input.substr(0, size)) == (size == input.size()));
        }
    for (const std::string& input :
         {"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"s,
          "GET / HTTP/1.1\r\nX: y\r\ncontent-LENGTH:0\r\nZ: z\r\n\r\n"s,
          "PUT / HTTP/1.1\nTransfer-Encoding: chunked\n\r\n"s, "xyz"s, "x\r\n"s,
          request + "G", request + "body\r\n\r\n", request + request}) {
        CAPTURE(input);
        CHECK_FALSE(is_complete(input));
    }
    const std::string rest = "\r\n\r\n", longest(16'383 - rest.size(), 'x');
    CHECK(is_complete(longest + rest));
    CHECK_FALSE(is_complete("x" + longest + rest));
}

TEST_CASE(
    "a page that names its charset, where a browser looks, needs none in the header") {
    const std::string rest(1024 - strlen("charset"), ' ');
    CHECK(names_charset(
        "<META http-equiv=Content-Type content='text/html; CHARSET=latin1'>"));
    CHECK(names_charset(rest + "charset=iso-8859-1"));
    for (const std::string& page : {rest + " charset=iso-8859-1", "<p>x"s, "charse"s})
        CHECK_FALSE(names_charset(page));
}

TEST_CASE("a newline ends the request line, and so does what cannot become one") {
    CHECK_FALSE(line_has_ended(""));
    CHECK_FALSE(line_has_ended(std::string(16'383, 'x')));
    CHECK(line_has_ended(std::string(16'384, 'x')));
    for (int value = 0; value < 256; ++value) {
        CAPTURE(value);
        const char byte = static_cast<char>(value);
        CHECK(line_has_ended({&byte, 1}) == !(value >= '!' && value <= '~'));
        CHECK(line_has_ended("G"s + byte) == (byte == '\n'));
    }
}

TEST_CASE("a client may close its side after any byte of its request") {
    for (const std::string input :
         {"\r\n\nHEAD / HTTP/1.1\r\n\r\n", "HEAD\t/\n", "head /\n"})
        for (std::size_t size = 1; size <= input.size(); ++size) {
            CAPTURE(input, size);
            Visit visit;
            visit.send(input.substr(0, size));
            shutdown(visit.client.number, SHUT_WR);
            visit.at(0s);  // reads what was sent, and in the next round its end
            CHECK(visit.at(0s) == "closed");
            const auto whole = input[0] == '\r' && size >= 8 ? "header|" : small + "|";
            CHECK(visit.received() == (input[0] == '\r' && size <= 3 ? "|" : whole));
        }
}

TEST_CASE("a complete request is answered and closed at once if the response is small") {
    CHECK(Visit(14'000 - 6).at(29s, request) == "closed");
    CHECK(Visit(14'000 - 5).at(29s, request) == "lingering");
    Visit in_pieces;
    CHECK(in_pieces.at(1s, request.substr(0, 3)) == "waiting");
    CHECK(in_pieces.at(29s, request.substr(3, 20)) == "reading");
    CHECK(in_pieces.at(29s, request.substr(23)) == "closed");
    CHECK(in_pieces.received() == small + "|");
}

TEST_CASE("the request line has 30 s, and its client gets nothing if it sent nothing") {
    for (const std::string byte : {"", "\r", "x"}) {
        Visit visit;
        CHECK(visit.at(1s, byte) == "waiting");
        CHECK(by_hand::timeout == 1001);  // at most 1 s, and the rest of a millisecond
        CHECK(visit.at(30s - 1ns, byte) == "waiting");
        CHECK(visit.at(30s) == (byte == "x" ? "lingering" : "closed"));
        CHECK(visit.received() == (byte == "x" ? small : "|"));
    }
}

TEST_CASE("then the response comes after 250 ms without input, or after 10 s") {
    Visit pausing, dripping;
    CHECK(pausing.at(20s, "POST / HTTP/1.1\r\n") == "reading");
    CHECK(pausing.at(20'249ms, "x") == "reading");
    CHECK(pausing.at(20'499ms - 1ns) == "reading");
    CHECK(by_hand::timeout == 251);  // poll() returns at the next deadline.
    CHECK(pausing.at(20'499ms) == "lingering");
    CHECK(dripping.at(20s, "GET / HTTP/1.1\r\n") == "reading");
    for (auto time = 20s + 240ms; time < 30s; time += 240ms)
        CHECK(dripping.at(time, "x") == "reading");
    CHECK(dripping.at(30s - 1ns, "x") == "reading");
    CHECK(dripping.at(30s, "x") == "lingering");
    CHECK(dripping.received() == small);
}

TEST_CASE("a large page may take minutes, but a client has to take something in 60 s") {
    Visit slow(4 << 20), stuck(4 << 20);
    CHECK(slow.at(0s, request) == "writing");
    std::size_t size = 0;
    auto time = 0s;
    for (std::string state = "writing"; state == "writing"; time += 59s) {
        size += slow.received().size();
        state = slow.at(time);
    }
    while (const std::size_t more = slow.received().size()) size += more;
    CHECK(size == response.size());
    CHECK(time > 10min);

    CHECK(stuck.at(29s, request) == "writing");
    CHECK(stuck.at(88s, "x") == "writing");  // What it sends is no progress.
    CHECK(stuck.at(89s - 1ns) == "writing");
    const int larger = 4 << 20;  // Now there is room, but the client has taken nothing.
    setsockopt(stuck.server.table[0].fd.number, SOL_SOCKET, SO_SNDBUF, &larger, 4);
    CHECK(stuck.at(89s) == "closed");
}

TEST_CASE("FIN comes 250 ms after the last input, and close() 5 s after the last input") {
    Visit visit;
    CHECK(visit.at(1s, "GET / HTTP/1.1\r\n") == "reading");
    CHECK(visit.at(2s) == "lingering");
    CHECK(visit.at(2249ms, "x") == "lingering");
    CHECK(visit.at(2499ms - 1ns) == "lingering");
    CHECK(visit.received() == small);
    CHECK(visit.at(2499ms) == "closing");
    CHECK(visit.received() == "|");
    CHECK(visit.at(7498ms, "x") == "closing");
    CHECK(visit.at(12'498ms - 1ns) == "closing");
    CHECK(visit.at(12'498ms) == "closed");
}

TEST_CASE("the newest quarter of the clients makes no room, even if it is silent") {
    Visit visit;
    visit.at(0s, "x");
    for (const char* input : {"x", "x", ""}) {
        visit.server.table.push_back({Fd{}});
        visit.server.table.back().request = input;
    }
    visit.server.evict();
    CHECK(visit.server.table.size() == 3);
    CHECK(visit.server.table.back().request.empty());
}

TEST_CASE("a round rests if poll() has reported something and no call succeeds") {
    by_hand::rests = 0;
    Visit visit;
    CHECK(visit.at(1s, "GET / HTTP/1.1\r\n") == "reading");
    CHECK(visit.at(2s) == "lingering");
    CHECK(visit.at(3s) == "closing");
    Visit half_closed(4 << 20);
    half_closed.send(request);
    shutdown(half_closed.client.number, SHUT_WR);
    for (const auto time : {1s, 2s, 3s}) CHECK(half_closed.at(time) == "writing");
    by_hand::interrupted = true;  // A stop has to free the port at once.
    CHECK(half_closed.at(4s) == "writing");
    by_hand::interrupted = false;
    CHECK(by_hand::rests == 0);
    half_closed.server.listener = Fd{open("/dev/null", O_RDONLY)};  // always readable
    CHECK(half_closed.at(5s) == "writing");
    CHECK(by_hand::rests == 1);
}

TEST_CASE("one round accepts at most 4,097 clients") {
    Visit visit;
    by_hand::pending = 10'000;
    visit.server.accept_clients();
    CHECK(std::exchange(by_hand::pending, 0) == 10'000 - 4097);
}

TEST_CASE("a stop takes 2 s if a client holds it, or else no time") {
    for (const auto& [input, seconds] : {std::pair{"HEAD /"s, 2s}, {request, 0s}}) {
        Visit visit;
        visit.send(input);
        by_hand::after_poll.reset();
        stop_requested = 1;
        visit.server.serve();
        stop_requested = 0;
        CHECK(*by_hand::clock - 1000s >= seconds);
        CHECK(*by_hand::clock - 1000s <= seconds + 1ms);
        CHECK(visit.received() == (seconds == 2s ? "header|" : small + "|"));
    }
}
