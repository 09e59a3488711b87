// Root is given up before the first visitor comes. Run as root, these tests see that happen. Run as
// another user, they say so, and check that maintd works as that user.
#include <grp.h>
#include <sched.h>

#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// Checks the real, effective, saved and file system id of a maintd that serves, as /proc has them.
void check_ids(const Maintd& maintd, unsigned uid, unsigned gid) {
    for (const auto& [field, id] : {std::pair{"Uid", uid}, {"Gid", gid}}) {
        const std::string one = std::to_string(id);
        CHECK(maintd.status_field(field) == one + "\t" + one + "\t" + one + "\t" + one);
    }
    CHECK(is_served(maintd.port));
}

}  // namespace

TEST_CASE(
    "it becomes nobody, or the user and the group that -u names, and -u 0 keeps root") {
    const auto have_groups = [] {
        const gid_t groups[] = {0, 4, 27};
        if (geteuid() == 0 && setgroups(std::size(groups), groups) < 0) _exit(126);
    };
    for (const unsigned id : {65534u, 1u, 12345u, 4294967294u, 0u}) {
        std::vector<std::string> options{"-u", std::to_string(id)};
        if (id == 65534) options.clear();
        const Maintd maintd(options, have_groups);
        if (geteuid() != 0) {
            check_ids(maintd, getuid(),
                      getgid());  // -u is accepted, and changes nothing.
            continue;
        }
        check_ids(maintd, id, id);
        if (id == 0) continue;
        CHECK(maintd.status_field("Groups").find_first_not_of(" \t") ==
              std::string::npos);
        for (const char* set : {"CapPrm", "CapEff", "CapAmb"})
            CHECK(maintd.status_field(set) == "0000000000000000");
    }
}

TEST_CASE("as root it opens a port below 1024 and reads a secret page") {
    if (geteuid() != 0) {
        WARN("this is not root: how it gives up root has not been tested");
        return check_ids(Maintd(), getuid(), getgid());
    }
    const TemporaryFile file("for root's eyes");
    REQUIRE(chmod(file.path.c_str(), 0600) == 0);
    for (int port = 1023; port > 0; --port) {
        const std::string number = std::to_string(port);
        Process process({maintd_path(), "-l", "127.0.0.1", "-p", number, file.path});
        const std::string line = process.errors.read_line();
        if (line.find("in use") != line.npos) continue;  // Any free port will do.
        CHECK(line.ends_with("http://127.0.0.1:" + number + "/"));
        CHECK(process.status_field("Uid").starts_with("65534\t65534\t65534\t"));
        CHECK(is_whole(visit(static_cast<std::uint16_t>(port)), "for root's eyes"));
        return;
    }
    FAIL("no port below 1024 is free");
}

TEST_CASE("where root cannot change its user, it says that -u 0 keeps root") {
    // In a user namespace of its own, maintd is root and there is no other user.
    const auto become_lone_root = [line = "0 " + std::to_string(geteuid()) + " 1\n"] {
        if (unshare(CLONE_NEWUSER) < 0) _exit(126);
        const Descriptor map = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
        if (write(map, line.data(), line.size()) < 0) _exit(126);
    };
    if (run({maintd_path(), "-V"}, become_lone_root).status != 0) {
        WARN("no user namespace can be used here: this has not been tested");
        return check_ids(Maintd({"-u", std::to_string(geteuid())}), getuid(), getgid());
    }
    const Exit exit = run({maintd_path(), "-p", "0"}, become_lone_root);
    CHECK(exit.status == 1);
    CHECK(exit.errors.starts_with("maintd: -u 65534: "));
    CHECK(exit.errors.ends_with(" (-u 0 keeps root)\n"));
    CHECK(exit.errors.find('\n') == exit.errors.size() - 1);
    CHECK(is_served(Maintd({"-u", "0"}, become_lone_root).port));
}

// Otherwise a client would become standard error, and read what is meant for the operator.
TEST_CASE("descriptors 0 to 2 that are closed at the start lead to /dev/null") {
    for (int closed = 1; closed < 8; ++closed) {
        const auto is_closed = [closed](int number) {
            return (closed >> number & 1) != 0;
        };
        const Process process({maintd_path(), "-p", "0"}, [&is_closed] {
            for (int number = 0; number <= 2; ++number)
                if (is_closed(number)) close(number);
        });
        for (int number = 0; number <= 2; ++number) {
            CAPTURE(closed, number);
            const std::string link = process.proc("/fd/") + std::to_string(number);
            CHECK(eventually([&] {
                char target[20] = "";
                const ssize_t size = readlink(link.c_str(), target, sizeof target);
                return !is_closed(number) || (size == 9 && "/dev/null"s == target);
            }));
        }
    }
}
