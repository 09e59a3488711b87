// Stopping: the port is free at once, every client that is connected or pending is answered, and
// the last line says how many there were.
#include <atomic>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// Returns the number of seconds in the last line, or -1 if that is not the only line that is left,
// or does not say that `count` requests were answered.
int seconds_in(const Exit& exit, unsigned long count) {
    const std::string before = "maintd: " + std::to_string(count) +
                               (count == 1 ? " request" : " requests") + " answered in ";
    const int seconds =
        exit.errors.starts_with(before) ? std::atoi(exit.errors.c_str() + before.size()) : -1;
    UNSCOPED_INFO(exit.errors);
    return exit.errors == before + std::to_string(seconds) + " s\n" ? seconds : -1;
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

TEST_CASE("SIGTERM, SIGINT and SIGHUP stop the server at once, with the count of responses") {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        CAPTURE(number);
        CHECK(succeeds_once([number] {
            Maintd maintd;
            for (int i = 0; i < 12; ++i) visit(maintd.port);
            Client(maintd.port).ask(head);
            Client(maintd.port).abort();  // It asked for nothing, so it is not counted.
            const auto start = Clock::now();
            const Exit exit = maintd.stop(number);
            CHECK(exit.status == 0);
            CHECK(exit.output.empty());
            CHECK(seconds_in(exit, 13) >= 0);
            return seconds_since(start) < 0.25;
        }));
    }
}

TEST_CASE("all clients that are pending when the server is told to stop are answered") {
    std::size_t count = 600;
    if (set_descriptor_limit(700) < 700) {
        WARN("Only 200 of 600 pending clients are tested: more need 700 descriptors (ulimit -n).");
        count = 200;
    }
    Maintd maintd;
    maintd.send_signal(SIGSTOP);  // Only the kernel deals with the clients.
    std::vector<Client> clients;
    while (clients.size() < count) {
        clients.emplace_back(maintd.port);
        clients.back().send(get);
    }
    maintd.send_signal(SIGTERM);
    maintd.send_signal(SIGCONT);
    std::size_t whole = 0;
    for (Client& client : clients) whole += is_whole(client.receive_all(), built_in_page());
    CHECK(whole == count);
    CHECK(seconds_in(maintd.wait(), count) >= 0);
}

TEST_CASE("signals that come while the server stops change nothing") {
    Maintd maintd;
    Client client(maintd.port);
    client.send("GET / HT");
    visit(maintd.port);
    maintd.send_signal(SIGTERM);
    maintd.send_signal(SIGHUP);
    CHECK(is_stopping(maintd));
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) maintd.send_signal(number);
    CHECK(is_whole(client.ask("TP/1.1\r\n\r\n"), built_in_page()));
    client.abort();
    const Exit exit = maintd.wait();
    CHECK(exit.status == 0);
    CHECK(seconds_in(exit, 2) >= 0);
}

TEST_CASE("a server that stops under load cuts no response short") {
    const std::string page(1 << 20, 'p');
    const TemporaryFile file(page);
    Maintd maintd({file.path});
    std::atomic<unsigned> whole = 0, cut = 0;
    // If the kernel completes a connection after the last accept(), it resets it before the client
    // has got a byte. No program can prevent that.
    auto load = std::async(std::launch::async, [&] {
        return together(4, [&](int) {
            try {
                for (;;) {
                    const Reply reply = visit(maintd.port);
                    if (is_whole(reply, page))
                        ++whole;
                    else if (!reply.bytes.empty())
                        ++cut;
                }
            } catch (const std::runtime_error&) {
                return true;  // The connection was refused.
            }
        });
    });
    CHECK(eventually([&] { return whole > 8; }));
    Client slow(maintd.port);
    slow.send(get);
    CHECK(slow.readable(patience));
    maintd.send_signal(SIGTERM);
    CHECK(is_stopping(maintd));
    CHECK(is_whole(slow.receive_all(), page));
    slow.abort();
    load.get();
    const Exit exit = maintd.wait();
    CHECK(exit.status == 0);
    CHECK(cut == 0);
    CHECK(seconds_in(exit, whole + 1) >= 0);
}

TEST_CASE("the next server gets the port at once, while this one still answers") {
    CHECK(succeeds_once([] {
        Maintd first;
        for (int i = 0; i < 100; ++i) visit(first.port);  // They leave the port in TIME_WAIT.
        Client client(first.port);
        client.send("GET / HTTP");
        visit(first.port);
        const auto start = Clock::now();
        first.send_signal(SIGTERM);
        if (!is_stopping(first) || seconds_since(start) > 0.25) return false;
        const Maintd second({"-p", std::to_string(first.port)});
        CHECK(is_whole(visit(second.port), built_in_page()));
        CHECK(first.runs());
        CHECK(is_whole(client.ask("/1.1\r\n\r\n"), built_in_page()));
        client.abort();
        return seconds_in(first.wait(), 102) >= 0;
    }));
}

TEST_CASE("a client that sends nothing or reads nothing holds the stop for 2 s", "[slow]") {
    const TemporaryFile file(std::string(8 << 20, 'p'));
    const auto before = Clock::now();
    Maintd maintd, writing({file.path});
    Client silent(maintd.port), half(maintd.port), reader(writing.port);
    half.send("HEAD / HT");
    reader.send(get);
    CHECK(reader.readable(patience));
    const auto start = Clock::now();
    maintd.send_signal(SIGTERM);
    writing.send_signal(SIGTERM);
    CHECK(is_stopping(maintd));
    CHECK(is_stopping(writing));
    const Exit exit = maintd.wait();
    CHECK(exit.status == 0);
    CHECK(writing.wait().status == 0);
    CHECK(seconds_since(start) > 1.9);
    CHECK(seconds_since(start) < 5);
    CHECK(seconds_in(exit, 1) >= 1);
    CHECK(seconds_in(exit, 1) <= seconds_since(before));
    CHECK(is_whole(half.receive_all(), built_in_page(), true));
    CHECK(is_whole(silent.receive_all(), built_in_page()));
}

TEST_CASE("a signal that is ignored at start stays ignored, so that nohup works") {
    for (const int number : {SIGHUP, SIGINT}) {
        Maintd maintd({}, [number] { signal(number, SIG_IGN); });
        maintd.send_signal(number);
        CHECK_FALSE(eventually([&] { return !maintd.runs(); }, 100ms));
        CHECK(is_whole(visit(maintd.port), built_in_page()));
        CHECK(seconds_in(maintd.stop(SIGTERM), 1) >= 0);
    }
}
