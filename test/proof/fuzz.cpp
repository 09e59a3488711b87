// A target for libFuzzer ("make fuzz"): visitors send arbitrary bytes in arbitrary pieces, half
// close, vanish, read slowly and let time pass. The server is that of maintd.cpp, unchanged.
//
// What a visitor must get is worked out here a second time, as simply as possible, from all that
// he has sent, and compared after each turn of the server. Nothing waits and nothing depends on
// chance: the clock is a number, and the sockets are local ones, on which a byte that was sent has
// arrived. (As with TCP, their close() with unread input tells the other side of a reset.)
#include <sys/un.h>

#include <cctype>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <thread>

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
namespace {
int poll_result = 0;
int poll_at_once(pollfd* entries, nfds_t count) { return poll_result = poll(entries, count, 0); }
int accept_with_little_room(int listener) {
    const int socket = accept(listener, nullptr, nullptr);
    const int room = 1;  // the kernel makes it the least there can be, some 4 kB
    if (socket >= 0) setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return socket;
}
}  // namespace
#define steady_clock hand_moved_clock
#define poll(entries, count, wait) poll_at_once(entries, count)
#define accept(listener, address, size) accept_with_little_room(listener)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wreturn-type"  // only a main() may do without a return
#define main maintd_main
#include "../../maintd.cpp"
#undef main
#pragma GCC diagnostic pop
#undef accept
#undef poll

namespace {

const std::string page = std::string(10'000, 'p') + "the end of the page";

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "finding: it does not hold that %s\n", what);
    std::abort();
}

// ---- What ought to happen -----------------------------------------------------------------------

// The request line and what follows: all but the empty lines before it. Nobody looks beyond byte
// 8191 for it.
std::string_view line_and_rest(std::string_view sent) {
    sent = sent.substr(0, 8191);
    sent.remove_prefix(std::min(sent.find_first_not_of("\r\n"), sent.size()));
    return sent;
}

// Whether someone who has sent these bytes is to be answered without waiting for more.
bool line_is_whole(std::string_view sent) {
    static constexpr auto method_bytes =
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"sv;
    const std::string_view line = line_and_rest(sent);
    return sent.size() >= 8192 || line.find('\n') != line.npos ||
           (!line.empty() && method_bytes.find(line.front()) == method_bytes.npos);
}

// Whether this is a GET or HEAD with its whole header, which announces no body. The server may
// close once it has answered that, without a look at what comes later: a second request, which
// nobody asks for, may meet with a reset.
bool may_be_over(std::string_view sent) {
    std::string header(sent.substr(0, sent.find("\r\n\r\n")));
    if (header.size() == sent.size() || !(sent.starts_with("GET ") || sent.starts_with("HEAD ")))
        return false;
    for (char& byte : header)
        if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
    return header.find("\ncontent-length") == header.npos &&
           header.find("\ntransfer-encoding") == header.npos;
}

// Whether `reply` is one whole answer, and nothing else.
bool is_whole(std::string_view reply, bool head_only) {
    const std::size_t blank = reply.find("\r\n\r\n");
    const std::string length = "\r\nContent-Length: " + std::to_string(page.size()) + "\r\n";
    return reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && blank != reply.npos &&
           reply.substr(0, blank + 2).find(length) != reply.npos &&
           reply.substr(blank + 4) == (head_only ? "" : page);
}

// ---- A visitor ----------------------------------------------------------------------------------

constexpr Clock::time_point never{};

struct Visitor {
    Fd socket{};
    std::string sent{};
    std::string got{};
    bool half_closed = false;
    bool was_reset = false;
    Clock::time_point accepted = never;
    Clock::time_point due = never;  // when he was to be answered
    bool head_only = false;         // and with what
    bool given_up = false;          // he was not to be answered

    bool is_here() const { return socket.number >= 0; }

