// The fixture of all tests that talk to a running maintd. Maintd starts the real binary on a free
// port, which it reads from the first line. Client is a visitor, as good or bad as a test wants.
// Nothing here sleeps for a fixed time: every wait is for an event, and ends at a deadline.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace fixture {

using namespace std::chrono_literals;
using namespace std::string_literals;
using Clock = std::chrono::steady_clock;

constexpr auto patience = 10s;  // for what comes at once unless the machine is busy

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits until `condition` holds. Returns whether it did before `limit` was over.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds limit = patience) {
    const auto end = Clock::now() + limit;
    while (!condition()) {
        if (Clock::now() > end) return false;
        std::this_thread::sleep_for(2ms);
    }
    return true;
}

// Calls work(0) to work(count - 1) at the same time, each in a thread. Returns what they return.
// Catch2 allows no assertion in a thread, so the test checks the results.
template <typename Work>
auto together(int count, Work work) {
    std::vector<std::future<decltype(work(0))>> futures;
    for (int i = 0; i < count; ++i) futures.push_back(std::async(std::launch::async, work, i));
    std::vector<decltype(work(0))> results;
    for (auto& each : futures) results.push_back(each.get());
    return results;
}

// Whether one of ten tries succeeds. A busy machine can spoil any single measurement of time.
template <typename Attempt>
bool succeeds_once(Attempt attempt) {
    for (int tries = 0; tries < 10; ++tries)
        if (attempt()) return true;
    return false;
}

template <typename Number>
Number median(std::vector<Number> numbers) {
    const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
    std::nth_element(numbers.begin(), middle, numbers.end());
    return *middle;
}

inline std::runtime_error system_error(const std::string& what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}

inline std::string file_content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// The binary under test: "./maintd", or what the environment says.
inline std::string maintd_path() {
    const char* path = std::getenv("MAINTD");
    return path != nullptr ? path : "./maintd";
}

// Owns a descriptor: closes it exactly once.
struct Descriptor {
    int number = -1;

    Descriptor(int opened = -1) : number(opened) {}
    Descriptor(Descriptor&& other) noexcept : number(std::exchange(other.number, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number, other.number);
        return *this;
    }
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
    operator int() const { return number; }
    void close() { Descriptor(std::move(*this)); }

    // Waits for POLLIN or POLLOUT. Returns whether that came before `end`.
    bool is_ready(short event, Clock::time_point end) const {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        pollfd entry{number, event, 0};
        return poll(&entry, 1, static_cast<int>(std::max(left, 0ms).count())) > 0;
    }
};

// Sets how many descriptors this process may have, as far as the hard limit allows. Returns that.
inline rlim_t set_descriptor_limit(rlim_t number) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min(number, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

inline bool has_ipv6() { return file_content("/proc/net/if_inet6").find(" lo\n") != ""s.npos; }

// A file with the given content that everybody may read. It is removed with the object.
struct TemporaryFile {
    explicit TemporaryFile(std::string_view content) {
        const Descriptor file = mkstemp(path.data());
        if (file < 0 || fchmod(file, 0644) < 0) throw system_error(path);
        if (!(std::ofstream(path, std::ios::binary) << content)) throw system_error(path);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    ~TemporaryFile() { unlink(path.c_str()); }

    std::string path = "/tmp/maintd-test-XXXXXX";
};

// What a child writes and this process reads. Neither end is inherited by other programs.
struct Channel {
    Descriptor reader, writer;
    std::string text{};  // what has been read

    // Reads what there is, or waits for it. Returns false at the end.
    bool read_some() {
        char bytes[4096];
        const ssize_t size = read(reader, bytes, sizeof bytes);
        if (size > 0) text.append(bytes, static_cast<std::size_t>(size));
        return size > 0;
    }

    // Reads until `text` contains `part`. Returns whether that came before `limit` was over.
    bool read_until(const std::string& part, std::chrono::milliseconds limit = patience) {
        const auto end = Clock::now() + limit;
        while (text.find(part) == text.npos)
            if (!reader.is_ready(POLLIN, end) || !read_some()) return false;
        return true;
    }
};

struct Pipe : Channel {
    Pipe() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0) throw system_error("pipe");
        reader = ends[0];
        writer = ends[1];
    }
};

