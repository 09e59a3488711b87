#!/usr/bin/env bash
# Runs maintd in all the places where it has to work, one line for each:
#
#     test/proof/places.sh quick    those that take seconds
#     test/proof/places.sh          all: also the tests, with other compilers, machines, and Debian roots
#
# For root. Every place has namespaces of its own, in which it can neither disturb this machine nor
# leave a process behind. Fresh Debian roots are kept in $MAINTD_ROOTS where that is set, to be
# copied again the next time. A tool that is missing is named, and its place has failed.
set -euo pipefail

# ---- In a place: these run inside its namespaces, and any command that fails ends them -----------

# Every function of a place starts with `needs`, for the tools that it calls.
needs() { # PROGRAM=PACKAGE...
    local each missing=''
    for each; do
        command -v "${each%%=*}" >/dev/null || missing+=" ${each#*=}"
    done
    [ -z "$missing" ] || fail "missing, to be had by: apt-get install$missing"
}

fail() {
    echo "$*"
    exit 1
}

expect() { # WHAT WANTED GOT
    [ "$2" = "$3" ] || fail "$1: '$3' instead of '$2'"
}

# Makes the directory a fresh copy of the sources, without anything that was built, and goes there.
fresh_copy() { # DIRECTORY
    local copy=$1
    rm -rf "$copy"
    mkdir -p "$copy/test"
    cp "$source"/{Makefile,README,maintd.cpp,maintenance.html} "$copy"
    cp "$source"/test/*.?pp "$copy/test"
    cd "$copy"
}

# A network of its own, in which every port is free, has to be switched on.
loopback_up() {
    needs ip=iproute2 curl=curl
    ip link set lo up
}

# The process at the end of a chain of wrappers that stay: unshare --fork, strace.
innermost() { # PID
    local pid=$1 children
    while children=$(cat "/proc/$pid/task/$pid/children") && [ -n "$children" ]; do
        pid=${children%% *}
    done
    echo "$pid"
}

# Starts the command, a maintd or what builds one, and waits for maintd's first line.
start() { # COMMAND...
    exec {errors}< <(exec "$@" 2>&1)
    started=$!
    first_line=''
    until [[ $first_line == maintd:* ]]; do
        read -r -t 100 first_line <&"$errors" || fail "no first line: $first_line"
    done
    [[ $first_line == "maintd: serving "*" on http://"*/ ]] || fail "no first line: $first_line"
}

# Sends SIGTERM, and expects that the last line counts `answered` and that the status is 0.
stop() { # ANSWERED
    local last_line='' status=0
    kill -TERM "$(innermost "$started")"
    read -r -t 30 last_line <&"$errors" || fail "no last line: $last_line"
    [[ $last_line == "maintd: $1 requests answered in "* ]] || fail "last line: $last_line"
    wait "$started" || status=$?
    expect "exit status" 0 "$status"
}

# Waits until the port takes connections; for those who cannot read the first line.
await_port() { # PORT
    local tries=0
    until (: <>"/dev/tcp/127.0.0.1/$1") 2>"$work/probe"; do
        [ $((tries += 1)) -lt 500 ] || fail "nobody listens on port $1"
        sleep 0.02
    done
}

# Visits port 80, or another, with GET, HEAD and POST; expects the page each time, whole.
visit() { # [PORT]
    local url=http://127.0.0.1:${1:-80}/any/path page=$source/maintenance.html got=$work/got
    local each ask=(curl -sS --max-time 30)
    await_port "${1:-80}"
    for each in GET POST; do
        [ "$each" = GET ] || ask+=(--data-binary "@$source/maintd.cpp" -H "Expect:")
        expect "$each" 503 "$("${ask[@]}" -o "$got" -w '%{http_code}' "$url")"
        cmp "$page" "$got"
    done
    curl -sS --max-time 30 --head "$url" | tr -d '\r' >"$got"
    expect HEAD "HTTP/1.1 503 Service Unavailable" "$(head -n 1 "$got")"
    grep -qx "Content-Length: $(stat -c %s "$page")" "$got"
}

# Starts, visits and stops the command, a maintd on port 80.
serves() { # COMMAND...
    start "$@"
    visit
    stop 3
}

