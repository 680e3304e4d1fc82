#!/usr/bin/env python3
"""Dockerfiles of one feature or one trap each (build-corpus/*.txt), built and held against what is recorded, and against peers.

A case begins with `== NAME [FLAGS OF BUILD]`; the lines after it are the Dockerfile. Lines that begin otherwise:
  `+ PATH`            what follows is that file of the context (every case has the files of template() besides)
  `! TEXT`            the build fails and says TEXT
  `? ENGINE…: WHY`    these engines do it in another way or not at all; that they still do is checked, not in which way

Compared are what the image's tree has of its own (types, modes, owners, links, times that are not of the build, attributes, content) and
its configuration; history with what is recorded only. --record writes build-corpus/recorded.json anew.
"""
import argparse
import bz2
import collections
import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

here = os.path.dirname(os.path.realpath(__file__))
RECORDED = f"{here}/build-corpus/recorded.json"
OLD = 978307200
# What the peers leave in a layer of what they mount for a RUN.
MOUNT_POINTS = ("/dev", "/dev/console", "/dev/pts", "/dev/shm", "/proc", "/sys", "/run", "/run/.containerenv", "/.dockerenv", "/etc/hosts", "/etc/hostname",
                "/etc/resolv.conf", "/etc/mtab")
FIELDS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "Shell", "OnBuild")
parser = argparse.ArgumentParser()
parser.add_argument("--rcon", required=True)
parser.add_argument("--image", required=True, help="a docker-archive of busybox")
parser.add_argument("--peers", default="", help="comma list of buildah, docker")
parser.add_argument("--only", default="", help="only cases whose name has this in it")
parser.add_argument("--record", action="store_true")
options = parser.parse_args()
work = tempfile.mkdtemp(prefix="rcon-corpus.")
began = time.time()
services = []


class Case:
    def __init__(self, theme, words):
        self.theme, self.name, self.flags = theme, words[0], words[1:]
        self.files, self.fails, self.other = collections.defaultdict(list), None, {}


def cases():
    found = []
    for file in sorted(os.listdir(f"{here}/build-corpus")):
        if not file.endswith(".txt"):
            continue
        for line in open(f"{here}/build-corpus/{file}").read().splitlines():
            if line.startswith("== "):
                found.append(Case(file[:-4], shlex.split(line[3:])))
                path = "Dockerfile"
            elif line.startswith("+ "):
                path = line[2:]
            elif line.startswith("! "):
                found[-1].fails = line[2:]
            elif line.startswith("? "):
                engines, why = line[2:].split(": ", 1)
                found[-1].other.update({engine: why for engine in engines.split()})
            else:
                found[-1].files[path].append(line)
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "a name is there twice"
    return [case for case in found if options.only in case.name]


