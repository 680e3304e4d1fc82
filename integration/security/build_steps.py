"""`rcon build`: hostile base images and steps that reach for the host, for secrets, for other builds or for rights they were not given."""
import socket
import threading

from lab import *

busybox()
HOST = WORK + "/host"
os.makedirs(HOST)
SECRET = HOST + "/secret"
NEW = HOST + "/new"
MARK = "secret of the host"
open(SECRET, "w").write(MARK)
UP = "../" * 16
CLIMB = "../" * 14 + HOST.lstrip("/")
SHORT = 60  # Seconds that something hostile may take.
ROUNDS = int(os.environ.get("RCON_ROUNDS", "25"))


def closed(result):
    fine = MARK not in result.all and os.listdir(HOST) == ["secret"] and read(SECRET) == MARK and not any(word in result.all for word in PANIC) and result.code >= 0
    for name in set(os.listdir(HOST)) - {"secret"}:
        path = os.path.join(HOST, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    return fine


def ended(result):
    return told(result) or result.code == 0


def mounts():
    return [line.split()[4] for line in read("/proc/self/mountinfo").splitlines() if WORK in line.split()[4]]


def base(name, *entries, **more):
    load(name, layer(*entries), **more)


# A tool that the busybox image lacks.
TOOL = WORK + "/tool"
os.makedirs(TOOL)
with open(TOOL + "/tool.c", "w") as source:
    source.write(r"""
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
/* tool xattr PATH NAME VALUE | tool immutable PATH | tool eat MEBIBYTES */
int main(int count, char **words) {
    int failed = 1;
    if (!strcmp(words[1], "xattr"))
        failed = lsetxattr(words[2], words[3], words[4], strlen(words[4]), 0);
    else if (!strcmp(words[1], "immutable")) {
        int flags = FS_IMMUTABLE_FL, fd = open(words[2], O_RDONLY);
        failed = ioctl(fd, FS_IOC_SETFLAGS, &flags);
    } else
        for (int left = atoi(words[2]); left > 0; left--)
            memset(malloc(1 << 20), 1, 1 << 20);
    printf("%s\n", failed ? strerror(errno) : "done");
    return failed != 0;
}
""")
compiled = command("cc", "-static", "-O", "-o", TOOL + "/tool", TOOL + "/tool.c")
if compiled.code != 0:
    raise RuntimeError(f"the tool cannot be compiled: {compiled}")
load("tools", layer(entry("bin/tool", data=open(TOOL + "/tool", "rb").read())))

def with_buildah(text):
    """The same with buildah, if this machine has one: whether it was held there. Nothing to tell where it is mended already."""
    if not shutil.which("buildah"):
        return True
    place = context("FROM scratch AS start\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n" + text, {"busybox": open(shutil.which("busybox"), "rb").read()})
    result = command("buildah", "--root", WORK + "/buildah", "--runroot", WORK + "/buildah-run", "--storage-driver", "vfs", "bud", "--isolation", "chroot", "--network", "host", place)
    return closed(result)


# Base images whose directories are links.
WAYS = {"an absolute link": HOST, "a climbing link": CLIMB, "a magic link": "/proc/1/root" + HOST, "a link through itself": "/proc/self/root" + HOST, "a link to a descriptor": "/proc/self/fd/5" + HOST, "a link to the working directory": "/proc/self/cwd" + HOST}
ARCHIVE = {"new": "x", "dir/new": "x", "a.tar": layer(entry("new", data="x"), entry("dir/new", data="x"))}
for name, target in WAYS.items():
    base("evil", symlink("way", target), directory("d"), symlink("d/way", "../way"), symlink("file", target + "/new"), symlink("read", target + "/secret"), symlink("etc/new", target), config={"WorkingDir": "/"})
    for text in ("COPY new /way/", "COPY new /way/new", "COPY new /way/a/b/new", "COPY new /file", "COPY dir /way", "COPY dir /way/", "COPY . /d", "COPY . /d/way/", "COPY --parents dir/new /way/", "COPY --link new /way/", "COPY --chown=7:7 --chmod=4777 new /way/", "ADD a.tar /way/", "ADD a.tar /way",
                 "ADD --link a.tar /way/", "COPY <<new /way/\nx\nnew", "WORKDIR /way/new", "WORKDIR /way\nCOPY new .", "WORKDIR /d/way/../way/new", "WORKDIR /file"):
        result = build(f"FROM evil\n{text}\n", files=ARCHIVE)
        held("CVE-2026-55686" if "WORKDIR" in text else "CVE-2024-9676", f"{text.splitlines()[0]} where the base has {name}", ended(result) and closed(result), result)
    for text in ("COPY --from=evil /read /x", "COPY --from=evil /way/secret /x", "COPY --from=evil /way /x", "COPY --from=evil /d /x", "COPY --from=evil /way/* /x/", "COPY --from=evil --parents /d/way/secret /x/", "ADD --from=evil /read /x"):
        result = build(f"FROM scratch\n{text}\n", "-o", "-")
        held("CVE-2019-18466", f"{text} where that has {name}", ended(result) and closed(result), result)
    for options in ("type=bind,from=evil,source=/way,target=/m", "type=bind,from=evil,source=/way/secret,target=/m", "type=bind,from=evil,source=/read,target=/m", "type=bind,from=evil,source=/d/way,target=/m,rw", "type=cache,from=evil,source=/way,target=/m", "type=cache,from=evil,source=/d,target=/m"):
        result = build(f"FROM busybox\nRUN --mount={options} cat /m /m/secret /m/way/secret; echo x > /m/new; true\n", "--no-cache")
        held("CVE-2024-1753", f"RUN --mount={options[:44]} where that has {name}", ended(result) and closed(result), result)
        rcon("builder", "prune", "-af")
    for options in ("type=tmpfs,target=/way/new", "type=cache,target=/way/new", "type=bind,source=new,target=/file", "type=bind,source=dir,target=/d/way/new", "type=secret,id=s,target=/way/new"):
        result = build(f"FROM evil\nRUN --mount={options} true\n", "--secret", f"id=s,src={TOOL}/tool.c", files=ARCHIVE)
        held("CVE-2019-18837", f"RUN --mount={options} where the base has {name}", ended(result) and closed(result) and mounts() == [], result)
os.makedirs(WORK + "/naive")
os.symlink(HOST, WORK + "/naive/way")
shutil.copy(TOOL + "/tool.c", WORK + "/naive/way/new")
control("CVE-2024-9676", "who joins paths below the root from outside writes to the host", os.path.exists(NEW))
closed(Result(0, "", ""))

peer("CVE-2024-1753", "buildah of this machine mounts a directory of the host by it", not with_buildah(f"RUN /bin/busybox ln -s {HOST} /way\nFROM start\nRUN --mount=type=bind,from=start,source=/way,target=/m,rw /bin/busybox touch /m/new\n"))

for name in (UP.rstrip("/") + NEW, "../" * 5 + "x", "/" + NEW, "..", ".", "a/../../../b"):
    for flags in ("", "--link ", "--chmod=4777 "):
        result = build(f'FROM scratch\nCOPY {flags}<<"{name}" /to/\nx\n{name}\n', "-o", "type=cacheonly")
        held("CVE-2019-10152", f"COPY {flags}of a here-document that is called {name[:24]}", ended(result) and closed(result), result)

# Accounts of the base: what is read as passwd.
for name, item in (("a fifo", entry("etc/passwd", tarfile.FIFOTYPE)), ("a device without end", entry("etc/passwd", tarfile.CHRTYPE, device=(1, 5))), ("a link to a device without end", symlink("etc/passwd", "/dev/zero")), ("a directory", directory("etc/passwd")), ("a link to the host", symlink("etc/passwd", SECRET)),
                   ("a magic link", symlink("etc/passwd", "/proc/self/root" + SECRET)), ("of 40 MiB", entry("etc/passwd", data=b"x:x:1:1\n" * (5 << 20))), ("one line of 9 MiB", entry("etc/passwd", data=b"x" * (9 << 20))), ("noise", entry("etc/passwd", data=os.urandom(4000)))):
    # Over the file of the base, which a layer must take away first to put a directory there.
    base("accounts", *([entry("etc/.wh.passwd")] if name == "a directory" else []))
    load("accounts", *([layer(entry("etc/.wh.passwd"))] if name == "a directory" else []), layer(item))
    for text in ("COPY --chown=evil new /x", "COPY --link --chown=evil:evil new /x", "USER evil\nRUN true", "USER evil\nWORKDIR /new", "USER evil:evil\nRUN true", "RUN --mount=type=secret,id=s true"):
        result = build(f"FROM accounts\n{text}\n", "--secret", f"id=s,src={TOOL}/tool.c", files=ARCHIVE, limit=SHORT)
        held("CVE-2026-47262", f"{text.splitlines()[0]} where passwd is {name}", ended(result) and closed(result) and ("secret" in text or told(result)), result)
for user in ("4294967295", "4294967296", "18446744073709551616", "-1", "0x0", "00", "0:4294967295", "root:-1", "1 0", "+0"):
    result = build(f"FROM busybox\nUSER {user}\nRUN id -u > /who\n", "-t", "who")
    who = run("-u", "0", "who", "cat", "/who").out.strip() if result.code == 0 else ""
    held("CVE-2024-40635", f"USER {user} becomes root", told(result) or (user == "00" and who == "0"), result)

# What the configuration of a base image brings along.
SPY = {name: value for name, value in os.environ.items()} | {"LEAK": "leaked words", "AWS_SECRET_ACCESS_KEY": "leaked words", "SSH_AUTH_SOCK": WORK + "/leaked words"}
load("environment", config={"Env": ["LEAK", "PATH=/bin", "AWS_SECRET_ACCESS_KEY", "=x", "LEA*"]})
for text in ("FROM environment\nRUN env; tr '\\0' '\\n' < /proc/self/environ; tr '\\0' '\\n' < /proc/1/environ; cat /proc/1/cmdline\n", "FROM environment\nARG LEAK\nRUN echo $LEAK $AWS_SECRET_ACCESS_KEY; env\n", "FROM environment\nENV A=$LEAK B=${AWS_SECRET_ACCESS_KEY:-none}\nLABEL l=$LEAK\nRUN env\n"):
    result = build(text, "-t", "leak", "--no-cache", env=SPY)
    held("CVE-2021-3602", f"the engine's environment in {text.splitlines()[1][:30]}", "leaked words" not in result.all + rcon("inspect", "leak").out and ended(result), result)
result = build("FROM busybox\nARG LEAK\nRUN echo $LEAK\n", "--build-arg", "LEAK", env=SPY)
control("CVE-2021-3602", "a variable that is asked for comes", "leaked words" in result.all, result)
for trigger in ("RUN --security=insecure id", "RUN --network=host id", "FROM busybox", "ONBUILD RUN id", "MAINTAINER x", "COPY ../../secret /x", "ADD " + SECRET + " /x", "RUN --mount=type=bind,source=../../,target=/m cat /m" + SECRET, "COPY --from=nothing /x /x", "RUN [" + "[" * 50000, "ENV A=" + "${A:-" * 5000, "\x1b[31m"):
    load("trigger", config={"OnBuild": [trigger]})
    result = build("FROM trigger\n", limit=SHORT)
    held("ONBUILD", f"a base image triggers {trigger[:32]!r}", told(result) and closed(result) and "\x1b" not in result.err, result)
load("trigger", config={"OnBuild": ["RUN echo triggered"]})
result = build("FROM trigger\n")
control("ONBUILD", "an honest trigger runs", "triggered" in result.all, result)
for name, more in {"WorkingDir is a descriptor": {"WorkingDir": "/proc/self/fd/6"}, "WorkingDir climbs": {"WorkingDir": "../../../.." + HOST}, "WorkingDir is a link": {"WorkingDir": "/proc/1/root" + HOST}, "Shell is not there": {"Shell": ["/nothing"]}, "Shell is empty": {"Shell": []}, "User overflows": {"User": "4294967296"},
                   "a label steers the terminal": {"Labels": {"x\x1b[31m": "\x1b]0;x\x07"}}, "10,000 variables": {"Env": [f"V{n}=" + "x" * 50 for n in range(10000)]}, "a variable of 1 MiB": {"Env": ["A=" + "x" * (1 << 20)]}, "a volume climbs": {"Volumes": {"/../../.." + HOST: {}}}}.items():
    load("configured", config=more)
    result = build("FROM configured\nRUN ls secret ../../../.." + HOST + "; cat secret ../secret; true\nCOPY new .\n", files=ARCHIVE, limit=SHORT)
    held("CVE-2024-21626", f"a base image whose {name}", ended(result) and closed(result) and "\x1b" not in result.err, result)

# An image that claims to be the result of a step.
STEP = "echo honest > /x"
claim = {"created": "2024-01-01T00:00:00Z", "created_by": f"RUN /bin/sh -c {STEP} # buildkit"}
blobs = [open(base_layer(), "rb").read(), layer(entry("x", data="poisoned"))]
document = {"architecture": "arm64" if os.uname().machine == "aarch64" else "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Image": "sha256:" + "0" * 64},
            "container_config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh", "-c", STEP]}, "parent": rcon("inspect", "-f", "{{.Id}}", "busybox").out.strip(), "history": [{"created_by": "base"}, claim],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(blob).hexdigest() for blob in blobs]}}
