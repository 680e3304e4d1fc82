#!/usr/bin/env python3
"""Images that are hard to unpack, and images that lie.

make DIR            OCI layouts DIR/valid/NAME and DIR/hostile/NAME (the canary of the hostile ones is DIR/canary)
compare A B SINCE   what differs of types, modes, owners, links, devices, sizes, times, attributes and content of two trees;
                    SINCE: seconds since the epoch at which the first was begun
merge DATA ID DIR   mounts the layers of image ID (a data root of rcon) at DIR

The tars are written field by field, so that they may say anything. Everything is made from a fixed seed.
"""
import gzip
import hashlib
import io
import json
import os
import random
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile

BLOCK = 512


def header(name, kind=b"0", link=b"", mode=0o644, uid=0, gid=0, mtime=1_000_000_000, size=0, device=(0, 0), magic=b"ustar\x0000"):
    def number(value, width):
        if 0 <= value < 8 ** (width - 1):
            return b"%0*o\0" % (width - 1, value)
        return bytes([0x80 if value >= 0 else 0xff]) + value.to_bytes(width - 1, "big", signed=value < 0)
    fields = [name[:100].ljust(100, b"\0"), number(mode, 8), number(uid, 8), number(gid, 8), number(size, 12), number(mtime, 12), b" " * 8, kind,
              link[:100].ljust(100, b"\0"), magic, b"\0" * 64, number(device[0], 8), number(device[1], 8), b"\0" * 155]
    block = bytearray(b"".join(fields).ljust(BLOCK, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


class Tar:
    def __init__(self):
        self.out = io.BytesIO()

    def raw(self, data):
        self.out.write(data)
        return self

    def add(self, name, kind=b"0", data=b"", pax=None, **fields):
        name = name.encode() if isinstance(name, str) else name
        link = fields.get("link", b"")
        pax = {**({"path": name} if len(name) > 100 else {}), **({"linkpath": link} if len(link) > 100 else {}), **(pax or {})}
        if pax:
            body = b"".join(record(k.encode(), v if isinstance(v, bytes) else str(v).encode()) for k, v in pax.items())
            self.raw(header(b"PaxHeaders.0/x", b"x", size=len(body)) + padded(body))
        fields.setdefault("size", len(data))
        return self.raw(header(name, kind, **fields) + padded(data))

    def file(self, name, data=b"", **fields):
        return self.add(name, b"0", data, **fields)

    def dir(self, name, mode=0o755, **fields):
        return self.add(name, b"5", mode=mode, **fields)

    def symlink(self, name, target, **fields):
        return self.add(name, b"2", link=target.encode() if isinstance(target, str) else target, mode=0o777, **fields)

    def hard(self, name, target, **fields):
        return self.add(name, b"1", link=target.encode() if isinstance(target, str) else target, **fields)

    def long(self, kind, text):
        return self.raw(header(b"././@LongLink", kind, size=len(text) + 1, magic=b"ustar  \0") + padded(text + b"\0"))

    def bytes(self, end=True):
        return self.out.getvalue() + (b"\0" * 1024 if end else b"")


def layout(path, layers, blobs=None, diff_ids=None, sizes=None):
    """layers: tars; blobs, diff_ids, sizes: what to say instead of the truth, by position."""
    store = f"{path}/blobs/sha256"
    os.makedirs(store)

    def put(data, name=None):
        digest = name or hashlib.sha256(data).hexdigest()
        with open(f"{store}/{digest}", "wb") as file:
            file.write(data)
        return f"sha256:{digest}"
    described, ids = [], []
    for at, tar in enumerate(layers):
        packed = gzip.compress(tar, 1, mtime=0)
        told = hashlib.sha256(packed).hexdigest()
        packed = (blobs or {}).get(at, lambda p: p)(packed)
        described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": put(packed, told if blobs else None),
                          "size": (sizes or {}).get(at, len(packed))})
        ids.append((diff_ids or {}).get(at, "sha256:" + hashlib.sha256(tar).hexdigest()))
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"], "Labels": {"case": os.path.basename(path)}},
                         "rootfs": {"type": "layers", "diff_ids": ids}}).encode()
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config), "size": len(config)},
                           "layers": described}).encode()
    index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": put(manifest), "size": len(manifest),
                                               "platform": {"architecture": "amd64", "os": "linux"},
                                               "annotations": {"org.opencontainers.image.ref.name": "t"}}]}
    with open(f"{path}/index.json", "w") as file:
        json.dump(index, file)
    with open(f"{path}/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def base():
    tar = Tar().dir("./").dir("d", 0o1777, mtime=5).file("d/keep", b"keep").file("d/gone", b"gone").dir("d/sub", 0o750, uid=7, gid=8, mtime=77)
    tar.file("d/sub/a", b"a" * 1000, uid=7).file("d/sub/b", b"b", mode=0o4755).symlink("d/link", "keep").dir("e").file("e/one", b"1").file("e/two", b"2")
    tar.dir("f").dir("f/g").dir("f/g/h").file("f/g/h/deep", b"deep").file("file", b"a file").dir("dir").file("dir/x", b"x").symlink("sym", "d")
    return tar.hard("hard", "d/keep").bytes()


def gnu_sparse(*options):
    with tempfile.TemporaryDirectory() as place:
        with open(f"{place}/sparse", "wb") as file:
            for at in (0, 1 << 20, 5 << 20):
                file.seek(at)
                file.write(b"data%d" % at * 100)
            file.truncate(8 << 20)
        with open(f"{place}/many", "wb") as file:
            for at in range(0, 60 * 8192, 8192):
                file.seek(at)
                file.write(b"x" * 4096)
        os.utime(f"{place}/sparse", (9, 9)), os.utime(f"{place}/many", (9, 9))
        return subprocess.run(["tar", "-C", place, "--sparse", "--owner=0", "--group=0", *options, "-cf", "-", "sparse", "many"], check=True,
                              stdout=subprocess.PIPE).stdout


def valid(canary):
    seed = random.Random(4)
    yield "plain", [base()]
    nodes = Tar().dir("dev").add("dev/null", b"3", mode=0o666, device=(1, 3)).add("dev/sda", b"4", mode=0o660, gid=6, device=(8, 0))
    nodes.add("dev/fifo", b"6", mode=0o622).add("dev/big", b"3", mode=0o600, device=(4095, 1048575 & 0o7777777)).file("old-style", b"v7", magic=b"\0" * 8)
    nodes.add("as-directory/", b"\0").add("slash/", b"0", b"a file").file("suid", b"s", mode=0o6755, uid=1000, gid=50).dir("sgid", 0o2775, gid=50).file("sgid/in", b"i")
    nodes.file("large-owner", b"o", uid=3_000_000, gid=4_000_000_000).file("no-mode", b"", mode=0).symlink("own-link", "x", uid=5, gid=6)
    yield "nodes-and-modes", [nodes.bytes()]
    yield "contiguous", [Tar().add("contiguous", b"7", b"c").dir("./").bytes()]
    times = Tar().file("ns", pax={"mtime": "1700000000.123456789"}).file("short", pax={"mtime": "1700000000.5"}).file("before", pax={"mtime": "-1.25"})
    times.file("far", mtime=(1 << 33) + 1).file("zero", mtime=0).dir("td", pax={"mtime": "1600000000.000000001"}).file("td/in", b"x", mtime=1)
    times.symlink("ts", "ns", pax={"mtime": "1500000000.999999999"}).file("many-digits", pax={"mtime": "12.1234567899999"})
    yield "times", [times.bytes()]
    long = b"/".join([b"n" * 200] * 15) + b"/" + b"m" * 255
    names = Tar().long(b"L", long).file(b"cut", b"gnu").long(b"K", b"t" * 300).long(b"L", b"k" * 150).symlink(b"cut", b"cut").file("p", b"pax", pax={"path": b"q/" * 400 + b"end"})
    names.symlink("pl", "cut", pax={"linkpath": b"w" * 1000}).long(b"L", b"z" * 180).hard(b"cut", b"cut", pax={"linkpath": b"k" * 150})
    yield "long-names", [names.bytes()]
    odd = Tar().file(b"latin-\xe9\xff", b"1").dir(b"\x01\x7f").file(b"\x01\x7f/new\nline", b"2").symlink(b"odd-link", b"\xfe/\xff").file(b" space ", b"3").file(b"back\\slash", b"4")
    odd.file("ü/ä".encode(), b"5").file("x", b"6", pax={"path": "ünï/cödé".encode()}).file(b"..a", b"7").file(b"...", b"8").file(b"-rf", b"9")
    yield "odd-names", [odd.bytes()]
    attributes = Tar().file("cap", b"c", pax={"SCHILY.xattr.security.capability": CAPABILITY}, mode=0o755).file("user", b"u", pax={"SCHILY.xattr.user.k": b"v\n1=2\0x"})
    attributes.file("reset", b"", pax={"path": b"", "uid": b""}, uid=3)
    attributes.dir("dir", pax={"SCHILY.xattr.user.d": b"dir"}).file("two", b"2", pax={"SCHILY.xattr.user.a": b"1", "SCHILY.xattr.user.b": b"2" * 900})
    yield "attributes", [attributes.bytes(), Tar().file("cap2", b"", pax={"SCHILY.xattr.security.capability": CAPABILITY}, uid=9, gid=9).bytes()]
    for form in (["--format=gnu"], ["--format=pax", "--sparse-version=0.0"], ["--format=pax", "--sparse-version=0.1"], ["--format=pax", "--sparse-version=1.0"]):
        yield "sparse-" + form[-1].split("=")[1].replace(".", ""), [gnu_sparse(*form)]
    yield "whiteouts", [base(), Tar().dir("d", 0o1777).file("d/.wh.gone").file("d/.wh.sub").file(".wh.file").file(".wh.never-was").bytes(),
                        Tar().dir("e").file("e/.wh..wh..opq").file("e/three", b"3").file("d/sub", b"again, as a file").bytes()]
    yield "opaque-late", [base(), Tar().dir("e").file("e/two", b"new two").file("e/.wh..wh..opq").dir("f").file("f/.wh..wh..opq").dir("f/g").file("f/g/new", b"n").bytes()]
    yield "whiteout-and-again", [base(), Tar().file(".wh.d").dir("d", 0o700).file("d/only", b"only").file("dir/.wh.x").file("dir/x", b"new x").bytes()]
    yield "again-and-whiteout", [base(), Tar().dir("d", 0o700).file("d/only", b"only").file(".wh.d").file("e/one", b"new").file("e/.wh.one").bytes()]
    yield "opaque-over-opaque", [base(), Tar().dir("d").file("d/.wh..wh..opq").file("d/p", b"p").bytes(), Tar().dir("d").file("d/q", b"q").bytes(),
                                 Tar().dir("d").file("d/.wh..wh..opq").file("d/r", b"r").bytes()]
    yield "replacements", [base(), Tar().dir("file").file("file/in", b"in").file("dir", b"now a file").dir("d").dir("d/link").file("d/link/l", b"l").bytes(),
                           Tar().file("file", b"a file again").dir("dir").file("dir/y", b"y").symlink("d/link", "sub").bytes()]
    yield "replaced-in-one-layer", [Tar().file("x", b"1").file("x", b"22").file("y", b"1").dir("y", 0o700).file("y/f", b"f").symlink("z", "x").file("z", b"zz").dir("w").file("w/a/b", b"b")
                                    .file("w", b"w").file("v", b"v").hard("u", "v").file("u", b"other").dir("t", 0o700).dir("t", 0o711, mtime=3).bytes()]
    # Names that a file of a lower layer already has stay with that layer: that is overlayfs.
    yield "links-below", [base(), Tar().hard("new-name", "file").hard("d/sub/second", "d/sub/a").bytes(), Tar().hard("third", "new-name").file("file", b"replaced").bytes()]
    yield "implicit-parents", [base(), Tar().file("d/sub/new", b"n").file("f/g/h/i/j", b"j").file("nowhere/at/all", b"n").bytes(), Tar().file("d/sub/newer", b"n").bytes()]
    yield "dots", [Tar().dir("./").file("./a", b"a").file("/b", b"b").dir("c/").file("c//./d", b"d").dir("././e/.").file("./e/./f", b"f").bytes()]
    yield "empty", [Tar().bytes(), b"", Tar().dir("a").bytes(end=False), Tar().file("b", b"no end").bytes(end=False), Tar().file("c", b"long end").bytes() + b"\0" * 9216]
    many = Tar()
    for number in range(1500):
        many.file(f"m/{number % 37}/{number % 11}/{number}", seed.randbytes(seed.randrange(3000)), mode=seed.choice([0o644, 0o755, 0o600]), uid=seed.randrange(3))
    yield "many", [many.bytes()]
    again = Tar()
    for number in range(1000):
        again.file("same", b"%d" % number).file(f"other/{number % 10}", b"%d" % number)
    yield "duplicates", [again.bytes()]
    yield "forty-layers", [Tar().file(f"l/{n}", b"%d" % n).file("l/last", b"%d" % n).bytes() for n in range(40)]
    deep = "/".join(["p"] * 200)
    # A name beneath a link of its layer is where the link leads, inside the root: also when it seems to lead out.
    up = "../" * 30
    merged = Tar().dir("usr").dir("usr/lib").dir("etc").symlink("lib", "usr/lib").symlink("abs", "/usr/lib").symlink("b", "lib").symlink("a", "b").symlink("usr/up", "../../../etc")
    merged.file("lib/x", b"x").file("abs/y", b"y").dir("lib/sub", 0o700).file("lib/sub/z", b"z").file("a/w", b"w").file("usr/up/v", b"v").symlink("lib/sub/back", "../x")
    yield "beneath-links", [merged.hard("lib/h", "lib/x").bytes(), Tar().dir("usr").dir("usr/lib").file("usr/lib/.wh.y").file("usr/lib/x2", b"x2").bytes()]
    yield "link-then-file", [Tar().symlink("l", canary).file("l/f", b"x").bytes()]
    yield "relative-link-then-file", [Tar().symlink("l", up + canary[1:]).file("l/f", b"x").bytes()]
    yield "link-then-directory", [Tar().symlink("l", canary).dir("l/f").bytes()]
    yield "link-chain", [Tar().symlink("a", "b").symlink("b", canary).file("a/f", b"x").bytes()]
    yield "link-then-whiteout", [Tar().symlink("l", canary).file("l/.wh.present").bytes()]
    yield "link-then-device", [Tar().symlink("l", canary).add("l/f", b"3", device=(1, 1)).bytes()]
    yield "deep", [Tar().file(deep + "/f", b"deep").dir("p/p", 0o700).bytes(), Tar().file(deep + "/g", b"g").bytes()]


def hostile(canary):
    """Each must be refused; what says otherwise would make or change something under `canary`."""
    up = "../" * 30
    yield "dot-dot", [Tar().file(up + canary[1:] + "/f", b"x").bytes()], {}
    yield "dot-dot-inside", [Tar().dir("a").file("a/../../" + up + canary[1:] + "/f", b"x").bytes()], {}
    yield "hard-link-out", [Tar().hard("h", up + canary[1:] + "/present").bytes()], {}
    yield "hard-link-absolute", [Tar().hard("h", canary + "/present").bytes()], {}
    yield "hard-link-through-link", [Tar().symlink("l", canary).hard("h", "l/present").bytes()], {}
    yield "hard-link-through-link-below", [Tar().symlink("l", canary).bytes(), Tar().hard("h", "l/present").file("i", b"x").bytes()], {}
    yield "hard-link-to-directory", [Tar().dir("d").hard("h", "d").bytes()], {}
    yield "hard-link-beneath-itself", [Tar().file("d/f", b"x").hard("d", "d/f").bytes()], {}
    yield "hard-link-to-nothing", [Tar().hard("h", "nothing").bytes()], {}
    yield "hard-link-to-whiteout", [base(), Tar().file(".wh.file").hard("h", "file").bytes()], {}
    yield "root-is-a-link", [Tar().symlink("./", canary).file("f", b"x").bytes()], {}
    yield "root-is-a-file", [Tar().file(".", b"x").bytes()], {}
    yield "whiteout-of-dot-dot", [Tar().file(".wh...").bytes()], {}
    yield "whiteout-of-dot", [Tar().dir("a").file("a/.wh..").bytes()], {}
    yield "whiteout-of-nothing", [Tar().file("a/.wh.").bytes()], {}
    yield "zero-byte-name", [Tar().file("x", pax={"path": b"a\0b"}).bytes()], {}
    yield "name-too-long", [Tar().file("x", pax={"path": b"n" * 256}).bytes()], {}
    yield "path-too-deep", [Tar().file("x", b"x", pax={"path": b"d/" * 10_000 + b"f"}).bytes()], {}
    yield "path-of-many-parents", [Tar().file("x", b"x", pax={"path": b"d/" * 1_000 + b"f"}).bytes()], {}
    yield "huge-extension", [Tar().raw(header(b"x", b"x", size=1 << 33)).raw(b"0" * 4096).bytes()], {}
    yield "broken-extension", [Tar().raw(header(b"x", b"x", size=6)).raw(padded(b"99 a=b")).file("f").bytes()], {}
    yield "many-extensions", [Tar().raw(b"".join(header(b"x", b"L", size=60_000) + padded(b"a" * 60_000) for _ in range(20))).file("f").bytes()], {}
    yield "size-past-the-end", [Tar().file("f", b"x", size=1 << 40).bytes()], {}
    yield "negative-size", [Tar().file("f", b"x", size=-1).bytes()], {}
    yield "sparse-out-of-range", [Tar().file("f", b"abc", pax={"GNU.sparse.size": 100, "GNU.sparse.map": "99,3"}).bytes()], {}
    yield "sparse-overlap", [Tar().file("f", b"abcdef", pax={"GNU.sparse.size": 100, "GNU.sparse.map": "0,3,2,3"}).bytes()], {}
    yield "sparse-of-exabytes", [Tar().file("f", b"abc", pax={"GNU.sparse.size": 1 << 62, "GNU.sparse.map": "0,3"}).bytes()], {}
    yield "unknown-type", [Tar().add("f", b"Z").bytes()], {}
    yield "bad-checksum", [b"f" + header(b"f")[1:148] + b"000000\0 " + header(b"f")[156:] + b"\0" * 1024], {}
    yield "no-tar", [b"this is no tar" * 100], {}
    yield "cut-inside-a-header", [base()[:700]], {}
    yield "hidden-behind-the-end", [Tar().file("f", b"x").raw(b"\0" * 512).file("hidden", b"x").bytes()], {}
    replaced = Tar()
    for number in range(100_002):
        replaced.file("same", b"x")
    yield "replaced-too-often", [replaced.bytes()], {}
    own = Tar().file("own", random.Random(7).randbytes(9000)).bytes()
    yield "wrong-diff-id", [own], {"diff_ids": {0: "sha256:" + "0" * 64}}
    yield "diff-ids-exchanged", [base(), Tar().bytes()], {"diff_ids": {0: "sha256:" + hashlib.sha256(Tar().bytes()).hexdigest(), 1: "sha256:" + hashlib.sha256(base()).hexdigest()}}
    yield "wrong-blob", [own], {"blobs": {0: lambda packed: gzip.compress(Tar().file("other").bytes(), mtime=0)}}
    yield "cut-blob", [own], {"blobs": {0: lambda packed: packed[:-20]}}
    yield "flipped-bit", [own], {"blobs": {0: lambda packed: packed[:60] + bytes([packed[60] ^ 1]) + packed[61:]}}
    yield "more-after-the-blob", [own], {"blobs": {0: lambda packed: packed + b"more"}}
    yield "wrong-size", [own], {"sizes": {0: 10}}
    # Refused by its ratio: unpack.sh loads it with an allowance of 8 MiB.
    yield "bomb-of-zeros", [Tar().file("zeros", b"\0" * (64 << 20)).bytes()], {}
    yield "bomb-in-an-extension", [Tar().raw(b"".join(header(b"x", b"x", size=1 << 20) + b"\0" * (1 << 20) for _ in range(64))).file("f").bytes()], {}
    yield "diff-id-no-digest", [own], {"diff_ids": {0: "sha256:../../../../etc/passwd"}}


def make(directory):
    canary = f"{directory}/canary"
    os.makedirs(canary)
    with open(f"{canary}/present", "w") as file:
        file.write("present")
    for name, layers in valid(canary):
        layout(f"{directory}/valid/{name}", layers)
    for name, layers, lies in hostile(canary):
        layout(f"{directory}/hostile/{name}", layers, **lies)


def describe(path, told):
    about = os.lstat(path)
    kind = stat.S_IFMT(about.st_mode)
    row = ["%06o" % about.st_mode, about.st_uid, about.st_gid]
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        row.append("device=%d:%d" % (os.major(about.st_rdev), os.minor(about.st_rdev)))
    if kind == stat.S_IFLNK:
        row.append("to=" + repr(os.readlink(path))[2:-1])
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            row += [about.st_size, hashlib.sha256(file.read()).hexdigest()]
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        row += ["%s=%s" % (a, os.getxattr(path, a).hex()) for a in sorted(os.listxattr(path)) if not a.startswith("user.rootlesscontainers")]
    return about, " ".join(map(str, row))


def listing(root):
    """By name (escaped): the description, the time, the other names of the same file."""
    root = os.fsencode(root)
    rows, same = {}, {}
    for place, directories, files in os.walk(root):
        for name in [b"."] + files + [d for d in directories if os.path.islink(os.path.join(place, d))]:
            path = os.path.join(place, name) if name != b"." else place
            told = repr(os.path.relpath(path, root))[2:-1]
            about, text = describe(path, told)
            rows[told] = [text, about.st_mtime_ns, stat.S_ISDIR(about.st_mode)]
            if not stat.S_ISDIR(about.st_mode):
                # Counted by the names that are there: overlayfs also counts those that a layer above hides.
                same.setdefault((about.st_dev, about.st_ino), []).append(told)
    for names in same.values():
        for name in names:
            rows[name].append(" ".join(sorted(names)))
    return rows


def compare(peer, own, since):
    """Prints what differs. Directories that no entry describes have any time: their peer's is this run's, or none."""
    peer, own = listing(peer), listing(own)
    for name in sorted(set(peer) | set(own)):
        if name not in peer or name not in own:
            print(name, "is only", "theirs" if name in peer else "ours")
            continue
        theirs, ours = list(peer[name]), list(own[name])
        if theirs[2] and (theirs[1] // 10 ** 9 >= int(since) or theirs[1] == 0):
            theirs[1] = ours[1]
        if theirs != ours:
            print(name, "theirs", theirs, "ours", ours)
    print(len(own), "names", file=sys.stderr)


def merge(data, image, target):
    database = sqlite3.connect(f"file:{data}/rcon.db?mode=ro", uri=True)
    chains = database.execute("SELECT l.document FROM image_layers i JOIN layers l USING (chain_id) WHERE image_id = ? ORDER BY position DESC", (image,))
    os.makedirs(target, exist_ok=True)
    os.makedirs(f"{data}/empty", exist_ok=True)
    lowers = [f"{json.loads(row[0])['dir']}/diff" for row in chains]
    # Relative, since the options of mount(2) fit one page; overlayfs without an upper needs two lowers.
    os.chdir(f"{data}/layers")
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "ro,index=off,lowerdir=" + ":".join(lowers + ["../empty"]), target], check=True)


if __name__ == "__main__":
    {"make": make, "compare": compare, "merge": merge}[sys.argv[1]](*sys.argv[2:])
