"""Devices, namespaces of users, keyrings, the monitor, and what a container's output may do."""
from lab import *

busybox()
SYSTEM = next(line.split() for line in read("/proc/self/mountinfo").splitlines() if line.split()[4] == "/")[2].split(":")


def opened(node, *flags):
    """Makes a node of that kind and opens it for reading."""
    kind, major, minor = node
    return run(*flags, "busybox", "sh", "-c", f"mknod /tmp/node {kind} {major} {minor} && echo made; head -c 1 /tmp/node | wc -c; echo >/tmp/node && echo wrote")


# The device rules: any node may be made, only the harmless ones opened.
for name, node in [("the host's disk", ("b", *SYSTEM)), ("the host's memory", ("c", 1, 1)), ("the kernel's log", ("c", 1, 11)), ("a watchdog", ("c", 10, 130)), ("fuse", ("c", 10, 229)),
                   ("tun", ("c", 10, 200)), ("a loop device", ("b", 7, 0)), ("loop control", ("c", 10, 237)), ("kvm", ("c", 10, 232)), ("a serial line", ("c", 4, 64)), ("the console", ("c", 4, 0))]:
    result = opened(node)
    held("devices", f"open {name} by a node of one's own", "made" in result.out and "1\n" not in result.out and "wrote" not in result.out and "not permitted" in result.all.lower(), result)
