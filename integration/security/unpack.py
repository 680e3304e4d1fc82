"""Hostile images and archives: every way out of a layer, every number that is too large, every document that is not what it says."""
from lab import *

HOST = WORK + "/host"
os.makedirs(HOST)
open(HOST + "/file", "w").write("host")
os.chmod(HOST + "/file", 0o600)
UP = "../" * 14
CLIMB = UP + HOST.lstrip("/")


def untouched():
    status = os.stat(HOST + "/file")
    return sorted(os.listdir(HOST)) == ["file"] and read(HOST + "/file") == "host" and status.st_mode & 0o7777 == 0o600 and status.st_nlink == 1


def try_layers(mechanism, trick, *layers, starts=None, base=False, config=None):
    """Loads; then runs and looks whether the host changed. Being refused is fine, and so is staying inside."""
    result = rcon("load", data=image("hostile", *layers, base=base, config=config), limit=60)
    ran = None
    if result.code == 0 and starts:
        ran = run("hostile", *starts)
    died = result.code not in (0, 1, 125)
    held(mechanism, trick, untouched() and not died and not (ran and "host" == ran.out.strip()), f"{result} {ran}")
    rcon("rmi", "-f", "hostile")


# CVE-2014-9356, 2014-6407, 2026-17106 …: links in a layer, then something written through them.
for name, link in [("absolute", HOST), ("climbing", CLIMB), ("to the root", "/"), ("through /proc", "/proc/self/cwd/" + CLIMB)]:
    below = "out" if link in (HOST, CLIMB) else "out" + HOST
    for kind, thing in [("a file", entry(below + "/new", data="x")), ("the same file", entry(below + "/file", data="x")), ("a directory", directory(below + "/new/deeper")),
                        ("a link", symlink(below + "/new", "x")), ("a hard link", hardlink(below + "/new", "other")), ("a device", entry(below + "/new", tarfile.CHRTYPE, device=(1, 3))),
                        ("a whiteout", entry(below + "/.wh.file")), ("an opaque mark", entry(below + "/.wh..wh..opq")), ("a mode", entry(below, tarfile.DIRTYPE, mode=0o777))]:
        try_layers("CVE-2014-6407", f"{kind} below a link {name}, in one layer", layer(entry("other", data="o"), symlink("out", link), thing))
        if kind in ("the same file", "a directory", "a whiteout"):
            try_layers("CVE-2021-29136", f"{kind} below a link {name} of the layer below", layer(symlink("out", link)), layer(thing))
for name, target in [("absolute", HOST + "/file"), ("climbing", CLIMB + "/file"), ("through a link", "out/file"), ("through ..", "a/../" + CLIMB + "/file")]:
    try_layers("CVE-2026-17106", f"a hard link {name} to a file of the host, then written", layer(symlink("out", HOST), hardlink("gain", target), entry("gain", data="x")), starts=["cat", "/gain"])
    try_layers("CVE-2021-32760", f"a hard link {name} to a file of the host, then its mode", layer(symlink("out", HOST), hardlink("gain", target), entry("gain", mode=0o777)))
    try_layers("CVE-2026-17106", f"a hard link {name} in the upper layer", layer(symlink("out", HOST)), layer(hardlink("gain", target)), starts=["cat", "/gain"], base=True)
naive = WORK + "/naive"
os.makedirs(naive)
with tarfile.open(fileobj=io.BytesIO(layer(symlink("out", HOST), entry("out/new", data="x")))) as opened:
    opened.extractall(naive, **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}))
control("CVE-2014-6407", "an ordinary program that unpacks the same layer writes to the host", "new" in os.listdir(HOST))
os.remove(HOST + "/new")
chain = [symlink("a", "b"), symlink("b", "c/../.."), symlink("c", "."), symlink("d", "a/../../.." + HOST)]
try_layers("CVE-2026-50163", "a chain of links, then a hard link and a file through it", layer(*chain, hardlink("gain", "d/file"), entry("d/new", data="x")))

# CVE-2020-10696, 2014-9357: names.
for name in (UP + HOST.lstrip("/") + "/new", HOST + "/new", "./" + UP + HOST + "/new", "a/../../../../../../../../../../../.." + HOST + "/new", "..", ".", "/", "", "../", "a/..", "//", "./."):
    for kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE):
        try_layers("CVE-2020-10696", f"an entry named {name[:24]!r} of type {kind.decode()}", layer(entry(name, kind, link=HOST if kind == tarfile.SYMTYPE else "")))