rcon("load", "-q", data=archive({"config.json": json.dumps(document).encode(), "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": ["poison:latest"], "Layers": ["0.tar", "1.tar"]}]).encode(), "0.tar": blobs[0], "1.tar": blobs[1]}))
result = build(f"FROM busybox\nRUN {STEP}\n", "-t", "clean")
held("CVE-2024-24557", "an image claims to be the result of a step", run("clean", "cat", "/x").out == "honest\n", result)
control("CVE-2024-24557", "it was loaded, and holds other words", run("poison", "cat", "/x").out == "poisoned")

# Descriptors and working directories (CVE-2024-21626, the published attack by a Dockerfile).
bad = []
for number in range(3, 20):
    result = build(f"FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN cat ../../../../../../../../../..{SECRET}; ls -a; pwd\n", limit=SHORT)
    bad += [] if ended(result) and closed(result) else [(number, str(result))]
held("CVE-2024-21626", "WORKDIR /proc/self/fd/3 to 19 is a directory of the host", not bad, bad[:1])
result = build("FROM busybox\nRUN for fd in /proc/$$/fd/*; do echo \"fd=$(readlink $fd)\"; done\n")
seen = [line.split("fd=")[1].split(":")[0] for line in result.all.splitlines() if " fd=" in line]
held("CVE-2024-21626", "descriptors of the builder in a step", sorted(set(seen)) == ["/dev/null", "pipe"], seen)
result = build("FROM busybox\nRUN cat /proc/1/environ /proc/self/mountinfo > /seen; grep -c . /seen; test ! -w /proc/sys/kernel/core_pattern || echo yes > /proc/sys/kernel/core_pattern\n")
held("CVE-2025-52881", "a step writes to /proc/sys", "yes" not in read("/proc/sys/kernel/core_pattern"), result)

