#!/bin/bash
# Entrypoint of the mysql:5.7 stand-in (Debian's MariaDB server): on an empty data directory it creates the system
# tables, the database and the user named by MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD, then runs the server.
set -euo pipefail

[ "${1:-mysqld}" = mysqld ] || exec "$@"
data=/var/lib/mysql
install -d -o mysql -g mysql /run/mysqld

quote() { # SQL string literal
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}

if [ ! -d "$data/mysql" ]; then
    if [ -z "${MYSQL_ALLOW_EMPTY_PASSWORD:-}" ] && [ -z "${MYSQL_ROOT_PASSWORD:-}" ]; then
        echo 'error: set MYSQL_ROOT_PASSWORD or MYSQL_ALLOW_EMPTY_PASSWORD' >&2
        exit 1
    fi
    chown mysql:mysql "$data"
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal --skip-test-db > /dev/null
    {
        echo "FLUSH PRIVILEGES;"
        echo "CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY $(quote "${MYSQL_ROOT_PASSWORD:-}");"
        echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quote "${MYSQL_ROOT_PASSWORD:-}");"
        if [ -n "${MYSQL_DATABASE:-}" ]; then
            echo "CREATE DATABASE IF NOT EXISTS \`${MYSQL_DATABASE//\`/\`\`}\`;"
        fi
        if [ -n "${MYSQL_USER:-}" ]; then
            echo "CREATE USER IF NOT EXISTS $(quote "$MYSQL_USER")@'%' IDENTIFIED BY $(quote "${MYSQL_PASSWORD:-}");"
            [ -z "${MYSQL_DATABASE:-}" ] ||
                echo "GRANT ALL ON \`${MYSQL_DATABASE//\`/\`\`}\`.* TO $(quote "$MYSQL_USER")@'%';"
        fi
    } | mariadbd --user=mysql --bootstrap --datadir="$data"
    echo "data directory initialised" >&2
fi
shift || true
exec mariadbd --user=mysql --datadir="$data" "$@"
