// A target for libFuzzer ("make fuzz"): visitors send arbitrary bytes in arbitrary pieces,
// half-close, vanish, read slowly and let time pass. The server is that of maintd.cpp, unchanged.
//
// What a visitor must get is worked out here a second time, as simply as possible, from all that it
// has sent. Nothing waits and nothing depends on chance: the clock is a number, and the sockets are
// local ones, on which a byte that was sent has arrived. Like TCP, they report a reset if the
// server closes with unread input.
#include <sys/un.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cases.hpp"

// What maintd.cpp gets instead of the real clock, a poll() that waits, and room for a whole page.
namespace std::chrono {
struct hand_moved_clock : steady_clock {
    static inline time_point current{};
    static time_point now() { return current; }
};
}  // namespace std::chrono
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
namespace {
int poll_result = 0;
int poll_at_once(pollfd* entries, nfds_t count, int) {
    return poll_result = poll(entries, count, 0);
}
int accept_with_little_room(int listener, sockaddr*, socklen_t*) {
    const int socket = accept(listener, nullptr, nullptr);
    const int room = 1;  // The kernel makes it the least there can be, some 4 kB.
    if (socket >= 0) setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return socket;
}
}  // namespace
#define steady_clock hand_moved_clock
#define poll poll_at_once
#define accept accept_with_little_room
#define main maintd_main
#pragma GCC diagnostic ignored "-Wreturn-type"  // Only a main() may do without a return.
#include "../../maintd.cpp"
#undef main
#undef accept
#undef poll

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "finding: it does not hold that %s\n", what);
    std::abort();
}

// ---- What ought to happen -----------------------------------------------------------------------

// The request: all but the empty lines before it.
std::string_view request_in(std::string_view sent) {
    return sent.substr(std::min(sent.find_first_not_of("\r\n"), sent.size()));
}

bool line_is_whole(std::string_view sent) {
    const std::string_view line = request_in(sent);
    return sent.size() >= 8192 || line.find('\n') != line.npos ||
           (!line.empty() && (line[0] < '!' || line[0] > '~'));
}

// Whether the server may close as soon as it has answered: a header is whole, and announces no
// body. A second request, for which nobody asks, may then meet with a reset.
bool may_be_complete(std::string_view sent) {
    std::string header(sent.substr(0, sent.find("\n\r\n")));
    for (char& byte : header)
        if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
    return header.size() < sent.size() && header.find("content-length") == header.npos &&
           header.find("transfer-encoding") == header.npos;
}

// ---- A visitor ----------------------------------------------------------------------------------

struct Visitor {
    Fd socket{};
    std::string sent{}, got{};
    Clock::time_point accepted{}, last_input{}, answered{};
    bool new_input = false, half_closed = false, was_reset = false;

    bool is_here() const { return socket.number >= 0; }
    bool is_answered() const { return answered != Clock::time_point{}; }

    void send(std::string_view piece) {
        const ssize_t size =
            ::send(socket.number, piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size > 0) sent.append(piece.substr(0, static_cast<std::size_t>(size)));
        new_input = new_input || size > 0;
    }

    // Reads up to `most` bytes. Returns whether any came. The kernel reports a reset once.
    bool read(std::size_t most, int flags = MSG_DONTWAIT) {
        static std::array<char, 32'768> bytes;
        const ssize_t size = recv(socket.number, bytes.data(), std::min(most, bytes.size()), flags);
        if (size < 0 && errno == ECONNRESET) was_reset = true;
        if (size > 0 && (flags & MSG_PEEK) == 0)
            got.append(bytes.data(), static_cast<std::size_t>(size));
        return size > 0;
    }

