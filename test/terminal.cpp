// What the operator sees: two lines, and between them a count on a terminal. Whatever happens to
// the terminal, visitors do not notice.
#include <termios.h>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// A maintd whose standard error is a channel. Its first line has been read. On a terminal, it runs
// in the foreground unless `prepare` does something else.
struct Watched {
    Channel& channel;
    Process process;
    std::uint16_t port = 0;

    Watched(Channel& given, const std::function<void()>& prepare, const char* uid = "65534")
        : channel(given), process({maintd_path(), "-p", "0", "-u", uid}, [&given, &prepare] {
              prepare();
              dup2(given.writer, STDERR_FILENO);
          }) {
        if (!channel.read_until("\n")) throw std::runtime_error("no first line: " + channel.text);
        port = port_in(channel.text);
        channel.text.clear();
    }
    explicit Watched(Terminal& terminal) : Watched(terminal, [&terminal] { terminal.control(); }) {}
    explicit Watched(Pipe& pipe) : Watched(pipe, [] {}) {}

    bool visited() const { return is_whole(visit(port), built_in_page()); }

    // Visits for so long that two counts would be due. Returns how many visitors got the page, or 0
    // if one of them did not.
    unsigned long visited_for_a_while() const {
        const auto start = Clock::now();
        for (unsigned long visits = 0;; ++visits) {
            if (seconds_since(start) > 1.3 && visits > 1) return visits;
            if (!visited()) return 0;
            std::this_thread::sleep_for(5ms);
        }
    }

    // Asks it to stop, and reads its last line. Returns whether it ended well.
    bool stop() {
        process.send_signal(SIGTERM);
        return channel.read_until("\n") && process.wait().status == 0;
    }
};

std::string count_of(unsigned long visits) {
    return "maintd: " + std::to_string(visits) + (visits == 1 ? " request" : " requests") +
           " answered";
}

// Fills the channel until not one more byte fits, as if nobody had read for long. It opens the
// channel again, because O_NONBLOCK would otherwise hold for maintd's standard error, too.
void fill(const Channel& channel) {
    const std::string path = "/proc/self/fd/" + std::to_string(channel.writer);
    const Descriptor other = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (other < 0) throw system_error(path);
    const std::string filler(4096, '.');
    for (std::size_t size = filler.size(); size > 0;)
        if (write(other, filler.data(), size) < 0) size /= 2;
}

}  // namespace

TEST_CASE("on a terminal the count grows in place, at most once a second, when it changes") {
    Terminal terminal;
    const int flags = fcntl(terminal.writer, F_GETFL);
    const auto start = Clock::now();
    Watched maintd(terminal);
    CHECK(maintd.visited());
    CHECK(terminal.read_until(count_of(1) + "\r"));
    unsigned long visits = 1;
    for (int i = 0; i < 2; ++i) visits += maintd.visited_for_a_while();
    CHECK(terminal.read_until(count_of(visits) + "\r"));
    const double seconds = seconds_since(start);
    CHECK(fcntl(terminal.writer, F_GETFL) == flags);  // The shell's descriptor stays as it is.

    std::vector<unsigned long> counts;
    std::istringstream parts(terminal.text);
    for (std::string part; std::getline(parts, part, '\r');) {
        counts.push_back(std::stoul(part.substr(std::strlen("maintd: "))));
        CHECK(part == count_of(counts.back()));
    }
    CHECK(counts.size() >= 3);
    CHECK(static_cast<double>(counts.size()) <= seconds + 1);
    CHECK(std::is_sorted(counts.begin(), counts.end(), std::less_equal<>()));

    terminal.text.clear();  // Nothing changes now for longer than the second between two counts.
    CHECK_FALSE(terminal.reader.is_ready(POLLIN, Clock::now() + 1500ms));
    CHECK(maintd.stop());
    CHECK(terminal.text.starts_with(count_of(visits) + " in "));
    CHECK(terminal.text.find('\r') == terminal.text.size() - 2);
}

