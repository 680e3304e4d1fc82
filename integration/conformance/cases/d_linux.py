"""config-linux.md: namespaces, user namespace mappings, time offsets, devices, sysctl, paths, propagation, the rest."""

import os
import subprocess

from harness import Broken, NotHere, case

NAMES = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "user": "user", "cgroup": "cgroup", "time": "time"}
FLAGS = {"pid": "--pid", "network": "--net", "mount": "--mount", "ipc": "--ipc", "uts": "--uts", "user": "--user", "cgroup": "--cgroup", "time": "--time"}

# --- Namespaces ---


def _have(kind):
    if not os.path.exists(f"/proc/self/ns/{NAMES[kind]}"):
        raise NotHere(f"this kernel has no {kind} namespaces")


def _new(kind):
    @case("config-linux.md#namespaces", f"a {kind} namespace without path is a new one", name=f"namespace_{kind}_new")
    def new(t):
        _have(kind)
        if kind == "user":
            t.user_namespace()
        else:
            t.namespace(kind)
        own = os.readlink(f"/proc/self/ns/{NAMES[kind]}")
        t.true(t.sh(f"readlink /proc/self/ns/{NAMES[kind]}") != own, "it is the runtime's own")


def _inherited(kind):
    @case("config-linux.md#namespaces", f"a {kind} namespace that is not listed is the runtime's",
          name=f"namespace_{kind}_inherited")
    def inherited(t):
        _have(kind)
        t.no_namespace(kind)
        if kind == "uts":
            del t.config["hostname"]
        if kind == "ipc":
            t.no_mount("/dev/mqueue")
        t.equal(os.readlink(f"/proc/self/ns/{NAMES[kind]}"), t.sh(f"readlink /proc/self/ns/{NAMES[kind]}"))


def _joined(kind):
    @case("config-linux.md#namespaces", f"a {kind} namespace with a path is the one at the path", name=f"namespace_{kind}_path")
    def joined(t):
        _have(kind)
        flags = [FLAGS[kind]]
        if kind == "pid":
            flags += ["--fork", "--kill-child"]
        pid = t.holder(*flags)
        if kind == "user":
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{pid}/{name}", "w") as file:
                    file.write("0 100000 1000")
        if kind == "pid":
            pid = int(subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()[0])
        path = f"/proc/{pid}/ns/{NAMES[kind]}"
        wanted = os.readlink(path)
        if kind == "user":
            t.user_namespace(100000, 1000)
            t.linux.pop("uidMappings")
            t.linux.pop("gidMappings")
        t.namespace(kind, path)
        if kind == "uts":
            del t.config["hostname"]
        t.equal(wanted, t.sh(f"readlink /proc/self/ns/{NAMES[kind]}"))


for _kind in NAMES:
    _new(_kind)
    if _kind != "mount":
        _inherited(_kind)
        _joined(_kind)


@case("config-linux.md#namespaces", "a path of a namespace of another type is an error")
def namespace_wrong_type(t):
    t.namespace("network", "/proc/self/ns/uts")
    t.refuses(why="a UTS namespace as network namespace")


@case("config-linux.md#namespaces", "a path that is no namespace is an error")
def namespace_no_namespace(t):
    t.namespace("network", t.host_file("file"))
    t.refuses(why="a plain file as network namespace")


@case("config-linux.md#namespaces", "a path that does not exist is an error that names it")
def namespace_missing_path(t):
    t.namespace("network", "/run/netns/no-such-namespace")
    t.contains("no-such-namespace", t.refuses(why="a namespace path that does not exist"))


@case("config-linux.md#namespaces", "a namespace path must be absolute")
def namespace_relative_path(t):
    t.namespace("network", "proc/self/ns/net")
    t.refuses(why="a relative namespace path")


@case("config-linux.md#namespaces", "two entries of one type are an error")
def namespace_twice(t):
    t.linux["namespaces"].append({"type": "ipc"})
    t.refuses(why="two ipc namespaces")


@case("config-linux.md#namespaces", "a type of no such name is an error")
def namespace_unknown(t):
    t.linux["namespaces"].append({"type": "flavour"})
    t.refuses(why="the namespace type flavour")


