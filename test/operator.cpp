// SPDX-License-Identifier: 0BSD
// What the operator sees: two lines, and between them a count on a terminal. Whatever
// happens to the terminal or the log, visitors do not notice. A signal stops the server.
#include <sys/ioctl.h>
#include <termios.h>

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

// In a child: makes standard error its controlling terminal. It is in the foreground.
void control_terminal() {
    if (setsid() < 0 || ioctl(STDERR_FILENO, TIOCSCTTY, 0) < 0) _exit(126);
}

// Fills the pipe or the terminal that is standard error of a process.
void fill(const Process& process) {
    const Descriptor full =
        open(process.proc("/fd/2").c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY);
    const std::string filler(4096, '.');
    for (std::size_t size = filler.size(); size > 0;)
        if (write(full, filler.data(), size) < 0) size /= 2;
}

// Visits for so long that two counts would be due. Returns how many visitors got the
// page, or 0 if one of them did not.
unsigned long visited_for_a_while(const Maintd& maintd) {
    const auto start = Clock::now();
    for (unsigned long visits = 0;; ++visits) {
        if (seconds_since(start) > 1.3 && visits > 1) return visits;
        if (!is_served(maintd.port)) return 0;
        std::this_thread::sleep_for(5ms);
    }
}

}  // namespace

TEST_CASE("on a terminal the count grows in place, at most once a second") {
    const auto start = Clock::now();
    Maintd maintd({}, control_terminal, open_terminal());
    std::string& text = maintd.errors.text;
    CHECK(is_served(maintd.port));
    CHECK(maintd.errors.read_until(count_of(1) + "\r"));
    const unsigned long visits =
        1 + visited_for_a_while(maintd) + visited_for_a_while(maintd);
    CHECK(maintd.errors.read_until(count_of(visits) + "\r"));
    CHECK_FALSE(maintd.errors.reader.readable(1500ms));  // The count does not change.
    const double seconds = seconds_since(start);

    std::vector<unsigned long> counts;
    for (std::size_t at = 0; at < text.size(); at = text.find('\r', at) + 1) {
        counts.push_back(std::stoul(text.substr(at + std::strlen("maintd: "))));
        CHECK(text.find(count_of(counts.back()) + "\r", at) == at);
    }
    CHECK(counts.size() >= 3);
    CHECK(static_cast<double>(counts.size()) <= seconds + 1);
    CHECK(std::is_sorted(counts.begin(), counts.end(), std::less_equal<>()));
    text.clear();
    const Exit exit = maintd.stop();
    CHECK(last_count(exit) == visits);
    const int lasted = std::stoi(exit.errors.substr(exit.errors.find(" in ") + 4));
    CHECK((lasted >= 2 && lasted <= seconds_since(start)));
}

TEST_CASE("in the background the first and the last line are shown, but no count") {
    const auto run_in_background = [] {
        control_terminal();
        const pid_t other = fork();
        if (other == 0) {
            setpgid(0, 0);
            pause();  // The end of the terminal ends it.
        }
        while (tcsetpgrp(STDERR_FILENO, other) < 0) continue;  // It is no group yet.
    };
    Maintd maintd({}, run_in_background, open_terminal());
    const unsigned long visits = visited_for_a_while(maintd);
    CHECK_FALSE(maintd.errors.reader.readable());
    CHECK(last_count(maintd.stop()) == visits);  // although TOSTOP forbids it
}

TEST_CASE(
    "on a pipe nothing stands between the first line and the last, if it has room") {
    Maintd maintd, on_closed, on_full;
    on_closed.errors.reader.close();
    fill(on_full);
    const unsigned long visits = visited_for_a_while(maintd);
    CHECK(last_count(maintd.stop()) == visits);
    for (Maintd* each : {&on_closed, &on_full}) {
        CHECK(is_served(each->port));
        CHECK(each->stop().status == 0);
    }
}

TEST_CASE("a log that must not grow costs the last line, and the stop is no error") {
    const TemporaryFile file("");
    // -u 0, because otherwise prlimit() would need the right to change ids.
    Process process({maintd_path, "-p", "0", "-u", "0"}, [&] {
        dup2(open(file.path.c_str(), O_WRONLY | O_APPEND), STDERR_FILENO);
    });
    CHECK(eventually([&] { return file_content(file.path).ends_with("\n"); }));
    const std::string first_line = file_content(file.path);
    const rlimit limit{9, 9};
    REQUIRE(prlimit(process.pid, RLIMIT_FSIZE, &limit, nullptr) == 0);
    process.send_signal(SIGTERM);
    CHECK(process.wait().status == 0);
    CHECK(file_content(file.path) == first_line);
}

// kind 0: Ctrl-S stops the terminal for a while, 1: for good. 2: It is full. 3: It is
// gone. 4 to 9: It is full but for 1 byte, 2 bytes, 4 bytes and so on.
TEST_CASE("a terminal that is stuck or gone costs a count, but no visitor, and no stop") {
    const auto survive = [](int kind) -> std::string {
        const auto as_with_nohup = [] {
            control_terminal();
            signal(SIGHUP, SIG_IGN);
        };
        // -u 0, because a process that changes its user survives its parent.
        Maintd maintd({"-u", "0"}, as_with_nohup, open_terminal());
        Descriptor shell = open(maintd.proc("/fd/2").c_str(), O_WRONLY | O_NOCTTY);
        if (kind < 2)
            tcflow(shell, TCOOFF);
        else
            fill(maintd);
        std::string room(kind < 4 ? 0 : std::size_t{1} << (kind - 4), '\0');
        if (!room.empty() && read(maintd.errors.reader, room.data(), room.size()) < 0)
            return "room";
        if (kind == 3) maintd.errors.reader.close();
        const unsigned long visits = visited_for_a_while(maintd);
        if (visits == 0) return "a visitor did not get the page";
        if (kind == 0) tcflow(shell, TCOON);
        shell.close();
        const bool is_shown = kind != 1 && kind != 3;
        if (is_shown && !is_served(maintd.port)) return "the last visitor did not";
        if (is_shown && !maintd.errors.read_until(count_of(visits + 1) + "\r"))
            return maintd.errors.text;
        return maintd.stop().status == 0 ? "" : "it did not end well";
    };
    for (const std::string& outcome : together(10, survive)) CHECK(outcome == "");
}

TEST_CASE("SIGTERM, SIGINT and SIGHUP stop it, even where they were blocked") {
    const auto block_all = [] {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, nullptr);
    };
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        CAPTURE(number);
        Maintd maintd({}, block_all);
        for (int i = 0; i < 12; ++i) visit(maintd.port);
        Client(maintd.port).ask(head);
        Client(maintd.port).abort();  // It asks for nothing, so it is not counted.
        CHECK(last_count(maintd.stop(number)) == 13);
    }
}

TEST_CASE("a signal that is ignored at start stays ignored, so that nohup works") {
    for (const int number : {SIGHUP, SIGINT}) {
        Maintd maintd({}, [number] { signal(number, SIG_IGN); });
        maintd.send_signal(number);
        // A server that stops may still serve the first visitor.
        for (int visitor = 1; visitor <= 2; ++visitor) CHECK(is_served(maintd.port));
        CHECK(last_count(maintd.stop(SIGTERM)) == 2);
    }
}
