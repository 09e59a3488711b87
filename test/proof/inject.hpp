// What a test and the preloaded injector (inject.cpp) share: which call is to fail, and what came
// of it. It lies in a file that both map, so a test can change its mind while the server runs.
#pragma once

#include <atomic>

namespace inject {

// The environment variable that names the file.
constexpr const char* variable = "MAINTD_TEST_FAULTS";

constexpr int succeed = 0;    // in place of an error: say that it worked, and do nothing
constexpr int one_byte = -1;  // in place of an error: go on, but with a single byte
constexpr unsigned long for_ever = ~0ul;

struct Plan {
    // Written by the test while the plan is not armed.
    char call[16];        // the function's name
    int error;            // what errno becomes, or one of the above
    unsigned long first;  // the call that fails first, counted from 1 since arming,
    unsigned long last;   // and the one that fails last
    std::atomic<bool> armed;

    // Written by the test before the start: how many bytes the kernel may keep unsent for each
    // accepted connection; 0: as many as it likes, which are millions.
    int send_buffer;

    // Written by the injector.
    std::atomic<unsigned long> calls;  // of that function since arming
    std::atomic<unsigned long> hits;   // and so many of them failed
    std::atomic<unsigned long> polls;  // of poll(), whether it is the plan's function or not
    std::atomic<unsigned> port;        // what the last getsockname() said
};

}  // namespace inject
