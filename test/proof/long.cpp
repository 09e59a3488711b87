// A long life ("make long"): after a million answers and a hundred thousand aborts maintd is what
// it was after the first ones. Then make runs the same mix under Valgrind and the sanitizers.
#include <cstdio>
#include <numeric>

#include "../catch.hpp"
#include "../fixture.hpp"

using namespace fixture;

namespace {

const std::string post = "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\nname=me";
const std::string chunked =
    "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
const std::string rare[] = {head, "GET /\r\n", get + get,
                            post, chunked,     "\x16\x03\x01\x02\x00"s};

// Uses 250 addresses, because the kernel keeps the port numbers of each for a minute after use.
Client connect_to(const Maintd& maintd, int number) {
    return Client(maintd.port, 0,
                  ("127.0.0." + std::to_string(number % 250 + 1)).c_str());
}

// Has three visitors at a time ask `answers` times in all. Visitor 0 sends the rarer requests,
// which come first, in two pieces. Visitor 1 half-closes. After each tenth answer one more client
// aborts. Returns how many requests did not get one whole answer.
int wrong_answers(const Maintd& maintd, int answers) {
    const std::string page = built_in_page();
    const auto wrong = together(3, [&](int visitor) {
        int count = 0;
        for (int number = visitor; number < answers; number += 3) {
            const std::string& request = number < 36 ? rare[number / 6] : get;
            const std::size_t first = number < 36 && visitor == 0 ? 3 : request.size();
            Client client = connect_to(maintd, number);
            client.send(request.substr(0, first));
            client.send(request.substr(first));
            if (visitor == 1) client.half_close();
            count += !is_whole(client.receive_all(), page, request == head);
            if (number % 10 != 0) continue;
            client = connect_to(
                maintd, number);  // which aborts: at once, in its first line, later
            const std::size_t sizes[] = {0, 5, get.size(), get.size()};
            client.send(get.substr(0, sizes[number / 10 % 4]));
            if (number % 40 == 30) client.readable(patience);
            client.abort();
        }
        return count;
    });
    return std::accumulate(wrong.begin(), wrong.end(), 0);
}

// Has maintd answer `answers` requests, `windows` times, and compares the first with the last.
void live(int windows, int answers) {
    Maintd maintd(
        {"-u", "0"});  // Only root's processes can be searched for leaks in the end.
    const std::size_t descriptors = maintd.descriptors();
    std::vector<double> seconds;  // of CPU time
    std::vector<long> kilobytes;  // of memory
    for (int i = 0; i < windows; ++i) {
        const double before = maintd.cpu_seconds();
        REQUIRE(wrong_answers(maintd, answers) == 0);
        REQUIRE(eventually([&] { return maintd.descriptors() == descriptors; }));
        seconds.push_back(maintd.cpu_seconds() - before);
        kilobytes.push_back(maintd.resident_kilobytes());
    }
    // Other programs on the machine can only make a window slower, so the fastest ones count.
    CHECK(*std::min_element(seconds.begin() + windows / 2, seconds.end()) <
          1.3 * *std::min_element(seconds.begin(), seconds.begin() + (windows + 1) / 2));
    CHECK(kilobytes.back() <= kilobytes[kilobytes.size() / 5] + 128);
    std::printf("%.1f us of CPU time for an answer, %ld kB\n",
                seconds.back() / answers * 1e6, kilobytes.back());

    CHECK(last_count(maintd.stop()) >= static_cast<unsigned long>(windows) * answers);
}

}  // namespace

TEST_CASE("after a million answers and 100,000 aborts it is what it was at the start",
          "[long]") {
    live(10, 100'000);
}

TEST_CASE("a tool that watches maintd has nothing to report", "[watched]") {
    live(1, 5'000);
}
