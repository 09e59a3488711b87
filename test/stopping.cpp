// Stopping loses nobody: who was let in is answered, the port is free at once, and the next one
// takes it.
#include <atomic>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// Whether the last line, all that is left of standard error, says that `count` were answered.
bool says_answered(const Exit& exit, unsigned long count) {
    INFO(exit.errors);
    const std::string begin = "maintd: " + std::to_string(count) + " requests answered in ";
    const std::string end = " s\n";
    const std::size_t at = exit.errors.find_first_not_of('\r');
    if (at == std::string::npos) return false;
    const std::string line = exit.errors.substr(at);
    if (!line.starts_with(begin) || !line.ends_with(end)) return false;
    const auto seconds = line.substr(begin.size(), line.size() - begin.size() - end.size());
    return !seconds.empty() && seconds.find_first_not_of("0123456789") == std::string::npos;
}

// Waits until the port can be taken; returns how many seconds that took.
double seconds_until_free(std::uint16_t port) {
    const auto start = Clock::now();
    const auto is_free = [&] {
        const int tried = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int yes = 1;
        setsockopt(tried, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(port);
        const bool bound =
            bind(tried, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
            listen(tried, 1) == 0;
        close(tried);
        return bound;
    };
    eventually(is_free);
    return seconds_since(start);
}

}  // namespace

TEST_CASE("SIGTERM, SIGINT and SIGHUP stop it, with status 0 and the count of answers") {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        CAPTURE(number);
        Maintd maintd;
        for (int i = 0; i < 12; ++i) visit(maintd.port);
        Client(maintd.port).ask(head);
        Client(maintd.port).ask("\x16\x03\x01");
        Client(maintd.port).abort();  // asked for nothing: not counted
        const auto start = Clock::now();
        const Exit exit = maintd.stop(number);
        CHECK(seconds_since(start) < 0.5);
        CHECK(exit.status == 0);
        CHECK(exit.output.empty());
        CHECK(says_answered(exit, 14));
    }
}

TEST_CASE("who waits to be accepted when it is asked to stop is answered") {
    Maintd maintd;
    maintd.send_signal(SIGSTOP);  // so that the kernel alone deals with the clients
    std::vector<Client> clients;
    for (int i = 0; i < 500; ++i) {
        clients.emplace_back(maintd.port);
        clients.back().send(get);
    }
    maintd.send_signal(SIGTERM);
    maintd.send_signal(SIGCONT);
    std::size_t whole = 0;
    for (Client& client : clients) whole += is_whole(client.receive_all(), built_in_page());
    CHECK(whole == clients.size());
    CHECK(says_answered(maintd.wait(), clients.size()));
}

TEST_CASE("stopped under load, it cuts nobody off, and frees the port in milliseconds") {
    const std::string page(8 << 20, 'p');
    const TemporaryFile file(page);
    Maintd maintd({file.path});
    std::atomic<unsigned> visits = 0;
    std::atomic<unsigned> cut_off = 0;
    // A client whose connection the kernel completes after the last accept() is reset before it
    // has got a byte: no program can prevent that, and its like is refused a microsecond later.
    auto load = std::async(std::launch::async, [&] {
        return together(4, [&](int) {
            try {
                for (;;) {
                    const Reply reply = visit(maintd.port);
                    if (is_whole(reply, page))
                        ++visits;
                    else if (!reply.bytes.empty())
                        ++cut_off;
                }
            } catch (const std::runtime_error&) {
                return true;  // refused
            }
        });
    });
    CHECK(eventually([&] { return visits > 30; }));
    Client slow(maintd.port, 4096);  // is in the middle of it
    slow.send(get);
    CHECK(slow.readable(patience));
    maintd.send_signal(SIGTERM);
    CHECK(seconds_until_free(maintd.port) < 0.25);
    CHECK(maintd.runs());
    CHECK(is_whole(slow.receive_all(), page));
    load.get();
    const Exit exit = maintd.wait();
    CHECK(exit.status == 0);
    CHECK(cut_off == 0);
    CHECK(says_answered(exit, visits + 1));
}

TEST_CASE("a second start binds at once, while the first still answers") {
    Maintd first;
    const std::string port = std::to_string(first.port);
    for (int i = 0; i < 100; ++i) visit(first.port);  // they linger in the kernel (TIME_WAIT)
    Client client(first.port);
    client.send("GET / HTTP");
    visit(first.port);
    first.send_signal(SIGTERM);
    CHECK(seconds_until_free(first.port) < 0.25);
    const Maintd second({"-p", port});
    CHECK(is_whole(visit(second.port), built_in_page()));
    CHECK(first.runs());
    CHECK(is_whole(client.ask("/1.1\r\n\r\n"), built_in_page()));  // by the first
    client.abort();
    CHECK(says_answered(first.wait(), 102));
}

TEST_CASE("who is connected when it stops is answered after two seconds at the latest") {
    const std::string page(8 << 20, 'p');
    const TemporaryFile file(page);
    Maintd maintd({file.path});
    Client silent(maintd.port);
    Client half(maintd.port);
    half.send("HEAD / HT");
    Client reader(maintd.port);  // that does not read
    reader.send(get);
    CHECK(reader.readable(patience));
    const auto start = Clock::now();
    const Exit exit = maintd.stop();
    CHECK(seconds_since(start) > 1.5);
    CHECK(seconds_since(start) < 4);
    CHECK(exit.status == 0);
    CHECK(is_whole(half.receive_all(), page, true));
    const Reply unasked = silent.receive_all();
    CHECK(
        unasked.bytes.starts_with("HTTP/1.1 503 "));  // the answer does not depend on the question
}

TEST_CASE("a second signal ends the stop") {
    Maintd maintd;
    Client client(maintd.port);
    client.send("GET /");
    visit(maintd.port);
    const auto start = Clock::now();
    maintd.send_signal(SIGINT);
    CHECK(seconds_until_free(maintd.port) < 0.25);
    CHECK(maintd.runs());
    const Exit exit = maintd.stop(SIGINT);
    CHECK(seconds_since(start) < 1);
    CHECK(exit.status == 0);
    CHECK(is_whole(client.receive_all(), built_in_page()));
    CHECK(says_answered(exit, 2));
}

TEST_CASE("a signal that was ignored at the start stays ignored, as nohup wants it") {
    for (const int number : {SIGHUP, SIGINT}) {
        Maintd maintd({}, [number] { signal(number, SIG_IGN); });
        maintd.send_signal(number);
        CHECK(is_whole(visit(maintd.port), built_in_page()));
        CHECK(is_whole(visit(maintd.port), built_in_page()));
        CHECK(maintd.runs());
        CHECK(says_answered(maintd.stop(SIGTERM), 2));
    }
}
