#!/bin/bash
# The data-volume container of the classic tutorial, from a real registry on loopback, with a real client.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
start_registry 5801
push "$FIXTURES/mysql.tar" 127.0.0.1:5801/library/mysql:5.7
push "$FIXTURES/busybox.tar" 127.0.0.1:5801/library/busybox:latest
export RCON_REGISTRY_MIRRORS=docker.io=http://127.0.0.1:5801

mysql_up() {
    rcon run -d --rm --name mysql -e MYSQL_ALLOW_EMPTY_PASSWORD=yes -e MYSQL_DATABASE=volume_test -e MYSQL_USER=example \
        -e MYSQL_PASSWORD=example --volumes-from mysql-data -p 13306:3306 localhost:5801/library/mysql:5.7
}
sql() { mariadb --host 127.0.0.1 --port 13306 --user example --password=example --batch --skip-column-names volume_test -e "$1" 2>&1; }

rcon run --name mysql-data -v /var/lib/mysql busybox true
expect "the data container ran (pulled through the mirror)" 0 $?
id=$(mysql_up)
expect "run -d prints the full id" 64 "$(tail -n 1 <<< "$id" | tr -d '\n' | wc -c)"
wait_for 240 sql 'select 1' || { fail "the server answers on the published port" "$(rcon logs mysql 2>&1 | tail -n 5)"; }
sql 'create table t (id int primary key, word varchar(20)); insert into t values (1,"one"),(2,"two")' > /dev/null
expect "rows are written" "2" "$(sql 'select count(*) from t')"
rcon stop mysql > /dev/null
expect "stop" 0 $?
wait_for 20 sh -c "! '$RCON' --root '$work/data' --run-root '$work/run' ps -a --format '{{.Names}}' | grep -qx mysql"
expect "--rm removed the server" "mysql-data" "$(rcon ps -a --format '{{.Names}}')"
mysql_up > /dev/null
wait_for 240 sql 'select 1' || fail "the second server answers"
expect "a new server still has the rows" "one two" "$(sql 'select word from t order by id' | tr '\n' ' ' | sed 's/ $//')"
rcon rm -f mysql > /dev/null
expect "the volume outlives the servers" 1 "$(rcon volume ls -q | wc -l)"
rcon rm -v mysql-data > /dev/null
expect "rm -v of its last user removes it" 0 "$(rcon volume ls -q | wc -l)"
no_leaks "nothing is left"
stop_registry
finish
