"""`rcon build` and what has no end: Dockerfiles, archives and downloads that grow, and a disk that is full at any moment."""
import gzip
import socket
import threading

from lab import *

busybox()
SHORT = 120  # Seconds that something hostile may take.
MEMORY = 1 << 20  # KiB of address space that a builder may take for it.


def bounded(*words, limit=SHORT, root=WORK + "/data", **more):
    """rcon with an end to its memory."""
    return command("sh", "-c", f'ulimit -v {MEMORY}; exec "$@"', "sh", RCON, "--root", root, "--run-root", WORK + "/run", *words, limit=limit, **more)


def fine(result):
    return told(result) or result.code == 0


# Dockerfiles.
FROM = "FROM scratch\n"
for name, text in {
    "20,000 stages that nobody needs": "".join(f"FROM scratch AS s{n}\n" for n in range(20000)), "2,000 stages, each from the one before": "FROM scratch AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(2000)), "20,000 stages, each from the one before": "FROM scratch AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(20000)),
    "20,000 stages that all are needed": "".join(f"FROM scratch AS s{n}\n" for n in range(20000)) + FROM + "".join(f"COPY --from=s{n} /x /x\n" for n in range(20000)), "a stage from itself": "FROM a AS a\nCOPY --from=a /x /x\n", "stages in a circle": "FROM scratch AS a\nCOPY --from=b /x /x\nFROM scratch AS b\nCOPY --from=a /x /x\n",
    "a name twice": "FROM scratch AS a\nFROM scratch AS a\nCOPY --from=a /x /x\n", "200,000 ARGs": "".join(f"ARG a{n}={n}\n" for n in range(200000)) + FROM, "200,000 ENVs": FROM + "".join(f"ENV a{n}={n}\n" for n in range(200000)), "100,000 LABELs in one": FROM + "LABEL " + " ".join(f"l{n}=v" for n in range(100000)) + "\n",
    "a variable that doubles 40 times": FROM + "ENV A=xxxxxxxxxx\n" + "ENV A=$A$A\n" * 40, "an argument that doubles 40 times": "ARG A=xxxxxxxxxx\n" + "ARG A=$A$A\n" * 40 + FROM, "variables of ten each, ten deep": FROM + "ENV V0=xxxxxxxxxx\n" + "".join(f"ENV V{n + 1}={'$V%d' % n * 10}\n" for n in range(10)), "a label that doubles": FROM + "ENV A=x\nLABEL " + " ".join("A=$A$A" for _ in range(64)) + "\n" + "ENV A=$A$A$A$A\n" * 64,
    "substitutions nested 100,000 deep": FROM + "ENV A=" + "${A:-" * 100000 + "}" * 100000 + "\n", "a substitution without end": FROM + "ENV A=${A" + ":-x" * 100000 + "\n", "a pattern that explodes": FROM + "ENV A=" + "a" * 60000 + "\nENV B=${A//" + "*a" * 200 + "b/x}\n", "quotes without end": FROM + 'ENV A="' + "\\" * 1000001 + "\n",
    "here-documents nested in each other": FROM + "COPY " + " ".join(f"<<E{n}" for n in range(5000)) + " /\n" + "".join(f"E{n}\n" for n in range(5000)), "100 here-documents": FROM + "COPY " + " ".join(f"<<E{n}" for n in range(100)) + " /\n" + "".join(f"E{n}\n" for n in range(100)), "a here-document without end": FROM + "COPY <<E /x\n" + "x\n" * 2000000, "a here-document called ../x": FROM + "COPY <<../x /to/\nx\n../x\n", "a here-document called /x": FROM + 'COPY <<"/x" /to/\nx\n/x\n', "a here-document with a quote": FROM + "COPY <<'E /x\nE\n",
    "JSON 1,000,000 deep": FROM + "CMD " + "[" * 1000000 + "\n", "JSON objects deep": FROM + "CMD [" + '{"a":' * 100000 + "\n", "a JSON list of 1,000,000": FROM + "CMD [" + ",".join(['"x"'] * 1000000) + "]\n", "1,000,000 continued lines": FROM + "LABEL a=b \\\n" + "\\\n" * 1000000, "1,000,000 comments": "# x\n" * 1000000 + FROM, "one line of 15 MiB": FROM + "LABEL a=" + "x" * (15 << 20), "1,000,000 empty flags": FROM + "COPY " + "--from= " * 200000 + "x /\n",
    "mounts without end": "FROM busybox\nRUN " + "".join(f"--mount=type=tmpfs,target=/m{n} " for n in range(500)) + "true\n", "a mount of 100,000 options": "FROM busybox\nRUN --mount=" + ",".join(["type=tmpfs"] * 100000) + " true\n", "16 MiB of nothing": "\n" * (16 << 20), "bytes that are no text": FROM + "LABEL a=\udcff\udcfe\n", "zero bytes": FROM + "LABEL a=\0\0\nRUN \0\n", "only a byte order mark": "\ufeff", "nothing": "", "ONBUILD nested": FROM + "ONBUILD " * 100000 + "RUN x\n",
    "HEALTHCHECK of numbers": FROM + "HEALTHCHECK --interval=99999999999999999999h --retries=99999999999999999999 CMD x\n", "EXPOSE of everything": FROM + "EXPOSE 1-65535\n" * 50 + "EXPOSE 1-99999999999\n", "a signal that is none": FROM + "STOPSIGNAL 99999999999999999999\n", "VOLUMEs without end": FROM + "VOLUME " + " ".join(f"/v{n}" for n in range(100000)) + "\n", "a WORKDIR deeper than a path": "FROM busybox\nWORKDIR /" + "d/" * 5000 + "\n", "a WORKDIR with a long name": "FROM busybox\nWORKDIR /" + "d" * 5000 + "\n",
    "sources without end": FROM + "COPY " + "x " * 10000 + "/\n", "the whole context again and again": FROM + "COPY " + ". " * 10001 + "/\n", "patterns without end": FROM + "COPY " + "*x*y*z* " * 5000 + "/\n", "--exclude without end": FROM + "COPY " + "--exclude=**/*a*b*c " * 5000 + ". /\n", "--chmod of words": FROM + "COPY --chmod=" + "u+x," * 100000 + "u+x x /\n", "directives without end": "# check=" + "skip=" + ",".join(["X"] * 200000) + "\n" + FROM, "an escape that is a line end": "# escape=\n\n" + FROM,
}.items():
    data = text.encode("utf-8", "surrogateescape")
    result = bounded("build", "--network", "none", "--progress", "quiet", context(files={"Dockerfile": data, "x": "x"}))
    held("Dockerfile bombs", name, fine(result) and "\0" not in result.err, str(result)[:600])
