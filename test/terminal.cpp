// What the operator sees: two lines, and on a terminal a count between them. Whatever becomes of
// the reader of standard error, the visitors do not notice.
#include <termios.h>

#include <algorithm>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// The two ends of a channel for standard error: maintd writes into one, the operator reads the
// other. Neither is inherited unless a child asks for it.
struct Channel {
    int reader = -1;
    int writer = -1;
    std::string text{};  // what has been read

    Channel() = default;
    Channel(const Channel&) = delete;
    ~Channel() {
        close(reader);
        close(writer);
    }

    // Reads what comes until `limit` is over or `enough` says so; returns whether it did.
    bool read_until(const std::function<bool()>& enough,
                    std::chrono::milliseconds limit = patience) {
        const auto end = Clock::now() + limit;
        while (!enough()) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
            pollfd entry{reader, POLLIN, 0};
            char bytes[4096];
            if (left <= 0ms || poll(&entry, 1, static_cast<int>(left.count())) <= 0) return false;
            const ssize_t size = read(reader, bytes, sizeof bytes);
            if (size <= 0) return false;
            text.append(bytes, static_cast<std::size_t>(size));
        }
        return true;
    }
    bool read_until(const std::string& part, std::chrono::milliseconds limit = patience) {
        return read_until([&] { return text.find(part) != std::string::npos; }, limit);
    }
    void read_for(std::chrono::milliseconds span) {
        read_until([] { return false; }, span);
    }
    void close_reader() { close(std::exchange(reader, -1)); }

    // Fills the channel until not one more byte fits, as if nobody had read for long. Not through
    // `writer`: maintd shares that, and would find it non-blocking, too.
    void fill() {
        const std::string path = "/proc/self/fd/" + std::to_string(writer);
        const int other = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (other < 0) throw system_error(path);
        const std::string filler(4096, '.');
        for (std::size_t size = filler.size(); size > 0;)
            if (write(other, filler.data(), size) < 0) size /= 2;
        close(other);
    }
};

struct Pipe : Channel {
    Pipe() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0) throw system_error("pipe");
        reader = ends[0];
        writer = ends[1];
    }
};

struct Terminal : Channel {
    Terminal() {
        reader = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (reader < 0 || grantpt(reader) < 0 || unlockpt(reader) < 0) throw system_error("pty");
        writer = open(ptsname(reader), O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (writer < 0) throw system_error("pty");
    }
};

// A maintd whose standard error is a channel; it serves, and the first line has been read.
struct Watched {
    Channel& channel;
    Process process;
    std::uint16_t port = 0;

    explicit Watched(Channel& given, const std::string& page = "maintenance.html")
        : channel(given), process({maintd_path(), "-p", "0", page}, [&given] {
              dup2(given.writer, STDERR_FILENO);
          }) {
        if (!channel.read_until("\n")) throw std::runtime_error("no first line: " + channel.text);
        port =
            static_cast<std::uint16_t>(std::stoi(channel.text.substr(channel.text.rfind(':') + 1)));
        channel.text.clear();
    }

    bool visited() const { return is_whole(visit(port), built_in_page()); }

    // Visits for so long that two counts would be due; returns whether every visitor got the page.
    bool visited_for_a_while() const {
        const auto start = Clock::now();
        while (seconds_since(start) < 1.3) {
            if (!visited()) return false;
            std::this_thread::sleep_for(5ms);
        }
        return true;
    }

    // Asks it to stop; returns its exit status, or throws when it does not end.
    int stop() {
        process.send_signal(SIGTERM);
        return process.wait(5s).status;
    }
};

// Returns the numbers that stand before " requests answered".
std::vector<unsigned long> counts_in(const std::string& text) {
    std::vector<unsigned long> counts;
    const std::string after = " requests answered";
    for (std::size_t end = text.find(after); end != text.npos; end = text.find(after, end + 1))
        counts.push_back(std::stoul(text.substr(text.find_last_of(' ', end - 1) + 1)));
    return counts;
}

}  // namespace

TEST_CASE("on a terminal the count grows in place, at most once a second") {
    Terminal terminal;
    Watched maintd(terminal);
    CHECK(maintd.visited());
    CHECK(terminal.read_until("1 requests answered", 2s));

    // Three seconds of visits are what this is about.
    const auto start = Clock::now();
    unsigned long visits = 1;
    for (; seconds_since(start) < 3; ++visits) {
        REQUIRE(maintd.visited());
        terminal.read_for(20ms);
    }
    CHECK(terminal.read_until(std::to_string(visits) + " requests answered", 2s));
    const auto counts = counts_in(terminal.text);
    CHECK(counts.size() >= 3);
    CHECK(counts.size() <= 6);
    CHECK(std::is_sorted(counts.begin(), counts.end()));
    CHECK(std::adjacent_find(counts.begin(), counts.end()) == counts.end());
    CHECK(terminal.text.find('\n') == terminal.text.npos);
    CHECK(terminal.text.find('\r') != terminal.text.npos);
}