# Rights that must be asked for.
FULL = "CapEff:\t000001ffffffffff"
for text, flag in (("--security=insecure", "security.insecure"), ("--network=host", "network.host")):
    probe = f"FROM busybox\nRUN {text} grep CapEff /proc/self/status; readlink /proc/self/ns/net\n"
    result = build(probe)
    held("CVE-2024-23653", f"RUN {text} without --allow", told(result) and "allow" in result.err and "CapEff:" not in result.all.replace("grep CapEff", ""), result)
    result = build(probe, "--allow", flag)
    control("CVE-2024-23653", f"RUN {text} with it", result.code == 0 and (os.readlink("/proc/self/ns/net") in result.all if "network" in text else "CapEff:" in result.all), result)
    result = build(probe)
    held("CVE-2024-23653", f"RUN {text} without --allow, its result in the cache", told(result) and "allow" in result.err, result)
result = build("FROM busybox\nRUN grep CapEff /proc/self/status; mount -t tmpfs x /mnt; echo $?\n")
held("CVE-2024-23653", "a plain step has the rights of a container", "00000000a80425fb" in result.all, result)
for frontend in ("# syntax=127.0.0.1:1/evil:latest", "#syntax = docker.io/evil/frontend"):
    result = build(f"{frontend}\nFROM scratch\nCOPY new /\n", files=ARCHIVE)
    held("CVE-2026-33747", f"{frontend} is fetched and executed", result.code == 0, result)

