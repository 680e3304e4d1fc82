"""config-linux.md: seccomp. The system calls tried are those that busybox makes on every architecture."""

import fcntl
import json
import os
import select
import struct
import threading

from harness import NotHere, case, receive_fd


def _seccomp(t, syscalls, default="SCMP_ACT_ALLOW", **more):
    t.linux["seccomp"] = {"defaultAction": default, "syscalls": syscalls, **more}
    t.process["noNewPrivileges"] = True


def _rule(names, action, args=None, **more):
    entry = {"names": names, "action": action, **more}
    if args is not None:
        entry["args"] = args
    return entry


MKDIR = ["mkdir", "mkdirat"]
TRY = "mkdir /tmp/x 2>&1; echo $?"


@case("config-linux.md#seccomp", "SCMP_ACT_ERRNO returns EPERM by default")
def seccomp_errno(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")])
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "errnoRet is the error that SCMP_ACT_ERRNO returns")
def seccomp_errno_ret(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO", errnoRet=38)])
    t.contains("Function not implemented", t.sh(TRY))


@case("config-linux.md#seccomp", "defaultAction applies to what no entry names; defaultErrnoRet is its error")
def seccomp_default(t):
    import subprocess
    # Everything is allowed but mkdir: the default action is what is left for it.
    names = sorted(set(_every_syscall()) - set(MKDIR))
    if not names or subprocess.run(["true"], check=False).returncode:
        raise NotHere("no list of system calls")
    _seccomp(t, [_rule(names, "SCMP_ACT_ALLOW")], default="SCMP_ACT_ERRNO", defaultErrnoRet=28)
    t.contains("No space left on device", t.sh(TRY))


def _every_syscall():
    """What busybox and a runtime's last steps may need."""
    return ("read write open openat openat2 close stat fstat lstat newfstatat statx poll ppoll lseek mmap mprotect munmap brk rt_sigaction "
            "rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access faccessat faccessat2 pipe pipe2 select dup dup2 dup3 "
            "pause nanosleep clock_nanosleep getpid sendfile socket connect sendto recvfrom sendmsg recvmsg bind getsockname setsockopt "
            "getsockopt clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tgkill tkill uname fcntl fsync ftruncate "
            "getdents getdents64 getcwd chdir fchdir rename unlink unlinkat symlink readlink readlinkat chmod fchmod chown fchown umask "
            "gettimeofday getrlimit prlimit64 getrusage sysinfo times getuid getgid setuid setgid geteuid getegid setpgid getppid getpgrp "
            "setsid setgroups getgroups setresuid getresuid setresgid getresgid getpgid getsid capget capset rt_sigpending "
            "rt_sigtimedwait rt_sigsuspend sigaltstack personality statfs fstatfs prctl arch_prctl setrlimit sync gettid futex "
            "sched_yield sched_getaffinity sched_setaffinity set_tid_address set_robust_list get_robust_list epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 "
            "getrandom memfd_create rseq membarrier close_range pidfd_open mremap madvise utimensat clock_gettime clock_getres seccomp "
            "mincore restart_syscall timer_create timer_settime timer_delete signalfd4 accept accept4 listen shutdown socketpair recvmmsg sendmmsg").split()


@case("config-linux.md#seccomp", "SCMP_ACT_KILL_PROCESS kills")
def seccomp_kill_process(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_KILL_PROCESS")])
    t.equal("159", t.sh("mkdir /tmp/x; echo $?"))


@case("config-linux.md#seccomp", "SCMP_ACT_KILL kills the thread")
def seccomp_kill(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_KILL")])
    t.equal("159", t.sh("mkdir /tmp/x; echo $?"))


@case("config-linux.md#seccomp", "SCMP_ACT_KILL_THREAD kills the thread")
def seccomp_kill_thread(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_KILL_THREAD")])
    t.equal("159", t.sh("mkdir /tmp/x; echo $?"))


@case("config-linux.md#seccomp", "SCMP_ACT_TRAP sends SIGSYS")
def seccomp_trap(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_TRAP")])
    t.equal("159", t.sh("mkdir /tmp/x; echo $?"))


@case("config-linux.md#seccomp", "SCMP_ACT_TRACE without a tracer is ENOSYS, seccomp(2)")
def seccomp_trace(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_TRACE")])
    t.contains("Function not implemented", t.sh(TRY))


@case("config-linux.md#seccomp", "SCMP_ACT_LOG allows")
def seccomp_log(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_LOG")])
    t.equal("0", t.sh(TRY))


@case("config-linux.md#seccomp", "SCMP_ACT_ALLOW allows beside a stricter default of other calls")
def seccomp_allow(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ALLOW"), _rule(["rmdir", "unlinkat"], "SCMP_ACT_ERRNO", errnoRet=1)])
    t.equal("0 1", t.sh("mkdir /tmp/x; a=$?; rmdir /tmp/x 2>/dev/null; echo $a $?"))


# setpriority(PRIO_PROCESS, pid, prio): busybox `renice -n N` calls it with prio = N from a nice value of 0.


def _compare(op, value, denied, allowed, two=None):
    @case("config-linux.md#seccomp", f"args: {op}", name=f"seccomp_{op.lower()[5:]}")
    def compared(t):
        argument = {"index": 2, "value": value, "op": op}
        if two is not None:
            argument["valueTwo"] = two
        _seccomp(t, [_rule(["setpriority"], "SCMP_ACT_ERRNO", [argument])])
        for n in denied:
            t.config["process"]["args"] = []
        script = "".join(f"sh -c 'renice -n {n} $$ 2>/dev/null'; printf '{n}:%s ' $?; " for n in (*denied, *allowed))
        wanted = " ".join([f"{n}:1" for n in denied] + [f"{n}:0" for n in allowed])
        t.equal(wanted, t.sh(script))


_compare("SCMP_CMP_EQ", 5, [5], [4, 6])
_compare("SCMP_CMP_NE", 5, [4, 6], [5])
_compare("SCMP_CMP_LT", 5, [3, 4], [5, 6])
_compare("SCMP_CMP_LE", 5, [4, 5], [6])
_compare("SCMP_CMP_GT", 5, [6, 7], [4, 5])
_compare("SCMP_CMP_GE", 5, [5, 6], [4])
_compare("SCMP_CMP_MASKED_EQ", 6, [4, 5], [1, 2, 6], two=4)


@case("config-linux.md#seccomp", "args: a value of 64 bits is compared whole")
def seccomp_args_64(t):
    _seccomp(t, [_rule(["setpriority"], "SCMP_ACT_ERRNO", [{"index": 2, "value": (1 << 40) + 5, "op": "SCMP_CMP_EQ"}])])
    t.equal("0", t.sh("renice -n 5 $$; echo $?"))


@case("config-linux.md#seccomp", "args: two conditions of one entry must both hold")
def seccomp_args_and(t):
    _seccomp(t, [_rule(["setpriority"], "SCMP_ACT_ERRNO", [{"index": 2, "value": 3, "op": "SCMP_CMP_GE"},
                                                           {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}])])
    t.equal("0", t.sh("renice -n 5 $$; echo $?"))


@case("config-linux.md#seccomp", "args: two entries of one call: either may match")
def seccomp_args_or(t):
    _seccomp(t, [_rule(["setpriority"], "SCMP_ACT_ERRNO", [{"index": 2, "value": n, "op": "SCMP_CMP_EQ"}]) for n in (3, 5)])
    t.equal("1 0 1", t.sh("echo $(for n in 3 4 5; do sh -c \"renice -n $n \\$\\$ 2>/dev/null\"; echo $?; done)"))


@case("config-linux.md#seccomp", "a name that the architecture does not have is skipped")
def seccomp_unknown_syscall(t):
    _seccomp(t, [_rule(["no_such_system_call", *MKDIR], "SCMP_ACT_ERRNO")])
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "an action of no such name is an error")
def seccomp_unknown_action(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_FROWN")])
    t.refuses(why="SCMP_ACT_FROWN")


@case("config-linux.md#seccomp", "an operator of no such name is an error")
def seccomp_unknown_operator(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO", [{"index": 0, "value": 0, "op": "SCMP_CMP_ISH"}])])
    t.refuses(why="SCMP_CMP_ISH")


@case("config-linux.md#seccomp", "defaultAction is required")
def seccomp_no_default(t):
    t.linux["seccomp"] = {"syscalls": [_rule(MKDIR, "SCMP_ACT_ERRNO")]}
    t.refuses(why="no defaultAction")


@case("config-linux.md#seccomp", "names must have an entry")
def seccomp_no_names(t):
    _seccomp(t, [_rule([], "SCMP_ACT_ERRNO")])
    t.refuses(why="empty names")


@case("config-linux.md#seccomp", "an errno with an action that takes none is an error")
def seccomp_errno_of_allow(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_KILL", errnoRet=1)])
    t.refuses(why="errnoRet with SCMP_ACT_KILL")


@case("config-linux.md#seccomp", "an argument's index is from 0 to 5")
def seccomp_index_range(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO", [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])])
    t.refuses(why="argument 6")


@case("config-linux.md#seccomp", "architectures: those listed beside the native one are filtered too")
def seccomp_architectures(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                                                                "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "an architecture of no such name is an error")
def seccomp_unknown_architecture(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], architectures=["SCMP_ARCH_ABACUS"])
    t.refuses(why="SCMP_ARCH_ABACUS")


def _flag(flag):
    @case("config-linux.md#seccomp", f"flags: {flag}", name=f"seccomp_flag_{flag[20:].lower()}")
    def flagged(t):
        _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], flags=[flag])
        t.contains("Operation not permitted", t.sh(TRY))


for _name in ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"):
    _flag(_name)


@case("config-linux.md#seccomp", "a flag of no such name is an error")
def seccomp_unknown_flag(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], flags=["SECCOMP_FILTER_FLAG_X"])
    t.refuses(why="SECCOMP_FILTER_FLAG_X")


@case("config-linux.md#seccomp", "without noNewPrivileges the filter is there too")
def seccomp_without_no_new_privileges(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")])
    t.process["noNewPrivileges"] = False
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "for a user without capabilities the filter is there too")
def seccomp_for_a_user(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")])
    t.process["user"] = {"uid": 1000, "gid": 1000}
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "an exec is filtered too")
def seccomp_exec(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")])
    t.up()
    t.contains("Operation not permitted", t.in_container(TRY))


@case("config-linux.md#seccomp", "the filter does not stop the runtime's own set-up")
def seccomp_not_too_early(t):
    _seccomp(t, [_rule(["mount", "umount2", "pivot_root", "sethostname", "mknod", "mknodat", "setns", "unshare", "fsopen", "move_mount",
                        "open_tree", "mount_setattr", "keyctl", "add_key"], "SCMP_ACT_KILL_PROCESS")])
    t.equal("ok", t.sh("echo ok"))


# --- SCMP_ACT_NOTIFY ---

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, seccomp_unotify(2)
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND


def _agent(listening, got):
    """A seccomp agent: takes one connection's state and descriptor, answers the first notification with error 42."""
    connection, _ = listening.accept()
    message, fds = receive_fd(connection)
    got["closed"] = bool(select.select([connection], [], [], 0.5)[0]) and connection.recv(1) == b""
    got["state"] = json.loads(message.decode())
    got["fds"] = len(fds)
    connection.close()
    notification = bytearray(80)
    fcntl.ioctl(fds[0], _RECEIVE, notification)
    id = struct.unpack_from("=Q", notification)[0]
    fcntl.ioctl(fds[0], _SEND, bytearray(struct.pack("=QqiI", id, 0, -42, 0)))
    os.close(fds[0])


def _notified(t, **more):
    listening, path = t.listener("s")
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_NOTIFY")], listenerPath=path, **more)
    got = {}
    agent = threading.Thread(target=_agent, args=(listening, got), daemon=True)
    agent.start()
    got["out"] = t.sh(TRY)
    agent.join(5)
    listening.close()
    return got


@case("config-linux.md#seccomp", "SCMP_ACT_NOTIFY: the agent at listenerPath answers the call")
def seccomp_notify(t):
    t.contains("No message of desired type", _notified(t)["out"])


@case("config-linux.md#the-container-process-state", "the container process state is sent with the seccomp descriptor")
def seccomp_notify_state(t):
    t.config["annotations"] = {"a": "b"}
    got = _notified(t, listenerMetadata="MKNOD=/dev/null")
    state = got["state"]
    t.equal([["seccompFd"], 1, "MKNOD=/dev/null"], [state.get("fds"), got["fds"], state.get("metadata")])
    t.true(state.get("ociVersion"), "no ociVersion")
    t.true(state.get("pid", 0) > 0, "no pid")
    t.equal([t.id, "b"], [state["state"].get("id"), (state["state"].get("annotations") or {}).get("a")])
    # runc and crun load the filter at the end of create, rcon as late as can be, in start: each state is true when sent.
    t.true(state["state"].get("status") in ("creating", "created"), f"status {state['state'].get('status')}")
    t.equal(t.dir, os.path.realpath(state["state"].get("bundle", "/")))


@case("config-linux.md#seccomp", "the connection to the agent is closed after one state")
def seccomp_notify_closed(t):
    t.true(_notified(t)["closed"], "the connection stays open")


@case("config-linux.md#seccomp", "a listenerPath that nobody listens at is an error")
def seccomp_notify_nobody(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_NOTIFY")], listenerPath=os.path.join(t.dir, "nobody"))
    t.refuses_by_start("a listenerPath without a listener")


@case("config-linux.md#seccomp", "listenerPath is ignored when SCMP_ACT_NOTIFY is not used")
def seccomp_listener_unused(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], listenerPath=os.path.join(t.dir, "nobody"))
    t.contains("Operation not permitted", t.sh(TRY))


@case("config-linux.md#seccomp", "listenerMetadata without listenerPath is an error")
def seccomp_metadata_alone(t):
    _seccomp(t, [_rule(MKDIR, "SCMP_ACT_ERRNO")], listenerMetadata="x")
    t.refuses(why="listenerMetadata without listenerPath")
