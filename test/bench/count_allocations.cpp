// A library to preload (LD_PRELOAD): it counts the calls of malloc() and its like, those of
// operator new included, and says at the end of the program how many there were. make bench shows
// with it that an answer of maintd needs no memory of its own.

#include <dlfcn.h>

#include <cstddef>
#include <cstdio>

namespace {

unsigned long allocations = 0;  // maintd has one thread

struct Report {
    ~Report() { std::fprintf(stderr, "allocations: %lu\n", allocations); }
} report;

// Returns the function of this name that would have been called.
template <typename Function>
Function* original(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) {
    static auto* const next = original<void*(std::size_t)>("malloc");
    ++allocations;
    return next(size);
}

void* calloc(std::size_t count, std::size_t size) {
    static auto* const next = original<void*(std::size_t, std::size_t)>("calloc");
    ++allocations;
    return next(count, size);
}

void* realloc(void* old, std::size_t size) {
    static auto* const next = original<void*(void*, std::size_t)>("realloc");
    ++allocations;
    return next(old, size);
}
}
