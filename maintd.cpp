// SPDX-License-Identifier: 0BSD
//
// maintd answers every HTTP request with one "down for maintenance" page while a site is upgraded.
//
// One thread serves all clients. It waits in poll() until any socket has input, a new client or
// room for output, or until the nearest deadline. A connection passes through these states:
//
//     accept() -> reading -> writing -> lingering -> closing -> close()
//
// reading    waits until the request is complete or pauses: some proxies cut a response that the
//            server sends before they have passed on the body.
// writing    sends the response, which was built at start.
// lingering  waits until the client sends nothing more, then sends FIN ("no more data"): some
//            proxies discard the page if FIN comes while they still send.
// closing    waits until the client closes its side, too.
//
// If maintd called close() right after send(), the kernel would answer unread or later input with a
// reset (RST), and the client's kernel could discard the page before the client has read it (RFC
// 9112 section 9.6). So maintd reads and discards input first, unless it expects no more input.
//
// To follow one request, start at Server::poll_once(). The functions that it calls are above it.
// A general web server would also serve files, keep connections open and write a log.

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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::literals;
using Clock =
    std::chrono::steady_clock;  // Unlike the time of day, it cannot be set back.

namespace {
// ---- Limits: how long maintd waits, and how much it holds ---------------------------------------
constexpr auto read_timeout = 10s;  // from accept() to the response, at the latest
constexpr auto get_pause = 20ms;    // without input: a GET or HEAD request is over
constexpr auto body_pause =
    250ms;  // without input: any other request, or lingering, is over
constexpr auto write_timeout = 60s;  // for the whole response
constexpr auto close_timeout = 5s;   // without input, until the client closes its side
constexpr auto stop_timeout = 2s;    // for the connections to finish after a signal
constexpr auto max_wait =
    1s;  // in poll(); also the least time between two counts on the terminal
constexpr timespec retry_pause{.tv_sec = 0,
                               .tv_nsec = 10'000'000};  // 10 ms before a retry
constexpr std::size_t max_connections =
    1024;                               // at a time; each poll() looks at all of them
constexpr int backlog = 4096;           // connections that the kernel holds for accept()
constexpr std::size_t max_line = 8192;  // bytes; maintd awaits a newline no longer
constexpr std::size_t max_page = 16 << 20;     // bytes; a larger page is a mistake
constexpr std::size_t buffer_size = 64 << 10;  // bytes to read or receive with one call
constexpr int send_buffer = 128 << 10;  // bytes that the kernel holds for one slow client
constexpr std::size_t first_flight =
    14'000;  // bytes that TCP sends before an ACK (RFC 6928)

struct Options {                 // what the operator may choose
    const char* address = "::";  // numeric; this one means every address, IPv4 and IPv6
    const char* page = nullptr;  // path of the page's file, or null for the built-in page
    unsigned port = 8080, retry_after = 120, uid = 65534;  // retry_after: seconds
    bool wait = false;  // while another program holds the port
};

// ---- Failing and owning -------------------------------------------------------------------------
// Prints one line, formatted as by printf(), and exits with 1 (failure) or 2 (wrong command line).
[[noreturn, gnu::format(printf, 2, 3)]] void fail(int status, const char* format, ...) {
    va_list values;
    va_start(values, format);
    fputs("maintd: ", stderr);
    vfprintf(stderr, format, values);
    fputs("\n", stderr);
    exit(status);
}

// Owns a file descriptor and closes it exactly once. A negative number means that it owns none.
struct Fd {
    int number;
    explicit Fd(int opened = -1) : number(opened) {}
    Fd(Fd&& other) noexcept : number(std::exchange(other.number, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(number, other.number);  // `other` will close what this object owned.
        return *this;
    }
    ~Fd() {
        if (number >= 0) close(number);
    }
};

bool is_in(int error, std::initializer_list<int> set) {
    return std::ranges::count(set, error) > 0;
}

// ---- The response: built once, at start ---------------------------------------------------------
// Returns the part of `text` that begins with `word`, or an empty one. `word` is in lower case and
// matches in either case: setting the bit 0x20 turns an ASCII capital into a small letter.
std::string_view find(std::string_view text, std::string_view word) {
    const auto equal = [](char byte, char lower) { return (byte | 0x20) == lower; };
    const auto found =
        std::search(text.begin(), text.end(), word.begin(), word.end(), equal);
    return text.substr(static_cast<std::size_t>(found - text.begin()));
}

// A charset in the header would overrule the page's own. So the header names none if the page has a
// <meta> tag with one in its first 1,024 bytes, or a byte order mark. no-store keeps caches from
// showing the page when the site is back. A 5xx response needs no Date (RFC 9110 section 6.6.1).
std::string build_response(std::string_view page, unsigned retry_after) {
    bool charset = page.starts_with("\xEF\xBB\xBF") || page.starts_with("\xFE\xFF") ||
                   page.starts_with("\xFF\xFE");
    for (auto at = find(page.substr(0, 1024), "<meta"); at != "";
         at = find(at.substr(1), "<meta"))
        charset |= !find(at.substr(0, at.find('>')), "charset").empty();
    return "HTTP/1.1 503 Service Unavailable\r\nServer: maintd\r\nConnection: close\r\n"
           "Cache-Control: no-store\r\nContent-Type: text/html"s +
           (charset ? "" : "; charset=utf-8") +
           "\r\nRetry-After: " + std::to_string(retry_after) +
           "\r\nContent-Length: " + std::to_string(page.size()) + "\r\n\r\n" +
           std::string(page);
}

// Returns the content of a file, or fails if it cannot be a page.
std::string read_page(const char* path) {
    const Fd file{
        open(path, O_RDONLY | O_NONBLOCK)};  // open() does not wait for a fifo's writer,
    if (file.number < 0 && *path != '\0' && strspn(path, "0123456789") == strlen(path))
        fail(1, "page '%s': %s (for a port: -p %s)", path, strerror(errno), path);
    if (file.number < 0 || fcntl(file.number, F_SETFL, 0) < 0)  // but read() does.
        fail(1, "page '%s': %s", path, strerror(errno));
    std::string page, buffer(buffer_size, '\0');
    while (const ssize_t size = read(file.number, buffer.data(), buffer.size())) {
        if (size < 0) fail(1, "page '%s': %s", path, strerror(errno));
        page.append(buffer.data(), static_cast<std::size_t>(size));
        if (page.size() > max_page) fail(1, "page '%s': larger than 16 MiB", path);
    }
    if (page.empty()) fail(1, "page '%s': empty", path);
    return page;
}

// ---- A connection, and what it asks for ---------------------------------------------------------
enum class State {
    reading,    // waits for the request
    writing,    // waits for room in the socket, and discards input
    lingering,  // waits until the client has sent nothing for a moment, and discards input
    closing,    // has sent FIN, waits for the client to close, and discards input
    closed,     // has ended; close() follows when the table drops the connection
};

struct Connection {
    Fd fd;
    Clock::time_point read_deadline, deadline;  // of all reading; of the present wait
    State state = State::reading;
    std::size_t received = 0;  // bytes of the request so far
    std::string
        start{};  // its first bytes, enough to tell "GET " and "HEAD " from all else
    bool line_ended = false;    // The request line has ended, or the input is not HTTP.
    bool input_ended = false;   // No input follows: close() causes no reset.
    std::string_view unsent{};  // the rest of the response
};

// Returns whether `input`, which is all that has arrived, is exactly one request without a body:
// the header ends the input and announces no body (RFC 9112 section 6.3). If unsure, returns false.
bool is_complete(std::string_view input) {
    return input.ends_with("\n\r\n") && input.find("\n\r\n") == input.size() - 3 &&
           find(input, "content-length").empty() &&
           find(input, "transfer-encoding").empty();
}

// ---- The server: all connections, and one poll() ------------------------------------------------
volatile sig_atomic_t stop_requested = 0;  // A signal sets it.

struct Server {
    std::string response;   // header and page
    std::size_t page_size;  // HEAD gets the response without the page.
    Fd listener;
    int tty;  // standard error if that is a terminal, else negative
    std::vector<Connection> table{};  // in the order of accept()
    std::vector<pollfd> watched =
        std::vector<pollfd>(max_connections + 1);               // listener, then table
    std::vector<char> buffer = std::vector<char>(buffer_size);  // for input
    Clock::time_point now = Clock::now(), next_count{};  // now: when poll() returned last
    unsigned long answered = 0, shown = 0;  // requests: so far, and as shown last
    bool pause =
        false;  // A call failed, and poll() would report its event again at once.

