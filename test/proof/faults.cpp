// Every system call that maintd makes fails here, once and for good, at each place, with each error
// that its Linux manual page names. test/proof/inject.so, preloaded into the real binary, sees to it.
//
// At start: one clear line and exit status 1, or the server does without. While serving: nothing
// ends it, spins it or leaks, and no visitor is lost but the one whose own connection failed.
#include <pty.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>

#include "../catch.hpp"
#include "../fixture.hpp"
#include "inject.hpp"

using namespace fixture;

namespace {

using inject::for_ever;
using inject::one_byte;
using inject::succeed;
using Errors = std::vector<int>;

// ---- What the manual pages name -----------------------------------------------------------------

// Section 2 of the Linux manual, its errors for sockets, files and pipes of any kind included.
// EWOULDBLOCK is EAGAIN, and comes once.
const Errors socket_errors = {EACCES, EAFNOSUPPORT, EINVAL, EMFILE,
                              ENFILE, ENOBUFS,      ENOMEM, EPROTONOSUPPORT};
const Errors setsockopt_errors = {EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK, ENOMEM};
const Errors bind_errors = {EACCES, EADDRINUSE,   EBADF,  EINVAL, ENOTSOCK, EADDRNOTAVAIL, EFAULT,
                            ELOOP,  ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR,  EROFS,         ENODEV};
const Errors listen_errors = {EADDRINUSE, EBADF, ENOTSOCK, EOPNOTSUPP};
const Errors getsockname_errors = {EBADF, EFAULT, EINVAL, ENOBUFS, ENOTSOCK};
const Errors open_errors = {EACCES, EBADF,     EBUSY,  EDQUOT,  EEXIST,     EFAULT, EFBIG,
                            EINTR,  EINVAL,    EISDIR, ELOOP,   EMFILE,     ENFILE, ENAMETOOLONG,
                            ENODEV, ENOENT,    ENOMEM, ENOSPC,  ENOTDIR,    ENXIO,  EOPNOTSUPP,
                            EPERM,  EOVERFLOW, EROFS,  ETXTBSY, EWOULDBLOCK};
const Errors read_errors = {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR};
const Errors pipe_errors = {EFAULT, EINVAL, EMFILE, ENFILE};
const Errors setgroups_errors = {EFAULT, EINVAL, ENOMEM, EPERM};
const Errors setgid_errors = {EINVAL, EPERM};
const Errors setuid_errors = {EAGAIN, EINVAL, EPERM};
const Errors sigaction_errors = {EFAULT, EINVAL};
const Errors fcntl_errors = {EACCES, EAGAIN, EBADF,  EBUSY,  EDEADLK, EFAULT,
                             EINTR,  EINVAL, EMFILE, ENOLCK, ENOTDIR, EPERM};
const Errors rlimit_errors = {EFAULT, EINVAL, EPERM};
const Errors poll_errors = {EFAULT, EINTR, EINVAL, ENOMEM};
const Errors recv_errors = {EAGAIN, EBADF,    ECONNREFUSED, EFAULT,    EINTR,      EINVAL,
                            ENOMEM, ENOTCONN, ENOTSOCK,     ETIMEDOUT, ECONNRESET, ENOBUFS};
const Errors send_errors = {EACCES, EAGAIN,   EALREADY, EBADF,      ECONNRESET, EDESTADDRREQ,
                            EFAULT, EINTR,    EINVAL,   EISCONN,    EMSGSIZE,   ENOBUFS,
                            ENOMEM, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE,      ETIMEDOUT};
const Errors shutdown_errors = {EBADF, EINVAL, ENOTCONN, ENOTSOCK};
const Errors close_errors = {EBADF, EINTR, EIO, ENOSPC, EDQUOT};
const Errors write_errors = {EAGAIN, EBADF,  EDESTADDRREQ, EDQUOT, EFAULT, EFBIG,
                             EINTR,  EINVAL, EIO,          ENOSPC, EPERM,  EPIPE};
const Errors isatty_errors = {EBADF, ENOTTY};
const Errors nanosleep_errors = {EFAULT, EINTR, EINVAL};

// accept() has three kinds. The first comes again when tried again, or is that of one client or its
// network, which Linux passes through; the second is a shortage; after the third there is no
// listener any more.
const Errors accept_errors = {
    EAGAIN,          ECONNABORTED, EINTR,  EPERM,        EPROTO,      EOPNOTSUPP, ENETDOWN,
    ENOPROTOOPT,     EHOSTDOWN,    ENONET, EHOSTUNREACH, ENETUNREACH, ENOSR,      ESOCKTNOSUPPORT,
    EPROTONOSUPPORT, ETIMEDOUT,    EMFILE, ENFILE,       ENOBUFS,     ENOMEM};
const Errors listener_errors = {EBADF, EFAULT, EINVAL, ENOTSOCK};

std::string name_of(int error) {
    return error == one_byte ? "one byte"s : error == succeed ? "pretence"s : std::strerror(error);
}

// ---- Faults -------------------------------------------------------------------------------------

// So many plans came to a fault, each with one or, if it lasts, many; said at the end.
struct Total {
    std::atomic<unsigned long> plans{0};
    ~Total() { std::printf("%lu different faults were injected\n", plans.load()); }
} total;

// A plan in shared memory, and what a server needs to follow it.
class Fault {
  public:
    Fault() : file_(std::string(sizeof(inject::Plan), '\0')) {
        const int file = open(file_.path.c_str(), O_RDWR | O_CLOEXEC);
        void* memory =
            mmap(nullptr, sizeof(inject::Plan), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory == MAP_FAILED) throw system_error("mmap");
        plan_ = static_cast<inject::Plan*>(memory);
    }
    Fault(const std::string& call, int error, unsigned long first, unsigned long last) : Fault() {
        arm(call, error, first, last);
    }
    Fault(const Fault&) = delete;
    ~Fault() {
        disarm();
        munmap(plan_, sizeof(inject::Plan));
    }

