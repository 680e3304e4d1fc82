"""config-linux.md: control groups. Values are read back from the kernel's files, of v1 or v2 as the host has it."""

import os
import signal
import subprocess

from harness import Broken, NotHere, case, until


def _path(t, path=None):
    """An absolute cgroupsPath that carries the id, so that the harness finds what is left of it."""
    t.needs_cgroups()
    t.linux["cgroupsPath"] = path or f"/{t.id}"
    return t.linux["cgroupsPath"]


def _controller(t, name):
    """v1: the controller is mounted; v2: it is enabled at the root."""
    t.needs_cgroups()
    if t.v2:
        with open("/sys/fs/cgroup/cgroup.controllers") as file:
            if name not in file.read().split():
                raise NotHere(f"no {name} controller")
    elif not os.path.isdir(f"/sys/fs/cgroup/{name}"):
        raise NotHere(f"no {name} controller")


# --- Cgroups path ---


@case("config-linux.md#cgroups-path", "an absolute path is relative to the cgroup mount point")
def cgroups_path_absolute(t):
    path = _path(t)
    pid = t.up()
    t.true(t.cgroup_of(pid, "pids").endswith("/cgroup" + path) or t.cgroup_of(pid, "pids").endswith("/pids" + path), t.cgroup_of(pid, "pids"))


@case("config-linux.md#cgroups-path", "a relative path has its place, the same each time")
def cgroups_path_relative(t):
    t.needs_cgroups()
    t.linux["cgroupsPath"] = f"{t.id}/inner"
    first = t.cgroup_of(t.up(), "pids")
    t.call("delete", "--force", t.id)
    t.contains(f"{t.id}/inner", first)
    t.equal(first, t.cgroup_of(t.up(), "pids"))


@case("config-linux.md#cgroups-path", "a path with .. does not leave the hierarchy")
def cgroups_path_dots(t):
    t.needs_cgroups()
    t.linux["cgroupsPath"] = f"/../../../{t.id}"
    t.write()
    if t.call("create", "--bundle", t.dir, t.id, files=True).code == 0:
        t.true(t.cgroup_directories(), "the cgroup is not in the hierarchy")


@case("config-linux.md#cgroups-path", "without cgroupsPath the container has a cgroup of its own")
def cgroups_path_absent(t):
    t.needs_cgroups()
    own = t.cgroup_of(os.getpid(), "pids")
    t.true(t.cgroup_of(t.up(), "pids") != own, "the container is in the runtime's cgroup")


@case("config-linux.md#cgroups-path", "the process is in the cgroup of every hierarchy before its code runs")
def cgroups_joined(t):
    _path(t)
    t.up("cat /proc/self/cgroup")
    got = t.finish()[1]
    if t.v2:
        t.equal(f"0::/{t.id}", got)
    else:
        missing = [line for line in got.split("\n") if t.id not in line and line.split(":")[1] not in ("", "name=systemd", "rdma", "misc", "perf_event")]
        t.equal([], missing)


@case("runtime.md#delete", "the cgroup that create made is removed by delete")
def cgroups_removed(t):
    _path(t)
    t.up("true")
    t.finish()
    t.true(t.cgroup_directories(), "no cgroup was made")
    t.must("delete", t.id)
    t.equal([], t.cgroup_directories())


@case("runtime.md#delete", "cgroups that the container made beneath its own are removed by delete")
def cgroups_children_removed(t):
    path = _path(t)
    pid = t.up()
    inner = os.path.join(t.cgroup_of(pid, "pids"), "made-inside")
    os.mkdir(inner)
    t.must("kill", t.id, "KILL")
    t.finish()
    t.must("delete", t.id)
    t.equal([], t.cgroup_directories(), path)


@case("config-linux.md#control-groups", "an exec is in the container's cgroup")
def cgroups_exec(t):
    _path(t)
    t.up()
    t.contains(t.id, t.in_container("cat /proc/self/cgroup"))


@case("config-linux.md#control-groups", "a frozen cgroup is not fit for create")
def cgroups_frozen(t):
    _path(t)
    _controller(t, "cpu" if t.v2 else "freezer")
    directory = f"/sys/fs/cgroup/{'' if t.v2 else 'freezer/'}{t.id}"
    os.makedirs(directory)
    with open(os.path.join(directory, "cgroup.freeze" if t.v2 else "freezer.state"), "w") as file:
        file.write("1" if t.v2 else "FROZEN")
    t.write()
    result = t.call("create", "--bundle", t.dir, t.id, files=True, seconds=20)
    with open(os.path.join(directory, "cgroup.freeze" if t.v2 else "freezer.state"), "w") as file:
        file.write("0" if t.v2 else "THAWED")
    t.true(result.code != 0, "accepted: a frozen cgroup")


