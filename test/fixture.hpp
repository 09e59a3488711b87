// The fixture of all tests that talk to a running maintd. Maintd starts the real binary on a free
// port, which it reads from the first line. Client is a visitor, as good or bad as a test wants.
// Every wait is for an event, and ends at a deadline.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace fixture {

using namespace std::chrono_literals;
using namespace std::string_literals;
using Clock = std::chrono::steady_clock;

// For what comes at once unless the machine is busy. After 10 s maintd responds to anything.
constexpr auto patience = 8s;

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits until `condition` holds. Returns whether it did before `limit` was over.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds limit = patience) {
    bool holds = condition();
    for (const auto end = Clock::now() + limit; !holds && Clock::now() < end;
         holds = condition())
        std::this_thread::sleep_for(2ms);
    return holds;
}

// Calls work(0) to work(count - 1) at the same time, and returns what they return: Catch2 allows no
// assertion in a thread.
template <typename Work>
auto together(int count, Work work) {
    std::deque<decltype(work(0))> results(static_cast<std::size_t>(count));
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < results.size(); ++i)
        threads.emplace_back([&, i] { results[i] = work(static_cast<int>(i)); });
    threads.clear();  // This waits until all of them have ended.
    return results;
}

// Whether one of ten tries succeeds. A busy machine can spoil any single measurement of time.
template <typename Attempt>
bool succeeds_once(Attempt attempt) {
    for (int tries = 0; tries < 10; ++tries)
        if (attempt()) return true;
    return false;
}

inline std::runtime_error system_error(const std::string& what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}

inline std::string file_content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string maintd_path() {
    const char* path = std::getenv("MAINTD");
    return path != nullptr ? path : "./maintd";
}

// Owns a descriptor: closes it exactly once.
struct Descriptor {
    int number;
    Descriptor(int opened = -1) : number(opened) {}
    Descriptor(Descriptor&& other) noexcept : number(std::exchange(other.number, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number, other.number);
        return *this;
    }
    ~Descriptor() { ::close(number); }  // This does nothing if the number is -1.
    operator int() const { return number; }
    void close() { Descriptor(std::move(*this)); }

    // Waits for POLLIN or POLLOUT. Returns whether that came before `end`.
    bool is_ready(short event, Clock::time_point end) const {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        pollfd entry{number, event, 0};
        return poll(&entry, 1, static_cast<int>(std::max(left, 0ms).count())) > 0;
    }
};

// Sets how many descriptors this process may have, at most the hard limit. Returns the new limit.
inline rlim_t set_descriptor_limit(rlim_t number) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min(number, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

// A file with the given content that everybody may read. It is removed with the object.
struct TemporaryFile {
    explicit TemporaryFile(std::string_view content) {
        const Descriptor file = mkstemp(path.data());
        if (fchmod(file, 0644) < 0 || !(std::ofstream(path) << content))
            throw system_error(path);
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
    // Reads until `text` contains `part`. Returns whether that came in time.
    bool read_until(const std::string& part) {
        const auto end = Clock::now() + patience;
        while (text.find(part) == text.npos)
            if (!reader.is_ready(POLLIN, end) || !read_some()) return false;
        return true;
    }
    // Removes the next line from `text` and returns it without its newline. Throws if none comes.
    std::string read_line() {
        if (!read_until("\n")) throw std::runtime_error("no line in time, only: " + text);
        const std::size_t newline = text.find('\n');
        const std::string line = text.substr(0, newline);
        text.erase(0, newline + 1);
        return line;
    }
};

inline Channel open_pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) throw system_error("pipe");
    return {ends[0], ends[1]};
}

struct Exit {
    int status;  // or -signal
    std::string output, errors;
};

