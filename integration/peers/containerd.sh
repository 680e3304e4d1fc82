#!/bin/bash
# Debian's containerd, its runc shim and `ctr` on the runtime under test.
. "$(dirname "$0")/lib.sh"
cat > "$work/config.toml" << CONF
version = 2
root = "$work/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd/containerd.sock"
CONF
IMAGE=docker.io/library/busybox:latest
peer_command=$work/ctr-command
printf '#!/bin/sh\nexec timeout --foreground 60 ctr -n %s "$@"\n' "$parent" > "$peer_command" && chmod 755 "$peer_command"
ctr() { "$peer_command" "$@"; }
start_containerd() {
    containerd --config "$work/config.toml" > "$work/containerd.log" 2>&1 &
    daemon=$!
    wait_for 120 ctr version || { fail "containerd starts" "$(tail -n 5 "$work/containerd.log")"; finish; exit 1; }
}
# run FLAG... -- ID COMMAND...
run() {
    local flags=()
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    ctr run --runc-binary "$runtime" "${flags[@]}" "$IMAGE" "$@"
}
once() { run --rm "$@"; }
status() { ctr task ls | awk -v id="$1" '$1 == id {print $3}'; }
gone() { ctr task kill -s KILL "$1" > /dev/null 2>&1; wait_for 20 stopped "$1"; ctr task rm "$1" > /dev/null 2>&1; ctr container rm "$1"; }
stopped() { [ "$(status "$1")" = STOPPED ]; }
ticks_past() { [ "$(ctr task exec --exec-id "t$RANDOM$RANDOM" "$1" cat /tmp/tick 2> /dev/null || echo 0)" -gt "$2" ] 2> /dev/null; }

runs() {
    prints "run" hello once -- r1 echo hello
    ends "exit code 0" 0 once -- r2 true
    ends "exit code 3" 3 once -- r3 sh -c 'exit 3'
    says "an unknown command" "executable file not found" once -- r4 no-such-command
    says "a file that is not executable" "permission denied" once -- r5 /etc/passwd
    ends "which is an error" 1 once -- r6 no-such-command
    prints "environment" one once --env A=one -- r7 sh -c 'echo $A'
    prints "workdir" /usr once --cwd /usr -- r8 pwd
    # ctr forgets an end of stdin that comes before its task has started: it comes when the task has answered.
    prints "stdin of a pipe" typed sh -c '{ echo typed; i=0; until [ -s "$0" ] || [ $i = 500 ]; do i=$((i + 1)); sleep 0.1; done; } | "$@" | tee "$0"' \
        "$work/answered" "$peer_command" run --rm --runc-binary "$runtime" "$IMAGE" r10 cat
    expect "a terminal of our size" "/dev/pts/0 35 115" "$(pty 115x35 '' "$peer_command" run --rm -t --runc-binary "$runtime" "$IMAGE" r11 sh -c "$sized" '35 115' | tail -n 1)"
    expect "a shell in it" "sum 5" "$(pty 80x24 '@# @echo sum $((2 + 3))\nexit\n' "$peer_command" run --rm -t --runc-binary "$runtime" "$IMAGE" r12 sh | grep -o '^sum 5$')"
    mkdir -p "$work/bind" && echo from-host > "$work/bind/file"
    prints "a bind mount" from-host once --mount "type=bind,src=$work/bind,dst=/data,options=rbind:ro" -- r13 cat /data/file
    says "which is read-only" "Read-only file system" once --mount "type=bind,src=$work/bind,dst=/data,options=rbind:ro" -- r14 touch /data/new
    says "a read-only root" "Read-only file system" once --read-only -- r15 touch /file
    says "--privileged" "CapEff:.$(awk '/CapEff/ {print $2}' /proc/self/status)" once --privileged -- r16 grep CapEff /proc/self/status
    says "--seccomp" "Seccomp:.2" once --seccomp -- r17 grep Seccomp: /proc/self/status
    ends "--cap-add, --cap-drop" 0 once --cap-add CAP_SYS_ADMIN --cap-drop CAP_CHOWN -- r18 sh -c '! chown 1:1 /tmp && mount -t tmpfs none /tmp'
    prints "--net-host" "$(readlink /proc/self/ns/net)" once --net-host -- r19 readlink /proc/self/ns/net
    prints "a device" 3 once --device /dev/zero -- r20 sh -c 'head -c 3 /dev/zero | wc -c'
    prints "a rootfs of our own" busybox sh -c '"$@" | grep -x busybox' sh "$peer_command" run --rm --runc-binary "$runtime" --rootfs "$work/rootfs" r21 /bin/ls /bin
    ends "--no-pivot" 0 once --no-pivot -- r22 true
    says "an out-of-memory kill gives 137" 137 sh -c '"$@"; echo $?' sh "$peer_command" run --rm --runc-binary "$runtime" --memory-limit 33554432 "$IMAGE" r23 dd if=/dev/zero of=/dev/null bs=100M count=1
}

