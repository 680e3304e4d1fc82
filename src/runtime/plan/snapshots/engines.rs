//! Configs as runtimes' `spec`, podman, Docker and Kubernetes write them.

use super::{expect, plan};
use serde_json::json;

/// What `spec` writes.
const SPEC: &str = r#"{
    "ociVersion": "1.2.0", "root": {"path": "rootfs", "readonly": true}, "hostname": "rcon",
    "process": {
        "terminal": true, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "noNewPrivileges": true,
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "capabilities": {
            "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ],
    "linux": {
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/sys", "/proc/sysrq-trigger"]
    }
}"#;

/// What `podman run` writes on cgroup v2.
const PODMAN: &str = r#"{
    "ociVersion": "1.2.0", "root": {"path": "/var/lib/containers/storage/overlay/l/merged"}, "hostname": "4f5c2d",
    "process": {
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [1, 2, 10]}, "args": ["nginx", "-g", "daemon off;"], "cwd": "/srv",
        "env": ["PATH=/usr/bin:/bin", "container=podman", "HOME=/root", "HOSTNAME=4f5c2d"], "oomScoreAdj": 0,
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP"],
            "effective": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP"],
            "permitted": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP"]
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1048576}, {"type": "RLIMIT_NPROC", "hard": 4194304, "soft": 4194304}]
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/run/containers/c/hosts", "options": ["bind", "rprivate"]},
        {"destination": "/dev/shm", "type": "bind", "source": "/var/lib/containers/c/shm", "options": ["bind", "rprivate", "nosuid", "noexec", "nodev"]},
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw", "rprivate"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"]}
    ],
    "annotations": {"io.container.manager": "libpod"},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/netns-1"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
        "sysctl": {"net.ipv4.ping_group_range": "0 0"}, "cgroupsPath": "machine.slice:libpod:4f5c2d",
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/sys/fs/selinux"], "readonlyPaths": ["/proc/asound", "/proc/sys"]
    }
}"#;

/// What Docker's daemon writes on cgroup v2, with the hook that makes its network.
const DOCKER: &str = r#"{
    "ociVersion": "1.2.0", "root": {"path": "/var/lib/docker/rootfs/overlayfs/c"}, "hostname": "c0ffee",
    "process": {
        "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]}, "args": ["redis-server"], "cwd": "/data", "apparmorProfile": "", "oomScoreAdj": 0,
        "env": ["PATH=/usr/bin:/bin", "HOSTNAME=c0ffee"],
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"],
            "effective": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"],
            "permitted": ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"]
        }
    },
    "hooks": {"prestart": [{"path": "/proc/310/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "c0ffee", "77aa"]}]},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        {"destination": "/data", "type": "bind", "source": "/var/lib/docker/volumes/v/_data", "options": ["rbind"]},
        {"destination": "/etc/resolv.conf", "type": "bind", "source": "/var/lib/docker/containers/c/resolv.conf", "options": ["rbind", "rprivate"]}
    ],
    "linux": {
        "sysctl": {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}, "cgroupsPath": "/docker/c0ffee",
        "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}, {"type": "cgroup"}],
        "maskedPaths": ["/proc/asound", "/proc/kcore", "/proc/keys", "/sys/devices/virtual/powercap"], "readonlyPaths": ["/proc/bus", "/proc/sys"]
    }
}"#;

/// What containerd's CRI plugin writes for the pause container of a pod.
const PAUSE: &str = r#"{
    "ociVersion": "1.1.0", "root": {"path": "rootfs", "readonly": true}, "hostname": "web-0",
    "process": {
        "user": {"uid": 65535, "gid": 65535, "additionalGids": [65535]}, "args": ["/pause"], "cwd": "/", "noNewPrivileges": true, "oomScoreAdj": -998,
        "env": ["PATH=/usr/bin:/bin"],
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"]}
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/shm", "type": "bind", "source": "/run/containerd/s/shm", "options": ["rbind", "ro", "nosuid", "nodev", "noexec"]}
    ],
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/var/run/netns/cni-1"}],
        "resources": {"cpu": {"shares": 2}}, "cgroupsPath": "kubepods-besteffort.slice:cri-containerd:5a", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
    }
}"#;