struct Terminal : Channel {
    Terminal() {
        reader = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (reader >= 0 && grantpt(reader) == 0 && unlockpt(reader) == 0)
            writer = ioctl(reader, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (writer < 0) throw system_error("pty");
    }

    // In a child: makes this its controlling terminal, with the child in the foreground.
    void control() const {
        if (setsid() < 0 || ioctl(writer, TIOCSCTTY, 0) < 0) _exit(126);
    }
};

// Ctrl-C ends the test run at once, even if a shell started it in the background, where it ignores
// SIGINT. The servers receive SIGINT as well, and are killed at last with their parent.
inline const auto inherited = signal(SIGINT, SIG_DFL);

struct Exit {
    int status = -1;  // exit status, or -signal
    std::string output, errors;
};

// A child process with its standard output and error on pipes, and with no signal ignored.
// `prepare` runs in the child, before exec(). A process that is left running is killed.
struct Process {
    explicit Process(std::vector<std::string> arguments, std::function<void()> prepare = {}) {
        pid = fork();
        if (pid < 0) throw system_error("fork");
        if (pid == 0) {
            dup2(output_.writer, STDOUT_FILENO);
            dup2(errors_.writer, STDERR_FILENO);
            for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (prepare) prepare();
            std::vector<char*> argv;
            for (std::string& argument : arguments) argv.push_back(argument.data());
            argv.push_back(nullptr);
            execvp(argv[0], argv.data());
            _exit(127);
        }
        output_.writer.close();
        errors_.writer.close();
    }
    ~Process() {
        if (pid <= 0) return;
        kill(pid, std::getenv("MAINTD_LET_EXIT") ? SIGTERM : SIGKILL);  // Coverage needs an exit.
        waitpid(pid, nullptr, 0);
    }

    // Returns the next line of standard error without its newline. Throws if none comes.
    std::string error_line(std::chrono::milliseconds limit = patience) {
        if (!errors_.read_until("\n", limit))
            throw std::runtime_error("no line of standard error in time, only: " + errors_.text);
        const std::size_t newline = errors_.text.find('\n');
        const std::string line = errors_.text.substr(0, newline);
        errors_.text.erase(0, newline + 1);
        return line;
    }

    void send_signal(int number) const { kill(pid, number); }

    // Waits for the end. Throws if it does not come.
    Exit wait(std::chrono::milliseconds limit = patience) {
        int status = 0;
        const auto ended = [&] { return waitpid(pid, &status, WNOHANG) == pid; };
        if (!eventually(ended, limit)) throw std::runtime_error("the process does not end");
        pid = -1;
        while (output_.read_some()) continue;
        while (errors_.read_some()) continue;
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), output_.text,
                errors_.text};
    }

    bool runs() const { return pid > 0 && status_field("State").front() != 'Z'; }

    // What the kernel says of the process: a field of /proc/PID/status, descriptors, CPU seconds.
    std::string status_field(const std::string& name) const {
        const std::string all = "\n" + file_content("/proc/" + std::to_string(pid) + "/status");
        const std::size_t line = all.find("\n" + name + ":");
        if (line == all.npos) throw std::runtime_error("no field " + name);
        const std::size_t value = all.find_first_not_of(" \t", line + name.size() + 2);
        return all.substr(value, all.find('\n', value) - value);
    }
    long resident_kilobytes() const { return std::stol(status_field("VmRSS")); }
    std::size_t descriptors() const {
        const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
        return static_cast<std::size_t>(std::distance(begin(all), end(all)));
    }
    double cpu_seconds() const {
        clockid_t clock{};
        timespec used{};
        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
            throw system_error("CPU time");
        return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
    }

    pid_t pid = -1;

  private:
    Pipe output_, errors_;
};

// Runs a program to its end.
inline Exit run(std::vector<std::string> arguments, std::function<void()> prepare = {}) {
    return Process(std::move(arguments), std::move(prepare)).wait(60s);
}

// Returns the port in maintd's first line, which names a URL: "... on http://localhost:8080/ ...".
inline std::uint16_t port_in(const std::string& line) {
    if (!line.starts_with("maintd: serving ")) throw std::runtime_error("no first line: " + line);
    const std::size_t colon = line.rfind(':', line.rfind('/'));
    return static_cast<std::uint16_t>(std::stoi(line.substr(colon + 1)));
}

// A maintd that serves, on a free port unless the options name one.
struct Maintd : Process {
    explicit Maintd(std::vector<std::string> options = {}, std::function<void()> prepare = {})
        : Process(command(std::move(options)), std::move(prepare)),
          first_line(error_line()),
          port(port_in(first_line)) {}

    // Asks it to stop. Returns how it ended, with its last line in `errors`.
    Exit stop(int number = SIGTERM) {
        send_signal(number);
        return wait();
    }