    // From now on the calls `first` to `last` fail, counted from 1.
    void arm(const std::string& call, int error, unsigned long first, unsigned long last) {
        disarm();
        call.copy(plan_->call, sizeof plan_->call - 1);
        plan_->call[call.size()] = '\0';
        plan_->error = error;
        plan_->first = first;
        plan_->last = last;
        plan_->calls = 0;
        plan_->hits = 0;
        plan_->armed = true;
    }
    void disarm() {
        if (plan_->armed.exchange(false) && plan_->hits > 0) ++total.plans;
    }
    void limit_send_buffer(int bytes) { plan_->send_buffer = bytes; }

    unsigned long hits() const { return plan_->hits; }
    unsigned long polls() const { return plan_->polls; }
    std::uint16_t port() const { return static_cast<std::uint16_t>(plan_->port); }

    // Runs in the child, before exec().
    void prepare() const {
        setenv("LD_PRELOAD", std::filesystem::absolute("test/proof/inject.so").c_str(), 1);
        setenv(inject::variable, file_.path.c_str(), 1);
    }

  private:
    TemporaryFile file_;
    inject::Plan* plan_ = nullptr;
};

// ---- Many at a time -----------------------------------------------------------------------------

// Most of a case's time is waiting, so several run at a time. Catch2 is for one thread only: a case
// throws where it fails, and the test asserts that none did.
struct Case {
    std::string name;
    std::function<void()> body;
};

void expect(bool condition, const std::string& otherwise) {
    if (!condition) throw std::runtime_error(otherwise);
}

std::vector<std::string> failures_of(const std::vector<Case>& cases, unsigned at_a_time = 8) {
    std::vector<std::string> failures;
    std::mutex mutex;
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t i; (i = next++) < cases.size();) try {
                cases[i].body();
            } catch (const std::exception& error) {
                const std::scoped_lock lock(mutex);
                failures.push_back(cases[i].name + ": " + error.what());
            }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < at_a_time; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    std::sort(failures.begin(), failures.end());
    return failures;
}

const std::vector<std::string> none;

// ---- The server, and what is measured of it -----------------------------------------------------