#[test]
fn what_spec_writes() {
    expect(
        &plan(SPEC, json!({})),
        r#"
        new namespaces: pid, network, ipc, uts, mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bring up the loopback device
        mount proc proc on /proc
        mount tmpfs tmpfs on /dev nosuid,strictatime with mode=755,size=65536k
        mount devpts devpts on /dev/pts nosuid,noexec with ptmxmode=0666,mode=0620,gid=5
        mount tmpfs shm on /dev/shm nosuid,nodev,noexec with mode=1777,size=65536k
        mount mqueue mqueue on /dev/mqueue nosuid,nodev,noexec
        mount sysfs sysfs on /sys ro,nosuid,nodev,noexec
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        bind the terminal on /dev/console
        working directory /
        mask /proc/acpi
        mask /proc/kcore
        mask /sys/firmware
        read-only /proc/bus
        read-only /proc/sys
        read-only /proc/sysrq-trigger
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime
        root read-only
        pivot to the root
        hostname rcon
        process ["sh"] as 0:0 groups [] umask 0022 cwd /
        environment ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
        capabilities: bounding+effective+permitted CAP_KILL CAP_NET_BIND_SERVICE CAP_AUDIT_WRITE; inheritable+ambient none
        rlimit RLIMIT_NOFILE 1024:1024
        no new privileges
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// No network of its own, one id, /sys bound in, no gid for the terminals.
#[test]
fn what_spec_writes_for_the_rootless() {
    let own = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]},
    ]);
    let namespaces = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}]);
    let (uid, gid) = (json!([{"containerID": 0, "hostID": 1000, "size": 1}]), json!([{"containerID": 0, "hostID": 100, "size": 1}]));
    let changes = json!({"mounts": own, "linux": {"namespaces": namespaces, "resources": null, "uidMappings": uid, "gidMappings": gid}});
    expect(
        &plan(SPEC, changes),
        r#"
        new namespaces: user, pid, ipc, uts, mount
        uid map 0 1000 1
        gid map 0 100 1
        root of the user namespace is 1000:100 outside
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount proc proc on /proc
        mount devpts devpts on /dev/pts nosuid,noexec with ptmxmode=0666,mode=0620
        rbind /sys on /sys ro,nosuid,nodev,noexec,rprivate
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        bind the terminal on /dev/console
        working directory /
        mask /proc/acpi
        mask /proc/kcore
        mask /sys/firmware
        read-only /proc/bus
        read-only /proc/sys
        read-only /proc/sysrq-trigger
        wait for the parent: moved into the cgroups
        root read-only
        pivot to the root
        hostname rcon
        process ["sh"] as 0:0 groups [] umask 0022 cwd /
        environment ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
        capabilities: bounding+effective+permitted CAP_KILL CAP_NET_BIND_SERVICE CAP_AUDIT_WRITE; inheritable+ambient none
        rlimit RLIMIT_NOFILE 1024:1024
        no new privileges
        session keyring _ses.web, which all may search
    "#,
    );
}

#[test]
fn podman() {
    expect(
        &plan(PODMAN, json!({})),
        r#"
        new namespaces: pid, ipc, uts, mount, cgroup
        join network namespace /run/netns/netns-1
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount proc proc on /proc nosuid,nodev,noexec
        mount tmpfs tmpfs on /dev nosuid,noexec,strictatime with mode=755,size=65536k
        mount sysfs sysfs on /sys ro,nosuid,nodev,noexec
        mount devpts devpts on /dev/pts nosuid,noexec with ptmxmode=0666,mode=0620,gid=5
        mount mqueue mqueue on /dev/mqueue nosuid,nodev,noexec
        bind /run/containers/c/hosts on /etc/hosts rprivate
        bind /var/lib/containers/c/shm on /dev/shm nosuid,nodev,noexec,rprivate
        rbind /srv/data on /data rw,rprivate
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        sysctl net/ipv4/ping_group_range = 0 0
        working directory /srv
        mask /proc/acpi
        mask /proc/kcore
        mask /sys/fs/selinux
        read-only /proc/asound
        read-only /proc/sys
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime,rprivate
        enter the cgroup namespace
        pivot to the root
        hostname 4f5c2d
        process ["nginx", "-g", "daemon off;"] as 0:0 groups [1, 2, 10] umask 0022 cwd /srv
        environment ["PATH=/usr/bin:/bin", "container=podman", "HOME=/root", "HOSTNAME=4f5c2d"]
        capabilities: bounding+effective+permitted CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETFCAP; inheritable+ambient none
        rlimit RLIMIT_NOFILE 1048576:1048576
        rlimit RLIMIT_NPROC 4194304:4194304
        oom score adjustment 0
        session keyring _ses.web, which its user may search
    "#,
    );
}