@case("config-linux.md#namespaces", "a namespace by path outlives the container")
def namespace_path_stays(t):
    pid = t.holder("--net")
    t.namespace("network", f"/proc/{pid}/ns/net")
    t.equal("ok", t.sh("echo ok"))
    subprocess.run(["nsenter", "--net", "-t", str(pid), "true"], check=True)


@case("config-linux.md#namespaces", "a process of the container sees only those of its PID namespace")
def namespace_pid_view(t):
    t.equal("1", t.sh("echo $$"))


@case("config-linux.md#namespaces", "a new network namespace has a loopback device of its own")
def namespace_network_loopback(t):
    t.namespace("network")
    t.equal("lo", t.sh("tail -n +3 /proc/net/dev | cut -d: -f1").strip())


@case("runc: network", "the loopback device of a new network namespace is up")
def namespace_network_loopback_up(t):
    t.namespace("network")
    t.equal("yes", t.sh("ip link show lo | grep -q 'UP' && echo yes || echo no"))


# --- User namespace mappings ---


@case("config-linux.md#user-namespace-mappings", "the mappings are those of the configuration")
def user_mappings(t):
    t.user_namespace()
    t.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 5000, "hostID": 300000, "size": 7}]
    t.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    got = [line.split() for line in t.sh("cat /proc/self/uid_map; cat /proc/self/gid_map").split("\n")]
    t.equal([["0", "100000", "1000"], ["5000", "300000", "7"], ["0", "100000", "65536"]], got)


@case("config-linux.md#user-namespace-mappings", "the process's ids are ids of the namespace")
def user_mapped_process(t):
    t.user_namespace()
    t.process["user"] = {"uid": 33, "gid": 44}
    pid = t.up()
    t.equal((100033, 100044), (os.stat(f"/proc/{pid}").st_uid, os.stat(f"/proc/{pid}").st_gid))


@case("config-linux.md#user-namespace-mappings", "a new user namespace without mappings is an error")
def user_without_mappings(t):
    t.namespace("user")
    t.namespace("network")
    t.refuses(why="a user namespace without mappings")


@case("config-linux.md#user-namespace-mappings", "mappings without a user namespace are an error, not ignored")
def user_mappings_without_namespace(t):
    t.linux["uidMappings"] = t.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    t.refuses(why="uidMappings without a user namespace")


@case("config-linux.md#user-namespace-mappings", "the ownership of the root file system is not modified")
def user_ownership_untouched(t):
    t.own_file("/mark")
    t.user_namespace()
    t.sh("echo ok")
    t.equal(0, os.stat(os.path.join(t.rootfs, "mark")).st_uid)


@case("config-linux.md#user-namespace-mappings", "the container's root is nobody special outside: it cannot read the host's files")
def user_cannot_read_host(t):
    secret = t.host_file("secret", "secret", 0o600)
    t.user_namespace()
    t.mount("/secret", "bind", secret, ["bind"])
    t.equal("no", t.sh("cat /secret 2>/dev/null && echo yes || echo no"))


@case("config-linux.md#user-namespace-mappings", "the default devices work in a user namespace")
def user_default_devices(t):
    t.user_namespace()
    t.equal("ok", t.sh("for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; echo x > /dev/null && echo ok"))


# --- Time offsets ---


@case("config-linux.md#offset-for-time-namespace", "timeOffsets are the offsets of the namespace's clocks")
def time_offsets(t):
    _have("time")
    t.namespace("time")
    t.linux["timeOffsets"] = {"monotonic": {"secs": 7200, "nanosecs": 5}, "boottime": {"secs": 86400}}
    got = [line.split() for line in t.sh("cat /proc/self/timens_offsets").split("\n")]
    t.equal([["monotonic", "7200", "5"], ["boottime", "86400", "0"]], got)


@case("config-linux.md#offset-for-time-namespace", "timeOffsets without a time namespace are an error, not ignored")
def time_offsets_without_namespace(t):
    t.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    t.refuses(why="timeOffsets without a time namespace")


@case("config-linux.md#offset-for-time-namespace", "an offset of another clock is an error")
def time_offsets_unknown_clock(t):
    _have("time")
    t.namespace("time")
    t.linux["timeOffsets"] = {"sundial": {"secs": 1}}
    t.refuses(why="the clock sundial")


# --- Devices ---

_DEFAULT = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9", "tty": "5 0"}


