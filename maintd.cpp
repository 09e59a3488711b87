// maintd answers every request with one "down for maintenance" page while a site is upgraded.
//
// The life of a connection:
//
//     accept() --> reading --> writing --> draining --> close()
//                                  `--- nothing can follow ---^
//
// Reading lasts until the request line is whole. Nothing of it is kept but its first five bytes:
// HEAD is answered without the page, all else alike. Writing sends the answer, built at start.
// Draining says "that was all" with shutdown() and discards what still comes until the client
// closes, too: close() with unread input makes the kernel send a reset, at which the client's
// kernel may throw the page away before anybody has seen it (RFC 9112 section 9.6).
//
// There is one thread, and no call on a socket waits: poll() does, for all. The file goes from the
// parts to the whole: the answer, a request, a connection, signals, all connections, the start.

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::literals;
using Clock = std::chrono::steady_clock;  // unlike the time of day, it is never set back

// ---- Limits: every wait ends, every amount is bounded -------------------------------------------

constexpr auto reading_limit = 10s;    // from accept() to the end of the request line
constexpr auto writing_limit = 60s;    // for the whole answer
constexpr auto draining_limit = 60s;   // in all: an upload that goes on has to end
constexpr auto draining_silence = 5s;  // without a byte: no more will come, so no reset either
constexpr auto stopping_limit = 2s;    // from the signal to the exit
constexpr auto quiet_time = 250ms;     // without an event: poll() need not watch it every time
constexpr auto look_interval = 100ms;  // at least, between two looks at the quiet connections
constexpr auto count_interval = 1s;    // between two counts on the terminal
constexpr auto retry_interval = 5ms;   // before something that failed is tried again

constexpr std::size_t table_limit = 4096;     // connections at a time, of some 90 bytes each
constexpr rlim_t own_descriptors = 24;        // streams, pipe, listener, and some inherited ones
constexpr int backlog = 4096;                 // connections that may wait for accept()
constexpr int accept_batch = 512;             // accepted in a row, before all others have a turn
constexpr std::size_t line_limit = 8192;      // bytes to wait for the end of a request line
constexpr int send_room = 131072;             // bytes, for one reader; the kernel doubles it
constexpr std::size_t buffer_size = 65536;    // bytes to read or receive with one call
constexpr std::size_t page_limit = 16 << 20;  // bytes: a larger page is a mistake

// What the operator may choose.
struct Options {
    std::string address = "::";               // numeric; this one means every address, IPv4 too
    const char* page = nullptr;               // the file's path, or null for the built-in page
    unsigned port = 8080, retry_after = 120;  // the latter in seconds
    unsigned uid = 65534, gid = 65534;        // nobody's, by custom
    bool wait = false;                        // for the port
};

// ---- Errors and ownership -----------------------------------------------------------------------

// Ends the program with the line "maintd: what: why". `status` is 1 for failure, 2 for misuse.
[[noreturn]] void die(std::string what, std::string why = std::strerror(errno), int status = 1) {
    std::fprintf(stderr, "maintd: %s: %s\n", what.c_str(), why.c_str());
    std::exit(status);
}

bool is_one_of(int number, std::initializer_list<int> numbers) {
    return std::find(numbers.begin(), numbers.end(), number) != numbers.end();
}

// What recv() and send() say of now alone: they would have to wait, or the kernel has no memory.
constexpr auto transient = {EAGAIN, EWOULDBLOCK, EINTR, ENOBUFS, ENOMEM};

