// Many clients, and bad ones: silent, dripping, slow, gone. Each is let go in time and leaves
// nothing behind, and none of them is felt by a visitor.
#include <algorithm>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// The sanitizers keep memory of their own, many times what the program takes.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer);
#else
constexpr bool sanitized = false;
#endif

const std::string& large_page() {
    static const std::string page(8 << 20, 'p');
    return page;
}

// A POST that announces more than it sends, so that its connection stays open after the answer.
const std::string unfinished = "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n";

// Raises the number of descriptors that this process may open to `wanted`, or as far as it goes.
// Returns how many those are.
rlim_t allow_descriptors(rlim_t wanted) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::max(limit.rlim_cur, std::min(wanted, limit.rlim_max));
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

// Sets the limit of descriptors for a maintd that is about to start.
void limit_descriptors(rlim_t number) {
    const rlimit limit{number, number};
    setrlimit(RLIMIT_NOFILE, &limit);
}

// Returns the share of a core that `process` takes. This is a measurement: it has to take its time.
double load_of(const Process& process, std::chrono::milliseconds span = 1s) {
    const auto start = Clock::now();
    const double before = process.cpu_seconds();
    std::this_thread::sleep_for(span);
    return (process.cpu_seconds() - before) / seconds_since(start);
}

// Returns the seconds that a visit takes, in the middle of 21; throws if one fails.
double visit_seconds(std::uint16_t port) {
    std::vector<double> all;
    while (all.size() < 21) {
        const auto start = Clock::now();
        if (!is_whole(visit(port), built_in_page()))
            throw std::runtime_error("a visitor got no page");
        all.push_back(seconds_since(start));
    }
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
}

// Connects `count` clients, each of which sends one of the `openings`, and no more.
std::vector<Client> crowd(std::uint16_t port, std::size_t count,
                          const std::vector<std::string>& openings) {
    std::vector<Client> clients;
    for (std::size_t i = 0; i < count; ++i) {
        clients.emplace_back(port);
        clients.back().send(openings[i % openings.size()]);
    }
    return clients;
}

// Whether a reset came, be it after the end of the stream: Linux still hands out the page then, but
// other systems throw it away.
bool was_reset(const Client& client) {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(client.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0;
}

// How many of the clients got the whole page, and how many are still connected and got nothing.
struct Outcome {
    std::size_t whole = 0;
    std::size_t waiting = 0;
};
Outcome outcome_of(std::vector<Client>& clients) {
    Outcome outcome;
    for (Client& client : clients) {
        if (!client.readable(0ms))
            ++outcome.waiting;
        else if (is_whole(client.receive_all(), built_in_page()))
            ++outcome.whole;
    }
    return outcome;
}

}  // namespace

TEST_CASE("clients that abort, a thousand times, leave nothing behind") {
    const TemporaryFile file(large_page());
    const Maintd maintd({file.path});
    const std::size_t before = maintd.descriptors();
    const std::vector<std::string> openings{"", "GET", get, unfinished, "\x16\x03"};
    for (std::size_t i = 0; i < 1000; ++i) {
        Client client(maintd.port);
        client.send(openings[i % openings.size()]);
        if (i % 2 == 0 && i % openings.size() >= 2) client.readable(patience);  // not the others
        client.abort();
    }
    CHECK(eventually([&] { return maintd.descriptors() == before; }));
    CHECK(is_whole(visit(maintd.port), large_page()));
    CHECK(load_of(maintd, 200ms) < 0.05);
}

TEST_CASE("9,000 idle connections are all taken, and a visitor among them does not notice") {
    const rlim_t allowed = allow_descriptors(9500);
    if (allowed < 9500) WARN("the limit of descriptors allows fewer than 9,000 clients");
    const std::size_t count = std::min<std::size_t>(9000, allowed - 500);
    Maintd maintd;
    const std::size_t before = maintd.descriptors();
    std::vector<Client> clients = crowd(maintd.port, count, {"", "GET /"});
    CHECK(visit_seconds(maintd.port) < 0.1);
    if (!sanitized) CHECK(maintd.resident_kilobytes() < 8 << 10);

    // As many as fit are still connected; the oldest made room for them, and got the page.
    const bool oldest_is_answered = clients.front().readable(0ms);
    const Outcome outcome = outcome_of(clients);
    CHECK(oldest_is_answered);
    CHECK(outcome.whole + outcome.waiting == count);
    CHECK(outcome.waiting <= 4096);
    CHECK(outcome.waiting > 4096 - 4096 / 8);

    clients.clear();
    CHECK(eventually([&] { return maintd.descriptors() == before; }));
}

