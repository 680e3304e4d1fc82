# Sourced by docker.sh and podman.sh: the cases that both command lines share. Expects the function `engine`, the same as a
# program in `peer_command`, IMAGE, and what differs: EXEC_MISSING, EXEC_PAUSED, RM_RUNNING (exit codes), BUILD_FLAGS,
# FORCE (rm -f without waiting) and UPDATE_PIDS.

# The value that the container's own group has, read from inside; v1 or v2.
limit_inside() { # CONTAINER V1_FILE V2_FILE
    engine exec "$1" sh -c "cat /sys/fs/cgroup/$2 2> /dev/null || cat /sys/fs/cgroup/$3"
}

host_capabilities=$(awk '/CapEff/ {print substr($2, 9)}' /proc/self/status)
state() { engine inspect -f '{{.State.Status}}' "$1" 2>&1; }
state_is() { [ "$(state "$1")" = "$2" ]; }
tick() { engine exec "$1" cat /tmp/tick 2> /dev/null || echo 0; }
# Between two of its numbers the file is empty.
noted() { at=$(tick "$1"); [ "$at" -ge 0 ] 2> /dev/null; }
ticks_past() { [ "$(tick "$1")" -gt "$2" ] 2> /dev/null; }
says_in_log() { engine logs "$1" 2>&1 | grep -q "$2"; }
run() { engine run --rm --network none "$@"; }

exit_codes() {
    ends "run true" 0 run "$IMAGE" true
    ends "run exits with the command's code" 3 run "$IMAGE" sh -c 'exit 3'
    ends "a killed command gives 128 + signal" 137 run --init "$IMAGE" sh -c 'kill -9 $$'
    ends "SIGTERM gives 143" 143 run --init "$IMAGE" sh -c 'kill -TERM $$'
    ends "an unknown command gives 127" 127 run "$IMAGE" no-such-command
    ends "an unknown path gives 127" 127 run "$IMAGE" /no/such/command
    ends "a file that is not executable gives 126" 126 run "$IMAGE" /etc/passwd
    ends "a directory gives 126" 126 run "$IMAGE" /etc
}

process_fields() {
    prints "environment" "one two" run -e A=one -e "B=two" "$IMAGE" sh -c 'echo $A $B'
    prints "workdir" /usr/bin run -w /usr/bin "$IMAGE" pwd
    prints "user by name" "1000 1000" run -u example "$IMAGE" sh -c 'echo $(id -u) $(id -g)'
    prints "user and group by number" "7 9" run -u 7:9 "$IMAGE" sh -c 'echo $(id -u) $(id -g)'
    prints "supplementary groups" "0 44 99" run --group-add 44 --group-add 99 "$IMAGE" sh -c 'id -G | tr " " "\n" | grep -E "^(0|44|99)$" | tr "\n" " " | sed "s/ $//"'
    prints "hostname" peer run -h peer "$IMAGE" hostname
    prints "HOME" /home/example run -u example "$IMAGE" sh -c 'echo $HOME'
    prints "ulimits" "77" run --ulimit nofile=77:77 --ulimit nproc=4096:4096 "$IMAGE" sh -c 'ulimit -n'
    prints "a sysctl" 17 run --sysctl kernel.shm_rmid_forced=1 --sysctl kernel.msgmax=17 "$IMAGE" cat /proc/sys/kernel/msgmax
    prints "oom_score_adj" 500 run --oom-score-adj 500 "$IMAGE" cat /proc/self/oom_score_adj
    prints "shm size" 8.0M run --shm-size 8m "$IMAGE" sh -c "df -h /dev/shm | awk 'NR==2 {print \$2}'"
    prints "stdin of a pipe" typed sh -c 'echo typed | "$@"' sh env "$peer_command" run --rm --network none -i "$IMAGE" cat
    prints "a large stdin arrives whole" 1000000 sh -c 'head -c 1000000 /dev/zero | "$@"' sh "$peer_command" run --rm --network none -i "$IMAGE" wc -c
    expect "stdout and stderr apart" "out" "$(run "$IMAGE" sh -c 'echo out; echo err >&2' 2> /dev/null)"
}

