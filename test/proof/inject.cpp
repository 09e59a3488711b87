// A library for LD_PRELOAD that makes the calls of a program fail as a test says (inject.hpp).
//
// Each function here takes the place of the C library's. The asm label gives it that name for the
// linker alone, so the headers' own declarations, which differ between systems, do not clash.
#undef _FORTIFY_SOURCE  // whose inline functions would come first
#include "inject.hpp"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {

using inject::Plan;

template <typename Function>
Function real(const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

// Set once the file is mapped. Calls before that, and those of a program without a plan, pass.
Plan* plan = nullptr;

// Read at start, and mapped: no descriptor stays open, and giving up root changes nothing.
[[gnu::constructor]] void map_plan() {
    const char* path = std::getenv(inject::variable);
    if (path == nullptr) return;
    const int file = real<int (*)(const char*, int, ...)>("open")(path, O_RDWR);
    void* memory = mmap(nullptr, sizeof(Plan), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) abort();
    real<int (*)(int)>("close")(file);
    plan = static_cast<Plan*>(memory);
}

// The end of the program is left alone, for what runs there is not its own: a coverage build writes
// its counts. exit() undoes in reverse order, so this is registered late: at the first call.
bool ending = false;
void spare_the_end() {
    static bool registered = false;
    if (!registered) registered = std::atexit([] { ending = true; }) == 0;
}

// What is to happen to this call of `name`: nothing out of the ordinary, or what the plan says.
constexpr int pass = -2;
int fate(const char* name) {
    if (plan == nullptr || ending) return pass;
    if (std::strcmp(name, "malloc") != 0) spare_the_end();  // which allocates, and is not too early
    if (!plan->armed || std::strcmp(plan->call, name) != 0) return pass;
    const unsigned long call = ++plan->calls;
    if (call < plan->first || call > plan->last) return pass;
    ++plan->hits;
    return plan->error;
}

// For calls that return 0 or a descriptor: whether it is over, with `result` then.
bool ends(int what, int& result) {
    if (what < 0) return false;
    result = what == inject::succeed ? 0 : -1;
    errno = what;
    return true;
}

// The same for calls that move `size` bytes; what shortens them does not end them.
bool ends(int what, ssize_t& result, std::size_t& size) {
    if (what == inject::one_byte && size > 1) size = 1;
    int end = 0;
    if (!ends(what, end)) return false;
    if (what == EPIPE) raise(SIGPIPE);  // as the kernel does
    result = end;
    errno = what;
    return true;
}

}  // namespace

// Looked up at once, for a signal handler must not: `next_...` is the real function.
//
// Defines a function that does what the real one does, unless the plan says otherwise.
#define FALLIBLE(name, parameters, arguments)                              \
    const auto next_##name = real<int(*) parameters>(#name);               \
    int fallible_##name parameters asm(#name);                             \
    int fallible_##name parameters {                                       \
        int result;                                                        \
        return ends(fate(#name), result) ? result : next_##name arguments; \
    }

// The same for one that moves `size` bytes. The fortified variants, which gcc calls where it cannot
// tell that the buffer is large enough, count as the plain ones: `call` is their name.
#define FALLIBLE_SIZE(call, name, parameters, arguments)                        \
    const auto next_##name = real<ssize_t(*) parameters>(#name);                \
    ssize_t fallible_##name parameters asm(#name);                              \
    ssize_t fallible_##name parameters {                                        \
        ssize_t result;                                                         \
        return ends(fate(call), result, size) ? result : next_##name arguments; \
    }

FALLIBLE(socket, (int a, int b, int c), (a, b, c))
FALLIBLE(setsockopt, (int a, int b, int c, const void* d, socklen_t e), (a, b, c, d, e))
FALLIBLE(bind, (int a, const void* b, socklen_t c), (a, b, c))
FALLIBLE(listen, (int a, int b), (a, b))
FALLIBLE(shutdown, (int a, int b), (a, b))
FALLIBLE(pipe, (int* a), (a))
FALLIBLE(setgroups, (std::size_t a, const gid_t* b), (a, b))
FALLIBLE(setgid, (gid_t a), (a))
FALLIBLE(setuid, (uid_t a), (a))
FALLIBLE(sigaction, (int a, const void* b, void* c), (a, b, c))
FALLIBLE(getrlimit, (int a, void* b), (a, b))
FALLIBLE(setrlimit, (int a, const void* b), (a, b))
FALLIBLE(nanosleep, (const timespec* a, timespec* b), (a, b))

FALLIBLE_SIZE("read", read, (int a, void* b, std::size_t size), (a, b, size))
FALLIBLE_SIZE("read", __read_chk, (int a, void* b, std::size_t size, std::size_t d),
              (a, b, size, d))