# Mounts over what the kernel shows, and over the mount points that masks need.
for target in ("/proc", "/proc/self", "/proc/sys", "/proc/sys/kernel", "/proc/self/attr", "/sys", "/sys/fs/cgroup", "/dev", "/proc/../proc", "//proc/", "/link", "/link/sys", "/proc/1/root", "/dev/pts", "/dev/null"):
    for kind in ("tmpfs", "cache", "bind"):
        load("proc", layer(symlink("link", "/proc")))
        result = build(f"FROM proc\nRUN --mount=type={kind},target={target} grep -e ' /proc' /proc/self/mountinfo; ls /proc/acpi /sys/firmware /proc/scsi; cat /proc/kcore | head -c 10 | wc -c; cat /proc/keys; echo x > /proc/sys/kernel/domainname && printf '%s%s' writ ten\n", files=ARCHIVE, limit=SHORT)
        held("CVE-2019-16884", f"a {kind} mount on {target}", ended(result) and closed(result) and "written" not in result.all and mounts() == [], result)
for options in ("type=bind,source=/,target=/m,bind-propagation=rshared", "type=bind,source=/,target=/m,relabel=shared", "type=bind,source=/,target=/m,z", "type=bind,source=/,target=/m,U=true", "type=bind,source=/,target=/m,suid,dev,exec", "type=devpts,target=/m", "type=volume,source=x,target=/m", "type=bind,target=/",
                "type=bind,target=/m/../..", "type=tmpfs,target=/m,size=99999999999999999999", "type=cache,target=/m,mode=99999", "type=cache,target=/m,uid=4294967296", "type=bind,source=/,target=/m,source=" + HOST, "type=cache,target=/m,sharing=none", "type=bind"):
    result = build(f"FROM busybox\nRUN --mount={options} cat /m/secret; true\n")
    held("CVE-2024-9407", f"RUN --mount={options}", told(result) and closed(result), result)