    std::string first_line;
    std::uint16_t port;

  private:
    // MAINTD_WRAPPER may name a program that runs the binary, for example "valgrind -q".
    static std::vector<std::string> command(std::vector<std::string> options) {
        const char* wrapper = std::getenv("MAINTD_WRAPPER");
        std::istringstream words(wrapper != nullptr ? wrapper : "");
        std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
        all.insert(all.end(), {maintd_path(), "-p", "0"});
        all.insert(all.end(), options.begin(), options.end());
        return all;
    }
};

// Returns a port that was free a moment ago.
inline std::uint16_t free_port() { return Maintd().port; }

// What a client got, and how it ended: by the server's FIN, by a reset, or not in time.
enum class End { clean, reset, none };
struct Reply {
    std::string bytes;
    End end = End::none;

    std::string header() const { return bytes.substr(0, bytes.find("\r\n\r\n") + 4); }
    std::string body() const {
        const std::size_t blank = bytes.find("\r\n\r\n");
        return blank == std::string::npos ? "" : bytes.substr(blank + 4);
    }
};

// A connection to a numeric address. Its calls have timeouts, which turn a hang into a failure.
struct Client {
    explicit Client(std::uint16_t port, int receive_buffer = 0, const char* to = "127.0.0.1") {
        sockaddr_in v4{};
        sockaddr_in6 v6{};
        v4.sin_family = AF_INET;
        v6.sin6_family = AF_INET6;
        v4.sin_port = v6.sin6_port = htons(port);
        const bool is_v4 = inet_pton(AF_INET, to, &v4.sin_addr) == 1;
        if (!is_v4 && inet_pton(AF_INET6, to, &v6.sin6_addr) != 1) throw system_error(to);
        const auto any =
            is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
        socket_ = socket(any->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (receive_buffer > 0)
            setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        const int on = 1;  // Every send() leaves at once, as a packet of its own.
        setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(socket_, any, is_v4 ? sizeof v4 : sizeof v6) < 0) throw system_error("connect");
    }

    int descriptor() const { return socket_; }

    // Sends all of `bytes`. Returns false if the server does not take them.
    bool send(std::string_view bytes, std::chrono::milliseconds limit = patience) {
        const auto end = Clock::now() + limit;
        while (!bytes.empty() && socket_.is_ready(POLLOUT, end)) {
            const ssize_t size =
                ::send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (size < 0 && errno != EAGAIN) return false;
            bytes.remove_prefix(static_cast<std::size_t>(std::max(size, ssize_t{0})));
        }
        return bytes.empty();
    }

    void half_close() { shutdown(socket_, SHUT_WR); }

    // Closes with a reset, as a client that crashes.
    void abort() {
        const linger at_once{1, 0};
        setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        socket_.close();
    }

    // Whether anything, or the end of the stream, can be read within `limit`.
    bool readable(std::chrono::milliseconds limit) const {
        return socket_.is_ready(POLLIN, Clock::now() + limit);
    }

    // Receives until the end of the stream.
    Reply receive_all(std::chrono::milliseconds limit = patience) {
        Reply reply;
        const auto end = Clock::now() + limit;
        std::vector<char> bytes(1 << 16);
        while (socket_.is_ready(POLLIN, end)) {
            const ssize_t size = recv(socket_, bytes.data(), bytes.size(), 0);
            if (size <= 0) {
                reply.end = size == 0 ? End::clean : End::reset;
                break;
            }
            reply.bytes.append(bytes.data(), static_cast<std::size_t>(size));
        }
        return reply;
    }

    Reply ask(std::string_view request, std::chrono::milliseconds limit = patience) {
        send(request, limit);
        return receive_all(limit);
    }

  private:
    Descriptor socket_;
};

// A browser's request, and what a browser gets for it.
inline const std::string get = "GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n";
inline const std::string head = "HEAD / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n";

inline Reply visit(std::uint16_t port) { return Client(port).ask(get); }

// Whether `reply` is exactly one whole 503 with `page`, or HEAD's header alone, and a clean end.
inline bool is_whole(const Reply& reply, std::string_view page, bool head_only = false) {
    return reply.end == End::clean &&
           reply.header().starts_with("HTTP/1.1 503 Service Unavailable\r\n") &&
           reply.header().find("\r\nContent-Length: " + std::to_string(page.size()) + "\r\n") !=
               std::string::npos &&
           reply.body() == (head_only ? "" : page);
}

inline std::string built_in_page() { return file_content("maintenance.html"); }

}  // namespace fixture