    void send(std::string_view piece) {
        const ssize_t size =
            result(::send(socket.number, piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
        if (size > 0) sent.append(piece.substr(0, static_cast<std::size_t>(size)));
        const bool is_late = due != never && Clock::now() >= due + 5s;
        require(
            size >= 0 || errno == EAGAIN || half_closed || given_up || is_late || may_be_over(sent),
            "who has more to send can send it for a while");
    }

    // Reads up to `most` bytes; returns whether any came.
    bool read(std::size_t most) {
        static std::array<char, 32'768> bytes;
        const ssize_t size =
            result(recv(socket.number, bytes.data(), std::min(most, bytes.size()), MSG_DONTWAIT));
        if (size > 0) got.append(bytes.data(), static_cast<std::size_t>(size));
        return size > 0;
    }

    void half_close() {
        if (shutdown(socket.number, SHUT_WR) == 0) half_closed = true;
    }

    bool is_being_answered() {
        char byte;
        return !got.empty() || result(recv(socket.number, &byte, 1, MSG_DONTWAIT | MSG_PEEK)) == 1;
    }

    // The kernel speaks of a reset once, to whoever asks first.
    ssize_t result(ssize_t size) {
        if (size < 0 && errno == ECONNRESET) was_reset = true;
        return size;
    }

    // Works out what the server ought to have done in the turn that is over. If he closes his side
    // when his time is over, it may see the one or the other first.
    void judge() {
        const Clock::time_point now = Clock::now();
        if (accepted == never) accepted = now;
        if (due == never && !given_up) {
            const bool too_late = now >= accepted + 10s;
            const bool noticed = half_closed && !sent.empty() && (!too_late || is_being_answered());
            if (line_is_whole(sent) || noticed) {
                due = now;
                head_only = line_and_rest(sent).starts_with("HEAD ");
            } else {
                given_up = half_closed || too_late;
            }
        }
        require(is_being_answered() == (due != never),
                "an answer begins when its request ends, no sooner and no later");
    }
};

// ---- The server, some visitors, and what they do ------------------------------------------------

// An input is what a visitor says. A byte below 128 belongs to the next piece that he sends. Any
// other byte is an act: one of eight, in the lowest three bits, with an argument of four.
enum Act : unsigned {
    send_and_turn,  // send the piece; the server's turn comes 2^argument tenths of a second later
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
    Stage() {
        const sockaddr_un unnamed{AF_UNIX, {}};  // the kernel finds a name
        server_.listeners.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
        const int listener = server_.listeners.front().number;
        const auto any = reinterpret_cast<const sockaddr*>(&unnamed);
        require(bind(listener, any, sizeof(sa_family_t)) == 0 && listen(listener, backlog_) == 0 &&
                    getsockname(listener, reinterpret_cast<sockaddr*>(&address_), &size_) == 0,
                "there is a listener");
        server_.next_count = Clock::time_point::max();  // no count on the terminal
    }

    void play(std::string_view input) {
        Clock::current = Clock::time_point{1h};  // or a century would be over after some minutes
        server_.next_look = {};
        const int lowest_before = lowest_free_descriptor();
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
        require(lowest_free_descriptor() == lowest_before, "no descriptor is leaked");
    }

  private:
    void perform(Act what, unsigned argument) {
        Visitor& visitor = visitors_[actor_];
        if (!visitor.is_here()) visitor = connect();
        if (waiting_ == backlog_) turn(100ms);
        switch (what) {
            case send_often:
                piece_.reserve(64 * piece_.size());
                for (std::size_t i = 63 * piece_.size(); i > 0; --i)
                    piece_ += piece_[piece_.size() - i % piece_.size()];
                [[fallthrough]];
            case just_send:
            case send_and_turn:
                visitor.send(std::exchange(piece_, ""));
                if (what == send_and_turn) turn((1u << argument) * 100ms);
                break;
            case half_close: visitor.half_close(); break;
            case vanish: visitor.socket = Fd{}; break;
            case read_some: visitor.read(1u << argument); break;
            case another: actor_ = argument % visitors_.size(); break;
            case high_byte: break;  // is no act of its own
        }
    }

    Visitor connect() {
        Visitor visitor{Fd{socket(AF_UNIX, SOCK_STREAM, 0)}};
        const auto any = reinterpret_cast<const sockaddr*>(&address_);
        require(::connect(visitor.socket.number, any, size_) == 0, "a visitor gets in");
        ++waiting_;
        return visitor;
    }

    // Lets time pass, and the server do all that it can: until two rounds find nothing to do, for
    // those who have long been quiet are looked at in every other one.
    void turn(Clock::duration time) {
        Clock::current += time;
        int idle = 0;
        for (int rounds = 0; idle < 2; ++rounds) {
            require(rounds < 1000, "the server comes to rest");
            server_.round();
            require(server_.progress || poll_result <= 0, "a round with events achieves something");
            idle = server_.progress ? 0 : idle + 1;
        }
        waiting_ = 0;
        std::size_t here = 0;
        for (Visitor& visitor : visitors_) {
            if (!visitor.is_here()) continue;
            visitor.judge();
            ++here;
        }
        require(server_.table.size() <= here, "who is gone is let go");
    }

    // Whoever is here reads what there is for him; then an hour passes in which nobody does a
    // thing. Who had left his answer unread for a minute before that may have lost it.
    void finish() {
        for (bool reading = true; reading; turn(100ms)) {
            reading = false;
            for (Visitor& visitor : visitors_)
                while (visitor.is_here() && visitor.read(page.size())) reading = true;
        }
        const auto is_excused = [](const Visitor& visitor) {
            return !visitor.is_here() ||
                   (visitor.due != never && Clock::now() >= visitor.due + 60s);
        };
        std::array<bool, 4> excused;
        std::transform(visitors_.begin(), visitors_.end(), excused.begin(), is_excused);
        turn(1h);
        require(server_.table.empty(), "each connection ends");
        for (std::size_t i = 0; i < visitors_.size(); ++i) {
            Visitor visitor = std::exchange(visitors_[i], {});
            if (excused[i]) continue;
            while (visitor.read(page.size())) continue;
            require(!visitor.was_reset || may_be_over(visitor.sent),
                    "each connection ends without a reset");
            require(visitor.due == never ? visitor.got.empty()
                                         : is_whole(visitor.got, visitor.head_only),
                    "there is one whole answer where one is due");
        }
        actor_ = 0;
    }

    static int lowest_free_descriptor() {
        const Fd lowest{dup(STDERR_FILENO)};
        return lowest.number;
    }

    Server server_{.answer = build_header(page.size(), Options{}) + page,
                   .page_size = page.size(),
                   .wake = catch_stop_signals()};
    sockaddr_un address_{};
    socklen_t size_ = sizeof address_;
    std::array<Visitor, 4> visitors_{};
    std::size_t actor_ = 0;
    std::string piece_;
    static constexpr int backlog_ = 50;
    int waiting_ = 0;  // for accept()
};

// ---- Seeds: the requests of the tests, said in several ways -------------------------------------

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
        const std::string one_half = spelled(bytes.substr(0, bytes.size() / 2));
        const std::string other_half = spelled(bytes.substr(bytes.size() / 2));
        for (const std::string& seed : {
                 all + act(send_and_turn) + act(read_some, 15),
                 one_half + act(send_and_turn) + other_half + act(send_and_turn),
                 one_half + act(just_send) + act(half_close) + act(send_and_turn),
                 one_half + act(send_and_turn, 7) + other_half + act(send_and_turn, 5),
                 all + act(send_and_turn) + act(vanish) + act(send_and_turn),
                 all + act(just_send) + act(vanish) + other_half + act(another, 1) + all,
                 all + act(send_often) + act(send_and_turn) + act(half_close),
             })
            std::ofstream(folder / ("seed-" + std::to_string(++number)), std::ios::binary) << seed;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Stage stage;
    stage.play({reinterpret_cast<const char*>(data), size});
    return 0;
}

// "fuzz seeds FOLDER" writes the seeds, and does no more.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    if (*argc != 3 || (*argv)[1] != "seeds"sv) return 0;
    write_seeds((*argv)[2]);
    std::exit(0);
}