// A child process with its standard output and error on channels, and with no signal ignored.
// `prepare` runs in the child, before exec(). A process that is left running is killed.
struct Process {
    explicit Process(std::vector<std::string> arguments,
                     const std::function<void()>& prepare = {},
                     Channel channel = open_pipe())
        : errors(std::move(channel)), pid(fork()) {
        if (pid < 0) throw system_error("fork");
        if (pid == 0) {
            dup2(output.writer, STDOUT_FILENO);
            dup2(errors.writer, STDERR_FILENO);
            for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (prepare) prepare();
            std::vector<char*> argv;
            for (std::string& argument : arguments) argv.push_back(argument.data());
            argv.push_back(nullptr);
            execvp(argv[0], argv.data());
            _exit(127);
        }
        output.writer.close();
        errors.writer.close();
    }
    ~Process() {
        if (pid <= 0) return;
        kill(pid, std::getenv("MAINTD_LET_EXIT") ? SIGTERM
                                                 : SIGKILL);  // Coverage needs an exit.
        waitpid(pid, nullptr, 0);
    }

    void send_signal(int number) const { kill(pid, number); }
    bool runs() const { return status_field("State").front() != 'Z'; }

    // Waits for the end. Throws if it does not come.
    Exit wait() {
        int status = 0;
        const auto ended = [&] { return waitpid(pid, &status, WNOHANG) == pid; };
        if (!eventually(ended)) throw std::runtime_error("the process does not end");
        pid = -1;
        while (output.read_some()) continue;
        while (errors.read_some()) continue;
        status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        return {status, output.text, errors.text};
    }

    // What /proc says of the process.
    std::string proc(const char* name) const {
        return "/proc/" + std::to_string(pid) + name;
    }
    std::string status_field(const std::string& name) const {
        std::ifstream file(proc("/status"));
        for (std::string line; std::getline(file, line);)
            if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
        throw std::runtime_error("no field " + name);
    }
    long resident_kilobytes() const { return std::stol(status_field("VmRSS")); }
    std::size_t descriptors() const {
        glob_t found{};
        glob(proc("/fd/*").c_str(), 0, nullptr, &found);
        const std::size_t count = found.gl_pathc;
        globfree(&found);
        return count;
    }
    double cpu_seconds() const {
        return std::stod(file_content(proc("/schedstat"))) / 1e9;
    }
    // Whether it uses less than this share of a core, measured for 0.3 s.
    bool uses_less_than(double share) const {
        const auto start = Clock::now();
        const double before = cpu_seconds();
        std::this_thread::sleep_for(300ms);
        return cpu_seconds() - before < share * seconds_since(start);
    }

    Channel output = open_pipe(), errors;
    pid_t pid;
};

// Runs a program to its end.
inline Exit run(std::vector<std::string> arguments,
                const std::function<void()>& prepare = {}) {
    return Process(std::move(arguments), prepare).wait();
}

// A maintd that serves, on a free port unless the options name one.
struct Maintd : Process {
    explicit Maintd(const std::vector<std::string>& options = {},
                    const std::function<void()>& prepare = {},
                    Channel channel = open_pipe())
        : Process(command(options), prepare, std::move(channel)),
          first_line(errors.read_line()) {
        if (!first_line.starts_with("maintd: serving "))
            throw std::runtime_error(first_line);
        const std::size_t colon =
            first_line.rfind(':', first_line.rfind('/'));  // "...:8080/ ..."
        port = static_cast<std::uint16_t>(std::stoi(first_line.substr(colon + 1)));
    }

    // Asks it to stop. Returns how it ended, with its last line in `errors`.
    Exit stop(int number = SIGTERM) {
        send_signal(number);
        return wait();
    }

    std::string first_line;
    std::uint16_t port = 0;

  private:
    // MAINTD_WRAPPER may name a program that runs the binary, for example "valgrind -q".
    static std::vector<std::string> command(const std::vector<std::string>& options) {
        std::vector<std::string> all{maintd_path(), "-p", "0"};
        all.insert(all.end(), options.begin(), options.end());
        if (std::getenv("MAINTD_WRAPPER") != nullptr)
            all.insert(all.begin(), {"sh", "-c", "exec $MAINTD_WRAPPER \"$0\" \"$@\""});
        return all;
    }
};

inline std::string count_of(unsigned long requests) {
    return "maintd: " + std::to_string(requests) +
           (requests == 1 ? " request" : " requests") + " answered";
}