mounts() {
    mkdir -p "$work/bind" && echo from-host > "$work/bind/file"
    prints "bind mount" from-host run -v "$work/bind:/data" "$IMAGE" cat /data/file
    ends "which can be written" 0 run -v "$work/bind:/data" "$IMAGE" touch /data/new
    expect "and the host sees it" "$work/bind/new" "$(ls "$work/bind/new")"
    says "a read-only bind mount" "Read-only file system" run -v "$work/bind:/data:ro" "$IMAGE" touch /data/other
    prints "a file bound over a file" from-host run -v "$work/bind/file:/etc/hostname2" "$IMAGE" cat /etc/hostname2
    engine run --rm --network none -v peervol:/vol "$IMAGE" sh -c 'echo kept > /vol/file' > /dev/null
    prints "a volume keeps its data" kept run -v peervol:/vol "$IMAGE" cat /vol/file
    engine volume rm peervol > /dev/null
    says "tmpfs with options" "tmpfs /scratch tmpfs .*noexec.*size=1024k" run --tmpfs /scratch:size=1m,noexec "$IMAGE" grep /scratch /proc/mounts
    says "a read-only root" "Read-only file system" run --read-only "$IMAGE" touch /file
    ends "with a writable tmpfs" 0 run --read-only --tmpfs /tmp "$IMAGE" touch /tmp/file
    # A mount made on the host later reaches a container that asked for slave propagation.
    mount -t tmpfs tmpfs "$work/bind" && mount --make-shared "$work/bind" && mkdir "$work/bind/sub"
    engine run -d --name slave --network none -v "$work/bind:/data:rslave" "$IMAGE" sleep 100 > /dev/null
    mount -t tmpfs tmpfs "$work/bind/sub" && touch "$work/bind/sub/late"
    prints "rslave lets later mounts in" late engine exec slave ls /data/sub
    engine rm "${FORCE[@]}" slave > /dev/null
    umount "$work/bind/sub" "$work/bind"
}

security() {
    local status='grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "\t\n" "  "'
    says "the default profile" "CapEff: 00000000[0-9a-f]{8} NoNewPrivs: 0 Seccomp: 2" run "$IMAGE" sh -c "$status"
    says "no filter" "Seccomp: 0" run --security-opt seccomp=unconfined "$IMAGE" sh -c "$status"
    says "no-new-privileges" "NoNewPrivs: 1" run --security-opt no-new-privileges "$IMAGE" sh -c "$status"
    says "--cap-drop ALL" "CapEff: 0000000000000000" run --cap-drop ALL "$IMAGE" sh -c "$status"
    says "--cap-add of one" "CapEff: 0000000000000400" run --cap-drop ALL --cap-add NET_BIND_SERVICE "$IMAGE" sh -c "$status"
    # Docker 20.10 knows no capability beyond the 38th, so that only the lower half is compared.
    says "--privileged has the host's capabilities and no filter" "CapEff: [0-9a-f]{8}$host_capabilities .*Seccomp: 0" run --privileged "$IMAGE" sh -c "$status"
    ends "--privileged sees the host's devices and may mount" 0 run --privileged "$IMAGE" sh -c '[ -e /dev/kmsg ] && mount -t tmpfs none /mnt 2>/dev/null || mount -t tmpfs none /tmp'
    says "otherwise mount is refused" "permission denied|not permitted" run "$IMAGE" mount -t tmpfs none /tmp
    prints "masked paths are empty" 0 run "$IMAGE" sh -c 'cat /proc/kcore /proc/timer_list 2> /dev/null | wc -c'
    says "read-only paths" "Read-only file system" run "$IMAGE" sh -c 'echo 1 > /proc/sys/kernel/hostname'
    prints "a device" 3 run --device /dev/zero:/dev/nil "$IMAGE" sh -c 'head -c 3 /dev/nil | wc -c'
    says "a device node without permission" "not permitted" run "$IMAGE" sh -c 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg'
    printf '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}' > "$work/profile.json"
    says "a profile of one's own" "No space left" run --security-opt "seccomp=$work/profile.json" "$IMAGE" mkdir /dir
}

namespaces() {
    prints "--pid host" "$(readlink /proc/self/ns/pid)" run --pid host "$IMAGE" readlink /proc/self/ns/pid
    prints "--ipc host" "$(readlink /proc/self/ns/ipc)" run --ipc host "$IMAGE" readlink /proc/self/ns/ipc
    prints "--uts host" "$(readlink /proc/self/ns/uts)" run --uts host "$IMAGE" readlink /proc/self/ns/uts
    prints "--network host" "$(readlink /proc/self/ns/net)" engine run --rm --network host "$IMAGE" readlink /proc/self/ns/net
    prints "--network none has only lo" lo run "$IMAGE" ls /sys/class/net
    engine run -d --name shared --network none --ipc shareable "$IMAGE" sleep 100 > /dev/null
    for namespace in pid net ipc; do
        flag=--$namespace
        [ "$namespace" != net ] || flag=--network
        prints "$flag container:" "$(engine exec shared readlink /proc/self/ns/$namespace)" engine run --rm $flag container:shared "$IMAGE" readlink /proc/self/ns/$namespace
    done
    engine rm "${FORCE[@]}" shared > /dev/null
}

