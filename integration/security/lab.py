"""Shared by the security tests: engine and bundles with roots of their own, crafted images, an attacker that swaps
names, and the table of results.

Each test performs a published trick and says whether it was held off; beside it stands a control: the same trick where
the protection is absent (another program, or a container that was given the right), to prove that it can work at all.
"""
import ctypes
import errno
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

FIXTURES = os.environ["FIXTURES"]
WORK = tempfile.mkdtemp(prefix="rcon-security.", dir="/tmp")
LIMIT = 60  # Seconds that one command may take.

# A copy: some tricks try to overwrite the binary they run from.
os.makedirs(WORK + "/bin")
RCON = shutil.copy(os.environ["RCON"], WORK + "/bin/rcon")
RUNTIME = WORK + "/bin/rcon-runtime"
os.symlink("rcon", RUNTIME)
RUNC = shutil.which("runc")

_rows = []


def _row(mechanism, trick, verdict, detail):
    _rows.append((mechanism, trick, verdict))
    print(f"  {verdict:<8}{mechanism}: {trick}" + (f": {detail}" if detail and verdict in ("FAIL", "BLUNT") else ""), flush=True)


def held(mechanism, trick, condition, detail=""):
    """The trick did not work (condition true), or it did: FAIL."""
    _row(mechanism, trick, "held" if condition else "FAIL", str(detail)[:1500])


def control(mechanism, trick, condition, detail=""):
    """The trick works where nothing protects; if it does not, the test is BLUNT and proves nothing."""
    _row(mechanism, trick, "control" if condition else "BLUNT", str(detail)[:1500])


def peer(mechanism, trick, condition):
    """The trick works against another runtime of this machine, as a further control where that one is not mended yet."""
    if condition:
        control(mechanism, trick, True)


def finish():
    """Prints the table, cleans up, ends the process; the tally is shared with the other integration scripts."""
    for line in rcon("ps", "-aq").out.split():
        rcon("rm", "-f", line)
    shutil.rmtree(WORK, ignore_errors=True)
    width = max((len(mechanism) for mechanism, _, _ in _rows), default=0)
    with open(os.environ.get("RCON_TABLE", os.devnull), "a") as table:
        for mechanism, trick, verdict in _rows:
            table.write(f"{mechanism:<{width}} | {trick} | {verdict}\n")
    bad = sum(verdict in ("FAIL", "BLUNT") for _, _, verdict in _rows)
    name = os.path.basename(sys.argv[0])
    print(f"{name}: {len(_rows) - bad} passed, {bad} failed")
    if tally := os.environ.get("RCON_TALLY"):
        with open(tally, "a") as file:
            file.write(f"{len(_rows) - bad} {bad}\n")
    sys.exit(bad != 0)


class Result:
    """Exit code, standard output and error, both as text."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def all(self):
        return self.out + self.err

    def __str__(self):
        return f"code {self.code}: {self.all.strip()}"


def executed(words, **more):
    """A program that somebody opens for writing cannot be executed at that moment, also where the open is refused at its end
    (execve(2), ETXTBSY): a container that traces a runtime can do that to the next one for microseconds, not more."""
    for left in reversed(range(200)):
        try:
            return subprocess.run(words, **more)
        except OSError as error:
            if error.errno != errno.ETXTBSY or not left:
                raise


def command(*words, data=None, env=None, cwd=None, limit=LIMIT):
    try:
        stdin = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        done = executed(words, capture_output=True, timeout=limit, env=env, cwd=cwd, **stdin)
    except subprocess.TimeoutExpired as end:
        return Result(-1, (end.stdout or b"").decode(errors="replace"), f"no end within {limit} s")
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


ENGINE = [RCON, "--root", WORK + "/data", "--run-root", WORK + "/run"]


def rcon(*words, **more):
    return command(*ENGINE, *words, **more)


def run(*words, **more):
    """`rcon run --rm --network none …`."""
    return rcon("run", "--rm", "--network", "none", *words, **more)


# Images

def base_layer():
    """The layer of the busybox fixture."""
    path = WORK + "/base.tar"
    if not os.path.exists(path):
        with tarfile.open(FIXTURES + "/busybox.tar") as archive:
            manifest = json.load(archive.extractfile("./manifest.json"))
            with open(path, "wb") as out:
                shutil.copyfileobj(archive.extractfile("./" + manifest[0]["Layers"][0]), out)
    return path


def entry(name, kind=tarfile.REGTYPE, data=b"", link="", mode=0o755, uid=0, gid=0, device=(0, 0), pax=None):
    """One entry of a crafted tar; names are written as given."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, mode, uid, gid
    info.devmajor, info.devminor = device
    data = data.encode() if isinstance(data, str) else data
    info.size = len(data)
    info.pax_headers = dict(pax or {})
    return info, data


def symlink(name, target):
    return entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name, target):
    return entry(name, tarfile.LNKTYPE, link=target)


def directory(name, mode=0o755):
    return entry(name, tarfile.DIRTYPE, mode=mode)