    // Ends the connection after an error of recv() or send(), unless it means "try again later".
    void handle_error(Connection& client, int error, bool reported) {
        const bool again = is_in(error, {EAGAIN, EWOULDBLOCK, EINTR, ENOBUFS, ENOMEM});
        if (!again) client.state = State::closed;
        pause |= again && reported;  // poll() has reported it, and would again at once
    }

    // Returns what one recv() got; the next call overwrites it. MSG_DONTWAIT makes recv() fail with
    // EAGAIN instead of waiting. O_NONBLOCK would take one more system call for each connection.
    std::string_view receive(Connection& client, short events) {
        const ssize_t size =
            recv(client.fd.number, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size == 0) client.input_ended = true;  // The client has closed its side.
        if (size < 0) handle_error(client, errno, (events & POLLIN) != 0);
        return {buffer.data(), static_cast<std::size_t>(std::max(size, ssize_t{0}))};
    }

    void start_writing(Connection& client) {
        client.unsent = response;
        if (client.start == "HEAD ") client.unsent.remove_suffix(page_size);
        client.state = State::writing;
        client.deadline = now + write_timeout;
    }

    void send_response(Connection& client, short events) {
        const std::string_view unsent = client.unsent;
        const ssize_t size =
            send(client.fd.number, unsent.data(), unsent.size(), MSG_DONTWAIT);
        if (size < 0) handle_error(client, errno, (events & POLLOUT) != 0);
        if (size > 0) client.unsent.remove_prefix(static_cast<std::size_t>(size));
        if (now >= client.deadline) client.state = State::closed;
        if (!client.unsent.empty()) return;
        if (client.received > 0) ++answered;  // An evicted client may not have asked.
        client.state = State::lingering;
        client.deadline = now + body_pause;
    }

