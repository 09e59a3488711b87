// SPDX-License-Identifier: 0BSD
// A target for libFuzzer ("make fuzz"): visitors send arbitrary bytes in any pieces,
// half-close, vanish, read slowly, let time pass. This file works out a second time, and
// simply, what each of them has to get. Nothing waits: the clock is a number, and the
// sockets are local ones. Like TCP, they report a reset for unread input.
#include <fuzzer/FuzzedDataProvider.h>
#include <poll.h>

#include <chrono>

static void require(bool condition, const char* what) {
    if (condition) return;
    fprintf(stderr, "finding: it does not hold that %s\n", what);
    abort();
}

// What maintd.cpp gets in place of the clock, and of calls that wait.
namespace std::chrono {
struct hand_moved_clock : steady_clock {
    static inline time_point current{};
    static time_point now() { return current; }
};
}  // namespace std::chrono
#define steady_clock hand_moved_clock
#define poll(entries, count, timeout) poll(entries, count, (timeout)*0)
#define nanosleep(...) require(false, "each event leads to some progress")
#define main maintd_main
#pragma GCC diagnostic ignored "-Wreturn-type"  // Only a main() may do without a return.
#include "../../maintd.cpp"

namespace {

// Whether `text` ends with the header of one request, which announces no body.
bool ends_with_its_header(string text) {
    if (text.size() >= max_request) return false;
    for (char& byte : text) byte = static_cast<char>(tolower(byte));
    text.insert(0, "\n");
    for (size_t at = 0; (at = text.find("\r\n", at)) != text.npos;) text.erase(at++, 1);
    return text.find("\n\n", 1) == text.size() - 2 &&
           text.find("\ncontent-length") == text.npos &&
           text.find("\ntransfer-encoding") == text.npos;
}

struct Visitor {
    Fd socket{};
    string sent{}, got{}, asked{};  // asked: what was sent when the response began
    Time accepted = now, last_input = now, line = Time::max();
    bool half_closed = false, was_reset = false;

    void send(string_view piece) {
        const ssize_t size =
            ::send(socket.number, piece.data(), piece.size(), MSG_DONTWAIT);
        if (size <= 0) return;
        sent += piece.substr(0, static_cast<size_t>(size));
        sent.erase(0, std::min(sent.find_first_not_of("\r\n"), sent.size()));
        last_input = Time::max();  // The server sees it in its next turn.
    }

    // Reads up to `most` bytes. Returns whether any came. A reset is reported once.
    bool read(size_t most) {
        string bytes(most, '\0');
        const ssize_t size = recv(socket.number, bytes.data(), most, MSG_DONTWAIT);
        was_reset |= size < 0 && errno == ECONNRESET;
        if (size > 0) got.append(bytes, 0, static_cast<size_t>(size));
        return size > 0;
    }

    // Compares what the server has done in this turn with what it had to do.
    void judge() {
        last_input = std::min(last_input, now);
        const bool is_text = sent.empty() || (sent[0] >= '!' && sent[0] <= '~');
        if (!is_text || sent.find('\n') != sent.npos || sent.size() >= max_request)
            line = std::min(line, now);
        const bool late = now >= accepted + 30s && line >= now;
        const bool paused =
            line <= now && now >= std::min(last_input + 250ms, line + 10s);
        const bool over = half_closed || late || paused || ends_with_its_header(sent);
        const bool had_begun = !asked.empty();
        while (read(32'768)) continue;
        if (!had_begun && !got.empty()) asked = sent;
        require(!asked.empty() || sent.empty() || !over, "an ended request is answered");
        require(had_begun || asked.empty() || over, "no response comes before the end");
    }

    // Judges all of a connection that has ended.
    void judge_end() const {
        require(!was_reset || (ends_with_its_header(asked) && response.size() <= 14'000),
                "only a further request after a short response causes a reset");
        string_view expected = response;
        if (asked.starts_with("HEAD ")) expected.remove_suffix(page_size);
        require(got == (asked.empty() ? "" : expected), "the response is whole");
    }
};

constexpr const char* phrases[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.0\r\n", "\r\n",
    "POST /\r\nContent-Length: 7\r\n\r\n", "PUT /\r\nTRANSFER-ENCODING: chunked\r\n\r\n"};

// `input` decides what each of four visitors does, and when.
void play(FuzzedDataProvider input) {
    Server server;
    std::vector<Visitor> visitors(4);
    const auto connect = [&](Visitor& visitor) {
        int ends[2];
        require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a visitor gets in");
        const int room = 1;  // The kernel makes it the least there can be, some 4 kB.
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        visitor = Visitor{Fd{ends[0]}};
        server.table.push_back({Fd{ends[1]}});
    };
    const auto turn = [&](Clock::duration time) {
        Clock::current += time;
        int rounds = 0;
        do {
            server.poll_once(Clock::now() + max_wait);
            require(++rounds < 1000, "the server comes to rest");
        } while (has_progressed);
        for (Visitor& each : visitors) each.judge();
        require(server.table.size() <= 4, "a connection ends when its client has gone");
    };
    for (Visitor& each : visitors) connect(each);
    while (input.remaining_bytes() > 0) {
        Visitor& visitor = visitors[input.ConsumeIntegralInRange(0u, 3u)];
        const unsigned act = input.ConsumeIntegralInRange(0u, 6u);
        const auto exponent = input.ConsumeIntegralInRange(0, 15);
        if (act == 0) visitor.send(input.ConsumeRandomLengthString(100));
        if (act == 1) visitor.send(input.PickValueInArray(phrases));
        if (act == 2) visitor.send(string((3u << exponent) - 1, 'x'));
        if (act == 3) turn(1ms * (1 << exponent));
        if (act == 4) visitor.read(1u << exponent);
        if (act == 5)
            visitor.half_closed |= shutdown(visitor.socket.number, SHUT_WR) == 0;
        if (act == 6) connect(visitor);  // The one who was there vanishes.
    }
    for (int i = 0; i < 20; ++i) turn(6s);
    require(server.table.empty(), "each connection ends");
    for (const Visitor& each : visitors) each.judge_end();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    signal(SIGPIPE, SIG_IGN);  // as main() does
    now = Clock::current = {};
    const int lowest = Fd{dup(STDERR_FILENO)}.number;
    const bool is_short = size % 2 == 0;
    build_response(string(is_short ? 10'000 : 20'000, 'p'));
    play({data, size});
    require(Fd{dup(STDERR_FILENO)}.number == lowest, "no descriptor is leaked");
    return 0;
}
