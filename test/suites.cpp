// SPDX-License-Identifier: 0BSD
// All suites that talk to a running maintd, as one translation unit: compiled one by one,
// they take five times as long.
#include "command_line.cpp"
#include "crowd.cpp"
#include "operator.cpp"
#include "requests.cpp"
