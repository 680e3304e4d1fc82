"""Descriptors and directories of the host: CVE-2016-9962, CVE-2024-21626, inherited files."""
import re

from lab import *

os.environ["RCON_SECRET"] = "of the caller"
busybox()
TRACER = ["--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"]
# What may be seen of a stage: its socket and pipes, null, terminals, files of the container's own mounts, and as its program the view of
# the binary that cannot be written (a mount of its own).
# Of variables only those of the container's own processes.
FINE = re.compile(r"^(sights \d+|environ (PATH|HOME|HOSTNAME|PWD|SHLVL|OWN)|(cwd|root|fd) own .*|exe .*|fd (pipe|socket|anon_inode)|fd foreign /dev/(null|pts/.*|console)|fd foreign /null)$")


def leaks(text):
    """Lines of a spy that show something of the host."""
    return [line for line in text.splitlines() if not FINE.match(line)]


def of_the_host(text):
    """Of those, what is not merely the root of the other container, and the files in it where its user is looked up."""
    own = ("cwd foreign /", "root foreign /", "fd foreign /", "fd foreign /etc/passwd", "fd foreign /etc/group")
    return [line for line in leaks(text) if line not in own]


def spied(text, what):
    return any(line.startswith(what) for line in text.splitlines())


def watched(experiment):
    """The log of a spy that looked on, until it saw some other process."""
    return experiments(experiment, "\nexe ")


# CVE-2016-9962: a process of the container with CAP_SYS_PTRACE looks into the stages of exec.
def exec_beside():
    rcon("run", "-d", "--name", "spy", "--network", "none", *TRACER, "busybox", "probe", "spy", "6000")
    for _ in range(25):
        rcon("exec", "spy", "true")
    rcon("wait", "spy")
    log = rcon("logs", "spy").out
    rcon("rm", "-f", "spy")
    return log


log = watched(exec_beside)
held("CVE-2016-9962", "a tracer in the container looks into exec's stages", "sights" in log and not leaks(log), leaks(log))
control("CVE-2016-9962", "the tracer did see other processes", spied(log, "exe "), log)


def exec_beside_bundle():
    bundle = Bundle("probe", "spy", "6000")
    bundle.trace()
    bundle.start()
    for _ in range(25):
        bundle.execute("true")
    wait_for(lambda: "sights" in read(bundle.path + "/log"), 60)
    log = read(bundle.path + "/log")
    bundle.delete()
    return log


log = watched(exec_beside_bundle)
held("CVE-2016-9962", "the same with a bundle", "sights" in log and not leaks(log), leaks(log))
control("CVE-2016-9962", "the tracer did see other processes", spied(log, "exe "), log)


# The same for a container that is started inside the pid namespace of another one.
def joined_by_a_container():
    rcon("run", "-d", "--name", "host", "--network", "none", *TRACER, "busybox", "probe", "spy", "10000", WORK[1:])
    for _ in range(12):
        run("--pid", "container:host", "busybox", "true")
    rcon("wait", "host")
    log = rcon("logs", "host").out
    rcon("rm", "-f", "host")
    return log


log = watched(joined_by_a_container)
held("CVE-2016-9962", "--pid container:X: a tracer in X looks into the init stage", "sights" in log and not of_the_host(log), of_the_host(log))
control("CVE-2016-9962", "the tracer did see other processes", spied(log, "exe "), log)

results = []


def joined_by_a_bundle():
    first = Bundle("probe", "spy", "10000", WORK[1:])
    first.trace()
    first.start()
    state = json.loads(command(*first.words(), "state", first.id).out or "{}")
    for _ in range(12):
        second = Bundle("true")
        second.linux["namespaces"][1]["path"] = f"/proc/{state.get('pid')}/ns/pid"
        result = second.run()
        if "sights" in read(first.path + "/log"): # the spy's time was over, and its namespace with it
            break
        results.append(result)
    wait_for(lambda: "sights" in read(first.path + "/log"), 60)
    log = read(first.path + "/log")
    first.delete()
    return log