FALLIBLE_SIZE("write", write, (int a, const void* b, std::size_t size), (a, b, size))
FALLIBLE_SIZE("recv", recv, (int a, void* b, std::size_t size, int d), (a, b, size, d))
FALLIBLE_SIZE("recv", __recv_chk, (int a, void* b, std::size_t size, std::size_t d, int e),
              (a, b, size, d, e))
FALLIBLE_SIZE("send", send, (int a, const void* b, std::size_t size, int d), (a, b, size, d))

// Those with something of their own.

const auto next_poll = real<int (*)(void*, unsigned long, int)>("poll");
int fallible_poll(void*, unsigned long, int) asm("poll");
int fallible_poll(void* entries, unsigned long count, int limit) {
    if (plan != nullptr) ++plan->polls;
    int result;
    return ends(fate("poll"), result) ? result : next_poll(entries, count, limit);
}
int fallible_poll_chk(void*, unsigned long, int, std::size_t) asm("__poll_chk");
int fallible_poll_chk(void* entries, unsigned long count, int limit, std::size_t) {
    return fallible_poll(entries, count, limit);
}

const auto next_accept = real<int (*)(int, void*, socklen_t*)>("accept");
int fallible_accept(int, void*, socklen_t*) asm("accept");
int fallible_accept(int listener, void* address, socklen_t* length) {
    int result;
    if (ends(fate("accept"), result)) return result;
    result = next_accept(listener, address, length);
    if (result >= 0 && plan != nullptr && plan->send_buffer > 0)
        next_setsockopt(result, SOL_SOCKET, SO_SNDBUF, &plan->send_buffer, sizeof(int));
    return result;
}

// open() is variadic, but for a mode that is used only to create a file, which is passed anyway.
#define FALLIBLE_OPEN(name)                                                          \
    const auto next_##name = real<int (*)(const char*, int, ...)>(#name);            \
    int fallible_##name(const char*, int, ...) asm(#name);                           \
    int fallible_##name(const char* path, int flags, ...) {                          \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        const mode_t mode = va_arg(rest, mode_t);                                    \
        va_end(rest);                                                                \
        int result;                                                                  \
        return ends(fate("open"), result) ? result : next_##name(path, flags, mode); \
    }
FALLIBLE_OPEN(open)
FALLIBLE_OPEN(open64)
FALLIBLE_OPEN(__open_2)

#define FALLIBLE_FCNTL(name)                                                                      \
    const auto next_##name = real<int (*)(int, int, ...)>(#name);                                 \
    int fallible_##name(int, int, ...) asm(#name);                                                \
    int fallible_##name(int descriptor, int command, ...) {                                       \
        va_list rest;                                                                             \
        va_start(rest, command);                                                                  \
        void* argument = va_arg(rest, void*);                                                     \
        va_end(rest);                                                                             \
        int result;                                                                               \
        return ends(fate("fcntl"), result) ? result : next_##name(descriptor, command, argument); \
    }
FALLIBLE_FCNTL(fcntl)
FALLIBLE_FCNTL(fcntl64)

// isatty() says no with 0, where others fail with -1.
const auto next_isatty = real<int (*)(int)>("isatty");
int fallible_isatty(int) asm("isatty");
int fallible_isatty(int descriptor) {
    int result;
    return ends(fate("isatty"), result) ? 0 : next_isatty(descriptor);
}

// close() that fails has closed nonetheless: so it is on Linux for EINTR and EIO (close(2)).
const auto next_close = real<int (*)(int)>("close");
int fallible_close(int) asm("close");
int fallible_close(int descriptor) {
    const int what = fate("close");
    int result = next_close(descriptor);
    ends(what, result);
    return result;
}

const auto next_getsockname = real<int (*)(int, void*, socklen_t*)>("getsockname");
int fallible_getsockname(int, void*, socklen_t*) asm("getsockname");
int fallible_getsockname(int descriptor, void* address, socklen_t* size) {
    int result;
    if (ends(fate("getsockname"), result)) return result;
    result = next_getsockname(descriptor, address, size);
    // The port is where it is in both families.
    if (result == 0 && plan != nullptr)
        plan->port = ntohs(static_cast<sockaddr_in*>(address)->sin_port);
    return result;
}

// The first call comes from the C++ library, before anything here could be looked up.
void* fallible_malloc(std::size_t) asm("malloc");
void* fallible_malloc(std::size_t size) {
    static void* (*const next)(std::size_t) = real<void* (*)(std::size_t)>("malloc");
    int result;
    return ends(fate("malloc"), result) ? nullptr : next(size);
}
