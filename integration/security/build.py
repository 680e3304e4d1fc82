"""`rcon build` with contexts that lead out: directories, tars, git repositories, and what stands beside a Dockerfile.

What a build took shows in the tar of its result (`-o -`), what it wrote in a directory that stands for the host.
"""
import gzip
import socket

from lab import *

busybox()
HOST = WORK + "/host"
os.makedirs(HOST)
SECRET = HOST + "/secret"
MARK = "secret of the host"
open(SECRET, "w").write(MARK)
os.chmod(SECRET, 0o600)
CLIMB = "../" * 14 + HOST.lstrip("/")
ROUNDS = int(os.environ.get("RCON_ROUNDS", "25"))
SHORT = 60  # Seconds that something hostile may take.


def untouched():
    return sorted(os.listdir(HOST)) == ["secret"] and read(SECRET) == MARK and os.stat(SECRET).st_mode & 0o7777 == 0o600


def clean_host():
    for name in set(os.listdir(HOST)) - {"secret"}:
        path = os.path.join(HOST, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    open(SECRET, "w").write(MARK)
    os.chmod(SECRET, 0o600)


def closed(result):
    """Nothing came in, nothing went out."""
    fine = MARK not in result.all and untouched() and not any(word in result.all for word in PANIC) and result.code >= 0
    clean_host()
    return fine


def trees():
    """What temporary builds have left."""
    place = WORK + "/data/build/trees"
    return os.listdir(place) if os.path.isdir(place) else []


# Links in a local context.
LINKS = {"abs": ("link", HOST), "climb": ("link", CLIMB), "file": ("link", SECRET), "self": ("link", "/proc/self/root" + HOST), "here": ("link", "/proc/self/cwd"),
         "chain": ("link", "abs/../abs"), "d/deep": ("link", CLIMB), "x": "x"}
for source in ("file", "abs", "abs/secret", "climb/secret", "self/secret", "chain/secret", "d/deep/secret", "here" + SECRET, "a*/secret", "f*", "../" * 9 + SECRET, SECRET, ".", "abs/*", "d"):
    for verb in ("COPY", "ADD", "COPY --parents", "ADD --unpack=true", "COPY --link"):
        result = build(f"FROM scratch\nCOPY x /x\n{verb} {source} /to/\n", "-o", "-", files=LINKS)
        held("buildah CVE-2020-10696", f"{verb} {source[:14]} leads out of the context", closed(result), result)
    result = build(f"FROM busybox\nRUN --mount=type=bind,source={source},target=/m cat /m /m/secret\n", files=LINKS)
    held("CVE-2024-1753", f"RUN --mount source={source[:14]} leads out of the context", closed(result), result)
place = context(files=LINKS)
control("buildah CVE-2020-10696", "cp follows the same links", MARK in command("sh", "-c", f"cat {place}/file {place}/climb/secret {place}/self/secret").out)
result = build("FROM scratch\nCOPY file abs* /\n", "-o", WORK + "/taken", files=LINKS | {"file": MARK, "abs": ("link", "file")})
control("buildah CVE-2020-10696", "a link inside of the context is followed", result.code == 0 and read(WORK + "/taken/abs") == MARK, result)

# A name of the context changes while it is copied.
def look_then_open():
    try:
        return os.path.realpath(place + "/real").startswith(place) and MARK in read(place + "/real/secret")
    except OSError:
        return False


place = context("FROM scratch\nCOPY real /\n", {"real/secret": "in"})
os.symlink(HOST, place + "/link")
with Swapper((place + "/real", place + "/link")):
    results = [rcon("build", "--progress", "plain", "-o", "-", place) for _ in range(ROUNDS)]
    naive = tried(look_then_open)
held("CVE-2018-15664", f"a directory changes to a link while it is copied ({sum(r.code == 0 for r in results)} of {ROUNDS} built)", all(closed(r) for r in results), results[0])
control("CVE-2018-15664", "who looks and then opens reads the host", naive)

# Dockerfile and ignore file that are something else.
odd = {
    "a link to the host": lambda path: os.symlink(SECRET, path), "a climbing link": lambda path: os.symlink(CLIMB + "/secret", path), "a magic link": lambda path: os.symlink("/proc/self/root" + SECRET, path),
    "a fifo": os.mkfifo, "a device without end": lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), "a directory": os.mkdir, "a link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(path), "17 MiB of nothing": lambda path: open(path, "wb").truncate(17 << 20), "a file of 1 TiB": lambda path: open(path, "wb").truncate(1 << 40),
}
for name, make in odd.items():
    for file, flags in (("Dockerfile", ()), ("Containerfile", ()), ("d/Dockerfile", ("-f", "d/Dockerfile"))):
        place = context(files={"d/x": ""})
        make(f"{place}/{file}")
        for at in (None, place):
            result = rcon("build", *flags, ".", limit=SHORT, cwd=place) if at is None else rcon("build", *flags[:1], *(f"{place}/{flag}" for flag in flags[1:]), place, limit=SHORT)
            held("buildah CVE-2020-10696", f"{file} is {name}{' (named by its full path)' if at and flags else ''}", told(result) and closed(result), result)
    for file in (".dockerignore", ".containerignore", "Dockerfile.dockerignore"):
        place = context("FROM scratch\nCOPY x /\n", {"x": ""})
        make(f"{place}/{file}")
        result = rcon("build", "-o", "-", place, limit=SHORT)
        # What leads nowhere inside of the context is not there.
        held("buildah CVE-2020-10696", f"{file} is {name}", (told(result) or result.code == 0) and closed(result), result)