    // Takes what one recv() got: TCP is a stream of bytes and can split a request. Skips empty
    // lines in front (RFC 9112 section 2.2). A request is over if its first piece is complete, if
    // the client closes its side, or if it pauses. A TLS client gets the response, too, so that it
    // reports an error. A client that sends nothing gets nothing: some monitors only connect.
    void read_request(Connection& client, std::string_view input) {
        client.received += input.size();
        std::string& start = client.start;
        std::string_view line = input;
        while (start.empty() && line.find_first_of("\r\n") == 0) line.remove_prefix(1);
        start += line.substr(0, 5 - start.size());
        const bool visible = start.empty() || (start[0] > ' ' && start[0] <= '~');
        const bool newline = line.find('\n') != line.npos;
        if (newline || !visible || client.received >= max_line) client.line_ended = true;
        const auto silence =
            start.starts_with("GET ") || start == "HEAD " ? get_pause : body_pause;
        if (client.line_ended && !input.empty())
            client.deadline = std::min(client.read_deadline, now + silence);
        const bool complete = client.received == input.size() && is_complete(line);
        if (!complete && !client.input_ended && now < client.deadline) return;
        client.state = State::closed;
        if (client.received > 0) start_writing(client);
        // One more request would still cause a reset, but a short response is on its way by then.
        if (complete && client.unsent.size() <= first_flight) client.input_ended = true;
    }

    // In lingering and closing, input puts off the deadline.
    void linger(Connection& client, std::string_view input) {
        const bool before_fin = client.state == State::lingering && !client.input_ended;
        if (!input.empty())
            client.deadline = now + (before_fin ? body_pause : close_timeout);
        if (!client.input_ended && now < client.deadline) return;
        if (before_fin)
            shutdown(client.fd.number, SHUT_WR);  // If it fails, recv() fails, too.
        client.state = before_fin ? State::closing : State::closed;
        client.deadline = now + close_timeout;
    }

    // Advances a connection after `events`, or after none (0). It also receives while writing.
    // Otherwise maintd and a client that sends a large body before it reads would block each other.
    void advance(Connection& client, short events) {
        const auto input =
            events != POLLOUT ? receive(client, events) : std::string_view();
        if (client.state == State::reading) read_request(client, input);
        if (client.state == State::writing) send_response(client, events);
        if (client.state >= State::lingering)
            linger(client, input);  // A closed one stays closed.
    }

    // Ends the oldest connection. First sends the rest of its response, as far as there is room.
    void evict_oldest() {
        advance(table.front(), 0);  // Its request may have arrived by now.
        if (table.front().state == State::reading)
            start_writing(table.front());  // even unasked
        if (table.front().state == State::writing) send_response(table.front(), 0);
        table.erase(table.begin());
    }

