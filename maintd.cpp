// SPDX-License-Identifier: 0BSD
// maintd answers every HTTP request with one "down for maintenance" page (status 503).
// Read it from top to bottom. To follow one request, start at Server::poll_once().
//
// The obvious server accepts a client, reads its request, sends the page, closes the
// connection, and accepts the next client. There everybody waits for the slowest client.
// So maintd never waits for one client. It waits in poll() until it can do something for
// any of them, does that much, and keeps in a state how far each connection has come:
//
//     accept() -> waiting -> reading -> writing -> lingering -> closing -> close()
//
// A connection is two streams of bytes, and each side ends its own with FIN ("I send no
// more"). close() ends both: if input is unread or comes later, the kernel answers
// with a reset (RST), and the client's kernel may discard the page before the client has
// read it (RFC 9112 section 9.6). Lingering and closing prevent that: they read until the
// client stops. A short response to a complete request needs neither: no input is unread,
// 14 kB leave at once (RFC 6928), and few clients send more before they have read it.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <deque>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::literals;
using std::string, std::string_view;
using Clock = std::chrono::steady_clock;  // Unlike the time of day, it is never set back.
using Time = Clock::time_point;

namespace {
// ---- Limits: how long maintd waits, and how much it holds -----------------------------
constexpr auto line_timeout = 30s;     // from accept() to the end of the request line
constexpr auto read_timeout = 10s;     // from there to the response
constexpr auto pause_timeout = 250ms;  // without input: few uploads pause for as long
constexpr auto write_timeout = 60s;    // without room for more of the response
constexpr auto close_timeout = 5s;     // without input, after FIN has been sent
constexpr auto stop_timeout = 2s;      // for all connections, after a signal
constexpr auto max_wait = 1s;  // in poll() while it serves; also between two counts
constexpr timespec retry_delay{0, 10'000'000};  // 10 ms, before calls are tried again
constexpr size_t max_connections = 1024;  // at a time; each poll() looks at all of them
constexpr int backlog = 4096;  // clients that the kernel connects ahead of accept()
constexpr size_t max_request = 16 << 10;  // bytes kept of a request
constexpr size_t max_page = 16 << 20;     // bytes; a larger page is a mistake
constexpr size_t first_flight = 14'000;   // bytes of a short response: see above
constexpr size_t buffer_size = 64 << 10;  // bytes that one call takes
constexpr int send_buffer = 128 << 10;    // bytes that the kernel holds for each client

struct {                         // what the operator may choose
    const char* address = "::";  // numeric; this one means every address
    const char* page = nullptr;  // path of a file, or null for the built-in page
    unsigned port = 8080;
    unsigned retry_after = 60;  // seconds; several programs give up if it is more
    unsigned uid = 65534;       // user and group in place of root
    bool wait = false;          // while another program holds the port
} options;

// ---- Failing and owning ---------------------------------------------------------------
// Prints one line, formatted as by printf(), and exits. Status 2: a wrong command line.
[[noreturn, gnu::format(printf, 2, 3)]] void fail(int status, const char* format, ...) {
    va_list values;
    va_start(values, format);
    fputs("maintd: ", stderr);
    vfprintf(stderr, format, values);
    fputs("\n", stderr);
    exit(status);
}

// Prints as printf() does, but nothing if there is no room: while write() waits for a
// stopped terminal (Ctrl-S) or a full pipe, all clients wait. A log would need it, too.
[[gnu::format(printf, 1, 2)]] void say(const char* format, ...) {
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (poll(&room, 1, 0) < 1) return;
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
}

// Owns a file descriptor, and closes it at the end of its own life. It can be moved, but
// not copied, because two owners would close the same number. Negative: it owns none.
struct Fd {
    int number;
    explicit Fd(int opened = -1) noexcept : number(opened) {}
    Fd(Fd&& other) noexcept : number(std::exchange(other.number, -1)) {}
    Fd& operator=(Fd other) noexcept {
        std::swap(number, other.number);  // `other` closes what this one owned.
        return *this;
    }
    ~Fd() {
        if (number >= 0) close(number);
    }
};

// The call would have to wait, a signal came, or memory is short. Other errors stay.
bool is_temporary(int error) {
    return error == EAGAIN || error == EINTR || error == ENOBUFS || error == ENOMEM;
}

// ---- The response: the same for all, built at start -----------------------------------
string response;   // header and page
size_t page_size;  // bytes; HEAD asks for the response without the page

// Whether `text` begins with `word`, in capitals or not.
bool begins_with(string_view text, string_view word) {
    if (text.size() < word.size()) return false;
    return strncasecmp(text.data(), word.data(), word.size()) == 0;
}

// Browsers look for the name of a charset in the first 1,024 bytes of a page.
bool names_charset(string_view page) {
    page = page.substr(0, 1024);
    while (!page.empty() && !begins_with(page, "charset")) page.remove_prefix(1);
    return !page.empty();
}

// no-store keeps caches from showing the page when the site is back.
void build_response(const string& page) {
    string header =
        "HTTP/1.1 503 Service Unavailable\r\nServer: maintd\r\nConnection: close\r\n"
        "Cache-Control: no-store\r\nContent-Type: text/html";
    if (!names_charset(page)) header += "; charset=utf-8";  // It overrules the page's.
    header += "\r\nRetry-After: " + std::to_string(options.retry_after);
    header += "\r\nContent-Length: " + std::to_string(page.size()) + "\r\n\r\n";
    page_size = page.size();
    response = header + page;
}

string_view response_to(string_view request) {
    string_view all = response;
    if (request.starts_with("HEAD ")) all.remove_suffix(page_size);
    return all;
}

// Returns the content of a file, or fails if it cannot be a page.
string read_page(const char* path) {
    const Fd file{open(path, O_RDONLY)};
    if (file.number < 0) fail(1, "page '%s': %s", path, strerror(errno));
    string page;
    char buffer[buffer_size];
    ssize_t size = 1;
    while (size > 0 && page.size() <= max_page) {
        size = read(file.number, buffer, sizeof buffer);
        if (size > 0) page.append(buffer, buffer + size);
    }
    if (size < 0) fail(1, "page '%s': %s", path, strerror(errno));
    if (size > 0) fail(1, "page '%s': larger than 16 MiB", path);
    if (page.empty()) fail(1, "page '%s': empty", path);
    return page;
}

// ---- The request: two questions about what has arrived of it --------------------------
// The first bytes of TLS may hold no newline. The client gets the plain response.
bool line_has_ended(string_view request) {
    if (request.empty()) return false;
    if (request[0] <= ' ' || request[0] > '~') return true;  // not text
    return request.find('\n') != request.npos || request.size() == max_request;
}

// Whether this is exactly one request without a body: it ends with the empty line after
// its header (RFC 9112 section 6.3). A body is not parsed: a pause ends it.
bool is_complete(string_view request) {
    if (request.size() == max_request) return false;  // There may have been more.
    for (;;) {
        const size_t end = request.find('\n');
        if (end == request.npos) return false;
        const string_view line = request.substr(0, end);
        request.remove_prefix(end + 1);
        if (line.empty() || line == "\r") return request.empty();
        if (begins_with(line, "content-length")) return false;
        if (begins_with(line, "transfer-encoding")) return false;
    }
}

// ---- One connection: its state, its deadline, its next step ---------------------------
Time now = Clock::now();      // when poll() returned last
bool has_progressed = false;  // Since then a call has succeeded, or failed for good.
size_t answered = 0;          // requests

enum class State {
    waiting,    // for the request line
    reading,    // the rest: some proxies lose a response that overtakes the request
    writing,    // the response, and reads on: some clients send all before they read
    lingering,  // reading until input pauses: an early FIN makes proxies drop the page
    closing,    // has sent FIN, and waits until the client does so, too
};
using enum State;
struct Connection {
    Fd fd;                // none: the connection has ended
    Time since = now;     // when the present state began
    Time progress = now;  // the last input since then; in writing, the last output
    State state = waiting;
    string request{};               // its first 16 KiB, without empty lines in front
    bool request_complete = false;  // as is_complete() says
    bool input_ended = false;       // The client has sent FIN, or is gone.
    string_view unsent{};           // the rest of the response

