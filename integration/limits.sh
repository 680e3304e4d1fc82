#!/bin/sh
# Memory, CPU and pids limits hold. Plain POSIX sh and busybox tools only: it also runs in the cgroup v2 guest.
# Expects RCON and FIXTURES, or RCON_ROOTS with an image already loaded.
roots=${RCON_ROOTS:-}
if [ -z "$roots" ]; then
    work=$(mktemp -d /tmp/rcon-limits.XXXXXX)
    roots="--root $work/data --run-root $work/run"
    # shellcheck disable=SC2086
    "$RCON" $roots load -q -i "$FIXTURES/busybox.tar" > /dev/null || exit 1
fi
# shellcheck disable=SC2086
rcon() { "$RCON" $roots "$@"; }
passed=0 failed=0
expect() { if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "  ok    $1"; else failed=$((failed + 1)); echo "  FAIL  $1: expected «$2», got «$3»"; fi; }

rcon run --name hog --network none --memory 64m busybox dd if=/dev/zero of=/dev/null bs=200M count=1 2> /dev/null
expect "--memory 64m ends a 200 MB allocation with 137" 137 $?
expect "and it is visible" "true 137" "$(rcon inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hog)"
rcon rm hog > /dev/null
rcon run --rm --network none --memory 64m busybox dd if=/dev/zero of=/dev/null bs=20M count=1 2> /dev/null
expect "20 MB fit" 0 $?

# Percent of one core that a busy loop of four seconds gets. On a machine that does much else it may be less,
# on one whose clock is emulated also more: then again.
busy='
    now() { read -r up _ < /proc/uptime; up=${up%.*}${up#*.}; }
    now; begin=$up
    while :; do
        i=0; while [ $i -lt 5000 ]; do i=$((i + 1)); done
        now; [ $((up - begin)) -lt 400 ] || break
    done
    read -r line < /proc/$$/stat; set -- ${line##*) }
    echo $(((${12} + ${13}) * 100 / (up - begin)))'
for try in 1 2 3 4 5 6 7 8; do
    share=$(rcon run --rm --network none --cpus 0.5 busybox sh -c "$busy")
    [ "${share:-0}" -lt 45 ] || [ "$share" -gt 55 ] || break
done
[ "${share:-0}" -ge 45 ] && [ "${share:-0}" -le 55 ]
expect "--cpus 0.5 holds a busy loop to 45..55 % of a core (measured $share %)" 0 $?

out=$(rcon run --rm --network none --pids-limit 20 busybox sh -c '
    i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i + 1)); done; echo all' 2>&1)
expect "--pids-limit 20 stops a fork loop" "1 0" "$(echo "$out" | grep -c "can't fork") $(echo "$out" | grep -c '^all$')"

rcon run -d --name live --network none --memory 64m busybox sleep 100 > /dev/null
rcon update --memory 128m --memory-swap 256m live > /dev/null
expect "update changes a running container" 134217728 "$(rcon inspect -f '{{.HostConfig.Memory}}' live)"
seen=$(cat /sys/fs/cgroup/memory/rcon/*/memory.limit_in_bytes /sys/fs/cgroup/rcon/*/memory.max 2> /dev/null | grep -c '^134217728$')
expect "and the kernel knows it" 1 "$seen"
rcon pause live > /dev/null
expect "pause freezes" paused "$(rcon inspect -f '{{.State.Status}}' live)"
rcon unpause live > /dev/null
expect "unpause thaws" running "$(rcon inspect -f '{{.State.Status}}' live)"
rcon rm -f live > /dev/null

expect "a device without permission stays shut" 1 "$(rcon run --rm --network none busybox sh -c 'mknod /tmp/kmsg c 1 11; cat /tmp/kmsg' 2>&1 | grep -c 'not permitted')"
expect "a default device works" 3 "$(rcon run --rm --network none busybox sh -c 'head -c 3 /dev/zero | wc -c')"

# A pod's limits bound the sum of its members: each of these would fit alone.
rcon pod create --name sum --network none --memory 96m --memory-swap 96m --pids-limit 12 --cpus 0.5 > /dev/null
rcon run -d --pod sum --name half busybox sh -c 'dd if=/dev/zero of=/dev/shm/half bs=1M count=60 2> /dev/null; sleep 100' > /dev/null
i=0; while [ $i -lt 600 ] && [ "$(rcon exec half sh -c 'stat -c %s /dev/shm/half' 2> /dev/null)" != 62914560 ]; do i=$((i + 1)); sleep 0.1; done
expect "a member has 60 of the pod's 96 MB" 62914560 "$(rcon exec half sh -c 'stat -c %s /dev/shm/half')"
rcon run --name rest --pod sum busybox dd if=/dev/zero of=/dev/null bs=60M count=1 2> /dev/null
expect "60 MB more do not fit into the pod" 137 $?
expect "which ends the one that asked" "true running" "$(rcon inspect -f '{{.State.OOMKilled}}' rest) $(rcon inspect -f '{{.State.Status}}' half)"
rcon rm rest > /dev/null
out=$(rcon run --rm --pod sum busybox sh -c 'i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i + 1)); done; echo all' 2>&1)
expect "the pod's --pids-limit 12 counts all members" "1 0" "$(echo "$out" | grep -c "can't fork") $(echo "$out" | grep -c '^all$')"
for try in 1 2 3 4 5 6 7 8; do
    rcon run -d --pod sum --name busy busybox sh -c "$busy" > /dev/null
    mine=$(rcon run --rm --pod sum busybox sh -c "$busy")
    rcon wait busy > /dev/null
    theirs=$(rcon logs busy)
    rcon rm busy > /dev/null
    share=$((${mine:-0} + ${theirs:-0}))
    [ "$share" -lt 40 ] || [ "$share" -gt 60 ] || break
done
[ "$share" -ge 40 ] && [ "$share" -le 60 ]
expect "two busy members of a pod with --cpus 0.5 get half a core together (measured $mine + $theirs %)" 0 $?
rcon pod rm -f -t 0 sum > /dev/null
expect "nothing of the pod is left" 0 "$(find /sys/fs/cgroup -type d -name 'pod-*' | wc -l)"

[ -z "${work:-}" ] || rm -rf "$work"
echo "limits.sh: $passed passed, $failed failed"
[ -z "${RCON_TALLY:-}" ] || echo "$passed $failed" >> "$RCON_TALLY"
[ "$failed" = 0 ]
