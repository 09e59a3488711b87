// The fixture of all tests that talk to a running maintd: Maintd starts the real binary on a free
// port, which it reads from the first line; Client is a visitor, as good or bad as a test wants.
// Nothing here sleeps for a fixed time: every wait is for an event, and ends at a deadline.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <optional>
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

// How long a test waits for what should come at once. Generous: a busy machine is not a failure.
constexpr auto patience = 10s;

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits until `condition` holds; returns whether it did before `limit` was over.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds limit = patience) {
    const auto end = Clock::now() + limit;
    while (!condition()) {
        if (Clock::now() > end) return false;
        std::this_thread::sleep_for(2ms);
    }
    return true;
}

// Calls work(0) to work(count - 1) at the same time, each in a thread; returns what they return.
// Assertions are not for threads (Catch2): check the results.
template <typename Work>
auto together(int count, Work work) {
    std::vector<std::future<decltype(work(0))>> futures;
    for (int i = 0; i < count; ++i) futures.push_back(std::async(std::launch::async, work, i));
    std::vector<decltype(work(0))> results;
    for (auto& each : futures) results.push_back(each.get());
    return results;
}

inline std::runtime_error system_error(const std::string& what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}

inline std::string file_content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

// The binary under test: "./maintd", or what the environment says.
inline std::string maintd_path() {
    const char* path = std::getenv("MAINTD");
    return path != nullptr ? path : "./maintd";
}

// What runs the binary, if anything: the words of an environment variable, "valgrind -q" say.
inline std::vector<std::string> maintd_wrapper() {
    const char* command = std::getenv("MAINTD_WRAPPER");
    std::istringstream words(command != nullptr ? command : "");
    std::vector<std::string> all;
    for (std::string word; words >> word;) all.push_back(word);
    return all;
}

// A file with the given content, gone with the object; readable for everybody.
class TemporaryFile {
  public:
    explicit TemporaryFile(std::string_view content) {
        std::string name = "/tmp/maintd-test-XXXXXX";
        const int file = mkstemp(name.data());
        if (file < 0) throw system_error("mkstemp");
        path = name;
        fchmod(file, 0644);
        while (!content.empty()) {
            const ssize_t size = write(file, content.data(), content.size());
            if (size < 0) throw system_error("write");
            content.remove_prefix(static_cast<std::size_t>(size));
        }
        close(file);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    ~TemporaryFile() { unlink(path.c_str()); }

    std::string path;
};

struct Exit {
    int status = -1;  // exit status, or -signal
    std::string output;
    std::string errors;
};

// A child process with its standard output and error on pipes. `prepare` runs in the child, before
// exec(): limits, descriptors, ids. A process that is left running is killed.
class Process {
  public:
    explicit Process(std::vector<std::string> arguments, std::function<void()> prepare = {}) {
        int out[2];
        int err[2];
        if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) throw system_error("pipe");
        pid = fork();
        if (pid < 0) throw system_error("fork");
        if (pid == 0) {
            dup2(out[1], STDOUT_FILENO);
            dup2(err[1], STDERR_FILENO);
            if (prepare) prepare();
            std::vector<char*> argv;
            for (std::string& argument : arguments) argv.push_back(argument.data());
            argv.push_back(nullptr);
            execvp(argv[0], argv.data());
            _exit(127);
        }
        close(out[1]);
        close(err[1]);
        out_ = out[0];
        err_ = err[0];
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() {
        if (pid > 0) {
            if (std::getenv("MAINTD_LET_EXIT") != nullptr) {  // coverage is counted at the exit
                kill(pid, SIGTERM);
                eventually([this] { return !runs(); }, 3s);
            }
            kill(pid, SIGKILL);
            waitpid(pid, nullptr, 0);
        }
        close(out_);
        close(err_);
    }

    // Returns the next line of standard error without its newline; throws where none comes.
    std::string error_line(std::chrono::milliseconds limit = patience) {
        const auto end = Clock::now() + limit;
        for (;;) {
            const std::size_t newline = errors_.find('\n');
            if (newline != std::string::npos) {
                const std::string line = errors_.substr(0, newline);
                errors_.erase(0, newline + 1);
                return line;
            }
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
            pollfd entry{err_, POLLIN, 0};
            if (left <= 0ms || poll(&entry, 1, static_cast<int>(left.count())) <= 0)
                throw std::runtime_error("no line of standard error in time, only: " + errors_);
            if (!read_some(err_, errors_))
                throw std::runtime_error("standard error ended with: " + errors_);
        }
    }

    void send_signal(int number) const { kill(pid, number); }

    // Waits for the end; throws where it does not come.
    Exit wait(std::chrono::milliseconds limit = patience) {
        int status = 0;
        std::string output;
        const auto ended = [&] { return waitpid(pid, &status, WNOHANG) == pid; };
        if (!eventually(ended, limit)) throw std::runtime_error("the process does not end");
        pid = -1;
        while (read_some(out_, output)) {
        }
        while (read_some(err_, errors_)) {
        }
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), output, errors_};
    }

    bool runs() const {
        siginfo_t ended{};  // the end is left for wait() to see
        return pid > 0 &&
               waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               ended.si_pid == 0;
    }

    // What the kernel says of the process: a field of /proc/PID/status, descriptors, CPU seconds.
    std::string status_field(const std::string& name) const {
        std::istringstream lines(file_content("/proc/" + std::to_string(pid) + "/status"));
        for (std::string line; std::getline(lines, line);)
            if (line.starts_with(name + ":")) {
                const std::size_t value = line.find_first_not_of(" \t", name.size() + 1);
                return value == std::string::npos ? "" : line.substr(value);
            }
        throw std::runtime_error("no field " + name);
    }
    long resident_kilobytes() const { return std::stol(status_field("VmRSS")); }
    std::size_t descriptors() const {
        const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
        return static_cast<std::size_t>(std::distance(begin(all), end(all)));
    }
    double cpu_seconds() const {
        std::string stat = file_content("/proc/" + std::to_string(pid) + "/stat");
        std::istringstream fields(stat.substr(stat.rfind(')') + 2));
        std::string skipped;
        for (int field = 3; field < 14; ++field) fields >> skipped;
        double user = 0;
        double system = 0;
        fields >> user >> system;
        return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
    }

    pid_t pid = -1;

  private:
    static bool read_some(int descriptor, std::string& text) {
        char bytes[4096];
        const ssize_t size = read(descriptor, bytes, sizeof bytes);
        if (size > 0) text.append(bytes, static_cast<std::size_t>(size));
        return size > 0;
    }

    int out_ = -1;
    int err_ = -1;
    std::string errors_;
};

