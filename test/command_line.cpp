// The command line: what each option does, and that every wrong value ends with one clear line and
// no start. The options that only root has a use for are in root.cpp.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <bit>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

constexpr std::size_t MiB = 1 << 20;

// Runs maintd with arguments that keep it from starting, or end it at once.
Exit attempt(std::vector<std::string> arguments, std::function<void()> prepare = {}) {
    arguments.insert(arguments.begin(), maintd_path());
    Process process(std::move(arguments), std::move(prepare));
    return process.wait(5s);
}

// Whether `exit` is that of a program which said one line, "maintd: what: why", and nothing else.
bool is_error(const Exit& exit, int status, const std::string& what) {
    INFO(exit.errors);
    CHECK(exit.status == status);
    CHECK(exit.output.empty());
    CHECK(exit.errors.starts_with("maintd: "));
    CHECK(exit.errors.find(what) != std::string::npos);
    CHECK(exit.errors.find(": ", 8) != std::string::npos);
    CHECK(exit.errors.find('\n') == exit.errors.size() - 1);
    return exit.status == status;
}

// In a child: becomes a user without any right.
void become_nobody() {
    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0)) _exit(126);
}

// In a child: makes socket() say what it says where the kernel has no IPv6. Needs no right.
void have_no_ipv6() {
    constexpr std::uint32_t low_half = std::endian::native == std::endian::little ? 0 : 4;
    constexpr std::uint32_t family = offsetof(seccomp_data, args) + low_half;
    sock_filter instructions[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, family),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{std::size(instructions), instructions};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(126);
}

bool has_ipv6() {
    const int tried = socket(AF_INET6, SOCK_STREAM, 0);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    const bool has = bind(tried, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(tried);
    return has;
}

// Whether a visitor who goes to the numeric address gets the built-in page.
bool is_served_at(const char* address, const Maintd& maintd) {
    try {
        return is_whole(Client(maintd.port, 0, address).ask(get), built_in_page());
    } catch (const std::runtime_error&) {
        return false;  // refused
    }
}

// Whether `process` has got as far as to catch SIGTERM, and sleeps.
bool is_waiting(const Process& process) {
    const auto caught = std::stoull(process.status_field("SigCgt"), nullptr, 16);
    return (caught >> (SIGTERM - 1) & 1) != 0 && process.status_field("State").starts_with("S");
}

std::string url(const std::string& host, const Maintd& maintd) {
    return "http://" + host + ":" + std::to_string(maintd.port) + "/";
}

}  // namespace

// ---- What each option does ----------------------------------------------------------------------

TEST_CASE("-h says how to use it, -V which version it is; both on standard output") {
    const Exit help = attempt({"-h"});
    CHECK(help.status == 0);
    CHECK(help.errors.empty());
    CHECK(
        help.output.starts_with("usage: maintd [-hVw] [-l address] [-p port] [-r seconds] "
                                "[-u uid[:gid]] [file]\n"));
    for (const char* named : {"file", "-l ", "-p ", "-r ", "-u ", "-w ", "8080", "120", "65534"})
        CHECK(help.output.find(named, help.output.find('\n')) != std::string::npos);

    const Exit version = attempt({"-V"});
    CHECK(version.status == 0);
    CHECK(version.errors.empty());
    CHECK(version.output.starts_with("maintd "));
    CHECK(version.output.find('\n') == version.output.size() - 1);
}

TEST_CASE("the first line says what is served, its size, the address and the real port") {
    const Maintd maintd({"-l", "127.0.0.1"});
    CHECK(maintd.first_line == "maintd: serving the built-in page (" +
                                   std::to_string(built_in_page().size()) + " bytes) on " +
                                   url("127.0.0.1", maintd));
    const TemporaryFile file("A page\n");
    const Maintd other({"-l", "127.0.0.1", file.path});
    CHECK(other.first_line ==
          "maintd: serving " + file.path + " (7 bytes) on " + url("127.0.0.1", other));
}

TEST_CASE("by default it listens on every address") {
    const Maintd maintd;
    CHECK(is_served_at("127.0.0.1", maintd));
    CHECK(is_served_at("127.0.0.2", maintd));
    if (has_ipv6()) {
        CHECK(is_served_at("::1", maintd));
        CHECK(maintd.first_line.ends_with(url("[::]", maintd)));
    } else {
        WARN("no IPv6 here: only IPv4 has been tested");
    }
}

