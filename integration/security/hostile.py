"""rcon-runtime and documents that are damaged or made to hurt: an error in time, no panic, nothing outside of its root."""
from lab import *

ROOT = f"{WORK}/oci-rcon-runtime"
LIMITS = 60

# Ids become names of directories and groups.
bad = []
bundle = Bundle("true")
bundle.write()
for name in ("../x", "..", ".", "", "/x", "a/b", "a\nb", "x" * 300, "a b", "é", "$(id)", "a\\b"):
    for words in (["run", "-b", bundle.path, "--", name], ["state", "--", name], ["delete", "--force", "--", name], ["kill", "--", name, "KILL"], ["exec", "--", name, "true"]):
        result = command(RUNTIME, "--root", ROOT, *words, limit=LIMITS)
        # `delete --force` of what is not there succeeds, as runc's.
        if not told(result) and not (words[0] == "delete" and result.code == 0):
            bad.append((words[0], name, str(result)))
held("ids", "ids that are paths, empty, too long or not of the alphabet", not bad and not os.path.exists(WORK + "/x"), bad[:2])

# state.json as somebody who wrote into the root might leave it.
victim = subprocess.Popen(["sleep", "1000"])
bundle = Bundle("sleep", "1000")
bundle.start()
path = f"{ROOT}/{bundle.id}/state.json"
good = read(path)
record = json.loads(good.splitlines()[-1])
bad = []
for name, text in [("empty", ""), ("cut", good[:50]), ("no JSON", "{"), ("deep", "[" * 200000), ("a list", "[]"), ("another version", json.dumps(record | {"version": 99})),
                   ("a pid that is 1", json.dumps(record | {"init": {"pid": 1, "startTicks": 0}})), ("a pid that is -1", json.dumps(record | {"init": {"pid": -1, "startTicks": 0}})),
                   ("a pid that is 0", json.dumps(record | {"init": {"pid": 0, "startTicks": 0}})), ("a huge pid", json.dumps(record | {"init": {"pid": 2**40, "startTicks": 0}})),
                   ("another's pid", json.dumps(record | {"init": {"pid": victim.pid, "startTicks": 1}}))]:
    with open(path, "w") as file:
        file.write(text)
    for words in (["state", bundle.id], ["kill", bundle.id, "KILL"], ["exec", bundle.id, "true"], ["pause", bundle.id], ["list"]):
        result = command(RUNTIME, "--root", ROOT, *words, limit=LIMITS)
        if any(word in result.all for word in PANIC) or result.code < 0 or 128 <= result.code < 255 or victim.poll() is not None:
            bad.append((name, words[0], str(result)))
with open(path, "w") as file:
    file.write(good)
held("state.json", "damaged, foreign and hostile records", not bad and victim.poll() is None, bad[:2])
control("state.json", "with the right record the container is still there", '"running"' in command(RUNTIME, "--root", ROOT, "state", bundle.id).out.replace(" ", "").replace("status:", ""), command(RUNTIME, "--root", ROOT, "state", bundle.id))
bundle.delete()
victim.kill()
victim.wait()

# config.json: what the parser, and what the plan refuses (each field is tried in the unit tests).
bad = []
deep = "[" * 1000000
for name, text in [("empty", ""), ("deep lists", deep), ("deep maps", '{"a":' * 200000), ("no UTF-8", b"\xff\xfe{}".decode("latin-1")), ("a list", "[]"), ("null", "null"),
                   ("100 MB of blanks", " " * 100_000_000), ("no version", "{}"), ("another version", '{"ociVersion":"9.9.9"}'), ("no process", '{"ociVersion":"1.0.2","root":{"path":"rootfs"}}')]:
    broken = Bundle("true")
    with open(broken.path + "/config.json", "w") as file:
        file.write(text)
    result = command(RUNTIME, "--root", ROOT, "run", "-b", broken.path, broken.id, limit=LIMITS)
    if not told(result) or os.path.exists(f"{ROOT}/{broken.id}"):
        bad.append((name, str(result)))
held("config.json", "documents that are none", not bad, bad[:2])


def refused(name, change):
    made = Bundle("echo", "started")
    change(made)
    result = made.run(limit=LIMITS)
    return None if told(result) and "started" not in result.out and not os.path.exists(f"{ROOT}/{made.id}") else (name, str(result))


