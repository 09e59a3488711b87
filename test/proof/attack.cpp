// Attacks ("make attack"): while each of them lasts, a visitor comes every 50 ms and gets the page,
// usually at most half a second later than without an attack; and memory stays bounded.
#include <algorithm>
#include <cstdio>
#include <future>

#include "../catch.hpp"
#include "../fixture.hpp"

using namespace fixture;

namespace {

double median(std::vector<double> numbers) {
    std::sort(numbers.begin(), numbers.end());
    return numbers[numbers.size() / 2];
}

// How many connections there are in an attack. maintd keeps 1,024: the visitor needs one of them.
constexpr int many = 1'000;
const std::string small_page(4'000, 'p'), large_page(1 << 20, 'p');

// Returns the memory that all of the machine's TCP connections hold.
long kernel_kilobytes() {
    const std::string text = file_content("/proc/net/sockstat");
    const std::size_t value = text.find(" mem ", text.find("TCP:"));
    return std::stol(text.substr(value + 5)) * sysconf(_SC_PAGESIZE) / 1024;
}

// Runs `attack` against a maintd that serves `page`. What shows that it was an attack: it returns
// true, `open` connections were open at once, and `answered` requests of its own were answered.
void withstand(const char* name, const std::string& page, int open,
               unsigned long answered, const std::function<bool(std::uint16_t)>& attack) {
    const TemporaryFile file(page);
    set_descriptor_limit(RLIM_INFINITY);
    Maintd maintd({file.path}), calm({file.path});
    const std::size_t descriptors = maintd.descriptors();
    REQUIRE(is_whole(visit(maintd.port), page));
    const long memory = maintd.resident_kilobytes(), kernel = kernel_kilobytes();
    std::size_t most_descriptors = 0;
    long most_memory = 0, most_kernel = 0;
    unsigned long visits = 0, failed = 0;
    std::vector<double> seconds, calm_seconds;
    const auto visit_seconds = [&](std::uint16_t port) {
        const auto start = Clock::now();
        failed += !is_whole(visit(port), page);
        return seconds_since(start);
    };

    auto end = std::async(std::launch::async, attack, maintd.port);
    for (; end.wait_for(0s) != std::future_status::ready; ++visits) {
        const auto start = Clock::now();
        seconds.push_back(visit_seconds(maintd.port));
        calm_seconds.push_back(visit_seconds(calm.port));
        most_descriptors = std::max(most_descriptors, maintd.descriptors());
        most_memory = std::max(most_memory, maintd.resident_kilobytes());
        most_kernel = std::max(most_kernel, kernel_kilobytes());
        std::this_thread::sleep_until(start + 50ms);
    }
    const double usual = median(seconds), calm_usual = median(calm_seconds);
    std::printf(
        "%s: %lu visits, %.3f s (without an attack %.3f s); %ld kB, %ld kB of the "
        "kernel's\n",
        name, visits, usual, calm_usual, most_memory, most_kernel - kernel);
    CHECK(end.get());
    CHECK(failed == 0);
    CHECK(usual < 0.5 + 3 * calm_usual);
    CHECK(most_descriptors >= descriptors + static_cast<std::size_t>(open));
    CHECK(most_memory < memory + 2'000);
    CHECK(most_kernel < kernel + 800'000);

    CHECK(eventually([&] { return maintd.descriptors() == descriptors; }));
    CHECK(maintd.uses_less_than(0.05));
    CHECK(is_whole(visit(maintd.port), page));
    CHECK(last_count(maintd.stop()) >= answered + visits);
}

// Calls connect(0), connect(1) and so on, 500 times in each tenth of a second. Faster is no harder
// attack, but a race for the machine's processors, which says nothing of maintd.
void flood(int tenths, const std::function<void(int)>& connect) {
    for (int tenth = 0; tenth < tenths; ++tenth) {
        const auto next = Clock::now() + 100ms;
        for (int i = 0; i < 500; ++i) connect(500 * tenth + i);
        std::this_thread::sleep_until(next);
    }
}

// An attack: `many` connections send `first` at once, and then `next` every second, for 12 s.
auto drip(std::string first, std::string next, int receive_buffer = 0) {
    return [=](std::uint16_t port) {
        std::vector<Client> clients;
        for (int i = 0; i < many; ++i)
            clients.emplace_back(port, receive_buffer).send(first);
        for (int second = 0; second < 12; ++second) {
            const auto time = Clock::now() + 1s;
            for (Client& client : clients) client.send(next);
            std::this_thread::sleep_until(time);
        }
        return true;
    };
}

}  // namespace

TEST_CASE("a thousand clients drip their requests, or do not read a page of 1 MiB") {
    const std::string post = "POST / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n";
    withstand("a dripping request line", small_page, many, 0, drip("G", "G"));
    withstand("dripping header fields", small_page, many, many,
              drip("GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n"));
    withstand("dripping bodies", small_page, many, many, drip(post, "b"));
    withstand("slow readers", large_page, many, 0, drip(get, "", 1));
}

TEST_CASE("a flood of connections that are opened and never used") {
    withstand("unused connections", small_page, many, 0, [](std::uint16_t port) {
        std::vector<Client> idle;
        flood(20, [&](int) { idle.emplace_back(port); });
        return idle.back().readable(
            20s);  // evicted in favour of others, or after its ten seconds
    });
}

TEST_CASE("a flood of aborts") {
    withstand("aborts", small_page, 0, 0, [](std::uint16_t port) {
        flood(60, [port](int number) {
            Client client(port);
            if (number % 3 == 1) client.send("GET /");
            if (number % 3 == 2) client.send(get);
            client.abort();
        });
        return true;
    });
}