def layer(*entries):
    """The bytes of a tar of these entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(files):
    """A tar of plain files: name to bytes."""
    return layer(*(entry(name, data=data, mode=0o644) for name, data in files.items()))


def image(name, *layers, config=None, base=True):
    """The bytes of a docker-archive: the busybox layer (unless `base` is false), then the given layers."""
    blobs = ([open(base_layer(), "rb").read()] if base else []) + list(layers)
    document = {
        "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]} | (config or {}),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(blob).hexdigest() for blob in blobs]},
    }
    document = json.dumps(document).encode()
    names = [f"layer{index}.tar" for index in range(len(blobs))]
    manifest = [{"Config": "config.json", "RepoTags": [name + ":latest"], "Layers": names}]
    return archive({"config.json": document, "manifest.json": json.dumps(manifest).encode()} | dict(zip(names, blobs)))


def load(name, *layers, **more):
    """Loads such an image into the engine, which must work: the trick comes later."""
    result = rcon("load", "-q", data=image(name, *layers, **more))
    if result.code != 0:
        raise RuntimeError(f"image {name} cannot be loaded: {result}")


def busybox():
    load("busybox")


# Builds

_contexts = 0
PANIC = ("panicked", "RUST_BACKTRACE", "overflowed its stack")


def told(result):
    """An error that was told: neither a crash nor a hang."""
    return result.code > 0 and (result.code < 128 or result.code == 255) and not any(word in result.all for word in PANIC) and result.all.strip() != ""


def context(dockerfile=None, files=None):
    """A fresh directory with a Dockerfile and files: a name to text, to bytes, to None (a directory) or to ("link", target)."""
    global _contexts
    _contexts += 1
    path = f"{WORK}/contexts/{_contexts}"
    os.makedirs(path)
    for name, what in (({} if dockerfile is None else {"Dockerfile": dockerfile}) | (files or {})).items():
        full = os.path.join(path, name)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if what is None:
            os.makedirs(full, exist_ok=True)
        elif isinstance(what, tuple):
            os.symlink(what[1], full)
        else:
            with open(full, "wb") as file:
                file.write(what.encode() if isinstance(what, str) else what)
    return path


def build(dockerfile, *flags, files=None, at=None, **more):
    """`rcon build --network none …` of a fresh context, or of the one `at`."""
    return rcon("build", "--network", "none", "--progress", "plain", *flags, at or context(dockerfile, files), **more)


# Bundles

DEFAULT_CAPS = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE").split()]
MASKED = ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
          "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def config(*args):
    """A config as an engine would write it."""
    mount = lambda to, kind, *options: {"destination": to, "type": kind, "source": kind, "options": list(options)}
    return {
        "ociVersion": "1.0.2", "hostname": "inside", "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": list(args), "cwd": "/", "env": ["PATH=/bin"],
                    "capabilities": {name: DEFAULT_CAPS for name in ("bounding", "permitted", "effective")}},
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        ],
        "linux": {"namespaces": [{"type": name} for name in ("mount", "pid", "uts", "ipc", "network")], "maskedPaths": MASKED, "readonlyPaths": READ_ONLY},
    }


def bind(source, target, *options):
    return {"destination": target, "type": "bind", "source": source, "options": ["rbind", *options]}


class Bundle:
    """A bundle with a busybox root, and a container's life in it."""
    count = 0

    def __init__(self, *args):
        Bundle.count += 1
        self.id = f"sec-{os.getpid()}-{Bundle.count}"
        self.path = f"{WORK}/bundles/{self.id}"
        self.rootfs = self.path + "/rootfs"
        os.makedirs(self.rootfs)
        with tarfile.open(base_layer()) as base:
            base.extractall(self.rootfs)
        self.config = config(*args)

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def trace(self):
        """CAP_SYS_PTRACE."""
        for name in ("bounding", "permitted", "effective"):
            self.process["capabilities"][name] = DEFAULT_CAPS + ["CAP_SYS_PTRACE"]

    def write(self):
        with open(self.path + "/config.json", "w") as file:
            json.dump(self.config, file)

    def words(self, runtime=RUNTIME):
        return [runtime, "--root", f"{WORK}/oci-{os.path.basename(runtime)}"]

    def run(self, runtime=RUNTIME, **more):
        """`run`, and whatever is left is deleted."""
        self.write()
        result = command(*self.words(runtime), "run", "-b", self.path, self.id, **more)
        if result.code != 0:
            command(*self.words(runtime), "delete", "--force", self.id)
        return result

    def start(self, runtime=RUNTIME):
        """`run --detach`; the caller deletes."""
        self.write()
        with open(self.path + "/log", "wb") as log:
            done = executed([*self.words(runtime), "run", "--detach", "-b", self.path, self.id],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LIMIT)
        return Result(done.returncode, open(self.path + "/log", errors="replace").read(), "")

    def execute(self, *words, runtime=RUNTIME, flags=(), **more):
        return command(*self.words(runtime), "exec", *flags, self.id, *words, **more)

    def delete(self, runtime=RUNTIME):
        return command(*self.words(runtime), "delete", "--force", self.id)


# The attacker

_libc = ctypes.CDLL(None, use_errno=True)
RENAME_EXCHANGE = 2


def exchange(one, other):
    """Swaps two names atomically."""
    _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE)


def _swap(pairs):
    while True:
        for one, other in pairs:
            exchange(one, other)


class Swapper:
    """A process that swaps names as fast as it can, while the `with` block runs."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def __enter__(self):
        self.process = multiprocessing.get_context("fork").Process(target=_swap, args=(self.pairs,), daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


def wait_for(condition, seconds=60):
    """Whether the condition came true before the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


def holding(text, *tops):
    """Files below that have the text in them; what goes away meanwhile has not."""
    found = []
    for path in (os.path.join(place, name) for top in tops for place, _, names in os.walk(top) for name in names):
        if not os.path.isfile(path):
            continue
        try:
            with open(path, "rb") as file:
                found += [path] if text.encode() in file.read() else []
        except FileNotFoundError:
            pass
    return found


def tried(trick, seconds=120):
    """Whether a trick that is a matter of luck worked, tried again and again until then. On one processor it takes a while."""
    return wait_for(lambda: any(trick() for _ in range(200)), seconds)


def experiments(one, *words, times=10):
    """What repeated experiments said, until each of the words was among it: on a busy machine an attacker may not get to run beside its victim."""
    log = ""
    for _ in range(times):
        log += one()
        if all(word in log for word in words):
            break
    return log


def sha(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