log = watched(joined_by_a_bundle)
held("CVE-2016-9962", "a bundle that joins a pid namespace by path", results and all(result.code == 0 for result in results) and "sights" in log and not of_the_host(log), f"{results[-1:]} {of_the_host(log)}")
control("CVE-2016-9962", "the tracer did see other processes", spied(log, "exe "), log)

# The spy finds what is there to be found.
result = run(*TRACER, "busybox", "sh", "-c", "(cd /etc; RCON_SECRET=x exec sleep 50 </etc/passwd) & probe spy 5000")
outside = command(FIXTURES + "/probe", "spy", "2000", WORK[1:])
control("CVE-2016-9962", "the spy knows the host's root when it sees it", any(line.startswith("root own / marked") for line in outside.out.splitlines()), outside)
control("CVE-2016-9962", "the spy sees an open file, a directory and a variable",
        all(sight in result.out for sight in ("fd own /etc/passwd", "cwd own /etc", "environ RCON_SECRET")), result)
result = run("--init", *TRACER, "busybox", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; tr '\\0' '\\n' </proc/1/environ")
held("fd hygiene", "PID 1 of --init shows arguments and environment of the engine", result.out.strip() == "rcon-init", result)

# Inherited descriptors: the caller holds a directory of the host open.
secret = WORK + "/secret"
os.makedirs(secret)
held_open = os.open(secret, os.O_DIRECTORY)
os.set_inheritable(held_open, True)


def inherited(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, close_fds=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


result = inherited(*ENGINE, "run", "--rm", "--network", "none", "busybox", "probe")
held("fd hygiene", "a directory that the caller of run holds open", list(json.loads(result.out)["fds"]) == ["0", "1", "2"], result)
rcon("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
result = inherited(*ENGINE, "exec", "box", "probe")
held("fd hygiene", "a directory that the caller of exec holds open", list(json.loads(result.out)["fds"]) == ["0", "1", "2"], result)
bundle = Bundle("probe")
bundle.write()
result = inherited(*bundle.words(), "run", "-b", bundle.path, bundle.id)
held("fd hygiene", "a directory that the caller of rcon-runtime run holds open", list(json.loads(result.out or '{"fds":0}')["fds"] or "") == ["0", "1", "2"], result)
result = inherited("/bin/sh", "-c", f"ls -l /proc/self/fd")
control("fd hygiene", "the descriptor is inherited by an ordinary program", secret in result.out, result)

# CVE-2024-21626: the working directory is a descriptor that was leaked.
bad = []
for number in range(3, 24):
    for form in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../../.."):
        result = run("-w", form, "busybox", "sh", "-c", "pwd -P; ls -a ..; stat -c %i /")
        if result.code == 0:
            bad.append((form, result.out))
held("CVE-2024-21626", "-w /proc/self/fd/N for N = 3…23, also with ..", not bad, bad)
bad = []
for number in range(3, 24):
    result = rcon("exec", "-w", f"/proc/self/fd/{number}", "box", "sh", "-c", "pwd -P; ls ../../..")
    if result.code == 0:
        bad.append((number, result.out))
held("CVE-2024-21626", "exec -w /proc/self/fd/N", not bad, bad)
load("linked", layer(symlink("way", "/proc/self/fd/7")), config={"WorkingDir": "/way"})
result = run("linked", "sh", "-c", "pwd -P; ls ../../..")
held("CVE-2024-21626", "WORKDIR is a link to /proc/self/fd/7", result.code != 0 or "etc" not in result.out, result)
bad = []
for number in range(3, 24):
    bundle = Bundle("sh", "-c", "pwd -P; ls ../../..")
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    result = bundle.run()
    if result.code == 0:
        bad.append((number, result.out))
    bundle = Bundle(f"/proc/self/fd/{number}/bin/busybox", "true")
    result = bundle.run()
    if result.code == 0:
        bad.append((number, "program"))
held("CVE-2024-21626", "a bundle's cwd or program is below /proc/self/fd/N", not bad, bad)
result = run("busybox", "sh", "-c", "exec 7</etc; cd /proc/self/fd/7 && ls")
control("CVE-2024-21626", "where such a descriptor is open, it is a way in", "passwd" in result.out, result)
finish()