resources = lambda **parts: lambda made: made.linux.update(resources=parts)
bad = [answer for answer in (
    refused("a huge cpu range", resources(cpu={"cpus": "0-4294967295"})), refused("a cpu list that is none", resources(cpu={"cpus": "0-"})),
    refused("another cpu list", resources(cpu={"cpus": "x\n1"})), refused("memory nodes", resources(cpu={"mems": "0-18446744073709551615"})),
    refused("a unified key that climbs", resources(unified={"../../../../../../tmp/x": "1"})), refused("a unified key that is no limit", resources(unified={"cgroup.procs": "1"})),
    refused("a page size that climbs", resources(hugepageLimits=[{"pageSize": "../../x", "limit": 1}])), refused("a device rule of no kind", resources(devices=[{"allow": True, "type": "x"}])),
    refused("a cgroup path with a line break", lambda made: made.linux.update(cgroupsPath="/a\nb")),
    refused("a NUL in the arguments", lambda made: made.process.update(args=["echo", "a\0b"])), refused("a NUL in the environment", lambda made: made.process.update(env=["A=a\0b"])),
    refused("a NUL in a mount", lambda made: made.config["mounts"].append(bind("/tmp\0x", "/x"))), refused("a NUL in a target", lambda made: made.config["mounts"].append(bind("/tmp", "/x\0y"))),
    refused("a NUL in the working directory", lambda made: made.process.update(cwd="/\0x")), refused("a NUL in the hostname", lambda made: made.config.update(hostname="a\0b")),
    refused("a hostname of 70000 letters", lambda made: made.config.update(hostname="x" * 70000)), refused("ids out of range", lambda made: made.process.update(user={"uid": 4294967296, "gid": 0})),
    refused("a uid that is nobody's", lambda made: made.process.update(user={"uid": 4294967295, "gid": 0})),
    refused("negative ids", lambda made: made.process.update(user={"uid": -1, "gid": 0})), refused("a map that overflows", lambda made: (made.linux["namespaces"].append({"type": "user"}),
        made.linux.update(uidMappings=[{"containerID": 0, "hostID": 4294967295, "size": 4294967295}], gidMappings=[{"containerID": 0, "hostID": 0, "size": 1}]))),
    refused("a root that is a file", lambda made: made.config.update(root={"path": "rootfs/bin/busybox"})), refused("a root that is absent", lambda made: made.config.update(root={"path": "no"})),
    refused("a masked path with a NUL", lambda made: made.linux.update(maskedPaths=["/a\0b"])), refused("a device's path climbs", lambda made: made.linux.update(devices=[{"path": "../../x", "type": "c", "major": 1, "minor": 3}])),
) if answer]
held("config.json", "values that are too large, climb, or hold NUL bytes", not bad, bad[:3])
climb = Bundle("cat", "/proc/self/cgroup")
climb.linux["cgroupsPath"] = "/../../../../../../tmp/climbed/../../x"
result = climb.run(limit=LIMITS)
held("config.json", "a cgroup path that climbs", ".." not in result.out and not os.path.exists("/tmp/climbed"), result)

# A process file of exec, and its users.
bundle = Bundle("sleep", "1000")
bundle.start()
bad = []
for name, text in [("empty", ""), ("deep", deep), ("a list", "[]"), ("no args", json.dumps({"cwd": "/", "user": {"uid": 0, "gid": 0}})), ("a relative cwd", json.dumps({"args": ["id"], "cwd": "x", "user": {"uid": 0, "gid": 0}})),
                   ("a huge uid", json.dumps({"args": ["id"], "cwd": "/", "user": {"uid": 2**32, "gid": 0}})), ("a NUL", json.dumps({"args": ["id\0"], "cwd": "/", "user": {"uid": 0, "gid": 0}}))]:
    with open(WORK + "/process.json", "w") as file:
        file.write(text)
    result = command(RUNTIME, "--root", ROOT, "exec", "--process", WORK + "/process.json", bundle.id, limit=LIMITS)
    if not told(result) or "uid=" in result.out:
        bad.append((name, str(result)))
held("exec", "process files that are none", not bad, bad[:2])
bad = []
for user in ("1", "0001", "1:1", "2147483648"):
    result = command(RUNTIME, "--root", ROOT, "exec", "--user", user, bundle.id, "id", "-u", limit=LIMITS)
    if result.out.strip() != str(int(user.split(":")[0])):
        bad.append((user, str(result)))
for user in ("4294967295", "4294967296", "-1", "0x0", "1.5", " 0", ":", "18446744073709551616", "1:-1", "1:4294967296", "x"):
    result = command(RUNTIME, "--root", ROOT, "exec", "--user", user, bundle.id, "id", "-u", limit=LIMITS)
    if result.code == 0:
        bad.append((user, str(result)))
held("CVE-2026-30892", "exec --user of the runtime takes one number for another", not bad, bad[:4])
bundle.delete()
finish()
