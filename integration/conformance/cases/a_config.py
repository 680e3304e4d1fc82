"""config.md: version, root, process, user, hostname, annotations, extensibility."""

from harness import Broken, NotHere, case, receive_fd

# --- Specification version, Root ---


def _version(version):
    @case("config.md#specification-version", f"ociVersion {version} is of the supported major version",
          name=f"version_{version.replace('.', '_').replace('-', '_')}")
    def accepted(t):
        t.config["ociVersion"] = version
        t.equal("ok", t.sh("echo ok"))


for _v in ("1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0"):
    _version(_v)


@case("config.md#specification-version", "ociVersion is required")
def version_missing(t):
    del t.config["ociVersion"]
    t.refuses(why="no ociVersion")


@case("config.md#specification-version", "ociVersion is in SemVer 2.0.0 form")
def version_not_semver(t):
    t.config["ociVersion"] = "one"
    t.refuses(why="ociVersion «one»")


@case("config.md#specification-version", "another major version is not compatible")
def version_of_another_major(t):
    t.config["ociVersion"] = "2.0.0"
    t.refuses(why="ociVersion 2.0.0")


@case("config.md#root", "root.path may be relative to the bundle")
def root_relative(t):
    t.own_file("/mark", "here")
    t.equal("here", t.sh("cat /mark"))


@case("config.md#root", "root.path may be absolute")
def root_absolute(t):
    t.own_file("/mark", "here")
    t.config["root"]["path"] = t.rootfs
    t.equal("here", t.sh("cat /mark"))


@case("config.md#root", "a directory must exist at root.path")
def root_missing_directory(t):
    t.config["root"]["path"] = "nowhere"
    t.refuses(why="a root.path that does not exist")


@case("config.md#root", "a directory, not a file, must exist at root.path")
def root_is_a_file(t):
    t.host_file("file")
    t.config["root"]["path"] = "file"
    t.refuses(why="a root.path that is a file")


@case("config.md#root", "root is required on Linux")
def root_absent(t):
    del t.config["root"]
    t.refuses(why="no root")


@case("config.md#root", "root.readonly: the root file system is read-only inside")
def root_readonly(t):
    t.config["root"]["readonly"] = True
    t.equal("ro", t.sh("touch /x 2>/dev/null && echo rw || echo ro"))


@case("config.md#root", "root.readonly defaults to false")
def root_writable_by_default(t):
    del t.config["root"]["readonly"]
    t.equal("rw", t.sh("touch /x && echo rw"))


@case("config.md#root", "root.readonly does not make other mounts read-only")
def root_readonly_leaves_mounts(t):
    t.config["root"]["readonly"] = True
    t.mount("/tmp", "tmpfs", "tmpfs")
    t.equal("rw", t.sh("touch /tmp/x && echo rw"))


@case("config.md#root", "the root of a read-only container can have mount points made for it")
def root_readonly_new_mount_point(t):
    t.config["root"]["readonly"] = True
    t.mount("/fresh/point", "tmpfs", "tmpfs")
    t.equal("rw", t.sh("touch /fresh/point/x && echo rw"))


# --- Process ---


@case("config.md#process", "cwd is the working directory of the executable")
def process_cwd(t):
    t.process["cwd"] = "/tmp"
    t.equal("/tmp", t.sh("pwd"))


@case("config.md#process", "cwd must be absolute")
def process_cwd_relative(t):
    t.process["cwd"] = "tmp"
    t.refuses(why="a relative cwd")


@case("config.md#process", "cwd is required")
def process_cwd_absent(t):
    del t.process["cwd"]
    t.refuses(why="no cwd")


@case("runc: process.cwd", "a cwd that does not exist is made, as every caller expects (WORKDIR)")
def process_cwd_made(t):
    t.process["cwd"] = "/srv/app"
    t.equal("/srv/app", t.sh("pwd"))