// Owns a descriptor, and closes it exactly once. A negative number is none: a failed call's result.
struct Fd {
    int number;
    explicit Fd(int opened = -1) : number(opened) {}
    Fd(Fd&& other) noexcept : number(std::exchange(other.number, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(number, other.number);  // `other` closes what this one had
        return *this;
    }
    ~Fd() {
        if (number >= 0) close(number);
    }
};

// ---- The answer: built once, at start -----------------------------------------------------------

// Returns the header of the answer for a page of so many bytes. no-store keeps caches from showing
// the page when the site is back (RFC 9111 section 5.2.2.5). There is no Date: a 5xx needs none
// (RFC 9110 section 6.6.1), and a fixed one would be wrong a second later.
std::string build_header(std::size_t page_size, const Options& options) {
    return "HTTP/1.1 503 Service Unavailable\r\nServer: maintd\r\nConnection: close\r\n"
           "Cache-Control: no-store\r\nContent-Type: text/html; charset=utf-8\r\nRetry-After: " +
           std::to_string(options.retry_after) +
           "\r\nContent-Length: " + std::to_string(page_size) + "\r\n\r\n";
}

// Returns the content of the file at `path`; dies where that cannot be a page.
std::string read_page(const char* path) {
    const std::string name = "page '"s + path + "'";
    const Fd file{open(path, O_RDONLY | O_NONBLOCK)};  // a fifo that nobody writes counts as empty
    if (file.number < 0 || fcntl(file.number, F_SETFL, 0) < 0) die(name);
    std::string page, buffer(buffer_size, '\0');
    while (const ssize_t size = read(file.number, buffer.data(), buffer.size())) {
        if (size < 0) die(name);
        page.append(buffer.data(), static_cast<std::size_t>(size));
        if (page.size() > page_limit) die(name, "larger than 16 MiB");
    }
    if (page.empty()) die(name, "empty");
    return page;
}

// ---- A request: the end of its first line, and whether anything can follow ----------------------

// Whether `input`, all that has come so far, is a whole request that nothing can follow: a GET or
// HEAD whose header is complete and announces no body (RFC 9112 section 6.3). In doubt it is not.
bool is_over(std::string_view input) {
    if (!input.starts_with("GET ") && !input.starts_with("HEAD ")) return false;
    if (input.find("\r\n\r\n") != input.size() - 4) return false;
    for (auto end = input.find('\n'); end < input.size() - 3; end = input.find('\n', end + 1)) {
        const char* field = input.data() + end + 1;  // no overrun: no name matches the blank line
        if (strncasecmp(field, "Content-Length", 14) == 0) return false;
        if (strncasecmp(field, "Transfer-Encoding", 17) == 0) return false;
    }
    return true;
}

// ---- A connection -------------------------------------------------------------------------------

enum class State {
    reading,   // waits for the request line
    writing,   // waits for room in the socket, and discards input lest both sides wait for ever
    draining,  // waits for the client to close, and discards input
    closed,    // waits to be cleared from the table
};

struct Connection {
    Fd socket;
    Clock::time_point entered, seen;  // when `state` began, when poll() last saw something here
    State state = State::reading;
    bool input_ended = false;   // the client has closed its side, or its request is_over()
    std::string_view unsent{};  // the rest of the answer
    std::size_t received = 0;   // bytes of the request line
    std::string start{};        // the first of them, enough to tell "HEAD "

    // Takes the next input. Returns whether it is time to answer: the request line is whole, or too
    // long, or is none, a TLS hello say: a method begins with a "tchar" (RFC 9110 section 5.6.2).
    // Empty lines before the request line are skipped (RFC 9112 section 2.2).
    bool take(std::string_view input) {
        for (const char byte : input) {
            if (++received >= line_limit) return true;
            if (start.empty() && (byte == '\r' || byte == '\n')) continue;
            const bool tchar = byte > 32 && byte < 127 && !std::strchr("\"(),/:;<=>?@[\\]{}", byte);
            if (byte == '\n' || (start.empty() && !tchar)) return true;
            if (start.size() < 5) start += byte;
        }
        return false;
    }

    // What poll() is to wait for.
    short events() const {
        return state != State::writing ? POLLIN : input_ended ? POLLOUT : POLLIN | POLLOUT;
    }