// A page that does not fit into the send buffer that the tests allow: connections stay in writing.
constexpr int small_send_buffer = 8192;
const std::string page(100'000, 'x');
const TemporaryFile page_file(page);

// A server that follows a plan. Its port is known from the injector: the line may have failed.
class Server : public Process {
  public:
    explicit Server(Fault& fault, std::vector<std::string> options = {"-p", "0"},
                    std::function<void()> prepare = {})
        : Process(command(std::move(options)),
                  [&fault, prepare] {
                      if (prepare) prepare();
                      fault.prepare();
                  }),
          fault_(fault) {}

    // Waits until clients can connect.
    void await() {
        expect(eventually([&] { return fault_.port() != 0 || !runs(); }) && fault_.port() != 0,
               "it has no port: is it linked statically?");
    }

    std::uint16_t port() const { return fault_.port(); }

    Exit stop() {
        send_signal(SIGTERM);
        return wait();
    }

    // Returns the share of a core that it takes while nothing is asked of it.
    double busy_share(std::chrono::milliseconds window) const {
        const Clock::time_point start = Clock::now();
        const double before = cpu_time();
        std::this_thread::sleep_for(window);
        return (cpu_time() - before) / seconds_since(start);
    }

  private:
    static std::vector<std::string> command(std::vector<std::string> options) {
        options.insert(options.begin(), maintd_path());
        options.push_back(page_file.path);
        return options;
    }

    // To the nanosecond, where /proc counts hundredths of a second.
    double cpu_time() const {
        clockid_t clock{};
        timespec time{};
        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) < 0)
            throw std::runtime_error("its time cannot be read");
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    }

    Fault& fault_;
};

// Six visitors, each in a way of his own, so that connections are in every state: plain, HEAD, with
// an upload, with a request in two pieces, with a half-closed one, with no hurry to read.
class Visitors {
  public:
    // Until the whole answer is there, or also until its end is seen.
    enum class Until { whole, closed };

    explicit Visitors(std::uint16_t port) {
        for (std::size_t i = 0; i < count; ++i) clients_.emplace_back(port, i == slow ? 4096 : 0);
        clients_[slow].send(get);
        clients_[pieces].send("GE");
        clients_[plain].send(get);
        clients_[head_only].send(head);
        clients_[half_closed].send("GET / HTTP/1.1\r\n");
        clients_[half_closed].half_close();
        clients_[upload].send("POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n");
    }

