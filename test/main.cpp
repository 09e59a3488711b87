// The tests' main(), which Catch2 brings: its version 3 in a library, version 2 by this macro.
#define CATCH_CONFIG_MAIN
#include "catch.hpp"