    // When the state ends even if nothing happens. In lingering and closing a client that
    // goes on sending can stay until it is evicted.
    Time deadline() const {
        switch (state) {
            case waiting: return since + line_timeout;
            case reading: return std::min(progress + pause_timeout, since + read_timeout);
            case writing: return progress + write_timeout;
            case lingering: return progress + pause_timeout;
            case closing: break;
        }
        return progress + close_timeout;
    }

    bool is_late() const { return now >= deadline(); }
    bool may_skip_lingering() const {  // see the top of this file
        return input_ended || (request_complete && response.size() <= first_flight);
    }
    void finish() { fd = Fd{}; }
    void enter(State next) {
        state = next;
        since = now;
        progress = now;
    }

    // What poll() should report. It reports a condition while it holds, not a change.
    // There is mostly room, and FIN stays readable: poll() would always return at once.
    // So only writing asks for room, and not for input after FIN. Other states end there.
    // POLLERR (an error) and POLLHUP (both ended) come unasked: recv() or send() tells.
    short events() const {
        if (state != writing) return POLLIN;
        return input_ended ? POLLOUT : POLLIN | POLLOUT;
    }

    // Does what can be done without waiting. A state returns if the client has to act
    // first, or else goes on. `must_end` cuts short waiting, reading and closing only.
    void advance(bool must_end = false) {
        receive();
        must_end = must_end || input_ended || is_late();
        switch (state) {
            case waiting:
                if (!must_end && !line_has_ended(request)) return;
                if (request.empty()) return finish();
                enter(reading);
                [[fallthrough]];
            case reading:
                request_complete = is_complete(request);
                if (!must_end && !request_complete) return;
                unsent = response_to(request);
                enter(writing);
                [[fallthrough]];
            case writing:
                // Before send(): it may find some room although the client takes nothing.
                if (is_late()) return finish();
                send_response();
                if (!unsent.empty()) return;
                ++answered;
                enter(lingering);
                [[fallthrough]];
            case lingering:
                if (may_skip_lingering()) return finish();
                if (!is_late()) return;
                shutdown(fd.number, SHUT_WR);  // sends FIN
                enter(closing);
                return;
            case closing:
                if (must_end) finish();
        }
    }