    // Returns how many were not answered in full.
    int lost(Until until = Until::closed) {
        clients_[upload].send(std::string(300'000, 'u'), 2s);
        clients_[pieces].send("T / HTTP/1.1\r\n\r\n");
        int lost = 0;
        for (std::size_t i = 0; i < count; ++i) {
            Client client = std::move(clients_[i]);  // who closes when he has seen enough
            const bool brief = i == head_only;
            const Reply reply =
                until == Until::closed ? client.receive_all() : receive_announced(client, brief);
            if (!is_whole(reply, page, brief)) ++lost;
        }
        return lost;
    }

    static constexpr std::size_t count = 6;

  private:
    enum : std::size_t { plain, head_only, upload, pieces, half_closed, slow };

    // Receives as much as the header announces, as a browser does.
    static Reply receive_announced(Client& client, bool brief) {
        Reply reply;
        const auto end = Clock::now() + patience;
        for (char bytes[4096]; Clock::now() < end && client.readable(patience);) {
            const ssize_t size = recv(client.descriptor(), bytes, sizeof bytes, 0);
            if (size <= 0) break;
            reply.bytes.append(bytes, static_cast<std::size_t>(size));
            if (reply.bytes.find("\r\n\r\n") == std::string::npos) continue;
            if (reply.body().size() < (brief ? 0 : page.size())) continue;
            reply.end = End::clean;
            break;
        }
        return reply;
    }

    std::vector<Client> clients_;
};

bool is_in(int error, const Errors& errors) {
    return std::find(errors.begin(), errors.end(), error) != errors.end();
}

// ---- At start -----------------------------------------------------------------------------------

// A call that is made at start: its errors, and for each place where it is made what the one line
// names when it fails there. The last place stands for all that follow.
constexpr const char* serves = "";  // it does without
struct StartCall {
    const char* name;
    Errors errors;
    std::vector<std::string> subjects;

    // What the line names when the calls `first` to `last` fail: the first that matters.
    std::string subject(unsigned long first, unsigned long last) const {
        for (unsigned long i = first; i <= last && i <= first + subjects.size(); ++i) {
            const std::string& subject = subjects[std::min(i, subjects.size()) - 1];
            if (subject != serves) return subject;
        }
        return serves;
    }
};

const std::string port_subject = "port 0";
const std::string page_subject = page_file.path;
const std::string user_subject = "-u 65534";

const std::vector<StartCall> start_calls = {
    // Three look whether the standard streams are open. Where one seems closed, it is opened.
    {"fcntl", fcntl_errors, {serves, serves, serves, page_subject, "pipe", port_subject}},
    {"open", open_errors, {page_subject}},
    {"read", read_errors, {page_subject}},
    {"pipe", pipe_errors, {"pipe"}},
    {"sigaction", sigaction_errors, {"sigaction"}},
    {"socket", socket_errors, {port_subject}},
    {"setsockopt", setsockopt_errors, {port_subject}},
    {"bind", bind_errors, {port_subject}},
    {"listen", listen_errors, {port_subject}},
    {"getrlimit", rlimit_errors, {"getrlimit"}},
    {"setrlimit", rlimit_errors, {serves}},
    {"getsockname", getsockname_errors, {port_subject}},
    {"setgroups", setgroups_errors, {user_subject}},
    {"setgid", setgid_errors, {user_subject}},
    // The second is the trial whether root can be regained: it has to fail.
    {"setuid", setuid_errors, {user_subject, serves}},
    // The first line may not be written, but visitors do not depend on it.
    {"isatty", isatty_errors, {serves}},
    {"poll", poll_errors, {serves}},
    {"write", write_errors, {serves}},
    {"close", close_errors, {serves}},
};

// Whether the trouble means that there is no IPv6, so that IPv4 alone is tried.
bool falls_back(const std::string& subject, int error) {
    return subject == port_subject && is_in(error, {EAFNOSUPPORT, EADDRNOTAVAIL, EINVAL});
}

// Whether the server has refused to serve, which is then to be done well.
bool is_refused(Server& server, const std::string& subject, const std::string& reason) {
    const std::string line = server.error_line();
    if (line.starts_with("maintd: serving ")) return false;
    const std::string what = line.substr(0, line.find(": " + reason));
    expect(what.starts_with("maintd: ") && what != line && what.find(subject) != what.npos,
           "not a clear line: " + line);
    const Exit exit = server.wait();
    expect(exit.status == 1, "exit status " + std::to_string(exit.status));
    expect(exit.errors.empty() && exit.output.empty(), "more than a line: " + exit.errors);
    return true;
}

void expect_service(Server& server) {
    server.await();
    expect(Visitors(server.port()).lost() == 0, "it does not serve");
    for (const char* field : {"Uid", "Gid"})
        expect(server.status_field(field) == "65534\t65534\t65534\t65534", "it is still root");
    expect(server.status_field("Groups").find_first_not_of(" ") == std::string::npos,
           "it is in groups");
    expect(server.stop().status == 0, "it does not stop with 0");
}

// Starts servers in which `call` fails at its first place, its second, ... as long as it is made.
void sweep_start(const StartCall& call, int error, bool once) {
    for (unsigned long first = 1;; ++first) {
        const unsigned long last = once ? first : for_ever;
        Fault fault(call.name, error, first, last);
        fault.limit_send_buffer(small_send_buffer);
        Server server(fault);
        std::string subject = call.subject(first, last);
        if (!once && falls_back(subject, error)) subject = "0.0.0.0 " + subject;
        const bool refuses = subject != serves && !(once && falls_back(subject, error));
        try {
            // Without a hit the sweep is over, and that it serves shows it.
            const bool refused = refuses && is_refused(server, subject, name_of(error));
            expect(refused || !refuses || fault.hits() == 0, "it serves nonetheless");
            if (!refused) expect_service(server);
        } catch (const std::exception& failure) {
            throw std::runtime_error("at place " + std::to_string(first) + ": " + failure.what());
        }
        if (fault.hits() > 0) continue;
        expect(first > call.subjects.size(), "the call was made " + std::to_string(first - 1) +
                                                 " times: is the binary linked statically?");
        return;
    }
}

// ---- While serving ------------------------------------------------------------------------------

struct ServingCall {
    const char* name;
    Errors errors;
    Errors passing;          // those which cost no visitor: it tries again
    unsigned long at_least;  // places that six visitors reach
};

const std::vector<ServingCall> serving_calls = {
    {"accept", accept_errors, accept_errors, 6},
    {"poll", poll_errors, poll_errors, 2},
    {"recv", recv_errors, {EAGAIN, EINTR, ENOBUFS, ENOMEM}, 6},
    {"send", send_errors, {EAGAIN, EINTR, ENOBUFS, ENOMEM}, 6},
    {"shutdown", shutdown_errors, shutdown_errors, 1},
    {"close", close_errors, close_errors, 6},
};

// A visitor whose shutdown() failed sees the end late, but the page at once.
Visitors::Until until(const ServingCall& call) {
    return call.name == "shutdown"s ? Visitors::Until::whole : Visitors::Until::closed;
}

void expect_as_before(const Server& server, std::size_t descriptors) {
    expect(eventually([&] { return server.descriptors() == descriptors; }),
           "it has " + std::to_string(server.descriptors()) + " descriptors, not " +
               std::to_string(descriptors));
    expect(Visitors(server.port()).lost() == 0, "visitors are lost afterwards");
    expect(eventually([&] { return server.descriptors() == descriptors; }), "it leaks");
}

// Lets `call` fail at its first place, its second, ... as long as six visitors reach that.
void sweep_serving(const ServingCall& call, int error) {
    Fault fault;
    fault.limit_send_buffer(small_send_buffer);
    Server server(fault);
    server.await();
    const std::size_t descriptors = server.descriptors();
    const int allowed = is_in(error, call.passing) ? 0 : 1;
    unsigned long place = 0;
    do {
        ++place;
        fault.arm(call.name, error, place, place);
        const int lost = Visitors(server.port()).lost(until(call));
        const bool settled = eventually([&] { return server.descriptors() <= descriptors; });
        fault.disarm();
        const std::string at = " at place " + std::to_string(place);
        expect(server.runs(), "it has ended" + at);
        expect(lost <= allowed, std::to_string(lost) + " visitors lost" + at);
        expect(settled, "descriptors leak" + at);
    } while (fault.hits() > 0);
    expect(place > call.at_least, "only " + std::to_string(place - 1) + " places reached");
    expect_as_before(server, descriptors);
    expect(server.stop().status == 0, "it does not stop with 0");
}

// How much of a core a server may take that is in trouble and has nothing to do, and how often it
// may call poll() in a second. A loop without a wait takes all of a core; one that tries again
// every few milliseconds some hundredths. On a busy machine no loop gets a whole core: so calls
// count, too.
constexpr double most_busy = 0.15;
constexpr double most_polls = 1000;

// Waits for a window in which it is not busy: what the visitors before it asked may take a moment.
void expect_calm(const Server& server, const Fault& fault) {
    double share = 1;
    double polls = most_polls;
    for (int i = 0; i < 3 && (share > most_busy || polls >= most_polls); ++i) {
        const Clock::time_point start = Clock::now();
        const unsigned long before = fault.polls();
        share = server.busy_share(100ms);
        polls = static_cast<double>(fault.polls() - before) / seconds_since(start);
    }
    expect(share <= most_busy, "it takes " + std::to_string(share) + " of a core");
    expect(polls < most_polls, "it polls " + std::to_string(polls) + " times a second");
}

// Lets `call` fail from some place on, until that ends, with visitors in every state. Then those
// who had to wait are served, if no connection has failed. The same once more, until SIGTERM.
void last_while_serving(const ServingCall& call, int error, unsigned long first) {
    Fault fault;
    fault.limit_send_buffer(small_send_buffer);
    Server server(fault);
    server.await();
    const std::size_t descriptors = server.descriptors();
    fault.arm(call.name, error, first, for_ever);
    {
        Visitors visitors(server.port());
        expect(eventually([&] { return fault.hits() > 0; }), "no fault was injected");
        expect_calm(server, fault);
        expect(server.runs(), "it has ended");
        fault.disarm();
        const int lost = visitors.lost(until(call));
        if (is_in(error, call.passing))
            expect(lost == 0, std::to_string(lost) + " visitors lost who could wait");
    }
    expect_as_before(server, descriptors);
    fault.arm(call.name, error, first, for_ever);
    {
        const Visitors impatient(server.port());
        expect(eventually([&] { return fault.hits() > 0; }), "no fault was injected again");
    }
    expect_calm(server, fault);
    expect(server.stop().status == 0, "it does not stop with 0");
}

// ---- While stopping -----------------------------------------------------------------------------

// What is called between SIGTERM and the end, with visitors in every state.
const std::vector<ServingCall> stopping_calls = {
    {"write", write_errors, write_errors, 2},  // into the pipe that wakes poll(), and the last line
    {"accept", Errors(accept_errors.begin() + 1, accept_errors.end()), accept_errors, 1},
    {"poll", poll_errors, poll_errors, 1},
    {"recv", recv_errors, {EAGAIN, EINTR, ENOBUFS, ENOMEM}, 2},
    {"send", send_errors, {EAGAIN, EINTR, ENOBUFS, ENOMEM}, 2},
    {"shutdown", shutdown_errors, shutdown_errors, 1},
    {"close", close_errors, close_errors, 6},
    {"isatty", isatty_errors, isatty_errors, 1},
};

// Starts servers and stops them while `call` fails, at its first place, its second, ... or from
// there on.
void sweep_stopping(const ServingCall& call, int error, bool once) {
    for (unsigned long first = 1;; ++first) {
        Fault fault;
        fault.limit_send_buffer(small_send_buffer);
        Server server(fault);
        server.await();
        const std::size_t descriptors = server.descriptors();
        Visitors visitors(server.port());
        expect(eventually([&] { return server.descriptors() > descriptors; }), "nobody is let in");
        fault.arm(call.name, error, first, once ? first : for_ever);
        server.send_signal(SIGTERM);
        const int lost = visitors.lost(until(call));
        const std::string at = " at place " + std::to_string(first);
        expect(server.wait(4s).status == 0, "it does not stop with 0" + at);
        const bool hit = fault.hits() > 0;
        if (!hit || (once && is_in(error, call.passing)))
            expect(lost == 0, std::to_string(lost) + " visitors lost" + at);
        if (once) expect(lost <= 1, std::to_string(lost) + " visitors lost" + at);
        if (hit && (once || first < 2)) continue;
        expect(hit || first > call.at_least,
               "only " + std::to_string(first - 1) + " places reached");
        return;
    }
}

// ---- On a terminal ------------------------------------------------------------------------------

// Both ends of a new terminal; whoever has no need of them does not inherit them.
struct Terminal {
    Terminal() {
        if (openpty(&screen, &line, nullptr, nullptr, nullptr) < 0) throw system_error("openpty");
        fcntl(screen, F_SETFD, FD_CLOEXEC);
        fcntl(line, F_SETFD, FD_CLOEXEC);
    }
    Terminal(const Terminal&) = delete;
    ~Terminal() {
        close(screen);
        close(line);
    }
    int screen = -1;
    int line = -1;
};

// Lets `call` fail while the count of answers is written, and serves on.
void show_count_while_failing(const std::string& call, int error, unsigned long first, bool once) {
    const Terminal terminal;
    Fault fault;
    Server server(fault, {"-p", "0"}, [&terminal] { dup2(terminal.line, STDERR_FILENO); });
    server.await();
    pollfd screen{terminal.screen, POLLIN, 0};
    expect(poll(&screen, 1, 10'000) == 1, "nothing on the screen");
    expect(Visitors(server.port()).lost() == 0, "it does not serve");
    fault.arm(call, error, first, once ? first : for_ever);
    const auto shown = [&] {
        expect(Visitors(server.port()).lost() == 0, "visitors are lost");  // and so the count grows
        return fault.hits() > 0;
    };
    expect(eventually(shown), "no fault was injected");
    expect_calm(server, fault);
    expect(Visitors(server.port()).lost() == 0, "visitors are lost afterwards");
    expect(server.stop().status == 0, "it does not stop with 0");
}

}  // namespace

TEST_CASE("a call that fails at start ends it with one clear line, or it does without") {
    REQUIRE(geteuid() == 0);  // only root gives up root
    std::vector<Case> cases;
    for (const StartCall& call : start_calls)
        for (const int error : call.errors)
            for (const bool once : {true, false})
                cases.push_back({call.name + ", "s + name_of(error) + (once ? "" : ", for ever"),
                                 [&call, error, once] { sweep_start(call, error, once); }});
    CHECK(failures_of(cases) == none);
}

TEST_CASE("a call that fails while serving costs at most the visitor whose connection it was") {
    std::vector<Case> cases;
    for (const ServingCall& call : serving_calls)
        for (const int error : call.errors)
            cases.push_back({call.name + ", "s + name_of(error),
                             [&call, error] { sweep_serving(call, error); }});
    CHECK(failures_of(cases) == none);
}

TEST_CASE(
    "a call that goes on failing while serving neither ends nor spins it, nor loses who waits") {
    std::vector<Case> cases;
    for (const ServingCall& call : serving_calls)
        for (const int error : call.errors)
            for (unsigned long first = 1; first <= std::min(call.at_least, 3ul); ++first)
                cases.push_back(
                    {call.name + ", "s + name_of(error) + ", from place " + std::to_string(first) +
                         " on",
                     [&call, error, first] { last_while_serving(call, error, first); }});
    CHECK(failures_of(cases, 6) == none);
}

TEST_CASE("a call that fails while it stops does not keep it from stopping with 0") {
    std::vector<Case> cases;
    for (const ServingCall& call : stopping_calls)
        for (const int error : call.errors)
            for (const bool once : {true, false})
                cases.push_back({call.name + ", "s + name_of(error) + (once ? "" : ", for ever"),
                                 [&call, error, once] { sweep_stopping(call, error, once); }});
    CHECK(failures_of(cases) == none);
}

TEST_CASE("a broken listener ends it with one line") {
    for (const int error : listener_errors) {
        INFO(name_of(error));
        Fault fault;
        Server server(fault);
        server.await();
        CHECK(server.error_line().starts_with("maintd: serving "));
        fault.arm("accept", error, 1, for_ever);
        const Client visitor(server.port());
        const Exit exit = server.wait();
        CHECK(fault.hits() == 1);
        CHECK(exit.status == 1);
        CHECK(exit.errors == "maintd: accept: " + name_of(error) + "\n");
    }
}

TEST_CASE("reads and writes of a single byte change nothing") {
    for (const char* call : {"read", "recv", "send", "write"}) {
        INFO(call);
        const unsigned long least = call == "write"s ? 50 : 100;  // the first line, or more
        Fault fault(call, one_byte, 1, for_ever);
        Server server(fault);
        server.await();
        const std::string line = server.error_line();
        CHECK(line.ends_with("/"));
        CHECK(line.starts_with("maintd: serving " + page_file.path));
        CHECK(Visitors(server.port()).lost() == 0);
        CHECK(fault.hits() > least);
        const Exit exit = server.stop();
        CHECK(exit.status == 0);
        CHECK(exit.errors.starts_with("maintd: 6 requests answered in "));
        CHECK(exit.errors.ends_with(" s\n"));
    }
}

TEST_CASE("with -w it tries again while bind() or listen() says that the port is in use") {
    for (const char* call : {"bind", "listen"}) {
        INFO(call);
        {
            Fault fault(call, EADDRINUSE, 1, 20);
            Server server(fault, {"-w", "-p", "0"});
            server.await();
            CHECK(fault.hits() == 20);
            CHECK(Visitors(server.port()).lost() == 0);
            CHECK(server.stop().status == 0);
        }
        Fault fault(call, EADDRINUSE, 1, for_ever);
        Server server(fault, {"-w", "-p", "0"});
        REQUIRE(eventually([&] { return fault.hits() > 3; }));
        CHECK_NOTHROW(expect_calm(server, fault));
        CHECK(server.stop().status == 0);
    }
}

TEST_CASE("a closed standard stream is opened on whatever can be had, or it does not start") {
    const auto close_input = [] { close(STDIN_FILENO); };
    for (const int error : open_errors) {
        INFO(name_of(error));
        {
            Fault fault("open", error, 1, 1);  // /dev/null, for which / stands in
            Server server(fault, {"-p", "0"}, close_input);
            CHECK_NOTHROW(expect_service(server));
            CHECK(fault.hits() == 1);
        }
        Fault fault("open", error, 1, 2);
        Server server(fault, {"-p", "0"}, close_input);
        CHECK(is_refused(server, "/dev/null", name_of(error)));
        CHECK(fault.hits() == 2);
    }
}

TEST_CASE("root that is given up in pretence only is no start") {
    REQUIRE(geteuid() == 0);
    Fault fault("setuid", succeed, 1, for_ever);
    Server server(fault);
    CHECK(is_refused(server, user_subject, "root could be regained"));
    CHECK(fault.hits() == 2);
}

TEST_CASE("a terminal that fails while the count is shown costs nothing") {
    const std::vector<ServingCall> calls = {{"write", write_errors, {}, 0},
                                            {"isatty", isatty_errors, {}, 0}};
    std::vector<Case> cases;
    for (const ServingCall& call : calls)
        for (const int error : call.errors)
            for (const unsigned long first : {1ul, 2ul, 5ul})
                for (const bool once : {true, false})
                    cases.push_back(
                        {call.name + ", "s + name_of(error) + ", place " + std::to_string(first),
                         [name = call.name, error, first, once] {
                             show_count_while_failing(name, error, first, once);
                         }});
    CHECK(failures_of(cases) == none);
}
