#!/usr/bin/env bash
# SPDX-License-Identifier: 0BSD
# Runs maintd where it needs a kernel or a root of its own, and prints a line for each place. Each
# has a copy of the tree, and namespaces in which all of it ends.
#
#     test/proof/places.sh [quick]    quick: without the one that downloads
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "$*" && exit 1; }

# What an engine makes of README's container file: a root with one file, and its process 1.
container_file() {
    entry=$(sed -n 's/^ *ENTRYPOINT \["\(.*\)"\]$/\1/p' README)
    install -D maintd-static "root$entry"
    unshare --pid --fork chroot root "$entry" 2>log &
    engine=$!
    timeout 100 grep -q 'maintd: serving' <(tail -n +1 -F log) || fail "it does not serve"
    curl -sS http://127.0.0.1:8080/any/path | cmp - maintenance.html
    maintd=$(pgrep -P $engine)
    grep "^NSpid:.*[^0-9]1$" "/proc/$maintd/status" || fail "it is not process 1"
    kill "$maintd"
    wait $engine
    grep "1 request answered" log
}

# README's own test command in a fresh Debian 13, and nothing else.
tests_in_debian() {
    debootstrap --variant=minbase trixie ../debian >/dev/null
    cp /etc/resolv.conf ../debian/etc
    mount -t proc none ../debian/proc
    mount --rbind /dev ../debian/dev
    cp -a . ../debian/maintd
    chroot ../debian sh -c "cd /maintd && make clean; export HOME=/root
        $(sed -n 's/^ *\(apt-get .* make test\)$/\1/p' README)"
}

place() { # NAME NAMESPACE FUNCTION
    folder=$shared/$3
    mkdir "$folder"
    cp -a . "$folder/tree"
    if setpriv --pdeathsig KILL unshare "$2" --mount --pid --fork --kill-child --mount-proc \
        timeout --signal=KILL 1800 "$PWD/test/proof/places.sh" --inside "$folder/tree" "$3" \
        &>"$folder/log"; then
        echo "ok   $1"
    else
        echo "FAIL $1"
        tail -n 60 "$folder/log"
        status=1
    fi
    rm -rf --one-file-system "$folder"
}

if [ "${1-}" = --inside ]; then
    ip link set lo up # A network of its own begins switched off.
    cd "$2"
    "${@:3}"
    exit
fi
unset MAKEFLAGS CXX CPPFLAGS CXXFLAGS LDFLAGS # what "make places" hands down
shared=$(mktemp -d) status=0
trap 'rm -rf --one-file-system "$shared"' EXIT
make -s static
place "process 1 in an empty root, as README's container file says" --net container_file
[ "${1-}" = quick ] || place "tests: a fresh Debian 13, with README's command" --uts tests_in_debian
[ "$status" -eq 0 ]
