// The command line: what each option does, and what the operator reads. root.cpp tests -u.
#include <fnmatch.h>
#include <linux/securebits.h>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

constexpr std::size_t MiB = 1 << 20;

bool has_ipv6() { return file_content("/proc/net/if_inet6").find(" lo\n") != ""s.npos; }

Exit attempt(std::vector<std::string> arguments,
             const std::function<void()>& prepare = {}) {
    arguments.insert(arguments.begin(), maintd_path());
    return run(std::move(arguments), prepare);
}

// Checks that maintd printed nothing but `text` on one line, and ended with `status`. musl has
// other words than glibc for three errors.
void check_error(Exit exit, int status, const std::string& text) {
    for (const auto& [musl, glibc] :
         {std::pair{"Address in use", "Address already in use"},
          {"Out of memory", "Cannot allocate memory"},
          {"Address not available", "Cannot assign requested address"}})
        if (const auto at = exit.errors.find(musl); at != std::string::npos)
            exit.errors.replace(at, strlen(musl), glibc);
    CHECK(exit.output + exit.errors == "maintd: " + text + "\n");
    CHECK(exit.status == status);
}

// In a child: takes root's rights from the next program. It stays the same user, because the
// directory of the tests may be closed to all others.
void give_up_rights() {
    if (geteuid() == 0 && prctl(PR_SET_SECUREBITS, SECBIT_NOROOT) < 0) _exit(126);
}

// Returns the line that maintd prints when it serves a page at `host`.
std::string first_line(const std::string& host, std::uint16_t port,
                       const std::string& page = "maintenance.html") {
    const std::string size = std::to_string(file_content(page).size());
    return "maintd: serving " +
           (page == "maintenance.html" ? "the built-in page" : page) + " (" + size +
           " bytes) on http://" + host + ":" + std::to_string(port) + "/" +
           (host == "localhost" ? " (every address)" : "");
}

}  // namespace

// ---- What each option does ----------------------------------------------------------------------

TEST_CASE(
    "standard output gets help (-h, --help) within 80 columns, the version (-V, "
    "--version)") {
    const Exit help = attempt({"-h"}), version = attempt({"-V"});
    CHECK((help.status == 0 && help.errors.empty() &&
           attempt({"--help"}).output == help.output));
    CHECK((version.status == 0 && version.output + version.errors == "maintd 1.1\n"));
    CHECK(attempt({"--version"}).output == version.output);
    std::vector<std::string> lines;
    std::istringstream text(help.output);
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    CHECK(
        lines[0] ==
        "usage: maintd [-hVw] [-l address] [-p port] [-r seconds] [-u uid] [page.html]");
    for (const char* pattern :
         {"*503*", "  page.html *built-in page*", "  -l address *every address*",
          "  -p port *8080*", "  -r seconds *120*", "  -u uid *65534*", "  -w *wait*",
          "  -h, *--help*", "  -V, *--version*", "*Ctrl-C*",
          "*xample: maintd -w -p 80 *"}) {
        CAPTURE(pattern, help.output);
        CHECK(std::any_of(lines.begin(), lines.end(), [pattern](const std::string& line) {
            return fnmatch(pattern, line.c_str(), 0) == 0;
        }));
    }
    for (const std::string& line : lines) CHECK(line.size() <= 80);
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
    if (!has_ipv6()) WARN("there is no IPv6 here: only IPv4 has been tested");
    check_error(attempt({"-p", "0", "-l", "192.0.2.1"}), 1,
                "192.0.2.1 port 0: Cannot assign requested address");
}

TEST_CASE("by default it listens on port 8080") {
    Process process({maintd_path()});
    const std::string line = process.errors.read_line();
    const bool is_in_use = line.find("in use") != line.npos;
    if (is_in_use) WARN("port 8080 is in use: only the error's text has been tested");
    CHECK((line == first_line("localhost", 8080) ||
           line.starts_with("maintd: port 8080: ")));
    CHECK((is_in_use || is_served(8080)));
}

TEST_CASE("-r sets Retry-After, and options may stand before and after the page") {
    for (const std::string seconds : {"0", "2147483647"})
        CHECK(visit(Maintd({"-r", seconds}).port).has_field("Retry-After: " + seconds));
    CHECK(visit(Maintd().port).has_field("Retry-After: 120"));
    const TemporaryFile file("page");
    const std::string port = std::to_string(Maintd().port);
    for (const std::vector<std::string>& arguments :
         {std::vector{file.path, "-r"s, "7"s, "-p"s, port},
          {"-r7", "-p" + port, file.path},
          {"-wr", "7", file.path, "-p", port},
          {"-r", "7", "-p", port, "--", file.path}}) {
        const Maintd maintd(arguments);
        CHECK(std::to_string(maintd.port) == port);
        const Reply reply = visit(maintd.port);
        CHECK(is_whole(reply, "page"));
        CHECK(reply.has_field("Retry-After: 7"));
    }
}

