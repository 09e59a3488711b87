// A long life ("make long"): after a million answers and a hundred thousand aborts maintd is what
// it was after the first ones; and Valgrind and the sanitizers find nothing in the same mix.
#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>

#include "cases.hpp"
#include "../catch.hpp"
#include "../fixture.hpp"

using namespace fixture;

namespace {

// A client at one of 50,000 addresses, for each has port numbers of its own: those of one would run
// out, as the kernel keeps them for a minute after the end of a connection.
Client client_of(const Maintd& maintd, int number) {
    const std::string to =
        "127.0." + std::to_string(number / 200 % 250) + "." + std::to_string(number % 200 + 1);
    return Client(maintd.port, 0, to.c_str());
}

// Sends one of the tests' requests, in one of the ways that visitors have; returns whether it got
// one whole answer.
bool is_answered(const Maintd& maintd, int number, const std::string& page) {
    const auto& requests = cases::requests();
    const auto which = static_cast<std::size_t>(number) % requests.size();
    const auto way = static_cast<std::size_t>(number) / requests.size() % 3;
    const std::string_view bytes = requests[which].bytes;
    Client client = client_of(maintd, number);
    if (way == 0) client.send(bytes.substr(0, 3));
    client.send(bytes.substr(way == 0 ? 3 : 0));
    if (way == 1) client.half_close();
    return is_whole(client.receive_all(), page, requests[which].is_head);
}

// Aborts: at once, within the request line, after it, or within the answer.
void abort_one(const Maintd& maintd, int number) {
    Client client = client_of(maintd, number);
    if (number % 4 > 0)
        client.send(std::string_view(get).substr(0, number % 4 == 1 ? 5 : get.size()));
    if (number % 4 == 3) client.readable(patience);
    client.abort();
}

// Has three visitors at a time send `answers` requests, and abort one more connection after each
// tenth of them; returns how many did not get their answer.
int wrong_answers(const Maintd& maintd, int answers) {
    constexpr int visitors = 3;
    const std::string page = built_in_page();
    const auto wrong = together(visitors, [&](int visitor) {
        int count = 0;
        for (int number = visitor; number < answers; number += visitors) {
            if (!is_answered(maintd, number, page)) ++count;
            if (number % 10 == 0) abort_one(maintd, number / 10);
        }
        return count;
    });
    return std::accumulate(wrong.begin(), wrong.end(), 0);
}

// What one part of the long life has cost.
struct Window {
    double microseconds;  // of CPU time, per answer
    double kilobytes;     // of memory, afterwards
};

// The median of five windows, from `first` on, of what `value` picks.
double median(const std::vector<Window>& windows, std::size_t first, double Window::*value) {
    std::array<double, 5> values{};
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = windows.at(first + i).*value;
    std::sort(values.begin(), values.end());
    return values[2];
}

// Whether maintd has ended as it should, with one line that speaks of at least `answers`.
bool has_ended_well(const Exit& exit, long answers) {
    long count = 0;
    int size = 0;
    std::sscanf(exit.errors.c_str(), " maintd: %ld requests answered in %*d s %n", &count, &size);
    return exit.status == 0 && count >= answers && size == static_cast<int>(exit.errors.size());
}

// Sets a variable of the environment for as long as the object lives.
class Environment {
  public:
    Environment(const char* name, const std::string& value) : name_(name) {
        if (const char* old = std::getenv(name)) old_ = old;
        setenv(name, value.c_str(), 1);
    }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    ~Environment() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

  private:
    const char* name_;
    std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("after a million answers and 100,000 aborts it is what it was at the start") {
    constexpr int windows_in_all = 20;
    constexpr int answers = 50'000;
    Maintd maintd;
    const std::size_t descriptors = maintd.descriptors();
    const auto only_own_descriptors = [&] { return maintd.descriptors() == descriptors; };
    std::vector<Window> windows;
    for (int i = 0; i < windows_in_all; ++i) {
        const double before = maintd.cpu_seconds();
        REQUIRE(wrong_answers(maintd, answers) == 0);
        REQUIRE(eventually(only_own_descriptors));
        windows.push_back({(maintd.cpu_seconds() - before) / answers * 1e6,
                           static_cast<double>(maintd.resident_kilobytes())});
    }
    const double time_first = median(windows, 0, &Window::microseconds);
    const double time_last = median(windows, windows_in_all - 5, &Window::microseconds);
    const double memory_first = median(windows, 0, &Window::kilobytes);
    const double memory_last = median(windows, windows_in_all - 5, &Window::kilobytes);
    std::printf(
        "a million answers: %.1f us of CPU time each at first, %.1f at last;\n"
        "%.0f kB of memory at first, %.0f at last; %zu descriptors\n",
        time_first, time_last, memory_first, memory_last, maintd.descriptors());
    CHECK(time_last < 1.5 * time_first);
    CHECK(memory_last <= memory_first + 128);
    const Exit exit = maintd.stop();
    INFO(exit.errors);
    CHECK(has_ended_well(exit, windows_in_all * answers));
}

TEST_CASE("the sanitizers report nothing") {
    const char* path = "test/proof/maintd-sanitized";  // which "make long" builds
    const Environment binary("MAINTD", path);
    // The search for leaks has to trace the process, which one who has given up root forbids.
    Maintd maintd({"-u", "0"});
    REQUIRE(file_content(path).find("__asan_init") != std::string::npos);
    CHECK(wrong_answers(maintd, 20'000) == 0);
    const Exit exit = maintd.stop();
    INFO(exit.errors);
    CHECK(has_ended_well(exit, 20'000));
}

TEST_CASE("Valgrind reports nothing") {
    if (run({"valgrind", "--version"}).status != 0) FAIL("install valgrind and libc6-dbg");
    const Environment wrapper("MAINTD_WRAPPER",
                              "valgrind -q --vgdb=no --leak-check=full "
                              "--show-leak-kinds=all --error-exitcode=99");
    Maintd maintd;
    CHECK(wrong_answers(maintd, 5'000) == 0);
    const Exit exit = maintd.stop();
    INFO(exit.errors);
    CHECK(has_ended_well(exit, 5'000));
}