# Expects that the command says one line on standard error, with `words` in it, and ends with 1.
refuses() { # WORDS COMMAND...
    local words=$1 line status=0
    shift
    line=$(timeout 10 "$@" 2>&1) || status=$?
    expect "exit status" 1 "$status"
    expect "lines of the error" 1 "$(wc -l <<<"$line")"
    [[ $line == "maintd: "*"$words"* ]] || fail "the error does not say '$words': $line"
    echo "$line"
}

# ---- Places for the static binary ----------------------------------------------------------------

# An empty root but for /maintd. The binary has been built by the place that is the first.
empty_root() {
    [ -x "$static" ] || fail "there is no static binary"
    root=$work/empty
    rm -rf "$root"
    mkdir "$root"
    cp "$static" "$root/maintd"
    loopback_up
}

static_build() {
    needs make=make g++=g++
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror static
    cp maintd "$static"
    expect "what ldd says" 1 "$(ldd maintd 2>&1 | grep -cE 'not a dynamic|statically linked')"
    [ "$(stat -c %s maintd)" -lt $((1 << 20)) ] || fail "$(stat -c %s maintd) bytes are too many"
    serves ./maintd -p 80
}

in_empty_root() {
    empty_root
    serves chroot "$root" /maintd -p 80
}

without_etc() {
    needs make=make g++=g++
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror
    mount -t tmpfs none /etc
    [ ! -e /etc/passwd ] || fail "there is an /etc/passwd"
    serves ./maintd -p 80
    serves "$static" -p 80
}

ipv6_disabled() {
    empty_root
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    serves "$static" -p 80
    serves "$static" -p 80 -l 0.0.0.0
    refuses "Cannot assign requested address" "$static" -p 80 -l ::1
}

# The first call of socket(), which asks for IPv6, fails as it does in a kernel that has none.
no_ipv6_in_the_kernel() {
    needs strace=strace
    empty_root
    local trace=(strace -o "$work/strace" -e trace=socket) error=inject=socket:error=EAFNOSUPPORT
    serves "${trace[@]}" -e "$error:when=1" "$static" -p 80
    expect "first line" "http://0.0.0.0:80/" "${first_line##* }"
    grep -q '^socket(AF_INET6.*EAFNOSUPPORT.*INJECTED' "$work/strace"
    grep -q '^socket(AF_INET,.* = [0-9]' "$work/strace"
    refuses "not supported" "${trace[@]}" -e "$error" "$static" -p 80 -l ::1
}

# There is no first line to wait for, and descriptors 0 to 2 must have become `target`.
descriptors_closed() { # TARGET COMMAND...
    local target=$1 number status=0
    shift
    "$@" 0<&- 1>&- 2>&- &
    started=$!
    visit
    exec {client}<>/dev/tcp/127.0.0.1/80 # still open when the last line is written
    for number in 0 1 2; do
        expect "descriptor $number" "$target" "$(readlink "/proc/$started/fd/$number")"
    done
    kill -TERM "$started"
    wait "$started" || status=$?
    expect "exit status" 0 "$status"
    timeout 10 cat <&"$client" >"$work/got"
    expect "requests answered, in what a client got" 0 "$(grep -c 'requests answered' "$work/got")"
    exec {client}<&-
}

streams_closed() {
    empty_root
    descriptors_closed /dev/null "$static" -p 80
}

streams_closed_in_empty_root() {
    empty_root
    descriptors_closed "$root" chroot "$root" /maintd -p 80
}

as_process_1() {
    empty_root
    start unshare --pid --fork chroot "$root" /maintd -p 80
    expect "process id in its namespace" 1 \
        "$(awk '/^NSpid:/ { print $NF }' "/proc/$(innermost "$started")/status")"
    visit
    stop 3
}

as_ordinary_user() {
    empty_root
    local user=(setpriv --reuid 12345 --regid 12345 --clear-groups)
    start "${user[@]}" "$static" -p 8080
    visit 8080
    stop 3
    refuses "start as root" "${user[@]}" "$static" -p 80
}

# An ordinary user's namespace, as that of a rootless container, in which all but he is unmapped.
only_id_0_mapped() {
    empty_root
    local user=(setpriv --reuid 12345 --regid 12345 --clear-groups unshare --user --map-root-user)
    start "${user[@]}" "$static" -p 8080 -u 0
    visit 8080
    stop 3
    refuses "-u 0" "${user[@]}" "$static" -p 8080
}

# ---- Places that README names: it is README's own lines that are tried ---------------------------

