// SPDX-License-Identifier: 0BSD
// Catch2 as Debian 12 has it (2.13, one header) or Debian 13 (3, with a library).
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