# Caches.
before = set(os.listdir(WORK + "/data")) | {"build"}
for name in ("../../../../../../.." + HOST, HOST, "..", ".", "/", "a/../../b", "a\\..\\b", "x" * 4000, "\x1b[31m", "$HOME", "data", "é"):
    result = build(f"FROM busybox\nRUN --mount=type=cache,id={name},target=/c cat /c/secret; echo x > /c/new; ls /c\n", "--no-cache")
    places = os.listdir(WORK + "/data/build/mounts")
    held("CVE-2024-9675", f"the id of a cache is {name[:30]!r}", ended(result) and closed(result) and set(os.listdir(WORK + "/data")) <= before and all(len(place) == 64 and place.isalnum() for place in places), places)
peer("CVE-2024-9675", "buildah of this machine mounts a directory of the host by it", not with_buildah(f"RUN --mount=type=cache,id={UP}{HOST},target=/c /bin/busybox touch /c/new\n"))
poison = "FROM busybox\nRUN --mount=type=cache,id=shared,target=/c rm -rf /c/*; ln -s %s /c/link; ln -s / /c/root; ln -s ../../../.. /c/up; mkdir /c/real; echo in > /c/real/secret\n" % HOST
build(poison, "--no-cache")
for options in ("type=cache,id=shared,target=/c,source=link", "type=cache,id=shared,target=/c,source=up/../..", "type=cache,id=shared,target=/c --mount=type=tmpfs,target=/c/link/new", "type=cache,id=shared,target=/c --mount=type=bind,source=dir,target=/c/link/new", "type=cache,id=shared,target=/c --mount=type=cache,id=inner,target=/c/up/new",
                "type=cache,id=shared,target=/c --mount=type=secret,id=s,target=/c/link/new", "type=cache,id=shared,target=/c,uid=7,mode=4777"):
    result = build(f"FROM busybox\nRUN --mount={options} cat /c/secret /c/link/secret /c/up{SECRET} /c/root{SECRET}; echo x > /c/link/new; true\n", "--secret", f"id=s,src={TOOL}/tool.c", "--no-cache", files=ARCHIVE)
    held("CVE-2024-23651", f"another build poisoned the cache: {options[20:]}", ended(result) and closed(result) and mounts() == [], result)
inside = [path for path, directories, _ in os.walk(WORK + "/data/build/mounts") if "real" in directories][0]
control("CVE-2024-23651", "the poisoned link is there, and leads to the host from outside", MARK in read(inside + "/link/secret"))
with Swapper((inside + "/real", inside + "/link")):
    results = [build(f"FROM busybox\nRUN --mount=type=cache,id=shared,target=/c --mount=type=tmpfs,target=/c/real/n{index} --mount=type=cache,id=n{index},target=/c/real/m{index} true\n") for index in range(ROUNDS)]
held("CVE-2024-23651", f"the name of a nested mount point changes to a link ({sum(r.code == 0 for r in results)} of {ROUNDS} ran)", all(ended(r) and closed(r) for r in results) and mounts() == [], results[0])
with Swapper((inside + "/real", inside + "/link")):
    results = [build("FROM busybox\nRUN --mount=type=cache,id=shared,target=/c sleep 0.01\n", "--no-cache") for index in range(3)] + [rcon("system", "df"), rcon("builder", "du"), rcon("builder", "prune", "-af")]
held("CVE-2024-23652", "a cache that changes while it is measured and removed", closed(results[-1]), results[-1])
for name in os.listdir(WORK + "/data/build/mounts"):
    shutil.rmtree(f"{WORK}/data/build/mounts/{name}")
build("FROM busybox\nRUN --mount=type=cache,id=deep,target=/c cd /c; for i in $(seq 1500); do mkdir ddddd && cd ddddd || exit 1; done\n")
result = rcon("builder", "prune", "-af")
held("CVE-2024-23652", "a cache nested deeper than a path is removed", result.code == 0 and os.listdir(WORK + "/data/build/mounts") == [], result)

