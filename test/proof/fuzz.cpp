// A target for libFuzzer ("make fuzz"): visitors send arbitrary bytes in arbitrary pieces,
// half-close, vanish, read slowly and let time pass. The server is that of maintd.cpp, unchanged.
// This file works out a second time, as simply as possible, what each visitor has to get.
//
// Nothing waits and nothing depends on chance: the clock is a number, and the sockets are local
// ones, where a byte arrives as soon as it is sent. Like TCP, they report a reset if the server
// closes with unread input.
#include <fuzzer/FuzzedDataProvider.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <chrono>
#include <deque>

// What maintd.cpp gets in place of the real clock, of a poll() that waits, and of a listener.
namespace std::chrono {
struct hand_moved_clock : steady_clock {
    static inline time_point current{};
    static time_point now() { return current; }
};
}  // namespace std::chrono
namespace {
std::deque<int> pending;  // sockets for accept()
int poll_result = 0;
int poll_at_once(pollfd* entries, nfds_t count, int) {
    poll_result = poll(entries, count, 0) + !pending.empty();
    entries[0].revents = pending.empty() ? 0 : POLLIN;
    return poll_result;
}
int accept_pending(int, sockaddr*, socklen_t*) {
    errno = EAGAIN;
    const int socket = pending.empty() ? -1 : pending.front();
    if (socket >= 0) pending.pop_front();
    return socket;
}
}  // namespace
#define steady_clock hand_moved_clock
#define poll poll_at_once
#define accept accept_pending
#define main maintd_main
#pragma GCC diagnostic ignored "-Wreturn-type"  // Only a main() may do without a return.
#include "../../maintd.cpp"

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    fprintf(stderr, "finding: it does not hold that %s\n", what);
    abort();
}

// ---- What has to happen, and what visitors do ---------------------------------------------------

// Returns the request: everything but the empty lines in front of it.
std::string_view request_in(std::string_view sent) {
    return sent.substr(std::min(sent.find_first_not_of("\r\n"), sent.size()));
}

bool line_is_whole(std::string_view sent) {
    const std::string_view line = request_in(sent);
    return sent.size() >= 8192 || line.find('\n') != line.npos ||
           (!line.empty() && (line[0] < '!' || line[0] > '~'));
}

// Returns whether the server may close at once after a short response: the header is whole and
// announces no body. A second request may then cause a reset.
bool may_be_complete(std::string_view sent) {
    const std::string_view request = request_in(sent);
    std::string header(request.substr(0, request.find("\n\r\n")));
    std::ranges::transform(header, header.begin(),
                           [](unsigned char byte) { return tolower(byte); });
    return header.size() < request.size() &&
           header.find("content-length") == header.npos &&
           header.find("transfer-encoding") == header.npos;
}

struct Visitor {
    Fd socket{};
    std::string sent{}, got{}, asked{};  // asked: what was sent when the response began
    static constexpr auto never = Clock::time_point::max();
    Clock::time_point accepted = never, last_input = never, answer = never;
    bool half_closed = false, was_reset = false;

    bool is_here() const { return socket.number >= 0; }

    void send(std::string_view piece) {
        const ssize_t size =
            ::send(socket.number, piece.data(), piece.size(), MSG_DONTWAIT);
        if (size <= 0) return;
        sent += piece.substr(0, static_cast<std::size_t>(size));
        last_input = never;  // The server sees it in its next turn.
    }

    // Reads up to `most` bytes. Returns whether any came. The kernel reports a reset once.
    bool read(std::size_t most = 32'768) {
        std::array<char, 32'768> bytes;
        const ssize_t size = recv(socket.number, bytes.data(), most, MSG_DONTWAIT);
        was_reset |= size < 0 && errno == ECONNRESET;
        got.append(bytes.data(), static_cast<std::size_t>(std::max(size, ssize_t{0})));
        return size > 0;
    }

