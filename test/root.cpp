// Root is given up before the first visitor comes. Run as root these tests see it happen; run as
// somebody else they say so, and see that maintd works without.
#include <grp.h>
#include <sched.h>

#include <array>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

bool is_root() { return geteuid() == 0; }

// Real, effective, saved and file system id, as /proc writes them.
std::string four_times(unsigned long id) {
    std::string text = std::to_string(id);
    for (int i = 1; i < 4; ++i) text += "\t" + std::to_string(id);
    return text;
}

// Without root there is nothing to give up: says so, and checks that maintd stays who it was.
bool only_without_root(const std::vector<std::string>& options = {}) {
    if (is_root()) return false;
    WARN("not tested, for this needs root: only that without root, maintd stays who it was");
    const Maintd maintd(options);
    CHECK(maintd.status_field("Uid") == four_times(getuid()));
    CHECK(maintd.status_field("Gid") == four_times(getgid()));
    CHECK(is_whole(visit(maintd.port), built_in_page()));
    return true;
}

// Checks that `maintd` is that user, with no way back and nothing left of root's rights.
void check_became(const Maintd& maintd, unsigned long uid, unsigned long gid) {
    CHECK(maintd.status_field("Uid") == four_times(uid));
    CHECK(maintd.status_field("Gid") == four_times(gid));
    CHECK(maintd.status_field("Groups").find_first_not_of(" \t") == std::string::npos);
    for (const char* set : {"CapPrm", "CapEff", "CapAmb"}) {
        CAPTURE(set);
        CHECK(maintd.status_field(set) == "0000000000000000");
    }
    CHECK(is_whole(visit(maintd.port), built_in_page()));
}

// Returns a port that was free a moment ago.
std::uint16_t free_port() {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    const int tried = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof address;
    const auto any = reinterpret_cast<sockaddr*>(&address);
    if (bind(tried, any, size) < 0 || getsockname(tried, any, &size) < 0)
        throw system_error("bind");
    close(tried);
    return ntohs(address.sin6_port);
}

}  // namespace

TEST_CASE("started by root, it serves as nobody, without groups and capabilities") {
    if (only_without_root()) return;
    const Maintd maintd({}, [] {
        const std::array<gid_t, 3> groups{0, 4, 27};
        if (setgroups(groups.size(), groups.data()) < 0) _exit(126);
    });
    check_became(maintd, 65534, 65534);
}

TEST_CASE("-u says who it becomes") {
    if (only_without_root({"-u", "12345:23456"})) return;
    check_became(Maintd({"-u", "12345:23456"}), 12345, 23456);
    check_became(Maintd({"-u", "12345"}), 12345, 12345);
    check_became(Maintd({"-u", "4294967294:0"}), 4294967294, 0);
}

TEST_CASE("-u 0 keeps root") {
    if (only_without_root({"-u", "0"})) return;
    const Maintd maintd({"-u", "0"});
    CHECK(maintd.status_field("Uid") == four_times(0));
    CHECK(maintd.status_field("Gid") == four_times(0));
    CHECK(is_whole(visit(maintd.port), built_in_page()));
}

TEST_CASE("what only root may do is done before: the port below 1024, the secret page") {
    if (only_without_root()) return;
    const TemporaryFile file("for root's eyes");
    REQUIRE(chmod(file.path.c_str(), 0600) == 0);
    // Any port below 1024 that nobody holds will do.
    for (int port = 1023; port > 0; --port) {
        Process process({maintd_path(), "-l", "127.0.0.1", "-p", std::to_string(port), file.path});
        const std::string line = process.error_line();
        if (line.find("in use") != std::string::npos) continue;
        CHECK(line.ends_with("http://127.0.0.1:" + std::to_string(port) + "/"));
        CHECK(process.status_field("Uid") == four_times(65534));
        CHECK(is_whole(visit(static_cast<std::uint16_t>(port)), "for root's eyes"));
        return;
    }
    FAIL("no port below 1024 is free");
}

TEST_CASE("where no other id is known, it says that -u 0 keeps root") {
    const uid_t uid = geteuid();
    // In a user namespace of its own maintd is root, and nobody else has an id.
    const auto become_lone_root = [uid] {
        if (unshare(CLONE_NEWUSER) < 0) _exit(126);
        const int map = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
        const std::string line = "0 " + std::to_string(uid) + " 1\n";
        if (write(map, line.data(), line.size()) < 0) _exit(126);
    };
    if (run({"true"}, become_lone_root).status != 0) {
        WARN("not tested: no user namespace can be made here");
        CHECK(is_whole(visit(Maintd({"-u", std::to_string(uid)}).port), built_in_page()));
        return;
    }
    const Exit exit = run({maintd_path(), "-p", "0"}, become_lone_root);
    CHECK(exit.status == 1);
    CHECK(exit.errors.starts_with("maintd: "));
    CHECK(exit.errors.find("65534") != std::string::npos);
    CHECK(exit.errors.find("-u 0") != std::string::npos);
    CHECK(exit.errors.find('\n') == exit.errors.size() - 1);
    CHECK(is_whole(visit(Maintd({"-u", "0"}, become_lone_root).port), built_in_page()));
}

// A client that became standard error would read what is meant for the operator, or worse.
TEST_CASE("descriptors 0 to 2 that are closed at the start lead nowhere, never to a client") {
    for (int closed = 1; closed < 8; ++closed) {
        CAPTURE(closed);
        const std::uint16_t port = free_port();
        Process process({maintd_path(), "-p", std::to_string(port)}, [closed] {
            for (int number = 0; number <= 2; ++number)
                if ((closed >> number & 1) != 0) close(number);
        });
        const auto connected = [&] {
            try {
                return is_whole(visit(port), built_in_page());
            } catch (const std::runtime_error&) {
                return false;  // does not listen yet
            }
        };
        REQUIRE(eventually(connected));
        for (int number = 0; number <= 2; ++number)
            if ((closed >> number & 1) != 0)
                CHECK(std::filesystem::read_symlink("/proc/" + std::to_string(process.pid) +
                                                    "/fd/" + std::to_string(number)) ==
                      "/dev/null");
        Client client(port);  // is connected when the last line is written
        client.send("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
        CHECK(client.readable(patience));
        process.send_signal(SIGTERM);
        CHECK(is_whole(client.receive_all(), built_in_page()));
        client.abort();
        CHECK(process.wait().status == 0);
    }
}
