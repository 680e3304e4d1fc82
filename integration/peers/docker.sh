#!/bin/bash
# Docker's own daemon and command line (Debian's docker.io) on the runtime under test.
. "$(dirname "$0")/lib.sh"
. "$here/cases.sh"
socket=unix://$work/docker.sock
peer_command=$work/docker
printf '#!/bin/sh\nexec timeout --foreground 60 docker -H %s "$@"\n' "$socket" > "$peer_command" && chmod 755 "$peer_command"
engine() { "$peer_command" "$@"; }
# Docker 20.10 says 126 for every failure of an exec.
EXEC_MISSING=126 EXEC_PAUSED=1 RM_RUNNING=1 BUILD_FLAGS=(-q) FORCE=(-f) UPDATE_PIDS=(--pids-limit 44)
export DOCKER_BUILDKIT=0 DOCKER_CONFIG=$work/config

start_dockerd() {
    dockerd --data-root "$work/docker-data" --exec-root /run/docker --pidfile "$work/docker.pid" -H "$socket" --bip 172.31.251.1/24 \
        --add-runtime "peer=$runtime" --default-runtime peer --cgroup-parent "/$parent" --live-restore "$@" > "$work/dockerd.log" 2>&1 &
    daemon=$!
    wait_for 120 engine version || { fail "dockerd starts" "$(tail -n 5 "$work/dockerd.log" | tr '\n' ' ')"; finish; exit 1; }
}
stop_dockerd() { kill "$daemon" 2> /dev/null; wait "$daemon" 2> /dev/null; }

# What podman does not have, or says otherwise.
own_words() {
    prints "a workdir that does not exist is made" /new/dir run -w /new/dir "$IMAGE" pwd
    engine run --name hog --network none --memory 32m --memory-swap 32m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1 2> /dev/null
    expect "the engine learns of an out-of-memory kill" "true 137" "$(engine inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' hog)"
    engine rm hog > /dev/null
    engine run -d --name doomed --network none "$IMAGE" sleep 100 > /dev/null
    ends "kill" 0 engine kill doomed
    expect "its exit code" 137 "$(engine wait doomed)"
    engine rm doomed > /dev/null
}

default_network() {
    engine run -d --name web -p 127.0.0.1:8123:80 "$IMAGE" sh -c 'mkdir /www && echo served > /www/index.html && httpd -f -h /www -p 80' > /dev/null
    wait_for 20 curl -sf http://127.0.0.1:8123/
    expect "a published port" served "$(curl -s http://127.0.0.1:8123/)"
    says "resolv.conf and hosts are the engine's" "172.31.251" engine exec web cat /etc/hosts
    says "the network's process joins by path" "eth0" engine run --rm --network container:web "$IMAGE" ls /sys/class/net
    engine rm -f web > /dev/null
}

health() {
    engine run -d --name healthy --network none --health-cmd 'test -e /tmp/fine' --health-interval 1s --health-retries 1 "$IMAGE" sleep 100 > /dev/null
    wait_for 60 sh -c "'$peer_command' inspect -f '{{.State.Health.Status}}' healthy | grep -qx unhealthy"
    expect "a failing health check" unhealthy "$(engine inspect -f '{{.State.Health.Status}}' healthy)"
    engine exec healthy touch /tmp/fine
    wait_for 60 sh -c "'$peer_command' inspect -f '{{.State.Health.Status}}' healthy | grep -qx healthy"
    expect "a good one" healthy "$(engine inspect -f '{{.State.Health.Status}}' healthy)"
    engine rm -f healthy > /dev/null
}

restarts() {
    engine run -d --name again --network none --restart on-failure:2 "$IMAGE" sh -c 'echo x; exit 1' > /dev/null
    wait_for 60 sh -c "'$peer_command' inspect -f '{{.State.Status}} {{.RestartCount}}' again | grep -qx 'exited 2'"
    expect "--restart on-failure:2" "x x x" "$(engine logs again | tr '\n' ' ' | sed 's/ $//')"
    engine rm -f again > /dev/null
}

committing() {
    engine run -d --name source --network none "$IMAGE" sh -c 'echo data > /data; sleep 100' > /dev/null
    wait_for 20 engine exec source test -s /data
    ends "commit (which pauses)" 0 engine commit source peer-committed
    expect "and resumes" running "$(state source)"
    prints "the image" data run peer-committed cat /data
    engine rm -f source > /dev/null
    engine rmi peer-committed > /dev/null
}