@case("config.md#process", "env is the environment, complete and in order")
def process_env(t):
    t.process["env"] = ["PATH=/bin", "B=two words", "A=", "HOME=/h"]
    t.process["args"] = ["env"]
    got = t.run().out.split("\n")
    t.equal(["PATH=/bin", "B=two words", "A=", "HOME=/h"], [line for line in got if line])


@case("runc: process.env", "HOME is set from /etc/passwd when env has none")
def process_env_home(t):
    t.process["env"] = ["PATH=/bin"]
    t.process["user"] = {"uid": 1000, "gid": 1000}
    t.equal("/home/example", t.sh("echo $HOME"))


@case("config.md#process", "args[0] is searched in the PATH of env, as execvp does")
def process_args_search(t):
    t.own_file("/opt/tool", "#!/bin/sh\necho found\n", 0o755)
    t.process["env"] = ["PATH=/opt:/bin"]
    t.process["args"] = ["tool"]
    t.equal("found\n", t.run().out)


@case("config.md#process", "args are passed as they are")
def process_args_verbatim(t):
    t.process["args"] = ["printf", "%s|", "", "a b", "$HOME", "*", "é"]
    t.equal("|a b|$HOME|*|é|", t.run().out)


@case("config.md#process", "at least one entry of args is required")
def process_args_empty(t):
    t.process["args"] = []
    t.refuses(why="empty args")


@case("config.md#process", "args is required on Linux")
def process_args_absent(t):
    del t.process["args"]
    t.refuses(why="no args")


@case("config.md#process", "an executable that is not there is an error that names it")
def process_args_not_found(t):
    t.process["args"] = ["no-such-program"]
    t.contains("no-such-program", t.refuses_by_start("a program that does not exist"))


@case("config.md#process", "an executable that is not executable is an error")
def process_args_not_executable(t):
    t.own_file("/plain", "text", 0o644)
    t.process["args"] = ["/plain"]
    t.refuses_by_start("a program without x")


@case("config.md#process", "process is required when start is called")
def process_absent(t):
    del t.config["process"]
    t.refuses_by_start("no process")


@case("config.md#process", "without terminal the standard streams are the caller's")
def process_without_terminal(t):
    t.script("cat; echo err >&2; [ -t 0 ] && echo terminal")
    result = t.run(stdin=b"typed\n")
    t.equal("typed\n", result.out)
    t.contains("err", result.err)


def _console(t, script, **size):
    """Runs the script with a terminal through --console-socket; what came out of its master end."""
    import os
    listening, path = t.listener("c")
    t.process["terminal"] = True
    if size:
        t.process["consoleSize"] = size
    t.script(script)
    t.create("--console-socket", path)
    connection, _ = listening.accept()
    _, fds = receive_fd(connection)
    if not fds:
        raise Broken("no file descriptor came over the console socket")
    t.start()
    out = b""
    while True:
        try:
            got = os.read(fds[0], 4096)
        except OSError:  # EIO: every slave end is closed
            break
        if not got:
            break
        out += got
    os.close(fds[0])
    return out.decode(errors="replace").replace("\r\n", "\n").strip()


@case("config.md#process", "terminal: the three standard streams are a pseudo-terminal of the container")
def process_terminal(t):
    t.equal("tty tty tty", _console(t, "for n in 0 1 2; do [ -t $n ] && printf 'tty '; done"))


@case("config.md#process", "terminal: the terminal controls the process's session")
def process_terminal_controls(t):
    t.equal("yes", _console(t, "(: < /dev/tty) && echo yes"))


@case("config-linux.md#default-devices", "terminal: /dev/console is the terminal")
def process_terminal_console(t):
    got = _console(t, "[ -c /dev/console ] && ls -lL /dev/console | tr -s ' ' | cut -d' ' -f5; echo on > /dev/console")
    t.contains("136", got)
    t.contains("on", got)


@case("config.md#process", "consoleSize sets the size of the terminal")
def process_console_size(t):
    t.equal("31 97", _console(t, "stty size", height=31, width=97))


@case("config.md#process", "consoleSize is ignored without terminal")
def process_console_size_ignored(t):
    t.process["consoleSize"] = {"height": 31, "width": 97}
    t.equal("ok", t.sh("echo ok"))


