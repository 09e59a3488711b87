// SPDX-License-Identifier: 0BSD
// The fixture of all tests that talk to a running maintd. Maintd starts the real binary
// on a free port, which it reads from the first line. Client is a visitor, good or bad.
//
// A busy machine makes a test slow, but never makes it fail: each wait is for an event,
// and gives up after minutes. What holds only for some time is tried again (in_time).
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
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
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"

namespace fixture {

using namespace std::chrono_literals;
using namespace std::string_literals;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds patience = 10min;

inline double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits until `condition` holds. Returns whether it did before `patience` was over.
template <typename Condition>
bool eventually(Condition condition) {
    const auto end = Clock::now() + patience;
    while (!condition()) {
        if (Clock::now() > end) return false;
        std::this_thread::sleep_for(2ms);
    }
    return true;
}

// Calls work(0) to work(count - 1) at the same time, and returns what they return. Catch2
// allows no assertion in a thread.
template <typename Work>
auto together(int count, Work work) {
    std::deque<decltype(work(0))> results(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < results.size(); ++i)
        threads.emplace_back([&, i] { results[i] = work(static_cast<int>(i)); });
    for (std::thread& each : threads) each.join();
    return results;
}

// Judges what holds only for some time. An attempt returns what is wrong, or "". If
// something was wrong and it took longer than `limit` seconds, which only a busy machine
// or a fault can cause, it is tried again, for a minute.
template <typename Attempt>
std::string in_time(double limit, Attempt attempt) {
    for (const auto begin = Clock::now();;) {
        const auto start = Clock::now();
        const std::string wrong = attempt();
        if (wrong.empty() || seconds_since(start) < limit || seconds_since(begin) > 60)
            return wrong;
    }
}

inline std::runtime_error system_error(const std::string& what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}
inline std::string file_content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline const char* const maintd_path =
    std::getenv("MAINTD") != nullptr ? std::getenv("MAINTD") : "./maintd";

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

    // Whether anything, or the end, can be read within `limit`.
    bool readable(std::chrono::milliseconds limit = 0ms) const {
        pollfd entry{number, POLLIN, 0};
        return number >= 0 && poll(&entry, 1, static_cast<int>(limit.count())) > 0;
    }
};

// Sets how many descriptors this process may have, if it may. Returns the new limit.
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

    // Reads until `text` contains `part`. Returns false if that does not come.
    bool read_until(const std::string& part) {
        char bytes[4096];
        while (text.find(part) == text.npos) {
            const ssize_t size =
                reader.readable(patience) ? read(reader, bytes, sizeof bytes) : 0;
            if (size <= 0) return false;
            text.append(bytes, bytes + size);
        }
        return true;
    }
    // Takes the next line from `text`, without its newline. Throws if none comes.
    std::string read_line() {
        if (!read_until("\n")) throw std::runtime_error("no line, only: " + text);
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

// A child process with standard output and error on channels, and with no signal ignored.
// `prepare` runs in the child, before exec(). What is left running is killed.
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
            std::vector<char*> argv;
            for (std::string& argument : arguments) argv.push_back(argument.data());
            argv.push_back(nullptr);
            if (prepare) prepare();
            execvp(argv[0], argv.data());
            _exit(127);
        }
        output.writer.close();
        errors.writer.close();
    }
    ~Process() {
        if (pid <= 0) return;
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
    }

    void send_signal(int number) const { kill(pid, number); }

    // Waits for the end. Throws if it does not come.
    Exit wait() {
        int status = 0;
        if (!eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }))
            throw std::runtime_error("the process does not end");
        pid = -1;
        for (Channel* channel : {&output, &errors}) channel->read_until("\0"s);
        status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        return {status, output.text, errors.text};
    }

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
        const std::filesystem::directory_iterator all(proc("/fd"));
        return static_cast<std::size_t>(std::distance(begin(all), end(all)));
    }
    Channel output = open_pipe(), errors;
    pid_t pid;
};

// Whether a process uses the processor for 50 ms without going to sleep once.
inline bool spins(const Process& process) {
    const auto sleeps = [&] { return process.status_field("voluntary_ctxt_switches"); };
    const auto used = [&] { return std::stod(file_content(process.proc("/schedstat"))); };
    const std::string before = sleeps();
    const double limit = used() + 50e6;  // ns
    eventually([&] { return sleeps() != before || used() > limit; });
    return sleeps() == before;
}

