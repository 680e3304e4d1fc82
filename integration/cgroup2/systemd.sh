#!/bin/sh
# systemd.sh: rcon-runtime --systemd-cgroup in a guest with systemd and pure cgroup v2 (guest.sh RCON FIXTURES systemd.sh
# systemd): scopes with their properties beside runc's, exec, update, delete, a user's own manager.
passed=0 failed=0
expect() { if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "  ok    $1"; else failed=$((failed + 1)); echo "  FAIL  $1: expected «$2», got «$3»"; fi; }
work=$(mktemp -d /tmp/systemd.XXXXXX)
chmod 755 "$work"
rt() { /payload/rcon-runtime --root "$work/run" --systemd-cgroup "$@"; }
show() { systemctl show -P "$2" "$1"; }
# gone UNIT: systemd forgets a unit that has ended when it gets to it; within half a minute.
gone() { for try in $(seq 150); do [ "$(show "$1" LoadState)" != not-found ] || break; sleep 0.2; done; show "$1" LoadState; }

# A bundle: rootfs of busybox, and a config made by jq from runc's.
mkdir -p "$work/b/rootfs/bin" "$work/b/rootfs/tmp"
cp /bin/busybox "$work/b/rootfs/bin/busybox"
for applet in sh sleep cat echo id mknod head true; do ln -s busybox "$work/b/rootfs/bin/$applet"; done
(cd "$work/b" && runc spec && mv config.json base.json)
config() { jq ".process.terminal = false | .process.args = [\"sleep\", \"1000\"] | $1" "$work/b/base.json" > "$work/b/config.json"; }
limits='.linux.resources += {
    "memory": {"limit": 67108864, "reservation": 33554432, "swap": 67108864}, "pids": {"limit": 33},
    "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0-1", "mems": "0"}, "unified": {"memory.high": "60000000"}}'
started() { rt run -d -b "$work/b" "$1" > "$work/out" 2>&1 < /dev/null; }

config ".linux.cgroupsPath = \"rcon-test.slice:p:c1\" | $limits | .annotations = {
    \"org.systemd.property.CollectMode\": \"'inactive-or-failed'\", \"org.systemd.property.TimeoutStopSec\": \"uint64 7\"}"
started c1
expect "a container runs in a scope" 0 $?
cat "$work/out"
expect "the scope is active" active "$(show p-c1.scope ActiveState)"
expect "in the nested slice" "/rcon.slice/rcon-test.slice/p-c1.scope" "$(show p-c1.scope ControlGroup)"
pid=$(rt state c1 | jq .pid)
expect "with the container's process" "0::/rcon.slice/rcon-test.slice/p-c1.scope" "$(cat "/proc/$pid/cgroup")"
for pair in Slice=rcon-test.slice Delegate=yes MemoryMax=67108864 MemoryLow=33554432 MemoryHigh=60000000 MemorySwapMax=0 TasksMax=33 \
    CPUQuotaPerSecUSec=500ms CPUQuotaPeriodUSec=50ms AllowedCPUs=0-1 AllowedMemoryNodes=0 DevicePolicy=strict \
    CPUAccounting=yes MemoryAccounting=yes IOAccounting=yes TasksAccounting=yes DefaultDependencies=no CollectMode=inactive-or-failed \
    TimeoutStopUSec=7s; do
    expect "property ${pair%%=*}" "${pair#*=}" "$(show p-c1.scope "${pair%%=*}")"
done
group=/sys/fs/cgroup/rcon.slice/rcon-test.slice/p-c1.scope
for pair in memory.max=67108864 memory.low=33554432 memory.high=59998208 memory.swap.max=0 pids.max=33 "cpu.max=25000 50000" cpuset.cpus=0-1; do
    expect "file ${pair%%=*}" "${pair#*=}" "$(cat "$group/${pair%%=*}")"
done

expect "an exec is in the scope" "0::/" "$(rt exec c1 cat /proc/self/cgroup)"
rt exec -d c1 sleep 999
expect "and counted there" 2 "$(wc -l < "$group/cgroup.procs")"
mknod "$work/b/rootfs/kmsg" c 1 11
rt exec c1 head -c 1 /kmsg > /dev/null 2>&1
expect "a device that is not admitted stays closed" 1 $?
systemctl daemon-reload
expect "systemd's reload leaves the limits" "67108864 33 25000 50000" "$(cat "$group/memory.max" "$group/pids.max" "$group/cpu.max" | tr '\n' ' ' | sed 's/ $//')"
rt exec c1 head -c 1 /kmsg > /dev/null 2>&1
expect "and the device rules" 1 $?
rt exec c1 sh -c 'echo > /dev/null && head -c 1 /dev/zero > /dev/null'
expect "the default devices work" 0 $?

mkdir -p "$group/sub"
if rt update --help 2> /dev/null | grep -q -- --resources; then
    echo '{"memory": {"limit": 134217728, "swap": -1}, "pids": {"limit": 44}, "cpu": {"quota": 100000, "period": 100000}}' | rt update -r - c1
    expect "update" 0 $?
    expect "tells systemd" "134217728 infinity 44 1s" "$(show p-c1.scope MemoryMax) $(show p-c1.scope MemorySwapMax) $(show p-c1.scope TasksMax) $(show p-c1.scope CPUQuotaPerSecUSec)"
    expect "and the kernel" "134217728 44 100000 100000" "$(cat "$group/memory.max" "$group/pids.max" "$group/cpu.max" | tr '\n' ' ' | sed 's/ $//')"
    systemctl daemon-reload
    expect "for good" 134217728 "$(cat "$group/memory.max")"