cgroup_namespace() {
    says "--cgroupns private" "^(0|[0-9]+:[a-z_,=]*):/$|^0::/$" run --cgroupns private "$IMAGE" cat /proc/self/cgroup
    says "--cgroupns host" "/$parent/" run --cgroupns host --memory 64m "$IMAGE" grep memory /proc/self/cgroup
}

# The daemon is killed, and the containers do not notice.
live_restore() {
    engine run -d --name survivor --network none "$IMAGE" sh -c 'i=0; while :; do i=$((i + 1)); echo $i > /tmp/tick; sleep 0.1; done' > /dev/null
    local pid
    pid=$(engine inspect -f '{{.State.Pid}}' survivor)
    kill -9 "$daemon"
    wait "$daemon" 2> /dev/null
    rm -f "$work/docker.pid"
    expect "the container outlives the daemon" 0 "$(kill -0 "$pid"; echo $?)"
    start_dockerd
    expect "the new daemon knows it" "running $pid" "$(engine inspect -f '{{.State.Status}} {{.State.Pid}}' survivor)"
    prints "exec in it" again engine exec survivor echo again
    ends "stop" 0 engine stop -t 1 survivor
    engine rm survivor > /dev/null
}

# User namespaces for all containers: a daemon of its own.
remapped() {
    stop_dockerd
    # Ranges for a user of every Debian, seen only in here.
    echo nobody:100000:65536 > "$work/ranges"
    # The ids of the range must be able to pass.
    chmod o+x "$work"
    mount --bind "$work/ranges" /etc/subuid
    mount --bind "$work/ranges" /etc/subgid
    start_dockerd --userns-remap nobody:nogroup
    engine load -q -i "$FIXTURES/busybox.tar" > /dev/null
    says "--userns-remap maps ids" "^ +0 +100000 +65536$" run "$IMAGE" cat /proc/self/uid_map
    prints "run" "0 0" run "$IMAGE" sh -c 'echo $(id -u) $(stat -c %u /bin/busybox)'
    engine run -d --name mapped --network none --ipc shareable --memory 64m "$IMAGE" sleep 100 > /dev/null
    prints "exec" 0 engine exec mapped id -u
    expect "the kernel sees another user" 1 "$(awk '/^Uid:/ {print ($2 > 0)}' "/proc/$(engine inspect -f '{{.State.Pid}}' mapped)/status")"
    expect "run -t" "/dev/pts/0" "$(pty 80x24 '' "$peer_command" run --rm -it --network none "$IMAGE" tty)"
    expect "exec -t" "/dev/pts/0" "$(pty 80x24 '' "$peer_command" exec -it mapped tty)"
    local namespace
    for namespace in net ipc pid; do
        flag=--$namespace
        [ "$namespace" != net ] || flag=--network
        prints "$flag container:" "$(engine exec mapped readlink /proc/self/ns/$namespace)" engine run --rm $flag container:mapped "$IMAGE" readlink /proc/self/ns/$namespace
    done
    ends "a file of the host is nobody's" 0 run -v /etc/hostname:/host:ro "$IMAGE" sh -c '[ "$(stat -c %u /host)" = 65534 ]'
    ends "--userns host" 0 run --userns host "$IMAGE" sh -c 'grep -qE "^ +0 +0 +4294967295" /proc/self/uid_map'
    ends "pause" 0 engine pause mapped
    ends "unpause" 0 engine unpause mapped
    ends "rm -f" 0 engine rm -f mapped
    umount /etc/subuid /etc/subgid
}

start_dockerd
engine load -q -i "$FIXTURES/busybox.tar" > /dev/null
IMAGE=busybox:latest
says "the default runtime is the one under test" "^peer$" engine info -f '{{.DefaultRuntime}}'
for group in ${PEERS_ONLY:-exit_codes process_fields mounts security namespaces limits executions terminals lifecycle many building
    own_words default_network health restarts committing cgroup_namespace live_restore remapped}; do
    echo " -- $group"
    $group
done
for id in $(engine ps -aq); do engine rm -f "$id" > /dev/null; done
nothing_left "no group and no state is left" "*" /run/docker/runtime-runc/moby
stop_dockerd
umount -R -l "$work/docker-data" 2> /dev/null
finish
