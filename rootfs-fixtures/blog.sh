#!/bin/bash
# blog.sh OUT: nginx and a small Python application on Debian, the web half of integration/application.sh; its database
# is mysql.sh's.
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d "$(dirname "$out")/.blog.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
"$here/bootstrap.sh" --include=nginx-light,python3,python3-pymysql \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/log/nginx/*' \
    "$suite" "$work/base.tar"
mkdir -p "$work/top/srv" "$work/top/etc/nginx"
install -m 755 "$here/blog/blog.py" "$work/top/srv/blog.py"
install -m 644 "$here/blog/nginx.conf" "$work/top/etc/nginx/nginx.conf"
tar --sort=name --mtime=@1704067200 --owner=0 --group=0 --numeric-owner -C "$work/top" -cf "$work/top.tar" srv etc
"$here/image.sh" "$out" blog:latest \
    '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["nginx"],"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT"}' \
    "$work/base.tar" "$work/top.tar"
