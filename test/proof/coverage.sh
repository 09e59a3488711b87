#!/bin/sh
# Which lines and branches of maintd.cpp the tests reach: builds it for gcov, runs `make test` and
# `make faults` against that, and lists every line that was never run, and every branch never taken.
set -eu
cd "$(dirname "$0")/../.."
for program in g++ gcov; do
    command -v "$program" >/dev/null || { echo "coverage: install $program" >&2; exit 1; }
done

"${MAKE:-make}" test/run test/proof/faults test/proof/inject.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$work"

# Every process adds its counts to one file when it exits. Root begins that file and nobody goes on,
# for root is given up in between: so all may write, in a directory that is not sticky.
mkdir "$work/counts"
chmod 777 "$work/counts"
umask 0
export MAINTD_LET_EXIT=1 # the fixture kills no server that can end by itself
export GCOV_PREFIX="$work/counts" GCOV_PREFIX_STRIP=99

g++ -std=c++20 -O0 --coverage -fprofile-update=atomic -c -o "$work/maintd.o" "$PWD/maintd.cpp"
g++ --coverage -o "$work/maintd" "$work/maintd.o"

failed=0
for suite in test/run test/proof/faults; do
    MAINTD="$work/maintd" "./$suite" || failed=1
done

cp "$work/counts/maintd.gcda" "$work/"
source=$PWD
cd "$work"
gcov -b -s "$source" -o "$work" "$work/maintd.o" >/dev/null
echo
# A call that may throw is a branch for gcov: both sides of that are left out.
awk -F: '
    function flush() { if (held) { branches++; if (held == 2) note() } held = 0 }
    function note() { missed++; partly[line] = partly[line] " " number }
    /^branch/ {
        if ($0 ~ /\(throw\)/) { held = 0; next }
        flush()
        split($0, word, " ")
        number = word[2]
        held = $0 ~ /never executed|taken 0%/ ? 2 : 1
        next
    }
    { flush() }
    /^ *[-#=0-9*]+:/ {
        line = $2 + 0
        if (line == 0 || $1 ~ /-$/) next
        lines++
        text[line] = substr($0, index($0, $3))
        if ($1 ~ /[#=]/) never[line] = 1
    }
    END {
        flush()
        for (i = 1; i <= NR; i++) if (i in never) { unreached++; printf "never run   %4d:%s\n", i, text[i] }
        for (i = 1; i <= NR; i++) if (i in partly && !(i in never))
            printf "a side only %4d:%s  [branch%s]\n", i, text[i], partly[i]
        printf "maintd.cpp: %d of %d lines (%.1f %%), %d of %d branches (%.1f %%)\n", \
            lines - unreached, lines, 100 * (lines - unreached) / lines, \
            branches - missed, branches, 100 * (branches - missed) / branches
    }' maintd.cpp.gcov
exit "$failed"
