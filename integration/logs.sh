#!/bin/bash
# The flood: many containers write as fast as they can. The disk stays bounded, what is kept is whole and in order, a
# follower goes across rotations or says what it missed, nobody is slowed to a stop; a full disk costs log lines, which are
# counted, and nothing else; the journal is read back.
# FLOOD_MB: output in all (default 200; the issue's size is 1024).
if [ "${RCON_IN_NETNS:-}" != 1 ]; then
    export RCON_IN_NETNS=1
    exec unshare --net --mount --propagation private bash "$0"
fi
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
total=${FLOOD_MB:-200} containers=20
each=$((total * 1024 * 1024 / containers))
lines=$((each / 100))

# Numbered lines of 100 bytes, made by awk at some 100 MB/s.
flood='awk -v n="$LINES" "BEGIN { pad = sprintf(\"%88s\", \"\"); gsub(/ /, \"x\", pad); for (i = 0; i < n; i++) printf \"%010d %s\n\", i, pad }"'
begin=$(date +%s%N)
for i in $(seq "$containers"); do
    rcon run -d --name "flood$i" --network none -e LINES="$lines" --log-opt max-size=1m --log-opt max-file=3 busybox sh -c "$flood" > /dev/null &
done
wait
rcon logs -f flood1 > "$work/followed" 2> "$work/notices" &
follower=$!
for i in $(seq "$containers"); do
    expect "flood$i ends well" 0 "$(timeout 300 "$RCON" --root "$work/data" --run-root "$work/run" wait "flood$i")"
done
took=$((($(date +%s%N) - begin) / 1000000))
wait "$follower"
echo "  note  $total MB from $containers containers in $took ms: $((total * 1000 / took)) MB/s"
size=$(du -sk "$work"/data/containers/*/*-json.log* | awk '{ s += $1 } END { print s }')
expect_in "the logs of all take at most 3 MiB each (KiB)" 1 $((containers * 3 * 1024 + containers * 16)) "$size"

# whole FILE: "first last count torn" of numbered lines
whole() {
    awk 'BEGIN { want = -1; torn = gaps = 0 }
        length($0) != 99 || $1 !~ /^[0-9]+$/ || $2 !~ /^x+$/ || NF != 2 { torn++; next }
        { n = $1 + 0; if (want >= 0 && n != want) gaps++; want = n + 1; last = n; count++ }
        END { print last + 0, torn, gaps }' "$1"
}
for i in 1 7 20; do
    rcon logs "flood$i" > "$work/log"
    expect "flood$i: what is kept is whole, in order and ends with the last line" "$((lines - 1)) 0 0" "$(whole "$work/log")"
done
read -r last torn gaps <<< "$(whole "$work/followed")"
expect "the follower saw the end and no torn line" "$((lines - 1)) 0" "$last $torn"
expect_in "each gap it met was told" "$gaps" 100000 "$(grep -c 'missing here' "$work/notices")"
expect "nothing was lost by the writer" "0" "$(rcon inspect -f '{{.State.LogLinesLost}}' $(rcon ps -aq) | sort -u)"
for i in $(seq "$containers"); do rcon rm "flood$i" > /dev/null; done

# A follower that keeps up loses nothing across rotations. All fits into the files that are kept, so that it keeps up however slow
# it is; that it follows before there is anything to rotate shows in the first line.
rcon run -d --name steady --network none --log-opt max-size=64k --log-opt max-file=50 busybox sh -c \
    'echo "line 0"; while [ ! -e /go ]; do sleep 0.1; done; i=1; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i + 1)); done' > /dev/null
rcon logs -f steady > "$work/steady" 2> "$work/notices" & follower=$!
wait_for 60 grep -q '^line 0$' "$work/steady"
rcon exec steady touch /go
wait "$follower"
expect_in "the log was rotated meanwhile" 10 50 "$(find "$work/data/containers" -name '*-json.log.*' | wc -l)"
expect "a follower that keeps up gets every line" "20000 0" "$(awk '$2 == NR - 1' "$work/steady" | wc -l) $(wc -l < "$work/notices")"
rcon rm steady > /dev/null

# A full disk: a small file system holds the data root of a second engine.
mkdir -p "$work/small"
mount -t tmpfs -o size=40m small "$work/small"
small() { "$RCON" --root "$work/small/data" --run-root "$work/small-run" "$@"; }
small load -q -i "$FIXTURES/busybox.tar" > /dev/null
small run -d --name full --network none -e LINES=600000 --log-opt max-size=100m busybox sh -c \
    "echo begin; $flood; echo written; : > /dev/shm/written; while [ ! -e /go ]; do sleep 0.1; done; echo end; sleep 600" > /dev/null
lost() { [ "$(small inspect -f '{{.State.LogLinesLost}}' full)" -gt 0 ]; }
wait_for 180 lost
expect "a full disk costs lines, which are counted" 0 $?
expect "and the container goes on" running "$(small inspect -f '{{.State.Status}}' full)"
settled() { a=$(small inspect -f '{{.State.LogLinesLost}}' full); sleep 1.5; [ "$a" = "$(small inspect -f '{{.State.LogLinesLost}}' full)" ]; }
wait_for 180 small exec full test -e /dev/shm/written
wait_for 60 settled
truncate -s 0 "$work"/small/data/containers/*/*-json.log
small exec full touch /go
goes_on() { small logs full 2> /dev/null | grep -q '^end$'; }
wait_for 20 goes_on
expect "the log goes on when there is room" 0 $?
small logs full > /dev/null 2> "$work/told"
expect "and tells what is missing" 1 "$(grep -c 'lines are missing here: the log could not be written' "$work/told")"
small rm -f full > /dev/null
wait_for 20 umount "$work/small"

# The journal: a journald of our own on directories of our own (the mounts are seen in this mount namespace only).
if [ -x /lib/systemd/systemd-journald ] && command -v journalctl > /dev/null; then
    mkdir -p /run/log /run/systemd
    mount -t tmpfs journal /run/log
    mount -t tmpfs journal /run/systemd
    mkdir -p /run/systemd/journal
    /lib/systemd/systemd-journald > "$work/journald.out" 2>&1 &
    journald=$!
    wait_for 20 test -S /run/systemd/journal/socket
    rcon run --name jj --network none --log-driver journald --log-opt tag='{{.Name}}' busybox sh -c 'echo out; echo err >&2; sleep 0.2' > /dev/null 2>&1
    shown() { [ "$(rcon logs jj 2>&1 | sort | tr '\n' ' ')" = "err out " ]; }
    wait_for 20 shown
    expect "what went to the journal is read back" 0 $?
    expect "with its fields" "err" "$(journalctl --no-pager -q -o cat CONTAINER_NAME=jj PRIORITY=3 SYSLOG_IDENTIFIER=jj IMAGE_NAME=busybox)"
    rcon rm jj > /dev/null
    kill "$journald"
    wait "$journald" 2> /dev/null
    umount -l /run/log /run/systemd
else
    fail "systemd-journald and journalctl are needed here"
fi
no_leaks "nothing is left"
finish