@case("config-linux.md#control-groups", "a cgroup with processes is not fit for create")
def cgroups_not_empty(t):
    _path(t)
    hierarchies = [""] if t.v2 else ["pids/", "memory/", "cpu/", "devices/", "freezer/"]
    pid = t.holder("--fork")
    for hierarchy in hierarchies:
        directory = f"/sys/fs/cgroup/{hierarchy}{t.id}"
        os.makedirs(directory)
        with open(os.path.join(directory, "cgroup.procs"), "w") as file:
            file.write(str(pid))
    t.write()
    result = t.call("create", "--bundle", t.dir, t.id, files=True)
    for hierarchy in hierarchies:
        with open(f"/sys/fs/cgroup/{hierarchy}cgroup.procs", "w") as file:
            file.write(str(pid))
    t.true(result.code != 0, "accepted: a cgroup with a process of somebody else's")


@case("config-linux.md#cgroup-ownership", "with a cgroup namespace and a writable mount the container's user owns its cgroup")
def cgroups_ownership(t):
    _path(t)
    t.needs_v2()
    t.user_namespace()
    t.namespace("cgroup")
    t.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime"])
    directory = t.cgroup_of(t.up(), "pids")
    t.equal(100000, os.stat(directory).st_uid, "the directory's owner")
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        t.equal(100000, os.stat(os.path.join(directory, name)).st_uid, name)
    t.equal(0, os.stat(os.path.join(directory, "memory.max")).st_uid, "memory.max")


@case("config-linux.md#cgroup-ownership", "with a read-only cgroup mount the ownership stays")
def cgroups_ownership_readonly(t):
    _path(t)
    t.needs_v2()
    t.user_namespace()
    t.namespace("cgroup")
    t.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"])
    t.equal(0, os.stat(t.cgroup_of(t.up(), "pids")).st_uid)


# --- Resources: what is configured is what the kernel says ---


def _resource(name, anchor, controller, resources, v1=None, v2=None):
    """`v1` and `v2`: (file, wanted text); None where the layout has no such thing."""

    @case(f"config-linux.md#{anchor}", f"{name.replace('_', '.', 1)} arrives in the kernel", name=f"resource_{name}")
    def resource(t):
        wanted = v2 if t.v2 else v1
        t.needs_cgroups()
        if wanted is None:
            raise NotHere("cgroup v2" if t.v2 else "cgroup v1")
        _controller(t, controller if t.v2 else wanted[0].split(".")[0])
        _path(t)
        t.resources(**resources)
        pid = t.up()
        got = t.cgroup_value(pid, wanted[0].split(".")[0], wanted[0])
        # Two conversions of shares to a weight are in use: linear (runc 1.1) and, since 2025, one that meets the default.
        t.true(got in wanted[1].split(" or "), f"{wanted[0]}: wanted «{wanted[1]}», got «{got}»")


M = 1 << 20
_resource("memory_limit", "memory", "memory", {"memory": {"limit": 64 * M}}, ("memory.limit_in_bytes", str(64 * M)), ("memory.max", str(64 * M)))
_resource("memory_reservation", "memory", "memory", {"memory": {"reservation": 32 * M}},
          ("memory.soft_limit_in_bytes", str(32 * M)), ("memory.low", str(32 * M)))
_resource("memory_swap", "memory", "memory", {"memory": {"limit": 64 * M, "swap": 96 * M}},
          ("memory.memsw.limit_in_bytes", str(96 * M)), ("memory.swap.max", str(32 * M)))