// ---- The page -----------------------------------------------------------------------------------

TEST_CASE(
    "the page on the command line is served byte by byte, and the built-in one is "
    "small") {
    CHECK(built_in_page().size() <= 6000);
    std::string every_byte(256, '\0');
    for (std::size_t i = 0; i < every_byte.size(); ++i)
        every_byte[i] = static_cast<char>(i);
    for (const std::string& page :
         {"x"s, "\r\n\r\n"s, every_byte, "<p>)maintd\"</p>"s, std::string(65536, 'a'),
          std::string(16 * MiB, 'b')}) {
        CAPTURE(page.size());
        const TemporaryFile file(page);
        const Maintd maintd({file.path});
        CHECK(maintd.first_line == first_line("localhost", maintd.port, file.path));
        std::ofstream(file.path) << "It is read once, at start.";
        CHECK(is_whole(visit(maintd.port), page));
        CHECK(is_whole(Client(maintd.port).ask(head), page, true));
    }
}

TEST_CASE("a page may come through a pipe, as from the shell's <(command)") {
    const std::string page(200'000, 'p');  // more than a pipe holds
    const TemporaryFile file(page);
    Channel pipe = open_pipe();
    const Process writer({"cat", file.path}, [&] { dup2(pipe.writer, STDOUT_FILENO); });
    pipe.writer.close();
    const Maintd maintd({"/dev/stdin"}, [&] { dup2(pipe.reader, STDIN_FILENO); });
    CHECK(is_whole(visit(maintd.port), page));
}

TEST_CASE("a file that cannot be a page is an error: one line and status 1") {
    const TemporaryFile fifo(""), large(std::string(16 * MiB + 1, 'x')), secret("secret");
    unlink(
        fifo.path
            .c_str());  // No program writes to the fifo, and maintd does not wait for one.
    REQUIRE(mkfifo(fifo.path.c_str(), 0644) == 0);
    REQUIRE(chmod(secret.path.c_str(), 0) == 0);
    for (const auto& [page, why] :
         {std::pair{"80"s, "No such file or directory (for a port: -p 80)"},
          {"80x", "No such file or directory"},
          {"/none/a.html", "No such file or directory"},
          {"", "No such file or directory"},
          {"/", "Is a directory"},
          {"/dev/zero", "larger than 16 MiB"},
          {"/dev/null", "empty"},
          {fifo.path, "empty"},
          {large.path, "larger than 16 MiB"},
          {secret.path, "Permission denied"}})
        check_error(attempt({page}, give_up_rights), 1, "page '" + page + "': " + why);
}

TEST_CASE("a page that names its charset gets a header without one") {
    const std::string meta = "<meta charset=iso-8859-1>";
    const std::vector<std::pair<std::string, bool>> pages{
        {built_in_page(), true},
        {meta, true},
        {"<!doctype html>\n<TITLE>x</TITLE><META\nname=a><META CharSet=\"Latin1\">",
         true},
        {"<meta http-equiv=Content-Type content='text/html; CHARSET=windows-1252'>",
         true},
        {std::string(1024 - meta.size(), ' ') + meta, true},
        {std::string(1024, ' ') + meta, false},
        {std::string(1024 - std::strlen("<meta charse"), ' ') + meta, false},
        {"\xEF\xBB\xBFx", true},
        {"\xFE\xFF\0x"s, true},
        {"\xFF\xFEx\0"s, true},
        {"<p>x", false},
        {"<p>charset=iso-8859-1", false},
        {"<meta name=description content=charse><script charset=iso-8859-1>", false},
    };
    for (const auto& [page, is_named] : pages) {
        CAPTURE(page, is_named);
        const TemporaryFile file(page);
        CHECK(visit(Maintd({file.path}).port)
                  .has_field("Content-Type: text/html"s +
                             (is_named ? "" : "; charset=utf-8")));
    }
}

TEST_CASE("if memory runs out at the start, that is an error: one line and status 1") {
    const TemporaryFile file(std::string(16 * MiB, 'm'));
    const rlimit limit{20'000 << 10, 20'000 << 10};
    const auto limit_memory = [&] { setrlimit(RLIMIT_AS, &limit); };
    if (attempt({"-V"}, limit_memory).status == 0)
        check_error(attempt({file.path}, limit_memory), 1,
                    "memory: Cannot allocate memory");
    else
        WARN("a sanitized binary cannot be loaded: this has not been tested");
}

// ---- Wrong values -------------------------------------------------------------------------------

TEST_CASE("a wrong value ends with one line that names it, and status 2") {
    const auto check = [](const std::string& option,
                          const std::vector<std::string>& values,
                          const std::string& why) {
        for (const std::string& value : values)
            check_error(attempt({option, value}), 2, option + " '" + value + "': " + why);
    };
    check("-p",
          {"65536", "80x", "x80", "", " 80", "80 ", "+80", "-1", "0x50", "1e3",
           "4294967296"},
          "not a number up to 65535");
    check("-r", {"", "1.5", "2m", "-1", "2147483648", "99999999999999999999"},
          "not a number up to 2147483647");
    check("-l",
          {"", "localhost", "1.2.3", "256.1.1.1", "127.0.0.1:80", "[::1]", "::g",
           " ::", "*"},
          "not a numeric address");
    check("-u", {"", "4294967295", "4294967296", "-1", "1:2", ":1", "1.2", "65534 "},
          "not a number up to 4294967294");
    for (const std::string name : {"nobody", "Root"})
        check("-u", {name}, "not a number up to 4294967294 (see: id -u " + name + ")");
}

TEST_CASE("misuse ends with one line and status 2") {
    for (const std::string option : {"-x", "--version1", "--h", "--helper"})
        check_error(attempt({"-w", option}), 2,
                    option + ": unknown option (see maintd -h)");
    for (const std::string option : {"-l", "-p", "-r", "-u"})
        for (const char* before : {"-w", "maintenance.html"})
            check_error(attempt({before, option}), 2,
                        option + ": needs a value (see maintd -h)");
    check_error(attempt({"maintenance.html", "other.html"}), 2,
                "'other.html': a second page");
}

// ---- The port -----------------------------------------------------------------------------------

TEST_CASE("without the right to a port, it says what to do") {
    int first_free_for_all = 1024;
    std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first_free_for_all;
    if (first_free_for_all <= 1) {
        WARN("every port is free for all here: this has not been tested");
        return;
    }
    const std::string port = std::to_string(first_free_for_all - 1);
    check_error(
        attempt({"-p", port}, give_up_rights), 1,
        "port " + port + ": Permission denied (start as root, or use a port above 1023)");
}

TEST_CASE("if the port is in use, it says what to do") {
    const Maintd maintd;
    const std::string port = std::to_string(maintd.port);
    const std::string why = port +
                            ": Address already in use (stop the server that holds it, or "
                            "wait for it with -w)";
    check_error(attempt({"-p", port}), 1, "port " + why);
    check_error(attempt({"-p", port, "-l", "127.0.0.1"}), 1, "127.0.0.1 port " + why);
    CHECK(is_served(maintd.port));
}

TEST_CASE("-w says at once that it waits, and serves as soon as the port is free") {
    const TemporaryFile file("the next one");
    for (const std::string address : {"::", "0.0.0.0", "127.0.0.1", "::1"}) {
        if (address == "::1" && !has_ipv6()) continue;
        CAPTURE(address);
        const auto is_served_soon = [&] {
            Maintd former({"-l", address});
            const std::uint16_t port = former.port;
            Process next({maintd_path(), "-w", "-p", std::to_string(port), file.path});
            CHECK(next.errors.read_line() ==
                  "maintd: waiting for port " + std::to_string(port));
            CHECK(is_served(port, address == "::1" ? "::1" : "127.0.0.1"));
            CHECK(next.runs());
            const auto start = Clock::now();
            former.send_signal(SIGTERM);
            CHECK(next.errors.read_line() == first_line("localhost", port, file.path));
            const double seconds = seconds_since(start);
            CHECK(is_whole(visit(port), "the next one"));
            CHECK(former.wait().status == 0);
            return seconds < 0.25;
        };
        CHECK(succeeds_once(is_served_soon));
    }
}

TEST_CASE("a stop during the wait for the port is no error") {
    const Maintd holder;
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        Process process({maintd_path(), "-w", "-p", std::to_string(holder.port)});
        CHECK(process.errors.read_line().starts_with("maintd: waiting for port "));
        process.send_signal(number);
        const Exit exit = process.wait();
        CHECK((exit.status == 0 && exit.output + exit.errors == ""));
    }
}