for name in (".wh.", ".wh..", ".wh...", "a/.wh..", ".wh../x", "a/.wh." + "../" * 9 + "x", ".wh..wh.", ".wh..wh..opq/x"):
    try_layers("CVE-2014-9357", f"a whiteout named {name[:24]!r}", layer(directory("a"), entry(name)))
    try_layers("CVE-2014-9357", f"a whiteout named {name[:24]!r} over a layer", layer(entry(name)), base=True, starts=["cat", "/etc/passwd"])
try_layers("CVE-2021-29136", "the root of a layer is a link", layer(entry(".", tarfile.SYMTYPE, link=HOST), entry("new", data="x")))
try_layers("CVE-2021-29136", "the root of a layer is a link, ./", layer(entry("./", tarfile.SYMTYPE, link=HOST), entry("./new", data="x")))

# Attributes that the kernel or overlayfs would obey.
for name, value in [("trusted.overlay.redirect", HOST), ("trusted.overlay.opaque", "y"), ("trusted.overlay.metacopy", ""), ("user.overlay.redirect", HOST),
                    ("security.selinux", "system_u:object_r:x:s0"), ("security.ima", "x"), ("security.evm", "x"), ("system.posix_acl_access", "x"), ("trusted.x", "y")]:
    bytes_of = layer(entry("deep", tarfile.DIRTYPE, pax={"SCHILY.xattr." + name: value}), entry("deep/x", data="x", pax={"SCHILY.xattr." + name: value}))
    rcon("load", data=image("attributes", bytes_of, base=False))
    found = [name for place, directories, files in os.walk(WORK + "/data/layers") for item in directories + files
             if name in os.listxattr(os.path.join(place, item), follow_symlinks=False)]
    held("xattrs", f"a layer sets {name}", not found, found)
    rcon("rmi", "-f", "attributes")

# Numbers and sizes: CVE-2017-14992, 2018-20699, 2023-25153.
def raw(size_field=b"%011o\0" % 0, kind=b"0", name=b"x", extra=b""):
    header = bytearray(512)
    header[0:len(name)] = name
    header[100:108], header[108:116], header[116:124], header[136:148] = b"0000644\0", b"0000000\0", b"0000000\0", b"00000000000\0"
    header[124:136] = size_field
    header[156:157] = kind
    header[257:265] = b"ustar\00000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + extra


for name, blob in [
    ("a file of 2^63-1 bytes", raw(b"\x80" + b"\0" * 3 + (2**63 - 1).to_bytes(8, "big"))),
    ("a negative size", raw(b"\xff" * 12)), ("a size that is no number", raw(b"xyzxyzxyzxyz")),
    ("a PAX header of 4 GiB", raw(b"%011o\0" % (4 << 30), b"x", b"pax")),
    ("a long name of 4 GiB", raw(b"%011o\0" % (4 << 30), b"L", b"long")),
    ("a PAX record without end", raw(b"%011o\0" % 512, b"x", b"pax", b"99999999999999999999 path=x\n".ljust(512, b"\0"))),
    ("a PAX record of length 0", raw(b"%011o\0" % 512, b"x", b"pax", b"0 path=x\n".ljust(512, b"\0"))),
    ("an unknown type", raw(kind=b"Z")), ("a cut header", raw()[:300]),
    ("a sparse map without end", raw(kind=b"S", extra=b"\xff" * 512)),
]:
    before = command("sh", "-c", "cat /proc/meminfo | grep -c .")
    result = rcon("load", data=image("numbers", blob, base=False), limit=60)
    held("CVE-2017-14992", f"a layer with {name}", result.code in (1, 125), result)
deep = "d/" * 1200 + "x"
try_layers("limits", "a path of 1200 directories", layer(entry(deep, data="x")))
result = command("sh", "-c", f"ulimit -v 4000000; exec {' '.join(ENGINE)} load", data=image("bomb", raw(b"%011o\0" % (3 << 20), b"x", b"pax", b"\0" * (3 << 20)), base=False))
held("CVE-2017-14992", "a PAX header of 3 MiB", result.code in (1, 125), result)