// Runs a program to its end.
inline Exit run(std::vector<std::string> arguments, std::function<void()> prepare = {}) {
    Process process(std::move(arguments), std::move(prepare));
    return process.wait(60s);
}

// A maintd that serves. Its options are those given and "-p 0", unless they name a port.
class Maintd : public Process {
  public:
    explicit Maintd(std::vector<std::string> options = {}, std::function<void()> prepare = {})
        : Process(command(std::move(options)), std::move(prepare)), first_line(error_line()) {
        const std::size_t colon = first_line.rfind(':');
        if (!first_line.starts_with("maintd: serving ") || first_line.back() != '/')
            throw std::runtime_error("not a first line: " + first_line);
        port = static_cast<std::uint16_t>(std::stoi(first_line.substr(colon + 1)));
    }

    // Asks it to stop; returns how it ended, with its last line in `errors`.
    Exit stop(int number = SIGTERM) {
        send_signal(number);
        return wait();
    }

    std::string first_line;
    std::uint16_t port = 0;

  private:
    static std::vector<std::string> command(std::vector<std::string> options) {
        std::vector<std::string> all{maintd_path()};
        bool port_given = false;
        for (std::string& option : options) {
            port_given = port_given || option.starts_with("-p");
            all.push_back(std::move(option));
        }
        if (!port_given) all.insert(all.begin() + 1, {"-p", "0"});
        const std::vector<std::string> wrapper = maintd_wrapper();
        all.insert(all.begin(), wrapper.begin(), wrapper.end());
        return all;
    }
};

// What a client got: all bytes up to the end of the stream, and whether that end was clean (the
// server's FIN) or a reset, or did not come in time.
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

// A connection to the given numeric address, blocking, with time-outs that turn a hang into a
// failure.
class Client {
  public:
    explicit Client(std::uint16_t port, int receive_buffer = 0, const char* to = "127.0.0.1") {
        sockaddr_in v4{};
        sockaddr_in6 v6{};
        v4.sin_family = AF_INET;
        v6.sin6_family = AF_INET6;
        v4.sin_port = v6.sin6_port = htons(port);
        const bool is_v4 = inet_pton(AF_INET, to, &v4.sin_addr) == 1;
        if (!is_v4 && inet_pton(AF_INET6, to, &v6.sin6_addr) != 1) throw system_error(to);
        const auto address =
            is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
        socket_ = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (socket_ < 0) throw system_error("socket");
        if (receive_buffer > 0)
            setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (connect(socket_, address, is_v4 ? sizeof v4 : sizeof v6) < 0) {
            const auto error = system_error("connect");
            close(socket_);
            throw error;
        }
    }
    Client(Client&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
    Client& operator=(Client&& other) noexcept {
        std::swap(socket_, other.socket_);
        return *this;
    }
    ~Client() {
        if (socket_ >= 0) close(socket_);
    }

    int descriptor() const { return socket_; }

    // Sends all of `bytes`; returns false when the server does not take them.
    bool send(std::string_view bytes, std::chrono::milliseconds limit = patience) {
        const auto end = Clock::now() + limit;
        while (!bytes.empty()) {
            pollfd entry{socket_, POLLOUT, 0};
            if (Clock::now() > end || poll(&entry, 1, 100) < 0) return false;
            const ssize_t size =
                ::send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (size < 0 && errno != EAGAIN) return false;
            if (size > 0) bytes.remove_prefix(static_cast<std::size_t>(size));
        }
        return true;
    }

    void half_close() { shutdown(socket_, SHUT_WR); }

    // Closes with a reset, as a client that crashes.
    void abort() {
        const linger at_once{1, 0};
        setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(std::exchange(socket_, -1));
    }

    // Whether anything, be it the end of the stream, can be read within `limit`.
    bool readable(std::chrono::milliseconds limit) {
        pollfd entry{socket_, POLLIN, 0};
        return poll(&entry, 1, static_cast<int>(limit.count())) > 0;
    }

    // Receives until the end of the stream.
    Reply receive_all(std::chrono::milliseconds limit = patience) {
        Reply reply;
        const auto end = Clock::now() + limit;
        std::vector<char> bytes(1 << 16);
        for (;;) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
            if (left <= 0ms || !readable(left)) return reply;
            const ssize_t size = recv(socket_, bytes.data(), bytes.size(), 0);
            if (size > 0) {
                reply.bytes.append(bytes.data(), static_cast<std::size_t>(size));
                continue;
            }
            reply.end = size == 0 ? End::clean : End::reset;
            return reply;
        }
    }

    Reply ask(std::string_view request, std::chrono::milliseconds limit = patience) {
        send(request, limit);
        return receive_all(limit);
    }

  private:
    int socket_ = -1;
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
