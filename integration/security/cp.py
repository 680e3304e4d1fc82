"""cp against a container that does not want it to arrive where it should."""
from lab import *

busybox()
HOST = WORK + "/host"
os.makedirs(HOST)
SECRET = HOST + "/secret"
open(SECRET, "w").write("secret of the host")
os.chmod(SECRET, 0o600)
CLIMB = "../" * 14 + HOST.lstrip("/")
SCRATCH = WORK + "/scratch"
os.makedirs(SCRATCH)
ROUNDS = int(os.environ.get("RCON_ROUNDS", "25"))


def untouched():
    return sorted(os.listdir(HOST)) == ["secret"] and read(SECRET) == "secret of the host" and os.stat(SECRET).st_mode & 0o7777 == 0o600


rcon("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
inside = lambda script: rcon("exec", "box", "sh", "-c", script)

# Links without a race, both directions, running and stopped.
inside(f"ln -s {HOST} /abs; ln -s {CLIMB} /climb; ln -s /proc/1/root{HOST} /magic; ln -s {SECRET} /file; mkdir -p /d{HOST}; ln -s /proc/self/root /self; mkdir /tree; ln -s {HOST} /tree/out; echo in > /tree/x")
open(SCRATCH + "/new", "w").write("new")
for state in ("running", "stopped"):
    if state == "stopped":
        rcon("kill", "box")
        rcon("wait", "box")
    for source in ("/abs/secret", "/climb/secret", "/magic/secret", "/file", "/self" + SECRET, "/proc/1/root" + SECRET, "/../../../../../../.." + SECRET, "/proc/self/cwd" + SECRET):
        for flags in ([], ["-L"]):
            result = rcon("cp", *flags, f"box:{source}", "-")
            held("CVE-2018-15664", f"{state}: cp {' '.join(flags)} out of {source[:20]}", "secret of" not in result.out, result)
    for target in ("/abs", "/climb", "/magic", "/file", "/abs/secret", "/self" + HOST, "/../../../../../.." + HOST, "/proc/1/root" + HOST):
        result = rcon("cp", SCRATCH + "/new", f"box:{target}")
        held("CVE-2018-15664", f"{state}: cp into {target[:20]}", untouched(), result)

# CVE-2018-15664: the same while the container swaps the name.
rcon("start", "box")
pid = rcon("inspect", "-f", "{{.State.Pid}}", "box").out.strip()
control("CVE-2018-15664", "who joins paths below the container's root from outside reads the host", read(f"/proc/{pid}/root/abs/secret") == "secret of the host")
swap = "while true; do mv /swap /was; ln -s %s /swap; rm /swap; mv /was /swap; done" % HOST
inside("mkdir /swap; echo in > /swap/secret")
rcon("exec", "-d", "box", "sh", "-c", swap)
bad = []
for index in range(ROUNDS * 2):
    if "secret of" in rcon("cp", "box:/swap/secret", "-").out:
        bad.append("out")
    rcon("cp", SCRATCH + "/new", "box:/swap/new")
    if not untouched():
        bad.append("in")
held("CVE-2018-15664", f"the container swaps a directory for a link meanwhile ({ROUNDS * 2} rounds)", not bad, bad[:2])

# CVE-2026-42306: the target of a volume's mount is swapped while cp makes its view of a stopped container.
volume = WORK + "/volume"
os.makedirs(volume + "/real")
os.symlink(CLIMB, volume + "/link")
nested = WORK + "/nested"
os.makedirs(nested)
rcon("create", "--name", "view", "--network", "none", "-v", f"{volume}:/vol", "-v", f"{nested}:/vol/real/deep", "busybox", "true")
with Swapper((volume + "/real", volume + "/link")):
    for index in range(ROUNDS):
        rcon("cp", SCRATCH + "/new", f"view:/vol/real/deep/new{index}")
        rcon("cp", "view:/vol/real/deep", "-")
held("CVE-2026-42306", f"the target of a nested volume is swapped while cp mounts it ({ROUNDS} rounds)", untouched() and not [l for l in read("/proc/self/mountinfo").splitlines() if HOST in l], os.listdir(HOST))

# kubectl cp's family, CVE-2019-1002101, 11246, 11249, 11251: the container decides what the archive holds.
target = SCRATCH + "/target"
os.makedirs(target)
result = rcon("cp", "box:/tree", target)
held("CVE-2019-11246", "links in a copied tree are copied, not followed", os.path.islink(target + "/tree/out") and untouched(), result)
result = rcon("cp", "box:/tree/.", target + "/tree")
held("CVE-2019-1002101", "copying again over the links of the first time", untouched(), result)
hostile = layer(symlink("tree2", HOST), entry("tree2/secret", data="changed"), entry("tree2/new", data="x"), hardlink("gain", SECRET), entry("gain", data="x"), entry("../../" + CLIMB + "/new", data="x"))
result = rcon("cp", "-", "box:/tmp", data=hostile)
held("CVE-2019-11249", "an archive from stdin goes through its own links", untouched() and "new" not in os.listdir(HOST), result)

# CVE-2021-41089: modes and owners through links.
inside(f"mkdir /modes; ln -s {SECRET} /modes/x; chown -h 7:7 /modes/x")
rcon("cp", "-a", "box:/modes", target)
held("CVE-2021-41089", "modes and owners are set through links", untouched() and os.stat(SECRET).st_uid == 0)

# CVE-2019-14271, 2026-41567: nothing of the container is loaded or executed.
marker = "/tmp/executed"
programs = " ".join(f"/bin/{name}" for name in ("xz", "unxz", "gzip", "pigz", "unpigz", "tar", "zstd", "bzip2"))
inside(f"for p in {programs}; do rm -f $p; printf '#!/bin/sh\\ntouch {marker}\\n' > $p; chmod 755 $p; done; mkdir -p /lib; echo x > /lib/libnss_files.so.2")
before = rcon("exec", "box", "ls", "/tmp").out
import bz2
import gzip
import lzma
plain = layer(entry("packed", data="packed"))
for name, packed in [("gzip", gzip.compress(plain)), ("xz", lzma.compress(plain)), ("bzip2", bz2.compress(plain)), ("none", plain)]:
    result = rcon("cp", "-", "box:/tmp", data=packed)
    held("CVE-2026-41567", f"an archive packed by {name} is unpacked by the container's program", not rcon("exec", "box", "ls", marker).out and not os.path.exists(marker), result)
result = command("readelf", "-l", RCON)
held("CVE-2019-14271", "the binary loads libraries after entering the container", "INTERP" not in result.out and "INTERP" in command("readelf", "-l", shutil.which("readelf")).out)

# Devices and pipes of a container must not be made or waited for on the host.
inside("mkfifo /tree/pipe; mknod /tree/null c 1 3; chmod 666 /tree/null")
result = rcon("cp", "box:/tree/pipe", target, limit=60)
held("cp", "a pipe is read from", result.code != -1, result)
result = rcon("cp", "box:/tree/.", target + "/third", limit=60)
made = command("find", target, "-type", "c", "-o", "-type", "b").out
held("cp", "a device of the container is made on the host", made == "", made)
finish()
