#!/bin/bash
# The image store when things go wrong: pulls and loads killed at random moments, full disks, pulls at once; what is
# on disk afterwards, and what was asked of the registry again.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(readlink -f "$0")")
port=5860
log=$work/asked.log
registry=127.0.0.1:$port
python3 "$here/slow-registry.py" $port "$log" 12000000 > "$work/registry.log" 2>&1 &
registry_pid=$!
wait_for 60 bash -c "exec 3<> /dev/tcp/127.0.0.1/$port" || { echo "the registry does not start:"; cat "$work/registry.log"; exit 1; }
touch "$log"

# SECONDS COMMAND...: kills it after that time; true if it was killed, false if it had ended well before
killed_after() {
    local pause=$1 pid
    shift
    "$RCON" --root "$work/data" --run-root "$work/run" "$@" > "$work/killed.out" 2>&1 &
    pid=$!
    sleep "$pause"
    kill -9 "$pid" 2> /dev/null
    ! wait "$pid" 2> /dev/null
}
moment() { local at=$((RANDOM % $1)); printf '%d.%03d' $((at / 1000)) $((at % 1000)); }
downloads() { (cd "$work/data/ingest" 2> /dev/null && for f in *.partial; do [ ! -e "$f" ] || echo "${f%.partial} $(stat -c %s "$f")"; done); }
store() { # what is on disk and not part of an image, or held
    find "$work/data/ingest" "$work/data/blobs" -type f 2> /dev/null
    find "$work/data/locks" -name 'chain-*' 2> /dev/null
}

# Until what was killed has been heard to its end: the connections are taken in turn.
heard() { curl -sf --max-time 60 "http://$registry/idle" > /dev/null || wrong="$wrong; the registry does not come to rest"; }
# However long a pull takes here.
begin=$(date +%s%N)
rcon pull -q "$registry/test/app:1" > /dev/null
span=$((($(date +%s%N) - begin) / 1000000))
[ $span -ge 600 ] || span=600
rcon rmi "$registry/test/app:1" > /dev/null
wait_for 60 synced
: > "$log"