TEST_CASE("with 64 descriptors and 200 clients, visitors are answered at little cost") {
    const Maintd maintd({}, [] {
        limit_descriptors(64);
        for (int i = 0; i < 8; ++i) dup(STDIN_FILENO);  // a careless parent's
    });
    std::vector<Client> clients = crowd(maintd.port, 200, {"", "GET /", unfinished});
    CHECK(visit_seconds(maintd.port) < 0.1);
    CHECK(load_of(maintd) < 0.05);
    CHECK(visit_seconds(maintd.port) < 0.1);
    const Outcome outcome = outcome_of(clients);
    CHECK(outcome.whole + outcome.waiting == clients.size());
    CHECK(outcome.waiting > 20);
}

TEST_CASE("where descriptors run out, nobody who came before or waits is lost") {
    const Maintd maintd({"-u", "0"});  // prlimit() is not for another user's process
    rlimit usual{};
    REQUIRE(prlimit(maintd.pid, RLIMIT_NOFILE, nullptr, &usual) == 0);
    std::vector<Client> earlier = crowd(maintd.port, 10, {"GET /"});
    visit(maintd.port);

    // 0 to 2 are in use, so accept() says EMFILE; and poll() says EINVAL to more than three.
    const rlimit none{3, usual.rlim_max};
    REQUIRE(prlimit(maintd.pid, RLIMIT_NOFILE, &none, nullptr) == 0);
    std::vector<Client> later = crowd(maintd.port, 10, {get});
    CHECK(load_of(maintd, 500ms) < 0.05);
    for (Client& client : later) CHECK_FALSE(client.readable(0ms));
    for (Client& client : earlier)
        CHECK(is_whole(client.ask(" HTTP/1.1\r\n\r\n", 2s), built_in_page()));

    REQUIRE(prlimit(maintd.pid, RLIMIT_NOFILE, &usual, nullptr) == 0);
    for (Client& client : later) CHECK(is_whole(client.receive_all(2s), built_in_page()));
}

TEST_CASE("who speaks in the moment in which he is let go gets the page without a reset") {
    const Maintd maintd({}, [] { limit_descriptors(64); });
    std::vector<Client> silent = crowd(maintd.port, 40, {""});
    std::this_thread::sleep_for(1200ms);  // after a second, they are not looked at in every round
    maintd.send_signal(SIGSTOP);
    REQUIRE(eventually([&] { return maintd.status_field("State").starts_with("T"); }));
    for (Client& client : silent) client.send("GET /");
    std::vector<Client> flood = crowd(maintd.port, 60, {unfinished});
    maintd.send_signal(SIGCONT);
    for (Client& client : flood) CHECK(is_whole(client.receive_all(), built_in_page()));
    const Outcome outcome = outcome_of(silent);
    CHECK(outcome.whole + outcome.waiting == silent.size());
    CHECK(outcome.whole > 20);
    for (Client& client : silent) CHECK_FALSE(was_reset(client));
}

TEST_CASE("clients that stay, whatever they do not do, cost next to nothing") {
    const TemporaryFile file(large_page());
    const Maintd maintd({file.path});
    std::vector<Client> clients = crowd(maintd.port, 20, {"", "GET", get, unfinished, "POST /\n"});
    for (std::size_t i = 0; i < clients.size(); i += 2) clients[i].half_close();
    visit(maintd.port);
    CHECK(load_of(maintd) < 0.05);
    for (std::size_t i = 0; i < clients.size(); ++i) {
        if (i % 5 == 0 || (i % 5 == 1 && i % 2 == 1)) continue;  // asked for nothing yet
        CHECK(is_whole(clients[i].receive_all(), large_page()));
    }
}

// ---- Those who take their time ------------------------------------------------------------------