place = context("FROM busybox\n" + "RUN true\n" * 3)
with open(place + "/Dockerfile", "a") as file:
    file.write("COPY x /x\n" * 600)
open(place + "/x", "w").write("x")
result = bounded("build", "--network", "none", "--progress", "quiet", "-t", "layers", place, limit=120)
held("Dockerfile bombs", "more layers than the kernel stacks", fine(result), result)
result = run("layers", "true")
held("Dockerfile bombs", "and the image says so when it is run, or runs", fine(result), result)
place = context("FROM scratch\nCOPY . /\n")
at = os.open(place, os.O_RDONLY)
for _ in range(4000):
    try:
        os.mkdir("ddd", dir_fd=at)
    except FileExistsError:
        pass
    at, old = os.open("ddd", os.O_RDONLY, dir_fd=at), at
    os.close(old)
os.close(at)
result = bounded("build", "--progress", "quiet", place)
held("Dockerfile bombs", "a context nested deeper than a path", told(result), result)
command("rm", "-rf", place)


# Archives, on a disk of their own: what they may fill is small.
def disk(name, size):
    place = f"{WORK}/{name}"
    os.makedirs(place)
    command("mount", "-t", "tmpfs", "-o", f"size={size}", name, place)
    return place


DOCKERFILE = entry("Dockerfile", data="FROM scratch\nCOPY . /\n", mode=0o644)
SMALL = disk("small", "48m")


def left(root):
    """What temporary builds have left there."""
    found = [os.path.join(top, name) for top in (root + "/build/trees", root + "/containers", root + "/ingest", root + "/drafts") if os.path.isdir(top) for name in os.listdir(top)]
    return found + [name for name in os.listdir(root + "/build/downloads") if not name.endswith(".json")] if os.path.isdir(root + "/build/downloads") else found