# Secrets.
KEY = "word-nobody-may-see"
open(WORK + "/key", "w").write(KEY)
GIVEN = ("--secret", f"id=key,src={WORK}/key", "--secret", "id=variable,env=KEY")
steps = {
    "as a file": "RUN --mount=type=secret,id=key cat /run/secrets/key | wc -c", "as a file elsewhere": "RUN --mount=type=secret,id=key,target=/etc/key,mode=0444,uid=7 wc -c < /etc/key", "as a variable": "RUN --mount=type=secret,id=key,env=KEY echo ${#KEY}", "from the environment": "RUN --mount=type=secret,id=variable wc -c < /run/secrets/variable",
    "when the step fails": "RUN --mount=type=secret,id=key,env=KEY false", "when the step copies its mount point": "RUN --mount=type=secret,id=key ls -l /run/secrets; mount | grep -c secrets", "when nothing is made": "RUN --mount=type=secret,id=key true", "in a file of the root": "RUN --mount=type=secret,id=key,target=/bin/cat true",
}
for name, text in steps.items():
    for mode in ("plain", "rawjson"):
        result = build(f"FROM busybox\n{text}\nENV after=1\n", *GIVEN, "-t", "secretive", "--progress", mode, "--metadata-file", WORK + "/metadata", "--no-cache", env=dict(os.environ, KEY=KEY, RCON_LOG="trace", RUST_LOG="trace"))
        shown = result.all + rcon("inspect", "secretive").out + rcon("history", "--no-trunc", "secretive").out + rcon("builder", "du", "--verbose").out + (read(WORK + "/metadata") if os.path.exists(WORK + "/metadata") else "")
        left = holding(KEY, WORK + "/data", WORK + "/run")
        held("CVE-2019-13509", f"a secret {name} is in what is shown or kept ({mode})", ended(result) and KEY not in shown and not left, left or result)
result = build("FROM busybox\nRUN --mount=type=secret,id=key cp /run/secrets/key /kept\n", *GIVEN[:2], "-t", "secretive")
control("CVE-2019-13509", "a step that copies it keeps it", run("secretive", "cat", "/kept").out == KEY, result)
result = build("FROM busybox\nRUN cat /run/secrets/key /run/secrets/*; env; ls /run/buildkit; cat /run/rcon/* 2>/dev/null; true\n", *GIVEN, "--no-cache", env=dict(os.environ, KEY=KEY))
held("CVE-2019-13509", "a step that was not given the secret", result.code == 0 and KEY not in result.all, result)
for name in ("../../../../../../etc/passwd", "../" * 12 + NEW.lstrip("/"), "a/b", "..", "x\ny"):
    result = build(f"FROM busybox\nRUN --mount=type=secret,id=\"{name}\" cat /etc/passwd | grep -c {KEY[:-1]}[{KEY[-1]}]; true\n", "--secret", f'"id={name}",src={WORK}/key')
    held("CVE-2019-13509", f"the id of a secret is {name[:24]!r}", ended(result) and closed(result) and KEY not in result.all, result)
agent = subprocess.Popen(["python3", "-c", f"import socket\ns=socket.socket(socket.AF_UNIX)\ns.bind('{WORK}/agent')\ns.listen()\nwhile True:\n c=s.accept()[0]; c.sendall(b'agent speaks'); c.close()"])


def agent_speaks():
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(WORK + "/agent") == 0 and probe.recv(100) == b"agent speaks"


wait_for(agent_speaks)
result = build("FROM busybox\nRUN --mount=type=ssh,required=true ls -l $SSH_AUTH_SOCK\nRUN env; ls -lR /run; true\n", "--ssh", f"default={WORK}/agent", "-t", "agent", "--no-cache")
second = result.all.split("RUN env")[-1]
held("CVE-2019-13509", "the agent's socket stays for the next step and in the image", result.code == 0 and "ssh_agent" not in second and "SSH_AUTH_SOCK" not in second and "ssh_agent" not in run("agent", "ls", "-lR", "/run").out, result)
control("CVE-2019-13509", "the step it was given to has it", "ssh_agent.0" in result.all.split("RUN env")[0], result)
agent.kill()
agent.wait()


# What steps leave.
def steps_left():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = read(f"/proc/{pid}/cmdline").replace("\0", " ")
        except OSError:
            continue
        found += [words] if words.startswith("sleep 97531 ") else []
    return found