    // When to leave the state. Bytes that arrive do not put it off, or a client that drips them
    // could stay; only while draining they do, for a while.
    Clock::time_point deadline() const {
        if (state == State::reading) return entered + reading_limit;
        if (state == State::writing) return entered + writing_limit;
        return std::min(seen + draining_silence, entered + draining_limit);
    }
};

// ---- Signals: a request to stop -----------------------------------------------------------------

volatile std::sig_atomic_t stop_requests = 0;
int wake_writer = -1;  // what is written here makes poll() return

// Runs between any two instructions, perhaps inside malloc(): more than this it must not do. Why a
// pipe: a signal just before poll() does not interrupt it, but a byte that waits in the pipe does.
extern "C" void on_stop_signal(int) {
    const int error = errno;
    stop_requests = stop_requests + 1;
    [[maybe_unused]] const ssize_t size = write(wake_writer, "", 1);
    errno = error;  // the interrupted code may be about to look at it
}

// Returns the end of a pipe that a stop signal makes readable. A signal that was ignored at start
// (nohup) stays so. SIGPIPE, for a write to who has gone, a client say, would kill the server, and
// SIGTTOU, for output of a background job, would stop it: both are ignored.
Fd catch_stop_signals() {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) < 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0) die("pipe");
    wake_writer = ends[1];
    for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGTTOU}) {
        struct sigaction action {};
        if (sigaction(number, nullptr, &action) < 0) die("sigaction");
        if (action.sa_handler == SIG_IGN) continue;
        action.sa_handler = is_one_of(number, {SIGPIPE, SIGTTOU}) ? SIG_IGN : on_stop_signal;
        if (sigaction(number, &action, nullptr) < 0) die("sigaction");
    }
    return Fd{ends[0]};
}

// ---- The server: all connections, and one poll() ------------------------------------------------

// Writes `text` to standard error as far as that needs no wait: a terminal that is stuck must not
// hold up the visitors. Where poll() sees room, a pipe takes a line, a terminal perhaps one byte.
void say(std::string_view text) {
    while (!text.empty()) {
        pollfd output{STDERR_FILENO, POLLOUT, 0};
        if (poll(&output, 1, 0) == 0) return;
        const ssize_t size = write(output.fd, text.data(), isatty(output.fd) ? 1 : text.size());
        if (size <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(size));
    }
}

// Returns how many connections fit below the limit of descriptors, which is raised as far as it
// goes: EMFILE is then not met in normal life.
std::size_t table_capacity() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) die("getrlimit");
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    const rlim_t least = own_descriptors + 1, most = own_descriptors + table_limit;
    return static_cast<std::size_t>(std::clamp(limit.rlim_cur, least, most) - own_descriptors);
}

struct Server {
    std::string answer;           // header and page
    std::size_t page_size;        // HEAD gets the answer without it (RFC 9110 section 9.3.2)
    Fd wake;                      // readable after a signal to stop
    std::vector<Fd> listeners{};  // readable while clients wait for accept()
    std::size_t capacity = table_capacity();
    std::vector<Connection> table{};  // in order of arrival
    std::size_t quiet = 0;            // length of its front: those quiet from the oldest on
    std::vector<pollfd> watched = std::vector<pollfd>(capacity + 8);  // what poll() gets
    std::vector<char> input = std::vector<char>(buffer_size);         // until the next receive()
    Clock::time_point now = Clock::now(), next_look{}, next_count{};  // now: poll() returned last
    bool progress = false;                  // whether anything was achieved since poll() returned
    unsigned long answered = 0, shown = 0;  // requests, so far and on the terminal