place = context()
os.symlink(SECRET, place + "/Dockerfile")
control("buildah CVE-2020-10696", "an engine that opens the name reads the host's file", read(place + "/Dockerfile") == MARK)
place = context(files={"inner": "FROM scratch\nCOPY inner /\n", "Dockerfile": ("link", "inner")})
control("buildah CVE-2020-10696", "a Dockerfile that is a link inside of the context is read", rcon("build", "-o", "-", place).code == 0)

# What is ignored is reached another way.
IGNORED = "ignored words"
HIDDEN = {"key": IGNORED, "d/key": IGNORED, "way": ("link", "key"), "up/way": ("link", "../key"), "dir": ("link", "d"), "x": "x", ".dockerignore": "key\nd\n"}
for source in ("key", "way", "up/way", "dir/key", "dir", "./x/../key", "k*", "[k]ey", "d/*", "d/../key", "/key", "//key", "up", "."):
    for verb in ("COPY", "ADD", "COPY --parents"):
        result = build(f"FROM scratch\nCOPY x /x\n{verb} {source} /to/\n", "-o", "-", files=HIDDEN)
        held(".dockerignore", f"{verb} {source} of what is ignored", IGNORED not in result.out, result)
    result = build(f"FROM busybox\nRUN --mount=type=bind,source={source},target=/m cat /m /m/key /m/way /m/d/key\n", files=HIDDEN)
    held(".dockerignore", f"RUN --mount source={source} of what is ignored", IGNORED not in result.all, result)
result = build("FROM scratch\nCOPY . /to/\n", "-o", "-", files={"key": IGNORED, ".dockerignore": "nokey\n"})
control(".dockerignore", "without the line it is there", IGNORED in result.out)
for name, text in (("500 patterns with stars", "**/*a*b*c*d\n!**/e*f*g*h\n" * 250), ("a pattern of 100 KiB", "*a" * 50000), ("no pattern", "[a"), ("only exceptions", "!**\n" * 1000)):
    result = build("FROM scratch\nCOPY . /\n", "-o", "-", files={".dockerignore": text} | {"a" * 20 + f"/{n}": "" for n in range(300)}, limit=SHORT)
    held(".dockerignore", f"it is {name}", result.code >= 0 and (told(result) or result.code == 0), result)