result = build("FROM busybox\nRUN (setsid sleep 97531 > /dev/null 2>&1 < /dev/null &) ; (while true; do ln -sfn %s /data; done > /dev/null 2>&1 &) ; mkdir -p /x; echo in > /x/secret\nRUN ps | grep -c '[9]7531'; true\n" % HOST, limit=SHORT)
held("CVE-2024-11218", "a step leaves processes behind", result.code == 0 and wait_for(lambda: not steps_left()), steps_left() or result)
race = f"""FROM busybox AS evil
RUN mkdir /real && echo in > /real/secret && ln -s {HOST} /link && (while true; do mv /real /was; mv /link /real; mv /real /link; mv /was /real; done > /dev/null 2>&1 &)
RUN for i in 1 2 3; do rm -rf /real; ln -s {HOST} /real; rm /real; mkdir /real; echo in > /real/secret; done
FROM busybox
COPY --from=evil /real /taken
RUN --mount=type=bind,from=evil,source=/real,target=/m cat /m/secret /taken/secret
"""
results = [build(race, "--no-cache", limit=SHORT) for _ in range(5)]
held("CVE-2024-11218", "another stage swaps what is mounted and copied from it (5 rounds)", all(ended(r) and closed(r) for r in results), results[0])
for name, text in {
    "a device that means deleted": "mknod /gone c 0 0; mknod /etc/group2 c 0 0", "an attribute that redirects": "mkdir /a; tool xattr /a trusted.overlay.redirect /etc; tool xattr /a trusted.overlay.opaque y; tool xattr /a user.overlay.redirect /etc; tool xattr /a user.overlay.opaque y", "attributes of labels": "touch /a; tool xattr /a security.selinux x; tool xattr /a security.ima x; tool xattr /a trusted.x y",
    "names of whiteouts": "mkdir /w; touch /w/.wh.x /w/.wh..wh..opq /.wh.etc /w/.wh. /w/.wh..wh.plnk", "sockets and fifos": "mkfifo /f; (nc -l -s 127.0.0.1 -p 1 & ); true", "names that are no text": "touch $(printf '/a\\377b') $(printf '/a\\033[31mb') \"$(printf '/a\\nb')\"", "hard links": "touch /h; for i in $(seq 2000); do ln /h /h$i; done",
    "directories that nobody may enter": "mkdir -m 0 /n; mkdir -m 0 /n/m; touch /n/m/x", "set-id programs": "cp /bin/busybox /s; chmod 6755 /s", "a file with holes": "truncate -s 100M /holes", "an empty root": "/bin/busybox rm -rf /bin/* /etc /home /usr /var /root /tmp",
    "a root that is a link": "rm -rf /etc /run /proc2; ln -s / /etc; ln -s / /run", "a mount": "mount -t tmpfs x /mnt && echo lost > /mnt/lost; true",
}.items():
    result = build(f"FROM tools\nRUN {text}; true\nRUN true\n", "-t", "left", limit=60)
    okay = ended(result) and closed(result) and mounts() == []
    detail = result
    if result.code == 0:
        detail = saved = command(*ENGINE, "save", "-o", WORK + "/left.tar", "left")
        okay = okay and (saved.code == 0 or told(saved))
        if saved.code == 0:
            tops = command(RCON, "--root", WORK + "/second", "--run-root", WORK + "/second-run", "load", "-i", WORK + "/left.tar")
            listing = "FROM left\nRUN find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -print > /dev/shm/list; sort /dev/shm/list | md5sum > /sum\n"
            sums = [command(RCON, "--root", WORK + root, "--run-root", WORK + root + "-run" if root == "/second" else WORK + "/run", "build", "--network", "none", "-q", "-o", WORK + f"/sum{index}", "--no-cache", context(listing)) for index, root in enumerate(("/data", "/second"))]
            texts = [read(WORK + f"/sum{index}/sum") if os.path.exists(WORK + f"/sum{index}/sum") else str(sums[index].code) for index in range(2)]
            okay, detail = okay and tops.code == 0 and texts[0] == texts[1], (str(tops), texts, str(sums[1])[:300])
            for index in range(2):
                shutil.rmtree(WORK + f"/sum{index}", ignore_errors=True)
            os.remove(WORK + "/left.tar")
    held("whiteouts", f"a step makes {name}: elsewhere the image is the same", okay, detail)
shutil.rmtree(WORK + "/second", ignore_errors=True)
for name, text, wanted in (("forks without end", "f() { f | f & }; f; sleep 0.5; wait", ("--pids-limit", "60")), ("eats memory", "tool eat 2000", ("--memory", "32m")), ("writes 5,000,000 lines to its screen", "yes | head -c 10000000", ()), ("one line without end", "head -c 20000000 /dev/zero | tr '\\0' x", ()), ("starves the builder", "while true; do :; done & sleep 0.2; kill $!", ())):
    result = build(f"FROM tools\nRUN {text}\n", *wanted, "--progress", "quiet", limit=SHORT)
    held("limits", f"a step {name}", ended(result), str(result)[:500])
    if name == "eats memory":
        held("limits", "and its error names the memory", told(result) and "memory" in result.err.lower(), result)