    // Receives what there is, up to a buffer of it. An error ends the input as a close does.
    std::string_view receive(Connection& client) {
        const ssize_t size = recv(client.socket.number, input.data(), input.size(), MSG_DONTWAIT);
        if (size < 0 && is_one_of(errno, transient)) return {};
        progress = progress || !client.input_ended;  // an end that was seen before is no news
        if (size <= 0) client.input_ended = true;
        return {input.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
    }

    void begin_answer(Connection& client) {
        client.unsent = {answer.data(), answer.size() - (client.start == "HEAD " ? page_size : 0)};
        client.state = State::writing;
        client.entered = now;
    }

    // Sends what there is room for. After the last byte it closes if nothing more can come.
    void send_answer(Connection& client) {
        const std::string_view unsent = client.unsent;
        const ssize_t size = send(client.socket.number, unsent.data(), unsent.size(), MSG_DONTWAIT);
        if (size < 0 && is_one_of(errno, transient)) return;
        progress = true;
        if (size < 0) client.state = State::closed;
        if (size > 0) client.unsent.remove_prefix(static_cast<std::size_t>(size));
        if (!client.unsent.empty()) return;
        ++answered;
        if (!client.input_ended) shutdown(client.socket.number, SHUT_WR);  // recv() shows an error
        client.state = client.input_ended ? State::closed : State::draining;
        client.entered = now;
    }

    // Does what can be done after poll() has seen `events`. A new socket has room for most pages,
    // so the answer is tried without another poll(). A client that closes its side in the middle of
    // the request line has made a request, one that closes without a byte has not.
    void advance(Connection& client, short events) {
        const bool fresh = client.received == 0;
        const auto bytes = events == POLLOUT ? std::string_view() : receive(client);
        client.seen = now;
        if (client.state == State::reading) {
            const bool enough = client.take(bytes);
            if (fresh && is_over(bytes)) client.input_ended = true;
            if (enough || (client.input_ended && client.received > 0)) begin_answer(client);
        }
        if (client.state == State::writing) return send_answer(client);
        if (client.input_ended) client.state = State::closed;
    }

    // Ends the connection now. One that was not answered is answered first: the answer does not
    // depend on the question.
    void let_go(Connection& client) {
        if (client.state == State::reading) begin_answer(client);
        if (client.state == State::writing) send_answer(client);
        receive(client);  // lest close() sends a reset
        client.state = State::closed;
    }

    // Clears the places of closed connections, from place `first` on, and counts who is quiet.
    void tidy(std::size_t first) {
        const auto begin = table.begin() + static_cast<std::ptrdiff_t>(first);
        const auto closed = [](const Connection& client) { return client.state == State::closed; };
        table.erase(std::remove_if(begin, table.end(), closed), table.end());
        for (quiet = first; quiet < table.size() && now >= table[quiet].seen + quiet_time;) ++quiet;
    }

    // Lets the oldest go, a sixteenth of a full table at once: closing the gap moves all the
    // others, which is too much to do for every client of a flood.
    void make_room() {
        for (std::size_t i = 0; i <= capacity / 16; ++i) let_go(table[i]);
        tidy(0);
    }

    // Accepts those who wait at `listener`, `most` of them. Many have sent their request by then:
    // they are answered, and never enter the table. The errors of accept(2), a line for each kind:
    // the listener is broken; nobody waits, or descriptors or memory are short, and who waits stays
    // in the kernel's queue for a later round; or it is one client's, or that of its network.
    void accept_clients(const Fd& listener, int most) {
        for (; most > 0; --most) {
            Connection client{Fd{accept(listener.number, nullptr, nullptr)}, now, now};
            const int error = client.socket.number < 0 ? errno : 0;
            if (is_one_of(error, {EBADF, EFAULT, EINVAL, ENOTSOCK})) die("accept");
            if (is_one_of(error, {EAGAIN, EWOULDBLOCK, EMFILE, ENFILE, ENOBUFS, ENOMEM})) return;
            if (error != 0) continue;
            progress = true;
            advance(client, POLLIN);
            if (client.state != State::closed && table.size() >= capacity) make_room();
            if (client.state != State::closed) table.push_back(std::move(client));
        }
    }

    // Does what no event announces: ends the waits that are over, shows the count on a terminal. A
    // look at thousands takes milliseconds: the next is due when this one was 1 % of the time.
    void look_around(Clock::time_point began) {
        next_look = now + std::clamp<Clock::duration>(100 * (now - began), look_interval, 1s);
        for (Connection& client : table)
            if (now >= client.deadline()) client.state = State::closed;
        if (answered == shown || now < next_count || isatty(STDERR_FILENO) == 0) return;
        shown = answered;
        next_count = now + count_interval;
        say("maintd: " + std::to_string(shown) + " requests answered\r");
    }

    // Waits for events once, and deals with them. poll() takes time for each descriptor, 1 ms for
    // 4,000; so the front of the table, those who have been quiet, is left out but for a look now
    // and then, a round that does not wait. What happens there is seen so much later.
    void round() {
        const bool look = now >= next_look;
        const std::size_t first = look ? 0 : quiet;
        watched.assign({{wake.number, POLLIN, 0}});
        for (const Fd& listener : listeners) watched.push_back({listener.number, POLLIN, 0});
        for (std::size_t i = first; i < table.size(); ++i)
            watched.push_back({table[i].socket.number, table[i].events(), 0});
        const Clock::time_point began = Clock::now();
        const int ready = poll(watched.data(), watched.size(), look ? 0 : int{look_interval / 1ms});
        if (ready < 0)  // interrupted, or no memory: try them all, for none of these calls waits
            for (pollfd& each : watched) each.revents = each.fd < 0 ? short{0} : each.events;
        now = Clock::now();
        progress = ready > 0 && watched[0].revents != 0;
        const pollfd* entry = &watched[1 + listeners.size()];
        for (std::size_t i = first; i < table.size(); ++i, ++entry)
            if (entry->revents != 0) advance(table[i], entry->revents);
        if (look) look_around(began);
        tidy(first);
        for (std::size_t i = 0; i < listeners.size(); ++i)
            if (watched[1 + i].revents != 0) accept_clients(listeners[i], accept_batch);
        if (ready != 0 && !progress) std::this_thread::sleep_for(retry_interval);  // do not spin
    }

    // Serves until a signal asks to stop. Then nobody is lost: all who wait are let in, the port is
    // freed, and who is connected may finish. A second signal ends that.
    void serve() {
        while (stop_requests == 0) round();
        for (const Fd& listener : listeners) accept_clients(listener, backlog);
        listeners.clear();
        wake = Fd{};        // nobody reads its byte: every poll() would return at once
        stop_requests = 1;  // timeout(1) and a closing terminal send two at once, and mean one
        const Clock::time_point end = Clock::now() + stopping_limit;
        while (stop_requests == 1 && !table.empty() && now < end) round();
        for (Connection& client : table) let_go(client);
    }
};

// ---- The command line ---------------------------------------------------------------------------

const auto help = R"(usage: maintd [-hVw] [-l address] [-p port] [-r seconds] [-u uid[:gid]] [file]
  file: the HTML page     -l numeric address (every one)    -p port, 0 for any (8080)
  -r Retry-After (120)    -u ids instead of root (65534)    -w wait for the port
)";

