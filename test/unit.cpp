// The pure parts, called directly: maintd.cpp is included whole, with its main() renamed.
#pragma GCC diagnostic ignored "-Wreturn-type"  // main() needs no return, another name would
#define main maintd_main
#include "../maintd.cpp"
#undef main

#include "catch.hpp"

TEST_CASE("a request is over when its header is whole and announces no body") {
    CHECK(is_over("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    CHECK_FALSE(is_over("GET / HTTP/1.1\r\nHost: x\r\n"));
    CHECK_FALSE(is_over("GET / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"));
}