#[test]
fn docker() {
    expect(
        &plan(DOCKER, json!({})),
        r#"
        new namespaces: pid, network, ipc, uts, mount, cgroup
        hook prestart 1: /proc/310/exe ["libnetwork-setkey", "-exec-root=/var/run/docker", "c0ffee", "77aa"] env []
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bring up the loopback device
        mount proc proc on /proc nosuid,nodev,noexec
        mount tmpfs tmpfs on /dev nosuid,strictatime with mode=755,size=65536k
        mount devpts devpts on /dev/pts nosuid,noexec with ptmxmode=0666,mode=0620,gid=5
        mount sysfs sysfs on /sys ro,nosuid,nodev,noexec
        mount mqueue mqueue on /dev/mqueue nosuid,nodev,noexec
        mount tmpfs shm on /dev/shm nosuid,nodev,noexec with mode=1777,size=67108864
        rbind /var/lib/docker/volumes/v/_data on /data rprivate
        rbind /var/lib/docker/containers/c/resolv.conf on /etc/resolv.conf rprivate
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup ro,nosuid,nodev,noexec
        enter the cgroup namespace
        wait for the parent: prestart and createRuntime hooks
        sysctl net/ipv4/ip_unprivileged_port_start = 0
        sysctl net/ipv4/ping_group_range = 0 2147483647
        working directory /data
        mask /proc/asound
        mask /proc/kcore
        mask /proc/keys
        mask /sys/devices/virtual/powercap
        read-only /proc/bus
        read-only /proc/sys
        pivot to the root
        hostname c0ffee
        process ["redis-server"] as 0:0 groups [0, 10] umask 0022 cwd /data
        environment ["PATH=/usr/bin:/bin", "HOSTNAME=c0ffee"]
        capabilities: bounding+effective+permitted CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETGID CAP_NET_RAW CAP_MKNOD; inheritable+ambient none
        oom score adjustment 0
        session keyring _ses.web, which its user may search
    "#,
    );
}

