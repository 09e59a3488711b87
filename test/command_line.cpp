// SPDX-License-Identifier: 0BSD
// The command line: what each option does, and what the operator reads. How root is given
// up is tested as root. Run as another user, the tests say so.
#include <fnmatch.h>
#include <grp.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "fixture.hpp"

using namespace fixture;

namespace {

bool kernel_has_ipv6() { return Descriptor(socket(AF_INET6, SOCK_STREAM, 0)) >= 0; }
bool has_ipv6() { return file_content("/proc/net/if_inet6").find(" lo\n") != ""s.npos; }

Exit attempt(std::vector<std::string> arguments,
             const std::function<void()>& prepare = {}) {
    arguments.insert(arguments.begin(), maintd_path);
    return Process(std::move(arguments), prepare).wait();
}

// Checks that maintd printed nothing but `text` on one line, and ended with `status`.
void check_error(const Exit& exit, int status, const std::string& text) {
    CHECK(exit.output + exit.errors == "maintd: " + text + "\n");
    CHECK(exit.status == status);
}

// In a child: takes root's rights from the next program. It stays the same user, because
// the directory of the tests may be closed to all others.
void give_up_rights() {
    if (geteuid() == 0 && prctl(PR_SET_SECUREBITS, SECBIT_NOROOT) < 0) _exit(126);
}

// Returns the line that maintd prints when it serves a page at `host`. In a kernel
// without IPv6, every address is every one of IPv4.
std::string first_line(std::string host, std::uint16_t port,
                       const std::string& page = "maintenance.html") {
    if (host == "localhost" && !kernel_has_ipv6()) host = "0.0.0.0";
    const std::string size = std::to_string(file_content(page).size());
    return "maintd: serving " +
           (page == "maintenance.html" ? "the built-in page" : page) + " (" + size +
           " bytes) on http://" + host + ":" + std::to_string(port) + "/" +
           (host == "localhost" ? " (every address)" : "");
}

}  // namespace

TEST_CASE("help (-h, --help) and version (-V, --version) go to standard output") {
    const Exit help = attempt({"-h"}), version = attempt({"-V"});
    CHECK((help.status == 0 && help.errors.empty()));
    CHECK(attempt({"--help"}).output == help.output);
    CHECK((version.status == 0 && version.output + version.errors == "maintd 1.2\n"));
    CHECK(attempt({"--version"}).output == version.output);
    const std::string pattern =
        "usage: maintd ?-hVw? ?-l address? ?-p port? ?-r seconds? ?-u uid? ?page.html?\n"
        "*503*\n  page.html *built-in page*\n  -l address *every address*\n"
        "  -p port *8080*\n  -r seconds *60*\n  -u uid *65534*\n  -w *wait*\n"
        "  -h, -V *--help*--version*Ctrl-C*xample: maintd -w -p 80 *";
    CHECK(fnmatch(pattern.c_str(), help.output.c_str(), 0) == 0);
    std::istringstream text(help.output);
    for (std::string line; std::getline(text, line);) CHECK(line.size() <= 80);
}

TEST_CASE("it listens on every address that there is, or on the one that -l names") {
    struct Case {
        std::vector<std::string> options;
        const char* host;
        bool at_v4, at_every_v4, at_v6;  // 127.0.0.1, 127.0.0.2 and ::1
    };
    for (const Case& each : {Case{{}, "localhost", true, true, true},
                             {{"-l", "::"}, "localhost", true, true, true},
                             {{"-l", "0.0.0.0"}, "0.0.0.0", true, true, false},
                             {{"-l", "127.0.0.1"}, "127.0.0.1", true, false, false},
                             {{"-l", "::1"}, "[::1]", false, false, true}}) {
        CAPTURE(each.options);
        if (!each.at_v4 && !has_ipv6()) continue;
        const Maintd maintd(each.options);
        CHECK(maintd.first_line == first_line(each.host, maintd.port));
        CHECK(is_served(maintd.port, "127.0.0.1") == each.at_v4);
        CHECK(is_served(maintd.port, "127.0.0.2") == each.at_every_v4);
        CHECK(is_served(maintd.port, "::1") == (each.at_v6 && has_ipv6()));
    }
    if (!has_ipv6()) WARN("There is no IPv6 here: only IPv4 has been tested.");
}

TEST_CASE("by default it listens on port 8080, and on IPv4 whatever bindv6only says") {
    // This is a thread because it gets a network of its own, where nothing is but "lo".
    const auto serve_in_own_network = [](int) -> std::string {
        if (unshare(CLONE_NEWNET) < 0) return "";
        const Descriptor any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ifreq lo{{"lo"}, {}};
        lo.ifr_flags = IFF_UP;
        if (ioctl(any, SIOCSIFFLAGS, &lo) < 0) return "lo";
        std::ofstream("/proc/sys/net/ipv6/bindv6only") << 1;
        Process process({maintd_path});
        const std::string line = process.errors.read_line();
        return is_served(8080) ? line : "no page: " + line;
    };
    const std::string line = together(1, serve_in_own_network)[0];
    if (line == "")
        WARN("This process may make no network namespace: this is not tested.");
    else
        CHECK(line == first_line("localhost", 8080));
}

