// SPDX-License-Identifier: 0BSD
// Many clients, and bad ones: they are silent, slow, or gone. The server keeps nothing of
// them, and a visitor among them gets the page as if there were none. A stop frees the
// port at once, and answers all who are connected.
#include "fixture.hpp"

using namespace fixture;

namespace {

// Connects `count` clients, each of which sends one of the `openings`, and no more.
std::vector<Client> crowd(std::uint16_t port, std::size_t count,
                          const std::vector<std::string>& openings) {
    std::vector<Client> clients;
    for (std::size_t i = 0; i < count; ++i)
        clients.emplace_back(port).send(openings[i % openings.size()]);
    return clients;
}

// Returns the numbers of those that can read something: their end, if they were evicted.
std::vector<std::size_t> readable_ones(const std::vector<Client>& clients) {
    std::vector<std::size_t> numbers;
    for (std::size_t i = 0; i < clients.size(); ++i)
        if (clients[i].readable()) numbers.push_back(i);
    return numbers;
}

}  // namespace

// A silent client ends after 30 s by itself, so evictions can be told only before.
TEST_CASE("1,024 fit, then the oldest silent one goes with nothing, or else the oldest") {
    if (set_descriptor_limit(1200) < 1200) {
        WARN("This needs 1,200 descriptors (ulimit -n), and is not tested.");
        return;
    }
    const std::string wrong = in_time(25, []() -> std::string {
        const Maintd maintd;
        const std::size_t before = maintd.descriptors();
        auto clients = crowd(maintd.port, 1024, {"HEAD /", "", "GET /", ""});
        const auto evicted = [&](const std::vector<std::size_t>& expected) {
            eventually([&] { return readable_ones(clients).size() >= expected.size(); });
            return readable_ones(clients) == expected;
        };
        eventually([&] { return maintd.descriptors() == before + 1024; });
        if (!evicted({})) return "1,024 do not fit";
        if (!is_served(maintd.port)) return "a visitor is not served";
        if (!evicted({1})) return "a visitor does not evict the oldest silent one";
        const auto newcomers = crowd(maintd.port, 3, {"GET /"});
        if (!evicted({1, 3, 5})) return "two newcomers do not evict two clients";
        for (const std::size_t i : {1u, 3u, 5u}) {
            const Reply reply = clients[i].receive_all();
            if (!reply.clean || reply.bytes != "") return "a silent one gets something";
        }
        for (std::size_t i = 7; i < 1024; i += 2) clients[i].send("GET /");
        if (!is_served(maintd.port)) return "the next visitor is not served";
        if (!evicted({0, 1, 3, 5})) return "it does not evict the oldest";
        if (!is_whole(clients[0].receive_all(), built_in_page, true))
            return "the oldest does not get its response";
        for (Client& client : clients) client.abort();
        const auto gone = [&] { return maintd.descriptors() == before + 3; };
        return eventually(gone) && !spins(maintd) ? "" : "it spins";
    });
    CHECK(wrong == "");
}

TEST_CASE("without a descriptor new clients wait, and even a single one makes room") {
    // -u 0, because otherwise prlimit() would need the right to change ids.
    const Maintd maintd({"-u", "0"}, [] {
        for (int number = 3; number < 1024; ++number) close(number);
    });
    const std::size_t before = maintd.descriptors();
    const auto allow = [&](std::size_t more) {
        const rlimit limit{before + more, before + 1};
        REQUIRE(prlimit(maintd.pid, RLIMIT_NOFILE, &limit, nullptr) == 0);
    };
    allow(0);
    std::vector<Client> clients = crowd(maintd.port, 10, {get});
    CHECK_FALSE(spins(maintd));
    CHECK(readable_ones(clients).empty());
    allow(1);
    for (Client& client : clients) CHECK(is_whole(client.receive_all(), built_in_page));
    // The first of two keeps the only descriptor until the second one needs it.
    const std::string wrong = in_time(25, [&]() -> std::string {
        maintd.pause();
        const auto start = Clock::now();
        clients = crowd(maintd.port, 2, {"GE", get});
        maintd.send_signal(SIGCONT);
        for (Client& client : clients)
            if (!is_whole(client.receive_all(), built_in_page)) return "no page";
        return seconds_since(start) < 25 ? "" : "it waits until the deadline";
    });
    CHECK(wrong == "");
    // accept() then says EMFILE although nobody is pending. That must not evict it.
    Client last(maintd.port);
    CHECK(eventually([&] {
        return last.readable() || (maintd.descriptors() == before + 1 &&
                                   maintd.status_field("State").front() == 'S');
    }));
    CHECK(is_whole(last.ask(get), built_in_page));
}

TEST_CASE("the kernel keeps less than 1 MB of a page for a client that does not read") {
    const TemporaryFile file(std::string(8 << 20, 'p'));
    Maintd maintd({file.path});
    Client client(maintd.port, 64 << 10);
    client.send(get);
    CHECK(client.readable(patience));
    CHECK_FALSE(Client(maintd.port).ask(head).bytes.empty());  // The send() has returned.
    CHECK(maintd.stop(SIGKILL).status == -SIGKILL);
    const Reply reply = client.receive_all();  // what the kernel has accepted
    CHECK(reply.bytes.size() > 64 << 10);
    CHECK(reply.bytes.size() < 1'000'000);
}

TEST_CASE("all clients that are pending when the server is told to stop are answered") {
    rlim_t most = 128;  // what the kernel keeps for one listener
    std::ifstream("/proc/sys/net/core/somaxconn") >> most;
    const rlim_t pending = std::min<rlim_t>(most, 4096) + 1;
    const rlim_t count = std::min(pending, set_descriptor_limit(pending + 100) - 100);
    if (count < pending) WARN("Only " << count << " of " << pending << " are tested.");
    Maintd maintd;
    maintd.pause();
    std::vector<Client> clients;
    while (clients.size() < count) clients.emplace_back(maintd.port).send(get);
    maintd.send_signal(SIGTERM);
    maintd.send_signal(SIGCONT);
    std::size_t whole = 0;
    for (Client& client : clients) whole += is_whole(client.receive_all(), built_in_page);
    CHECK(whole == count);
    CHECK(last_count(maintd.wait()) == count);
}

TEST_CASE("the next server gets the port at once, while this one answers its clients") {
    const TemporaryFile file(std::string(8 << 20, 'p'));
    const std::string page = file_content(file.path);
    const std::string wrong = in_time(1.9, [&]() -> std::string {
        Maintd first({file.path});
        visit(first.port);  // It leaves the port in TIME_WAIT.
        Client half(first.port), reader(first.port);
        half.send("HEAD / HTTP");
        reader.send(get);
        reader.readable(patience);
        first.send_signal(SIGTERM);
        first.send_signal(SIGHUP);
        eventually([&] { return Client(first.port) < 0; });
        if (first.status_field("State").front() == 'Z') return "it has ended";
        Process second({maintd_path, "-w", "-p", std::to_string(first.port)});
        for (const int number : {SIGINT, SIGTERM, SIGHUP}) first.send_signal(number);
        eventually([&] { return is_served(first.port); });
        if (!is_whole(reader.receive_all(), page)) return "a slow reader is cut";
        if (!is_whole(half.ask("/1.1\r\n\r\n"), page, true)) return "a slow one is cut";
        half.abort(), reader.abort();
        return last_count(first.wait()) == 3 ? "" : "wrong count";
    });
    CHECK(wrong == "");
}
