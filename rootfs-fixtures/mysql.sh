#!/bin/bash
# mysql.sh OUT: a stand-in for mysql:5.7 made of Debian's MariaDB server (see README.md beside this file).
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d "$(dirname "$out")/.mysql.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
"$here/bootstrap.sh" --include=mariadb-server \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/lib/mysql/* "$1"/var/log/mysql/*' \
    --customize-hook='mkdir -p "$1"/run/mysqld; chroot "$1" chown mysql:mysql /run/mysqld /var/lib/mysql' \
    "$suite" "$work/base.tar"
mkdir -p "$work/top/usr/local/bin" "$work/top/etc/mysql/mariadb.conf.d"
install -m 755 "$here/mysql/entrypoint.sh" "$work/top/usr/local/bin/docker-entrypoint.sh"
printf '[mysqld]\nbind-address = 0.0.0.0\nskip-name-resolve\n' > "$work/top/etc/mysql/mariadb.conf.d/99-container.cnf"
tar --sort=name --mtime=@1704067200 --owner=0 --group=0 --numeric-owner -C "$work/top" -cf "$work/top.tar" usr etc
"$here/image.sh" "$out" mysql:5.7 \
    '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["docker-entrypoint.sh"],"Cmd":["mysqld"],"Volumes":{"/var/lib/mysql":{}},"ExposedPorts":{"3306/tcp":{}},"Labels":{"rcon.fixture":"stand-in made of MariaDB, not MySQL"}}' \
    "$work/base.tar" "$work/top.tar"