# Tars on standard input, as contexts; and the same as archives of ADD.
DOCKERFILE = entry("Dockerfile", data="FROM scratch\nCOPY . /\n", mode=0o644)
UP = "../" * 16


def tar_context(*entries, flags=("-o", "-"), raw=None, **more):
    return rcon("build", "--progress", "plain", *flags, "-", data=layer(DOCKERFILE, *entries) if raw is None else raw, limit=SHORT, **more)


OUT = {
    "a name that climbs": [entry(UP + HOST.lstrip("/") + "/new", data="x")], "a climbing name behind a directory": [entry("d/" + UP + HOST.lstrip("/") + "/new", data="x")],
    "an absolute name": [entry(HOST + "/new", data="x")], "a link, then a file through it": [symlink("way", HOST), entry("way/new", data="x")],
    "a climbing link, then a file through it": [symlink("way", UP + HOST.lstrip("/")), entry("way/new", data="x")], "a link, then a directory of its name": [symlink("way", HOST), directory("way", 0o777), entry("way/new")],
    "a link to a file, then a file of its name": [symlink("way", SECRET), entry("way", data="overwritten")], "a hard link out": [hardlink("gain", SECRET)],
    "a climbing hard link out": [hardlink("gain", UP + SECRET.lstrip("/"))], "a hard link through a link": [symlink("way", HOST), hardlink("gain", "way/secret")],
    "a hard link to a link, then written": [symlink("way", SECRET), hardlink("gain", "way"), entry("gain", data="overwritten")],
    "a chain of links": [symlink("a", "b"), symlink("b", "c/../.."), symlink("c", "."), symlink("d", "a/../../.." + HOST), entry("d/new", data="x")],
    "the root is a link": [entry(".", tarfile.SYMTYPE, link=HOST), entry("./new", data="x")], "the root is a link, ./": [entry("./", tarfile.SYMTYPE, link=HOST), entry("new", data="x")],
    "modes through a link": [symlink("way", HOST), directory("way", 0o4777)], "a magic link": [symlink("way", "/proc/self/root" + HOST), entry("way/new", data="x")],
    "a name of nothing": [entry("", data="x")], "a name of dots": [entry("..", data="x")], "a link without a target": [symlink("way", "")], "a hard link to itself": [hardlink("way", "way")],
    "a name with a line end and an escape": [entry("a\n\x1b[31mb", data="x"), hardlink("c", "none\x1b[31m")], "one name a hundred times": [entry("x", data=str(n)) for n in range(100)] + [symlink("x", SECRET), entry("x", data="y")],
}
for name, entries in OUT.items():
    result = tar_context(*entries)
    held("CVE-2019-11249", f"a tar as context: {name}", closed(result) and (told(result) or result.code == 0) and "\x1b" not in result.err, result)
    evil = {"evil.tar": layer(entry("first"), *entries)}
    for flags in ("", "--link ", "--chown=7:7 --chmod=0644 "):
        result = build(f"FROM busybox\nADD {flags}evil.tar /to/\n", "-o", "type=cacheonly", files=evil)
        held("CVE-2019-11249", f"ADD {flags}of a tar: {name}", closed(result) and (told(result) or result.code == 0) and "\x1b" not in result.err, result)
open(WORK + "/naive.tar", "wb").write(layer(*OUT["a link, then a file through it"]))
os.makedirs(WORK + "/naive")
with tarfile.open(WORK + "/naive.tar") as naive:
    naive.extractall(WORK + "/naive", **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}))
control("CVE-2019-11249", "an ordinary program that unpacks the same tar writes to the host", "new" in os.listdir(HOST))
clean_host()

