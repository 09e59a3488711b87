// Stopping: the port is free at once, every client that is connected or pending is answered, and
// the last line says how many requests were answered.
#include <atomic>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// Connects a client that sends the beginning of a request, which the server has read on return.
Client begin(const Maintd& maintd, const std::string& part) {
    Client client(maintd.port);
    client.send(part);
    CHECK(is_served(maintd.port));
    return client;
}

// Whether the server, which has been told to stop, still runs after it has released the port.
bool is_stopping(const Maintd& maintd) {
    const auto is_refused = [&] {
        try {
            return Client(maintd.port).descriptor() < 0;
        } catch (const std::runtime_error&) {
            return true;
        }
    };
    return eventually(is_refused) && maintd.runs();
}

}  // namespace

TEST_CASE(
    "SIGTERM, SIGINT and SIGHUP stop the server at once, with the count of responses") {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        CAPTURE(number);
        CHECK(succeeds_once([number] {
            Maintd maintd;
            for (int i = 0; i < 12; ++i) visit(maintd.port);
            Client(maintd.port).ask(head);
            Client(maintd.port).abort();  // It asked for nothing, so it is not counted.
            const auto start = Clock::now();
            CHECK(last_count(maintd.stop(number)) == 13);
            return seconds_since(start) < 0.25;
        }));
    }
}

TEST_CASE("all clients that are pending when the server is told to stop are answered") {
    const std::size_t count = set_descriptor_limit(700) < 700 ? 200 : 600;
    if (count < 600)
        WARN("Only 200 pending clients are tested: 600 need 700 descriptors.");
    Maintd maintd;
    maintd.send_signal(SIGSTOP);  // Only the kernel deals with the clients.
    std::vector<Client> clients;
    while (clients.size() < count) clients.emplace_back(maintd.port).send(get);
    maintd.send_signal(SIGTERM);
    maintd.send_signal(SIGCONT);
    std::size_t whole = 0;
    for (Client& client : clients)
        whole += is_whole(client.receive_all(), built_in_page());
    CHECK(whole == count);
    CHECK(last_count(maintd.wait()) == count);
}

TEST_CASE("a server that stops under load cuts no response short") {
    const std::string page(1 << 20, 'p');
    const TemporaryFile file(page);
    Maintd maintd({file.path});
    std::atomic<unsigned> whole = 0, cut = 0;
    const auto visit_until_refused = [&](int) {
        try {
            for (;;) {
                const Reply reply = visit(maintd.port);
                // If the kernel completes a connection after the last accept(), it resets it before
                // the client has got a byte. No program can prevent that.
                if (!reply.bytes.empty()) ++(is_whole(reply, page) ? whole : cut);
            }
        } catch (const std::runtime_error&) {
            return true;
        }
    };
    std::jthread load([&] { together(4, visit_until_refused); });
    CHECK(eventually([&] { return whole > 8; }));
    Client slow(maintd.port);
    slow.send(get);
    CHECK(slow.readable(patience));
    maintd.send_signal(SIGTERM);
    CHECK(is_stopping(maintd));
    CHECK(is_whole(slow.receive_all(), page));
    slow.abort();
    load.join();
    CHECK(cut == 0);
    CHECK(last_count(maintd.wait()) == whole + 1);
}

TEST_CASE(
    "the next server gets the port at once, while this one answers and ignores signals") {
    CHECK(succeeds_once([] {
        Maintd first;
        for (int i = 0; i < 100; ++i)
            visit(first.port);  // They leave the port in TIME_WAIT.
        Client client = begin(first, "GET / HTTP");
        const auto start = Clock::now();
        first.send_signal(SIGTERM);
        first.send_signal(SIGHUP);
        if (!is_stopping(first) || seconds_since(start) > 0.25) return false;
        const Maintd second({"-p", std::to_string(first.port)});
        CHECK(is_served(second.port));
        for (const int number : {SIGINT, SIGTERM, SIGHUP}) first.send_signal(number);
        CHECK(first.runs());
        CHECK(is_whole(client.ask("/1.1\r\n\r\n"), built_in_page()));
        client.abort();
        return last_count(first.wait()) == 102;
    }));
}

TEST_CASE("a client that sends nothing or reads nothing holds the stop for 2 s") {
    const TemporaryFile file(std::string(8 << 20, 'p'));
    const auto before = Clock::now();
    Maintd maintd, writing({file.path});
    Client silent(maintd.port), half = begin(maintd, "HEAD / HT"), reader(writing.port);
    reader.send(get);
    CHECK(reader.readable(patience));
    const auto start = Clock::now();
    for (Maintd* each : {&maintd, &writing}) each->send_signal(SIGTERM);
    CHECK(is_stopping(maintd));
    CHECK(is_stopping(writing));
    const Exit exit = maintd.wait();
    CHECK(writing.wait().status == 0);
    CHECK(seconds_since(start) > 1.9);
    CHECK(seconds_since(start) < 5);
    CHECK(last_count(exit) == 2);
    const int seconds = std::stoi(exit.errors.substr(exit.errors.find(" in ") + 4));
    CHECK((seconds >= 1 && seconds <= seconds_since(before)));
    CHECK(is_whole(half.receive_all(), built_in_page(), true));
    CHECK(is_whole(silent.receive_all(), built_in_page()));
}

TEST_CASE("a signal that is ignored at start stays ignored, so that nohup works") {
    for (const int number : {SIGHUP, SIGINT}) {
        Maintd maintd({}, [number] { signal(number, SIG_IGN); });
        maintd.send_signal(number);
        CHECK_FALSE(eventually([&] { return !maintd.runs(); }, 100ms));
        CHECK(is_served(maintd.port));
        CHECK(last_count(maintd.stop(SIGTERM)) == 1);
    }
}
