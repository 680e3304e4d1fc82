//! One feature of the specification a case, each on the barest config.

use super::{BARE, compare, compile, exec, expect, plan};
use serde_json::json;

/// A new /dev that is to be read-only gets its devices first.
#[test]
fn read_only_root_and_dev() {
    let mounts = json!([
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "ro", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=1m"]},
    ]);
    expect(
        &plan(BARE, json!({"root": {"readonly": true}, "mounts": mounts})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount tmpfs tmpfs on /dev nosuid with mode=755
        mount tmpfs tmpfs on /tmp nosuid,nodev with size=1m
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
        wait for the parent: moved into the cgroups
        seal /dev read-only
        root read-only
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// Its size is the parent's business, who opens it.
#[test]
fn terminal() {
    let process = json!({"terminal": true, "consoleSize": {"height": 24, "width": 80}, "env": ["TERM=xterm"]});
    expect(
        &plan(BARE, json!({"process": process})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment ["TERM=xterm"]
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// Root is 100000 outside, and one more user has an id of the host; a bind without maps of its own takes these.
#[test]
fn user_namespace() {
    let namespaces = json!([{"type": "user"}, {"type": "mount"}, {"type": "pid"}, {"type": "network"}]);
    let uid = json!([{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 1000, "size": 1}]);
    let gid = json!([{"containerID": 0, "hostID": 200000, "size": 65536}]);
    let mounts = json!([{"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ridmap"]}]);
    let linux = json!({"namespaces": namespaces, "uidMappings": uid, "gidMappings": gid, "sysctl": {"user.max_user_namespaces": "0"}});
    expect(
        &plan(BARE, json!({"mounts": mounts, "linux": linux})),
        r#"
        new namespaces: user, pid, network, mount
        uid map 0 100000 1000
        uid map 1000 1000 1
        gid map 0 200000 65536
        root of the user namespace is 100000:200000 outside
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bring up the loopback device
        rbind /srv on /data rprivate ridmap by the user namespace
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
        sysctl user/max_user_namespaces = 0
        working directory /
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which all may search
    "#,
    );
}

#[test]
fn idmapped_mounts() {
    let (one, two) = (
        json!([{"containerID": 0, "hostID": 1000, "size": 1}]),
        json!([{"containerID": 0, "hostID": 5, "size": 3}, {"containerID": 9, "hostID": 8, "size": 1}]),
    );
    let mounts = json!([
        {"destination": "/one", "type": "bind", "source": "/srv", "options": ["bind"], "uidMappings": one.clone(), "gidMappings": two.clone()},
        {"destination": "/two", "type": "bind", "source": "srv", "options": ["rbind", "ridmap", "ro"], "uidMappings": two, "gidMappings": one},
    ]);
    expect(
        &plan(BARE, json!({"mounts": mounts})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bind /srv on /one rprivate idmap uids 0 1000 1 gids 0 5 3,9 8 1
        rbind /b/srv on /two ro,rprivate ridmap uids 0 5 3,9 8 1 gids 0 1000 1
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

#[test]
fn copied_up_and_remounted() {
    let mounts = json!([
        {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755", "noatime"]},
        {"destination": "/img", "type": "ext4", "source": "/dev/vdb", "options": ["ro", "iversion", "sync", "data=journal"]},
        {"destination": "/etc", "type": "tmpfs", "options": ["remount", "ro", "size=2m"]},
        {"destination": "/etc", "options": ["remount", "bind", "nosuid", "exec"]},
    ]);
    expect(
        &plan(BARE, json!({"mounts": mounts})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount tmpfs tmpfs on /etc noatime with mode=755 tmpcopyup
        mount ext4 /dev/vdb on /img ro with sync,ro,data=journal iversion
        remount /etc ro with ro,size=2m
        remount /etc itself nosuid,exec
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// A shared root is cloned while its peers are still known.
#[test]
fn recursive_attributes_and_propagation() {
    let mounts = json!([
        {"destination": "/a", "type": "bind", "source": "/srv", "options": ["rbind", "rro", "rnosuid", "rstrictatime"]},
        {"destination": "/b", "type": "bind", "source": "/srv", "options": ["rbind", "rro", "rw", "rslave", "shared"]},
        {"destination": "/c/../d", "type": "bind", "source": "/srv", "options": ["bind", "nosymfollow", "nodiratime", "relatime", "unbindable"]},
        {"destination": "t", "type": "tmpfs", "source": "tmpfs", "options": ["rshared"]},
    ]);
    expect(
        &plan(BARE, json!({"mounts": mounts, "linux": {"rootfsPropagation": "rshared"}})),
        r#"
        new namespaces: mount
        open the sources of binds
        open root /r
        make all mounts rprivate
        attach root /r
        rbind /srv on /a rro,rnosuid,rstrictatime,rprivate
        rbind /srv on /b rro,rw,rslave,shared
        bind /srv on /d nodiratime,nosymfollow,relatime,unbindable
        mount tmpfs tmpfs on /t rshared
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
        wait for the parent: moved into the cgroups
        pivot to the root
        root propagation rshared
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// A listed device takes the place of the default one; rules change nothing in the plan.
#[test]
fn devices() {
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 5, "gid": 6},
        {"path": "/dev/disk/by-id/x", "type": "b", "major": 253, "minor": 0},
        {"path": "/run/pipe", "type": "p", "fileMode": 416},
        {"path": "/dev/raw", "type": "u", "major": 162, "minor": 1},
    ]);
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 253, "minor": 0, "access": "r"}]);
    expect(
        &plan(BARE, json!({"linux": {"devices": devices, "resources": {"devices": rules}}})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
        device /dev/zero c 1:5 0666 0:0
        device /dev/full c 1:7 0666 0:0
        device /dev/random c 1:8 0666 0:0
        device /dev/urandom c 1:9 0666 0:0
        device /dev/tty c 5:0 0666 0:0
        device /dev/null c 1:3 0600 5:6
        device /dev/disk/by-id/x b 253:0 0666 0:0
        device /run/pipe p 0:0 0640 0:0
        device /dev/raw c 162:1 0666 0:0
        link /dev/ptmx to pts/ptmx
        link /dev/fd to /proc/self/fd
        link /dev/stdin to /proc/self/fd/0
        link /dev/stdout to /proc/self/fd/1
        link /dev/stderr to /proc/self/fd/2
        link /dev/core to /proc/kcore
        working directory /
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// In the order of their names, whatever the order of the map.
#[test]
fn sysctls() {
    let namespaces = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network", "path": "/run/netns/x"}]);
    let sysctl = json!({
        "net.ipv4.conf.eth0/1.forwarding": "1", "kernel.shmmax": "65536", "fs.mqueue.msg_max": "20", "net/core/somaxconn": "9",
        "kernel.domainname": "example", "kernel.sem": "250 32000 32 128"
    });
    expect(
        &plan(BARE, json!({"linux": {"namespaces": namespaces, "sysctl": sysctl}, "domainname": "example.org"})),
        r#"
        new namespaces: ipc, uts, mount
        join network namespace /run/netns/x
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        sysctl fs/mqueue/msg_max = 20
        sysctl kernel/domainname = example
        sysctl kernel/sem = 250 32000 32 128
        sysctl kernel/shmmax = 65536
        sysctl net/core/somaxconn = 9
        sysctl net/ipv4/conf/eth0.1/forwarding = 1
        working directory /
        wait for the parent: moved into the cgroups
        pivot to the root
        domainname example.org
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// Masks come after the hooks, which may mount; poststart and poststop are no part of the plan.
#[test]
fn hooks() {
    let hooks = json!({
        "prestart": [{"path": "/h/prestart"}],
        "createRuntime": [{"path": "/h/runtime", "args": ["runtime", "a b"], "env": ["K=V"], "timeout": 5}, {"path": "/h/second"}],
        "createContainer": [{"path": "/h/container"}], "startContainer": [{"path": "/h/start", "timeout": 1}],
        "poststart": [{"path": "/h/poststart"}], "poststop": [{"path": "/h/poststop"}],
    });
    let linux = json!({"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]});
    expect(
        &plan(BARE, json!({"hooks": hooks, "linux": linux})),
        r#"
        new namespaces: mount
        hook prestart 1: /h/prestart ["/h/prestart"] env []
        hook createRuntime 1: /h/runtime ["runtime", "a b"] env ["K=V"] timeout 5 s
        hook createRuntime 2: /h/second ["/h/second"] env []
        hook createContainer 1: /h/container ["/h/container"] env []
        hook startContainer 1: /h/start ["/h/start"] env [] timeout 1 s
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        wait for the parent: prestart and createRuntime hooks
        run createContainer hooks
        working directory /
        mask /proc/kcore
        read-only /proc/sys
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// Sysctls of a device come when it is there.
#[test]
fn network_devices() {
    let linux = json!({
        "namespaces": [{"type": "mount"}, {"type": "network"}], "netDevices": {"eth1": {"name": "lan0"}, "dummy0": {}, "veth7": {"name": "eth%d"}},
        "sysctl": {"net.ipv4.conf.lan0.rp_filter": "2"}
    });
    expect(
        &plan(BARE, json!({"linux": linux})),
        r#"
        new namespaces: network, mount
        network device dummy0 as dummy0
        network device eth1 as lan0
        network device veth7 as eth%d
        open the sources of binds
        make all mounts rprivate
        attach root /r
        bring up the loopback device
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
        sysctl net/ipv4/conf/lan0/rp_filter = 2
        working directory /
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

#[test]
fn seccomp_with_listener() {
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "listenerPath": "/run/agent.sock", "listenerMetadata": "m",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_NE"}]}
        ]
    });
    expect(
        &plan(BARE, json!({"linux": {"seccomp": seccomp}, "process": {"noNewPrivileges": true}})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        no new privileges
        session keyring _ses.web, which its user may search
        seccomp: 23 instructions, flags LOG|NEW_LISTENER, the listener goes to an agent
    "#,
    );
}

/// The groups of every hierarchy, or of the unified one alone; what is mounted over and under them waits, too.
#[test]
fn cgroup_mounts_and_namespace() {
    let mounts = json!([
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
        {"destination": "/sys/fs/cgroup/extra", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/unified", "type": "cgroup2", "source": "cgroup2", "options": ["rw", "rslave"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]);
    expect(
        &plan(BARE, json!({"mounts": mounts, "linux": {"namespaces": [{"type": "mount"}, {"type": "cgroup"}]}})),
        r#"
        new namespaces: mount, cgroup
        open the sources of binds
        make all mounts rprivate
        attach root /r
        mount sysfs sysfs on /sys ro
        mount tmpfs tmpfs on /tmp
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
        wait for the parent: moved into the cgroups
        mount cgroups on /sys/fs/cgroup ro,nosuid
        mount tmpfs tmpfs on /sys/fs/cgroup/extra
        mount cgroup2 on /unified rw,rslave
        enter the cgroup namespace
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

#[test]
fn time_namespace() {
    let offsets = json!({"monotonic": {"secs": 172800, "nanosecs": 5}, "boottime": {"secs": -3600}});
    let linux = json!({"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": offsets});
    expect(
        &plan(BARE, json!({"linux": linux})),
        r#"
        new namespaces: mount, time
        time offset boottime -3600 0
        time offset monotonic 172800 5
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// The affinity is an exec's alone (config.md, Linux Process): a plan of the init process has none.
#[test]
fn scheduling_memory_and_personality() {
    let process = json!({
        "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"], "runtime": 10, "deadline": 20, "period": 30},
        "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 3}, "execCPUAffinity": {"initial": "0", "final": "0-1"},
        "user": {"uid": 7, "gid": 8, "umask": 63}, "oomScoreAdj": 100, "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}],
        "capabilities": {"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    });
    let linux = json!({
        "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1,3", "flags": ["MPOL_F_STATIC_NODES"]}, "personality": {"domain": "LINUX32"}
    });
    expect(
        &plan(BARE, json!({"process": process, "linux": linux})),
        r#"
        new namespaces: mount
        open the sources of binds
        make all mounts rprivate
        attach root /r
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 7:8 groups [] umask 0077 cwd /
        environment []
        capabilities: bounding+inheritable+ambient CAP_KILL; effective+permitted none
        rlimit RLIMIT_CORE 0:unlimited
        oom score adjustment 100
        session keyring _ses.web, which its user may search
        io priority IOPRIO_CLASS_RT 3
        scheduler SCHED_DEADLINE nice 0 priority 0 flags 0x1 runtime 10 deadline 20 period 30
        memory policy MPOL_INTERLEAVE flags MPOL_F_STATIC_NODES nodes [b]
        personality PER_LINUX32
    "#,
    );
}

#[test]
fn affinity_of_an_exec() {
    let affinity = json!({"initial": "0", "final": "0-1,64"});
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "execCPUAffinity": affinity});
    compare(
        &exec(process),
        r#"
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        cpus before the cgroups [1]
        cpus after the cgroups [3, 1]
    "#,
    );
}

/// The host's mounts: nothing is mounted, the root is entered by chroot.
#[test]
fn no_mount_namespace() {
    expect(
        &plan(BARE, json!({"linux": {"namespaces": [{"type": "pid"}]}})),
        r#"
        new namespaces: pid
        root /r as it is
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
        wait for the parent: moved into the cgroups
        chroot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}

/// A joined mount namespace goes on hearing of the host's mounts.
#[test]
fn joined_mount_namespace() {
    let namespaces = json!([{"type": "mount", "path": "/run/mnt"}, {"type": "pid", "path": "/run/pid"}, {"type": "user", "path": "/run/user"}]);
    expect(
        &plan(BARE, json!({"linux": {"namespaces": namespaces}})),
        r#"
        new namespaces: none
        join user namespace /run/user
        join pid namespace /run/pid
        join mount namespace /run/mnt
        open the sources of binds
        make all mounts rslave
        attach root /r
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
        wait for the parent: moved into the cgroups
        pivot to the root
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which all may search
    "#,
    );
}

/// `--no-pivot`, for roots on a ramdisk.
#[test]
fn no_pivot() {
    expect(
        &compile(BARE, json!({"linux": {"rootfsPropagation": "slave"}}), true),
        r#"
        new namespaces: mount
        open the sources of binds
        open root /r
        make all mounts rprivate
        attach root /r
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
        wait for the parent: moved into the cgroups
        move the root to / and chroot
        root propagation slave
        process ["true"] as 0:0 groups [] umask 0022 cwd /
        environment []
        capabilities: bounding+effective+permitted+inheritable+ambient none
        session keyring _ses.web, which its user may search
    "#,
    );
}