@case("runc: --console-socket", "create with a terminal needs a console socket")
def process_terminal_without_socket(t):
    t.process["terminal"] = True
    t.refuses(why="terminal without --console-socket")


@case("runc: --console-socket", "a console socket without terminal is an error")
def process_socket_without_terminal(t):
    listening, path = t.listener("c")
    t.refuses("--console-socket", path, why="--console-socket without terminal")
    listening.close()


# --- POSIX process: rlimits ---

_LIMITS = {"RLIMIT_CORE": "Max core file size", "RLIMIT_CPU": "Max cpu time", "RLIMIT_DATA": "Max data size",
           "RLIMIT_FSIZE": "Max file size", "RLIMIT_LOCKS": "Max file locks", "RLIMIT_MEMLOCK": "Max locked memory",
           "RLIMIT_MSGQUEUE": "Max msgqueue size", "RLIMIT_NICE": "Max nice priority",
           "RLIMIT_NOFILE": "Max open files", "RLIMIT_NPROC": "Max processes", "RLIMIT_RSS": "Max resident set",
           "RLIMIT_RTPRIO": "Max realtime priority", "RLIMIT_RTTIME": "Max realtime timeout",
           "RLIMIT_SIGPENDING": "Max pending signals", "RLIMIT_STACK": "Max stack size",
           "RLIMIT_AS": "Max address space"}


@case("config.md#posix-process", "getrlimit gives the configured soft and hard limit, for every resource")
def rlimits_every_resource(t):
    wanted, limits = {}, []
    with open("/proc/self/limits") as file:
        now = file.read()
    for kind, words in _LIMITS.items():
        hard = next(line for line in now.splitlines() if line.startswith(words))[26:].split()[1]
        hard = (1 << 62) if hard == "unlimited" else int(hard)
        hard = min(hard, 1 << 40)
        soft = hard - 1 if 0 < hard < 1 << 30 else hard
        limits.append({"type": kind, "soft": soft, "hard": hard})
        wanted[words] = [str(soft), str(hard)]
    t.process["rlimits"] = limits
    got = t.sh("cat /proc/self/limits")
    for words, values in wanted.items():
        line = next(line for line in got.splitlines() if line.startswith(words))
        t.equal(values, line[26:].split()[:2], words)


@case("config.md#posix-process", "the soft limit is enforced")
def rlimits_enforced(t):
    t.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 17, "hard": 19}]
    t.equal("17 19", t.sh("echo $(ulimit -Sn) $(ulimit -Hn)"))


@case("config.md#posix-process", "a resource that the kernel does not know is an error")
def rlimits_unknown(t):
    t.process["rlimits"] = [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]
    t.refuses(why="RLIMIT_NONSENSE")


@case("config.md#posix-process", "two entries of one type are an error")
def rlimits_twice(t):
    t.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}] * 2
    t.refuses(why="RLIMIT_NOFILE twice")


@case("config.md#valid-values", "a soft limit above the hard one is an error")
def rlimits_soft_above_hard(t):
    t.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 32}]
    t.refuses_by_start("soft 64, hard 32")


# --- Linux process ---

_SETS = {"inheritable": "CapInh", "permitted": "CapPrm", "effective": "CapEff", "bounding": "CapBnd", "ambient": "CapAmb"}


def _sets(t, script="cat /proc/self/status"):
    return dict(line.split(":\t") for line in t.sh(script).splitlines() if line.startswith("Cap"))


@case("config.md#linux-process", "each capability set is what the configuration says")
def capabilities_each_set(t):
    t.process["capabilities"] = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
                                 "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    got = _sets(t)
    t.equal("0000000000000021", got["CapBnd"], "bounding")
    t.equal("0000000000000020", got["CapInh"], "inheritable")
    # The program of uid 0 gains permitted and effective from the bounding set at execve, capabilities(7).
    t.equal("0000000000000021", got["CapPrm"], "permitted")
    t.equal("0000000000000021", got["CapEff"], "effective")