TEST_CASE("the count is shown in the foreground only, the first and the last line always") {
    Terminal terminal;
    termios settings{};
    REQUIRE(tcgetattr(terminal.writer, &settings) == 0);
    settings.c_lflag = (settings.c_lflag | TOSTOP) & ~static_cast<tcflag_t>(ECHO);
    REQUIRE(tcsetattr(terminal.writer, TCSANOW, &settings) == 0);

    // Another process is in the foreground until a line is typed. Then it brings maintd there.
    Watched maintd(terminal, [&terminal] {
        terminal.control();
        if (fork() == 0) {
            char key = 0;
            signal(SIGTTOU, SIG_IGN);
            if (setpgid(0, 0) < 0 || tcsetpgrp(terminal.writer, getpid()) < 0 ||
                read(terminal.writer, &key, 1) < 0)
                _exit(126);
            _exit(tcsetpgrp(terminal.writer, getppid()));
        }
        while (tcgetpgrp(terminal.writer) == getpid()) std::this_thread::sleep_for(1ms);
    });
    unsigned long visits = maintd.visited_for_a_while();
    CHECK(visits > 0);
    CHECK_FALSE(terminal.reader.is_ready(POLLIN, Clock::now()));
    SECTION("then it comes to the foreground, and Ctrl-C stops it") {
        REQUIRE(write(terminal.reader, "\n", 1) == 1);
        CHECK(terminal.read_until(count_of(visits) + "\r"));
        terminal.text.clear();
        REQUIRE(write(terminal.reader, "\x03", 1) == 1);
    }
    SECTION("and it is stopped in the background, where TOSTOP forbids to write") {
        maintd.process.send_signal(SIGTERM);
    }
    CHECK(terminal.read_until(count_of(visits) + " in "));
    CHECK(maintd.process.wait().status == 0);
}

TEST_CASE("on a pipe or a file nothing stands between the first line and the last") {
    Pipe pipe;
    const TemporaryFile file("");
    const int log = open(file.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    Process logged({maintd_path(), "-p", "0"}, [log] { dup2(log, STDERR_FILENO); });
    close(log);
    Watched piped(pipe);
    REQUIRE(eventually([&] { return file_content(file.path).ends_with("\n"); }));
    const std::string first_line = file_content(file.path);
    CHECK(is_whole(visit(port_in(first_line)), built_in_page()));
    const unsigned long visits = piped.visited_for_a_while();
    logged.send_signal(SIGTERM);
    CHECK(logged.wait().status == 0);
    CHECK(piped.stop());
    const std::string logged_text = file_content(file.path).substr(first_line.size());
    for (const auto& [text, count] : {std::pair{pipe.text, visits}, {logged_text, 1}}) {
        CHECK(text.starts_with(count_of(count) + " in "));
        CHECK(text.find('\n') == text.size() - 1);
        CHECK(text.find('\r') == text.npos);
    }
}

// ---- A terminal that does not take what is written to it ----------------------------------------

namespace {

// Returns what went wrong, or "". The terminal gets stuck by Ctrl-S if `kind` is 0. Otherwise it is
// full, or has room for 1 byte, 2 bytes, 4 bytes and so on.
std::string survive(int kind) {
    Terminal terminal;
    Watched maintd(terminal);
    const bool ctrl_s = kind == 0;
    std::string room(kind < 2 ? 0 : std::size_t{1} << (kind - 2), '\0');
    if (ctrl_s) tcflow(terminal.writer, TCOOFF);
    if (!ctrl_s) fill(terminal);
    if (!room.empty() && read(terminal.reader, room.data(), room.size()) < 0) return "no room";
    const unsigned long visits = maintd.visited_for_a_while();
    if (visits == 0) return "a visitor did not get the page";
    if (ctrl_s) tcflow(terminal.writer, TCOON);
    if (!maintd.visited()) return "a visitor did not get the page at the end";
    if (!terminal.read_until(count_of(visits + 1) + "\r")) return "no count: " + terminal.text;
    return maintd.stop() ? "" : "it did not end well";
}

}  // namespace

TEST_CASE("a terminal that is stuck costs a count, and never a visitor") {
    for (const std::string& outcome : together(15, survive)) CHECK(outcome == "");
}

TEST_CASE("a terminal or a pipe that is gone, or a full pipe, changes nothing for visitors") {
    Terminal terminal;
    Pipe closed, full;
    const auto as_with_nohup = [&terminal] {
        terminal.control();
        signal(SIGHUP, SIG_IGN);
    };
    // -u 0, because a process that changes its user survives its parent, here even Ctrl-C.
    Watched on_terminal(terminal, as_with_nohup, "0");
    Watched on_closed(closed), on_full(full);
    for (Channel* channel : {static_cast<Channel*>(&terminal), static_cast<Channel*>(&closed)}) {
        channel->writer.close();
        channel->reader.close();
    }
    fill(full);
    for (Watched* maintd : {&on_terminal, &on_closed, &on_full})
        CHECK(maintd->visited_for_a_while() > 0);
    CHECK(on_full.stop());
    for (Watched* maintd : {&on_terminal, &on_closed}) {
        maintd->process.send_signal(SIGTERM);
        CHECK(maintd->process.wait().status == 0);
    }
}
