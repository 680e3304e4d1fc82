#!/bin/bash
# rcon-runtime inside a container itself: a privileged one, one that may mount but sees its control groups read-only, and
# an ordinary one, where it can only say what is missing.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
mkdir -p "$work/bundle/rootfs" && tar -xf "$FIXTURES/busybox.tar" -C "$work" ./layer1.tar && tar -xpf "$work/layer1.tar" -C "$work/bundle/rootfs"

# A config as `spec` writes them: all namespaces, /proc, /dev, /sys, control groups; $1 is the command, $2 more JSON.
config() {
    cat > "$work/bundle/config.json" << CONFIG
{"ociVersion": "1.2.0", "hostname": "inner", "root": {"path": "rootfs"},
 "process": {"terminal": false, "cwd": "/", "args": ["sh", "-c", "$1"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true},
 "mounts": [
  {"destination": "/proc", "type": "proc", "source": "proc"},
  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
  {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
  {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}],
 "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
  "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]${2:-}}}
CONFIG
}
inside() { # FLAGS SCRIPT: in a container with these flags, where `oci` is the runtime
    # shellcheck disable=SC2086
    rcon run --rm --network none $1 -v "$work/bundle:/bundle" -v "$RCON:/bin/rcon-runtime:ro" busybox sh -c "oci() { rcon-runtime --root /tmp/state \"\$@\"; }; $2" 2>&1
}

config 'echo inner $$ on $(hostname)'
expect "run in a privileged container" "inner 1 on inner" "$(inside --privileged 'oci run --bundle /bundle one')"
config 'exit 7'
expect "its exit code" 7 "$(inside --privileged 'oci run --bundle /bundle one; echo $?')"

config "trap 'exit 9' TERM; echo up > /up; while :; do sleep 0.1; done"
expect "create, start, state, exec, kill, delete" "created running hello 4 stopped gone" "$(inside --privileged '
    oci create --bundle /bundle life < /dev/null > /dev/null 2>&1
    status() { oci state life | tr -d " ,\"" | sed -n "s/^status://p"; }
    status
    oci start life
    status
    oci exec life echo hello
    oci exec life sh -c "exit 4"; echo $?
    i=0; until [ -e /bundle/rootfs/up ] || [ $i = 300 ]; do i=$((i + 1)); sleep 0.1; done
    oci kill life TERM
    i=0; while [ "$(status)" != stopped ] && [ $i -lt 300 ]; do i=$((i + 1)); sleep 0.1; done
    status
    oci delete life
    oci state life > /dev/null 2>&1 || echo gone' | tr '\n' ' ' | sed 's/ $//')"

config 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max' ', "cgroupsPath": "/inner", "resources": {"memory": {"limit": 33554432}}'
sed -i 's|"maskedPaths"|"x": 0, "maskedPaths"|; s|"options": \["nosuid", "noexec", "nodev", "ro"\]}\]|"options": ["nosuid", "noexec", "nodev", "ro"]}, {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}]|' "$work/bundle/config.json"
expect "a limit of the inner container" 33554432 "$(inside --privileged 'oci run --bundle /bundle limited 2> /dev/null | tail -n 1')"
expect "nothing of it is left" 0 "$(inside --privileged 'find /sys/fs/cgroup -type d -name inner | wc -l')"

config 'echo inner'
may_mount='--cap-add SYS_ADMIN --security-opt seccomp=unconfined'
expect "read-only control groups are named" 1 "$(inside "$may_mount" 'oci run --bundle /bundle one' | grep -c 'cgroup.*Read-only file system')"
expect "and can be left out" inner "$(inside "$may_mount" 'oci --cgroup-manager disabled run --bundle /bundle one')"
expect "an ordinary container may not make namespaces" 1 "$(inside "" 'oci --cgroup-manager disabled run --bundle /bundle one' | grep -c 'cannot clone the init stage: ')"
expect "which leaves no state" 0 "$(inside "" 'oci --cgroup-manager disabled run --bundle /bundle one > /dev/null 2>&1; ls /tmp/state | wc -l')"

# Two levels: the inner container runs one itself.
config 'rcon-runtime --cgroup-manager disabled --root /tmp/state run --bundle /bundle deeper'
cp "$RCON" "$work/bundle/rootfs/bin/rcon-runtime"
mkdir -p "$work/bundle/rootfs/bundle/rootfs"
cp -a "$work/bundle/rootfs/bin" "$work/bundle/rootfs/bundle/rootfs/"
sed -e 's|rcon-runtime --cgroup[^"]*|echo deep|' "$work/bundle/config.json" > "$work/bundle/rootfs/bundle/config.json"
sed -i 's|"noNewPrivileges": true|"noNewPrivileges": true, "capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_MKNOD"], "effective": ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_MKNOD"], "permitted": ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_MKNOD"]}|' "$work/bundle/config.json"
expect "a container in a container in a container" deep "$(inside --privileged 'oci run --bundle /bundle outer')"

no_leaks "nothing is left"
finish