    // Accepts all pending clients, at most backlog + 1 (a full queue on Linux). The listener has
    // O_NONBLOCK, because accept() has no MSG_DONTWAIT. Two failures in a row end the round.
    void accept_connections() {
        for (int i = 0, failures = 0; i <= backlog && failures < 2; ++i) {
            Fd fd{accept(listener.number, nullptr, nullptr)};
            const int error = fd.number < 0 ? errno : 0;
            if (is_in(error, {EAGAIN, EWOULDBLOCK})) return;  // No client is pending.
            if (is_in(error, {EBADF, EINVAL, ENOTSOCK}))
                fail(1, "accept: %s", strerror(error));
            const bool shortage = is_in(error, {EMFILE, ENFILE, ENOBUFS, ENOMEM});
            const bool full = table.size() >= (shortage ? 1 : max_connections);
            if (full && (shortage || error == 0))
                evict_oldest();  // frees a descriptor and memory
            failures = error != 0 ? failures + 1 : 0;
            pause |= failures > 1;
            if (error != 0)
                continue;  // Try again: one client failed, or an eviction may help.
            table.push_back({std::move(fd), now + read_timeout, now + read_timeout});
            advance(table.back(), 0);  // The request has often arrived already.
            if (table.back().state == State::closed) table.pop_back();
        }
    }

    // Shows the number of requests, once a second at most, while maintd is in the terminal's
    // foreground. If the terminal is stuck, O_NONBLOCK makes write() fail.
    void show_count() {
        if (tty < 0 || answered == shown || now < next_count ||
            tcgetpgrp(tty) != getpgrp())
            return;
        next_count = now + max_wait;
        shown = answered;
        char row[64];
        snprintf(row, sizeof row, "maintd: %lu request%s answered\r", shown,
                 shown == 1 ? "" : "s");
        [[maybe_unused]] const ssize_t size = write(tty, row, strlen(row));
    }

    // One round of the server:
    // 1. Wait for an event on any connection, for the nearest deadline, or until `wake`.
    // 2. Advance the connections with an event or a passed deadline. Accept pending clients.
    // This does not spin: recv(), send() or accept() deals with every event, even POLLERR. If one
    // fails and its event remains, a short sleep ends the round, unless the port must be released.
    void poll_once(Clock::time_point wake) {
        watched.assign(
            {{listener.number, POLLIN, 0}});  // fd, events, and revents for the result
        for (const Connection& client : table) {
            const short input =
                client.input_ended ? 0 : POLLIN;  // The end stays readable forever.
            const short room = client.state == State::writing ? POLLOUT : 0;
            watched.push_back({client.fd.number, static_cast<short>(input | room), 0});
            wake = std::min(wake, client.deadline);
        }
        const int timeout =
            static_cast<int>((wake - now) / 1ms + 1);  // ms, rounded up, never < 0
        pause = poll(watched.data(), static_cast<nfds_t>(watched.size()), timeout) < 0;
        if (pause && !is_in(errno, {EINTR, EAGAIN, ENOMEM}))
            fail(1, "poll: %s", strerror(errno));
        now = Clock::now();
        for (std::size_t i = 0; i < table.size(); ++i)
            if (watched[i + 1].revents != 0 || now >= table[i].deadline)
                advance(table[i], watched[i + 1].revents);
        std::erase_if(table,
                      [](const Connection& each) { return each.state == State::closed; });
        if (watched[0].revents != 0) accept_connections();
        show_count();
        if (pause && (stop_requested == 0 || listener.number < 0))
            nanosleep(&retry_pause, nullptr);
    }