TEST_CASE("where there is no IPv6, it listens on every IPv4 address") {
    const auto probe = [] {
        have_no_ipv6();
        _exit(socket(AF_INET6, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT ? 0 : 126);
    };
    if (run({"true"}, probe).status != 0) {
        WARN("not tested: no system call can be withheld here, so IPv6 is not taken away");
        CHECK(is_served_at("127.0.0.1", Maintd()));
        return;
    }
    const Maintd maintd({}, have_no_ipv6);
    CHECK(maintd.first_line.ends_with(url("0.0.0.0", maintd)));
    CHECK(is_served_at("127.0.0.1", maintd));
    CHECK(is_served_at("127.0.0.2", maintd));
    is_error(attempt({"-l", "::1", "-p", "0"}, have_no_ipv6), 1, "::1");
}

TEST_CASE("-l takes one address, and no other") {
    const Maintd v4({"-l", "127.0.0.1"});
    CHECK(v4.first_line.ends_with(url("127.0.0.1", v4)));
    CHECK(is_served_at("127.0.0.1", v4));
    CHECK_FALSE(is_served_at("127.0.0.2", v4));
    CHECK_FALSE(is_served_at("::1", v4));

    const Maintd all_v4({"-l", "0.0.0.0"});
    CHECK(is_served_at("127.0.0.2", all_v4));
    CHECK_FALSE(is_served_at("::1", all_v4));

    if (!has_ipv6()) {
        WARN("no IPv6 here: -l ::1 has not been tested");
        return;
    }
    const Maintd v6({"-l", "::1"});
    CHECK(v6.first_line.ends_with(url("[::1]", v6)));
    CHECK(is_served_at("::1", v6));
    CHECK_FALSE(is_served_at("127.0.0.1", v6));
}

TEST_CASE("-r is what Retry-After says") {
    for (const char* seconds : {"0", "1", "3600", "86400"})
        CHECK(visit(Maintd({"-r", seconds}).port)
                  .header()
                  .find("\r\nRetry-After: "s + seconds + "\r\n") != std::string::npos);
    CHECK(visit(Maintd().port).header().find("\r\nRetry-After: 120\r\n") != std::string::npos);
}

TEST_CASE("the page on the command line is served byte by byte, whatever it holds") {
    std::string every_byte(256, '\0');
    for (std::size_t i = 0; i < every_byte.size(); ++i) every_byte[i] = static_cast<char>(i);
    for (const std::string& page : {"x"s, "\r\n\r\n"s, every_byte, "<p>)maintd\"</p>"s,
                                    std::string(65536, 'a'), std::string(16 * MiB, 'b')}) {
        CAPTURE(page.size());
        const TemporaryFile file(page);
        const Maintd maintd({file.path});
        CHECK(is_whole(visit(maintd.port), page));
        CHECK(is_whole(Client(maintd.port).ask(head), page, true));
    }
}

TEST_CASE("the page is read once, at start") {
    const TemporaryFile file("before");
    const Maintd maintd({file.path});
    std::ofstream(file.path) << "after it";
    CHECK(is_whole(visit(maintd.port), "before"));
    unlink(file.path.c_str());
    CHECK(is_whole(visit(maintd.port), "before"));
}

TEST_CASE("nothing is picked up from the current directory unasked") {
    char directory[] = "/tmp/maintd-test-XXXXXX";
    REQUIRE(mkdtemp(directory) != nullptr);
    for (const char* name : {"maintenance.html", "index.html", "maintenance.inc"})
        std::ofstream(directory + "/"s + name) << "not this one";
    {
        const std::string binary = std::filesystem::absolute(maintd_path());
        Process process({binary, "-p", "0"}, [&] { chdir(directory) == 0 ? void() : _exit(126); });
        CHECK(process.error_line().starts_with("maintd: serving the built-in page ("));
    }
    std::filesystem::remove_all(directory);
}

TEST_CASE("a page may come through a pipe, as from the shell's <(command)") {
    const std::string page(200'000, 'p');  // more than a pipe holds
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    std::thread writer([&] {
        for (std::string_view left = page; !left.empty();) {
            const ssize_t size = write(ends[1], left.data(), left.size());
            if (size > 0) left.remove_prefix(static_cast<std::size_t>(size));
        }
        close(ends[1]);
    });
    const Maintd maintd({"/dev/fd/" + std::to_string(ends[0])});
    writer.join();
    close(ends[0]);
    CHECK(is_whole(visit(maintd.port), page));
}

// ---- Wrong values -------------------------------------------------------------------------------

TEST_CASE("a wrong value ends with one line that names it") {
    const std::vector<std::pair<char, std::vector<std::string>>> wrong{
        {'p',
         {"70000", "65536", "80x", "x80", "", "-1", "1e3", "+80", " 80", "80 ", "0x50", "8,0",
          "4294967296", "99999999999999999999", "http"}},
        {'r', {"", "-1", "1e3", "2m", "1.5", "soon", "99999999999999999999", "5000000000"}},
        {'l',
         {"", "localhost", "1.2.3", "256.1.1.1", "127.0.0.1:80", "[::1]", "::g", "1.2.3.4.5",
          " ::", "*", "fe80::1%lo"}},
        {'u',
         {"", "4294967295", "4294967296", "root", "-1", "1:", ":1", ":", "1:2:3", "1:root",
          "1:4294967295", "4294967295:1", "1.2", "65534 ", "65534:"}},
    };
    for (const auto& [option, values] : wrong)
        for (const std::string& value : values) {
            CAPTURE(option, value);
            const Exit exit = attempt({"-"s + option, value});
            is_error(exit, 2, "-"s + option + " '");
            const std::size_t colon = std::min(value.find(':'), value.size());
            const std::string parts[] = {value, value.substr(0, colon),
                                         value.substr(std::min(colon + 1, value.size()))};
            CHECK(std::any_of(std::begin(parts), std::end(parts), [&](const std::string& part) {
                return exit.errors.find("'" + part + "'") != std::string::npos;
            }));
        }
}

TEST_CASE("misuse ends with one line, and status 2") {
    is_error(attempt({"-x"}), 2, "-x");
    is_error(attempt({"--help"}), 2, "--");
    is_error(attempt({"-wx"}), 2, "-x");
    for (const char* option : {"-l", "-p", "-r", "-u"}) {
        CAPTURE(option);
        is_error(attempt({option}), 2, option);
        is_error(attempt({"-w", option}), 2, option);
    }
    is_error(attempt({"maintenance.html", "other.html"}), 2, "other.html");
}

TEST_CASE("what is no page ends with one line that names it, and status 1") {
    is_error(attempt({"/nonexistent/page.html"}), 1, "/nonexistent/page.html");
    is_error(attempt({"/"}), 1, "'/'");
    is_error(attempt({""}), 1, "''");
    is_error(attempt({"/dev/zero"}), 1, "/dev/zero");
    is_error(attempt({"/dev/null"}), 1, "/dev/null");
    const TemporaryFile fifo("");
    unlink(fifo.path.c_str());
    REQUIRE(mkfifo(fifo.path.c_str(), 0644) == 0);
    is_error(attempt({fifo.path}), 1, fifo.path);  // that nobody writes to: no wait
    const TemporaryFile empty("");
    is_error(attempt({empty.path}), 1, empty.path);
    const TemporaryFile large(std::string(16 * MiB + 1, 'x'));
    is_error(attempt({large.path}), 1, large.path);
    const TemporaryFile secret("secret");
    REQUIRE(chmod(secret.path.c_str(), 0) == 0);
    is_error(attempt({secret.path}, become_nobody), 1, secret.path);
}

// ---- The port -----------------------------------------------------------------------------------

TEST_CASE("a port below 1024 without the right to it says what to do") {
    int first_free_for_all = 1024;
    std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first_free_for_all;
    if (first_free_for_all <= 1) {
        WARN("not tested: every port is free for all here");
        CHECK(first_free_for_all >= 0);
        return;
    }
    const std::string port = std::to_string(first_free_for_all - 1);
    const Exit exit = attempt({"-p", port}, become_nobody);
    is_error(exit, 1, port);
    CHECK(exit.errors.find("root") != std::string::npos);
    CHECK(exit.errors.find("above 1023") != std::string::npos);
}

TEST_CASE("a port in use says what to do; an address that is not here is named") {
    const Maintd maintd;
    const std::string port = std::to_string(maintd.port);
    const Exit exit = attempt({"-p", port});
    is_error(exit, 1, port);
    CHECK(exit.errors.find("-w") != std::string::npos);
    CHECK(is_served_at("127.0.0.1", maintd));
    is_error(attempt({"-p", "0", "-l", "192.0.2.1"}), 1, "192.0.2.1");
}

TEST_CASE("-w waits until the port is free, and is there at once") {
    const TemporaryFile file("the next one");
    Maintd former;
    Process next({maintd_path(), "-w", "-p", std::to_string(former.port), file.path});
    CHECK(eventually([&] { return is_waiting(next); }));
    CHECK(is_served_at("127.0.0.1", former));
    CHECK(next.runs());

    const std::uint16_t port = former.port;
    const auto start = Clock::now();
    former.send_signal(SIGTERM);
    CHECK(next.error_line().find("(12 bytes)") != std::string::npos);
    CHECK(seconds_since(start) < 0.25);
    CHECK(is_whole(visit(port), "the next one"));
    CHECK(former.wait().status == 0);
}

TEST_CASE("-w ends when asked to, without ever having had the port") {
    const Maintd holder;
    Process process({maintd_path(), "-w", "-p", std::to_string(holder.port)});
    CHECK(eventually([&] { return is_waiting(process); }));
    process.send_signal(SIGTERM);
    const Exit exit = process.wait();
    CHECK(exit.status == 0);
    CHECK(exit.errors.starts_with("maintd: "));
    CHECK(exit.errors.find('\n') == exit.errors.size() - 1);
}
