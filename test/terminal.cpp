// What the operator sees: two lines, and between them a count on a terminal. Whatever happens to
// the terminal, visitors do not notice.
#include <sys/ioctl.h>
#include <termios.h>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// A terminal as standard error. It does not show what is typed.
Channel open_terminal() {
    Channel terminal{posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), {}};
    if (terminal.reader >= 0 && unlockpt(terminal.reader) == 0)
        terminal.writer =
            ioctl(terminal.reader, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    termios settings{};
    if (tcgetattr(terminal.writer, &settings) < 0) throw system_error("pty");
    settings.c_lflag = (settings.c_lflag | TOSTOP) & ~static_cast<tcflag_t>(ECHO);
    tcsetattr(terminal.writer, TCSANOW, &settings);
    return terminal;
}

// In a child: makes standard error its controlling terminal, with the child in the foreground.
void control_terminal() {
    if (setsid() < 0 || ioctl(STDERR_FILENO, TIOCSCTTY, 0) < 0) _exit(126);
}

// Visits for so long that two counts would be due. Returns how many visitors got the page, or 0 if
// one of them did not.
unsigned long visited_for_a_while(const Maintd& maintd) {
    const auto start = Clock::now();
    for (unsigned long visits = 0;; ++visits) {
        if (seconds_since(start) > 1.3 && visits > 1) return visits;
        if (!is_served(maintd.port)) return 0;
        std::this_thread::sleep_for(5ms);
    }
}

// Opens the standard error of `maintd` again, with flags of its own.
Descriptor open_errors(const Maintd& maintd) {
    const std::string path = maintd.proc("/fd/2");
    const int number = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return number >= 0 ? number : throw system_error(path);
}

// Fills it until not one more byte fits, as if nobody had read it lately.
void fill(const Descriptor& channel) {
    const std::string filler(4096, '.');
    for (std::size_t size = filler.size(); size > 0;)
        if (write(channel, filler.data(), size) < 0) size /= 2;
}

}  // namespace

TEST_CASE(
    "on a terminal the count grows in place, at most once a second, when it changes") {
    Channel opened = open_terminal();
    Descriptor shell = dup(opened.writer);
    const int flags = fcntl(shell, F_GETFL);
    const auto start = Clock::now();
    Maintd maintd({}, control_terminal, std::move(opened));
    Channel& terminal = maintd.errors;
    CHECK(is_served(maintd.port));
    CHECK(terminal.read_until(count_of(1) + "\r"));
    const unsigned long visits =
        1 + visited_for_a_while(maintd) + visited_for_a_while(maintd);
    CHECK(terminal.read_until(count_of(visits) + "\r"));
    const double seconds = seconds_since(start);
    CHECK(fcntl(shell, F_GETFL) == flags);  // The shell's descriptor stays as it is.
    shell.close();

    std::vector<unsigned long> counts;
    for (std::size_t at = 0; at < terminal.text.size();
         at = terminal.text.find('\r', at) + 1) {
        counts.push_back(std::stoul(terminal.text.substr(at + std::strlen("maintd: "))));
        CHECK(terminal.text.find(count_of(counts.back()) + "\r", at) == at);
    }
    CHECK(counts.size() >= 3);
    CHECK(static_cast<double>(counts.size()) <= seconds + 1);
    CHECK(std::is_sorted(counts.begin(), counts.end(), std::less_equal<>()));

    terminal.text
        .clear();  // Nothing changes now for longer than the second between two counts.
    CHECK_FALSE(terminal.reader.is_ready(POLLIN, Clock::now() + 1500ms));
    CHECK(last_count(maintd.stop()) == visits);
}