# Documents: CVE-2021-21285, 2023-25153, 2014-9358, 2024-3727, legacy v1.
good = {"config.json": b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'}
DEEP = b"[" * 100000 + b"]" * 100000
for name, files in [
    ("manifest.json is no JSON", {"manifest.json": b"{"}), ("manifest.json is deep", {"manifest.json": DEEP}), ("manifest.json has another shape", {"manifest.json": b'{"a":1}'}),
    ("manifest.json of 21 MiB", {"manifest.json": b" " * (21 << 20)}), ("the config is absent", {"manifest.json": b'[{"Config":"x","RepoTags":["a:b"],"Layers":[]}]'}),
    ("the config's name climbs", {"manifest.json": b'[{"Config":"../../../../etc/passwd","RepoTags":["a:b"],"Layers":[]}]'}),
    ("a layer's name climbs", good | {"manifest.json": b'[{"Config":"config.json","RepoTags":["a:b"],"Layers":["../../../../etc/passwd"]}]'}),
    ("a tag is a path", good | {"manifest.json": b'[{"Config":"config.json","RepoTags":["../../x:y"],"Layers":[]}]'}),
    ("a tag has a line break", good | {"manifest.json": b'[{"Config":"config.json","RepoTags":["a:b\\nc"],"Layers":[]}]'}),
    ("the config is deep", {"config.json": DEEP, "manifest.json": b'[{"Config":"config.json","RepoTags":["a:b"],"Layers":[]}]'}),
    ("more DiffIDs than layers", {"config.json": b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:' + b"0" * 64 + b'"]}}',
                                  "manifest.json": b'[{"Config":"config.json","RepoTags":["a:b"],"Layers":[]}]'}),
    ("a DiffID that climbs", {"config.json": b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../../../x"]}}',
                              "manifest.json": b'[{"Config":"config.json","RepoTags":["a:b"],"Layers":["l"]}]', "l": b""}),
    ("a v1 archive whose parent is itself", {"repositories": b'{"a":{"b":"' + b"1" * 64 + b'"}}', "1" * 64 + "/json": b'{"id":"' + b"1" * 64 + b'","parent":"' + b"1" * 64 + b'"}'}),
    ("an index that is its own manifest", {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:../../x","size":1}]}'}),
    ("digests of another length", {"oci-layout": b"{}", "index.json": b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":1}]}'}),
]:
    result = rcon("load", data=archive(files), limit=60)
    ids = rcon("images", "-q").out
    held("CVE-2021-21285", name, result.code in (1, 125) and "panicked" not in result.all, result)
both = json.dumps({"schemaVersion": 2, "config": {"digest": "sha256:" + "0" * 64, "size": 1, "mediaType": "x"}, "layers": [], "manifests": []}).encode()
digest = hashlib.sha256(both).hexdigest()
files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', f"blobs/sha256/{digest}": both,
         "index.json": json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + digest, "size": len(both)}]}).encode()}
result = rcon("load", data=archive(files))
held("CVE-2021-41190", "one document is both manifest and index", result.code in (1, 125), result)
content = layer(entry("x", data="x"))
bad = image("altered", content, base=False).replace(b"x" + b"\0" * 511, b"y" + b"\0" * 511, 1)
result = rcon("load", data=bad)
held("digests", "a layer's bytes are altered", result.code in (1, 125), result)
control("digests", "the same archive unaltered is loaded", rcon("load", data=image("altered", content, base=False)).code == 0)

# CVE-2022-23648, 2020-1726: volumes of the image.
busybox()
open(HOST + "/secret", "w").write("secret of the host")
for name, path, extra in [("climbs", "/../../../../../../../../../.." + HOST, []), ("is a link to the host", "/way", [symlink("way", HOST)]), ("is below a link", "/way" + HOST, [symlink("way", "/")]),
                          ("is a climbing link", "/way", [symlink("way", CLIMB)]), ("is a magic link", "/way", [symlink("way", "/proc/1/root" + HOST)]), ("is the root", "/", [])]:
    rcon("load", "-q", data=image("volume", layer(directory("x"), *extra), config={"Volumes": {path: {}}}))
    result = run("volume", "sh", "-c", f"cat {HOST}/secret /way/secret /secret 2>/dev/null; true")
    held("CVE-2022-23648", f"the image's VOLUME {name}", "secret of" not in result.out and sorted(os.listdir(HOST)) == ["file", "secret"], result)
load("linkedin", layer(directory("data"), symlink("data/out", HOST + "/secret")), config={"Volumes": {"/data": {}}})
rcon("volume", "create", "kept")
run("-v", "kept:/data", "linkedin", "true")
result = run("-v", "kept:/data", "busybox", "sh", "-c", "echo changed > /data/out; cat /data/out")
held("CVE-2020-1726", "a link copied into a volume, then written through", read(HOST + "/secret") == "secret of the host", result)
finish()
