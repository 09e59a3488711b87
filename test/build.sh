#!/bin/sh
# SPDX-License-Identifier: 0BSD
# What make builds and installs. Mostly a script takes the compiler's place: the "program" that it
# makes says who compiled it, and prints its own arguments.
set -eu
umask 077 # The installed program has to be for all users nevertheless.
unset MAKEFLAGS MFLAGS MAKELEVEL CXX CPPFLAGS CXXFLAGS LDFLAGS DESTDIR PREFIX
make=${MAKE:-make}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
cp maintd.cpp Makefile maintenance.html "$folder"
cd "$folder"

has() { # FILE PART
    grep -qe "$2" "$1" || { echo "FAILED: $1 lacks $2" && cat "$1" && exit 1; }
}

cat >one <<'END'
#!/bin/sh
arguments=$*
while [ $# -gt 1 ]; do [ "$1" = -o ] && program=$2; shift; done
[ "${program:-/dev/null}" = /dev/null ] && exit
printf '#!/bin/sh\n# compiled by %s\necho "$0 $*"\n' "$0 $arguments" >"$program"
chmod 700 "$program"
END
chmod 700 one
cp one two

echo '==== make install installs what was built, whatever the variables are now'
$make CXX=./one
$make install DESTDIR=to PREFIX=/usr CXX=./two CXXFLAGS=-g
has to/usr/bin/maintd 'compiled by ./one'
find to/usr/bin/maintd -perm 755 | grep .
echo '==== make builds anew when the flags differ, and make install if nothing is built'
$make CXX=./two
has maintd 'compiled by ./two'
rm maintd
$make install DESTDIR=to PREFIX=/usr CXX=./one
has to/usr/bin/maintd 'compiled by ./one'
echo '==== make run serves the page on port 8080'
$make -s CXX=./one run >output
has output '^./maintd -p 8080 maintenance.html$'
echo '==== make static links a program that is static and position independent'
$make static CXX=./one LDFLAGS='-pie -Wl,-x'
has maintd-static ' -static-pie .*-Wl,-x '
if grep -e ' -pie ' maintd-static; then exit 1; fi
if $make static; then
    readelf -hl maintd-static >output
    has output 'DYN'
    if grep INTERP output; then exit 1; fi
    ./maintd-static -V
else
    printf 'warning:\n  No static program can be linked here: this is not tested.\n'
fi
echo '==== make says what a page must not be'
while IFS='|' read -r page why; do
    printf %s "$page" >maintenance.html
    if $make CXX=./one 2>output; then exit 1; fi
    has output "^maintenance.html: $why\$"
done <<'END'
|empty
<p>)maintd"</p>|must not contain )maintd"
END
echo 'All tests passed'