    // Takes what has arrived. MSG_DONTWAIT, because advance() also runs without an event:
    // with no flag recv() waits for input, and send() until there is room for all of it.
    void receive() {
        if (input_ended) return;
        char buffer[buffer_size];
        const ssize_t size = recv(fd.number, buffer, sizeof buffer, MSG_DONTWAIT);
        if (size < 0 && is_temporary(errno)) return;
        has_progressed = true;
        input_ended = size <= 0;  // 0: FIN; it can still read. Negative: it is gone.
        if (input_ended) return;
        if (state != writing) progress = now;
        string_view text{buffer, buffer + size};
        while (request.empty() && text.find_first_of("\r\n") == 0) text.remove_prefix(1);
        request += text.substr(0, max_request - request.size());
    }

    // Copies as much as the kernel has room for. The kernel sends it even after close().
    void send_response() {
        const ssize_t size = send(fd.number, unsent.data(), unsent.size(), MSG_DONTWAIT);
        if (size < 0 && is_temporary(errno)) return;
        has_progressed = true;
        if (size < 0) return finish();
        progress = now;
        unsent.remove_prefix(static_cast<size_t>(size));
    }
};

// ---- The server: all connections, and one poll() --------------------------------------
volatile sig_atomic_t stop_requested = 0;  // of the type that a handler may set

struct Server {
    Fd listener;                   // the socket that accept() takes clients from
    std::deque<Connection> table;  // in the order of accept()
    std::vector<pollfd> watched;   // for poll(): the listener, then the table
    size_t shown = 0;              // the last count
    Time shown_at;

