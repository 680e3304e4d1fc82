"""The default filter, call by call, really made from a container; the 32-bit path and foreign numbers too."""
from lab import *

EPERM, ENOSYS, EINVAL, EFAULT, EBADF = -1, -38, -22, -14, -9
busybox()
X86 = os.uname().machine == "x86_64"

# Name, number of x86_64, arguments that have no effect even where the call is allowed. Of table 64 of the kernel.
NEVER = [
    ("keyctl", 250, "99"), ("add_key", 248, "0,0,0,0,0"), ("request_key", 249, "0,0,0,0"), ("io_uring_setup", 425, "0,0"), ("io_uring_enter", 426, "-1,0,0,0,0"),
    ("io_uring_register", 427, "-1,0,0,0"), ("userfaultfd", 323, "0xffff"), ("kexec_load", 246, "0,9999,0,0"), ("kexec_file_load", 320, "-1,-1,0,0,0xffff"),
    ("move_pages", 279, "0,1,0,0,0,0xffff"), ("migrate_pages", 256, "-1,0,0,0"), ("swapon", 167, "0,0"), ("swapoff", 168, "0"), ("nfsservctl", 180, ""), ("sysfs", 139, "99"),
    ("ustat", 136, "0,0"), ("uselib", 134, "0"), ("pivot_root", 155, "0,0"),
]
ADMIN = [
    ("bpf", 321, "99,0,0"), ("fanotify_init", 300, "0xffff,0"), ("fsconfig", 431, "-1,0,0,0,0"), ("fsmount", 432, "-1,0,0"), ("fsopen", 430, "0,0"), ("fspick", 433, "-1,0,0"),
    ("mount", 165, "0,0,0,0,0"), ("mount_setattr", 442, "-1,0,0,0,0"), ("move_mount", 429, "-1,0,-1,0,0"), ("open_tree", 428, "-1,0,0"),
    ("perf_event_open", 298, "0,0,0,0,0"), ("quotactl", 179, "0,0,0,0"), ("quotactl_fd", 443, "-1,0,0,0"), ("setdomainname", 171, "0,-1"), ("sethostname", 170, "0,-1"),
    ("setns", 308, "-1,0"), ("syslog", 103, "99,0,0"), ("umount2", 166, "0,0"), ("unshare NEWUSER", 272, "0x10000000"), ("unshare NEWNS", 272, "0x20000"),
]
OTHERS = [
    ("reboot", 169, "0,0,0,0"), ("init_module", 175, "0,0,0"), ("delete_module", 176, "0,0"), ("finit_module", 313, "-1,0,0"), ("acct", 163, "1"), ("kcmp", 312, "0,0,99,0,0"),
    ("pidfd_getfd", 438, "-1,-1,0"), ("process_madvise", 440, "-1,0,0,0,0xff"), ("iopl", 172, "9"), ("ioperm", 173, "-1,1,1"), ("settimeofday", 164, "1,1"), ("clock_settime", 227, "99,0"),
    ("vhangup", 153, ""), ("open_by_handle_at", 304, "-1,0,0"), ("get_mempolicy", 239, "0,0,0,0,0xff"), ("set_mempolicy", 238, "99,0,0"), ("mbind", 237, "1,0,0,0,0,0"),
    ("lookup_dcookie", 212, "0,0,0"),
]
SPACES = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
# With CLONE_THREAD alone the kernel itself would answer EINVAL.
CLONES = [(f"clone {name}", 56, f"{flag | 0x10000:#x}") for name, flag in SPACES.items()]
FAMILIES = [("socket AF_ALG", 41, "38,5,0"), ("socket AF_VSOCK", 41, "40,1,0")]
PERSONAS = [(f"personality {value:#x}", 135, f"{value:#x}") for value in (0x40000, 0x4, 0x800000, 0x100000008)]


def answers(calls, *flags):
    """The kernel's answers, by call as given."""
    result = run(*flags, "busybox", "probe", "syscall", *calls)
    return dict(line.rsplit(" ", 1) for line in result.out.splitlines()), result


def ask(title, calls, wanted, prefix="", unconfined=True):
    """Each call is refused so by the filter; and does something else where there is none and every right is held."""
    words = [f"{prefix}{number}:{arguments}" for _, number, arguments in calls]
    got, result = answers(words)
    wrong = [f"{name} {got.get(word)}" for (name, _, _), word in zip(calls, words) if got.get(word) != str(wanted)]
    held("seccomp", f"{title} ({len(calls)} calls)", not wrong, wrong or result)
    if unconfined:
        got, result = answers(words, "--privileged")
        same = [name for (name, _, _), word in zip(calls, words) if got.get(word) in (None, str(wanted))]
        # Calls that this kernel was built without, or that a machine without the right refuses by itself, prove nothing.
        control("seccomp", f"{title}: of these reach the kernel without a filter: {len(calls) - len(same)}", len(same) < len(calls), same)