    // Compares what the server has done in the turn that is over with what it ought to do.
    void judge() {
        const auto now = Clock::now();
        if (accepted == Clock::time_point{}) accepted = now;
        if (std::exchange(new_input, false)) last_input = now;
        const bool begun = !got.empty() || read(1, MSG_DONTWAIT | MSG_PEEK);
        const bool whole = line_is_whole(sent), late = now >= accepted + 10s;
        require(!begun || (!sent.empty() && (whole || half_closed || late)),
                "no response begins before the request line is whole");
        require(
            begun || sent.empty() || !(half_closed || late || (whole && now >= last_input + 250ms)),
            "a response begins when input has ended or paused, or after ten seconds");
        if (begun && !is_answered()) answered = now;
    }

    // Whether exactly one response has come. The response does not depend on what follows it.
    bool has_response(const Server& server) const {
        std::string_view expected = server.response;
        if (request_in(sent).starts_with("HEAD ")) expected.remove_suffix(server.page_size);
        return got == (is_answered() ? expected : "");
    }
};

// ---- The server, some visitors, and what they do ------------------------------------------------

// An input is what visitors do. A byte below 128 belongs to the next piece that one sends. Any
// other byte is an act: one of eight, in the lowest three bits, with an argument of four.
enum Act : unsigned {
    send_and_turn,  // send the piece; the server's turn comes 10 ms times 2^argument later
    just_send,      // send the piece
    send_often,     // send the piece 64 times
    high_byte,      // the next byte belongs to the piece, with its highest bit set
    half_close,
    vanish,
    read_some,  // up to 2^argument bytes
    another,    // visitor `argument` is the one who acts
};

std::string act(Act what, unsigned argument = 0) {
    return {static_cast<char>(0x80 | argument << 3 | what)};
}