@case("config-linux.md#default-devices", "null, zero, full, random, urandom and tty are supplied and work")
def devices_default(t):
    got = t.sh("for d in null zero full random urandom tty; do stat -c '%n %F %t %T %a' /dev/$d; done;"
               "echo x > /dev/null; head -c 4 /dev/zero | wc -c; echo x 2>/dev/null > /dev/full || echo full; head -c 2 /dev/urandom | wc -c")
    lines = got.split("\n")
    for line, (name, numbers) in zip(lines, _DEFAULT.items()):
        major, minor = numbers.split()
        t.equal(f"/dev/{name} character special file {major} {minor} 666", line)
    t.equal(["4", "full", "2"], lines[6:])


@case("config-linux.md#default-devices", "/dev/ptmx is the container's /dev/pts/ptmx")
def devices_ptmx(t):
    t.equal("yes", t.sh("[ \"$(readlink /dev/ptmx)\" = pts/ptmx ] || [ \"$(stat -c %i /dev/ptmx)\" = \"$(stat -c %i /dev/pts/ptmx)\" ] && echo yes"))


@case("runc: /dev", "the links /dev/fd, stdin, stdout and stderr are made")
def devices_links(t):
    t.equal("/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2",
            t.sh("echo $(for l in fd stdin stdout stderr; do readlink /dev/$l; done)"))


def _device(kind, major, minor, says):
    @case("config-linux.md#devices", f"a device of type {kind} is available with its mode and owner", name=f"devices_type_{kind}")
    def device(t):
        entry = {"type": kind, "path": "/dev/of-the-config", "fileMode": 0o640, "uid": 12, "gid": 34}
        if kind != "p":
            entry.update(major=major, minor=minor)
        t.linux["devices"] = [entry]
        t.equal(f"{says} 640 12 34", t.sh("stat -c '%F %t:%T %a %u %g' /dev/of-the-config"))


_device("c", 10, 229, "character special file a:e5")
_device("u", 10, 229, "character special file a:e5")
_device("b", 7, 9, "block special file 7:9")
_device("p", 0, 0, "fifo 0:0")


@case("config-linux.md#devices", "a device may be outside of /dev, where directories are made for it")
def devices_elsewhere(t):
    t.linux["devices"] = [{"type": "c", "path": "/opt/deep/null", "major": 1, "minor": 3, "fileMode": 0o666}]
    t.equal("character special file", t.sh("stat -c %F /opt/deep/null"))


@case("config-linux.md#devices", "a device is usable: the umask takes nothing from its mode")
def devices_file_mode_exact(t):
    t.linux["devices"] = [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 0o777}]
    t.equal("777", t.sh("stat -c %a /dev/x"))


@case("config-linux.md#devices", "a file at path that is another thing is an error")
def devices_mismatch(t):
    t.own_file("/opt/x", "a file")
    t.linux["devices"] = [{"type": "c", "path": "/opt/x", "major": 1, "minor": 3}]
    t.refuses(why="a file in the device's place")


@case("config-linux.md#devices", "a device at path that is the one wanted is kept")
def devices_match(t):
    os.mknod(os.path.join(t.rootfs, "opt-null"), 0o020666, os.makedev(1, 3))
    t.linux["devices"] = [{"type": "c", "path": "/opt-null", "major": 1, "minor": 3, "fileMode": 0o666}]
    t.equal("ok", t.sh("echo x > /opt-null && echo ok"))


@case("config-linux.md#devices", "a type of no such letter is an error")
def devices_unknown_type(t):
    t.linux["devices"] = [{"type": "z", "path": "/dev/x", "major": 1, "minor": 3}]
    t.refuses(why="the device type z")


@case("config-linux.md#devices", "major and minor are required unless the type is p")
def devices_without_numbers(t):
    t.linux["devices"] = [{"type": "c", "path": "/dev/x"}]
    t.refuses(why="a device without major and minor")


@case("config-linux.md#devices", "path is required")
def devices_without_path(t):
    t.linux["devices"] = [{"type": "c", "major": 1, "minor": 3}]
    t.refuses(why="a device without path")


@case("config-linux.md#devices", "in a user namespace a device is supplied too")
def devices_in_user_namespace(t):
    if not os.path.exists("/dev/fuse"):
        raise NotHere("no /dev/fuse on the host")
    t.user_namespace()
    t.linux["devices"] = [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666}]
    t.equal("a:e5", t.sh("stat -c %t:%T /dev/fuse"))