// Returns the number from 0 to `most` that the option's `text` is; dies if it is anything else.
unsigned parse_number(const char* option, const std::string& text, unsigned most) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || *end != '\0' || number > most)
        die(option + " '"s + text + "'", "not a number up to " + std::to_string(most), 2);
    return number;
}

Options parse_command_line(int argc, char** argv) {
    Options options;
    for (int option; (option = getopt(argc, argv, ":hVl:p:r:u:w")) != -1;) {
        const std::string value = optarg != nullptr ? optarg : "";
        switch (option) {
            case 'h': std::fputs(help, stdout); std::exit(0);
            case 'V': std::puts("maintd 1.0"); std::exit(0);
            case 'l': options.address = value; break;
            case 'p': options.port = parse_number("-p", value, 65535); break;
            case 'r': options.retry_after = parse_number("-r", value, 2147483647); break;
            case 'u':  // without a colon, npos + 1 is 0: the gid is the same number
                options.uid = parse_number("-u", value.substr(0, value.find(':')), 4294967294);
                options.gid = parse_number("-u", value.substr(value.find(':') + 1), 4294967294);
                break;
            case 'w': options.wait = true; break;
            default: die("-"s + char(optopt), "unknown, or without its value: see maintd -h", 2);
        }
    }
    if (argc - optind > 1) die("'"s + argv[optind + 1] + "'", "one page is enough", 2);
    options.page = argv[optind];  // null where there is none
    return options;
}

// ---- The listener -------------------------------------------------------------------------------

union Address {  // what the calls take as one of three types
    sockaddr_in6 v6;
    sockaddr_in v4;
    sockaddr any;
};

// Returns the numeric IPv4 or IPv6 address that `text` spells; dies if it spells none. Names are
// not looked up: a static binary would need shared objects for that, and a network.
Address parse_address(const std::string& text, unsigned port) {
    Address address{};
    const bool v6 = text.find(':') != text.npos;
    void* const host = v6 ? static_cast<void*>(&address.v6.sin6_addr) : &address.v4.sin_addr;
    address.any.sa_family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(address.any.sa_family, text.c_str(), host) != 1)
        die("-l '" + text + "'", "not a numeric address", 2);
    address.v4.sin_port = htons(static_cast<in_port_t>(port));  // v6 has it in the same place
    return address;
}

