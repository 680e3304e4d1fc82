#!/bin/bash
# Many at once: 50 parallel runs; 20 runs of one name, of which exactly one wins.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
for i in $(seq 50); do (rcon run --rm busybox echo "$i" > "$work/out.$i" 2> "$work/err.$i"; echo $? > "$work/rc.$i") & done
wait
expect "50 parallel run --rm succeed" 50 "$(cat "$work"/rc.* | grep -cx 0)"
for i in $(seq 50); do [ "$(cat "$work/out.$i")" = "$i" ] || echo "$i"; done > "$work/wrong"
expect "each with its own output" "" "$(cat "$work/wrong")"
[ "$failed" = 0 ] || head -n 3 "$work"/err.* | head -n 20
for i in $(seq 20); do (rcon run -d --name same busybox sleep 60 > /dev/null 2> "$work/same.$i"; echo $? > "$work/same-rc.$i") & done
wait
expect "one of 20 wins a name" "1 19" "$(cat "$work"/same-rc.* | grep -cx 0) $(cat "$work"/same-rc.* | grep -cx 125)"
expect "and only one container is there" 1 "$(rcon ps -aq | wc -l)"
no_leaks "nothing is left"
finish
