// make bench: what an answer of maintd costs, side by side with the web servers that are installed
// and with the limit, a loop of accept, recv, send and close.
//
//     test/bench/bench [speed] [idle] [limits]      all three where none is named
//
// The load generator is this program. It compares every answer with the page, byte by byte, and
// ends with status 1 where one was wrong or missing. A generator works harder for an answer than a
// good server: so that the server is what is measured, it has core 0 to itself and may use only a
// part of it (a cgroup's quota, where root and the system allow one), while the generator has core
// 1. What can be compared is CPU time per answer. All servers run at the same time and have their
// turns in every round, so that what else the machine does disturbs them alike; figures are the
// medians of the rounds. Linux only: it reads /proc.

#include <sched.h>
#include <sys/epoll.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <iterator>
#include <memory>

#include "../fixture.hpp"

namespace {

using namespace fixture;
namespace fs = std::filesystem;

constexpr int rounds = 7;               // after one that does not count
constexpr auto turn = 400ms;            // of one server under load, in each round
constexpr auto lone_turn = 150ms;       // of one server with a lone visitor
constexpr std::size_t in_flight = 256;  // connections of the load: more than a period's answers
constexpr int server_core = 0;
constexpr int own_core = 1;
const std::string request =
    "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n";

volatile std::sig_atomic_t interrupted = 0;
unsigned long wrong_answers = 0;  // of the whole run

// Lets destructors end the servers when somebody presses Ctrl-C.
void check_interrupt() {
    if (interrupted != 0) throw std::runtime_error("interrupted");
}

// ---- Figures ------------------------------------------------------------------------------------

// The smallest of `values` that is at least as large as the share `part` of them.
double quantile(std::vector<double> values, double part) {
    if (values.empty()) return 0;
    const auto place = std::min(
        values.size() - 1, static_cast<std::size_t>(part * static_cast<double>(values.size())));
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(place);
    std::nth_element(values.begin(), nth, values.end());
    return *nth;
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

// ---- The machine: cores, a share of one, processes ----------------------------------------------

bool has_two_cores() { return sysconf(_SC_NPROCESSORS_ONLN) > 1; }

void pin_to(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (has_two_cores()) sched_setaffinity(0, sizeof set, &set);
}

// A control group that can limit the servers to a share of their core.
class Share {
  public:
    Share() {
        for (const std::string parent : {"/sys/fs/cgroup/cpu/", "/sys/fs/cgroup/"}) {
            directory_ = parent + "maintd-bench-" + std::to_string(getpid());
            std::error_code failed;
            if (!fs::create_directory(directory_, failed)) continue;
            if (limit(true)) {
                limit(false);
                // What else runs on this core gets what is left.
                if (!put("cpu.shares", "262144")) put("cpu.weight", "10000");
                return;
            }
            fs::remove(directory_, failed);
        }
        directory_.clear();
    }
    Share(const Share&) = delete;
    ~Share() {
        std::error_code failed;
        if (available()) fs::remove(directory_, failed);
    }

    bool available() const { return !directory_.empty(); }

    // For the child that will be a server.
    void join() const {
        if (available()) put("cgroup.procs", "0");
    }

    // Version 1 of the interface has two files, version 2 has one.
    bool limit(bool on) const {
        const std::string period = std::to_string(period_us);
        const std::string quota = std::to_string(quota_us);
        if (put("cpu.max", (on ? quota : "max") + " " + period)) return true;
        return put("cpu.cfs_quota_us", "-1") && put("cpu.cfs_period_us", period) &&
               put("cpu.cfs_quota_us", on ? quota : "-1");
    }

    // The share of the core that the servers may use.
    double size() const { return available() ? double{quota_us} / period_us : 1; }

    static constexpr int quota_us = 1000;
    static constexpr int period_us = 4000;

  private:
    bool put(const std::string& file, const std::string& value) const {
        const std::string path = directory_ + "/" + file;
        if (!fs::exists(path)) return false;
        std::ofstream stream(path);
        return static_cast<bool>(stream << value << std::flush);
    }

    std::string directory_;
};

// Returns `pid` and all processes that it has started.
std::vector<pid_t> family(pid_t pid) {
    std::vector<pid_t> all{pid};
    for (std::size_t i = 0; i < all.size(); ++i) {
        const std::string id = std::to_string(all[i]);
        std::istringstream children(file_content("/proc/" + id + "/task/" + id + "/children"));
        for (pid_t child; children >> child;) all.push_back(child);
    }
    return all;
}

// Returns the CPU seconds that a process has used, in user and kernel mode. Unlike the file
// /proc/PID/stat, this clock counts nanoseconds.
double cpu_seconds(pid_t pid) {
    clockid_t clock;
    timespec used{};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        throw std::runtime_error("process " + std::to_string(pid) + " has ended");
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// Returns a value in kilobytes from a file of /proc, as "VmRSS:  1234 kB".
double kilobytes(pid_t pid, const std::string& file, const std::string& name) {
    std::ifstream words("/proc/" + std::to_string(pid) + "/" + file);
    for (std::string word; words >> word;)
        if (word == name + ":") {
            double value = 0;
            words >> value;
            return value;
        }
    return 0;
}

std::string processor() {
    std::ifstream lines("/proc/cpuinfo");
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown processor";
}

// Returns a port that is free, and none of those from which connections are made.
std::uint16_t free_port() {
    static std::uint16_t next = static_cast<std::uint16_t>(20000 + getpid() % 10000);
    for (;;) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(++next);
        const int trial = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const bool free = bind(trial, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
        close(trial);
        if (free) return next;
    }
}

// Returns where a program is, or nothing.
std::string find_program(const std::string& name) {
    std::istringstream directories(std::getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin"s);
    for (std::string directory; std::getline(directories, directory, ':');)
        if (access((directory + "/" + name).c_str(), X_OK) == 0) return directory + "/" + name;
    return "";
}

void raise_descriptor_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// ---- Visits: the load generator -----------------------------------------------------------------

// What a server is expected to answer.
struct Expected {
    std::uint16_t port;
    std::string status;
    std::string_view page;
};

int open_connection(std::uint16_t port, int flags = 0) {
    const int opened = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (opened < 0) throw system_error("socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval limit{10, 0};
    setsockopt(opened, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    // close() is to send a reset, which leaves no connection in TIME_WAIT: else each measurement
    // would find more of them than the one before. By then the answer and its end have been read.
    const linger at_once{1, 0};
    setsockopt(opened, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (connect(opened, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 &&
        errno != EINPROGRESS) {
        close(opened);
        return -1;
    }
    return opened;
}

// One connection, request and answer.
class Visit {
  public:
    explicit Visit(const Expected& expected) : expected_(&expected) {
        socket_ = open_connection(expected.port);
        if (socket_ >= 0) send(socket_, request.data(), request.size(), MSG_NOSIGNAL);
    }
    Visit(Visit&& other) noexcept
        : expected_(other.expected_),
          start_(other.start_),
          socket_(std::exchange(other.socket_, -1)) {}
    Visit& operator=(Visit&& other) noexcept {
        std::swap(socket_, other.socket_);
        expected_ = other.expected_;
        start_ = other.start_;
        return *this;
    }
    ~Visit() {
        if (socket_ >= 0) close(socket_);
    }

    // Receives up to the end of the stream. Returns whether the answer was whole and right.
    bool finish() {
        static std::vector<char> bytes;
        bytes.resize(expected_->page.size() + 4096);
        std::size_t size = 0;
        for (;;) {
            const ssize_t more = recv(socket_, bytes.data() + size, bytes.size() - size, 0);
            if (more == 0) break;
            if (more < 0) return false;
            size += static_cast<std::size_t>(more);
        }
        const std::string_view answer(bytes.data(), size);
        const std::size_t blank = answer.find("\r\n\r\n");
        return answer.starts_with("HTTP/1.") && answer.substr(9, 3) == expected_->status &&
               blank != answer.npos && answer.substr(blank + 4) == expected_->page;
    }

    bool has_bytes() const {
        char byte;
        return recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
    }

    double wait() const { return seconds_since(start_); }

  private:
    const Expected* expected_;
    Clock::time_point start_ = Clock::now();
    int socket_ = -1;
};

struct Result {
    std::vector<double> waits;  // of each visitor, in seconds
    double seconds = 0;

    double answers() const { return static_cast<double>(waits.size()); }
};

// Visits while `more(answers so far)` holds, with so many connections in flight: the oldest is
// finished, then another one begun in its place.
template <typename More>
Result visit_while(More more, std::size_t connections, const Expected& expected) {
    const auto start = Clock::now();
    std::vector<Visit> flight;
    while (flight.size() < connections) flight.emplace_back(expected);
    Result result;
    const auto finish = [&](Visit& visit) {
        if (visit.finish())
            result.waits.push_back(visit.wait());
        else
            ++wrong_answers;
        check_interrupt();
    };
    for (std::size_t oldest = 0; more(result.waits.size()); oldest = (oldest + 1) % connections) {
        finish(flight[oldest]);
        flight[oldest] = Visit(expected);
    }
    for (Visit& visit : flight) finish(visit);
    result.seconds = seconds_since(start);
    return result;
}

Result visit_for(Clock::duration time, std::size_t connections, const Expected& expected) {
    const auto end = Clock::now() + time;
    return visit_while([end](std::size_t) { return Clock::now() < end; }, connections, expected);
}

// ---- Other modes of this program: the limit, and a crowd
// -----------------------------------------

// The limit: the calls that an answer cannot do without, and nothing else.
[[noreturn]] void serve_bare(std::uint16_t port, const std::string& answer) {
    signal(SIGPIPE, SIG_IGN);
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int yes = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
        listen(listener, 4096) < 0)
        throw system_error("bare listener");
    static std::array<char, 65536> input;
    for (;;) {
        const int client = accept(listener, nullptr, nullptr);
        if (client < 0) continue;
        recv(client, input.data(), input.size(), 0);
        for (std::string_view rest = answer; !rest.empty();) {
            const ssize_t size = send(client, rest.data(), rest.size(), 0);
            if (size <= 0) break;
            rest.remove_prefix(static_cast<std::size_t>(size));
        }
        close(client);
    }
}

// Connections that say nothing. One that the server closes is opened again, at once.
class Crowd {
  public:
    explicit Crowd(std::uint16_t port) : port_(port) { raise_descriptor_limit(); }
    Crowd(const Crowd&) = delete;
    ~Crowd() {
        for (const int each : sockets_) close(each);
        close(events_);
    }

    std::size_t size() const { return sockets_.size(); }

    void add() {
        const int opened = open_connection(port_, SOCK_NONBLOCK);
        if (opened < 0) throw system_error("crowd");
        sockets_.push_back(opened);
        epoll_event event{};
        event.events = EPOLLIN | EPOLLRDHUP;
        event.data.u64 = sockets_.size() - 1;
        epoll_ctl(events_, EPOLL_CTL_ADD, opened, &event);
    }

    // Deals with what the server does within `limit`.
    void keep(std::chrono::milliseconds limit) {
        std::array<epoll_event, 64> happened;
        const int count = epoll_wait(events_, happened.data(), static_cast<int>(happened.size()),
                                     static_cast<int>(limit.count()));
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = happened[static_cast<std::size_t>(i)];
            int& member = sockets_[event.data.u64];
            close(member);  // its answer, if any, does not matter here
            member = open_connection(port_, SOCK_NONBLOCK);
            epoll_event again{};
            again.events = EPOLLIN | EPOLLRDHUP;
            again.data.u64 = event.data.u64;
            epoll_ctl(events_, EPOLL_CTL_ADD, member, &again);
        }
    }

  private:
    std::uint16_t port_;
    int events_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<int> sockets_;
};

// Keeps a crowd of `count`, which comes evenly within `seconds`, until a signal ends the process.
[[noreturn]] void keep_crowd(std::uint16_t port, std::size_t count, double seconds) {
    Crowd crowd(port);
    const auto start = Clock::now();
    while (crowd.size() < count) {
        const double due = static_cast<double>(count) * seconds_since(start) / seconds;
        while (crowd.size() < count && static_cast<double>(crowd.size()) <= due) crowd.add();
        crowd.keep(1ms);
    }
    std::fputs("here\n", stderr);
    for (;;) crowd.keep(1000ms);
}

// ---- The servers --------------------------------------------------------------------------------

// A page of so many bytes, without quotes and dollar signs: nginx takes it as the text of "return".
std::string make_page(std::size_t size) {
    std::string text = "<!doctype html><title>Down for maintenance</title>\n";
    while (text.size() < size) text += "<p>We will be back shortly. Please try again.</p>\n";
    text.resize(size);
    return text;
}

// A directory with the page, with what maintd makes of it for the bare loop to send, and with the
// configurations of other servers; gone with the object.
class Site {
  public:
    // From here on the destructor runs, whatever fails below.
    explicit Site(std::string content) : Site() {
        page = std::move(content);
        const Maintd server({"-l", "127.0.0.1", write("index.html", page)});
        write("answer", visit(server.port).bytes);
    }
    Site(const Site&) = delete;
    ~Site() { fs::remove_all(directory); }

    std::string write(const std::string& file, std::string_view content) const {
        std::ofstream(directory + "/" + file, std::ios::binary) << content;
        return directory + "/" + file;
    }

    std::string page;
    std::string directory;

  private:
    Site() {
        std::string name = "/tmp/maintd-bench-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) throw system_error("mkdtemp");
        directory = name;
        fs::permissions(directory, fs::perms(0755));
    }
};

std::string nginx_configuration(const Site& site, const std::string& port) {
    const std::string& directory = site.directory;
    return "daemon off; user " + std::string(geteuid() == 0 ? "root" : "nobody") +
           "; worker_processes 1; worker_rlimit_nofile 10000;\n"
           "pid " +
           directory +
           "/nginx.pid; error_log /dev/null crit;\n"
           "events { worker_connections 9000; }\n"
           "http { access_log off; client_header_timeout 10s; default_type 'text/html; "
           "charset=utf-8';\n"
           "client_body_temp_path " +
           directory + "/a; proxy_temp_path " + directory +
           "/b;\n"
           "fastcgi_temp_path " +
           directory + "/c; uwsgi_temp_path " + directory +
           "/d;\n"
           "scgi_temp_path " +
           directory +
           "/e;\n"
           "server { listen 127.0.0.1:" +
           port +
           " backlog=4096;\n"
           "add_header Retry-After 120 always; add_header Cache-Control no-store always;\n"
           "return 503 '" +
           site.page + "'; } }\n";
}

std::string haproxy_configuration(const Site& site, const std::string& port) {
    return "global\n nbthread 1\n maxconn 9000\n"
           "defaults\n mode http\n timeout client 10s\n timeout http-request 10s\n"
           "frontend maintenance\n bind 127.0.0.1:" +
           port +
           " backlog 4096\n"
           " http-request return status 503 content-type 'text/html; charset=utf-8' file " +
           site.directory + "/index.html hdr Retry-After 120 hdr Cache-Control no-store\n";
}

std::string lighttpd_configuration(const Site& site, const std::string& port) {
    return "server.document-root = \"" + site.directory +
           "\"\n"
           "server.bind = \"127.0.0.1\"\nserver.port = " +
           port +
           "\n"
           "server.listen-backlog = 4096\nserver.max-fds = 10000\nserver.max-connections = 9000\n"
           "server.max-read-idle = 10\nindex-file.names = (\"index.html\")\n"
           "mimetype.assign = (\".html\" => \"text/html; charset=utf-8\")\n";
}

constexpr const char* python_program = R"(
import http.server, sys
page = open(sys.argv[2], 'rb').read()
class Maintenance(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(page)))
        self.send_header('Retry-After', '120')
        self.send_header('Cache-Control', 'no-store')
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *arguments):
        pass
class Server(http.server.HTTPServer):
    request_queue_size = 4096
Server(('127.0.0.1', int(sys.argv[1])), Maintenance).serve_forever()
)";

// A kind of server. `start` takes the port and returns the command.
struct Kind {
    std::string name;
    std::string program;  // its path, or nothing where it is not installed
    std::string version_option;
    std::function<std::vector<std::string>(const std::string& port)> start;
    std::string remark{};
    std::string status = "503";
    bool holds_crowds = true;  // a connection that is silent does not stop all others

    // Returns the first number that the program says of itself.
    std::string version() const {
        if (version_option.empty()) return "";
        const Exit said = run({program, version_option});
        const std::string text = said.output + said.errors;
        const std::size_t begin = text.find_first_of("0123456789");
        if (begin == text.npos) return "?";
        return text.substr(begin, text.find_first_not_of("0123456789.", begin) - begin);
    }
};

const std::string own_program = fs::read_symlink("/proc/self/exe");

// All kinds of servers. They answer the same page, have one process or thread that works, keep no
// log, and give a visitor 10 seconds to say something, where that can be set.
std::vector<Kind> kinds(const Site& site) {
    using Command = std::vector<std::string>;
    const std::string page = site.directory + "/index.html";
    const std::string nginx = find_program("nginx"), haproxy = find_program("haproxy"),
                      lighttpd = find_program("lighttpd"), darkhttpd = find_program("darkhttpd"),
                      python = find_program("python3");
    return {
        {"maintd", maintd_path(), "-V",
         [=](const std::string& port) -> Command {
             return {maintd_path(), "-l", "127.0.0.1", "-p", port, page};
         }},
        {"bare loop", own_program, "",
         [&](const std::string& port) -> Command {
             return {own_program, "--bare", port, site.directory + "/answer"};
         },
         "accept, recv, send, close: the limit", "503", false},
        {"nginx", nginx, "-v",
         [&, nginx](const std::string& port) -> Command {
             return {nginx, "-c", site.write("nginx-" + port, nginx_configuration(site, port))};
         },
         "return 503"},
        {"HAProxy", haproxy, "-v",
         [&, haproxy](const std::string& port) -> Command {
             return {haproxy, "-f",
                     site.write("haproxy-" + port, haproxy_configuration(site, port))};
         },
         "http-request return status 503"},
        {"lighttpd", lighttpd, "-v",
         [&, lighttpd](const std::string& port) -> Command {
             return {lighttpd, "-D", "-f",
                     site.write("lighttpd-" + port, lighttpd_configuration(site, port))};
         },
         "a file, with status 200", "200"},
        {"darkhttpd", darkhttpd, "--help",
         [&, darkhttpd](const std::string& port) -> Command {
             return {darkhttpd, site.directory, "--addr", "127.0.0.1",
                     "--port",  port,           "--log",  "/dev/null"};
         },
         "a file, with status 200", "200"},
        {"Python", python, "--version",
         [=](const std::string& port) -> Command {
             return {python, "-c", python_program, port, page};
         },
         "http.server with a handler for 503", "503", false},
    };
}

// A server that runs, and has answered once.
class Server {
  public:
    Server(const Kind& kind, const Site& site, const Share& share)
        : port(free_port()),
          expected{port, kind.status, site.page},
          process_(kind.start(std::to_string(port)), [&share] {
              pin_to(server_core);
              share.join();
          }) {
        if (!eventually([this] { return Visit(expected).finish(); }))
            throw std::runtime_error(kind.name + " does not answer");
    }
    ~Server() {
        process_.send_signal(SIGTERM);  // nginx ends its worker, too
        eventually([this] { return !process_.runs(); }, 3s);
    }

    // The sums over all processes of the server.
    double cpu() const {
        double sum = 0;
        for (const pid_t pid : family(process_.pid)) sum += cpu_seconds(pid);
        return sum;
    }
    double memory(const std::string& file, const std::string& name) const {
        double sum = 0;
        for (const pid_t pid : family(process_.pid)) sum += kilobytes(pid, file, name);
        return sum / 1024;
    }
    double resident() const { return memory("status", "VmRSS"); }
    double proportional() const { return memory("smaps_rollup", "Pss"); }
    std::size_t descriptors() const {
        std::size_t sum = 0;
        for (const pid_t pid : family(process_.pid)) {
            const fs::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
            sum += static_cast<std::size_t>(std::distance(begin(all), end(all)));
        }
        return sum;
    }
    pid_t pid() const { return process_.pid; }

    const std::uint16_t port;
    const Expected expected;

  private:
    Process process_;
};

// A crowd that another process keeps, so that each has descriptors enough.
class DistantCrowd {
  public:
    DistantCrowd(std::uint16_t port, std::size_t count, double seconds)
        : process_({own_program, "--crowd", std::to_string(port), std::to_string(count),
                    std::to_string(seconds)}) {}

    void await() { process_.error_line(30s); }

  private:
    Process process_;
};

// ---- The tables ---------------------------------------------------------------------------------

// Figures of one server, one a round.
struct Figures {
    std::vector<double> rate, cost, load_half, load_most, lone_half, lone_most, busy;

    void load(const Server& server) {
        const double before = server.cpu();
        const Result result = visit_for(turn, in_flight, server.expected);
        const double used = server.cpu() - before;
        rate.push_back(result.answers() / result.seconds);
        cost.push_back(used / result.answers() * 1e6);
        busy.push_back(used / result.seconds);
        load_half.push_back(quantile(result.waits, 0.5) * 1e3);
        load_most.push_back(quantile(result.waits, 0.99) * 1e3);
    }

    void lone_visitor(const Server& server) {
        const Result result = visit_for(lone_turn, 1, server.expected);
        lone_half.push_back(quantile(result.waits, 0.5) * 1e6);
        lone_most.push_back(quantile(result.waits, 0.99) * 1e6);
    }
};

// Returns the median over the rounds of a / b: what disturbs a round disturbs both.
double median_ratio(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
    return median(ratios);
}

// Gives each of `count` servers its turn in every round, the first round being for nothing, and
// each second round in the opposite order.
void take_turns(std::size_t count, const std::function<void(std::size_t)>& take,
                const std::function<void()>& after_first) {
    for (int round = 0; round <= rounds; ++round) {
        for (std::size_t i = 0; i < count; ++i) take(round % 2 == 0 ? i : count - 1 - i);
        if (round == 0) after_first();
    }
}

void compare_speed(const Site& site, const Share& share) {
    std::vector<Kind> present;
    std::vector<std::unique_ptr<Server>> servers;
    std::string missing;
    for (const Kind& kind : kinds(site)) {
        if (kind.program.empty()) {
            missing += kind.name + ": not installed\n";
            continue;
        }
        present.push_back(kind);
        servers.push_back(std::make_unique<Server>(kind, site, share));
    }
    std::vector<Figures> figures(servers.size());
    take_turns(
        servers.size(),
        [&](std::size_t i) {
            figures[i].lone_visitor(*servers[i]);
            share.limit(true);
            figures[i].load(*servers[i]);
            share.limit(false);
        },
        [&] {
            for (Figures& each : figures) each = {};
        });
    std::printf(
        "\n%zu connections in flight                           | under load      | lone visitor\n"
        "           answers  CPU us per  times   RSS   PSS  |    p50     p99  |    p50     p99\n"
        "          a second    answer   maintd    MB    MB  |     ms      ms  |     us      us\n",
        in_flight);
    for (std::size_t i = 0; i < servers.size(); ++i) {
        const Figures& figure = figures[i];
        std::printf(
            "%-10s %7.0f  %9.2f  %6.2f  %5.1f %5.1f  | %6.2f  %6.2f  | %6.0f  %6.0f   %s %s%s\n",
            present[i].name.c_str(), median(figure.rate), median(figure.cost),
            median_ratio(figure.cost, figures[0].cost), servers[i]->resident(),
            servers[i]->proportional(), median(figure.load_half), median(figure.load_most),
            median(figure.lone_half), median(figure.lone_most), present[i].version().c_str(),
            present[i].remark.c_str(),
            median(figure.busy) < 0.9 * share.size() ? " (not saturated)" : "");
    }
    std::fputs(missing.c_str(), stdout);
}

void compare_crowds(const Site& site, const Share& share) {
    constexpr std::array<std::size_t, 3> sizes = {0, 1000, 4000};
    constexpr double arrival = 10;  // seconds: the time after which the first are closed again
    constexpr auto watch = 3s;
    struct Row {
        std::string name;
        std::size_t crowd_size;
        std::unique_ptr<Server> server;
        std::unique_ptr<DistantCrowd> crowd{};
        double used = 0;  // CPU seconds without visitors
        Figures figures{};
    };
    std::vector<Row> rows;
    for (const Kind& kind : kinds(site))
        for (const std::size_t size : sizes)
            if (!kind.program.empty() && kind.holds_crowds)
                rows.push_back({kind.name, size, std::make_unique<Server>(kind, site, share)});
    for (Row& row : rows)
        if (row.crowd_size > 0)
            row.crowd = std::make_unique<DistantCrowd>(row.server->port, row.crowd_size, arrival);
    for (Row& row : rows)
        if (row.crowd) row.crowd->await();
    const auto start = Clock::now();
    for (Row& row : rows) row.used -= row.server->cpu();
    std::this_thread::sleep_for(watch);
    for (Row& row : rows) row.used += row.server->cpu();
    const double watched = seconds_since(start);
    take_turns(
        rows.size(),
        [&](std::size_t i) {
            rows[i].figures.lone_visitor(*rows[i].server);
            share.limit(true);
            rows[i].figures.load(*rows[i].server);
            share.limit(false);
        },
        [&] {
            for (Row& row : rows) row.figures = {};
        });
    std::printf(
        "\n                    | lone visitor                | under load        | without "
        "visitors\n"
        "              idle  |    p50  times      p99      | CPU us per  times | %% of a core     "
        "held\n");
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const Figures& figures = rows[i].figures;
        const Figures& alone = rows[i - i % sizes.size()].figures;
        std::printf("%-12s %5zu  | %6.0f  %5.2f  %7.0f      | %9.2f  %5.2f  | %10.2f  %8zu\n",
                    rows[i].name.c_str(), rows[i].crowd_size, median(figures.lone_half),
                    median_ratio(figures.lone_half, alone.lone_half), median(figures.lone_most),
                    median(figures.cost), median_ratio(figures.cost, alone.cost),
                    rows[i].used / watched * 100, rows[i].server->descriptors());
    }
}

// ---- Single figures of maintd, beside what was aimed at -----------------------------------------

// Prints a line with a figure.
void tell(const std::string& what, const std::string& figure, const std::string& aim) {
    std::printf("%-52s %-30s (aim: %s)\n", what.c_str(), figure.c_str(), aim.c_str());
}

std::string rounded(double value, int places, const std::string& unit) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f %s", places, value, unit.c_str());
    return text.data();
}

void measure_start(const Kind& maintd, const Site& site) {
    std::vector<double> waits;
    for (int i = 0; i < 21; ++i) {
        const Expected expected{free_port(), "503", site.page};
        const auto start = Clock::now();
        const Process server(maintd.start(std::to_string(expected.port)),
                             [] { pin_to(server_core); });
        while (!Visit(expected).finish())
            if (seconds_since(start) > 10) throw std::runtime_error("no first answer");
        waits.push_back(seconds_since(start) * 1e3);
    }
    tell("first answer after fork and exec, median of 21",
         rounded(median(waits), 1, "ms, longest ") + rounded(quantile(waits, 1), 1, "ms"), "10 ms");
}

void measure_memory(const Kind& maintd, const Site& site, const Share& share) {
    const Server server(maintd, site, share);
    tell("memory (VmRSS) after start", rounded(server.resident(), 2, "MB"), "4 MB");
    Crowd crowd(server.port);
    while (crowd.size() < 4096) crowd.add();
    eventually([&] { return server.descriptors() > 4096; });
    tell("memory (VmRSS) with " + std::to_string(server.descriptors()) + " descriptors",
         rounded(server.resident(), 2, "MB"), "6 MB");
}

// Returns how many allocations a maintd made that gave so many answers.
unsigned long count_allocations(const Site& site, std::size_t answers) {
    Maintd server({"-l", "127.0.0.1", site.directory + "/index.html"}, [] {
        const fs::path library = fs::path(own_program).replace_filename("count_allocations.so");
        setenv("LD_PRELOAD", library.c_str(), 1);
    });
    const Expected expected{server.port, "503", site.page};
    for (const std::size_t connections : {std::size_t{1}, in_flight})
        visit_while([=](std::size_t so_far) { return so_far < answers / 2; },
                    std::min(connections, answers), expected);
    const std::string said = server.stop().errors;
    const std::size_t place = said.find("allocations: ");
    if (place == said.npos) throw std::runtime_error("count_allocations.so was not loaded");
    return std::stoul(said.substr(place + 13));
}

void measure_allocations(const Site& site) {
    // Two runs that answer, with numbers of as many digits in their last lines.
    const unsigned long few = count_allocations(site, 10000);
    const unsigned long many = count_allocations(site, 30000);
    tell("allocations for 20,000 answers, all others " + std::to_string(few),
         std::to_string(static_cast<long>(many - few)), "0");
}

// A flood of idle connections comes to a full table, at most `speed` of them a second, and a
// visitor after the other with it. One loop does both, or they would wait for each other here.
void measure_flood(const Kind& maintd, const Site& site, const Share& share, double speed) {
    constexpr std::size_t full = 4096, flood = 9000;
    std::vector<double> waits, seconds, costs;
    for (int i = 0; i < rounds; ++i) {
        const Server server(maintd, site, share);
        Crowd crowd(server.port);
        while (crowd.size() < full) crowd.add();
        eventually([&] { return server.descriptors() > full; });
        const double before = server.cpu();
        const auto start = Clock::now();
        Visit visit(server.expected);
        const auto finish = [&] {
            if (!visit.finish()) ++wrong_answers;
            waits.push_back(visit.wait() * 1e3);
        };
        while (crowd.size() < full + flood) {
            check_interrupt();
            if (static_cast<double>(crowd.size() - full) <= speed * seconds_since(start))
                crowd.add();
            if (!visit.has_bytes()) continue;
            finish();
            visit = Visit(server.expected);
        }
        seconds.push_back(seconds_since(start));
        finish();
        costs.push_back((server.cpu() - before) / flood * 1e6);
    }
    std::printf(
        "a visitor's wait in a flood of 9,000 within %.0f ms: median %.1f ms, 95 %% of %zu "
        "below %.1f ms,\n    longest %.1f ms (aim: 20 ms); %.1f us of CPU for each of the flood\n",
        median(seconds) * 1e3, median(waits), waits.size(), quantile(waits, 0.95),
        quantile(waits, 1), median(costs));
}

void measure_large_page(const Share& share) {
    const Site site(make_page(1 << 20));
    const std::vector<Kind> both = kinds(site);
    const Server maintd(both[0], site, share), bare(both[1], site, share);
    for (const std::size_t connections : {std::size_t{1}, std::size_t{8}}) {
        std::array<std::vector<double>, 2> rates;
        take_turns(
            2,
            [&](std::size_t i) {
                const Result result =
                    visit_for(turn / 2, connections, (i == 0 ? maintd : bare).expected);
                rates[i].push_back(result.answers() / result.seconds);
            },
            [&] { rates = {}; });
        tell("a page of 1 MiB, " + std::to_string(connections) + " at a time",
             rounded(median(rates[0]), 0, "MiB/s, ") +
                 rounded(median_ratio(rates[0], rates[1]) * 100, 0, "% of bare loop"),
             "80 %");
    }
}

void trace(const Kind& maintd, const Site& site, const Share& share) {
    const std::string strace = find_program("strace");
    if (strace.empty()) return void(std::puts("strace: not installed"));
    const Server server(maintd, site, share);
    const std::string file = site.directory + "/strace";
    Process tracer({strace, "-c", "-o", file, "-p", std::to_string(server.pid())});
    tracer.error_line();  // "attached"
    visit_while([](std::size_t so_far) { return so_far < 1000 - 64; }, 64, server.expected);
    tracer.send_signal(SIGINT);
    tracer.wait();
    std::printf("\nsystem calls of 1,000 answers, 64 connections in flight (strace -c):\n%s",
                file_content(file).c_str());
}

void measure_limits(const Site& site, const Share& share) {
    const Kind maintd = kinds(site).front();
    std::puts("");
    measure_start(maintd, site);
    measure_memory(maintd, site, share);
    measure_allocations(site);
    measure_large_page(share);
    measure_flood(maintd, site, share, 60000);  // a second: more than most networks bring
    measure_flood(maintd, site, share, 1e9);    // as fast as this process can
    trace(maintd, site, share);
}

// Says what was measured with what, and on what.
void introduce(const Site& site, const Share& share) {
    utsname system{};
    uname(&system);
    std::printf("503 with a page of %zu bytes over loopback; every answer compared with the page\n",
                site.page.size());
    std::printf("generator: test/bench/bench; medians of %d interleaved rounds\n", rounds);
    std::printf("machine: %s, %ld cores, %s %s\n", processor().c_str(),
                sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release);
    if (!has_two_cores())
        std::puts("one core for both: the servers are not saturated, and their figures rough");
    else if (share.available())
        std::printf("server: %.0f %% of core %d when under load; generator: core %d\n",
                    share.size() * 100, server_core, own_core);
    else
        std::printf(
            "server: core %d; generator: core %d; no cgroup's quota to be had, so the\n"
            "generator is the limit where a line says \"not saturated\"\n",
            server_core, own_core);
}

}  // namespace

int main(int argc, char** argv) try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (argc == 4 && arguments[0] == "--bare")
        serve_bare(static_cast<std::uint16_t>(std::stoi(arguments[1])), file_content(arguments[2]));
    if (argc == 5 && arguments[0] == "--crowd")
        keep_crowd(static_cast<std::uint16_t>(std::stoi(arguments[1])), std::stoul(arguments[2]),
                   std::stod(arguments[3]));
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    std::signal(SIGPIPE, SIG_IGN);
    pin_to(own_core);
    const Share share;
    const Site site(make_page(built_in_page().size()));
    introduce(site, share);
    const auto wanted = [&](const char* part) {
        return arguments.empty() ||
               std::find(arguments.begin(), arguments.end(), part) != arguments.end();
    };
    if (wanted("speed")) compare_speed(site, share);
    if (wanted("idle")) compare_crowds(site, share);
    if (wanted("limits")) measure_limits(site, share);
    if (wrong_answers == 0) return 0;
    std::printf("\n%lu answers were wrong or missing\n", wrong_answers);
    return 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
    return 1;
}