#[test]
fn pause_of_a_pod() {
    expect(
        &plan(PAUSE, json!({})),
        r#"
        new namespaces: pid, ipc, uts, mount
        join network namespace /var/run/netns/cni-1
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount proc proc on /proc nosuid,nodev,noexec
        mount tmpfs tmpfs on /dev nosuid,strictatime with mode=755,size=65536k
        mount devpts devpts on /dev/pts nosuid,noexec with ptmxmode=0666,mode=0620,gid=5
        mount sysfs sysfs on /sys ro,nosuid,nodev,noexec
        rbind /run/containerd/s/shm on /dev/shm ro,nosuid,nodev,noexec,rprivate
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        working directory /
        mask /proc/kcore
        read-only /proc/sys
        wait for the parent: moved into the cgroups
        root read-only
        pivot to the root
        hostname web-0
        process ["/pause"] as 65535:65535 groups [65535] umask 0022 cwd /
        environment ["PATH=/usr/bin:/bin"]
        capabilities: bounding+effective+permitted CAP_CHOWN CAP_KILL; inheritable+ambient none
        no new privileges
        oom score adjustment -998
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// A workload is in the network, IPC and UTS namespaces of the pause container, and has processes and groups of its own.
#[test]
fn workload_of_a_pod() {
    let namespaces = json!([
        {"type": "pid"}, {"type": "ipc", "path": "/proc/4242/ns/ipc"}, {"type": "uts", "path": "/proc/4242/ns/uts"}, {"type": "mount"},
        {"type": "network", "path": "/proc/4242/ns/net"}, {"type": "cgroup"},
    ]);
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/kubelet/pods/p/etc-hosts", "options": ["rbind", "rprivate", "rw"]},
        {"destination": "/var/run/secrets", "type": "bind", "source": "/var/lib/kubelet/pods/p/token", "options": ["rbind", "rslave", "rro"]},
    ]);
    let process = json!({"user": {"uid": 1000, "gid": 1000, "additionalGids": [1000, 2000]}, "args": ["/app", "--port=80"], "oomScoreAdj": 1000});
    let changes = json!({"root": {"readonly": false}, "hostname": null, "process": process, "mounts": mounts, "linux": {"namespaces": namespaces}});
    expect(
        &plan(PAUSE, changes),
        r#"
        new namespaces: pid, mount, cgroup
        join ipc namespace /proc/4242/ns/ipc
        join uts namespace /proc/4242/ns/uts
        join network namespace /proc/4242/ns/net
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount proc proc on /proc nosuid,nodev,noexec
        rbind /var/lib/kubelet/pods/p/etc-hosts on /etc/hosts rw,rprivate
        rbind /var/lib/kubelet/pods/p/token on /var/run/secrets rro,rslave
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        working directory /
        mask /proc/kcore
        read-only /proc/sys
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime
        enter the cgroup namespace
        pivot to the root
        process ["/app", "--port=80"] as 1000:1000 groups [1000, 2000] umask 0022 cwd /
        environment ["PATH=/usr/bin:/bin"]
        capabilities: bounding+effective+permitted CAP_CHOWN CAP_KILL; inheritable+ambient none
        no new privileges
        oom score adjustment 1000
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// `docker run --privileged`: all capabilities, /sys writable, nothing hidden, devices of the host.
#[test]
fn privileged() {
    let all: Vec<&str> = crate::runtime::capability::ALL.iter().map(|(_, name)| *name).collect();
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]},
    ]);
    let devices = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 432, "uid": 0, "gid": 6},
    ]);
    let process = json!({"capabilities": {"bounding": all, "effective": all, "permitted": all}});
    let linux = json!({"maskedPaths": null, "readonlyPaths": null, "sysctl": null, "devices": devices});
    expect(
        &plan(DOCKER, json!({"hooks": null, "process": process, "mounts": mounts, "linux": linux})),
        r#"
        new namespaces: pid, network, ipc, uts, mount, cgroup
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bring up the loopback device
        mount proc proc on /proc nosuid,nodev,noexec
        mount sysfs sysfs on /sys nosuid,nodev,noexec
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        device /dev/fuse c 10:229 0666 0:0
        device /dev/sda b 8:0 0660 0:6
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        working directory /data
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup nosuid,nodev,noexec
        enter the cgroup namespace
        pivot to the root
        hostname c0ffee
        process ["redis-server"] as 0:0 groups [0, 10] umask 0022 cwd /data
        environment ["PATH=/usr/bin:/bin", "HOSTNAME=c0ffee"]
        capabilities: bounding+effective+permitted all; inheritable+ambient none
        oom score adjustment 0
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// `--network host --pid host --uts host --ipc host`: what is not listed is the host's; no name is set.
#[test]
fn network_and_processes_of_the_host() {
    let mounts = json!([
        {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]},
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
        {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["bind"]},
    ]);
    let linux = json!({"namespaces": [{"type": "mount"}], "sysctl": null, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]});
    expect(
        &plan(DOCKER, json!({"hostname": null, "hooks": null, "mounts": mounts, "linux": linux})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        rbind /proc on /proc rprivate
        rbind /sys on /sys ro,rprivate
        bind /dev/shm on /dev/shm rprivate
        device /dev/null c 1:3 0666 0:0
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        working directory /data
        mask /proc/kcore
        read-only /proc/sys
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["redis-server"] as 0:0 groups [0, 10] umask 0022 cwd /data
        environment ["PATH=/usr/bin:/bin", "HOSTNAME=c0ffee"]
        capabilities: bounding+effective+permitted CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETGID CAP_NET_RAW CAP_MKNOD; inheritable+ambient none
        oom score adjustment 0
        session keyring _ses.web, which its user may search
    "#,
    );
}
