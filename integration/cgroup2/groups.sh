#!/bin/sh
# groups.sh: rcon-runtime and control groups in a guest with pure cgroup v2 and nothing else (guest.sh RCON FIXTURES
# groups.sh): paths, groups in use, limits, groups below, statistics, signals, a user with and without delegation, a runtime
# in a container of its own.
passed=0 failed=0
expect() { if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "  ok    $1"; else failed=$((failed + 1)); echo "  FAIL  $1: expected «$2», got «$3»"; fi; }
work=$(mktemp -d /tmp/groups.XXXXXX)
chmod 755 "$work"
rt() { /payload/rcon-runtime --root "$work/run" "$@"; }
mkdir -p "$work/b/rootfs/bin" "$work/b/rootfs/tmp"
cp /bin/busybox "$work/b/rootfs/bin/busybox"
for applet in sh sleep cat echo id head tail true ls mkdir mount; do ln -s busybox "$work/b/rootfs/bin/$applet"; done
(cd "$work/b" && runc spec && mv config.json base.json)
config() { jq ".process.terminal = false | .process.args = [\"sleep\", \"1000\"] | $1" "$work/b/base.json" > "$work/b/config.json"; }
started() { rt run -d -b "$work/b" "$1" > "$work/out" 2>&1 < /dev/null; }
group_of() { cat "/proc/$(rt state "$1" | jq .pid)/cgroup"; }
top=/sys/fs/cgroup

config '.linux.cgroupsPath = "/t/abs"'
started c1
expect "an absolute path is below the mount point" "0::/t/abs" "$(group_of c1)"
started c2
expect "a group in use is refused by name" 1 "$(grep -c 'cgroup /t/abs already has processes' "$work/out")"
rt delete -f c1
[ ! -e $top/t/abs ]
expect "and removed with its container" 0 $?
mkdir -p $top/t/abs
started c1
expect "an empty one is used" "0::/t/abs" "$(group_of c1)"
rt delete -f c1
mkdir -p $top/t/abs
echo 1 > $top/t/cgroup.freeze
started c1
expect "a frozen one is not" 1 "$(grep -c 'cgroup /t/abs is frozen' "$work/out")"
echo 0 > $top/t/cgroup.freeze
config 'del(.linux.cgroupsPath)'
mkdir -p $top/caller/own
sh -c "echo \$\$ > $top/caller/own/cgroup.procs; exec /payload/rcon-runtime --root $work/run run -d -b $work/b c1" > "$work/out" 2>&1 < /dev/null
expect "without a path it is beside the caller's group, by id" "0::/caller/c1" "$(group_of c1)"
rt delete -f c1

config '.linux.cgroupsPath = "/t/x" | .linux.resources += {
    "memory": {"limit": 33554432, "swap": 33554432, "reservation": 16777216}, "pids": {"limit": 30},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "1", "mems": "0"},
    "unified": {"memory.high": "30000000", "cgroup.max.depth": "3", "misc.max": ""}}'
started c1
cat "$work/out"
files() { for file in "$@"; do cat "$top/t/x/$file"; done | tr '\n' ' '; }
expect "limits" "33554432 0 16777216 30 100 50000 100000 10000 1 0 29999104 3 " \
    "$(files memory.max memory.swap.max memory.low pids.max cpu.weight cpu.max cpu.max.burst cpuset.cpus cpuset.mems memory.high cgroup.max.depth)"
stats=$(rt events --stats c1)
expect "statistics" "33554432 30 stats c1" "$(echo "$stats" | jq -r '"\(.data.memory.usage.limit) \(.data.pids.limit) \(.type) \(.id)"')"
expect "with pressure" true "$(echo "$stats" | jq '.data.cpu.psi.some.total >= 0')"
echo '{"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"idle": 1}, "unified": {"memory.high": "max"}}' | rt update -r - c1
expect "update to unlimited" "max max max 1 max " "$(files memory.max memory.swap.max pids.max cpu.idle memory.high)"
echo '{"memory": {"limit": 4096, "checkBeforeUpdate": true}}' | rt update -r - c1 2> "$work/out"
expect "a limit below the usage is refused when asked" 1 "$(grep -c 'bytes are in use' "$work/out")"
echo '{"memory": {"swappiness": 5}}' | rt update -r - c1 2> "$work/out"
expect "what v2 does not have is refused by name" 1 "$(grep -c 'memory swappiness' "$work/out")"
echo '{"unified": {"net_cls.classid": "1"}}' | rt update -r - c1 2> "$work/out"
expect "and a controller that is not there" 1 "$(grep -c 'net_cls' "$work/out")"