TEST_CASE(
    "the count is shown in the foreground only, the first and the last line always") {
    // Another process is in the foreground until a line is typed. Then it brings maintd there.
    const auto run_in_background = [] {
        control_terminal();
        if (fork() == 0) {
            char key = 0;
            signal(SIGTTOU, SIG_IGN);
            if (setpgid(0, 0) < 0 || tcsetpgrp(STDERR_FILENO, getpid()) < 0 ||
                read(STDERR_FILENO, &key, 1) < 0)
                _exit(126);
            _exit(tcsetpgrp(STDERR_FILENO, getppid()));
        }
        while (tcgetpgrp(STDERR_FILENO) == getpid()) std::this_thread::sleep_for(1ms);
    };
    Maintd called({}, run_in_background, open_terminal());
    Maintd stopped({}, run_in_background, open_terminal());
    const unsigned long visits = visited_for_a_while(called);
    CHECK(is_served(stopped.port));
    for (Maintd* each : {&called, &stopped})
        CHECK_FALSE(each->errors.reader.is_ready(POLLIN, Clock::now() + 50ms));
    REQUIRE(write(called.errors.reader, "\n", 1) == 1);
    CHECK(called.errors.read_until(count_of(visits) + "\r"));
    called.errors.text.clear();
    REQUIRE(write(called.errors.reader, "\x03", 1) == 1);  // Ctrl-C stops it there.
    CHECK(last_count(called.wait()) == visits);
    CHECK(last_count(stopped.stop()) == 1);  // TOSTOP forbids to write in the background.
}

TEST_CASE("on a pipe or a file nothing stands between the first line and the last") {
    const TemporaryFile file("");
    const std::string port = std::to_string(Maintd().port);
    Process logged(
        {"sh", "-c", "exec \"$0\" -p " + port + " 2>>" + file.path, maintd_path()});
    REQUIRE(eventually([&] { return file_content(file.path).ends_with("\n"); }));
    const std::size_t first_line = file_content(file.path).size();
    Maintd piped;
    const unsigned long visits = visited_for_a_while(piped);
    CHECK(is_served(static_cast<std::uint16_t>(std::stoi(port))));
    CHECK(last_count(piped.stop()) == visits);
    logged.send_signal(SIGTERM);
    const int status = logged.wait().status;
    CHECK(last_count({status, "", file_content(file.path).substr(first_line)}) == 1);
}

TEST_CASE("a terminal that is stuck costs a count, and never a visitor") {
    // The terminal gets stuck by Ctrl-S if `kind` is 0. Otherwise it is full, or has room for 1
    // byte, 2 bytes, 4 bytes and so on.
    const auto survive = [](int kind) -> std::string {
        Maintd maintd({}, control_terminal, open_terminal());
        Descriptor shell = open_errors(maintd);
        std::string room(kind < 2 ? 0 : std::size_t{1} << (kind - 2), '\0');
        if (kind == 0) tcflow(shell, TCOOFF);
        if (kind != 0) fill(shell);
        if (!room.empty() && read(maintd.errors.reader, room.data(), room.size()) < 0)
            return "room";
        const unsigned long visits = visited_for_a_while(maintd);
        if (visits == 0) return "a visitor did not get the page";
        if (kind == 0) tcflow(shell, TCOON);
        shell.close();
        if (!is_served(maintd.port)) return "a visitor did not get the page at the end";
        if (!maintd.errors.read_until(count_of(visits + 1) + "\r"))
            return maintd.errors.text;
        return maintd.stop().status == 0 ? "" : "it did not end well";
    };
    for (const std::string& outcome : together(15, survive)) CHECK(outcome == "");
}

TEST_CASE(
    "a terminal or a pipe that is gone, or a full pipe, changes nothing for visitors") {
    const auto as_with_nohup = [] {
        control_terminal();
        signal(SIGHUP, SIG_IGN);
    };
    // -u 0, because a process that changes its user survives its parent, here even Ctrl-C.
    Maintd on_terminal({"-u", "0"}, as_with_nohup, open_terminal()), on_closed, on_full;
    for (Maintd* maintd : {&on_terminal, &on_closed}) maintd->errors.reader.close();
    fill(open_errors(on_full));
    Maintd* const all[] = {&on_terminal, &on_closed, &on_full};
    for (const unsigned long visits :
         together(3, [&](int i) { return visited_for_a_while(*all[i]); }))
        CHECK(visits > 0);
    for (Maintd* maintd : {&on_terminal, &on_closed}) CHECK(maintd->stop().status == 0);
    on_full.send_signal(SIGTERM);
    CHECK(on_full.errors.read_until(" answered in "));
    CHECK(on_full.wait().status == 0);
}