// A maintd that serves, on a free port unless the options name one. MAINTD_WRAPPER may
// name a program that runs the binary, for example "qemu-aarch64-static".
struct Maintd : Process {
    explicit Maintd(const std::vector<std::string>& options = {},
                    const std::function<void()>& prepare = {},
                    Channel channel = open_pipe())
        : Process(command(options), prepare, std::move(channel)),
          first_line(errors.read_line()) {
        if (!first_line.starts_with("maintd: serving "))
            throw std::runtime_error(first_line);
        const std::size_t slash = first_line.rfind('/');  // "...:8080/ ..."
        port = static_cast<std::uint16_t>(
            std::stoi(first_line.substr(first_line.rfind(':', slash) + 1)));
    }

    // Stops it until SIGCONT, so that only the kernel deals with its clients.
    void pause() const {
        send_signal(SIGSTOP);
        eventually([&] { return status_field("State").starts_with("T"); });
    }

    // Asks it to stop. Returns how it ended, with its last line in `errors`.
    Exit stop(int number = SIGTERM) {
        send_signal(number);
        return wait();
    }

    std::string first_line;
    std::uint16_t port = 0;

  private:
    static std::vector<std::string> command(const std::vector<std::string>& options) {
        std::vector<std::string> all{maintd_path, "-p", "0"};
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

// Returns the count in the last line. Throws if there is more, or the status is not 0.
inline unsigned long last_count(const Exit& exit) {
    unsigned long count = 0, seconds = 0;
    std::sscanf(exit.errors.c_str(), "maintd: %lu %*s answered in %lu", &count, &seconds);
    std::string printed = exit.output + exit.errors;
    std::erase(printed, '\r');  // which a terminal adds
    if (exit.status != 0 ||
        printed != count_of(count) + " in " + std::to_string(seconds) + " s\n")
        throw std::runtime_error(printed + " (" + std::to_string(exit.status) + ")");
    return count;
}

// What a client got. `clean` means that the server's FIN came, and no reset.
struct Reply {
    std::string bytes{};
    bool clean = false;

    std::string header() const { return bytes.substr(0, bytes.find("\r\n\r\n") + 4); }
    std::string body() const { return bytes.substr(header().size()); }
    bool has_field(const std::string& field) const {
        return header().find("\r\n" + field + "\r\n") != std::string::npos;
    }
};

// A connection, or -1 if it was refused. No call waits for longer than `patience`.
struct Client : Descriptor {
    explicit Client(std::uint16_t port, int receive_buffer = 0,
                    const char* to = "127.0.0.1") {
        addrinfo hints{}, *found = nullptr;
        hints.ai_flags = AI_NUMERICHOST;
        hints.ai_socktype = SOCK_STREAM;
        if (getaddrinfo(to, std::to_string(port).c_str(), &hints, &found) != 0)
            throw std::runtime_error(to);
        number = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;  // Every send() leaves at once, as a packet of its own.
        const timeval limit{patience / 1s, 0};
        setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (receive_buffer > 0)
            setsockopt(number, SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                       sizeof receive_buffer);
        if (connect(number, found->ai_addr, found->ai_addrlen) < 0) close();
        freeaddrinfo(found);
    }

    // Sends all of `bytes`. Returns false if the server does not take them.
    bool send(std::string_view bytes) {
        const ssize_t size = ::send(number, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        return size == static_cast<ssize_t>(bytes.size());
    }

    // Closes with a reset, like a client that crashes.
    void abort() {
        const linger at_once{1, 0};
        setsockopt(number, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close();
    }

    // Receives until the end of the stream.
    Reply receive_all() {
        Reply reply;
        char bytes[1 << 16];
        ssize_t size = 0;
        while ((size = recv(number, bytes, sizeof bytes, 0)) > 0)
            reply.bytes.append(bytes, bytes + size);
        reply.clean = size == 0;
        return reply;
    }
    Reply ask(std::string_view request) {
        send(request);
        return receive_all();
    }
};

// A browser's request, and what a browser gets for it.
inline const std::string get =
    "GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n";
inline const std::string head = "HEAD" + get.substr(3);

inline Reply visit(std::uint16_t port) { return Client(port).ask(get); }

// Whether `reply` is one whole 503 with `page`, or HEAD's header alone, and a clean end.
inline bool is_whole(const Reply& reply, std::string_view page, bool head_only = false) {
    return reply.clean &&
           reply.header().starts_with("HTTP/1.1 503 Service Unavailable\r\n") &&
           reply.has_field("Content-Length: " + std::to_string(page.size())) &&
           reply.body() == (head_only ? "" : page);
}

inline const std::string built_in_page = file_content("maintenance.html");

// Whether a visitor at this address gets the built-in page.
inline bool is_served(std::uint16_t port, const char* to = "127.0.0.1") {
    return is_whole(Client(port, 0, to).ask(get), built_in_page);
}

}  // namespace fixture