rt exec -d c1 sleep 900
mkdir $top/t/x/below
rt exec -d --cgroup below c1 sleep 901
expect "exec --cgroup" 1 "$(wc -l < $top/t/x/below/cgroup.procs)"
rt exec --cgroup nowhere c1 true 2> "$work/out"
expect "a group below that is not there" 1 "$(grep -c 'no cgroup nowhere below' "$work/out")"
rt pause c1
expect "pause" "paused 1" "$(rt state c1 | jq -r .status) $(sed -n 's/^frozen //p' $top/t/x/cgroup.events)"
rt resume c1
expect "resume" "running 0" "$(rt state c1 | jq -r .status) $(sed -n 's/^frozen //p' $top/t/x/cgroup.events)"
rt kill --all c1 KILL
for try in $(seq 100); do [ "$(sed -n 's/^populated //p' $top/t/x/cgroup.events)" != 0 ] || break; sleep 0.2; done
expect "kill --all reaches every group" 0 "$(sed -n 's/^populated //p' $top/t/x/cgroup.events)"
rt delete c1
[ ! -e $top/t/x ]
expect "delete removes those below, too" 0 $?

# An OOM kill is told of.
config '.linux.cgroupsPath = "/t/oom" | .process.args = ["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done; head -c 100000000 /dev/zero | tail -n 1; sleep 1000"]
    | .root.readonly = false | .linux.resources.memory = {"limit": 16777216, "swap": 16777216}'
started c1
rt events --interval 1s c1 > "$work/events" 2> "$work/out" &
# It watches before it tells of anything.
for try in $(seq 600); do [ ! -s "$work/events" ] || break; sleep 0.1; done
: > "$work/b/rootfs/tmp/go"
for try in $(seq 60); do grep -q oom "$work/events" && break; sleep 1; done
expect "events" '{"type":"oom","id":"c1"}' "$(grep oom "$work/events" | head -n 1)"
rt delete -f c1
wait
expect "end with the container" 0 $?

# A user.
useradd -m -u 1234 someone
rootless='.linux.namespaces += [{"type": "user"}] | .linux.namespaces |= map(select(.type != "network"))
    | .linux.uidMappings = [{"containerID": 0, "hostID": 1234, "size": 1}] | .linux.gidMappings = [{"containerID": 0, "hostID": 1234, "size": 1}]
    | .mounts |= map(select(.type != "sysfs" and .type != "cgroup")) | .mounts |= map(if .options then .options |= map(select(test("gid=5") | not)) else . end)'
mkdir -p /run/someone
chown 1234:1234 /run/someone
chown -R 1234:1234 "$work/b"
urt() { setpriv --reuid 1234 --regid 1234 --clear-groups env XDG_RUNTIME_DIR=/run/someone HOME=/home/someone /payload/rcon-runtime --root /run/someone/rt "$@"; }
config "$rootless | del(.linux.resources)"
urt run -d -b "$work/b" u1 > "$work/out" 2>&1 < /dev/null
expect "a user without rights runs a container without a group" "0 0::/" "$? $(cat "/proc/$(urt state u1 | jq .pid)/cgroup")"
urt exec u1 true
expect "and an exec" 0 $?
urt delete -f u1
config "$rootless | .linux.resources = {\"pids\": {\"limit\": 9}}"
urt run -d -b "$work/b" u1 > "$work/out" 2>&1 < /dev/null
expect "but not with a limit" 1 $?
expect "which is said" 1 "$(grep -c 'Permission denied' "$work/out")"
mkdir -p $top/given/own
echo +pids > $top/cgroup.subtree_control
echo +pids > $top/given/cgroup.subtree_control
chown 1234 $top/given $top/given/cgroup.procs $top/given/cgroup.subtree_control $top/given/own $top/given/own/cgroup.procs
sh -c "echo \$\$ > $top/given/own/cgroup.procs; exec setpriv --reuid 1234 --regid 1234 --clear-groups env XDG_RUNTIME_DIR=/run/someone /payload/rcon-runtime --root /run/someone/rt run -d -b $work/b u1" > "$work/out" 2>&1 < /dev/null
expect "in a delegated group with a limit it works" "0 0::/given/u1 9" "$? $(cat "/proc/$(urt state u1 | jq .pid)/cgroup") $(cat $top/given/u1/pids.max)"
cat "$work/out"
urt delete -f u1

# The runtime in a container: a cgroup namespace of its own, its processes in the root of what it sees.
mkdir $top/outer
cat > "$work/inside" <<INSIDE
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
/payload/rcon-runtime --root $work/run run -b $work/b n1 < /dev/null
echo \$?
INSIDE
config '.process.args = ["cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cgroup.controllers"] | .linux.resources.pids = {"limit": 8} | .linux.cgroupsPath = "/n1"'
got=$(sh -c "echo \$\$ > $top/outer/cgroup.procs; exec unshare --cgroup --mount sh $work/inside" 2> "$work/out")
expect "in a container of its own" "8 0" "$(echo "$got" | sed -n '1p;$p' | tr '\n' ' ' | sed 's/ $//')"
grep -v warning "$work/out"
rm -rf "$work"
echo "groups.sh: $passed passed, $failed failed"
[ "$failed" = 0 ]
