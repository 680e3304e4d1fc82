"""/proc and /sys as links, mounts over or below /proc, sysctls: what the runtime writes must go where it says."""
from lab import *

busybox()
HOST = WORK + "/host"
os.makedirs(HOST + "/self/attr")
os.makedirs(HOST + "/sys/kernel")
open(HOST + "/self/attr/exec", "w").close()


def untouched():
    """Nothing was written below the host's directory."""
    return all(os.path.getsize(os.path.join(place, name)) == 0 for place, _, names in os.walk(HOST) for name in names)


# CVE-2019-19921, 2023-27561, 2023-28642, 2025-54867: /proc or /sys is a link in the image.
for name in ("proc", "sys"):
    for form, target in [("to the host", HOST), ("climbing", "../../../../../../.." + HOST), ("to a directory of the image", "/tmp")]:
        # The base layer has the directory; this one replaces it.
        load(f"link{name}", layer(symlink(name, target)))
        result = run(f"link{name}", "sh", "-c", "cat /proc/keys; echo started")
        held("CVE-2019-19921", f"engine: /{name} is a link {form}", "started" not in result.out and untouched(), result)
        bundle = Bundle("sh", "-c", "cat /proc/keys; echo started")
        os.rmdir(f"{bundle.rootfs}/{name}")
        os.symlink(target, f"{bundle.rootfs}/{name}")
        result = bundle.run()
        held("CVE-2019-19921", f"bundle: /{name} is a link {form}", "started" not in result.out and untouched(), result)
bundle = Bundle("echo", "started")
os.rmdir(bundle.rootfs + "/proc")
control("CVE-2019-19921", "a root without the directory starts", "started" in bundle.run().out)

# CVE-2019-16884: something else than procfs on /proc, or over a file below it.
fake = WORK + "/fake"
os.makedirs(fake + "/self/attr")
open(fake + "/file", "w").write("fake")
for target in ("/proc", "/proc/self/attr", "/proc/sys/kernel", "/proc/self", "/proc/1", "/proc/thread-self/attr", "//proc//self", "/proc/./self/attr"):
    result = run("-v", f"{fake}:{target}", "busybox", "echo", "started")
    held("CVE-2019-16884", f"engine: a volume on {target}", "started" not in result.out, result)
    bundle = Bundle("echo", "started")
    bundle.config["mounts"].append(bind(fake, target))
    result = bundle.run()
    held("CVE-2019-16884", f"bundle: a bind on {target}", "started" not in result.out, result)
for target in ("/proc/keys", "/proc/sysrq-trigger", "/proc/self/attr/exec", "/proc/sys/kernel/shmmax"):
    bundle = Bundle("echo", "started")
    bundle.config["mounts"].append(bind(fake + "/file", target))
    result = bundle.run()
    held("CVE-2019-16884", f"bundle: a file on {target}", "started" not in result.out, result)
bundle = Bundle("cat", "/proc/meminfo")
bundle.config["mounts"].append(bind(fake + "/file", "/proc/meminfo"))
control("CVE-2019-16884", "a file on /proc/meminfo is allowed (LXCFS)", bundle.run().out == "fake")

# The same through a link in the image, which is where the check of the text does not reach.
for link, below in [("/proc", ""), ("/proc/self", "/attr"), ("/proc/sys", "/kernel"), ("/proc/1", ""), ("/tmp/again", "")]:
    for volume in (True, False):
        load("way", layer(symlink("way", link), symlink("tmp/again", "/proc/self")), config={"Volumes": {"/way" + below: {}}} if volume else {})
        flags = [] if volume else ["-v", f"{fake}:/way{below}"]
        result = run(*flags, "way", "sh", "-c", "echo started; head -c 20 /proc/keys; cat /proc/self/attr/current")
        held("CVE-2019-16884", f"engine: {'the image' if volume else '-v'} has a volume on /way{below}, a link to {link}", "started" not in result.out, result)
    bundle = Bundle("echo", "started")
    os.symlink(link, bundle.rootfs + "/way")
    os.symlink("/proc/self", bundle.rootfs + "/tmp/again")
    bundle.config["mounts"].append(bind(fake, "/way" + below))
    result = bundle.run()
    held("CVE-2019-16884", f"bundle: a bind on /way{below}, a link to {link}", "started" not in result.out, result)
    bundle.config["mounts"][-1] = {"destination": "/way" + below, "type": "tmpfs", "source": "tmpfs"}
    result = bundle.run()
    held("CVE-2019-16884", f"bundle: a tmpfs on /way{below}, a link to {link}", "started" not in result.out, result)

# CVE-2025-52881: a sysctl whose file is covered by something else.
bundle = Bundle("cat", "/proc/sys/kernel/msgmax")
bundle.linux["sysctl"] = {"kernel.msgmax": "9999"}
control("CVE-2025-52881", "a sysctl of the container's own is set", bundle.run().out.strip() == "9999")
bundle = Bundle("echo", "started")
os.symlink("/proc/sys", bundle.rootfs + "/way")
os.makedirs(fake + "/kernel", exist_ok=True)
open(fake + "/kernel/msgmax", "w").close()
bundle.config["mounts"].append(bind(fake, "/way"))
bundle.linux["sysctl"] = {"kernel.msgmax": "9999"}
result = bundle.run()
held("CVE-2025-52881", "a sysctl's file is covered by a file of the host", os.path.getsize(fake + "/kernel/msgmax") == 0 and "started" not in result.out, result)

# CVE-2022-0811: values and keys that smuggle others.
pattern = read("/proc/sys/kernel/core_pattern")
bad = []
for key, value in [("kernel.core_pattern", "|/x"), ("kernel/core_pattern", "|/x"), ("net.ipv4.ip_forward", "1+kernel.core_pattern=|/x"),
                   ("net/../kernel/core_pattern", "|/x"), ("net.ipv4.../../../kernel/core_pattern", "x"), ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/x"),
                   ("kernel.msgmax/../core_pattern", "x"), ("fs.mqueue/../../kernel/core_pattern", "x"), ("kernel.hostname", "x"), ("vm.swappiness", "1"), ("", "1"), (".", "1"),
                   ("/kernel/core_pattern", "x"), ("net./../kernel/core_pattern", "x")]:
    for name, result in [("engine", run("--sysctl", f"{key}={value}", "busybox", "echo", "started"))]:
        if "started" in result.out:
            bad.append((name, key))
    bundle = Bundle("echo", "started")
    bundle.linux["sysctl"] = {key: value}
    if "started" in bundle.run().out and key not in ("kernel.hostname",):
        bad.append(("bundle", key))
held("CVE-2022-0811", "sysctls outside of the container's namespaces, or smuggled in by another", not bad and read("/proc/sys/kernel/core_pattern") == pattern, bad)
bad = []
for key, flags in [("net.ipv4.ip_forward", ["--network", "host"]), ("kernel.msgmax", ["--ipc", "host"]), ("fs.mqueue.msg_max", ["--ipc", "host"])]:
    if "started" in rcon("run", "--rm", *flags, "--sysctl", f"{key}=1", "busybox", "echo", "started").out:
        bad.append(key)
held("CVE-2022-0811", "a sysctl of a namespace that is the host's", not bad, bad)
finish()