result = opened(("c", 1, 5))
control("devices", "a node of /dev/zero can be opened", "1\n" in result.out, result)
result = opened(("c", 1, 11), "--privileged")
control("devices", "a node of the kernel's log can, with every right", "1\n" in result.out, result)
# The same node from the image, from a volume, and by exec.
load("nodes", layer(entry("disk", tarfile.BLKTYPE, device=tuple(map(int, SYSTEM)), mode=0o666), entry("mem", tarfile.CHRTYPE, device=(1, 1), mode=0o666)))
result = run("nodes", "sh", "-c", "head -c 1 /disk | wc -c; head -c 1 /mem | wc -c")
held("devices", "nodes in an image", result.out.split() == ["0", "0"], result)
volume = WORK + "/volume"
os.makedirs(volume)
os.mknod(volume + "/mem", 0o666 | 0o020000, os.makedev(1, 1))
result = run("-v", f"{volume}:/v", "busybox", "sh", "-c", "head -c 1 /v/mem | wc -c")
held("devices", "nodes in a volume", result.out.strip() == "0", result)
rcon("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
result = rcon("exec", "box", "sh", "-c", f"mknod /tmp/n c 1 1; head -c 1 /tmp/n | wc -c")
held("devices", "a node by exec", result.out.strip().endswith("0"), result)
bundle = Bundle("sh", "-c", "mknod /tmp/n c 1 1; head -c 1 /tmp/n | wc -c; mknod /tmp/z c 1 5; head -c 1 /tmp/z | wc -c")
bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
result = bundle.run()
held("devices", "a bundle that allows none", result.out.split() == ["0", "1"], result)
seen = json.loads(run("busybox", "probe").out)["devices"]
extra = set(seen) - {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
held("devices", "/dev holds more than the default", not extra, extra)

# Cgroups: no group may be written, none of the host's seen (CVE-2022-0492, CVE-2023-25809).
for name, flags in [("default", []), ("--cgroupns host", ["--cgroupns", "host"]), ("--cgroupns private", ["--cgroupns", "private"])]:
    result = run(*flags, "busybox", "sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo made $d; (echo 1 > $d/cgroup.procs) 2>/dev/null && echo wrote $d; (echo /x > $d/release_agent) 2>/dev/null && echo agent $d; done; echo end")
    held("CVE-2022-0492", f"cgroups are writable ({name})", result.out.strip() == "end", result)

# User namespaces: root inside is nobody outside.
MAP = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
mine = WORK + "/mine"
os.makedirs(mine)
open(mine + "/file", "w").write("of root")
os.chmod(mine + "/file", 0o600)
result = run(*MAP, "-v", f"{mine}:/v", "busybox", "sh", "-c", "cat /v/file; touch /v/new; chmod 777 /v/file; chown 0 /v/file; mount -t tmpfs x /v; echo > /proc/sys/kernel/core_pattern; kill -9 -1; echo end")
held("user namespace", "root inside reads, writes or owns files of the host's root", "of root" not in result.out and os.listdir(mine) == ["file"] and os.stat(mine + "/file").st_mode & 0o777 == 0o600, result)
control("user namespace", "without one it does", "of root" in run("-v", f"{mine}:/v", "busybox", "cat", "/v/file").out)
result = run(*MAP, "busybox", "sh", "-c", "cat /proc/self/uid_map; cat /proc/self/setgroups")
held("user namespace", "the map is another than asked", result.out.split() == ["0", "100000", "65536", "allow"], result)
for flags in (["--pid", "container:box"], ["--ipc", "container:box"], ["--network", "container:box"], ["--privileged"], ["--pid", "host"]):
    result = rcon("run", "--rm", *MAP, *flags, *([] if flags[0] == "--network" else ["--network", "none"]), "busybox", "echo", "started")
    print(f"  note    with a user namespace, {' '.join(flags)}: {'starts' if 'started' in result.out else 'is refused'}")

# Keyrings: the session of the caller is not the container's.
call = lambda *flags: run("--security-opt", "seccomp=unconfined", *flags, "busybox", "probe", "syscall", "250:0,-3,0")
# KEYCTL_GET_KEYRING_ID of the session keyring; each container must have its own.
first, second = call().out.split()[-1:], call().out.split()[-1:]
own = command(FIXTURES + "/probe", "syscall", "250:0,-3,0").out.split()[-1:]
held("keyrings", "containers share a session keyring, or have the caller's", first != second and own not in (first, second), (first, second, own))
held("keyrings", "/proc/keys shows keys", run("busybox", "cat", "/proc/keys").out == "")

# The monitor: out of the container's reach, last to be killed, nothing secret in its arguments.
rcon("run", "-d", "--name", "watched", "--network", "none", "-e", "PASSWORD=hidden", "busybox", "sleep", "1000")
pid = rcon("inspect", "-f", "{{.State.Pid}}", "watched").out.strip()
parent = next(line.split()[1] for line in read(f"/proc/{pid}/status").splitlines() if line.startswith("PPid"))
held("monitor", "secrets in its arguments", b"hidden" not in open(f"/proc/{parent}/cmdline", "rb").read())
held("monitor", "it lives in its container's cgroup", read(f"/proc/{parent}/cgroup") != read(f"/proc/{pid}/cgroup"))
score = int(read(f"/proc/{parent}/oom_score_adj"))
print(f"  note    oom_score_adj of the monitor: {score} (lowering needs CAP_SYS_RESOURCE)")
held("monitor", "its sockets are open to others", not [path for place, _, names in os.walk(WORK + "/run") for path in [place] if os.stat(path).st_mode & 0o066], WORK)
sockets = [line for line in read("/proc/net/unix").splitlines() if "@" in line and "rcon" in line]
held("CVE-2020-15257", "it listens on an abstract socket", not sockets, sockets)

# Control characters from images and containers in what the user's terminal gets.
load("escape", config={"Labels": {"a\x1b[2J": "b\x1b]0;title\x07"}, "Env": ["PATH=/bin", "X=\x1b[31m"], "Cmd": ["sh", "-c", "true \x1b[2J"]})
for words in (["images"], ["inspect", "escape"], ["image", "inspect", "escape"]):
    result = rcon(*words)
    held("escapes", f"{words[0]} shows control characters of an image raw", "\x1b" not in result.all and "\x07" not in result.all, repr(result.all[:200]))
rcon("create", "--name", "esc", "--network", "none", "escape")
for words in (["ps", "-a", "--no-trunc"], ["inspect", "esc"]):
    result = rcon(*words)
    held("escapes", f"{words[0]} shows control characters of a container raw", "\x1b" not in result.all, repr(result.all[:400]))
result = run("busybox", "no\x1b[2Jsuch")
held("escapes", "an error shows control characters raw", "\x1b" not in result.all, repr(result.all[:200]))
finish()