tasks() {
    run -d --memory-limit 67108864 --cpus 0.5 -- life sh -c 'trap "exit 7" TERM; i=0; while :; do i=$((i + 1)); echo $i > /tmp/tick; sleep 0.1; done' || fail "run -d"
    expect "run -d" RUNNING "$(status life)"
    prints "task exec" hello ctr task exec --exec-id e1 life echo hello
    ends "its exit code" 5 ctr task exec --exec-id e2 life sh -c 'exit 5'
    prints "its user" 1000 ctr task exec --exec-id e3 --user 1000 life id -u
    prints "its directory" /usr ctr task exec --exec-id e4 --cwd /usr life pwd
    says "an unknown command" "executable file not found" ctr task exec --exec-id e5 life no-such-command
    expect "task exec -t" "/dev/pts/0 21 91" "$(pty 91x21 '' "$peer_command" task exec --exec-id e6 -t life sh -c "$sized" '21 91' | tail -n 1)"
    ends "task exec -d" 0 ctr task exec --exec-id e7 -d life sleep 500
    says "task ps" "^[0-9]+" ctr task ps life
    # The shell, its sleep (now and then between two) and the other one.
    knows() { [ "$(ctr task ps life | grep -cE '^[0-9]+ ')" = 3 ]; }
    wait_for 20 knows
    expect "knows three processes" 0 $?
    prints "the memory limit" 67108864 sh -c "cat /sys/fs/cgroup/memory/$parent/life/memory.limit_in_bytes 2> /dev/null || cat /sys/fs/cgroup/$parent/life/memory.max"
    says "metrics" "memory.usage_in_bytes|memory.usage" ctr task metrics life
    ends "pause" 0 ctr task pause life
    expect "a paused task" PAUSED "$(status life)"
    says "exec in it is refused" "paused" ctr task exec --exec-id e9 life true
    ends "resume" 0 ctr task resume life
    expect "a resumed task" RUNNING "$(status life)"
    local at
    # Between two of its numbers the file is empty.
    noted() { at=$(ctr task exec --exec-id "n$RANDOM$RANDOM" life cat /tmp/tick); [ "$at" -ge 0 ] 2> /dev/null; }
    wait_for 20 noted
    wait_for 20 ticks_past life "$at"
    expect "it goes on" 0 $?
    says "checkpoint is refused" "criu|checkpoint" ctr task checkpoint --runtime "" life
    expect "and the task goes on" RUNNING "$(status life)"
    ends "kill with SIGTERM" 0 ctr task kill -s TERM life
    wait_for 20 stopped life
    says "task rm gives the exit code" "exit code 7|^$" ctr task rm life
    ends "container rm" 0 ctr container rm life
    run -d -- all sh -c 'sleep 600 & sleep 600'
    ends "kill --all" 0 ctr task kill --all -s KILL all
    wait_for 20 stopped all
    expect "ends every process" 0 "$(pgrep -fc '^sleep 600')"
    gone all
    run -d -- made sleep 700
    ends "rm -f of a running task" 0 ctr task rm -f made
    ends "container rm" 0 ctr container rm made
}

# A daemon that is killed finds its tasks again.
daemon_killed() {
    run -d -- survivor sh -c 'i=0; while :; do i=$((i + 1)); echo $i > /tmp/tick; sleep 0.1; done'
    kill -9 "$daemon"
    wait "$daemon" 2> /dev/null
    start_containerd
    expect "a task outlives the daemon" RUNNING "$(status survivor)"
    prints "and can be entered" again ctr task exec --exec-id s1 survivor echo again
    gone survivor
}

shim_killed() {
    run -d -- orphan sleep 800
    local pid
    pid=$(pgrep -f "containerd-shim-runc-v2.*-id orphan")
    # shellcheck disable=SC2086
    kill -9 $pid
    wait_for 20 sh -c '! pgrep -f "^sleep 800"'
    expect "the shim's death takes its container (its shim calls delete --force)" 0 "$(pgrep -fc '^sleep 800')"
    ctr task rm -f orphan > /dev/null 2>&1
    ctr container rm orphan > /dev/null 2>&1
}

events() {
    ctr events > "$work/events" 2>&1 &
    local listener=$!
    # Whether it listens yet shows only in what it hears.
    heard() { once -- "seen$RANDOM$RANDOM" true; [ -s "$work/events" ]; }
    wait_for 60 heard
    once -- seen true
    # Not before the shim, too, listens for what the kernel does, which it does when `run -d` returns.
    run -d --memory-limit 33554432 -- hog sh -c 'while [ ! -e /tmp/go ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/null bs=100M count=1'
    ctr task exec --exec-id go hog touch /tmp/go
    wait_for 60 stopped hog
    wait_for 20 grep -q '/tasks/oom' "$work/events"
    gone hog
    kill "$listener"
    local topic
    for topic in create start exit delete oom; do
        expect "event /tasks/$topic" 0 "$(grep -q "/tasks/$topic" "$work/events"; echo $?)"
    done
}

mkdir "$work/rootfs" && tar -xf "$FIXTURES/busybox.tar" -C "$work" ./layer1.tar && tar -xpf "$work/layer1.tar" -C "$work/rootfs"
start_containerd
ctr image import "$FIXTURES/busybox.tar" > /dev/null
for group in ${PEERS_ONLY:-runs tasks daemon_killed shim_killed events}; do
    echo " -- $group"
    $group
done
nothing_left "no group and no state is left" "*" "/run/containerd/runc/$parent"
kill "$daemon"
wait "$daemon" 2> /dev/null
umount -R -l "$work/containerd" 2> /dev/null
finish
