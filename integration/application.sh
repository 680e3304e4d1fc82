#!/bin/bash
# An application of several containers (nginx, Python, MariaDB) with restart policies, through what happens to machines: killed
# processes, killed monitors, a full disk for logs and files, orderly and disorderly reboots (application-guest.sh has
# real ones). Nothing that it acknowledged may be lost.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/application-lib.sh"
PORT=18090
# A disk of its own for what containers write and log, small enough to be filled.
mkdir -p -m 700 "$work/data/containers"
mount -t tmpfs -o size=48m,mode=700 tmpfs "$work/data/containers"
before=$(footprint)
load_application "$FIXTURES"
expect "the images are loaded" 0 $?
start_application
expect "the application starts" 0 $?
answers 240 || fail "it answers" "$(rcon ps -a; rcon logs --tail 5 db 2>&1)"
expect "twenty posts are taken" 20 "$(post 1 20)"
is_healthy() { [ "$(rcon inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }
wait_for 180 is_healthy db && wait_for 180 is_healthy web
expect "database and front are healthy" "db web" "$(rcon ps -f health=healthy --format '{{.Names}}' | sort | tr '\n' ' ' | sed 's/ $//')"

# Their processes die: the monitors start them again.
for name in db app web; do kill -9 "$(rcon inspect -f '{{.State.Pid}}' $name)"; done
answers 180 || fail "it answers after kill -9 of every process" "$(rcon ps -a)"
expect "each was restarted once" "1 1 1" "$(rcon inspect -f '{{.RestartCount}}' db app web | tr '\n' ' ' | sed 's/ $//')"
expect "nothing is lost" "" "$(intact 20)"

# Their monitors die, and the containers with them: the next command brings them back.
monitors() { sed -n 's/.*"monitor_pid":\([0-9]*\).*/\1/p' "$work"/run/containers/*/live.json; }
for round in 1 2 3; do
    dying=$(monitors)
    kill -9 $dying
    for pid in $dying; do wait_for 20 test ! -e "/proc/$pid/fd/0" || fail "monitor $pid dies"; done
    rcon system supervise 2> /dev/null
    answers 180 || fail "it answers after kill -9 of the monitors ($round)" "$(rcon ps -a)"
done
expect "three times" "app db web" "$(rcon ps --format '{{.Names}}' | sort | tr '\n' ' ' | sed 's/ $//')"
expect "posts are taken again" 10 "$(post 21 30)"
expect "nothing is lost" "" "$(intact 30)"

# The machine goes down in order and comes up; then it dies and comes up.
rcon system shutdown
expect "shutdown ends in order" "0 143 0" "$(rcon inspect -f '{{.State.ExitCode}}' db app web | tr '\n' ' ' | sed 's/ $//')"
rm -rf "$work/run"
rcon system boot 2> /dev/null
answers 180 || fail "it answers after the boot" "$(rcon ps -a)"
expect "nothing is lost" "" "$(intact 30)"
dying=$(monitors)
kill -9 $dying
for pid in $dying; do wait_for 20 test ! -e "/proc/$pid/fd/0" || fail "monitor $pid dies"; done
rm -rf "$work/run"
rcon system boot 2> /dev/null
answers 180 || fail "it answers after a crash and a boot" "$(rcon ps -a)"
expect "nothing is lost" "" "$(intact 30)"

# The disk of logs and files is full: what runs goes on and takes posts; what fills it can be removed.
rcon run -d --name flood blog:latest sh -c 'cat /dev/zero > /fill; while :; do echo more; sleep 0.01; done' > /dev/null
full() { [ "$(df --output=avail "$work/data/containers" | tail -n 1)" -lt 64 ]; }
wait_for 120 full || fail "the disk fills"
runs=$(rcon inspect -f '{{.State.Pid}}' db app web)
expect "posts are taken with a full disk" 10 "$(post 31 40)"
expect "nothing is lost" "" "$(intact 40)"
expect "nothing was restarted" "$runs" "$(rcon inspect -f '{{.State.Pid}}' db app web)"
expect "the flood can be removed" flood "$(rcon rm -f flood)"
expect "with its files" 1 "$([ "$(df --output=avail "$work/data/containers" | tail -n 1)" -gt 20000 ]; echo $((1 - $?)))"
expect "posts are taken" 10 "$(post 41 50)"
wait_for 60 sh -c '"$0" --root "$1/data" --run-root "$1/run" logs --tail 20 web 2>&1 | grep -q "POST / HTTP"' "$RCON" "$work"
expect "and logged again" 0 $?
expect "nothing is lost" "" "$(intact 50)"

# A stop by the user lasts: neither the next command nor a supervisor brings it back.
rcon stop web app db > /dev/null
rcon system supervise
expect "a stop by the user lasts" "" "$(rcon ps -q)"

# The same application as a pod, on the same volumes: one network, one published port, one life.
rcon rm db app web > /dev/null
start_application pod
expect "it starts as a pod" 0 $?
answers 180 || fail "the pod answers" "$(rcon ps -a; rcon logs --tail 5 db 2>&1)"
expect "the pod runs" "blog Running 3" "$(rcon pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}')"
expect "nothing is lost" "" "$(intact 50)"
dying=$(monitors)
kill -9 $dying
for pid in $dying; do wait_for 20 test ! -e "/proc/$pid/fd/0" || fail "monitor $pid dies"; done
rcon system supervise 2> /dev/null
answers 180 || fail "the pod answers after kill -9 of the monitors" "$(rcon ps -a)"
expect "posts are taken again" 5 "$(post 51 55)"
rcon run -d --pod blog --name flood blog:latest sh -c 'cat /dev/zero > /fill; while :; do echo more; sleep 0.01; done' > /dev/null
wait_for 120 full || fail "a member fills the disk"
runs=$(rcon inspect -f '{{.State.Pid}}' db app web)
expect "posts are taken with a full disk" 5 "$(post 56 60)"
expect "nothing was restarted" "$runs" "$(rcon inspect -f '{{.State.Pid}}' db app web)"
expect "the flood can be removed" flood "$(rcon rm -f flood)"
# The machine dies and comes up.
dying=$(monitors)
kill -9 $dying
for pid in $dying; do wait_for 20 test ! -e "/proc/$pid/fd/0" || fail "monitor $pid dies"; done
held=$(grep -F " $work/run/pods/" /proc/self/mountinfo | cut -d' ' -f5 | tac)
[ -z "$held" ] || umount -l $held
rm -rf "$work/run"
rcon system boot 2> /dev/null
answers 180 || fail "the pod answers after a crash and a boot" "$(rcon ps -a)"
expect "nothing is lost" "" "$(intact 60)"
expect "the pod is stopped" "$(rcon pod ps -q)" "$(rcon pod stop blog | cut -c1-12)"
rcon system supervise
expect "and stays so" "" "$(rcon ps -q)"
rcon pod rm blog > /dev/null
no_leaks "nothing is left"
rcon volume prune -a -f > /dev/null
umount "$work/data/containers"
finish