# --- Sysctl ---


@case("config-linux.md#sysctl", "a parameter of a namespace of the container is set")
def sysctl_set(t):
    t.namespace("network")
    t.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}
    t.equal("1 9000", t.sh("echo $(cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax)"))


@case("config-linux.md#sysctl", "a parameter may be written with slashes")
def sysctl_slashes(t):
    t.namespace("network")
    t.linux["sysctl"] = {"net/ipv4/ip_forward": "1"}
    t.equal("1", t.sh("cat /proc/sys/net/ipv4/ip_forward"))


@case("config-linux.md#sysctl", "a parameter that no namespace of the container owns is refused: it would be the host's")
def sysctl_of_the_host(t):
    t.linux["sysctl"] = {"vm.swappiness": "61"}
    t.refuses(why="vm.swappiness")


@case("config-linux.md#sysctl", "a network parameter without a network namespace is refused: it would be the host's")
def sysctl_without_namespace(t):
    t.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    t.refuses(why="net.* without a network namespace")


@case("config-linux.md#sysctl", "an IPC parameter without an IPC namespace is refused: it would be the host's")
def sysctl_without_ipc(t):
    t.no_namespace("ipc")
    t.no_mount("/dev/mqueue")
    t.linux["sysctl"] = {"kernel.msgmax": "9000"}
    t.refuses(why="kernel.msgmax without an IPC namespace")


@case("config-linux.md#sysctl", "a parameter that does not exist is an error that names it")
def sysctl_unknown(t):
    t.namespace("network")
    t.linux["sysctl"] = {"net.no_such_parameter": "1"}
    t.contains("no_such_parameter", t.refuses(why="net.no_such_parameter"))


@case("config-linux.md#sysctl", "a value that the kernel refuses is an error")
def sysctl_bad_value(t):
    t.namespace("network")
    t.linux["sysctl"] = {"net.ipv4.ip_forward": "perhaps"}
    t.refuses(why="ip_forward=perhaps")


# --- Rootfs propagation ---


@case("config-linux.md#rootfs-mount-propagation", "shared: the root belongs to a peer group of its own")
def propagation_shared(t):
    t.linux["rootfsPropagation"] = "shared"
    got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/")["propagation"]
    t.true(any(p.startswith("shared:") for p in got), f"{got}")


@case("config-linux.md#rootfs-mount-propagation", "slave: the root is not shared")
def propagation_slave(t):
    t.linux["rootfsPropagation"] = "slave"
    got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/")["propagation"]
    t.true(not any(p.startswith("shared:") for p in got), f"{got}")


