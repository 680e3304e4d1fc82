"""CVE-2019-5736: the container overwrites the binary that runs it, through /proc/PID/exe."""
from lab import *

busybox()
before = sha(RCON)
TRACER = ["--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"]


def safe(*texts):
    return sha(RCON) == before and not any("written" in text for text in texts)


# The container's own program is the runtime: by the flag, and by a link in the image, as the published attack had it.
result = run("--entrypoint", "/proc/self/exe", "busybox", "--version")
held("CVE-2019-5736", "the image's entrypoint is /proc/self/exe", safe(), result)
load("relink", layer(symlink("bin/relink", "/proc/self/exe")), config={"Entrypoint": ["/bin/relink"]})
result = run("relink", "--version")
held("CVE-2019-5736", "the entrypoint is a link to /proc/self/exe", safe(), result)

# The view of the binary is a mount of one file, shown as "/". exec of /proc/self/exe, and of anything, in a container whose other process waits for it.
def trap():
    rcon("run", "-d", "--name", "trap", "--network", "none", *TRACER, "busybox", "probe", "grab", "/", "5000")
    for _ in range(10):
        rcon("exec", "trap", "/proc/self/exe", "version")
        rcon("exec", "trap", "true")
    rcon("wait", "trap")
    log = rcon("logs", "trap").out
    rcon("rm", "-f", "trap")
    return log


log = experiments(trap, "grabbed", "refused")
held("CVE-2019-5736", "a process with CAP_SYS_PTRACE writes to the program of exec stages", safe(log), log)
control("CVE-2019-5736", "it did get hold of that program, and was refused", "grabbed" in log and "refused" in log, log)

# The engine's own processes, seen from a container that shares the host's pids. This engine's alone: another's binary on this machine is
# not protected when its process ends, and would be written to.
result = run("--pid", "host", *TRACER, "busybox", "probe", "grab", RCON, "2000")
held("CVE-2019-5736", "processes of the engine seen with --pid host", safe(result.out), result)
control("CVE-2019-5736", "it did get hold of one", "grabbed" in result.out, result)

# Bundles.
bundle = Bundle("/proc/self/exe", "--version")
result = bundle.run()
held("CVE-2019-5736", "a bundle's program is /proc/self/exe", safe(), result)
def trap_in_a_bundle():
    bundle = Bundle("probe", "grab", "/", "5000")
    bundle.trace()
    bundle.start()
    for _ in range(10):
        bundle.execute("/proc/self/exe", "--version")
        bundle.execute("true")
    wait_for(lambda: "refused" in read(bundle.path + "/log"))
    log = read(bundle.path + "/log")
    bundle.delete()
    return log


log = experiments(trap_in_a_bundle, "grabbed", "refused")
held("CVE-2019-5736", "the same trap in a bundle", safe(log), log)
control("CVE-2019-5736", "it did get hold of that program, and was refused", "grabbed" in log and "refused" in log, log)

# What the trick does to a binary that nobody protects: the container's own.
result = run("busybox", "sh", "-c", "cp /bin/probe /bin/victim; /bin/victim spy 5000 >/dev/null & exec probe grab victim 40000")
control("CVE-2019-5736", "the same trick overwrites an unprotected program", "written" in result.out, result)
finish()