if X86:
    ask("calls that nobody may make", NEVER, EPERM)
    ask("calls of CAP_SYS_ADMIN", ADMIN, EPERM)
    ask("calls of other capabilities", OTHERS, EPERM)
    ask("clone into new namespaces", CLONES, EPERM)
    ask("clone3, whose flags cannot be seen", [("clone3", 435, "0,0")], ENOSYS)
    ask("sockets of the kernel's crypto and of machines", FAMILIES, EPERM)
    ask("personalities", PERSONAS, EPERM)
    got, result = answers(["39", "41:2,1,0", "41:39,99,0", "135:0xffffffff", "135:8", "56:0x10000", "101:99,0,0,0"])
    held("seccomp", "what programs need is not refused by the filter", not [call for call, answer in got.items() if answer == "-1"] and len(got) == 7, got)
    unknown = [(str(number), number, "") for number in (467, 468, 469, 470, 480, 500, 999, 4095, 100000)]
    ask("calls newer than the profile say so", unknown, ENOSYS, unconfined=False)
    # Old ones that are not listed are refused.
    ask("calls that were never made", [("tuxcall", 184, ""), ("security", 185, ""), ("vserver", 236, ""), ("afs_syscall", 183, "")], EPERM)

    # The 32-bit table, through int 0x80.
    SHORT = [("unshare", 310, "0x10000000"), ("mount", 21, "0,0,0,0,0"), ("keyctl", 288, "99"), ("add_key", 286, "0"), ("request_key", 287, "0"), ("io_uring_setup", 425, "0,0"),
             ("userfaultfd", 374, "0xffff"), ("bpf", 357, "99"), ("perf_event_open", 336, "0"), ("setns", 346, "-1,0"), ("pivot_root", 217, "0,0"), ("kexec_load", 283, "0,9999"),
             ("init_module", 128, "0"), ("open_by_handle_at", 342, "-1"), ("uselib", 86, "0"), ("socket AF_ALG", 359, "38,5,0"), ("socket AF_VSOCK", 359, "40,1,0"), ("vm86old", 113, "0"), ("vm86", 166, "99"), ("iopl", 110, "9")]
    SHORT += [(f"clone {name}", 120, f"{flag | 0x10000:#x}") for name, flag in SPACES.items()]
    ask("the same by 32-bit numbers", SHORT, EPERM, prefix="i386:")
    ask("clone3 by its 32-bit number", [("clone3", 435, "0,0")], ENOSYS, prefix="i386:")
    ask("newer 32-bit calls", [(str(n), n, "") for n in (470, 999, 5000)], ENOSYS, prefix="i386:", unconfined=False)
    got, _ = answers(["i386:20", "i386:359:2,1,0"])
    control("seccomp", "32-bit calls work here", all(int(answer) > 0 for answer in got.values()) and len(got) == 2, got)
    # The x32 table has its own bit.
    wide = [(name, number | 0x40000000, arguments) for name, number, arguments in NEVER[:2] + ADMIN[-2:] + CLONES[:2] if True]
    got, result = answers([f"{number}:{arguments}" for _, number, arguments in wide])
    held("seccomp", "the same by x32 numbers", all(answer in ("-1", "-38") for answer in got.values()) and len(got) == len(wide), got)

# Who has the right gets the call: the filter is resolved for the capabilities.
result = run("--cap-add", "SYS_ADMIN", "busybox", "sh", "-c", "mount -t tmpfs none /tmp && echo mounted")
control("seccomp", "--cap-add SYS_ADMIN unlocks mount", "mounted" in result.out, result)
result = run("busybox", "sh", "-c", "mount -t tmpfs none /tmp && echo mounted; unshare -U true && echo user")
held("seccomp", "mount and unshare by ordinary programs (CVE-2022-0185, CVE-2022-0492)", "mounted" not in result.out and "user" not in result.out, result)

# exec is filtered as its container is, and a profile that cannot be used is no reason to go without.
rcon("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
result = rcon("exec", "box", "probe", "syscall", "250:99", "41:38,5,0")
held("seccomp", "exec goes unfiltered", result.out == "250:99 -1\n41:38,5,0 -1\n", result)
for name, text in [("empty", ""), ("no JSON", "{"), ("an unknown action", '{"defaultAction":"SCMP_ACT_NOPE"}'), ("an unknown operator", '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":0,"op":"X"}]}]}')]:
    path = WORK + "/profile.json"
    open(path, "w").write(text)
    result = run("--security-opt", f"seccomp={path}", "busybox", "echo", "started")
    held("CVE-2023-2431", f"a profile that is {name} means unconfined", "started" not in result.out, result)
for name in ("", "/absent/profile"):
    result = run("--security-opt", f"seccomp={name}", "busybox", "echo", "started")
    held("CVE-2023-2431", f"a profile named \"{name}\" means unconfined", "started" not in result.out, result)

# Bundles: the filter of the config, with and without no_new_privs; exec has it too.
for nnp in (False, True):
    bundle = Bundle("probe", "syscall", "39", "250:99", "99999")
    bundle.process["noNewPrivileges"] = nnp
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}
    result = bundle.run()
    held("seccomp", f"a bundle's filter is in force (no_new_privs {nnp})", "250:99 -77" in result.out, result)
bundle.process["args"] = ["sleep", "1000"]
bundle.start()
result = bundle.execute("probe", "syscall", "250:99")
held("seccomp", "exec into a bundle goes unfiltered", result.out == "250:99 -77\n", result)
bundle.delete()
bundle = Bundle("probe", "syscall", "i386:20")
bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}]}
result = bundle.run()
if X86:
    held("seccomp", "a calling convention that the profile does not name", "i386:20" not in result.out and result.code == 128 + 31, result)
finish()