_resource("memory_unlimited", "memory", "memory", {"memory": {"limit": -1, "swap": -1}}, None, ("memory.max", "max"))
_resource("memory_swap_unlimited", "memory", "memory", {"memory": {"limit": 64 * M, "swap": -1}}, None, ("memory.swap.max", "max"))
_resource("memory_swappiness", "memory", "memory", {"memory": {"swappiness": 37}}, ("memory.swappiness", "37"))
_resource("memory_disableOOMKiller", "memory", "memory", {"memory": {"limit": 64 * M, "disableOOMKiller": True}},
          ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0"))
_resource("cpu_shares", "cpu", "cpu", {"cpu": {"shares": 2048}}, ("cpu.shares", "2048"), ("cpu.weight", "79 or 174"))
_resource("cpu_quota", "cpu", "cpu", {"cpu": {"quota": 40000, "period": 80000}}, ("cpu.cfs_quota_us", "40000"), ("cpu.max", "40000 80000"))
_resource("cpu_period", "cpu", "cpu", {"cpu": {"period": 80000}}, ("cpu.cfs_period_us", "80000"), ("cpu.max", "max 80000"))
_resource("cpu_quota_unlimited", "cpu", "cpu", {"cpu": {"quota": -1}}, ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000"))
_resource("cpu_burst", "cpu", "cpu", {"cpu": {"quota": 40000, "period": 80000, "burst": 20000}},
          ("cpu.cfs_burst_us", "20000"), ("cpu.max.burst", "20000"))
_resource("cpu_idle", "cpu", "cpu", {"cpu": {"idle": 1}}, ("cpu.idle", "1"), ("cpu.idle", "1"))
_resource("cpu_cpus", "cpu", "cpuset", {"cpu": {"cpus": "0"}}, ("cpuset.cpus", "0"), ("cpuset.cpus", "0"))
_resource("cpu_mems", "cpu", "cpuset", {"cpu": {"cpus": "0", "mems": "0"}}, ("cpuset.mems", "0"), ("cpuset.mems", "0"))
_resource("pids_limit", "pids", "pids", {"pids": {"limit": 23}}, ("pids.max", "23"), ("pids.max", "23"))
_resource("pids_unlimited", "pids", "pids", {"pids": {"limit": -1}}, ("pids.max", "max"), ("pids.max", "max"))
_resource("unified_memory_high", "unified", "memory", {"unified": {"memory.high": str(48 * M)}}, None, ("memory.high", str(48 * M)))
_resource("unified_pids", "unified", "pids", {"unified": {"pids.max": "44"}}, None, ("pids.max", "44"))


@case("config-linux.md#huge-page-limits", "hugepageLimits arrive in the kernel")
def resource_hugepages(t):
    _path(t)
    t.resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * M}])
    if t.v2:
        _controller(t, "hugetlb")
        t.equal(str(4 * M), t.cgroup_value(t.up(), "hugetlb", "hugetlb.2MB.max"))
        return
    if not os.path.exists("/sys/fs/cgroup/hugetlb") and "hugetlb" not in _unified_controllers():
        raise NotHere("no hugetlb controller")
    pid = t.up()
    values = []
    for base in (t.cgroup_of(pid, "hugetlb") if os.path.exists("/sys/fs/cgroup/hugetlb") else None, f"/sys/fs/cgroup/unified/{t.id}"):
        for name in ("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"):
            if base and os.path.exists(os.path.join(base, name)):
                with open(os.path.join(base, name)) as file:
                    values.append(file.read().strip())
    t.true(str(4 * M) in values, f"the limits are {values}")


def _unified_controllers():
    try:
        with open("/sys/fs/cgroup/unified/cgroup.controllers") as file:
            return file.read().split()
    except OSError:
        return []


@case("config-linux.md#huge-page-limits", "a page size that the machine lacks is an error")
def resource_hugepages_unknown_size(t):
    _path(t)
    t.resources(hugepageLimits=[{"pageSize": "3MB", "limit": 4 * M}])
    t.refuses(why="huge pages of 3MB")


def _disk():
    """A block device that takes I/O limits, as (major, minor)."""
    for name in sorted(os.listdir("/sys/block")):
        if name.startswith(("vd", "sd", "nvme", "xvd")):
            with open(f"/sys/block/{name}/dev") as file:
                return tuple(int(n) for n in file.read().split(":"))
    raise NotHere("no disk")


def _throttle(field, v1_file, v2_key):
    @case("config-linux.md#block-io", f"blockIO.{field} arrives in the kernel", name=f"resource_{field}")
    def throttle(t):
        _controller(t, "io" if t.v2 else "blkio")
        _path(t)
        major, minor = _disk()
        t.resources(blockIO={field: [{"major": major, "minor": minor, "rate": 1048576}]})
        pid = t.up()
        if t.v2:
            t.contains(f"{v2_key}=1048576", t.cgroup_value(pid, "io", "io.max"))
        else:
            t.equal(f"{major}:{minor} 1048576", t.cgroup_value(pid, "blkio", v1_file))


