#!/bin/sh
# Plays what README's steps call: "make static", the copy to the server, and systemctl for nginx,
# which is the site. As long as there is a file new-server-is-broken, nginx does not start.
case "${0##*/} $*" in
"make static") cp "$MAINTD" maintd-static ;;
"scp maintd-static server:maintd") cp maintd-static maintd ;;
"systemctl stop nginx")
    nginx -p /run/rollout -c site -s quit
    while [ -e site.pid ]; do sleep 0.01; done
    ;;
"systemctl start nginx") [ ! -e new-server-is-broken ] && nginx -p /run/rollout -c site ;;
*) echo "README's steps are not expected to say: ${0##*/} $*" >&2 && exit 1 ;;
esac