    // Serves until a signal asks to stop. Then it accepts the pending clients, releases the port,
    // and gives all connections two seconds to finish.
    void serve() {
        while (stop_requested == 0) poll_once(now + max_wait);
        accept_connections();
        listener = Fd{};  // poll() ignores a negative descriptor.
        for (const auto end = now + stop_timeout; !table.empty() && now < end;)
            poll_once(end);
        while (!table.empty()) evict_oldest();
    }
};

// ---- Signals, root, descriptors: what a careful server does at start ----------------------------
// A handler can interrupt any function halfway, even malloc(). So this one only sets a flag. The
// signal also ends poll() with EINTR. If it comes just before poll(), at most a second passes.
extern "C" void request_stop(int) { stop_requested = 1; }

// SIGPIPE is ignored because writing to a client that has disconnected would otherwise kill maintd.
// SIGTTOU is ignored because it would suspend a background job that writes to its terminal. A
// signal that is ignored at start stays ignored: nohup starts its program with SIGHUP ignored.
void catch_signals() {
    for (const int number : {SIGPIPE, SIGTTOU, SIGHUP, SIGINT, SIGTERM}) {
        struct sigaction action {};
        if (sigaction(number, nullptr, &action) < 0)
            fail(1, "sigaction: %s", strerror(errno));
        if (action.sa_handler == SIG_IGN) continue;
        action.sa_handler = is_in(number, {SIGPIPE, SIGTTOU}) ? SIG_IGN : request_stop;
        if (sigaction(number, &action, nullptr) < 0)
            fail(1, "sigaction: %s", strerror(errno));
    }
}

// Opens descriptors 0 to 2 if they are closed. Otherwise accept() could return 2, the lowest free
// number, and a client would get the operator's messages. A bare chroot has "/", but no /dev/null.
void open_standard_descriptors() {
    for (int number = 0; number <= 2; ++number)
        if (fcntl(number, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0 &&
            open("/", O_RDONLY) < 0)
            fail(1, "/dev/null: %s", strerror(errno));
}

// Gives up root forever. The groups come first, because changing them needs root.
void give_up_root(unsigned id) {
    if (geteuid() != 0 || id == 0) return;
    if (setgroups(0, nullptr) < 0 || setgid(id) < 0 || setuid(id) < 0)
        fail(1, "-u %u: %s (-u 0 keeps root)", id, strerror(errno));
    if (setuid(0) == 0 || setgid(0) == 0) fail(1, "-u %u: root could be regained", id);
}

// ---- The command line ---------------------------------------------------------------------------
const auto help =
    R"(usage: maintd [-hVw] [-l address] [-p port] [-r seconds] [-u uid] [page.html]
Answers every HTTP request with a "down for maintenance" page (status 503).

  page.html      the page, read once at start (default: a built-in page)
  -l address     numeric address to listen on (default: every address)
  -p port        TCP port, 0 for any free one (default: 8080)
  -r seconds     when clients may try again: Retry-After (default: 120)
  -u uid         numeric user and group in place of root (default: 65534)
  -w             wait while another program holds the port
  -h, --help     show this text
  -V, --version  show the version

Stop it with Ctrl-C or "pkill -x maintd". Example: maintd -w -p 80 page.html
)";

// Returns the number from 0 to `most` that the option's value spells, or fails.
unsigned parse_number(char option, const char* value, unsigned most) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(value, value + strlen(value), number);
    if (error == std::errc{} && *end == '\0' && number <= most) return number;
    if (option == 'u' && (*value | 0x20) >= 'a')
        fail(2, "-u '%s': not a number up to %u (see: id -u %s)", value, most, value);
    fail(2, "-%c '%s': not a number up to %u", option, value, most);
}

Options parse_command_line(int argc, char** argv) {
    Options options;
    for (;;) {
        int option =
            getopt(argc, argv, ":hVwl:p:r:u:-:");  // "--help" is "-" with a value.
        if (option == '-')
            option = optarg == "help"sv ? 'h' : optarg == "version"sv ? 'V' : option;
        switch (option) {
            case 'h': fputs(help, stdout); exit(0);
            case 'V': puts("maintd 1.1"); exit(0);
            case 'w': options.wait = true; break;
            case 'l': options.address = optarg; break;
            case 'p': options.port = parse_number('p', optarg, 65535); break;
            case 'r': options.retry_after = parse_number('r', optarg, 2147483647); break;
            case 'u': options.uid = parse_number('u', optarg, 4294967294); break;
            case ':': fail(2, "-%c: needs a value (see maintd -h)", optopt);
            case '-': fail(2, "--%s: unknown option (see maintd -h)", optarg);
            case '?': fail(2, "-%c: unknown option (see maintd -h)", optopt);
            default:  // no option is next: the page, or the end of the command line
                if (options.page && optind < argc)
                    fail(2, "'%s': a second page", argv[argc - 1]);
                if (optind < argc) options.page = argv[optind++];
                if (optind == argc) return options;
        }
    }
}

// ---- The listener -------------------------------------------------------------------------------
// Opens a listening socket. Returns 0 or the error. If IPv6 is missing, "::" means "0.0.0.0". A
// closed connection stays in TIME_WAIT for a minute, to absorb late packets: without SO_REUSEADDR,
// bind() would report EADDRINUSE. Never use SO_REUSEPORT here: a forgotten maintd would get a share
// of live traffic. Accepted sockets inherit SO_SNDBUF, the kernel's limit for a slow reader.
int listen_at(const char* text, unsigned& port,
              Fd& result) {     // port 0 becomes a free one
    const int on = 1, off = 0;  // IPV6_V6ONLY off: "::" accepts IPv4 clients, too.
    sockaddr_in v4{};  // address and port; bind() takes either kind as a sockaddr*
    sockaddr_in6 v6{};
    v4.sin_family = AF_INET;
    v6.sin6_family = AF_INET6;
    v4.sin_port = v6.sin6_port =
        htons(static_cast<in_port_t>(port));  // network byte order
    const bool is_v6 = inet_pton(AF_INET6, text, &v6.sin6_addr) == 1;
    if (!is_v6 && inet_pton(AF_INET, text, &v4.sin_addr) != 1)
        fail(2, "-l '%s': not a numeric address", text);
    auto* const ip =
        is_v6 ? reinterpret_cast<sockaddr*>(&v6) : reinterpret_cast<sockaddr*>(&v4);
    socklen_t size = is_v6 ? sizeof v6 : sizeof v4;
    Fd fd{socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0)};  // TCP; no address yet
    if (fd.number < 0 ||
        setsockopt(fd.number, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd.number, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) <
            0 ||
        (is_v6 &&
         setsockopt(fd.number, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) ||
        bind(fd.number, ip, size) < 0 ||
        listen(fd.number, backlog) < 0 ||  // Clients can connect.
        getsockname(fd.number, ip, &size) < 0 ||
        fcntl(fd.number, F_SETFL, O_NONBLOCK) < 0)
        return errno == EAFNOSUPPORT && text == "::"sv
                   ? listen_at("0.0.0.0", port, result)
                   : errno;
    port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
    result = std::move(fd);
    return 0;
}

Fd open_listener(Options& options) {
    Fd listener;
    int error = listen_at(options.address, options.port, listener);
    if (error == EADDRINUSE && options.wait)
        fprintf(stderr, "maintd: waiting for port %u\n", options.port);
    while (error == EADDRINUSE && options.wait && stop_requested == 0) {
        nanosleep(&retry_pause, nullptr);
        error = listen_at(options.address, options.port, listener);
    }
    if (error == 0) return listener;
    if (stop_requested != 0) exit(0);
    const char* hint = "";
    if (error == EADDRINUSE)
        hint = " (stop the server that holds it, or wait for it with -w)";
    if (error == EACCES) hint = " (start as root, or use a port above 1023)";
    const bool every = options.address == "::"sv;
    fail(1, "%s%sport %u: %s%s", every ? "" : options.address, every ? "" : " ",
         options.port, strerror(error), hint);
}

// ---- main ---------------------------------------------------------------------------------------
constexpr std::string_view
    built_in_page =  // a raw string; `make` makes it from maintenance.html
#include "maintenance.inc"
    ;
}  // namespace