// Makes `socket` a listener at `address`, and puts into the options what a URL says of it. Returns
// false and errno if it fails. SO_REUSEADDR: connections of the former server that linger do not
// keep the port. Not SO_REUSEPORT: a forgotten maintd would get a share of the live traffic.
bool start_listening(const Fd& socket, Address address, Options& options) {
    const int yes = 1, no = 0;
    const bool v6 = address.any.sa_family == AF_INET6;
    socklen_t size = v6 ? sizeof address.v6 : sizeof address.v4;
    if (setsockopt(socket.number, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        setsockopt(socket.number, SOL_SOCKET, SO_SNDBUF, &send_room, sizeof send_room) < 0 ||
        (v6 && setsockopt(socket.number, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) < 0) ||
        bind(socket.number, &address.any, size) < 0 || listen(socket.number, backlog) < 0 ||
        getsockname(socket.number, &address.any, &size) < 0 ||
        fcntl(socket.number, F_SETFL, O_NONBLOCK) < 0)
        return false;
    options.port = ntohs(address.v4.sin_port);
    if (v6) options.address = "[" + options.address + "]";
    return true;
}

// Returns the listener that the options ask for. "::" takes IPv4 as well; where there is no IPv6 it
// becomes "0.0.0.0". Told to stop while it waits for the port, it ends with status 0.
Fd open_listener(Options& options) {
    for (;;) {
        const Address address = parse_address(options.address, options.port);
        Fd listener{socket(address.any.sa_family, SOCK_STREAM, 0)};
        if (listener.number >= 0 && start_listening(listener, address, options)) return listener;
        const int error = errno;
        std::string why = std::strerror(error);
        if (error == EADDRINUSE && !options.wait) why += ": stop who holds it, or wait with -w";
        if (error == EACCES) why += ": start as root, or use a port above 1023";
        if (options.address == "::" && is_one_of(error, {EAFNOSUPPORT, EADDRNOTAVAIL, EINVAL}))
            options.address = "0.0.0.0";
        else if (error == EADDRINUSE && options.wait && stop_requests == 0)
            std::this_thread::sleep_for(retry_interval);
        else
            die(options.address + " port " + std::to_string(options.port), why, stop_requests == 0);
    }
}

// ---- Start --------------------------------------------------------------------------------------

// Opens descriptors 0 to 2 where they are closed: else the next socket would be standard error, and
// a client would read what is meant for the operator. An empty root has no /dev/null, but a "/".
void open_standard_descriptors() {
    for (int number = 0; number <= 2; ++number)
        if (fcntl(number, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0 && open("/", O_RDONLY) < 0)
            die("/dev/null");
}

// Gives up root for good, groups first, for they need the right that setuid() takes.
void give_up_root(uid_t uid, gid_t gid) {
    if (geteuid() != 0 || uid == 0) return;
    if (setgroups(0, nullptr) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
        die("-u " + std::to_string(uid), std::strerror(errno) + ": -u 0 stays root"s);
    if (setuid(0) == 0) die("-u " + std::to_string(uid), "root could be regained");
}

constexpr std::string_view built_in_page =  // a raw string that make wrote
#include "maintenance.inc"
    ;

// The order counts: signals are caught before a wait for the port, root goes after it is bound.
int main(int argc, char** argv) {
    open_standard_descriptors();
    Options options = parse_command_line(argc, argv);
    const std::string page = options.page ? read_page(options.page) : std::string(built_in_page);
    Server server{build_header(page.size(), options) + page, page.size(), catch_stop_signals()};
    server.listeners.push_back(open_listener(options));
    const Clock::time_point start = Clock::now();
    server.table.reserve(server.capacity);
    give_up_root(options.uid, options.gid);
    const std::string name = options.page ? options.page : "the built-in page";
    say("maintd: serving " + name + " (" + std::to_string(page.size()) + " bytes) on http://" +
        options.address + ":" + std::to_string(options.port) + "/\n");
    server.serve();
    say("maintd: " + std::to_string(server.answered) + " requests answered in " +
        std::to_string((Clock::now() - start) / 1s) + " s\n");
}
