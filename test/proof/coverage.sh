#!/bin/sh
# Which lines and branches of maintd.cpp the tests and the faults reach ("make coverage").
set -eu
command -v gcovr >/dev/null || { echo 'coverage: install gcovr' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
chmod 777 "$work" # Every process adds its counts, also after it has given up root.
umask 0
export MAINTD="$work/maintd" MAINTD_LET_EXIT=1 # The tests end a server so that it can count.

g++ -std=c++20 -O0 --coverage -fprofile-update=atomic -c -o "$work/maintd.o" "$PWD/maintd.cpp"
g++ --coverage -o "$MAINTD" "$work/maintd.o"
status=0
./test/run || status=1
python3 test/proof/faults.py || status=1
gcovr --root . --filter maintd.cpp "$work"
gcovr --root . --filter maintd.cpp --exclude-throw-branches --branches "$work"
exit "$status"