# 50 kills during a pull. What is on disk before a pull is where it must begin to fetch.
kills=0 pulls=0 wrong=""
while [ $kills -lt 50 ] && [ $pulls -lt 150 ]; do
    pulls=$((pulls + 1))
    # Now and then from the start: else the later kills would all hit the unpacking.
    [ $((kills % 10)) != 9 ] || rm -f "$work"/data/ingest/*.partial
    heard
    downloads > "$work/have"
    seen=$(wc -l < "$log")
    if killed_after "$(moment $span)" pull -q "$registry/test/app:1"; then
        kills=$((kills + 1))
        # Shown at all, it was killed behind its record: then every byte of it must be right.
        if [ -n "$(rcon images -q "$registry/test/app")" ]; then
            { rcon save "$registry/test/app:1" > /dev/null 2> "$work/save.err" && [ ! -s "$work/save.err" ]; } || wrong="$wrong; a killed pull shows a broken image: $(cat "$work/save.err")"
            rcon rmi "$registry/test/app:1" > /dev/null || wrong="$wrong; rmi fails"
        fi
    else
        rcon rmi "$registry/test/app:1" > /dev/null || wrong="$wrong; rmi fails"
    fi
    heard
    wrong=$wrong$(tail -n +$((seen + 1)) "$log" | awk -v have="$work/have" '
        BEGIN { while ((getline line < have) > 0) { split(line, f, " "); size[f[1]] = f[2] } }
        $1 == "GET" && $3 + 0 != size[$2] + 0 { printf "; %s was asked from byte %s, on disk were %s", substr($2, 1, 12), $3, size[$2] + 0 }')
done
expect "50 pulls are killed ($pulls were begun)" 50 "$kills"
expect "each goes on where the bytes on disk end" "" "$wrong"
expect_in "many of them in the middle of a layer" 5 500 "$(awk '$1 == "GET" && $3 > 0' "$log" | wc -l)"
rcon pull -q "$registry/test/app:1" > /dev/null 2> "$work/pull.err"
expect "then a pull ends well" "0 " "$? $(cat "$work/pull.err")"
expect "its layers are there, and no other directory" 3 "$(find "$work/data/layers" -mindepth 1 -maxdepth 1 | wc -l)"
expect "no download, blob or lock is left" "" "$(store)"
expect "every byte is right" "1 image and 3 layers are sound" "$(rcon system check)"
expect "a second pull asks for no layer" "$(grep -c GET "$log")" "$(rcon pull -q "$registry/test/app:1" > /dev/null; grep -c GET "$log")"

# The largest layer is here on another base: it is not fetched.
asked=$(grep -c GET "$log")
rcon pull -q "$registry/test/other:1" > /dev/null
expect "a layer that is here on another base is not fetched" 1 "$(($(grep -c GET "$log") - asked))"
rcon rmi "$registry/test/app:1" "$registry/test/other:1" > /dev/null
expect "rmi leaves nothing" "" "$(store; find "$work/data/layers" -mindepth 1 -maxdepth 1)"

# Several processes at once do the work once.
: > "$log"
pids=""
for _ in 1 2 3 4; do
    rcon pull -q "$registry/test/app:1" > /dev/null 2>> "$work/parallel.err" &
    pids="$pids $!"
done
status=0
for pid in $pids; do wait "$pid" || status=1; done
expect "four pulls at once" "0 3" "$status $(grep -c GET "$log")"
rcon rmi "$registry/test/app:1" > /dev/null

# Loads killed at random moments.
for _ in $(seq 12); do
    if ! killed_after "$(moment 120)" load -q -i "$FIXTURES/busybox.tar"; then rcon rmi busybox > /dev/null; fi
done
expect "a load after twelve that were killed" "Loaded image: busybox:latest" "$(rcon load -q -i "$FIXTURES/busybox.tar")"
expect "leaves one layer and no file besides" "1 " "$(find "$work/data/layers" -mindepth 1 -maxdepth 1 | wc -l) $(store)"
expect "which is sound" "1 image and 1 layer are sound" "$(rcon system check)"

# A full disk.
mkdir "$work/small"
small() { "$RCON" --root "$work/small" --run-root "$work/run-small" "$@"; }
mount -t tmpfs -o size=12m tmpfs "$work/small"
small pull -q "$registry/test/app:1" > /dev/null 2> "$work/full.err"
expect "an image that cannot fit is refused" 1 $?
expect "with what is needed and what is free" 1 "$(grep -c 'not enough space for .* has 1[0-9.]*MB free, at least [0-9.]*MB are needed' "$work/full.err")"
expect "before anything was fetched" "" "$(find "$work/small/ingest" "$work/small/layers" -mindepth 1)"
small pull -q "$registry/test/zeros:1" > /dev/null 2> "$work/full.err"
expect "a disk that fills while unpacking" 1 $?
expect "is named too" "1 1" "$(grep -c 'not enough space' "$work/full.err") $(grep -ci 'no space left' "$work/full.err")"
expect "and nothing is left behind" "" "$(find "$work/small/ingest" "$work/small/layers" "$work/small/blobs" -mindepth 1 -type f)$(small images -q)"
mount -o remount,size=80m "$work/small"
expect "with room the same pull ends well" 0 "$(small pull -q "$registry/test/zeros:1" > /dev/null 2>&1; echo $?)"
mount -o remount,size=60m "$work/small"
expect "a load on a full disk says so" 1 "$(small load -q -i "$FIXTURES/debian.tar" 2>&1 | grep -c 'not enough space')"
expect "and leaves the store sound" "1 image and 1 layer are sound" "$(small system check)"
wait_for 20 synced
umount "$work/small"

# What df says is what du says.
rcon pull -q "$registry/test/app:1" > /dev/null
rcon create --name one busybox > /dev/null
said=$(rcon system df --format '{{.Size}}' | sed 's/k/K/' | numfmt --from=si --suffix=B | awk '{ sum += $1 } END { print int(sum) }')
real=$(du -s --block-size=1 "$work/data/layers" "$work/data/containers" | awk '{ sum += $1 } END { print sum }')
expect_in "df adds up to du, within 3 percent" $((real * 97 / 100)) $((real * 103 / 100)) "$said"

no_leaks "nothing is left"
kill "$registry_pid" && wait "$registry_pid" 2> /dev/null
finish