readme_line() { # PATTERN
    local line
    line=$(sed -n "s|^ *\($1\)\$|\1|p" "$source/README")
    expect "lines of README like '$1'" 1 "$(grep -c . <<<"$line")"
    echo "$line"
}

# What an engine makes of the container file's three lines: a root with one file, its process 1.
container_file() {
    empty_root
    local from copy entry
    from=$(readme_line 'FROM .*')
    copy=$(readme_line 'COPY .*')
    entry=$(readme_line 'ENTRYPOINT .*')
    expect FROM "FROM scratch" "$from"
    expect COPY "COPY maintd /maintd" "$copy"
    entry=$(sed 's/^ENTRYPOINT \[//; s/\]$//; s/[",]/ /g' <<<"$entry")
    read -ra words <<<"$entry"
    serves unshare --pid --fork chroot "$root" "${words[@]}"
}

# nohup's job survives the terminal, and is stopped as README stops it.
nohup_line() {
    empty_root
    local line
    line=$(readme_line 'nohup .*&')
    cd "$root"
    set -m # jobs have numbers
    eval "$line"
    visit
    kill -HUP %1
    visit
    kill %1
    wait %1
    grep -qx "maintd: 6 requests answered in [0-9]* s" maintd.log
}

# README's line is given to a systemd, which is process 1 of a Debian of its own.
systemd_run_line() {
    debian bookworm
    needs ip=iproute2 curl=curl
    local line there manager=0
    line=$(readme_line 'systemd-run .*')
    cp "$static" "$root/usr/local/bin/maintd"
    with_network "apt-get update && apt-get install -y --no-install-recommends systemd-sysv dbus"
    own_cgroup
    unshare --mount --pid --fork --net --uts --ipc --cgroup bash "$source/test/proof/places.sh" \
        --inside boot_systemd "$root" &
    until [ -S "/proc/$manager/root/run/systemd/private" ]; do # then it takes questions
        read -rd ' ' manager <"/proc/$!/task/$!/children" || kill -0 $!
        sleep 0.1
    done
    there=(nsenter --target "$manager" --net)
    inside=("${there[@]}" --mount --pid --uts --ipc --cgroup --root --wd)
    "${inside[@]}" systemctl is-system-running --wait
    eval "\"\${inside[@]}\" $line"
    "${there[@]}" bash "$source/test/proof/places.sh" --inside visit
    "${inside[@]}" systemctl stop maintd
    "${inside[@]}" journalctl --sync
    "${inside[@]}" journalctl --unit maintd --output cat >"$work/got"
    cat "$work/got"
    grep -q '^maintd: 3 requests answered in ' "$work/got"
    grep -q '^maintd.service: Deactivated successfully' "$work/got"
    kill -KILL "$manager"
}

# A systemd would take the whole tree of control groups for its own: this gives it a branch, which
# is cut off at the end.
own_cgroup() {
    cgroup=$work/cgroup
    mkdir -p "$cgroup"
    mount -t cgroup2 none "$cgroup"
    mkdir -p "$cgroup/maintd-places"
    echo 0 >"$cgroup/maintd-places/cgroup.procs"
    trap leave_cgroup EXIT
}

leave_cgroup() {
    wait # until all that was in it has ended
    echo 0 >"$cgroup/cgroup.procs"
    find "$cgroup/maintd-places" -depth -type d -exec rmdir {} +
}

boot_systemd() { # ROOT
    local root=$1
    umount -lR "$root/dev" "$root/proc"
    mount --bind "$root" "$root"
    mount -t proc none "$root/proc"
    mount -t sysfs none "$root/sys"
    mount -t cgroup2 none "$root/sys/fs/cgroup"
    mount -t tmpfs none "$root/run"
    mount -t tmpfs none "$root/dev"
    cp -a /dev/{null,zero,full,random,urandom,tty} "$root/dev"
    ip link set lo up
    exec chroot "$root" env -i container=other /lib/systemd/systemd
}

# ---- Places for the build ------------------------------------------------------------------------

builds() { # COMPILER=PACKAGE ARGUMENTS OF MAKE...
    needs make=make "$1"
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="${1%%=*}" "${@:2}"
    serves ./maintd -p 80
}