    // Serves until a signal comes, and then, briefly, the clients that are connected.
    void serve() {
        while (stop_requested == 0) poll_once(now + max_wait);
        accept_clients();
        accept_clients();  // again, in case one failed client has ended it early
        listener = Fd{};
        const Time end = now + stop_timeout;
        while (!table.empty() && now < end) poll_once(end);
        while (!table.empty()) evict();
    }

    // One round: waits for an event, the nearest deadline, or `wake`. Then advances each
    // connection that has an event or is late, and accepts new clients.
    void poll_once(Time wake) {
        watched.clear();
        watched.push_back({listener.number, POLLIN, 0});  // -1 is ignored.
        for (const Connection& client : table) {
            watched.push_back({client.fd.number, client.events(), 0});
            wake = std::min(wake, client.deadline());
        }
        const auto ms = static_cast<int>((wake - now) / 1ms + 1);  // never too early
        const int ready = poll(watched.data(), static_cast<nfds_t>(watched.size()), ms);
        if (ready < 0 && !is_temporary(errno)) fail(1, "poll: %s", strerror(errno));
        has_progressed = ready < 0 && errno == EINTR;  // A signal is no failure.
        now = Clock::now();
        for (size_t i = 0; i < table.size(); ++i)
            if (watched[i + 1].revents != 0 || table[i].is_late()) table[i].advance();
        std::erase_if(table, [](const Connection& each) { return each.fd.number < 0; });
        if (watched[0].revents != 0) accept_clients();
        show_count();
        // All calls can fail for a while, as when memory is short. Do not spin meanwhile.
        if (ready != 0 && !has_progressed) nanosleep(&retry_delay, nullptr);
    }

    // Accepts the pending clients, each with a descriptor of its own. The listener has
    // O_NONBLOCK: accept() fails if none is left. After most errors poll() reports again.
    void accept_clients() {
        for (int i = 0; i <= backlog; ++i) {  // Linux holds one more than backlog.
            int number = accept(listener.number, nullptr, nullptr);
            // EMFILE comes even if nobody is pending: only the first of a round evicts.
            if (number < 0 && i == 0 && errno == EMFILE && !table.empty()) {
                evict();
                number = accept(listener.number, nullptr, nullptr);
            }
            if (number < 0) {
                if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
                    fail(1, "accept: %s", strerror(errno));
                return;
            }
            has_progressed = true;
            if (table.size() == max_connections) evict();
            table.push_back({Fd{number}});
            table.back().advance();  // The request has often arrived already.
            if (table.back().fd.number < 0) table.pop_back();
        }
    }

    // Ends one connection, to make room or to stop: the oldest that has sent nothing, or
    // else the oldest. The newest quarter is spared: its requests may be on their way.
    void evict() {
        auto victim = table.begin();
        const auto newest = victim + std::ssize(table) * 3 / 4;
        while (victim != newest && !victim->request.empty()) ++victim;
        if (victim == newest) victim = table.begin();
        victim->advance(true);  // answers it if a request has arrived
        table.erase(victim);
    }

