// A long life ("make long"): after a million answers and a hundred thousand aborts maintd is what
// it was after the first ones; and Valgrind and the sanitizers find nothing in the same mix.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "../catch.hpp"
#include "../fixture.hpp"
#include "cases.hpp"

using namespace fixture;

namespace {

// A client at one of 50,000 addresses, for each has port numbers of its own: those of one would run
// out, as the kernel keeps them for a minute after the end of a connection.
Client client_of(const Maintd& maintd, int number) {
    const std::string to =
        "127.0." + std::to_string(number / 200 % 250) + "." + std::to_string(number % 200 + 1);
    return Client(maintd.port, 0, to.c_str());
}

// Sends all of the tests' requests at a time, in each of the ways that visitors have: in two
// pieces, with a half-close, at once. Returns how many did not get one whole response.
int wrong_answers_to_all(const Maintd& maintd, const std::string& page) {
    int wrong = 0;
    for (int way = 0; way < 3; ++way) {
        std::vector<Client> clients;
        for (const cases::Request& request : cases::requests()) {
            const std::string_view bytes = request.bytes;
            Client& client = clients.emplace_back(client_of(maintd, way));
            if (way == 0) client.send(bytes.substr(0, 3));
            client.send(bytes.substr(way == 0 ? 3 : 0));
            if (way == 1) client.half_close();
        }
        for (std::size_t i = 0; i < clients.size(); ++i)
            wrong += !is_whole(clients[i].receive_all(), page, cases::requests()[i].is_head);
    }
    return wrong;
}

// Aborts: at once, within the request line, after it, or within the answer.
void abort_one(const Maintd& maintd, int number) {
    Client client = client_of(maintd, number);
    if (number % 4 > 0)
        client.send(std::string_view(get).substr(0, number % 4 == 1 ? 5 : get.size()));
    if (number % 4 == 3) client.readable(patience);
    client.abort();
}

// Has three visitors at a time ask `answers` times, and abort one more connection after each tenth
// of them; then come all other requests, five times. Returns how many got a wrong answer.
int wrong_answers(const Maintd& maintd, int answers) {
    constexpr int visitors = 3;
    const std::string page = built_in_page();
    const auto wrong = together(visitors, [&](int visitor) {
        int count = 0;
        for (int number = visitor; number < answers; number += visitors) {
            count += !is_whole(client_of(maintd, number).ask(get), page);
            if (number % 10 == 0) abort_one(maintd, number / 10);
        }
        return count;
    });
    int count = std::accumulate(wrong.begin(), wrong.end(), 0);
    for (int i = 0; i < 5; ++i) count += wrong_answers_to_all(maintd, page);
    return count;
}

// Whether maintd has ended as it should, with one line that speaks of at least `answers`.
bool has_ended_well(const Exit& exit, long answers) {
    long count = 0;
    int size = 0;
    std::sscanf(exit.errors.c_str(), " maintd: %ld requests answered in %*d s %n", &count, &size);
    return exit.status == 0 && count >= answers && size == static_cast<int>(exit.errors.size());
}

// Asks a maintd that runs with a variable of the environment set, and expects a clean end.
void expect_no_report(const char* variable, const char* value, std::vector<std::string> options,
                      int answers) {
    setenv(variable, value, 1);
    Maintd maintd(std::move(options));
    unsetenv(variable);
    CHECK(wrong_answers(maintd, answers) == 0);
    const Exit exit = maintd.stop();
    INFO(exit.errors);
    CHECK(has_ended_well(exit, answers));
}

}  // namespace

TEST_CASE("after a million answers and 100,000 aborts it is what it was at the start") {
    constexpr int windows = 10, answers = 100'000;
    Maintd maintd;
    const std::size_t descriptors = maintd.descriptors();
    std::vector<double> microseconds;  // of CPU time for each answer
    std::vector<long> kilobytes;
    for (int i = 0; i < windows; ++i) {
        const double before = maintd.cpu_seconds();
        REQUIRE(wrong_answers(maintd, answers) == 0);
        REQUIRE(eventually([&] { return maintd.descriptors() == descriptors; }));
        microseconds.push_back((maintd.cpu_seconds() - before) / answers * 1e6);
        kilobytes.push_back(maintd.resident_kilobytes());
    }
    // Other programs on the machine can only make a window slower, so the fastest ones count.
    const auto middle = microseconds.begin() + windows / 2;
    const double first = *std::min_element(microseconds.begin(), middle);
    const double last = *std::min_element(middle, microseconds.end());
    std::printf(
        "a million answers: %.1f us of CPU time each at first, %.1f at last; "
        "%ld kB of memory at first, %ld at last\n",
        first, last, kilobytes[2], kilobytes.back());
    CHECK(last < 1.3 * first);
    CHECK(kilobytes.back() <= kilobytes[2] + 128);
    const Exit exit = maintd.stop();
    INFO(exit.errors);
    CHECK(has_ended_well(exit, windows * answers));
}

TEST_CASE("the sanitizers report nothing") {
    const char* path = "test/proof/maintd-sanitized";  // which "make long" builds
    REQUIRE(file_content(path).find("__asan_init") != std::string::npos);
    // The search for leaks has to trace the process, which is forbidden once root is given up.
    expect_no_report("MAINTD", path, {"-u", "0"}, 20'000);
}

TEST_CASE("Valgrind reports nothing") {
    if (run({"valgrind", "--version"}).status != 0) FAIL("install valgrind and libc6-dbg");
    expect_no_report("MAINTD_WRAPPER",
                     "valgrind -q --vgdb=no --leak-check=full --show-leak-kinds=all "
                     "--error-exitcode=99",
                     {}, 5'000);
}