TEST_CASE("a count that has not changed is not shown again") {
    Terminal terminal;
    Watched maintd(terminal);
    terminal.read_for(300ms);
    CHECK(terminal.text.empty());
    CHECK(maintd.visited());
    CHECK(terminal.read_until("1 requests answered", 2s));
    terminal.text.clear();
    terminal.read_for(1500ms);  // longer than the second after which a change would be shown
    CHECK(terminal.text.find_first_not_of('\r') == terminal.text.npos);
}

TEST_CASE("on a terminal the last line replaces the count") {
    Terminal terminal;
    Watched maintd(terminal);
    for (int i = 0; i < 5; ++i) CHECK(maintd.visited());
    CHECK(maintd.stop() == 0);
    CHECK(terminal.read_until("\n", 2s));
    const std::string& text = terminal.text;
    const std::size_t at = text.find("maintd: 5 requests answered in ");
    REQUIRE(at != text.npos);
    CHECK((at == 0 || text[at - 1] == '\r'));
    CHECK(text.ends_with(" s\r\n"));
}

TEST_CASE("on a pipe or a file nothing stands between the first line and the last") {
    const auto start = Clock::now();
    Pipe pipe;
    const TemporaryFile file("");
    const int log = open(file.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    Process logged({maintd_path(), "-p", "0"}, [log] { dup2(log, STDERR_FILENO); });
    close(log);
    Watched piped(pipe);
    REQUIRE(eventually([&] { return file_content(file.path).ends_with("/\n"); }));
    const std::string first_line = file_content(file.path);
    const auto port =
        static_cast<std::uint16_t>(std::stoi(first_line.substr(first_line.rfind(':') + 1)));

    // So long that a terminal would have got two counts.
    unsigned visits = 0;
    for (; seconds_since(start) < 1.3 || visits == 0; ++visits) {
        std::this_thread::sleep_for(5ms);
        REQUIRE(piped.visited());
        REQUIRE(is_whole(visit(port), built_in_page()));
    }
    logged.send_signal(SIGTERM);
    CHECK(logged.wait().status == 0);
    CHECK(piped.stop() == 0);
    pipe.read_until("\n");
    for (const std::string& text : {pipe.text, file_content(file.path).substr(first_line.size())}) {
        CHECK(text.starts_with("maintd: " + std::to_string(visits) + " requests answered in "));
        CHECK(text.find('\n') == text.size() - 1);
        CHECK(text.find('\r') == text.npos);
    }
}

TEST_CASE("a terminal that is stuck changes nothing for visitors") {
    Terminal terminal;
    Watched maintd(terminal);
    SECTION("because nobody reads it") { terminal.fill(); }
    SECTION("because of Ctrl-S") {
        const int other = open(ptsname(terminal.reader), O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(tcflow(other, TCOOFF) == 0);
        close(other);
    }
    CHECK(maintd.visited_for_a_while());
    CHECK(maintd.stop() == 0);
}

// How many bytes fit decides how far a line gets. All at once, for each takes a while.
TEST_CASE("a terminal with room for a few bytes changes nothing for visitors") {
    const auto survives = [](int room) {
        Terminal terminal;
        Watched maintd(terminal);
        terminal.fill();
        std::string bytes(static_cast<std::size_t>(room), '\0');
        const ssize_t freed = read(terminal.reader, bytes.data(), bytes.size());
        return freed > 0 && maintd.visited_for_a_while() && maintd.stop() == 0;
    };
    for (const bool survived : together(14, [&](int i) { return survives(1 << i); }))
        CHECK(survived);
}

TEST_CASE("a terminal that is gone changes nothing for visitors") {
    Terminal terminal;
    Watched maintd(terminal);
    close(std::exchange(terminal.writer, -1));
    terminal.close_reader();  // the session ends; maintd has been started with nohup or setsid
    CHECK(maintd.visited_for_a_while());
    CHECK(maintd.stop() == 0);
}

TEST_CASE("a pipe that nobody reads changes nothing for visitors") {
    Pipe pipe;
    Watched maintd(pipe);
    SECTION("and that is closed") { pipe.close_reader(); }
    SECTION("and that is full") { pipe.fill(); }
    for (int i = 0; i < 10; ++i) CHECK(maintd.visited());
    CHECK(maintd.stop() == 0);
}