    // Shows a new count, at most once a second, in the foreground of a terminal.
    void show_count() {
        if (answered == shown || now < shown_at + max_wait) return;
        shown_at = now;
        if (tcgetpgrp(STDERR_FILENO) != getpgrp()) return;
        shown = answered;
        say("maintd: %zu request%s answered\r", shown, shown == 1 ? "" : "s");
    }
};

// ---- Signals and root: what a careful server does at start ----------------------------
// A handler may interrupt any function halfway, even malloc(). So it only sets a flag.
// The signal also ends poll() with EINTR. If it comes just before, max_wait may pass.
extern "C" void request_stop(int) { stop_requested = 1; }

void prepare_signals() {
    for (const int number : {SIGHUP, SIGINT, SIGTERM}) {
        struct sigaction action {};  // A function has the same name: hence "struct".
        sigaction(number, nullptr, &action);
        if (action.sa_handler == SIG_IGN) continue;  // as nohup does with SIGHUP
        action.sa_handler = request_stop;
        sigaction(number, &action, nullptr);
    }
    signal(SIGPIPE, SIG_IGN);  // from send() to a client that is gone; would kill maintd
    signal(SIGXFSZ, SIG_IGN);  // from write() to a log at its size limit; would kill it
    signal(SIGTTOU, SIG_IGN);  // from say() after "stty tostop"; would stop maintd
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);  // The parent may have blocked some.
}

// Only a port below 1024 needs root. Then it is given up for good: a fault of maintd must
// not hand over the machine. The groups come first: their error is told before a wait.
void give_up_groups() {
    if (setgroups(0, nullptr) < 0 || setgid(options.uid) < 0)
        fail(1, "-u %u: %s (-u 0 keeps root)", options.uid, strerror(errno));
}
void give_up_root() {
    if (setuid(options.uid) < 0 || setuid(0) == 0)  // It must not come back.
        fail(1, "-u %u: root cannot be given up", options.uid);
}

// ---- The command line -----------------------------------------------------------------
const auto version = "maintd 1.2\n";
const auto help =
    R"(usage: maintd [-hVw] [-l address] [-p port] [-r seconds] [-u uid] [page.html]
Answers every HTTP request with a "down for maintenance" page (status 503).

  page.html      the page, read once at start (default: a built-in page)
  -l address     numeric address to listen on (default: every address)
  -p port        TCP port, 0 for any free one (default: 8080)
  -r seconds     when clients may try again: Retry-After (default: 60)
  -u uid         numeric user and group in place of root (default: 65534)
  -w             wait while another program holds the port
  -h, -V         show this text, or the version (also --help, --version)
Stop it with Ctrl-C or "pkill -x maintd". Example: maintd -w -p 80 page.html
)";

[[noreturn]] void show(const char* text) {
    fputs(text, stdout);
    exit(0);
}

// Returns the number from 0 to `most` that the option's value spells, or fails.
unsigned parse_number(char option, unsigned most) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(optarg, optarg + strlen(optarg), number);
    if (error == std::errc{} && *end == '\0' && number <= most) return number;
    if (option == 'u')
        fail(2, "-u '%s': not a number up to %u (see: id -u %s)", optarg, most, optarg);
    fail(2, "-%c '%s': not a number up to %u (see maintd -h)", option, optarg, most);
}

void parse_command_line(int argc, char** argv) {
    const string_view first = argc > 1 ? argv[1] : "";
    if (first == "--help") show(help);
    if (first == "--version") show(version);
    int option = 0;
    while ((option = getopt(argc, argv, ":hVwl:p:r:u:")) != -1) {
        switch (option) {
            case 'h': show(help);
            case 'V': show(version);
            case 'w': options.wait = true; break;
            case 'l': options.address = optarg; break;
            case 'p': options.port = parse_number('p', 65535); break;
            case 'r': options.retry_after = parse_number('r', 2147483647); break;
            case 'u': options.uid = parse_number('u', 4294967294); break;
            case ':': fail(2, "-%c: needs a value (see maintd -h)", optopt);
            default: fail(2, "-%c: unknown option (see maintd -h)", optopt);
        }
    }
    for (int i = optind; i < argc; ++i) {
        const char* page = argv[i];
        if (*page != '\0' && strspn(page, "0123456789") == strlen(page))
            fail(2, "'%s': a page is a file (for a port: -p %s)", page, page);
        if (i > optind) fail(2, "'%s': a second page (options come first)", page);
        options.page = page;
    }
}

