"""What a conformance case works with: one bundle, one container id, one runtime binary.

A case is a function of one argument, the `T` of this file, marked with `@case(anchor, demand)`. It sets what it needs in
`t.config`, drives the runtime and raises:
  Refused   the runtime said no where the paragraph wants the thing done,
  Broken    the runtime did something else than the paragraph says,
  NotHere   the paragraph is about something that this kernel or cgroup layout does not have.
Anything else that it raises counts as Broken.
"""

import array
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

SECONDS = 60  # A verb that takes longer hangs.
CASES = []


class Refused(Exception):
    """The runtime refused what the paragraph demands."""


class Broken(Exception):
    """The runtime did something else than the paragraph demands."""


class NotHere(Exception):
    """This machine has nothing to try the paragraph on."""


class Case:
    """One paragraph's demand. `differs` maps a peer's name to why rcon is right where the peer does not pass (differs.py)."""

    def __init__(self, function, anchor, demand, name):
        self.function, self.anchor, self.demand = function, anchor, demand
        self.name = name or function.__name__
        self.differs = {}


def case(anchor, demand, name=None):
    """Registers a case: the paragraph it is from and what that demands."""

    def register(function):
        CASES.append(Case(function, anchor, demand, name))
        return function

    return register


def become_subreaper():
    """Containers created detached become this process's children, so that their exit status can be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER, prctl(2)
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Runtime:
    """A runtime binary with its own state root. `cgroups` is False when it runs without a cgroup manager."""

    def __init__(self, name, argv, root, cgroups=True):
        self.name, self.argv, self.root, self.cgroups = name, argv, root, cgroups


class Result:
    """What one call of the runtime gave."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def refused(self):
        """The runtime's own error, in one line."""
        return " ".join((self.err or self.out).split())[-300:] or f"exit {self.code} and no error text"


CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
                "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_SETPCAP", "CAP_SETFCAP"]


