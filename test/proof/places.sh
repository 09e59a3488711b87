#!/usr/bin/env bash
# SPDX-License-Identifier: 0BSD
# README's own test command in a fresh Debian 13, and nothing else. It downloads Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1-}" != --inside ]; then
    root=$(mktemp -d)
    chmod 755 "$root" # Some tests become another user.
    trap 'rm -rf --one-file-system "$root"' EXIT
    unshare --mount --pid --fork --kill-child "$0" --inside "$root"
    exit
fi
debootstrap --variant=minbase trixie "$2" >/dev/null
cp /etc/resolv.conf "$2/etc"
mount -t proc none "$2/proc"
mount --rbind /dev "$2/dev"
cp -a . "$2/maintd"
unset MAKEFLAGS CXX CPPFLAGS CXXFLAGS LDFLAGS # what "make places" hands down
HOME=/root chroot "$2" sh -c "cd /maintd && make clean
    $(sed -n 's/^ *\(apt-get .* make test\)$/\1/p' README)"