def archive(packed):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, link, content in (("in", tarfile.DIRTYPE, "", b""), ("in/f", tarfile.REGTYPE, "", b"packed\n"), ("in/s", tarfile.SYMTYPE, "f", b""),
                                          ("in/h", tarfile.LNKTYPE, "in/f", b""), ("x", tarfile.REGTYPE, "", b"tool\n")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size, entry.mtime, entry.uid, entry.gid = kind, link, len(content), OLD, 11, 12
            entry.mode = {"in": 0o750, "x": 0o4755}.get(name, 0o640)
            tar.addfile(entry, io.BytesIO(content))
    # Nothing of the present in it.
    return {"plain": bytes, "gzip": lambda plain: gzip.compress(plain, mtime=0), "bzip2": bz2.compress}[packed](data.getvalue())


def template(root):
    """What every context has."""
    def put(path, content, mode=0o644):
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        with open(f"{root}/{path}", "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(f"{root}/{path}", mode)
    for path in ("a", "b", "1.txt", "2.txt", "3.txt", "with blank", "dir/x", "dir/readme.md", "dir/sub/y", "dir/sub/deep/z"):
        put(path, f"this is {path}\n")
    for mode in (0o600, 0o755, 0o444, 0o777, 0o4755, 0o2711):
        put(f"modes/{mode:04o}", "x", mode)
    os.makedirs(f"{root}/modes/closed")
    os.chmod(f"{root}/modes/closed", 0o1700)
    put("hard/one", "linked\n")
    os.link(f"{root}/hard/one", f"{root}/hard/two")
    os.makedirs(f"{root}/links")
    for name, target in (("to-a", "../a"), ("to-dir", "../dir"), ("dangling", "nowhere"), ("absolute", "/etc/passwd")):
        os.symlink(target, f"{root}/links/{name}")
    put("plain.tar", archive("plain"))
    put("packed.tgz", archive("gzip"))
    put("packed-without-name", archive("bzip2"))
    put("not.tar.gz", "no archive\n")
    os.chown(f"{root}/b", 21, 22)
    put("noted", "noted\n")
    os.setxattr(f"{root}/noted", "user.note", b"kept")
    for parent, directories, names in os.walk(root, topdown=False):
        for name in names + directories:
            os.utime(f"{parent}/{name}", (OLD, OLD), follow_symlinks=False)


def quiet(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=120, **kw)


def sh(*argv):
    done = quiet(*argv)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr[-2000:]}")
    return done.stdout.strip()


class Rcon:
    argv = [options.rcon, "--root", f"{work}/rcon", "--run-root", f"{work}/rcon-run"]

    def load(self):
        sh(*self.argv, "tag", sh(*self.argv, "load", "-q", "-i", options.image).split()[-1], "base")

    def build(self, name, flags, context):
        return quiet(*self.argv, "build", "--progress", "plain", "--network", "none", "-t", name, *flags, context)

    def save(self, name, file):
        sh(*self.argv, "save", "-o", file, name)


class Docker:
    argv = ["docker", "-H", f"unix://{work}/docker.sock"]

    def load(self):
        log = open(f"{work}/dockerd.log", "w")
        services.append(subprocess.Popen(["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run", "-H", self.argv[2],
                                          "--pidfile", f"{work}/docker.pid"], stdout=log, stderr=log))
        for _ in range(300):
            if quiet(*self.argv, "version").returncode == 0:
                break
            time.sleep(0.1)
        sh(*self.argv, "tag", sh(*self.argv, "load", "-q", "-i", options.image).split()[-1], "base")

    def build(self, name, flags, context):
        return quiet(*self.argv, "build", "--no-cache", "--network", "none", "-t", name, *flags, context, env={**os.environ, "DOCKER_BUILDKIT": "0"})

    def save(self, name, file):
        sh(*self.argv, "save", "-o", file, name)


class Buildah:
    # Without its cache, in which steps that differ by --chown alone are one.
    argv = ["buildah", "--root", f"{work}/buildah", "--runroot", f"{work}/buildah-run", "--storage-driver", "overlay"]

    def load(self):
        sh(*self.argv, "pull", "-q", f"docker-archive:{options.image}")
        sh(*self.argv, "tag", sh(*self.argv, "images", "-q").split()[0], "localhost/base")

    def build(self, name, flags, context):
        return quiet(*self.argv, "bud", "--layers", "--no-cache", "--format", "docker", "--isolation", "oci", "--runtime", "runc", "--network", "none",
                     "--pull=never", "-t", name, *flags, context)

    def save(self, name, file):
        sh(*self.argv, "push", "-q", f"localhost/{name}", f"docker-archive:{file}")


def entry(member, content):
    kind = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.FIFOTYPE: "fifo"}.get(member.type, str(member.type))
    old = member.mtime < began - 86400
    # A link's mode means nothing, and a directory's time is that of its last entry.
    facts = {"kind": kind, "mode": "" if kind == "symlink" else f"{member.mode & 0o7777:04o}", "owner": f"{member.uid}:{member.gid}", "target": member.linkname,
             "time": int(member.mtime) if old else "now", "names": set(),
             "attributes": sorted(f"{key[13:]}={value}" for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr."))}
    if kind == "file":
        facts["content"] = f"{len(content)} {hashlib.sha256(content).hexdigest()[:16]}"
    return facts


def apply(tree, data):
    added = {}
    with tarfile.open(fileobj=data, mode="r:*") as tar:
        for member in tar:
            path = "/" + member.name.strip("./") if member.name.strip("./") == "" else "/" + os.path.normpath(member.name).lstrip("/")
            parent, name = os.path.split(path)
            if name == ".wh..wh..opq":
                gone = [at for at in tree if at.startswith(parent.rstrip("/") + "/") and at not in added]
            elif name.startswith(".wh."):
                victim = os.path.join(parent, name[4:])
                gone = [at for at in tree if at == victim or at.startswith(victim + "/")]
            else:
                old = tree.get(path)
                if member.type == tarfile.LNKTYPE:
                    new = tree["/" + os.path.normpath(member.linkname).lstrip("/")]
                else:
                    new = entry(member, tar.extractfile(member).read() if member.isreg() else b"")
                gone = [] if old is None or new["kind"] == "dir" else [at for at in tree if at.startswith(path + "/")]
                tree[path] = added[path] = new
            for at in gone:
                tree.pop(at, None)


def facts(file):
    """The lines by which images are compared, and those of history."""
    with tarfile.open(file) as tar:
        read = lambda name: tar.extractfile(name).read()
        manifest = json.loads(read("manifest.json"))[0]
        config = json.loads(read(manifest["Config"]))
        tree, base = {}, {}
        for number, layer in enumerate(manifest["Layers"]):
            apply(tree, io.BytesIO(read(layer)))
            if number == 0 and config["rootfs"]["diff_ids"][0] == first:
                base = dict(tree)
    lines = []
    for path, node in sorted(tree.items()):
        if node is base.get(path) or path == "/":
            continue
        links = sorted(at for at, other in tree.items() if other is node)
        shown = {**node, "links": len(links)}
        shown.pop("names")
        # The time of a directory that was there before is that of its last entry.
        if node["kind"] == "dir" and (path in base or node["time"] == "now"):
            shown.pop("time")
        was = base.get(path)
        if was and node["kind"] == "dir" and all(was[key] == node[key] for key in ("kind", "mode", "owner", "attributes")):
            continue
        lines.append(f"{path}: " + ", ".join(f"{key} {value}" for key, value in shown.items() if value not in ("", [])))
    lines += [f"{path}: gone" for path in sorted(base) if path not in tree]
    inner = dict(config.get("config") or {})
    labels = dict(inner.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    inner["Labels"] = labels
    lines += [f"{key}: {json.dumps(inner[key], sort_keys=True)}" for key in FIELDS if inner.get(key)]
    if config.get("author"):
        lines.append(f"author: {config['author']}")
    return lines, [f"history: {item.get('created_by', '')}{' (empty)' if item.get('empty_layer') else ''}" for item in config["history"]]


def run(name, engine, case):
    """(lines, history, None), or (None, None, what it said) if the build failed."""
    image, file = f"corpus-{case.name}", f"{work}/{name}-{case.name}.tar"
    done = engine.build(image, case.flags, f"{work}/contexts/{case.name}")
    if done.returncode:
        return None, None, (done.stdout + done.stderr)[-1500:]
    try:
        engine.save(image, file)
        return *facts(file), None
    finally:
        if os.path.exists(file):
            os.unlink(file)


def differing(mine, theirs):
    return [f"      rcon   {line}" for line in mine if line not in theirs] + [f"      peer   {line}" for line in theirs if line not in mine]


def judge(case, results, recorded):
    """What is wrong with a case."""
    wrong = []
    lines, history, said = results["rcon"]
    if case.fails is not None:
        if said is None:
            wrong.append("rcon builds it, but it should fail")
        elif case.fails not in said.rpartition("\nerror: ")[2]:
            # Only in the error itself: the lines it shows of the file have nearly every word.
            wrong.append(f"rcon does not say «{case.fails}»: {said[-400:]}")
    elif said is not None:
        wrong.append(f"rcon fails: {said[-600:]}")
    elif not options.record and recorded.get(case.name) != lines + history:
        wrong.append("not as recorded:\n" + "\n".join(differing(lines + history, recorded.get(case.name, []))))
    for engine, (theirs, _, their_words) in results.items():
        if engine == "rcon":
            continue
        if theirs is not None and lines is not None:
            theirs = [line for line in theirs if line in lines or line.split(":")[0] not in MOUNT_POINTS]
        equal = (theirs is None) == (lines is None) if theirs is None or lines is None else theirs == lines
        if engine in case.other:
            if equal:
                wrong.append(f"{engine} does it as rcon, though it is said that: {case.other[engine]}")
        elif not equal:
            wrong.append(f"{engine} differs" + (f", it fails: {their_words[-300:]}" if theirs is None else ":\n" + "\n".join(differing(lines or [], theirs))))
    return wrong


def main():
    global first
    with tarfile.open(options.image) as tar:
        name = next(member for member in tar.getnames() if member.endswith(".json") and "manifest" not in member)
        first = json.loads(tar.extractfile(name).read())["rootfs"]["diff_ids"][0]
    engines = {"rcon": Rcon(), **{name: {"docker": Docker, "buildah": Buildah}[name]() for name in options.peers.split(",") if name}}
    for engine in engines.values():
        engine.load()
    template(f"{work}/template")
    todo = cases()
    for case in todo:
        context = f"{work}/contexts/{case.name}"
        os.makedirs(f"{work}/contexts", exist_ok=True)
        sh("cp", "-a", f"{work}/template", context)
        for path, lines in case.files.items():
            with open(f"{context}/{path}", "w") as file:
                file.write("\n".join(lines) + ("" if "no-newline" in case.name else "\n"))
            os.utime(f"{context}/{path}", (OLD, OLD))
        os.utime(context, (OLD, OLD))
    recorded = json.load(open(RECORDED)) if os.path.exists(RECORDED) else {}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = {case: {name: pool.submit(run, name, engine, case) for name, engine in engines.items()} for case in todo}
        bad, spread = 0, collections.Counter()
        for case, parts in jobs.items():
            results = {name: part.result() for name, part in parts.items()}
            wrong = judge(case, results, recorded)
            bad += bool(wrong)
            for engine in results:
                kind = "differs" if engine in case.other else "equal" if case.fails is None else "refused"
                spread[engine, kind] += not wrong
            for text in wrong:
                print(f"  FAIL  {case.theme}/{case.name}: {text}", flush=True)
            if options.record and results["rcon"][0] is not None:
                recorded[case.name] = results["rcon"][0] + results["rcon"][1]
    if options.record:
        with open(RECORDED, "w") as file:
            json.dump(recorded, file, indent=0, sort_keys=True, ensure_ascii=False)
            file.write("\n")
    for engine in list(engines)[1:]:
        print(f"  {engine}: {spread[engine, 'equal']} equal, {spread[engine, 'refused']} refused as well, {spread[engine, 'differs']} explained")
    print(f"build-corpus: {len(todo) - bad} passed, {bad} failed ({time.time() - began:.0f} s)")
    if os.environ.get("RCON_TALLY"):
        with open(os.environ["RCON_TALLY"], "a") as tally:
            tally.write(f"{len(todo) - bad} {bad}\n")
    return bad


try:
    status = main()
finally:
    for service in services:
        service.send_signal(signal.SIGTERM)
        service.wait()
    subprocess.run(["bash", "-c", f"awk '$5 ~ \"^{work}\" {{print $5}}' /proc/self/mountinfo | sort -r | xargs -r umount -l"])
    shutil.rmtree(work, ignore_errors=True)
sys.exit(1 if status else 0)
