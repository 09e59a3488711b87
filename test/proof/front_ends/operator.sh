# shellcheck shell=bash
# Plays what README's steps call: "make static", the copy to the server, and systemctl for nginx,
# which is the site. As long as there is a file new-server-is-broken, nginx does not start.
make() { [ "$*" = static ] && cp "$MAINTD" maintd-static; }
scp() { [ "$*" = "maintd-static server:maintd" ] && cp maintd-static maintd; }
systemctl() {
    case "$*" in
    "stop nginx") nginx -p "$PWD" -c site -s quit && while [ -e site.pid ]; do sleep 0.01; done ;;
    "start nginx") [ ! -e new-server-is-broken ] && nginx -p "$PWD" -c site ;;
    *) return 1 ;;
    esac
}