def header(name, size, kind=b"0", extra=b"", real=None):
    block = bytearray(512)
    block[:len(name)] = name
    block[100:108], block[108:116], block[116:124], block[136:148] = b"0000644\0", b"0000000\0", b"0000000\0", b"00000000000\0"
    block[124:136] = b"%011o\0" % size if size < 8 << 30 else b"\x80" + bytes(3) + size.to_bytes(8, "big")
    block[156:157] = kind
    block[257:265] = b"ustar  \0"
    if real is not None:
        # Offset and length of the only piece of data: nothing, at the end.
        block[386:398] = b"\x80" + bytes(3) + real.to_bytes(8, "big")
        block[398:410] = b"%011o\0" % 0
        block[483:495] = b"\x80" + bytes(3) + real.to_bytes(8, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + extra


MEBIBYTE = gzip.compress(bytes(1 << 20), 1)


def squeezed(*pieces):
    """A gzip of them, in several members; a number stands for so many MiB of zeros."""
    return b"".join(MEBIBYTE * piece if isinstance(piece, int) else gzip.compress(piece, 1) for piece in pieces)


first = layer(DOCKERFILE)[:1024]
for name, data in {
    "a gzip of 1 GiB of zeros as a file": squeezed(first, header(b"x", 1 << 30), 1024), "a global header of 1 GiB": squeezed(first, header(b"x", 1 << 30, b"g"), 1024),
    "a sparse file of 1 TiB": first + header(b"x", 0, b"S", real=1 << 40) + bytes(1024), "a sparse file of 8 EiB": first + header(b"x", 0, b"S", real=(1 << 63) - 1) + bytes(1024), "a file of 8 EiB": first + header(b"x", (1 << 63) - 1), "a gzip of 1 GiB behind its end": squeezed(first, bytes(1024), 1024), "10,000 files": layer(DOCKERFILE, *(entry(f"d/{n}") for n in range(10000))), "directories 3,000 deep": layer(DOCKERFILE, entry("d/" * 3000 + "x")),
    "a gzip of 1 GiB that is no tar": squeezed(1024), "a gzip in a gzip in a gzip": gzip.compress(gzip.compress(gzip.compress(layer(DOCKERFILE)))),
}.items():
    result = bounded("build", "--progress", "quiet", "-o", "type=cacheonly", "-", data=data, root=SMALL)
    held("CVE-2017-14992", f"a tar as context is {name}", fine(result) and "out of memory" not in result.err and left(SMALL) == [], left(SMALL) or str(result)[:600])
    result = bounded("build", "--progress", "quiet", "-o", "type=cacheonly", context("FROM scratch\nADD evil.tar /\n", {"evil.tar": data}), root=SMALL)
    held("CVE-2017-14992", f"ADD of {name}", fine(result) and "out of memory" not in result.err and left(SMALL) == [], left(SMALL) or str(result)[:600])
    bounded("builder", "prune", "-af", root=SMALL)
for name, kind in {"PAX header": b"x", "GNU long name": b"L", "GNU long link": b"K"}.items():
    data = squeezed(first, header(b"x", 1 << 30, kind), 1024)
    for where, words, more in (("as context", ("-",), {"data": data}), ("for ADD", (context("FROM scratch\nADD evil.tar /\n", {"evil.tar": data}),), {})):
        result = bounded("build", "--progress", "quiet", "-o", "type=cacheonly", *words, root=SMALL, **more)
        held("CVE-2017-14992", f"a tar {where} has a {name} of 1 GiB", told(result) and "1048576" in result.err and "Dockerfile" in result.err and left(SMALL) == [], left(SMALL) or str(result)[:600])
result = bounded("build", "--progress", "quiet", "-o", "type=cacheonly", "-", data=first + header(b"x", 0, b"S", real=1 << 40) + bytes(1024), root=SMALL)
held("limits", "a sparse file of 1 TiB in a context is refused before it is read", told(result) and "max_layer_holes" in result.err, result)
LIMITS = WORK + "/limits.toml"
with open(LIMITS, "w") as file:
    file.write("[image.limits]\nmax_entries = 100\nmax_expansion_ratio = 10\nexpansion_allowance = '1m'\nmax_source_size = '1m'\n")
for name, data, key in (("101 entries", layer(DOCKERFILE, *(entry(f"d/{n}") for n in range(100))), "max_entries"), ("a bomb", squeezed(first, header(b"x", 64 << 20), 64), "max_expansion_ratio")):
    result = bounded("--config-file", LIMITS, "build", "--progress", "quiet", "-o", "type=cacheonly", "-", data=data, root=SMALL)
    held("limits", f"a tar as context with {name} is held against the settings", told(result) and key in result.err and left(SMALL) == [], left(SMALL) or str(result)[:600])
control("limits", "and is built without them", bounded("build", "--progress", "quiet", "-o", "type=cacheonly", "-", data=layer(DOCKERFILE, *(entry(f"d/{n}") for n in range(100))), root=SMALL).code == 0)
result = bounded("build", "--progress", "quiet", "-", data=layer(DOCKERFILE, entry("x", data=bytes(30 << 20))), root=SMALL)
control("CVE-2017-14992", "an honest tar of 30 MiB fits into that disk once, and is refused for want of room or built", fine(result), result)


# Bodies without end.
def endless():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection = listener.accept()[0]
            try:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                while True:
                    connection.sendall(bytes(1 << 20))
            except OSError:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


PORT = endless()
for what, words in (("ADD", (context(f"FROM scratch\nADD http://127.0.0.1:{PORT}/x /\n"),)), ("a context", (f"http://127.0.0.1:{PORT}/x.tar",))):
    result = bounded("build", "--progress", "quiet", *words, root=SMALL)
    held("limits", f"{what} from a server that never ends", told(result) and left(SMALL) == [], left(SMALL) or str(result)[:600])
    result = bounded("--config-file", LIMITS, "build", "--progress", "quiet", *words)
    held("limits", f"{what} from a server that never ends, held against the settings", told(result) and "max_source_size" in result.err, str(result)[:600])
with socket.create_connection(("127.0.0.1", PORT)) as naive:
    naive.sendall(b"GET / HTTP/1.1\r\n\r\n")
    taken = 0
    while taken < 60 << 20 and (piece := naive.recv(1 << 20)):
        taken += len(piece)
control("limits", "who reads from it takes more than that disk holds", taken >= 60 << 20)

# A disk that is full at any moment: clear error, nothing left, and the next build works.
FULL = disk("full", "24m")
image = WORK + "/busybox.tar"
rcon("save", "-o", image, "busybox")
full = lambda *words, **more: command(RCON, "--root", FULL, "--run-root", WORK + "/run-full", *words, limit=SHORT, **more)
full("load", "-q", "-i", image)
text = "FROM busybox\nCOPY x /x\nRUN cp /x /y && mkdir /d && for i in $(seq 50); do echo $i > /d/$i; done\nWORKDIR /w/v\nADD a.tar /a/\n"
place = context(text, {"x": os.urandom(300000), "a.tar": layer(entry("one", data=os.urandom(200000)), directory("two"))})
words = ("build", "--network", "none", "--progress", "quiet", "-t", "made", place)
outcomes = []
wrong = []
for free in (0, 4, 16, 40, 80, 150, 300, 450, 600, 800, 1000, 1200, 1500, 2000):
    full("builder", "prune", "-af")
    full("rmi", "-f", "made")
    stat = os.statvfs(FULL)
    spare = stat.f_bavail * stat.f_frsize - (free << 10)
    with open(FULL + "/ballast", "wb") as ballast:
        try:
            ballast.write(bytes(max(spare, 0)))
        except OSError:
            pass
    result = full(*words)
    outcomes.append(result.code)
    if not fine(result) or (result.code != 0 and "no space" not in result.err.lower() and "full" not in result.err.lower()):
        wrong.append((free, "the error", str(result)[:300]))
    os.remove(FULL + "/ballast")
    if left(FULL):
        wrong.append((free, "left", left(FULL)))
    result = full(*words)
    if result.code != 0:
        wrong.append((free, "the next build", str(result)[:300]))
    result = full("run", "--rm", "--network", "none", "made", "sh", "-c", "cmp /x /y && ls /d | wc -l && ls /a")
    if result.out.split() != ["50", "one", "two"]:
        wrong.append((free, "its image", str(result)[:300]))
    result = full("system", "check")
    if result.code != 0:
        wrong.append((free, "the store", str(result)[:300]))
held("full disk", f"no room but 0 to 2,000 KiB: {outcomes.count(0)} of {len(outcomes)} built", not wrong and 0 in outcomes and any(outcomes), wrong[:3])
result = full("build", "--network", "none", "--progress", "quiet", context("FROM busybox\nRUN cat /dev/zero > /x\n"))
held("full disk", "a step fills the disk", told(result) and left(FULL) == [], left(FULL) or result)
held("full disk", "and the next build works", full(*words).code == 0)
result = full("build", "--network", "none", "--progress", "quiet", context("FROM busybox\nRUN truncate -s 100G /holes\n"))
held("full disk", "a step leaves a file of 100 GB of nothing: refused before it is hashed", told(result) and "max_layer_holes" in result.err and "holes" in result.err and left(FULL) == [], left(FULL) or result)
result = full("build", "--network", "none", "--progress", "quiet", context("FROM busybox\nRUN cat /dev/zero > /x; true\n"))
held("full disk", "a step fills the disk and says that all went well", fine(result) and left(FULL) == [], left(FULL) or result)
full("builder", "prune", "-af")
OUT = disk("out", "1m")
for kind in ("tar", "docker", "oci", "local"):
    result = full("build", "--network", "none", "--progress", "quiet", "-o", f"type={kind},dest={OUT}/result", place)
    rest = [name for name in os.listdir(OUT) if kind != "local"]
    held("full disk", f"-o type={kind} to a disk without room", told(result) and rest == [], rest or result)
    shutil.rmtree(OUT + "/result", ignore_errors=True)
result = command("sh", "-c", f'exec "$@" > /dev/full', "sh", *ENGINE, "build", "--network", "none", "--progress", "quiet", "-o", "-", place)
held("full disk", "-o - to a full device", told(result), result)
for flag in ("--iidfile", "--metadata-file"):
    result = rcon("build", "--network", "none", "--progress", "quiet", flag, "/dev/full", place)
    held("full disk", f"{flag} to a full device", told(result), result)
for name in ("small", "full", "out"):
    command("umount", "-l", f"{WORK}/{name}")
finish()