builds_by_bmake() {
    needs bmake=bmake g++=g++
    loopback_up
    fresh_copy "$work/tree"
    bmake CPPFLAGS=-Werror
    serves ./maintd -p 80
    bmake clean
    [ ! -e maintd ] || fail "bmake clean leaves maintd"
    bmake CPPFLAGS=-Werror static
    serves ./maintd -p 80
}

builds_for() { # MACHINE QEMU
    needs make=make "$1-linux-gnu-g++=g++-$1-linux-gnu" "$2=qemu-user-static"
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="$1-linux-gnu-g++" static
    serves "$2" ./maintd -p 80
}

tests() { # COMPILER=PACKAGE ARGUMENTS OF MAKE...
    needs make=make "$1"
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="${1%%=*}" "${@:2}" test
}

# The tests, compiled for another machine, start a maintd that is emulated as well. One of them is
# left out: the memory that it would measure is the emulator's.
tests_for() { # MACHINE QEMU
    needs make=make "$1-linux-gnu-g++=g++-$1-linux-gnu" "$2=qemu-user-static"
    loopback_up
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="$1-linux-gnu-g++" maintd test/run
    printf '#!/bin/sh\nexec %s -L /usr/%s-linux-gnu %s/maintd "$@"\n' "$2" "$1" "$PWD" >emulated
    chmod 755 emulated
    MAINTD=$PWD/emulated "$2" -L "/usr/$1-linux-gnu" ./test/run '~*idle connections are all taken*'
}

# Makes $root a Debian of the given suite, as debootstrap leaves it or as the former place did.
debian() { # SUITE
    local fresh=$roots/$1
    needs debootstrap=debootstrap
    if [ ! -e "$fresh.done" ]; then
        rm -rf "$fresh"
        mkdir -p "$roots"
        debootstrap --variant=minbase "$1" "$fresh"
        touch "$fresh.done"
    fi
    root=$work/$1
    [ -e "$root" ] || cp -a "$fresh" "$root"
    cp /etc/resolv.conf "$root/etc"
    mount -t proc none "$root/proc"
    mount --rbind /dev "$root/dev"
    fresh_copy "$root/maintd"
}

# A shell command in that root, in the directory of the sources; every warning is an error.
in_root='cd /maintd && export CPPFLAGS=-Werror HOME=/root LC_ALL=C.UTF-8 && '
with_network() { # COMMAND
    chroot "$root" sh -c "$in_root$1" </dev/null
}
alone=(unshare --net --mount bash "${source-}/test/proof/places.sh" --inside enter)
without_network() { # COMMAND
    "${alone[@]}" "$root" "$in_root$1" </dev/null
}

# Becomes the shell command, in that root: not with chroot(), after which no user namespace can be
# made, as the tests do.
enter() { # ROOT COMMAND
    ip link set lo up
    mount --rbind "$1" "$1"
    cd "$1"
    mkdir -p former
    pivot_root . former
    umount -l /former
    exec /bin/sh -c "$2"
}

# README's two commands, and nothing else; what they install is fetched from the network.
readme_commands() { # SUITE
    debian "$1"
    needs ip=iproute2 curl=curl
    local run test
    run=$(readme_line 'apt-get .* make run')
    test=$(readme_line 'apt-get .* make test')
    with_network "${run% && *}"
    start "${alone[@]}" "$root" "$in_root${run##* && }"
    exec {network}<"/proc/$(innermost "$started")/ns/net"
    nsenter --net="/proc/self/fd/$network" bash "$source/test/proof/places.sh" --inside visit 8080
    stop 3
    with_network "${test% && *}"
    without_network "${test##* && }"
}

tests_in_root() { # SUITE PACKAGES ARGUMENTS OF MAKE
    debian "$1"
    needs ip=iproute2
    with_network "apt-get update && apt-get install -y make catch2 $2"
    without_network "make $3 test"
}

# Debian's Catch2 is a library for libstdc++; for libc++ its source is compiled once more.
tests_with_libcxx() { # SUITE
    debian "$1"
    needs ip=iproute2
    with_network "apt-get update && apt-get install -y make catch2 clang libc++-dev libc++abi-dev"
    sed "s/^deb /deb-src /" "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
    with_network "apt-get update && apt-get source --download-only catch2"
    with_network "tar xf catch2_*.orig.tar.*"
    with_network "clang++ -stdlib=libc++ -c -o catch.o [Cc]atch2-*/extras/catch_amalgamated.cpp"
    with_network "ar rcs libCatch2.a catch.o && ar rcs libCatch2Main.a" # main() is in the former
    without_network "make CXX=clang++ CXXFLAGS='-O2 -stdlib=libc++' LDFLAGS=-L. test"
}