@case("config.md#linux-process", "ambient capabilities reach a program that is not root")
def capabilities_ambient(t):
    t.process["user"] = {"uid": 1000, "gid": 1000}
    t.process["capabilities"] = {s: ["CAP_NET_BIND_SERVICE"] for s in _SETS}
    got = _sets(t)
    t.equal({s: "0000000000000400" for s in _SETS.values()}, got)


@case("config.md#linux-process", "a program that is not root has no effective capability without ambient ones")
def capabilities_of_a_user(t):
    t.process["user"] = {"uid": 1000, "gid": 1000}
    t.equal("0000000000000000", _sets(t)["CapEff"])


@case("config.md#linux-process", "empty sets leave nothing")
def capabilities_none(t):
    t.process["capabilities"] = {s: [] for s in _SETS}
    t.equal({"0000000000000000"}, set(_sets(t).values()))


@case("config.md#linux-process", "a capability of no name that the kernel knows is a warning, not an error")
def capabilities_unknown(t):
    t.capable("CAP_TO_FLY")
    t.script("echo ok")
    result = t.run()
    t.equal(0, result.code, result.refused())
    t.contains("CAP_TO_FLY", result.err, "the warning")


@case("config.md#linux-process", "a capability that cannot be granted is a warning, not an error")
def capabilities_not_held(t):
    t.capable("CAP_SYS_TIME")
    t.script("grep CapBnd /proc/self/status")
    # As on a host that withholds it: the runtime itself is started without the capability.
    result = t.run(prefix=["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"])
    t.equal(0, result.code, result.refused())
    t.contains("CAP_SYS_TIME", result.err, "the warning")


@case("config.md#linux-process", "noNewPrivileges keeps the process from gaining privileges")
def no_new_privileges(t):
    t.equal("1", t.sh("grep NoNewPrivs /proc/self/status | cut -f2"))


@case("config.md#linux-process", "without noNewPrivileges the bit is not set")
def no_new_privileges_unset(t):
    del t.process["noNewPrivileges"]
    t.equal("0", t.sh("grep NoNewPrivs /proc/self/status | cut -f2"))


@case("config.md#linux-process", "oomScoreAdj is set for the process")
def oom_score_adj(t):
    t.process["oomScoreAdj"] = 123
    t.equal("123", t.sh("cat /proc/self/oom_score_adj"))


@case("config.md#linux-process", "without oomScoreAdj the value is not changed")
def oom_score_adj_unset(t):
    with open("/proc/self/oom_score_adj") as file:
        t.equal(file.read().strip(), t.sh("cat /proc/self/oom_score_adj"))


@case("config.md#linux-process", "selinuxLabel on a host without SELinux is an error, not ignored")
def selinux_label_refused(t):
    t.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    t.refuses_by_start("a SELinux label without SELinux")


@case("config.md#linux-process", "apparmorProfile on a host without AppArmor is an error, not ignored")
def apparmor_profile_refused(t):
    import os
    if os.path.exists("/sys/kernel/security/apparmor"):
        raise NotHere("this kernel has AppArmor")
    t.process["apparmorProfile"] = "some-profile"
    t.refuses_by_start("an AppArmor profile without AppArmor")


def _stat(t):
    """nice, rt_priority and policy of the process, proc(5) /proc/pid/stat fields 19, 40, 41."""
    return t.sh("cat /proc/self/stat").rpartition(")")[2].split()


@case("config.md#linux-process", "scheduler: policy and nice")
def scheduler_batch(t):
    t.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    fields = _stat(t)
    t.equal(["7", "3"], [fields[16], fields[38]], "nice, policy")


@case("config.md#linux-process", "scheduler: SCHED_IDLE")
def scheduler_idle(t):
    t.process["scheduler"] = {"policy": "SCHED_IDLE"}
    t.equal("5", _stat(t)[38], "policy")


@case("config.md#linux-process", "scheduler: SCHED_OTHER, nice defaults to 0")
def scheduler_other(t):
    t.process["scheduler"] = {"policy": "SCHED_OTHER"}
    fields = _stat(t)
    t.equal(["0", "0"], [fields[16], fields[38]], "nice, policy")


