#!/bin/bash
# Pods: two containers over localhost, System V and POSIX shared memory; kill -9 at every step and at random; what it costs
# to start a member; no process but the members' own.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon load -q -i "$FIXTURES/debian.tar" > /dev/null
debian=$(rcon images --format '{{.Repository}}:{{.Tag}}' | grep debian | head -n 1)
now() { local up; read -r up _ < /proc/uptime; echo "${up/./}"; }
processes() { # how many processes have a file of ours open and are no monitor of a container
    pgrep -f '^rcon-pause' | while read -r p; do ls -l "/proc/$p/fd" 2> /dev/null | grep -qF " $work/" && echo x; done | wc -l
}

rcon pod create --name web -p 18080:80 --label a=b > /dev/null
rcon run -d --pod web --name one busybox sh -c 'mkdir /www; echo hello > /www/index.html; echo posix > /dev/shm/note; httpd -f -h /www -p 80' > /dev/null
rcon run -d --pod web --name two "$debian" sleep 1000 > /dev/null
wait_for 20 curl -sf http://127.0.0.1:18080/
expect "the published port leads to the pod" hello "$(curl -s http://127.0.0.1:18080/)"
expect "localhost is shared" hello "$(rcon run --rm --pod web busybox wget -qO- http://127.0.0.1/)"
expect "POSIX shared memory is shared" posix "$(rcon exec two cat /dev/shm/note)"
segment=$(rcon exec two ipcmk -M 4096 | sed 's/.*: //')
expect "System V shared memory is shared" 1 "$(rcon run --rm --pod web "$debian" ipcs -m | grep -c "^0x.* $segment ")"
key=$(rcon exec two ipcs -m | awk -v id="$segment" '$2 == id { print $1 }')
expect "and not with the host" "yes 0" "$(grep -q '^0x' <<< "$key" && echo yes) $(ipcs -m | grep -c "^$key ")"
expect "the host name is shared" "web web" "$(rcon exec one hostname) $(rcon exec two hostname)"
expect "the files are not" 1 "$(rcon exec two test -e /www; echo $?)"
expect "there is no process but the members' own and their monitors" 0 "$(processes)"
rcon kill one > /dev/null
expect "the segment outlives who did not make it" 1 "$(rcon exec two ipcs -m | grep -c "$segment")"
rcon restart -t 0 two > /dev/null
expect "and the restart of the only member" 1 "$(rcon exec two ipcs -m | grep -c "$segment")"
expect "the host's own hosts file has no part in it" 1 "$(rcon exec two grep -c 'web$' /etc/hosts)"
rcon pod rm -f -t 0 web > /dev/null
expect "the port is free" 0 "$(rcon run --rm -p 18080:80 busybox true; echo $?)"

rcon pod create --name pids --network none --share +pid > /dev/null
rcon run -d --pod pids --name p1 busybox sleep 1001 > /dev/null
rcon run -d --pod pids --name p2 busybox sleep 1002 > /dev/null
expect "with shared PIDs there is one" 1 "$(processes)"
expect "and members see each other" 1 "$(rcon exec p2 ps -o args | grep -c '^sleep 1001')"
rcon pod rm -f -t 0 pids > /dev/null
no_process() { [ "$(processes)" = 0 ]; }
wait_for 20 no_process
expect "it ends with the pod" 0 "$(processes)"

# kill -9 of the commands at random moments: the next one puts everything right.
RANDOM=${KILL_SEED:-$$}
echo "  seed ${KILL_SEED:-$$}"
wrong=0
for round in $(seq 30); do
    "$RCON" --root "$work/data" --run-root "$work/run" run -d --pod "new:victim$round" --name "member$round" -p 18080:80 busybox sleep 1000 > /dev/null 2>&1 &
    client=$!
    sleep "0.0$((RANDOM % 50 / 10))$((RANDOM % 10))"
    kill -9 $client 2> /dev/null
    wait $client 2> /dev/null
    "$RCON" --root "$work/data" --run-root "$work/run" pod rm -f -t 0 "victim$round" > /dev/null 2>&1 &
    client=$!
    sleep "0.0$((RANDOM % 30 / 10))$((RANDOM % 10))"
    kill -9 $client 2> /dev/null
    wait $client 2> /dev/null
    rcon pod rm -f -t 0 "victim$round" > "$work/out" 2>&1 || true
    rcon pod exists "victim$round" && { echo "  round $round: $(cat "$work/out")"; wrong=$((wrong + 1)); }
    rcon run --rm -p 18080:80 busybox true || wrong=$((wrong + 1))
done
expect "30 rounds of kill -9" 0 "$wrong"
expect "no pod is left" "" "$(rcon pod ps -q)$(ls "$work/run/pods" 2> /dev/null)$(ls "$work/data/pods")"

# A member has no network namespace to make, connect and tear down.
rcon pod create --name cost > /dev/null
rcon pod start cost > /dev/null
for _ in 1 2 3; do rcon run --rm busybox true; rcon run --rm --pod cost busybox true; done
measure() { local begin; begin=$(now); for _ in $(seq 10); do rcon run --rm "$@" busybox true; done; echo $(($(now) - begin)); }
# Milliseconds. The least of several by turns: what else the machine does makes some of them slower, on a bad day many.
least() { sort -n | head -n 1; }
for turn in $(seq 25); do
    measure >> "$work/plain"; measure --pod cost >> "$work/member"
    plain=$(least < "$work/plain") member=$(least < "$work/member")
    [ "$turn" -lt 5 ] || [ "$member" -gt $((plain + 3)) ] || break
done
echo "  run --rm busybox true: plain $plain ms, in a pod $member ms"
[ "$member" -le $((plain + 3)) ]
expect "a member starts as fast as a container of its own" 0 $?
rcon pod rm -f cost > /dev/null
no_leaks "nothing is left"
finish