@case("config-linux.md#rootfs-mount-propagation", "private: the root has no peers and no master")
def propagation_private(t):
    t.linux["rootfsPropagation"] = "private"
    t.equal([], t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/")["propagation"])


@case("config-linux.md#rootfs-mount-propagation", "unbindable: the root cannot be bind-mounted")
def propagation_unbindable(t):
    t.linux["rootfsPropagation"] = "unbindable"
    t.equal(["unbindable"], t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/")["propagation"])


@case("config-linux.md#rootfs-mount-propagation", "another word is an error")
def propagation_unknown(t):
    t.linux["rootfsPropagation"] = "lively"
    t.refuses(why="rootfsPropagation lively")


@case("config-linux.md#rootfs-mount-propagation", "a container's mounts do not reach the host, whatever the host's root is")
def propagation_does_not_leak(t):
    t.up()
    with open("/proc/self/mountinfo") as file:
        t.lacks(t.rootfs, file.read())


# --- Masked and read-only paths, mount label, personality ---


@case("config-linux.md#masked-paths", "a masked file cannot be read: it is empty")
def masked_file(t):
    t.own_file("/secret", "secret")
    t.linux["maskedPaths"] = ["/secret"]
    t.equal("0", t.sh("cat /secret 2>/dev/null | wc -c"))


@case("config-linux.md#masked-paths", "a masked directory is empty and read-only")
def masked_directory(t):
    t.own_file("/secrets/one", "secret")
    t.linux["maskedPaths"] = ["/secrets"]
    t.equal("0 ro", t.sh("echo $(ls /secrets | wc -l) $(touch /secrets/x 2>/dev/null && echo rw || echo ro)"))


@case("config-linux.md#masked-paths", "a masked path that does not exist is no error")
def masked_missing(t):
    t.linux["maskedPaths"] = ["/proc/no-such-file", "/no/such/place"]
    t.equal("ok", t.sh("echo ok"))


@case("config-linux.md#masked-paths", "a masked path must be absolute")
def masked_relative(t):
    t.own_file("/secret", "secret")
    t.linux["maskedPaths"] = ["secret"]
    t.refuses(why="a relative masked path")


@case("config-linux.md#masked-paths", "many masked paths: each of them is masked")
def masked_many(t):
    for n in range(40):
        t.own_file(f"/s/d{n}/x", "secret")
    t.linux["maskedPaths"] = [f"/s/d{n}" for n in range(40)]
    t.equal("0", t.sh("cat /s/*/* 2>/dev/null | wc -c"))


@case("config-linux.md#readonly-paths", "a read-only path cannot be written, with all beneath it")
def readonly_path(t):
    t.own_file("/data/sub/file", "x")
    t.linux["readonlyPaths"] = ["/data"]
    t.equal("ro ro x", t.sh("echo $(touch /data/x 2>/dev/null || echo ro) $(touch /data/sub/y 2>/dev/null || echo ro) $(cat /data/sub/file)"))


@case("config-linux.md#readonly-paths", "a read-only file cannot be written")
def readonly_file(t):
    t.own_file("/file", "x")
    t.linux["readonlyPaths"] = ["/file"]
    t.equal("ro", t.sh("echo y 2>/dev/null >> /file || echo ro"))


@case("config-linux.md#readonly-paths", "a read-only path keeps the flags of the mount it is on")
def readonly_keeps_flags(t):
    t.linux["readonlyPaths"] = ["/proc/sys"]
    t.config["mounts"][0]["options"] = ["nosuid", "noexec", "nodev"]
    got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/proc/sys")["options"]
    t.true({"ro", "nosuid", "noexec", "nodev"} <= set(got), f"{got}")


@case("config-linux.md#readonly-paths", "a read-only path that does not exist is no error")
def readonly_missing(t):
    t.linux["readonlyPaths"] = ["/proc/no-such-file"]
    t.equal("ok", t.sh("echo ok"))


@case("config-linux.md#readonly-paths", "a read-only path must be absolute")
def readonly_relative(t):
    t.own_file("/data/x")
    t.linux["readonlyPaths"] = ["data"]
    t.refuses(why="a relative read-only path")


@case("config-linux.md#mount-label", "mountLabel on a host without SELinux is an error, not ignored")
def mount_label_refused(t):
    t.linux["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    t.refuses(why="mountLabel without SELinux")


@case("config-linux.md#personality", "LINUX32 shows a 32-bit machine")
def personality_linux32(t):
    if os.uname().machine != "x86_64":
        raise NotHere("not x86_64")
    t.linux["personality"] = {"domain": "LINUX32"}
    t.equal("i686", t.sh("uname -m"))


@case("config-linux.md#personality", "LINUX is the kernel's own")
def personality_linux(t):
    t.linux["personality"] = {"domain": "LINUX"}
    t.equal(os.uname().machine, t.sh("uname -m"))


@case("config-linux.md#personality", "another domain is an error")
def personality_unknown(t):
    t.linux["personality"] = {"domain": "SOLARIS"}
    t.refuses(why="the personality SOLARIS")


@case("config-linux.md#personality", "no flags are supported: one is an error")
def personality_flags(t):
    t.linux["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}
    t.refuses(why="a personality flag")


@case("config-linux.md#personality", "an exec has the container's personality too")
def personality_exec(t):
    if os.uname().machine != "x86_64":
        raise NotHere("not x86_64")
    t.linux["personality"] = {"domain": "LINUX32"}
    t.up()
    t.equal("i686", t.in_container("uname -m"))


# --- intelRdt, memoryPolicy, netDevices ---


@case("config-linux.md#intelrdt", "without a mounted resctrl file system intelRdt is an error")
def intel_rdt_without_resctrl(t):
    with open("/proc/self/mountinfo") as file:
        if " - resctrl " in file.read():
            raise NotHere("resctrl is mounted")
    t.linux["intelRdt"] = {"closID": "group", "l3CacheSchema": "L3:0=f"}
    t.refuses(why="intelRdt without resctrl")


def _numa():
    if not os.path.exists("/proc/self/numa_maps"):
        raise NotHere("a kernel without NUMA")


@case("config-linux.md#memory-policy", "memoryPolicy: the mode and nodes are the process's policy")
def memory_policy_bind(t):
    _numa()
    t.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    t.contains(" bind:0 ", t.sh("cat /proc/self/numa_maps"))


@case("config-linux.md#memory-policy", "memoryPolicy: flags")
def memory_policy_flags(t):
    _numa()
    t.linux["memoryPolicy"] = {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    t.contains(" interleave=static:0 ", t.sh("cat /proc/self/numa_maps"))


@case("config-linux.md#memory-policy", "memoryPolicy: a mode of no such name is an error")
def memory_policy_unknown(t):
    t.linux["memoryPolicy"] = {"mode": "MPOL_SOMEHOW", "nodes": "0"}
    t.refuses(why="MPOL_SOMEHOW")


@case("config-linux.md#memory-policy", "memoryPolicy: nodes that are no list are an error")
def memory_policy_bad_nodes(t):
    t.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "all"}
    t.refuses(why="the nodes «all»")


def _device_of_the_host(name):
    """A network device of the runtime's namespace; the kernels of some hosts have no dummy devices, but all have veth."""
    for kind in (["dummy"], ["veth", "peer", "name", name + "p"]):
        if subprocess.run(["ip", "link", "add", name, "type", *kind], check=False, capture_output=True).returncode == 0:
            return
    raise NotHere("neither dummy nor veth devices")


@case("config-linux.md#network-devices", "netDevices: the device is moved into the container's network namespace")
def net_devices_moved(t):
    _device_of_the_host("conf0")
    try:
        t.namespace("network")
        t.linux["netDevices"] = {"conf0": {}}
        t.contains("conf0", t.sh("ip -o link"))
    finally:
        subprocess.run(["ip", "link", "del", "conf0"], check=False, capture_output=True)


@case("config-linux.md#network-devices", "netDevices: the name is the device's name inside; addresses come along")
def net_devices_renamed(t):
    _device_of_the_host("conf1")
    try:
        subprocess.run(["ip", "addr", "add", "192.0.2.9/24", "dev", "conf1"], check=True)
        subprocess.run(["ip", "link", "set", "conf1", "up"], check=True)
        t.namespace("network")
        t.linux["netDevices"] = {"conf1": {"name": "eth7"}}
        got = t.sh("ip -o addr show eth7; ip -o link show eth7")
        t.contains("192.0.2.9/24", got)
        t.contains("UP", got)
    finally:
        subprocess.run(["ip", "link", "del", "conf1"], check=False, capture_output=True)


@case("config-linux.md#network-devices", "netDevices: a device that does not exist is an error")
def net_devices_missing(t):
    t.namespace("network")
    t.linux["netDevices"] = {"nosuchdev0": {}}
    t.contains("nosuchdev0", t.refuses(why="a network device that does not exist"))


@case("config-linux.md#network-devices", "netDevices without a network namespace of the container is an error")
def net_devices_without_namespace(t):
    _device_of_the_host("conf2")
    try:
        t.linux["netDevices"] = {"conf2": {}}
        t.refuses(why="netDevices without a network namespace")
    finally:
        subprocess.run(["ip", "link", "del", "conf2"], check=False, capture_output=True)


@case("config-linux.md#network-devices", "netDevices: an illegal name is an error")
def net_devices_bad_name(t):
    _device_of_the_host("conf3")
    try:
        t.namespace("network")
        t.linux["netDevices"] = {"conf3": {"name": "a/b"}}
        t.refuses(why="the device name a/b")
    finally:
        subprocess.run(["ip", "link", "del", "conf3"], check=False, capture_output=True)


@case("config.md#platform-specific-configuration", "the sections of other platforms are ignored")
def other_platforms(t):
    t.config["windows"] = {"layerFolders": ["x"]}
    t.config["solaris"] = {"milestone": "x"}
    if t.sh("echo ok") != "ok":
        raise Broken("not run")