@case("config.md#linux-process", "scheduler: a real-time policy with its priority")
def scheduler_fifo(t):
    import subprocess
    if subprocess.run(["chrt", "-f", "11", "true"], capture_output=True, check=False).returncode != 0:
        raise NotHere("no real-time scheduling here")
    t.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 11}
    fields = _stat(t)
    t.equal(["11", "1"], [fields[37], fields[38]], "priority, policy")


@case("config.md#linux-process", "scheduler: the flag that resets a raised priority for children, sched(7)")
def scheduler_reset_on_fork(t):
    import subprocess
    if subprocess.run(["nice", "-n", "-3", "true"], capture_output=True, check=False).stderr:
        raise NotHere("no raised priorities here")
    t.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": -3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    got = t.sh("cut -d' ' -f19 /proc/1/stat; cat /proc/self/stat | cut -d' ' -f19")
    t.equal(["-3", "0"], got.split(), "nice of the process and of its child")


@case("config.md#linux-process", "scheduler: a policy of no such name is an error")
def scheduler_unknown(t):
    t.process["scheduler"] = {"policy": "SCHED_SOMEHOW"}
    t.refuses(why="SCHED_SOMEHOW")


@case("config.md#linux-process", "scheduler: a flag of no such name is an error")
def scheduler_unknown_flag(t):
    t.process["scheduler"] = {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_SOMEHOW"]}
    t.refuses(why="SCHED_FLAG_SOMEHOW")


def _ioprio(kind, priority, says):
    @case("config.md#linux-process", f"ioPriority {kind} {priority}", name=f"io_priority_{kind.lower()[13:]}")
    def applied(t):
        t.process["ioPriority"] = {"class": kind, "priority": priority}
        t.contains(says, t.sh("ionice -p 1"))


_ioprio("IOPRIO_CLASS_BE", 6, "best-effort: prio 6")
_ioprio("IOPRIO_CLASS_RT", 2, "realtime: prio 2")
_ioprio("IOPRIO_CLASS_IDLE", 0, "idle")


@case("config.md#linux-process", "ioPriority: a class of no such name is an error")
def io_priority_unknown(t):
    t.process["ioPriority"] = {"class": "IOPRIO_CLASS_X", "priority": 1}
    t.refuses(why="IOPRIO_CLASS_X")


@case("config.md#linux-process", "ioPriority: the priority is from 0 to 7")
def io_priority_range(t):
    t.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 8}
    t.refuses(why="priority 8")


def _cpus(t):
    import os
    if os.cpu_count() < 2:
        raise NotHere("one CPU")


@case("config.md#linux-process", "execCPUAffinity.final is the affinity of an exec")
def exec_affinity_final(t):
    _cpus(t)
    t.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
    t.up()
    t.equal("1", t.in_container("grep Cpus_allowed_list /proc/self/status | cut -f2"))


@case("config.md#linux-process", "execCPUAffinity does not apply to the init process")
def exec_affinity_not_init(t):
    _cpus(t)
    t.process["execCPUAffinity"] = {"initial": "1", "final": "1"}
    with open("/proc/self/status") as file:
        own = next(line.split()[1] for line in file if line.startswith("Cpus_allowed_list"))
    t.equal(own, t.sh("grep Cpus_allowed_list /proc/self/status | cut -f2"))


@case("config.md#linux-process", "execCPUAffinity: a list that is none is an error")
def exec_affinity_invalid(t):
    t.process["execCPUAffinity"] = {"final": "one"}
    t.refuses(why="the CPU list «one»")


# --- User ---


@case("config.md#posix-platform-user", "uid and gid are the process's, real, effective, saved and file system")
def user_ids(t):
    t.process["user"] = {"uid": 1234, "gid": 5678}
    got = t.sh("grep -E '^[UG]id' /proc/self/status").split()
    t.equal(["Uid:"] + ["1234"] * 4 + ["Gid:"] + ["5678"] * 4, got)