TEST_CASE(
    "-r sets Retry-After; options stand where they like; a page may name its charset") {
    const TemporaryFile file("page");
    for (const auto& [options, page, seconds] :
         {std::tuple{std::vector<std::string>{}, built_in_page, "60"},
          {{"-r", "0"}, built_in_page, "0"},
          {{"-r", "2147483647"}, built_in_page, "2147483647"},
          {{file.path, "-r", "7"}, "page", "7"},
          {{"-r7", file.path}, "page", "7"},
          {{"-wr", "7", "--", file.path}, "page", "7"}}) {
        const Reply reply = visit(Maintd(options).port);
        CHECK(is_whole(reply, page));
        CHECK(reply.has_field("Retry-After: "s + seconds));
        CHECK(reply.has_field("Content-Type: text/html") == (page == built_in_page));
    }
}

TEST_CASE("the built-in page is small, and says early what it is") {
    CHECK(built_in_page.size() <= 5200);
    CHECK(built_in_page.find("<title>") < 200);
}

TEST_CASE(
    "the page on the command line is served byte by byte, and held once in memory") {
    std::string every_byte(256, '\0');
    for (std::size_t i = 0; i < 256; ++i) every_byte[i] = static_cast<char>(i);
    // A sanitizer keeps what has been freed.
    const bool is_sanitized = Maintd().resident_kilobytes() > 6'000;
    for (const std::string& page :
         {"x"s, "\r\n\r\n"s, every_byte, "<p>)maintd\"</p>"s, std::string(65536, 'a'),
          std::string(16 << 20, 'b')}) {
        CAPTURE(page.size());
        const TemporaryFile file(page);
        const Maintd maintd({file.path});
        CHECK(maintd.first_line == first_line("localhost", maintd.port, file.path));
        std::ofstream(file.path) << "It is read once, at start.";
        CHECK(is_whole(visit(maintd.port), page));
        CHECK(is_whole(Client(maintd.port).ask(head), page, true));
        CHECK((is_sanitized || maintd.resident_kilobytes() < 22'000));
    }
}

TEST_CASE("a file that cannot be a page is an error: one line and status 1") {
    const TemporaryFile large(std::string((16 << 20) + 1, 'x')), secret("secret");
    REQUIRE(chmod(secret.path.c_str(), 0) == 0);
    for (const auto& [page, why] : {std::pair{"80x"s, "No such file or directory"},
                                    {"/none/a.html", "No such file or directory"},
                                    {"", "No such file or directory"},
                                    {"/", "Is a directory"},
                                    {"/dev/zero", "larger than 16 MiB"},
                                    {"/dev/null", "empty"},
                                    {large.path, "larger than 16 MiB"},
                                    {secret.path, "Permission denied"}})
        check_error(attempt({page}, give_up_rights), 1, "page '" + page + "': " + why);
}

TEST_CASE("misuse ends with one line that says what is wrong, and status 2") {
    const std::string help = " (see maintd -h)";
    const auto check = [](const std::vector<std::string>& arguments,
                          const std::string& error) {
        CAPTURE(arguments);
        check_error(attempt(arguments), 2, error);
    };
    for (const std::string value :
         {"65536", "80x", "", " 80", "+80", "-1", "4294967296", "http"})
        check({"-p", value}, "-p '" + value + "': not a number up to 65535" + help);
    for (const std::string value : {"", "1.5", "2m", "2147483648"})
        check({"-r", value}, "-r '" + value + "': not a number up to 2147483647" + help);
    for (const std::string value :
         {"", "localhost", "1.2.3", "127.0.0.1:80", "[::1]", "*"})
        if (kernel_has_ipv6() || value.find(':') == value.npos)
            check({"-l", value}, "-l '" + value + "': not a numeric address " +
                                     "(127.0.0.1, ::1; the port is -p)");
    for (const std::string value : {"nobody", "4294967295", "-1"})
        check({"-u", value}, "-u '" + value + "': not a number up to 4294967294" +
                                 " (see: id -u " + value + ")");
    for (const std::vector<std::string>& arguments :
         {std::vector{"80"s}, {"80", "a.html"}, {"a.html", "80"}, {"--", "-p", "80"}})
        check(arguments, "'80': a page is a file (for a port: -p 80)");
    check({"-port"}, "-p 'ort': not a number up to 65535" + help);
    check({"-w", "-x"}, "-x: unknown option" + help);
    for (const std::string option : {"-l", "-p", "-r", "-u"})
        check({"-w", option}, option + ": needs a value" + help);
    const auto as_posix = [] { setenv("POSIXLY_CORRECT", "1", 1); };
    check_error(attempt({"a.html", "b.html", "-w"}, as_posix), 2,
                "'b.html': a second page (options come first)");
}

TEST_CASE("where it cannot listen, it says what to do, and -w waits for no other error") {
    const Maintd maintd;
    const std::string port = std::to_string(maintd.port);
    for (const char* address : {"::", "127.0.0.1"})
        check_error(attempt({"-p", port, "-l", address}), 1,
                    "port " + port + ": Address already in use (stop the server that " +
                        "holds it, wait for it with -w, or choose another with -p)");
    CHECK(is_served(maintd.port));
    for (const char* option : {"-r1", "-w"})
        check_error(attempt({option, "-p", "0", "-l", "192.0.2.1"}), 1,
                    "port 0: Cannot assign requested address (no interface has this "
                    "address)");
    if (has_ipv6())  // A link-local address needs an interface, and there is no hint.
        check_error(attempt({"-p", "0", "-l", "fe80::1"}), 1, "port 0: Invalid argument");
}

TEST_CASE(
    "-w says at once that it waits, costs nothing, and serves when the port is free") {
    const TemporaryFile file("the next one");
    for (const std::string address : {"::", "0.0.0.0", "127.0.0.1", "::1"}) {
        if (address == "::1" && !has_ipv6()) continue;
        CAPTURE(address);
        Maintd former({"-l", address});
        const std::string port = std::to_string(former.port);
        Process next({maintd_path, "-w", "-p", port, file.path});
        Process stopped({maintd_path, "-w", "-p", port});
        for (Process* each : {&next, &stopped})
            CHECK(each->errors.read_line() == "maintd: waiting for port " + port);
        CHECK(is_served(former.port, address == "::1" ? "::1" : "127.0.0.1"));
        CHECK_FALSE(spins(next));
        stopped.send_signal(SIGTERM);  // That is no error.
        const Exit exit = stopped.wait();
        CHECK((exit.status == 0 && exit.output + exit.errors == ""));
        CHECK(former.stop().status == 0);
        CHECK(next.errors.read_line() == first_line("localhost", former.port, file.path));
        CHECK(is_whole(visit(former.port), "the next one"));
    }
}

TEST_CASE("it becomes nobody, or the user and the group that -u names; -u 0 keeps root") {
    if (geteuid() != 0) {
        WARN("This is not root: how root is given up is not tested.");
        return;
    }
    const auto have_groups = [] {
        const gid_t groups[] = {0, 4, 27};
        if (setgroups(std::size(groups), groups) < 0) _exit(126);
    };
    const TemporaryFile secret("for root's eyes");
    REQUIRE(chmod(secret.path.c_str(), 0600) == 0);
    for (const std::string id : {"65534", "1", "4294967294", "0"}) {
        std::vector<std::string> options{secret.path, "-u", id};
        if (id == "65534") options.resize(1);
        const Maintd maintd(options, have_groups);
        // the real, the effective and the saved id, and that of the file system
        const std::string all = id + "\t" + id + "\t" + id + "\t" + id;
        CHECK(maintd.status_field("Uid") == all);
        CHECK(maintd.status_field("Gid") == all);
        CHECK(is_whole(visit(maintd.port), "for root's eyes"));
        if (id == "0") continue;
        CHECK(maintd.status_field("Groups").find_first_not_of(" \t") == id.npos);
        for (const char* set : {"CapPrm", "CapEff", "CapAmb"})
            CHECK(maintd.status_field(set) == "0000000000000000");
    }
    // Where root may not change its groups, this is said before a wait for the port.
    const Maintd holder;
    check_error(attempt({"-w", "-p", std::to_string(holder.port)}, give_up_rights), 1,
                "-u 65534: Operation not permitted (-u 0 keeps root)");
}

TEST_CASE("as another user it stays that user, whatever -u says") {
    const unsigned uid = geteuid() == 0 ? 12345 : geteuid();
    // Root opens the program for this user, because the directory may be closed to it.
    const Descriptor program = open(maintd_path, O_RDONLY | O_CLOEXEC);
    Process process({"/proc/self/fd/9", "-p", "0", "-u", "1"}, [&] {
        if (dup2(program, 9) < 0) _exit(126);
        if (geteuid() == 0 && (setgid(uid) < 0 || setuid(uid) < 0)) _exit(126);
    });
    CHECK(process.errors.read_line().starts_with("maintd: serving "));
    CHECK(process.status_field("Uid").starts_with(std::to_string(uid) + "\t"));
}