// Returns the count in the last line. Throws if maintd printed anything else, or did not end well.
inline unsigned long last_count(const Exit& exit) {
    unsigned long count = 0, seconds = 0;
    std::sscanf(exit.errors.c_str(), "maintd: %lu %*s answered in %lu", &count, &seconds);
    const std::string line = count_of(count) + " in " + std::to_string(seconds) + " s";
    const std::string printed = exit.output + exit.errors;
    const bool is_alone =
        printed == line + "\n" || printed == line + "\r\n";  // on a terminal
    if (exit.status != 0 || !is_alone)
        throw std::runtime_error(printed + " (status " + std::to_string(exit.status) +
                                 ")");
    return count;
}

// What a client got. `clean` means that the server's FIN came, and no reset, in time.
struct Reply {
    std::string bytes{};
    bool clean = false;

    std::string header() const { return bytes.substr(0, bytes.find("\r\n\r\n") + 4); }
    std::string body() const { return bytes.substr(header().size()); }
    bool has_field(const std::string& field) const {
        return header().find("\r\n" + field + "\r\n") != std::string::npos;
    }
};

// A connection to a numeric address. Its calls end at a deadline, so that no test hangs.
struct Client {
    explicit Client(std::uint16_t port, int receive_buffer = 0,
                    const char* to = "127.0.0.1") {
        const in_port_t number = htons(port);
        sockaddr_in v4{
            .sin_family = AF_INET, .sin_port = number, .sin_addr{}, .sin_zero{}};
        sockaddr_in6 v6{AF_INET6, number, 0, {}, 0};
        const bool is_v4 = inet_pton(AF_INET, to, &v4.sin_addr) == 1;
        if (!is_v4 && inet_pton(AF_INET6, to, &v6.sin6_addr) != 1) throw system_error(to);
        const int on = 1;  // Every send() leaves at once, as a packet of its own.
        socket_ = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (receive_buffer > 0)
            setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                       sizeof receive_buffer);
        const auto* ip =
            is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
        if (connect(socket_, ip, is_v4 ? sizeof v4 : sizeof v6) < 0)
            throw system_error("connect");
    }

    // Sends all of `bytes`. Returns false if the server does not take them.
    bool send(std::string_view bytes) {
        const auto end = Clock::now() + patience;
        while (!bytes.empty() && socket_.is_ready(POLLOUT, end)) {
            const ssize_t size =
                ::send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (size < 0 && errno != EAGAIN) return false;
            bytes.remove_prefix(static_cast<std::size_t>(std::max(size, ssize_t{0})));
        }
        return bytes.empty();
    }

    int descriptor() const { return socket_; }
    void half_close() { shutdown(socket_, SHUT_WR); }

    // Closes with a reset, like a client that crashes.
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
    Reply receive_all() {
        Reply reply;
        const auto end = Clock::now() + patience;
        std::string bytes(1 << 16, '\0');
        for (ssize_t size = 1; size > 0 && socket_.is_ready(POLLIN, end);) {
            size = recv(socket_, bytes.data(), bytes.size(), 0);
            if (size > 0) reply.bytes.append(bytes, 0, static_cast<std::size_t>(size));
            reply.clean = size == 0;
        }
        return reply;
    }

    Reply ask(std::string_view request) {
        send(request);
        return receive_all();
    }

  private:
    Descriptor socket_;
};

// A browser's request, and what a browser gets for it.
inline const std::string get =
    "GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n";
inline const std::string head =
    "HEAD / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n";

inline Reply visit(std::uint16_t port) { return Client(port).ask(get); }

// Whether `reply` is exactly one whole 503 with `page`, or HEAD's header alone, and a clean end.
inline bool is_whole(const Reply& reply, std::string_view page, bool head_only = false) {
    return reply.clean &&
           reply.header().starts_with("HTTP/1.1 503 Service Unavailable\r\n") &&
           reply.has_field("Content-Length: " + std::to_string(page.size())) &&
           reply.body() == (head_only ? "" : page);
}

inline std::string built_in_page() { return file_content("maintenance.html"); }

// Whether a visitor at this address gets the built-in page.
inline bool is_served(std::uint16_t port, const char* to = "127.0.0.1") {
    try {
        return is_whole(Client(port, 0, to).ask(get), built_in_page());
    } catch (const std::runtime_error&) {
        return false;  // refused
    }
}

}  // namespace fixture