    // Compares what the server has done in the turn that is over with what it had to do.
    void judge() {
        const auto now = Clock::now();
        accepted = std::min(accepted, now);
        last_input = std::min(last_input, now);
        int unread = 0;
        ioctl(socket.number, FIONREAD, &unread);
        const bool begun = !got.empty() || unread > 0, whole = line_is_whole(sent);
        const bool over = half_closed || now >= accepted + 10s;
        require(!begun || (!sent.empty() && (whole || over)),
                "no response begins before the request line is whole");
        require(begun || sent.empty() || !(over || (whole && now >= last_input + 250ms)),
                "a response begins when input has ended or paused, or after ten seconds");
        if (!begun || answer != never) return;
        answer = now;
        asked = sent;
    }

    // Judges all of a connection that has ended. The response does not depend on what follows it.
    void judge_end(const Server& server) {
        while (read()) continue;
        require(!was_reset || (may_be_complete(sent) && got.size() <= 14'000),
                "no connection is reset, unless a short response is followed by another "
                "request");
        std::string_view expected = server.response;
        if (request_in(asked).starts_with("HEAD "))
            expected.remove_suffix(server.page_size);
        require(got == (sent.empty() ? "" : expected),
                "a request gets exactly one whole response");
    }
};

constexpr const char* phrases[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.0\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
    "PUT / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n", "\r\n"};

struct Stage {
    Server server;
    std::array<Visitor, 4> visitors{};

    // `input` decides what each visitor does, and when.
    void play(FuzzedDataProvider& input) {
        while (input.remaining_bytes() > 0) {
            Visitor& visitor = visitors[input.ConsumeIntegralInRange(0u, 3u)];
            if (!visitor.is_here()) connect(visitor);
            const unsigned act = input.ConsumeIntegralInRange(0u, 6u);
            if (act == 0) visitor.send(input.ConsumeRandomLengthString(100));
            if (act == 1) visitor.send(input.PickValueInArray(phrases));
            if (act == 2)
                visitor.send(std::string(input.ConsumeIntegralInRange(1u, 99'999u), 'x'));
            if (act == 3) turn(10ms * (1 << input.ConsumeIntegralInRange(0, 15)));
            if (act == 4) visitor.read(1u << input.ConsumeIntegralInRange(0, 15));
            if (act == 5)
                visitor.half_closed |= shutdown(visitor.socket.number, SHUT_WR) == 0;
            if (act == 6) visitor = Visitor{};
        }
        turn(10ms);
        turn(
            11s);  // Everybody has a response, and reads it, or may have lost it after a minute.
        for (Visitor& each : visitors)
            if (Clock::now() - 60s >= each.answer) each = Visitor{};
        for (bool reading = true; reading; turn(0ms)) {
            reading = false;
            for (Visitor& each : visitors)
                while (each.read()) reading = true;
        }
        turn(1h);  // The server sends FIN,
        turn(1h);  // and closes.
        require(server.table.empty(), "each connection ends");
        for (Visitor& each : visitors)
            if (each.is_here()) each.judge_end(server);
    }

    void connect(Visitor& visitor) {
        if (pending.size() == 50) turn(10ms);
        int ends[2];
        require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a visitor gets in");
        const int room = 1;  // The kernel makes it the least there can be, some 4 kB.
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        visitor.socket = Fd{ends[0]};
        pending.push_back(ends[1]);
    }

    // Lets time pass, and lets the server do all that it can, until poll() reports nothing.
    void turn(Clock::duration time) {
        Clock::current += time;
        for (int rounds = 0; rounds == 0 || poll_result > 0; ++rounds) {
            require(rounds < 1000, "the server comes to rest");
            server.poll_once(Clock::now() + max_wait);
        }
        for (Visitor& each : visitors)
            if (each.is_here()) each.judge();
        require(std::ssize(server.table) <=
                    std::ranges::count_if(visitors, &Visitor::is_here),
                "a connection ends when its client has gone");
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    signal(SIGPIPE, SIG_IGN);  // as main() does
    Clock::current = {};
    const int lowest = Fd{dup(STDERR_FILENO)}.number;
    FuzzedDataProvider input(data, size);
    const std::string page(input.ConsumeBool() ? 10'000 : 20'000,
                           'p');  // around first_flight
    Stage{{build_response(page, 120), page.size(), Fd{}, -1}}.play(input);
    require(Fd{dup(STDERR_FILENO)}.number == lowest, "no descriptor is leaked");
    return 0;
}