# The Dockerfile of a tar is something else.
for name, first in (("a link to the host", symlink("Dockerfile", SECRET)), ("a climbing link", symlink("Dockerfile", CLIMB + "/secret")), ("a hard link to the host", hardlink("Dockerfile", SECRET)), ("a fifo", entry("Dockerfile", tarfile.FIFOTYPE)),
                    ("a device without end", entry("Dockerfile", tarfile.CHRTYPE, device=(1, 5))), ("a directory", directory("Dockerfile"))):
    result = tar_context(raw=layer(first, entry("x")))
    held("buildah CVE-2020-10696", f"the Dockerfile of a tar is {name}", told(result) and closed(result), result)

# Devices and attributes. A device of the context is made again, and never read.
for name, kind, device in (("a device without end", tarfile.CHRTYPE, (1, 5)), ("a disk", tarfile.BLKTYPE, (8, 0)), ("overlayfs' mark of a deleted file", tarfile.CHRTYPE, (0, 0)), ("a fifo", tarfile.FIFOTYPE, (0, 0))):
    result = tar_context(entry("node", kind, device=device))
    held("devices", f"a tar as context has {name}", (told(result) or result.code == 0) and len(result.out) < 1 << 20, result)
    for flags in ("", "--link "):
        # Named as a file of the base, which a mark would take away.
        result = build(f"FROM busybox\nADD {flags}evil.tar /etc/\nRUN head -c 4 /etc/passwd\n", files={"evil.tar": layer(entry("passwd" if device == (0, 0) and kind == tarfile.CHRTYPE else "node", kind, device=device))})
        held("whiteouts", f"ADD {flags}of a tar with {name}", (told(result) and "0:0" in result.err) or (result.code == 0 and "root" in result.all), result)
for name, value in [("trusted.overlay.redirect", HOST), ("trusted.overlay.opaque", "y"), ("user.overlay.redirect", HOST), ("user.overlay.opaque", "y"), ("security.selinux", "system_u:object_r:x:s0"), ("security.ima", "x"), ("trusted.x", "y")]:
    attributed = layer(entry("deep", tarfile.DIRTYPE, pax={"SCHILY.xattr." + name: value}), entry("deep/x", data="x", pax={"SCHILY.xattr." + name: value}), DOCKERFILE)
    for way in ("as context", "by ADD", "by ADD --link"):
        if way == "as context":
            result = rcon("build", "-t", "attributes", "-", data=attributed)
        else:
            result = build(f"FROM scratch\n{way[3:]} evil.tar /to/\n", "-t", "attributes", files={"evil.tar": attributed})
        found = [item for top in ("/data/layers", "/data/build") for folder, directories, files in os.walk(WORK + top) for item in directories + files
                 if name in os.listxattr(os.path.join(folder, item), follow_symlinks=False)]
        held("xattrs", f"a tar {way} sets {name}", not found and (told(result) or result.code == 0), found or result)

# Streams that end early, or never.
whole = layer(DOCKERFILE, entry("x", data=os.urandom(300000)))
for name, data in (("cut in a file", whole[:100000]), ("cut in a header", whole[:700]), ("of a gzip cut short", gzip.compress(whole)[:-40000]), ("of a gzip with a wrong sum", gzip.compress(whole)[:-8] + b"12345678"), ("of a header alone", whole[:512]), ("without an end", whole.rstrip(b"\0")),
                   ("of nothing", b""), ("of zeros", bytes(1 << 20)), ("of noise behind a gzip's mark", b"\x1f\x8b" + os.urandom(5000)), ("that says it is zstd", b"\x28\xb5\x2f\xfd" + os.urandom(5000)), ("that says it is xz", b"\xfd7zXZ\0" + os.urandom(5000))):
    result = tar_context(raw=data)
    held("CVE-2021-20291", f"standard input {name}", told(result) or (name == "without an end" and result.code == 0), result)
result = tar_context(raw=whole)
control("CVE-2021-20291", "the same tar whole is a context", result.code == 0, result)
held("leftovers", "nothing of these contexts is left", trees() == [], trees())
finish()
