#!/bin/bash
# What a process in a default container sees, by the probe program; what it must not be able to do.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon run --rm --name box busybox probe > "$work/probe.json" || fail "probe runs"
see() { jq -r "$1" "$work/probe.json"; }

for ns in mnt pid uts ipc net; do
    own=$(readlink "/proc/self/ns/$ns")
    [ "$(see ".namespaces.$ns")" != "$own" ]
    expect "own $ns namespace" 0 $?
done
expect "no user namespace unless asked" "$(readlink /proc/self/ns/user)" "$(see .namespaces.user)"
expect "PID 1" 1 "$(see .pid)"
expect "Docker's default capabilities" 00000000a80425fb "$(see .status.CapEff)"
expect "bounding set equals them" 00000000a80425fb "$(see .status.CapBnd)"
expect "nothing inheritable or ambient" "0000000000000000 0000000000000000" "$(see '.status.CapInh + " " + .status.CapAmb')"
expect "seccomp filter on" 2 "$(see .status.Seccomp)"
expect "only standard streams are open" "0,1,2" "$(see '.fds | keys | join(",")')"
expect "no host path among the open files" 0 "$(see '.fds[]' | grep -c "$work")"
expect "root is overlayfs" overlay "$(see '.mounts[] | select(.target == "/") | .type')"
expect "/proc/keys is masked" 1 "$(see '[.mounts[] | select(.target == "/proc/keys")] | length')"
expect "/proc/sys is read-only" true "$(see '.mounts[] | select(.target == "/proc/sys") | .options | startswith("ro")')"
expect "/sys is read-only" true "$(see '.mounts[] | select(.target == "/sys") | .options | startswith("ro")')"
expect "devices" "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero" \
    "$(see '.devices | keys | map(select(. != "console")) + ["console"] | sort | join(" ")')"
expect "soft nofile limit is modest" 1024 "$(see '.limits["Max open files"][0]')"

run() { rcon run --rm --network none "$@" 2>&1; }
expect "unshare is refused" 1 "$(run busybox unshare -U true | grep -ci 'not permitted')"
expect "mount is refused" 1 "$(run busybox mount -t tmpfs none /mnt | grep -ci 'permission denied\|not permitted')"
expect "a masked directory is empty" 0 "$(run busybox ls /sys/firmware | wc -l)"
expect "sysctl is read-only" 1 "$(run busybox sh -c 'echo 1 > /proc/sys/kernel/panic' | grep -ci 'read-only')"
expect "--cap-drop ALL" 0000000000000000 "$(run --cap-drop ALL busybox probe | jq -r .status.CapEff)"
expect "--cap-drop ALL --cap-add NET_ADMIN" 0000000000001000 "$(run --cap-drop ALL --cap-add net_admin busybox probe | jq -r .status.CapEff)"
expect "--user without capabilities" "1000 1000 1000 1000 0000000000000000" "$(run -u example busybox probe | jq -r '.status.Uid + " " + .status.CapEff')"
expect "groups of a user come from /etc/group" "44 1000" "$(run -u example busybox probe | jq -r .status.Groups)"
expect "--group-add" "44 1000 3000" "$(run -u example --group-add 3000 busybox probe | jq -r .status.Groups)"
expect "numeric user unknown to the image" "4242 0" "$(run -u 4242 busybox sh -c 'echo $(id -u) $(id -g)')"
expect "no-new-privileges" 1 "$(run --security-opt no-new-privileges busybox probe | jq -r .status.NoNewPrivs)"
expect "--security-opt seccomp=unconfined" 0 "$(run --security-opt seccomp=unconfined busybox probe | jq -r .status.Seccomp)"
expect "--read-only" 1 "$(run --read-only busybox touch /x | grep -ci 'read-only')"
expect "--read-only leaves /dev/shm writable" 0 "$(run --read-only busybox touch /dev/shm/x | wc -l)"
expect "--privileged has every capability the engine has" "$(awk '/^CapBnd/ {print $2}' /proc/self/status)" "$(run --privileged busybox probe | jq -r .status.CapEff)"
expect "--tmpfs" "tmpfs" "$(run --tmpfs /scratch:size=1m busybox sh -c 'grep " /scratch " /proc/mounts' | cut -d' ' -f3)"
expect "--shm-size" "2048" "$(run --shm-size 2m busybox sh -c 'df -k /dev/shm | tail -n 1' | awk '{print $2}')"
expect "--hostname" "web.example" "$(run --hostname web.example busybox hostname)"
# A zombie that nobody reaps is there for good.
expect "--init reaps" reaped "$(run --init busybox sh -c '(true & echo $! > /tmp/orphan); i=0
    while [ -e "/proc/$(cat /tmp/orphan)" ] && [ $i -lt 200 ]; do i=$((i + 1)); sleep 0.1; done; [ -e "/proc/$(cat /tmp/orphan)" ] || echo reaped')"
expect "--ulimit" "200 300" "$(run --ulimit nofile=200:300 busybox probe | jq -r '.limits["Max open files"] | join(" ")')"
expect "a tty when asked" "1" "$(script -qec "$RCON --root $work/data --run-root $work/run run --rm -it --network none busybox tty" /dev/null | grep -c '/dev/pts/0')"
expect "--pid host" "$(readlink /proc/self/ns/pid)" "$(run --pid host busybox probe | jq -r .namespaces.pid)"
expect "a user namespace on request" "0" "$(run --uidmap 0:100000:65536 --gidmap 0:100000:65536 busybox id -u)"
[ "$(run --uidmap 0:100000:65536 --gidmap 0:100000:65536 busybox probe | jq -r .namespaces.user)" != "$(readlink /proc/self/ns/user)" ]
expect "and it is its own" 0 $?

# The binary cannot be overwritten through /proc/PID/exe (CVE-2019-5736): an image whose entrypoint is the runtime itself.
sum=$(sha256sum < "$RCON")
rcon run --rm --network none --entrypoint /proc/self/exe busybox --version > "$work/exe.out" 2>&1
rcon run --rm --network none --pid host --cap-add SYS_PTRACE busybox sh -c '
    for p in /proc/[0-9]*; do case $(readlink $p/exe) in *rcon*) (echo x >> $p/exe) 2>/dev/null && echo written; esac; done' > "$work/exe2.out" 2>&1
expect "the binary is not written through /proc" "$sum 0" "$(sha256sum < "$RCON") $(grep -c written "$work/exe2.out")"

no_leaks "nothing is left"
finish