def default_config():
    """The smallest ordinary configuration: what `runc spec` writes without a network namespace."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {s: list(CAPABILITIES) for s in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "conformance",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": n} for n in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


class T:
    """One try of one case with one runtime."""

    def __init__(self, runtime, work, template, number):
        self.runtime = runtime
        self.id = f"conf-{runtime.name}-{os.getpid()}-{number:04}"  # none begins with another
        self.dir = os.path.join(work, self.id)
        self.rootfs = os.path.join(self.dir, "rootfs")
        self.config = default_config()
        self.template = template
        self.ids = [self.id]
        self.holders = []
        self.init = None
        self.v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        os.mkdir(self.dir)
        link_tree(template, self.rootfs)

    # --- the configuration ---

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def script(self, text):
        """The container's process: a shell with this text."""
        self.process["args"] = ["sh", "-c", text]

    def capable(self, *names):
        for held in self.process["capabilities"].values():
            held.extend(n for n in names if n not in held)

    def namespace(self, kind, path=None):
        """Adds a namespace, or replaces the entry of this kind."""
        self.no_namespace(kind)
        entry = {"type": kind}
        if path is not None:
            entry["path"] = path
        self.linux["namespaces"].append(entry)

    def no_namespace(self, kind):
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]

    def mount(self, destination, kind=None, source=None, options=None, **more):
        entry = {"destination": destination, **more}
        for key, value in (("type", kind), ("source", source), ("options", options)):
            if value is not None:
                entry[key] = value
        self.config["mounts"].append(entry)
        return entry

    def no_mount(self, destination):
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != destination]

    def user_namespace(self, host=100000, size=65536):
        """A user namespace that maps `size` ids from `host`; the bundle becomes reachable and writable for them."""
        self.namespace("user")
        self.namespace("network")  # sysfs may be mounted only by who owns the network namespace
        mapping = [{"containerID": 0, "hostID": host, "size": size}]
        self.linux["uidMappings"] = mapping
        self.linux["gidMappings"] = mapping
        os.chown(self.rootfs, host, host)

    def resources(self, **what):
        self.needs_cgroups()
        self.linux.setdefault("resources", {}).update(what)

    def host_file(self, name, text="", mode=0o644):
        """A file beside the rootfs in the bundle; its path on the host."""
        path = os.path.join(self.dir, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def host_dir(self, name, mode=0o755):
        path = os.path.join(self.dir, name)
        os.mkdir(path, mode)
        return path

    def own_file(self, path, text="", mode=0o644):
        """A file of the rootfs that is this container's alone (the others are hard links shared by all)."""
        full = os.path.join(self.rootfs, path.lstrip("/"))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if os.path.lexists(full):
            os.unlink(full)
        with open(full, "w") as file:
            file.write(text)
        os.chmod(full, mode)
        return full

    # --- what this machine has ---

    def needs_cgroups(self):
        if not self.runtime.cgroups:
            raise NotHere(f"{self.runtime.name} has no cgroup manager for this layout")

    def needs_v2(self):
        self.needs_cgroups()
        if not self.v2:
            raise NotHere("cgroup v1")

    def needs_v1(self):
        self.needs_cgroups()
        if self.v2:
            raise NotHere("cgroup v2")

    # --- calls ---

    def write(self):
        with open(os.path.join(self.dir, "config.json"), "w") as file:
            json.dump(self.config, file)

    def call(self, *arguments, before=(), stdin=b"", fds=(), env=None, files=False, cwd=None, prefix=(), seconds=SECONDS):
        """Calls the runtime with the arguments; `before` are global flags, `prefix` a program that starts it. With `files` its stdio are files (for verbs
        that leave a container behind which holds them open), whose names are out and err in the bundle."""
        argv = [*prefix, *self.runtime.argv, "--root", self.runtime.root, *before, *arguments]
        if files:
            out, err = open(os.path.join(self.dir, "out"), "ab"), open(os.path.join(self.dir, "err"), "ab+")
            start = err.seek(0, os.SEEK_END)
        else:
            out = err = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=subprocess.PIPE if stdin is not None else None, stdout=out, stderr=err,
                                 pass_fds=fds, env=env, cwd=cwd, start_new_session=True)
        try:
            got_out, got_err = child.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            raise Broken(f"{' '.join(arguments[:1])} hangs") from None
        if files:
            err.seek(start)
            got_out, got_err = b"", err.read()
            out.close()
            err.close()
        return Result(child.returncode, got_out.decode(errors="replace"), got_err.decode(errors="replace"))

    def must(self, *arguments, **how):
        """As `call`, but a non-zero exit is a refusal."""
        result = self.call(*arguments, **how)
        if result.code != 0:
            raise Refused(f"{arguments[0]}: {result.refused()}")
        return result

    def run(self, *flags, **how):
        """`run` in the foreground, whatever its exit status."""
        self.write()
        return self.call("run", "--bundle", self.dir, *flags, self.id, **how)

    def sh(self, text, *flags, **how):
        """Runs the shell text as the container; its output. Failure without output is a refusal."""
        self.script(text)
        result = self.run(*flags, **how)
        if result.code != 0:
            if not result.out:
                raise Refused(result.refused())
            raise Broken(f"exit {result.code}: {' '.join(result.out.split())[-200:]} {result.refused()}")
        return result.out.strip()

    def create(self, *flags, **how):
        """`create`; the container's stdout is then `t.output()`, its process id on the host `t.init`."""
        self.write()
        note = os.path.join(self.dir, "pid")
        result = self.must("create", "--bundle", self.dir, "--pid-file", note, *flags, self.id, files=True, **how)
        with open(note) as file:
            self.init = int(file.read())
        return result

    def start(self):
        return self.must("start", self.id)

    def up(self, text="exec sleep 60", *flags, **how):
        """create + start of a shell text; the process id on the host."""
        self.script(text)
        self.create(*flags, **how)
        self.start()
        return self.init

    def state(self):
        return json.loads(self.must("state", self.id).out)

    def status(self):
        return self.state()["status"]

    def output(self):
        with open(os.path.join(self.dir, "out"), errors="replace") as file:
            return file.read().strip()

    def exec(self, *arguments, **how):
        return self.call("exec", *arguments[:-1], self.id, *arguments[-1], **how)

    def in_container(self, text, *flags, **how):
        """`exec` of a shell text; its output."""
        result = self.exec(*flags, ["sh", "-c", text], **how)
        if result.code != 0:
            if not result.out:
                raise Refused(f"exec: {result.refused()}")
            raise Broken(f"exec: exit {result.code}: {result.out.strip()} {result.refused()}")
        return result.out.strip()

    def wait(self, pid, seconds=20):
        """Waits for a process of the container to end and reaps it (it is ours: we are a subreaper); its wait status
        as a shell would say it."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            if not select.select([fd], [], [], seconds)[0]:
                raise Broken(f"the process is still there after {seconds} s")
        finally:
            os.close(fd)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            return None
        return 128 - status if status < 0 else status

    def finish(self):
        """Waits for the started container; its exit status and output."""
        code = self.wait(self.init)
        return code, self.output()

    def refuses(self, *flags, why="create", **how):
        """`create` must fail, must say something, and must leave nothing."""
        self.write()
        result = self.call("create", "--bundle", self.dir, *flags, self.id, files=True, **how)
        if result.code == 0:
            raise Broken(f"accepted: {why}")
        if not result.err.strip():
            raise Broken("refused without a word")
        self.gone()
        return result.err

    def refuses_by_start(self, why="create and start"):
        """As `refuses`, for what some runtimes notice only at `start`."""
        self.write()
        result = self.call("create", "--bundle", self.dir, self.id, files=True)
        if result.code == 0:
            result = self.call("start", self.id)
        if result.code == 0:
            raise Broken(f"accepted: {why}")
        return result.err

    def gone(self):
        """Nothing of the container may be left: record, cgroup, mount."""
        if self.call("state", self.id).code == 0:
            raise Broken("state still knows the container")
        if os.path.exists(os.path.join(self.runtime.root, self.id)):
            raise Broken("its state directory is left behind")
        left = self.cgroup_directories()
        if left:
            raise Broken(f"its cgroup is left behind: {left[0]}")
        with open("/proc/self/mountinfo") as file:
            if self.dir in file.read():
                raise Broken("a mount of it is left behind")

    # --- assertions ---

    def equal(self, wanted, got, what=""):
        if wanted != got:
            raise Broken(f"{what + ': ' if what else ''}wanted «{wanted}», got «{got}»")

    def true(self, condition, otherwise):
        if not condition:
            raise Broken(otherwise)

    def contains(self, part, whole, what=""):
        if part not in whole:
            raise Broken(f"{what + ': ' if what else ''}«{part}» is not in «{whole[-300:]}»")

    def lacks(self, part, whole, what=""):
        if part in whole:
            raise Broken(f"{what + ': ' if what else ''}«{part}» is in «{whole[-300:]}»")

    # --- the host's side ---

    def holder(self, *unshare):
        """A process in namespaces of its own; its pid. It ends with the case."""
        child = subprocess.Popen(["unshare", *unshare, "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE)
        self.holders.append(child)
        if child.stdout.readline() != b"ready\n":
            raise NotHere(f"unshare {' '.join(unshare)} fails here")
        return child.pid

    def listener(self, name):
        """A listening unix socket in the bundle and its path. The path is short: sun_path holds 107 bytes."""
        path = os.path.join(self.dir, name)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(4)
        listening.settimeout(SECONDS)
        return listening, path

    def mountinfo(self, text, destination):
        """The last line about this mount point of a mountinfo text, split: options, propagation, type, super options."""
        found = None
        for line in text.splitlines():
            left, _, right = line.partition(" - ")
            left, right = left.split(), right.split()
            if len(left) > 5 and left[4] == destination:
                found = {"options": left[5].split(","), "propagation": left[6:], "root": left[3],
                         "type": right[0], "source": right[1] if len(right) > 1 else "",
                         "super": right[-1].split(",")}
        if found is None:
            raise Broken(f"nothing is mounted on {destination}")
        return found

    def cgroup_of(self, pid, controller):
        """The host's directory of the cgroup that holds `pid`, for a v1 controller or (v2) at all."""
        with open(f"/proc/{pid}/cgroup") as file:
            for line in file.read().splitlines():
                number, controllers, path = line.split(":", 2)
                if self.v2 and number == "0":
                    return "/sys/fs/cgroup" + path
                if not self.v2 and controller in controllers.replace("name=", "").split(","):
                    return f"/sys/fs/cgroup/{controller}" + path
        raise NotHere(f"no {controller} controller")

    def cgroup_value(self, pid, controller, name):
        try:
            with open(os.path.join(self.cgroup_of(pid, controller), name)) as file:
                return file.read().strip()
        except FileNotFoundError:
            raise NotHere(f"this kernel has no {name}") from None

    def cgroup_directories(self):
        """Directories of any hierarchy that carry the container's id."""
        found = []
        for base, names, _ in os.walk("/sys/fs/cgroup"):
            found += [os.path.join(base, n) for n in names if self.id in n]
            names[:] = [n for n in names if n not in ("rcon", "docker", "system.slice") and self.id not in n]
        return found

    def clean(self):
        """Removes everything that the case may have left, with the runtime's own verb first."""
        for holder in self.holders:
            holder.kill()
            holder.wait()
            if holder.stdout:
                holder.stdout.close()
        for id in self.ids:
            if os.path.exists(os.path.join(self.runtime.root, id)):
                self.call("delete", "--force", id)
                shutil.rmtree(os.path.join(self.runtime.root, id), ignore_errors=True)
        for directory in sorted(self.cgroup_directories(), key=len, reverse=True):
            for base, _, _ in os.walk(directory, topdown=False):
                try:
                    for pid in open(os.path.join(base, "cgroup.procs")).read().split():
                        os.kill(int(pid), signal.SIGKILL)
                    os.rmdir(base)
                except OSError:
                    pass
        shutil.rmtree(self.dir, ignore_errors=True)


def link_tree(source, target):
    """A copy of a tree by hard links: a case may add to it, but changes files only through `T.own_file`."""
    os.mkdir(target)
    for entry in os.scandir(source):
        to = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            link_tree(entry.path, to)
            shutil.copymode(entry.path, to)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), to)
        else:
            os.link(entry.path, to)


def receive_fd(connection):
    """One message of a unix socket with the file descriptors that came with it."""
    message, ancillary, _, _ = connection.recvmsg(65536, 4096)
    fds = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            got = array.array("i")
            got.frombytes(data[: len(data) - len(data) % got.itemsize])
            fds += got
    return message, fds


def until(condition, what, seconds=SECONDS):
    """Waits for a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds} s: {what}")
        time.sleep(0.01)