namespace {

// Sends `piece` every `interval` until `count` have been sent; returns whether all could be.
bool send_slowly(Client& client, const std::string& piece, int count,
                 std::chrono::milliseconds interval) {
    auto next = Clock::now();
    for (int i = 0; i < count; ++i) {
        if (!client.send(piece)) return false;
        std::this_thread::sleep_until(next += interval);
    }
    return true;
}

// What a slow client got, and after how many seconds.
struct Result {
    Reply reply;
    double seconds = 0;
};

// Uploads 30 MB at 1 MB/s, and only then reads.
Result upload_slowly(std::uint16_t port) {
    const auto start = Clock::now();
    Client client(port);
    client.send("POST / HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n");
    if (!send_slowly(client, std::string(100'000, 'b'), 300, 100ms)) return {};
    Reply reply = client.receive_all();
    return {std::move(reply), seconds_since(start)};
}

// Whether the client was let go without a reset, with the answer or without it.
bool is_let_go(const Reply& reply) {
    return is_whole(reply, built_in_page()) || (reply.end == End::clean && reply.bytes.empty());
}

// Sends a byte of a request line that does not end, twice a second.
Result drip(std::uint16_t port) {
    const auto start = Clock::now();
    Client client(port);
    while (!client.readable(500ms) && seconds_since(start) < 15) client.send("x");
    const double seconds = seconds_since(start);
    return {client.receive_all(), seconds};
}

// Reads 8 MiB at half a MiB a second, through a small buffer.
Result read_slowly(std::uint16_t port) {
    const auto start = Clock::now();
    Client client(port, 4096);
    client.send(get);
    Result result;
    std::vector<char> bytes(64 << 10);
    for (auto next = start; client.readable(patience); std::this_thread::sleep_until(next)) {
        const ssize_t size = recv(client.descriptor(), bytes.data(), bytes.size(), 0);
        if (size <= 0) {
            result.reply.end = size == 0 ? End::clean : End::reset;
            break;
        }
        result.reply.bytes.append(bytes.data(), static_cast<std::size_t>(size));
        next += std::chrono::microseconds(1s) * size / (512 << 10);
    }
    result.seconds = seconds_since(start);
    return result;
}

}  // namespace

// One test for all, so that they wait at the same time; each has a maintd of its own.
TEST_CASE("who is slow gets the page, who does nothing is let go in time", "[slow]") {
    const TemporaryFile file(large_page());
    const Maintd uploaded, dripped, read({file.path}), silent, stayed, dribbled;
    const auto start = Clock::now();
    const auto in_background = [](auto work, const Maintd& maintd) {
        return std::async(std::launch::async, work, maintd.port);
    };
    auto upload = in_background(upload_slowly, uploaded);
    auto dripping = in_background(drip, dripped);
    auto reading = in_background(read_slowly, read);

    // A thousand who say nothing, or half a line, are let go when their 10 s are over.
    allow_descriptors(3000);
    const std::size_t none_silent = silent.descriptors();
    std::vector<Client> nothing = crowd(silent.port, 500, {""});
    std::vector<Client> half = crowd(silent.port, 500, {"GET /"});

    // A hundred have got the page, and do not close: they are let go after 5 s. Who still sends is
    // not, until he stops.
    const std::size_t none_stayed = stayed.descriptors();
    std::vector<Client> stayers = crowd(stayed.port, 100, {unfinished});
    const std::size_t none_dribbled = dribbled.descriptors();
    Client dribbler(dribbled.port);
    dribbler.send(unfinished);
    auto dribbling =
        std::async(std::launch::async, send_slowly, std::ref(dribbler), "b", 16, 500ms);

    const std::size_t all_stayed = none_stayed + stayers.size();
    CHECK(eventually([&] { return stayed.descriptors() == all_stayed; }));
    CHECK(eventually([&] { return stayed.descriptors() == none_stayed; }));
    CHECK(seconds_since(start) > 4.5);
    CHECK(seconds_since(start) < 7);
    for (Client& client : stayers) CHECK(is_whole(client.receive_all(), built_in_page()));

    CHECK(dribbling.get());
    CHECK(dribbled.descriptors() == none_dribbled + 1);
    CHECK(is_whole(dribbler.receive_all(), built_in_page()));
    CHECK(eventually([&] { return dribbled.descriptors() == none_dribbled; }));

    CHECK(nothing.front().readable(5s));
    CHECK(half.front().readable(1s));
    CHECK(seconds_since(start) > 9.5);
    CHECK(seconds_since(start) < 15);
    for (Client& client : nothing) CHECK(is_let_go(client.receive_all(3s)));
    for (Client& client : half) CHECK(is_let_go(client.receive_all(3s)));
    CHECK(eventually([&] { return silent.descriptors() == none_silent; }));

    const Result dripped_result = dripping.get();
    CHECK(is_let_go(dripped_result.reply));
    CHECK(dripped_result.seconds > 9.5);
    CHECK(dripped_result.seconds < 12);

    const Result read_result = reading.get();
    CHECK(is_whole(read_result.reply, large_page()));
    CHECK(read_result.seconds > 12);

    const Result upload_result = upload.get();
    CHECK(is_whole(upload_result.reply, built_in_page()));
    CHECK(upload_result.seconds > 29);

    for (const Maintd* each : {&dripped, &read, &silent, &stayed, &dribbled})
        CHECK(each->cpu_seconds() < 0.05 * seconds_since(start));
}