// Signals end the wait for the port, too. Root is kept until then: a port below 1024 may need it.
int main(int argc, char** argv) {
    std::set_new_handler([] { fail(1, "memory: %s", strerror(ENOMEM)); });
    open_standard_descriptors();
    Options options = parse_command_line(argc, argv);
    const std::string page =
        options.page ? read_page(options.page) : std::string(built_in_page);
    catch_signals();
    const char* const name =
        ttyname(STDERR_FILENO);  // opened anew: the shell shares fd 2's flags
    Server server{
        build_response(page, options.retry_after), page.size(), open_listener(options),
        dup2(name ? open(name, O_WRONLY | O_NOCTTY | O_NONBLOCK) : -1, STDERR_FILENO)};
    server.table.reserve(max_connections);
    give_up_root(options.uid);
    std::string host = options.address;
    if (host.find(':') != host.npos) host = "[" + host + "]";
    fprintf(stderr, "maintd: serving %s (%zu bytes) on http://%s:%u/%s\n",
            options.page ? options.page : "the built-in page", page.size(),
            host == "[::]" ? "localhost" : host.c_str(), options.port,
            host == "[::]" ? " (every address)" : "");
    const auto start = Clock::now();
    server.serve();
    fprintf(stderr, "maintd: %lu request%s answered in %lld s\n", server.answered,
            server.answered == 1 ? "" : "s",
            static_cast<long long>((Clock::now() - start) / 1s));
}