limits() {
    engine run -d --name limits --network none --memory 64m --memory-swap 64m --cpus 0.5 --cpu-shares 512 --pids-limit 33 --cpuset-cpus 0 "$IMAGE" sleep 100 > /dev/null
    expect "--memory" 67108864 "$(limit_inside limits memory/memory.limit_in_bytes memory.max)"
    says "--cpus" '^(50000|50000 100000)$' limit_inside limits cpu/cpu.cfs_quota_us cpu.max
    expect "--pids-limit" 33 "$(limit_inside limits pids/pids.max pids.max)"
    expect "--cpuset-cpus" 0 "$(limit_inside limits cpuset/cpuset.cpus cpuset.cpus)"
    prints "the processors that a process sees" 0 engine exec limits sh -c "awk '/^Cpus_allowed_list/ {print \$2}' /proc/self/status"
    ends "update" 0 engine update --memory 96m --memory-swap 128m --cpus 1.5 --cpu-shares 256 "${UPDATE_PIDS[@]}" limits
    expect "update --memory" 100663296 "$(limit_inside limits memory/memory.limit_in_bytes memory.max)"
    says "update --cpus" '^(150000|150000 100000)$' limit_inside limits cpu/cpu.cfs_quota_us cpu.max
    [ ${#UPDATE_PIDS[@]} = 0 ] || expect "update --pids-limit" 44 "$(limit_inside limits pids/pids.max pids.max)"
    expect "update left the processors alone" 0 "$(limit_inside limits cpuset/cpuset.cpus cpuset.cpus)"
    engine rm "${FORCE[@]}" limits > /dev/null
    ends "an allocation beyond --memory is killed" 137 run --memory 32m --memory-swap 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1
}

executions() {
    engine run -d --name target --network none -e BASE=base "$IMAGE" sleep 1000 > /dev/null
    prints "exec" hello engine exec target echo hello
    prints "exec -e, with the container's environment" "base more" engine exec -e MORE=more target sh -c 'echo $BASE $MORE'
    prints "exec -u" "1000" engine exec -u example target id -u
    prints "exec -w" /usr engine exec -w /usr target pwd
    ends "exec exits with the command's code" 5 engine exec target sh -c 'exit 5'
    ends "exec of an unknown command gives $EXEC_MISSING" "$EXEC_MISSING" engine exec target no-such-command
    ends "exec of what is not executable gives 126" 126 engine exec target /etc/passwd
    ends "exec killed" 137 engine exec target sh -c 'kill -9 $$'
    prints "exec with a pipe" typed sh -c 'echo typed | "$@"' sh "$peer_command" exec -i target cat
    says "exec --privileged" "^[0-9a-f]{8}$host_capabilities$" engine exec --privileged target awk '/CapEff/ {print $2}' /proc/self/status
    expect "exec -t has a terminal of our size" "/dev/pts/0 33 111" "$(pty 111x33 '' "$peer_command" exec -it target sh -c "$sized" '33 111' | tail -n 1)"
    expect "what is typed there arrives" "got word" "$(pty 80x24 '@ready@word\n' "$peer_command" exec -it target sh -c 'echo ready; read -r x; echo got $x' | tail -n 1)"
    pty 80x24 '' "$peer_command" exec -it target sh -c 'exit 9' > /dev/null
    expect "and the exit code" 9 $?
    engine exec -d target sh -c 'echo detached > /tmp/detached'
    wait_for 20 engine exec target test -s /tmp/detached
    expect "exec -d" detached "$(engine exec target cat /tmp/detached)"
    expect "an exec is in the container's namespaces" "$(engine exec target sh -c 'for n in mnt pid net ipc uts cgroup; do readlink /proc/1/ns/$n; done')" \
        "$(engine exec target sh -c 'for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done')"
    says "top" "sleep 1000" engine top target
    expect "parallel execs" "$(seq 10)" "$(for i in $(seq 10); do engine exec target echo "$i" & done | sort -n)"
    says "stats" "[0-9.]+[kKM]i?B / " engine stats --no-stream target
    ends "rm -f" 0 engine rm "${FORCE[@]}" target
}

terminals() {
    expect "run -t has a terminal of our size" "/dev/pts/0 40 120" "$(pty 120x40 '' "$peer_command" run --rm -it --network none "$IMAGE" sh -c "$sized" '40 120' | tail -n 1)"
    expect "a shell in it" "sum 5" "$(pty 80x24 '@# @echo sum $((2 + 3))\nexit\n' "$peer_command" run --rm -it --network none "$IMAGE" sh | grep -o '^sum 5$')"
    pty 80x24 '@ready@\x03' "$peer_command" run --rm -it --network none "$IMAGE" sh -c 'trap "exit 66" INT; echo ready; sleep 100 & wait' > /dev/null
    expect "control-C arrives as SIGINT" 66 $?
    expect "job control works" 1 "$(pty 80x24 '@# @set -m; sleep 9 &\njobs\nexit\n' "$peer_command" run --rm -it --network none "$IMAGE" sh | grep -c '^\[1\].*Running.*sleep 9')"
    prints "-t as another user" crw run --rm -t -u 1000 "$IMAGE" sh -c 'ls -lL $(tty) | cut -c1-3'
}

lifecycle() {
    engine run -d --name life --network none "$IMAGE" sh -c 'trap "echo bye; exit 7" TERM; trap "echo usr1" USR1; echo up; i=0; while :; do i=$((i + 1)); echo $i > /tmp/tick; sleep 0.1; done' > /dev/null
    expect "run -d" running "$(state life)"
    wait_for 20 says_in_log life up
    prints "logs" up engine logs life
    engine kill -s USR1 life > /dev/null
    wait_for 20 says_in_log life usr1
    prints "kill -s USR1 arrives" "up usr1" sh -c '"$@" | tr "\n" " " | sed "s/ $//"' sh "$peer_command" logs life
    ends "pause" 0 engine pause life
    expect "a paused container" paused "$(state life)"
    ends "exec in it is refused" "$EXEC_PAUSED" engine exec life true
    ends "unpause" 0 engine unpause life
    expect "an unpaused container" running "$(state life)"
    wait_for 20 noted life
    wait_for 20 ticks_past life "$at"
    expect "it goes on" 0 $?
    ends "stop" 0 engine stop -t 50 life
    expect "SIGTERM was honoured" "exited 7" "$(engine inspect -f '{{.State.Status}} {{.State.ExitCode}}' life)"
    ends "start again" 0 engine start life
    expect "it runs again" running "$(state life)"
    ends "restart" 0 engine restart -t 5 life
    expect "and again" running "$(state life)"
    ends "rm of a running container is refused" "$RM_RUNNING" engine rm life
    ends "rm -f" 0 engine rm "${FORCE[@]}" life
    engine run -d --name deaf --network none "$IMAGE" sh -c 'trap "" TERM; echo up; while :; do sleep 0.2; done' > /dev/null
    wait_for 20 says_in_log deaf up
    ends "stop of a deaf container" 0 engine stop -t 1 deaf
    expect "it was killed" 137 "$(engine inspect -f '{{.State.ExitCode}}' deaf)"
    ends "rm" 0 engine rm deaf
    engine create --name made --network none "$IMAGE" sh -c 'echo started' > /dev/null
    expect "create" created "$(state made)"
    prints "start -a" started engine start -a made
    engine rm made > /dev/null
    engine create --name never --network none "$IMAGE" true > /dev/null
    ends "rm of a container that never ran" 0 engine rm never
    prints "--init reaps as PID 1" init run --init "$IMAGE" sh -c 'grep -o init /proc/1/cmdline | head -n 1'
    expect "wait" 4 "$(engine run -d --name waited --network none "$IMAGE" sh -c 'sleep 0.3; exit 4' > /dev/null; engine wait waited)"
    engine rm waited > /dev/null
    expect "a process left behind dies with its container" 0 "$(run "$IMAGE" sh -c 'sleep 4242 & true'; pgrep -fc 'sleep 4242')"
}

# Twenty containers come, work and go at once.
many() {
    local i
    local pids=()
    for i in $(seq 20); do
        run "$IMAGE" sh -c "echo $i" >> "$work/many" 2>&1 &
        pids+=($!)
    done
    wait "${pids[@]}"
    expect "twenty containers at once" "$(seq 20 | tr '\n' ' ')" "$(sort -n "$work/many" | tr '\n' ' ')"
}

building() {
    mkdir -p "$work/context" && echo copied > "$work/context/file"
    printf 'FROM %s\nCOPY file /file\nRUN cat /file > /other && id -u >> /other\nUSER example\nWORKDIR /home/example\nRUN id -u > here\nCMD cat /other here\n' "$IMAGE" > "$work/context/Dockerfile"
    ends "build with RUN" 0 engine build "${BUILD_FLAGS[@]}" -t peer-built "$work/context"
    prints "what it made" "copied 0 1000" sh -c '"$@" | tr "\n" " " | sed "s/ $//"' sh "$peer_command" run --rm --network none peer-built
    printf 'FROM %s\nRUN exit 9\n' "$IMAGE" > "$work/context/Dockerfile"
    says "a failing RUN ends it" "9" engine build "${BUILD_FLAGS[@]}" "$work/context"
    engine rmi peer-built > /dev/null 2>&1
}
