// Attacks ("make attack"): while each of them lasts, a visitor comes every 50 ms and gets the page
// in less than a second, and memory stays bounded; afterwards all is as it was before.
#include <algorithm>
#include <atomic>
#include <cstdio>

#include "../catch.hpp"
#include "../fixture.hpp"

using namespace fixture;

namespace {

// The memory that all of the machine's TCP connections hold.
long kernel_kilobytes() {
    const std::string text = file_content("/proc/net/sockstat");
    const std::size_t value = text.find(" mem ", text.find("TCP:"));
    return std::stol(text.substr(value + 5)) * sysconf(_SC_PAGESIZE) / 1024;
}

// Comes again and again, and watches the memory, from its start until report().
class Watch {
  public:
    Watch(const Maintd& maintd, std::string page)
        : maintd_(maintd), page_(std::move(page)), thread_([this] { run(); }) {}
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() {
        over_ = true;
        if (thread_.joinable()) thread_.join();
    }

    struct Report {
        int visits = 0;
        int failed = 0;               // visits without one whole answer
        double slowest = 0;           // seconds
        long kilobytes = 0;           // of memory, at most
        std::size_t descriptors = 0;  // at most
        long kernel_kilobytes = 0;    // of the kernel's memory for TCP, in all, at most
    };
    Report report() {
        over_ = true;
        thread_.join();
        return report_;
    }

  private:
    void run() {
        while (!over_) {
            const auto start = Clock::now();
            ++report_.visits;
            try {
                if (!is_whole(visit(maintd_.port), page_)) ++report_.failed;
            } catch (const std::exception&) {  // not even a connection
                ++report_.failed;
            }
            report_.slowest = std::max(report_.slowest, seconds_since(start));
            report_.kilobytes = std::max(report_.kilobytes, maintd_.resident_kilobytes());
            report_.descriptors = std::max(report_.descriptors, maintd_.descriptors());
            report_.kernel_kilobytes = std::max(report_.kernel_kilobytes, kernel_kilobytes());
            std::this_thread::sleep_until(start + 50ms);
        }
    }

    const Maintd& maintd_;
    const std::string page_;
    Report report_;
    std::atomic<bool> over_ = false;
    std::thread thread_;  // the last member: it uses the others
};

// What shows that an attack was one: so many connections were open at once, so many were answered.
struct Proof {
    std::size_t open = 0;
    long answered = 0;
};

// Calls `attack` with a maintd that serves `page`, and checks all that is promised above.
template <typename Attack>
void withstand(const char* name, const std::string& page, Proof proof, Attack attack) {
    const TemporaryFile file(page);
    set_descriptor_limit(RLIM_INFINITY);
    Maintd maintd({file.path});
    REQUIRE(is_whole(visit(maintd.port), page));
    const std::size_t descriptors = maintd.descriptors();
    const long memory = maintd.resident_kilobytes();
    const long kernel_memory = kernel_kilobytes();
    const double cpu = maintd.cpu_seconds();
    const auto start = Clock::now();

    Watch watch(maintd, page);
    attack(maintd);
    const Watch::Report report = watch.report();
    std::printf(
        "%s: %.0f s, %d visits, %d failed, the slowest took %.3f s;\n    at most %zu descriptors, "
        "%ld kB of memory (%ld before), %ld kB of the kernel's; %.2f s of CPU time\n",
        name, seconds_since(start), report.visits, report.failed, report.slowest,
        report.descriptors, report.kilobytes, memory, report.kernel_kilobytes - kernel_memory,
        maintd.cpu_seconds() - cpu);
    CHECK(report.failed == 0);
    CHECK(report.slowest < 1);  // A large page ends with FIN, 0.25 s later than its last byte.
    CHECK(report.descriptors >= descriptors + proof.open);
    CHECK(report.kilobytes < memory + 2'000);
    CHECK(report.kernel_kilobytes < kernel_memory + 400'000);

    CHECK(eventually([&] { return maintd.descriptors() == descriptors; }));
    const double before = maintd.cpu_seconds();
    std::this_thread::sleep_for(1s);  // not a wait: the second in which nothing may happen
    CHECK(maintd.cpu_seconds() - before < 0.05);
    CHECK(is_whole(visit(maintd.port), page));
    const Exit exit = maintd.stop();
    CHECK(exit.status == 0);
    const std::size_t count = exit.errors.find_first_of("0123456789");
    REQUIRE(count != std::string::npos);
    CHECK(std::stol(exit.errors.substr(count)) >= proof.answered + report.visits);
}

const std::string small_page(4'000, 'p');
const std::string large_page(1 << 20, 'p');

// Opens `count` connections that send `first` at once, and then `drip` every second, for 12 s.
void drip(const Maintd& maintd, int count, std::string_view first, std::string_view drip,
          int receive_buffer = 0) {
    std::vector<Client> clients;
    for (int i = 0; i < count; ++i) clients.emplace_back(maintd.port, receive_buffer).send(first);
    for (int second = 0; second < 12; ++second) {
        const auto next = Clock::now() + 1s;
        for (Client& client : clients) client.send(drip);
        std::this_thread::sleep_until(next);
    }
}

// Calls connect(0), connect(1) and so on, 500 times in each tenth of a second. Faster is no harder
// attack, but a race for the machine's processors, which says nothing of maintd.
template <typename Connect>
void flood(int tenths, Connect connect) {
    for (int tenth = 0; tenth < tenths; ++tenth) {
        const auto next = Clock::now() + 100ms;
        for (int i = 0; i < 500; ++i) connect(500 * tenth + i);
        std::this_thread::sleep_until(next);
    }
}

// How many connections there are in an attack. maintd keeps 1,024: the visitor needs one of them.
constexpr int many = 1'000;

}  // namespace

TEST_CASE("a thousand clients that drip the request line") {
    withstand("a dripping request line", small_page, {.open = many},
              [](const Maintd& maintd) { drip(maintd, many, "G", "G"); });
}

TEST_CASE("a thousand clients that drip header fields") {
    withstand("dripping header fields", small_page, {.open = many, .answered = many},
              [](const Maintd& maintd) {
                  drip(maintd, many, "GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n");
              });
}

TEST_CASE("a thousand clients that drip a body") {
    withstand("dripping bodies", small_page, {.open = many, .answered = many},
              [](const Maintd& maintd) {
                  drip(maintd, many, "POST / HTTP/1.1\r\nContent-Length: 4000\r\n\r\n", "b");
              });
}

TEST_CASE("a thousand clients that do not read a page of 1 MiB") {
    withstand("slow readers", large_page, {.open = many},
              [](const Maintd& maintd) { drip(maintd, many, get, "", 1); });
}

TEST_CASE("a flood of connections that are opened and never used") {
    withstand("unused connections", small_page, {.open = many}, [](const Maintd& maintd) {
        std::vector<Client> idle;
        flood(20, [&](int) { idle.emplace_back(maintd.port); });
        // Each of them is evicted in favour of others, or after its ten seconds.
        CHECK(idle.back().readable(20s));
    });
}

TEST_CASE("a flood of aborts") {
    withstand("aborts", small_page, {}, [](const Maintd& maintd) {
        flood(60, [&](int number) {
            Client client(maintd.port);
            if (number % 3 == 1) client.send("GET /");
            if (number % 3 == 2) client.send(get);
            client.abort();
        });
    });
}