@case("config.md#posix-platform-user", "additionalGids are the supplementary groups")
def user_additional_gids(t):
    t.process["user"]["additionalGids"] = [10, 4242]
    t.equal("10 4242", t.sh("grep Groups /proc/self/status").replace("Groups:", "").strip())


@case("config.md#posix-platform-user", "without additionalGids none of the runtime's groups is left")
def user_no_groups(t):
    t.equal("", t.sh("grep Groups /proc/self/status").replace("Groups:", "").strip())


@case("config.md#posix-platform-user", "umask is the process's")
def user_umask(t):
    t.process["user"]["umask"] = 0o077
    t.equal("0077", t.sh("umask"))


@case("config.md#posix-platform-user", "without umask the runtime's is not changed")
def user_umask_unset(t):
    t.equal("0027", t.sh("umask", prefix=["sh", "-c", 'umask 027; exec "$@"', "sh"]))


@case("config.md#posix-platform-user", "ids need no entry in /etc/passwd")
def user_without_entry(t):
    t.own_file("/etc/passwd", "")
    t.process["user"] = {"uid": 4294967, "gid": 4294967}
    t.equal("4294967", t.sh("id -u"))


@case("config.md#valid-values", "an id below 0 is an error")
def user_negative(t):
    t.process["user"] = {"uid": -5, "gid": 0}
    t.refuses(why="uid -5")


# --- Hostname, domainname, annotations, extensibility ---


@case("config.md#hostname", "hostname is seen inside")
def hostname_set(t):
    t.config["hostname"] = "mrsdalloway"
    t.equal("mrsdalloway", t.sh("hostname"))


@case("config.md#hostname", "hostname without a UTS namespace of the container is not set on the host by mistake")
def hostname_without_uts(t):
    import os
    before = os.uname().nodename
    t.no_namespace("uts")
    t.refuses(why="a hostname without a UTS namespace")
    t.equal(before, os.uname().nodename)


@case("config.md#domainname", "domainname is seen inside")
def domainname_set(t):
    t.config["domainname"] = "foobarbaz.test"
    t.equal("foobarbaz.test", t.sh("cat /proc/sys/kernel/domainname"))


@case("config.md#annotations", "annotations are part of the state")
def annotations_in_state(t):
    t.config["annotations"] = {"com.example.gpu-cores": "2", "org.opencontainers.image.os": "linux", "empty": ""}
    t.create()
    got = t.state()["annotations"]
    t.equal(["2", "linux", ""], [got.get(k) for k in t.config["annotations"]])


@case("config.md#annotations", "an annotation's key must not be empty")
def annotations_empty_key(t):
    t.config["annotations"] = {"": "x"}
    t.refuses(why="an empty annotation key")


@case("config.md#annotations", "an annotation's value must be a string")
def annotations_value_number(t):
    t.config["annotations"] = {"a": 1}
    t.refuses(why="a number as annotation")


@case("config.md#extensibility", "unknown properties are ignored at every level")
def extensibility(t):
    import copy
    unknown = {"futureThing": {"a": [1]}}

    def sprinkle(node):
        for value in list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []:
            sprinkle(value)
        if isinstance(node, dict):
            node.update(copy.deepcopy(unknown))

    sprinkle(t.config)
    t.equal("ok", t.sh("echo ok"))


@case("config.md#configuration", "a config.json that is no JSON is an error")
def config_not_json(t):
    t.write()
    t.host_file("config.json", "{")
    result = t.call("create", "--bundle", t.dir, t.id, files=True)
    t.true(result.code != 0, "accepted: half a document")
    t.gone()


@case("config.md#configuration", "a field of the wrong JSON type is an error")
def config_wrong_type(t):
    t.process["args"] = "sh"
    t.refuses(why="args as a string")


@case("bundle.md", "a bundle without config.json is an error that names it")
def config_missing(t):
    result = t.call("create", "--bundle", t.dir, t.id, files=True)
    t.true(result.code != 0, "accepted: no config.json")
    t.contains("config.json", result.err)
    t.gone()
