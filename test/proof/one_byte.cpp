// A library for LD_PRELOAD: every call that moves bytes moves a single one. strace cannot do this.
//
// The asm labels give the functions their names for the linker only, so that they do not clash with
// declarations in headers, which differ between systems.
#include <dlfcn.h>
#include <sys/types.h>

#include <cstddef>

template <typename... Arguments>
static ssize_t call(const char* name, Arguments... arguments) {
    return reinterpret_cast<ssize_t (*)(Arguments...)>(dlsym(RTLD_NEXT, name))(arguments...);
}
static std::size_t one(std::size_t size) { return size < 1 ? size : 1; }

ssize_t one_read(int, void*, std::size_t) asm("read");
ssize_t one_read(int from, void* to, std::size_t size) { return call("read", from, to, one(size)); }
ssize_t one_write(int, const void*, std::size_t) asm("write");
ssize_t one_write(int to, const void* from, std::size_t size) {
    return call("write", to, from, one(size));
}
ssize_t one_recv(int, void*, std::size_t, int) asm("recv");
ssize_t one_recv(int from, void* to, std::size_t size, int flags) {
    return call("recv", from, to, one(size), flags);
}
ssize_t one_send(int, const void*, std::size_t, int) asm("send");
ssize_t one_send(int to, const void* from, std::size_t size, int flags) {
    return call("send", to, from, one(size), flags);
}
