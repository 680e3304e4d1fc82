"""config.md: mounts and their options."""

import os

from harness import NotHere, Broken, case

# --- the structure of a mount ---


@case("config.md#mounts", "mounts are made in the listed order")
def mounts_in_order(t):
    t.mount("/m", "tmpfs", "first")
    t.mount("/m/n", "tmpfs", "second")
    t.mount("/m", "tmpfs", "third")
    got = t.sh("cat /proc/self/mountinfo")
    t.equal("third", t.mountinfo(got, "/m")["source"])
    order = [line.split(" - ")[1].split()[1] for line in got.splitlines() if line.split()[4].startswith("/m")]
    t.equal(["first", "second", "third"], order)


@case("config.md#mounts", "a relative destination is relative to /")
def mounts_relative_destination(t):
    t.mount("some/place", "tmpfs", "tmpfs")
    t.equal("tmpfs", t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/some/place")["type"])


@case("config.md#mounts", "destination is required")
def mounts_no_destination(t):
    t.config["mounts"].append({"type": "tmpfs", "source": "tmpfs"})
    t.refuses(why="a mount without destination")


@case("config.md#mounts", "source is optional")
def mounts_no_source(t):
    t.mount("/m", "tmpfs")
    t.equal("tmpfs", t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["type"])


@case("config.md#mounts", "a bind source may be relative to the bundle")
def mounts_relative_source(t):
    t.host_dir("data")
    t.host_file("data/x", "inside")
    t.mount("/m", "none", "data", ["bind"])
    t.equal("inside", t.sh("cat /m/x"))


@case("config.md#mounts", "type is a dummy for bind mounts and may be absent")
def mounts_bind_without_type(t):
    t.mount("/m", None, t.host_dir("data"), ["rbind"])
    t.equal("ok", t.sh("touch /m/x && echo ok"))
    t.true(os.path.exists(os.path.join(t.dir, "data/x")), "the source did not get the file")


@case("config.md#mounts", "a file may be bound, its mount point is made")
def mounts_bind_file(t):
    t.mount("/etc/fresh/file", "bind", t.host_file("file", "content"), ["bind"])
    t.equal("content", t.sh("cat /etc/fresh/file"))


@case("config.md#mounts", "a bind source that does not exist is an error that names it")
def mounts_bind_missing(t):
    t.mount("/m", "bind", os.path.join(t.dir, "no-such-source"), ["bind"])
    t.contains("no-such-source", t.refuses(why="a bind source that does not exist"))


@case("config.md#mounts", "a file system type that the kernel lacks is an error that names the mount")
def mounts_unknown_type(t):
    t.mount("/mount-point", "no-such-fs", "x")
    t.contains("/mount-point", t.refuses(why="the type no-such-fs"))


@case("config.md#mounts", "a directory cannot be bound onto a file")
def mounts_kinds_differ(t):
    t.own_file("/place", "")
    t.mount("/place", "bind", t.host_dir("data"), ["bind"])
    t.refuses(why="a directory on a file")


@case("config.md#mounts", "a destination that is a symbolic link is resolved inside the root")
def mounts_destination_link(t):
    outside = t.host_dir("outside")
    os.symlink(outside, os.path.join(t.rootfs, "link"))
    t.mount("/link/m", "tmpfs", "tmpfs")
    got = t.sh("cat /proc/self/mountinfo")
    t.equal("tmpfs", t.mountinfo(got, os.path.join(outside, "m"))["type"])
    t.equal([], os.listdir(outside), "what was made outside the root")


@case("config.md#mounts", "a destination with .. stays inside the root")
def mounts_destination_dots(t):
    t.mount("/../../../m", "tmpfs", "tmpfs")
    t.equal("tmpfs", t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["type"])


@case("runc: mounts", "a mount on /proc that is no proc is refused (the procfs of the container could be faked)")
def mounts_over_proc(t):
    t.no_mount("/proc")
    t.mount("/proc", "bind", t.host_dir("fake"), ["bind"])
    t.refuses(why="a directory bound on /proc")


@case("config.md#mounts", "an absent array of mounts is legal")
def mounts_absent(t):
    del t.config["mounts"]
    t.linux.pop("maskedPaths")
    t.linux.pop("readonlyPaths")
    t.equal("ok", t.sh("echo ok"))


@case("config.md#mounts", "200 mounts are made")
def mounts_many(t):
    for n in range(200):
        t.mount(f"/m/{n}", "tmpfs", f"s{n}")
    t.equal("200", t.sh("grep -c ' /m/' /proc/self/mountinfo"))


# --- options of a fresh file system and of a bind mount: what mountinfo(5) must say afterwards ---

_FLAGS = [  # option, wanted, unwanted
    ("ro", "ro", "rw"), ("rw", "rw", "ro"), ("nosuid", "nosuid", None), ("nodev", "nodev", None),
    ("noexec", "noexec", None), ("noatime", "noatime", "relatime"), ("nodiratime", "nodiratime", None),
    ("relatime", "relatime", None), ("strictatime", None, "relatime"), ("nosymfollow", "nosymfollow", None),
]


def _option(option, wanted, unwanted):
    @case("config.md#linux-mount-options", f"{option} on a file system", name=f"mount_{option}")
    def fresh(t):
        t.mount("/m", "tmpfs", "tmpfs", [option])
        got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["options"]
        t.true(wanted is None or wanted in got, f"no {wanted} in {got}")
        t.true(unwanted is None or unwanted not in got, f"{unwanted} in {got}")

    @case("config.md#linux-mount-options", f"{option} on a bind mount", name=f"mount_bind_{option}")
    def bound(t):
        t.mount("/m", "bind", t.host_dir("data"), ["bind", option])
        got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["options"]
        t.true(wanted is None or wanted in got, f"no {wanted} in {got}")
        t.true(unwanted is None or unwanted not in got, f"{unwanted} in {got}")


for _row in _FLAGS:
    _option(*_row)


def _opposite(option, clears):
    @case("config.md#linux-mount-options", f"{option} after {clears} takes it back", name=f"mount_{option}_after_{clears}")
    def taken_back(t):
        t.mount("/m", "tmpfs", "tmpfs", [clears, option])
        t.lacks(clears, ",".join(t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["options"]))


for _a, _b in (("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("atime", "noatime"), ("diratime", "nodiratime"),
               ("symfollow", "nosymfollow")):
    _opposite(_a, _b)


def _superblock(option, wanted):
    @case("config.md#linux-mount-options", f"{option} is a flag of the file system", name=f"mount_{option}")
    def flag(t):
        t.mount("/m", "tmpfs", "tmpfs", [option])
        got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")
        t.true(wanted in got["super"] + got["options"], f"no {wanted} in {got['super']}")


for _a, _b in (("sync", "sync"), ("dirsync", "dirsync"), ("lazytime", "lazytime")):
    _superblock(_a, _b)


@case("config.md#linux-mount-options", "the options that change nothing visible are known: none reaches the file system")
def mount_options_known(t):
    t.mount("/m", "tmpfs", "tmpfs", ["defaults", "async", "loud", "silent", "norelatime", "nostrictatime", "nolazytime",
                                     "noiversion", "nomand"])
    t.equal("ok", t.sh("touch /m/x && echo ok"))


@case("config.md#linux-mount-options", "iversion is known")
def mount_iversion(t):
    t.mount("/m", "tmpfs", "tmpfs", ["iversion"])
    t.equal("ok", t.sh("touch /m/x && echo ok"))


@case("config.md#linux-mount-options", "unknown options go to the file system: a known one of it")
def mount_data(t):
    t.mount("/m", "tmpfs", "tmpfs", ["size=64k", "mode=0711", "nr_inodes=77"])
    got = t.mountinfo(t.sh("cat /proc/self/mountinfo; stat -c %a /m >&2"), "/m")["super"]
    t.true({"size=64k", "mode=711", "nr_inodes=77"} <= set(got), f"{got}")


@case("config.md#linux-mount-options", "unknown options go to the file system, which refuses its unknown ones")
def mount_data_unknown(t):
    t.mount("/m", "tmpfs", "tmpfs", ["no-such-option"])
    t.refuses(why="no-such-option to a tmpfs")


@case("config.md#linux-mount-options", "bind takes one mount, rbind the tree beneath it too")
def mount_bind_or_rbind(t):
    import subprocess
    tree = t.host_dir("tree")
    os.mkdir(os.path.join(tree, "sub"))
    subprocess.run(["mount", "-t", "tmpfs", "below", os.path.join(tree, "sub")], check=True)
    try:
        t.mount("/one", "bind", tree, ["bind"])
        t.mount("/all", "bind", tree, ["rbind"])
        got = t.sh("cat /proc/self/mountinfo")
        t.equal("below", t.mountinfo(got, "/all/sub")["source"])
        t.lacks(" /one/sub ", got)
    finally:
        subprocess.run(["umount", os.path.join(tree, "sub")], check=True)


def _tree(t, destination, options):
    """A bind mount of a tree with a tmpfs in it; mountinfo inside for the two."""
    import subprocess
    tree = t.host_dir("tree")
    os.mkdir(os.path.join(tree, "sub"))
    subprocess.run(["mount", "-t", "tmpfs", "below", os.path.join(tree, "sub")], check=True)
    try:
        t.mount(destination, "bind", tree, options)
        got = t.sh("cat /proc/self/mountinfo")
        return t.mountinfo(got, destination)["options"], t.mountinfo(got, destination + "/sub")["options"]
    finally:
        subprocess.run(["umount", os.path.join(tree, "sub")], check=True)


@case("config.md#linux-mount-options", "ro on rbind is not recursive")
def mount_ro_is_not_recursive(t):
    top, below = _tree(t, "/m", ["rbind", "ro"])
    t.true("ro" in top and "rw" in below, f"top {top}, below {below}")


def _recursive(option, wanted):
    @case("config.md#linux-mount-options", f"{option} reaches the mounts beneath", name=f"mount_{option}")
    def recursive(t):
        top, below = _tree(t, "/m", ["rbind", option])
        t.true(wanted in top, f"no {wanted} in {top}")
        t.true(wanted in below, f"no {wanted} in {below} of the mount beneath")


for _a, _b in (("rro", "ro"), ("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec"), ("rnoatime", "noatime"),
               ("rnodiratime", "nodiratime"), ("rrelatime", "relatime"), ("rnosymfollow", "nosymfollow")):
    _recursive(_a, _b)


@case("config.md#linux-mount-options", "rrw, rsuid, rdev, rexec, ratime, rdiratime, rsymfollow, rstrictatime take it back")
def mount_recursive_opposites(t):
    top, below = _tree(t, "/m", ["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnosymfollow",
                                 "rrw", "rsuid", "rdev", "rexec", "rdiratime", "rsymfollow", "rstrictatime"])
    for got in (top, below):
        t.true("rw" in got and not {"nosuid", "nodev", "noexec", "nodiratime", "nosymfollow", "relatime"} & set(got), f"{got}")


_PROPAGATION = {"private": "", "shared": "shared:", "slave": "", "unbindable": "unbindable"}


def _propagation(option, wanted):
    @case("config.md#linux-mount-options", f"{option} is the propagation of the mount", name=f"mount_{option}")
    def propagated(t):
        t.mount("/m", "bind", t.host_dir("data"), ["rbind", option])
        got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["propagation"]
        if wanted:
            t.true(any(p.startswith(wanted) for p in got), f"no {wanted} in {got}")
        else:
            t.true(not any(p.startswith(("shared:", "unbindable")) for p in got), f"{got}")


for _a, _b in _PROPAGATION.items():
    _propagation(_a, _b)
    _propagation("r" + _a, _b)


@case("config.md#linux-mount-options", "slave: a mount of the host arrives, one of the container does not leave")
def mount_slave_receives(t):
    import subprocess
    data = t.host_dir("data")
    subprocess.run(["mount", "--bind", data, data], check=True)
    try:
        subprocess.run(["mount", "--make-shared", data], check=True)
        os.mkdir(os.path.join(data, "late"))
        t.linux["rootfsPropagation"] = "slave"
        t.mount("/m", "bind", data, ["rbind", "rslave"])
        t.up()
        subprocess.run(["mount", "-t", "tmpfs", "late", os.path.join(data, "late")], check=True)
        try:
            t.contains(" /m/late ", t.in_container("cat /proc/self/mountinfo"))
        finally:
            subprocess.run(["umount", os.path.join(data, "late")], check=True)
    finally:
        subprocess.run(["umount", "-l", data], check=True)


@case("config.md#linux-mount-options", "without a propagation option the container's mounts do not leak to the host")
def mount_default_does_not_leak(t):
    import subprocess
    data = t.host_dir("data")
    os.mkdir(os.path.join(data, "sub"))
    subprocess.run(["mount", "--bind", data, data], check=True)
    try:
        subprocess.run(["mount", "--make-shared", data], check=True)
        t.capable("CAP_SYS_ADMIN")
        t.mount("/m", "bind", data, ["rbind"])
        t.up()
        t.in_container("mount -t tmpfs inner /m/sub")
        with open("/proc/self/mountinfo") as file:
            t.lacks(data + "/sub", file.read())
    finally:
        subprocess.run(["umount", "-l", data], check=True)


@case("config.md#linux-mount-options", "remount changes a mount that an earlier entry made")
def mount_remount(t):
    t.mount("/m", "tmpfs", "tmpfs", ["size=64k"])
    t.mount("/m", "tmpfs", "tmpfs", ["remount", "ro", "size=64k"])
    t.equal("ro", t.sh("touch /m/x 2>/dev/null || echo ro"))


@case("config.md#linux-mount-options", "bind,remount changes the flags of a bind mount")
def mount_bind_remount(t):
    t.mount("/m", "bind", t.host_dir("data"), ["bind"])
    t.mount("/m", "bind", "none", ["bind", "remount", "ro", "noexec"])
    got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["options"]
    t.true({"ro", "noexec"} <= set(got), f"{got}")


@case("config.md#linux-mount-options", "a bind mount's ro does not make its source read-only on the host")
def mount_bind_ro_leaves_source(t):
    data = t.host_dir("data")
    t.mount("/m", "bind", data, ["bind", "ro"])
    t.up()
    with open(os.path.join(data, "x"), "w") as file:
        file.write("late")
    t.equal("late", t.in_container("cat /m/x"))


@case("config.md#linux-mount-options", "tmpcopyup copies what the destination held into the tmpfs")
def mount_tmpcopyup(t):
    t.own_file("/var/data/file", "kept", 0o640)
    os.chown(os.path.join(t.rootfs, "var/data/file"), 12, 34)
    os.symlink("file", os.path.join(t.rootfs, "var/data/link"))
    t.mount("/var/data", "tmpfs", "tmpfs", ["tmpcopyup", "mode=0750"])
    got = t.sh("cat /var/data/link; echo; stat -c '%a %u %g' /var/data/file; grep -c ' /var/data ' /proc/self/mountinfo")
    t.equal(["kept", "640 12 34", "1"], got.split("\n"))


@case("config.md#linux-mount-options", "a flag that is locked by the host does not make a bind mount fail in a user namespace")
def mount_locked_flags(t):
    import subprocess
    data = t.host_dir("data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "x", data], check=True)
    try:
        t.user_namespace()
        t.mount("/m", "bind", data, ["bind", "ro"])
        got = t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/m")["options"]
        t.true("ro" in got, f"{got}")
    finally:
        subprocess.run(["umount", "-l", data], check=True)


# --- idmap ---


def _mapped(t, options, tree=False, **more):
    """A bind mount of files of uid 1000 on the host; the owner as seen inside."""
    data = t.host_dir("data")
    os.chown(t.host_file("data/x"), 1000, 1000)
    t.mount("/m", "bind", data, options, **more)
    return t.sh("stat -c '%u %g' /m/x")


_IDS = [{"containerID": 1000, "hostID": 2000, "size": 10}]


@case("config.md#linux-mount-options", "idmap with mappings of the mount: ids of the source become those")
def mount_idmap(t):
    t.equal("2000 2000", _mapped(t, ["bind", "idmap"], uidMappings=_IDS, gidMappings=_IDS))


@case("config.md#linux-mount-options", "ridmap maps the mounts beneath too")
def mount_ridmap(t):
    import subprocess
    data = t.host_dir("data")
    os.mkdir(os.path.join(data, "sub"))
    subprocess.run(["mount", "--bind", t.host_dir("below"), os.path.join(data, "sub")], check=True)
    try:
        os.chown(t.host_file("data/sub/x"), 1000, 1000)
        t.mount("/m", "bind", data, ["rbind", "ridmap"], uidMappings=_IDS, gidMappings=_IDS)
        t.equal("2000 2000", t.sh("stat -c '%u %g' /m/sub/x"))
    finally:
        subprocess.run(["umount", "-l", os.path.join(data, "sub")], check=True)


@case("config.md#linux-mount-options", "idmap without mappings uses the user namespace of the container")
def mount_idmap_of_the_container(t):
    data = t.host_dir("data")
    os.chown(t.host_file("data/x"), 7, 7)
    t.user_namespace()
    t.mount("/m", "bind", data, ["bind", "idmap"])
    t.equal("7 7", t.sh("stat -c '%u %g' /m/x"))


@case("config.md#linux-mount-options", "idmap without mappings and without a user namespace is an error")
def mount_idmap_without_any(t):
    t.mount("/m", "bind", t.host_dir("data"), ["bind", "idmap"])
    t.refuses(why="idmap with nothing to map by")


@case("config.md#posix-platform-mounts", "uidMappings without gidMappings is an error")
def mount_idmap_half(t):
    t.mount("/m", "bind", t.host_dir("data"), ["bind", "idmap"], uidMappings=_IDS)
    t.refuses(why="uidMappings without gidMappings")


# --- file systems ---


@case("config-linux.md#default-filesystems", "/proc, /sys, /dev/pts and /dev/shm are the file systems of the table")
def default_filesystems(t):
    got = t.sh("cat /proc/self/mountinfo")
    t.equal(["proc", "sysfs", "devpts", "tmpfs"],
            [t.mountinfo(got, d)["type"] for d in ("/proc", "/sys", "/dev/pts", "/dev/shm")])


@case("config-linux.md#default-filesystems", "/proc is of the container's PID namespace")
def proc_of_the_namespace(t):
    t.equal("1", t.sh("cat /proc/self/stat >/dev/null; ls -d /proc/[0-9]* | grep -c '/1$'"))


@case("config-linux.md#default-filesystems", "devpts is an instance of the container's own")
def devpts_own_instance(t):
    t.equal("ptmx", t.sh("ls /dev/pts"))


@case("config-linux.md#default-filesystems", "mqueue is of the container's IPC namespace")
def mqueue_mounted(t):
    t.equal("mqueue", t.mountinfo(t.sh("cat /proc/self/mountinfo; ls /dev/mqueue"), "/dev/mqueue")["type"])


@case("runc: cgroup mounts", "a mount of type cgroup shows the container's cgroups")
def cgroup_mount(t):
    t.needs_cgroups()
    t.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    t.namespace("cgroup")
    if t.v2:
        t.equal("1", t.sh("grep -x 1 /sys/fs/cgroup/cgroup.procs"))
    else:
        t.equal("1", t.sh("grep -x 1 /sys/fs/cgroup/pids/cgroup.procs"))


@case("runc: cgroup mounts", "a mount of type cgroup without a cgroup namespace shows only the container's part")
def cgroup_mount_without_namespace(t):
    t.needs_cgroups()
    t.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    where = "/sys/fs/cgroup" if t.v2 else "/sys/fs/cgroup/pids"
    got = t.sh(f"find {where} -name cgroup.procs | xargs cat | sort -n | head -n 1")
    t.equal("1", got, "the lowest process id in sight")


@case("runc: cgroup mounts", "a read-only mount of type cgroup cannot be written")
def cgroup_mount_readonly(t):
    t.needs_cgroups()
    t.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    t.namespace("cgroup")
    where = "/sys/fs/cgroup" if t.v2 else "/sys/fs/cgroup/pids"
    t.equal("no", t.sh(f"mkdir {where}/x 2>/dev/null && echo yes || echo no"))