# ---- All places ----------------------------------------------------------------------------------

passed=0
failed=0

# Runs a function of the above in namespaces of its own, which end with it, and with this script.
# Says in one line whether it passed, and where not, what it said last.
place() { # NAME [OPTION OF UNSHARE] FUNCTION ARGUMENTS...
    local name=$1 log=$work/log namespaces=(--mount --pid --fork --kill-child --mount-proc)
    shift
    while [[ $1 == --* ]]; do
        namespaces+=("$1")
        shift
    done
    timeout --signal=KILL 1200 setpriv --pdeathsig KILL unshare "${namespaces[@]}" \
        bash "$source/test/proof/places.sh" --inside "$@" >"$log" 2>&1 &
    running=$!
    if wait "$running"; then
        passed=$((passed + 1))
        echo "ok   $name"
        grep -o 'not tested: .*' "$log" | sort -u | sed 's/^/     /' || true # as a test says
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -E -A 8 'FAILED:|error:|warning:' "$log" | head -n 60 | sed 's/^/     /' || true
        tail -n 12 "$log" | sed 's/^/     /'
    fi
}

quick_places() {
    place "static build, one file below 1 MB" --net static_build
    place "static binary in an empty root" --net in_empty_root
    place "without /etc/passwd, nor any /etc" --net without_etc
    place "IPv6 disabled" --net ipv6_disabled
    place "no IPv6 in the kernel" --net no_ipv6_in_the_kernel
    place "standard descriptors closed" --net streams_closed
    place "standard descriptors closed, no /dev/null" --net streams_closed_in_empty_root
    place "as process 1" --net as_process_1
    place "as an ordinary user" --net as_ordinary_user
    place "in a user namespace where only id 0 is mapped" --net only_id_0_mapped
    place "README's container file" --net container_file
    place "README's nohup line" --net nohup_line
    place "g++ -std=c++20" --net builds g++=g++ CXXFLAGS=-std=c++20
    place "g++ -std=c++23" --net builds g++=g++ CXXFLAGS=-std=c++23
    place "clang++ -std=c++20" --net builds clang++=clang CXXFLAGS=-std=c++20
    place "clang++ -std=c++2b" --net builds clang++=clang CXXFLAGS=-std=c++2b
    place "bmake" --net builds_by_bmake
    place "arm64" --net builds_for aarch64 qemu-aarch64-static
    place "s390x, big-endian" --net builds_for s390x qemu-s390x-static
}

slow_places() {
    place "g++: tests" --net tests g++=g++
    place "g++ -std=c++23: tests" --net tests g++=g++ CXXFLAGS=-std=c++23
    place "clang++: tests" --net tests clang++=clang
    place "arm64: tests" --net tests_for aarch64 qemu-aarch64-static
    place "s390x, big-endian: tests" --net tests_for s390x qemu-s390x-static
    place "README's systemd-run line, in Debian 12" systemd_run_line
    place "Debian 13, fresh: README's two commands" readme_commands trixie
    place "Debian 13, clang++: tests" tests_in_root trixie clang CXX=clang++
    place "Debian 13, clang++ -stdlib=libc++: tests" tests_with_libcxx trixie
    place "Debian 13, g++ -std=c++23: tests" tests_in_root trixie g++ CXXFLAGS=-std=c++23
    place "Debian 13, clang++ -std=c++23: tests" tests_in_root trixie clang \
        "CXX=clang++ CXXFLAGS=-std=c++23"
    place "Debian 12, g++ -m32: tests" tests_in_root bookworm g++-multilib "CXXFLAGS='-O2 -m32'"
}

if [ "${1-}" = --inside ]; then
    shift
    "$@"
    exit
fi

source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
chmod 755 "$work" # for the ordinary user
static=$work/maintd
roots=${MAINTD_ROOTS:-$work/roots}
export source work static roots
running=
leave() { # a place that still runs ends with the script; the status stays what it was
    [ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true
    rm -rf --one-file-system "$work" || true
}
trap leave EXIT
trap 'exit 130' INT TERM HUP
quick_places
[ "${1-}" = quick ] || slow_places
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