fi
rt exec -d --cgroup sub c1 sleep 998
expect "exec --cgroup enters a group below" 1 "$(wc -l < "$group/sub/cgroup.procs")"

config '.linux.cgroupsPath = "rcon-test.slice:p:c1"'
started c2
expect "the scope of a running container is not taken" 1 $?
expect "and it says so" 1 "$(grep -c 'already has processes' "$work/out")"
expect "nor harmed" active "$(show p-c1.scope ActiveState)"

rt kill c1 KILL
for try in $(seq 100); do [ "$(rt state c1 | jq -r .status)" != stopped ] || break; sleep 0.2; done
rt delete c1
expect "delete" 0 $?
expect "the scope is gone" "not-found inactive" "$(gone p-c1.scope) $(show p-c1.scope ActiveState)"
[ ! -e "$group" ]
expect "and its group" 0 $?

config 'del(.linux.cgroupsPath)'
started c3
expect "without a path the scope is in system.slice" "0::/system.slice/rcon-c3.scope" "$(cat "/proc/$(rt state c3 | jq .pid)/cgroup")"
systemctl show rcon-c3.scope > "$work/ours"
rt delete -f c3
expect "delete --force" "not-found inactive" "$(gone rcon-c3.scope) $(show rcon-c3.scope ActiveState)"
config '.process.args = ["sh", "-c", "cat /proc/self/cgroup; exit 3"] | .linux.cgroupsPath = ":p:c4"'
expect "a run in the foreground" "0::/ 3" "$(rt run -b "$work/b" c4 < /dev/null) $(rt run -b "$work/b" c4 < /dev/null > /dev/null; echo $?)"
expect "leaves no scope" not-found "$(gone p-c4.scope)"

config 'del(.linux.cgroupsPath)'
runc --root "$work/runc" --systemd-cgroup run -d -b "$work/b" c3 > /dev/null 2>&1 < /dev/null
systemctl show runc-c3.scope > "$work/theirs"
runc --root "$work/runc" --systemd-cgroup delete -f c3
for property in Slice Delegate DelegateControllers DefaultDependencies CPUAccounting MemoryAccounting TasksAccounting IOAccounting MemoryMax \
    TasksMax CPUWeight DevicePolicy KillMode OOMPolicy CollectMode; do
    expect "as runc: $property" "$(grep "^$property=" "$work/theirs" | sort)" "$(grep "^$property=" "$work/ours" | sort)"
done

config '.linux.cgroupsPath = "/a/b"'
started bad
expect "a path of the other driver is refused" 1 "$(grep -c 'expected slice:prefix:name' "$work/out")"
config '.annotations = {"org.systemd.property.ExecStartPre": "1"}'
started bad
expect "an annotation that may not be is refused" 1 "$(grep -c 'cannot be set by an annotation' "$work/out")"
config '.linux.cgroupsPath = ":p:bad" | .linux.resources.unified = {"pids.max": "none"}'
started bad
expect "a limit that is none is refused" 1 "$(grep -c pids.max "$work/out")"
expect "without a scope" not-found "$(gone p-bad.scope)"
config '.linux.cgroupsPath = ":p:bad" | .process.args = ["/nothing"]'
started bad
expect "a container that does not start leaves no scope" not-found "$(gone p-bad.scope)"
expect "no container is left" 0 "$(ls "$work/run" | wc -l)"

# A user's own manager, without a bus of the user's: the manager's own socket.
useradd -m -u 1234 someone
# Without PAM, which the guest does not have, the manager's environment is given here.
mkdir -p /run/systemd/system/user@.service.d
printf '[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n' > /run/systemd/system/user@.service.d/no-pam.conf
systemctl daemon-reload
systemctl start user@1234.service || journalctl -n 20 --no-pager -u user@1234.service
if [ -S /run/user/1234/systemd/private ]; then
    config '.linux.cgroupsPath = "user.slice:p:u1" | .linux.resources = {"pids": {"limit": 22}}
        | .linux.namespaces += [{"type": "user"}] | .linux.namespaces |= map(select(.type != "network"))
        | .linux.uidMappings = [{"containerID": 0, "hostID": 1234, "size": 1}] | .linux.gidMappings = [{"containerID": 0, "hostID": 1234, "size": 1}]
        | .mounts |= map(select(.type != "sysfs" and .type != "cgroup")) | .mounts |= map(if .options then .options |= map(select(test("gid=5") | not)) else . end)'
    chmod -R a+rX "$work/b"
    chown -R 1234:1234 "$work/b/rootfs"
    user() { setpriv --reuid 1234 --regid 1234 --clear-groups env XDG_RUNTIME_DIR=/run/user/1234 HOME=/home/someone "$@"; }
    urt() { user /payload/rcon-runtime --root /run/user/1234/rt --systemd-cgroup "$@"; }
    urt run -d -b "$work/b" u1 > "$work/out" 2>&1 < /dev/null
    expect "a user's container" 0 $?
    cat "$work/out"
    slice=/user.slice/user-1234.slice/user@1234.service/user.slice/p-u1.scope
    expect "is in the user's slice" "0::$slice" "$(cat "/proc/$(urt state u1 | jq .pid)/cgroup")"
    expect "with its limit" 22 "$(cat "/sys/fs/cgroup$slice/pids.max")"
    urt exec u1 true
    expect "an exec gets there, too" 0 $?
    urt delete -f u1
    expect "and it is deleted" 0 $?
else
    expect "the user's manager runs" yes no
fi
rm -rf "$work"
echo "systemd.sh: $passed passed, $failed failed"
[ "$failed" = 0 ]