// ---- The listener ---------------------------------------------------------------------
const char* hint_at(int error) {
    if (error == EACCES) return " (start as root, or use a port above 1023)";
    if (error == EADDRNOTAVAIL) return " (no interface has this address)";
    if (error != EADDRINUSE) return "";
    return " (stop the server that holds it, wait for it with -w, or choose another with "
           "-p)";
}

// Makes a socket listen, and sets options.port. Returns 0 or the error.
int listen_at(int fd) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<in_port_t>(options.port));  // network byte order
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = v6.sin6_port;
    const bool is_v6 = inet_pton(AF_INET6, options.address, &v6.sin6_addr) == 1;
    if (!is_v6 && inet_pton(AF_INET, options.address, &v4.sin_addr) != 1)
        fail(2, "-l '%s': not a numeric address (127.0.0.1, ::1; the port is -p)",
             options.address);
    // The calls below take an address of either kind as a sockaddr*, and its size.
    auto* address = reinterpret_cast<sockaddr*>(&v6);
    if (!is_v6) address = reinterpret_cast<sockaddr*>(&v4);
    socklen_t size = is_v6 ? sizeof v6 : sizeof v4;
    const int on = 1, off = 0;
    // "::" is every IPv6 address. With this option off, IPv4 clients reach it as well.
    if (is_v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return errno;
    // The kernel keeps a closed connection in TIME_WAIT for a minute, to absorb late
    // packets. Without this option bind() would fail all that time.
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);  // inherited
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) return errno;
    if (bind(fd, address, size) < 0) return errno;
    if (listen(fd, backlog) < 0) return errno;  // From now on clients can connect.
    getsockname(fd, address, &size);
    options.port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);  // instead of port 0
    return 0;
}

// Returns the listener, or fails. Once it has said that it waits, no error ends that.
Fd open_listener() {
    bool has_waited = false;
    for (;;) {
        const int family = strchr(options.address, ':') ? AF_INET6 : AF_INET;
        Fd fd{socket(family, SOCK_STREAM, 0)};
        const int error = fd.number < 0 ? errno : listen_at(fd.number);
        if (error == 0) return fd;
        if (options.address == "::"sv && (error == EAFNOSUPPORT || error == EINVAL)) {
            options.address = "0.0.0.0";  // This kernel has no IPv6, or not both at once.
            continue;
        }
        if (!options.wait || (error != EADDRINUSE && !has_waited))
            fail(1, "port %u: %s%s", options.port, strerror(error), hint_at(error));
        if (!has_waited) say("maintd: waiting for port %u\n", options.port);
        has_waited = true;
        nanosleep(&retry_delay, nullptr);
        if (stop_requested != 0) exit(0);
    }
}

// ---- main -----------------------------------------------------------------------------
constexpr string_view built_in_page =  // `make` makes this file from maintenance.html.
#include "maintenance.inc"
    ;
}  // namespace

int main(int argc, char** argv) {
    std::set_new_handler([] { fail(1, "out of memory"); });
    parse_command_line(argc, argv);
    build_response(options.page ? read_page(options.page) : string(built_in_page));
    prepare_signals();
    const bool gives_up_root = geteuid() == 0 && options.uid != 0;
    if (gives_up_root) give_up_groups();
    Server server;
    server.listener = open_listener();
    if (gives_up_root) give_up_root();
    const bool is_every = options.address == "::"sv;
    string host = is_every ? "localhost" : options.address;
    if (host.find(':') != host.npos) host = "[" + host + "]";
    say("maintd: serving %s (%zu bytes) on http://%s:%u/%s\n",
        options.page ? options.page : "the built-in page", page_size, host.c_str(),
        options.port, is_every ? " (every address)" : "");
    const Time start = Clock::now();
    server.serve();
    const auto seconds = static_cast<long long>((Clock::now() - start) / 1s);
    say("maintd: %zu request%s answered in %lld s\n", answered, answered == 1 ? "" : "s",
        seconds);
}