for _row in (("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
             ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
             ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
             ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops")):
    _throttle(*_row)


@case("config-linux.md#block-io", "blockIO.weight arrives in the kernel")
def resource_block_weight(t):
    _controller(t, "io" if t.v2 else "blkio")
    _path(t)
    t.resources(blockIO={"weight": 400})
    directory = "/sys/fs/cgroup" if t.v2 else "/sys/fs/cgroup/blkio"
    if not t.v2 and not any(os.path.exists(f"{directory}/{f}") for f in ("blkio.weight", "blkio.bfq.weight")):
        raise NotHere("no weights in this kernel's blkio")
    pid = t.up()
    found = []
    for name in ("io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight"):
        path = os.path.join(t.cgroup_of(pid, "io" if t.v2 else "blkio"), name)
        if os.path.exists(path):
            with open(path) as file:
                found.append(file.read().split("\n")[0])
    if not found:
        raise NotHere("no weights in this kernel's io")
    # v2: io.weight from 1 to 10000 for a weight from 10 to 1000; bfq takes the value as it is.
    t.true(any(v in ("400", "default 400", "default 3939", "default 3940") for v in found), f"{found}")


@case("config-linux.md#memory", "a memory limit is enforced: what exceeds it is killed")
def resource_memory_enforced(t):
    _controller(t, "memory")
    _path(t)
    t.resources(memory={"limit": 24 * M, "swap": 24 * M})
    t.script("dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?")
    t.equal("137", t.run().out.strip(), "the status of what took 100 MB")


@case("config-linux.md#pids", "a pids limit is enforced")
def resource_pids_enforced(t):
    _controller(t, "pids")
    _path(t)
    t.resources(pids={"limit": 4})
    t.script("for n in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo forked")
    t.lacks("forked", t.run().out)


@case("config-linux.md#cpu", "cpus are the process's affinity")
def resource_cpus_enforced(t):
    _controller(t, "cpuset")
    _path(t)
    t.resources(cpu={"cpus": "0"})
    t.equal("0", t.sh("grep Cpus_allowed_list /proc/self/status | cut -f2"))


@case("config-linux.md#cpu", "cpus that the machine lacks are an error")
def resource_cpus_absent(t):
    _controller(t, "cpuset")
    _path(t)
    t.resources(cpu={"cpus": "4000"})
    t.refuses(why="CPU 4000")


@case("config-linux.md#cpu", "a burst above the quota is an error")
def resource_burst_above_quota(t):
    _controller(t, "cpu")
    _path(t)
    t.resources(cpu={"quota": 10000, "period": 100000, "burst": 20000})
    t.refuses(why="burst above quota")


@case("config-linux.md#memory", "kernel and kernelTCP, not recommended, do not make create fail")
def resource_kernel_memory(t):
    _controller(t, "memory")
    _path(t)
    t.resources(memory={"limit": 64 * M, "kernel": -1, "kernelTCP": -1})
    t.equal("ok", t.sh("echo ok"))


@case("config-linux.md#network", "a network class on a host without net_cls is an error, not ignored")
def resource_network_absent(t):
    _path(t)
    if os.path.exists("/sys/fs/cgroup/net_cls"):
        raise NotHere("net_cls is mounted")
    t.resources(network={"classID": 1048577})
    t.refuses(why="network.classID without net_cls")


@case("config-linux.md#rdma", "a limit of an RDMA device that is not there is an error")
def resource_rdma_absent(t):
    _path(t)
    t.resources(rdma={"no_such_device": {"hcaHandles": 3}})
    t.refuses(why="rdma of a device that does not exist")


@case("config-linux.md#unified", "a file of no such name is an error")
def resource_unified_unknown(t):
    _path(t)
    t.needs_v2()
    t.resources(unified={"memory.no_such_file": "1"})
    t.refuses(why="unified memory.no_such_file")


@case("config-linux.md#unified", "a controller that is not there is an error")
def resource_unified_no_controller(t):
    _path(t)
    t.needs_v2()
    t.resources(unified={"nosuchcontroller.max": "1"})
    t.refuses(why="unified nosuchcontroller.max")


@case("config-linux.md#unified", "a key that leaves the cgroup is an error")
def resource_unified_path(t):
    _path(t)
    t.needs_v2()
    t.resources(unified={"../cgroup.procs": "1"})
    t.refuses(why="unified ../cgroup.procs")


@case("config-linux.md#unified", "on a host of cgroup v1 unified is an error: no conversion is possible")
def resource_unified_on_v1(t):
    _path(t)
    t.needs_v1()
    t.resources(unified={"memory.high": "100000000"})
    t.refuses(why="unified memory.high on v1")


@case("config-linux.md#memory", "a limit that is no number of bytes is an error")
def resource_memory_invalid(t):
    _path(t)
    t.resources(memory={"limit": -7})
    t.refuses(why="a memory limit of -7")


# --- Allowed device list ---

_ALLOW_DEFAULT = [{"allow": False, "access": "rwm"}]


def _devices(t, rules, script):
    _path(t)
    t.resources(devices=_ALLOW_DEFAULT + rules)
    t.capable("CAP_MKNOD")
    return t.sh(script)


def _enforced(t):
    """Whether this layout can enforce the list at all: v2 needs BPF."""
    if not t.v2 and not os.path.isdir("/sys/fs/cgroup/devices"):
        raise NotHere("no devices controller")
    if not os.path.exists("/dev/fuse"):
        raise NotHere("no /dev/fuse: the device that nothing but its permission keeps from being opened")


@case("config-linux.md#allowed-device-list", "a device that is not allowed cannot be opened")
def device_list_denied(t):
    _enforced(t)
    got = _devices(t, [], "mknod /fuse c 10 229; (exec 3< /fuse) 2>&1; true")
    t.contains("Operation not permitted", got)


@case("config-linux.md#allowed-device-list", "an allowed device can be opened in the allowed way only")
def device_list_access(t):
    _enforced(t)
    got = _devices(t, [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rm"}],
                   "mknod /fuse c 10 229; (exec 3< /fuse) && echo read; (exec 3> /fuse) 2>/dev/null || echo no-write")
    t.equal("read no-write", " ".join(got.split()))


@case("config-linux.md#allowed-device-list", "entries apply in the listed order: the later one wins")
def device_list_order(t):
    _enforced(t)
    got = _devices(t, [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
                       {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"}],
                   "mknod /fuse c 10 229; (exec 3< /fuse) && echo read; (exec 3> /fuse) 2>/dev/null || echo no-write")
    t.equal("read no-write", " ".join(got.split()))


@case("config-linux.md#allowed-device-list", "unset major and minor mean all")
def device_list_wildcard(t):
    _enforced(t)
    got = _devices(t, [{"allow": True, "type": "c", "major": 10, "access": "rwm"}],
                   "mknod /fuse c 10 229; (exec 3< /fuse) && echo read")
    t.equal("read", got)


@case("config-linux.md#allowed-device-list", "an empty entry that allows means everything")
def device_list_allow_all(t):
    _enforced(t)
    _path(t)
    t.resources(devices=[{"allow": True, "access": "rwm"}])
    t.equal("read", t.sh("mknod /fuse c 10 229; (exec 3< /fuse) && echo read"))


@case("config-linux.md#default-devices", "the default devices may be used whatever the list says")
def device_list_default_devices(t):
    _enforced(t)
    got = _devices(t, [], "for d in null zero full random urandom tty; do (exec 3< /dev/$d) 2>/dev/null && printf \"$d \"; done; true")
    t.contains("null zero full random urandom", got)


@case("config-linux.md#allowed-device-list", "an access letter of no meaning is an error")
def device_list_bad_access(t):
    _enforced(t)
    _path(t)
    t.resources(devices=[{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rx"}])
    t.refuses(why="the access rx")


# --- update, pause and events: what callers do with the cgroup ---


@case("runc: update", "update --memory changes the limit of a running container")
def update_memory(t):
    _controller(t, "memory")
    _path(t)
    t.resources(memory={"limit": 64 * M, "swap": 64 * M})
    pid = t.up()
    t.must("update", "--memory", str(32 * M), "--memory-swap", str(48 * M), t.id)
    t.equal(str(32 * M), t.cgroup_value(pid, "memory", "memory.max" if t.v2 else "memory.limit_in_bytes"))


@case("runc: update", "update --pids-limit, --cpu-quota, --cpu-period and --cpu-share change the values")
def update_several(t):
    _controller(t, "cpu")
    _path(t)
    pid = t.up()
    t.must("update", "--pids-limit", "31", "--cpu-quota", "30000", "--cpu-period", "60000", "--cpu-share", "512", t.id)
    t.equal("31", t.cgroup_value(pid, "pids", "pids.max"))
    if t.v2:
        t.equal("30000 60000", t.cgroup_value(pid, "cpu", "cpu.max"))
        t.true(t.cgroup_value(pid, "cpu", "cpu.weight") in ("20", "59"), "cpu.weight")
    else:
        t.equal(["30000", "60000", "512"], [t.cgroup_value(pid, "cpu", n) for n in ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")])


@case("runc: update", "update -r - reads resources from stdin")
def update_stdin(t):
    _controller(t, "pids")
    _path(t)
    pid = t.up()
    t.must("update", "-r", "-", t.id, stdin=b'{"pids": {"limit": 29}}')
    t.equal("29", t.cgroup_value(pid, "pids", "pids.max"))


@case("config-linux.md#memory", "checkBeforeUpdate: a limit below the usage is refused")
def update_check_before(t):
    _controller(t, "memory")
    _path(t)
    t.resources(memory={"limit": 64 * M, "swap": 64 * M})
    pid = t.up("dd if=/dev/zero of=/dev/shm/x bs=1M count=20; sleep 60")
    name = "memory.current" if t.v2 else "memory.usage_in_bytes"
    until(lambda: int(t.cgroup_value(pid, "memory", name)) > 18000000, "20 MB in use")
    result = t.call("update", "-r", "-", t.id, stdin=b'{"memory": {"limit": 4194304, "swap": 4194304, "checkBeforeUpdate": true}}')
    t.true(result.code != 0, "accepted: a limit below the usage")
    os.kill(pid, 0)


@case("runc: pause", "pause freezes, the state says paused, resume thaws")
def pause_resume(t):
    _controller(t, "cpu" if t.v2 else "freezer")
    _path(t)
    t.up("while :; do echo x; sleep 0.02; done")
    t.must("pause", t.id)
    t.equal("paused", t.status())
    size = len(t.output())
    subprocess.run(["sleep", "0.2"], check=True)
    t.equal(size, len(t.output()), "bytes written while paused")
    t.must("resume", t.id)
    t.equal("running", t.status())
    until(lambda: len(t.output()) > size, "it goes on")


@case("runc: pause", "pause of a paused container and resume of a running one are errors")
def pause_twice(t):
    _controller(t, "cpu" if t.v2 else "freezer")
    _path(t)
    t.up()
    t.true(t.call("resume", t.id).code != 0, "resume of a running container succeeds")
    t.must("pause", t.id)
    t.true(t.call("pause", t.id).code != 0, "pause of a paused container succeeds")
    t.must("resume", t.id)


@case("runc: exec", "an exec into a paused container is an error, it does not hang")
def pause_exec(t):
    _controller(t, "cpu" if t.v2 else "freezer")
    _path(t)
    t.up()
    t.must("pause", t.id)
    result = t.exec(["true"], seconds=20)
    t.must("resume", t.id)
    t.true(result.code != 0, "exec succeeded")


@case("runc: delete", "delete --force removes a paused container")
def pause_delete_force(t):
    _controller(t, "cpu" if t.v2 else "freezer")
    _path(t)
    t.up()
    t.must("pause", t.id)
    t.must("delete", "--force", t.id)
    t.gone()


@case("runc: kill", "kill KILL ends a paused container")
def pause_kill(t):
    _controller(t, "cpu" if t.v2 else "freezer")
    _path(t)
    t.up()
    t.must("pause", t.id)
    t.must("kill", t.id, "KILL")
    until(lambda: t.status() == "stopped", "it stops")


@case("runc: events", "events --stats prints one JSON object with the container's usage")
def events_stats(t):
    import json
    _controller(t, "pids")
    _path(t)
    t.up()
    got = json.loads(t.must("events", "--stats", t.id).out)
    t.equal(["stats", t.id], [got["type"], got["id"]])
    t.equal(1, got["data"]["pids"]["current"], "data.pids.current")
    t.true(got["data"]["memory"]["usage"]["usage"] > 0, "data.memory.usage.usage")
    t.true("total" in got["data"]["cpu"]["usage"], "data.cpu.usage.total")


@case("runc: kill --all", "kill --all reaches every process of a container without a PID namespace")
def kill_all(t):
    _path(t)
    t.no_namespace("pid")
    t.no_mount("/proc")
    t.mount("/proc", "bind", "/proc", ["rbind"])
    t.linux.pop("maskedPaths")
    t.linux.pop("readonlyPaths")
    t.up("sleep 77 & exec sleep 78")
    procs = os.path.join(t.cgroup_of(t.init, "pids"), "cgroup.procs")

    def members():
        with open(procs) as file:
            return [int(p) for p in file.read().split()]

    until(lambda: len(members()) == 2, "two processes")
    pids = members()
    t.must("kill", "--all", t.id, "KILL")
    for pid in pids:
        t.wait(pid)
    if not pids:
        raise Broken("no processes")
    until(lambda: t.status() == "stopped", "it stops")
    t.true(signal.SIGKILL, "")