class Stage {
  public:
    explicit Stage(std::size_t page_size)
        : server_{build_response(std::string(page_size, 'p'), 120), page_size, Fd{}, -1} {
        server_.listener = Fd{socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)};
        const int listener = server_.listener.number;
        const sockaddr_un unnamed{AF_UNIX, {}};  // The kernel finds a name.
        require(
            bind(listener, reinterpret_cast<const sockaddr*>(&unnamed), sizeof(sa_family_t)) == 0 &&
                listen(listener, backlog_) == 0 &&
                getsockname(listener, reinterpret_cast<sockaddr*>(&address_), &size_) == 0,
            "there is a listener");
    }

    void play(std::string_view input) {
        const int lowest = lowest_free_descriptor();
        for (std::size_t i = 0; i < input.size(); ++i) {
            const auto byte = static_cast<unsigned char>(input[i]);
            if (byte < 0x80)
                piece_ += input[i];
            else if ((byte & 7) == high_byte)
                piece_ += static_cast<char>(++i < input.size() ? input[i] | 0x80 : 0);
            else
                perform(static_cast<Act>(byte & 7), byte >> 3 & 15);
        }
        perform(send_and_turn, 0);
        finish();
        require(lowest_free_descriptor() == lowest, "no descriptor is leaked");
    }

  private:
    void perform(Act what, unsigned argument) {
        Visitor& visitor = visitors_[actor_];
        if (!visitor.is_here()) connect(visitor);
        switch (what) {
            case send_often:
                piece_.reserve(64 * piece_.size());
                for (std::size_t i = 0, size = piece_.size(); i < 63 * size; ++i)
                    piece_ += piece_[i];
                [[fallthrough]];
            case just_send:
            case send_and_turn:
                visitor.send(std::exchange(piece_, ""));
                if (what == send_and_turn) turn((1u << argument) * 10ms);
                break;
            case half_close:
                visitor.half_closed = shutdown(visitor.socket.number, SHUT_WR) == 0;
                break;
            case vanish: visitor = Visitor{}; break;
            case read_some: visitor.read(1u << argument); break;
            case another: actor_ = argument % visitors_.size(); break;
            case high_byte: break;  // is no act of its own
        }
    }

    void connect(Visitor& visitor) {
        if (++waiting_ == backlog_) turn(10ms);
        visitor.socket = Fd{socket(AF_UNIX, SOCK_STREAM, 0)};
        require(
            ::connect(visitor.socket.number, reinterpret_cast<sockaddr*>(&address_), size_) == 0,
            "a visitor gets in");
    }

    // Lets time pass, and the server do all that it can: until poll() reports nothing.
    void turn(Clock::duration time) {
        Clock::current += time;
        int rounds = 0;
        do {
            require(++rounds < 1000, "the server comes to rest");
            server_.poll_once(Clock::now() + max_wait);
        } while (poll_result > 0);
        waiting_ = 0;
        std::size_t here = 0;
        for (Visitor& visitor : visitors_) {
            if (!visitor.is_here()) continue;
            visitor.judge();
            ++here;
        }
        require(server_.table.size() <= here, "a connection ends when its client has gone");
    }

    // Ten seconds pass, so that everyone has a response. Every visitor reads it. Then two hours
    // pass in which nobody does a thing. A visitor that has left its response unread for too long
    // may have lost it.
    void finish() {
        turn(11s);
        std::array<bool, 4> excused{};
        for (std::size_t i = 0; i < visitors_.size(); ++i)
            excused[i] = visitors_[i].is_answered() && Clock::now() >= visitors_[i].answered + 60s;
        for (bool reading = true; reading; turn(0ms)) {
            reading = false;
            for (Visitor& each : visitors_)
                while (each.is_here() && each.read(32'768)) reading = true;
        }
        turn(1h);  // It sends FIN,
        turn(1h);  // and closes.
        require(server_.table.empty(), "each connection ends");
        for (std::size_t i = 0; i < visitors_.size(); ++i) {
            Visitor visitor = std::exchange(visitors_[i], {});
            if (!visitor.is_here() || excused[i]) continue;
            while (visitor.read(32'768)) continue;
            const bool may_reset =
                server_.response.size() <= first_flight && may_be_complete(visitor.sent);
            require(!visitor.was_reset || may_reset, "no connection is reset");
            require(visitor.has_response(server_), "a request gets exactly one whole response");
        }
        actor_ = 0;
    }

    static int lowest_free_descriptor() { return Fd{dup(STDERR_FILENO)}.number; }

    Server server_;
    sockaddr_un address_{};
    socklen_t size_ = sizeof address_;
    std::array<Visitor, 4> visitors_{};
    std::size_t actor_ = 0;
    std::string piece_{};
    static constexpr int backlog_ = 50;
    int waiting_ = 0;  // for accept()
};

// ---- Seeds: the requests of the tests, sent in several ways -------------------------------------

std::string spelled(std::string_view bytes) {
    std::string input;
    for (const char byte : bytes)
        input += (byte & 0x80) == 0 ? std::string{byte} : act(high_byte) + char(byte & 0x7F);
    return input;
}

void write_seeds(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    int number = 0;
    for (const cases::Request& request : cases::requests()) {
        const std::string_view bytes = request.bytes;
        const std::string all = spelled(bytes);
        const std::string first = spelled(bytes.substr(0, bytes.size() / 2));
        const std::string second = spelled(bytes.substr(bytes.size() / 2));
        for (const std::string& seed :
             {all + act(send_and_turn) + act(read_some, 15), all + act(send_and_turn) + act(vanish),
              first + act(send_and_turn) + second + act(send_and_turn, 5),
              first + act(just_send) + act(half_close) + act(send_and_turn),
              all + act(just_send) + act(vanish) + second + act(another, 1) + all,
              all + act(send_often) + act(send_and_turn) + act(half_close)})
            std::ofstream(folder / ("seed-" + std::to_string(++number)), std::ios::binary) << seed;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    signal(SIGPIPE, SIG_IGN);                   // as main() does
    static Stage small(10'000), large(20'000);  // below and above the first flight of TCP
    Stage& stage = size % 2 == 0 ? small : large;
    stage.play({reinterpret_cast<const char*>(data), size});
    return 0;
}

// "fuzz seeds FOLDER" writes the seeds, and does no more.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    if (*argc != 3 || (*argv)[1] != "seeds"sv) return 0;
    write_seeds((*argv)[2]);
    std::exit(0);
}