result = build("FROM tools\nRUN for i in $(seq 1000); do mkdir dddddd && cd dddddd || exit 1; done; touch x\n", "-t", "deep", limit=SHORT)
held("limits", "a step nests directories deeper than a path", ended(result), result)
rcon("rmi", "-f", "deep")
result = build("FROM tools\nRUN --security=insecure mkdir /i; touch /i/x; tool immutable /i/x; tool immutable /i; mount -t tmpfs x /mnt && echo lost > /mnt/lost; mount --make-rshared / ; mount --bind /i /home\n", "--allow", "security.insecure", "-t", "immutable")
held("leftovers", "a privileged step leaves mounts and files that nobody may change", ended(result) and mounts() == [] and "lost" not in run("immutable", "ls", "/mnt").out, result)
result = build("FROM tools\nRUN --security=insecure --mount=type=cache,target=/c touch /c/x; tool immutable /c/x\n", "--allow", "security.insecure")
removed = rcon("builder", "prune", "-af")
marked = [os.path.join(path, file) for path, _, files in os.walk(WORK + "/data/build/mounts") for file in files]
held("leftovers", "a cache with files that nobody may change is removed", removed.code == 0 and not marked, (str(removed), marked))
for path in marked:
    command("chattr", "-i", path)

# The terminal.
for name, text in {"in its output": "RUN printf '\\033]0;owned\\007\\033[2J\\2332J\\u009b31m\\n\\033[6n'", "in its error": "RUN printf '\\033[31m' >&2; exit 3", "in its words": "RUN echo \x1b[31m; false", "in an unknown instruction": "R\x1bUN x", "in a name": "COPY a\x1b[31mb /x", "in a label": "LABEL a=\"\x1b[31m\"\nRUN false",
                   "in the name of a stage": "FROM busybox AS a\x1b[31m", "in a variable": "ENV A=\"\x1b[2J\"\nRUN false $A", "in eight bits": "RUN echo '\x9b31m\x9d0;x\x9c'; false"}.items():
    for mode in ("plain", "rawjson", "quiet"):
        result = build(f"FROM busybox\n{text}\n", "--progress", mode, "--no-cache")
        raw = [c for c in result.all if c == "\x1b" or "\x7f" <= c <= "\x9f" or (c < " " and c not in "\n\t")]
        held("escapes", f"control characters {name} reach the terminal ({mode})", ended(result) and not raw, repr(raw[:5]))
place = context("FROM busybox\nRUN printf '\\033]0;own''ed\\007\\033[2J\\n'; sleep 0.3; false\n")
result = command("script", "-qec", " ".join([*ENGINE, "build", "--network", "none", place]), "/dev/null")
held("escapes", "control characters in its output reach a real terminal", "owned" not in result.out and "\x1b[2J" not in result.out and "\x1b[" in result.out, result)

# Where results go.
for name, flag in (("--iidfile", "--iidfile"), ("--metadata-file", "--metadata-file")):
    for link in (SECRET, NEW):
        os.path.lexists(WORK + "/result") and os.remove(WORK + "/result")
        os.symlink(link, WORK + "/result")
        result = build("FROM scratch\nCOPY new /\n", flag, WORK + "/result", files=ARCHIVE)
        held("CVE-2019-10152", f"the file of {name} is a link to {'a file' if link == SECRET else 'nothing yet'} of the host", ended(result) and closed(result), result)
        open(SECRET, "w").write(MARK)
result = build("FROM scratch\nCOPY new /\n", "--iidfile", "/dev/stdout", files=ARCHIVE)
control("CVE-2019-10152", "--iidfile /dev/stdout is written to", result.code == 0 and result.out.startswith("sha256:"), result)
DEST = WORK + "/dest"
for name, files in {"a directory of the tree is a link there": [entry("d/new", data="x"), directory("d", 0o777)], "a file of the tree is a link there": [entry("f", data="x")], "a link of the tree over a directory there": [symlink("real", HOST)], "a link of the tree, then a file": [symlink("l", HOST), entry("m/new", data="x")], "a hard link": [entry("a", data="x"), hardlink("f", "a")]}.items():
    shutil.rmtree(DEST, ignore_errors=True)
    os.makedirs(DEST + "/real")
    os.symlink(HOST, DEST + "/d")
    os.symlink(NEW, DEST + "/f")
    os.symlink(HOST, DEST + "/m")
    load("tree", layer(*files), base=False)
    result = build("FROM tree\n", "-o", DEST)
    held("CVE-2019-1002101", f"-o DIR: {name}", ended(result) and closed(result), result)
control("CVE-2019-1002101", "cp follows the link", command("cp", TOOL + "/tool.c", DEST + "/d/new").code == 0 and os.path.exists(NEW))
closed(Result(0, "", ""))
rcon("ps", "-aq")
held("leftovers", "no sandbox, tree, draft or mount is left", os.listdir(WORK + "/data/containers") == [] and mounts() == [], os.listdir(WORK + "/data/containers"))
result = rcon("system", "check")
held("leftovers", "the store is sound", result.code == 0, result)
finish()
