"""What callers (containerd's shim, conmon, Docker, buildah) depend on of runc's command line."""

import json
import os
import pty
import select
import time

from harness import Broken, case, receive_fd, until

# --- create and run ---


@case("runc: --pid-file", "create --pid-file holds the process id, without a newline")
def pid_file(t):
    t.process["args"] = ["sleep", "60"]
    t.create()
    with open(os.path.join(t.dir, "pid")) as file:
        t.equal(str(t.state()["pid"]), file.read())


@case("runc: run", "run in the foreground: stdio, exit status, and nothing left")
def run_foreground(t):
    t.script("cat; echo err >&2; exit 21")
    result = t.run(stdin=b"in")
    t.equal((21, "in"), (result.code, result.out))
    t.contains("err", result.err)
    t.gone()


@case("runc: run", "run of a process that dies of a signal exits with 128 and its number")
def run_killed(t):
    import subprocess
    t.script("echo ready; sleep 60")
    t.write()
    child = subprocess.Popen([*t.runtime.argv, "--root", t.runtime.root, "run", "--bundle", t.dir, t.id], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
    t.equal("ready\n", child.stdout.readline())
    t.must("kill", t.id, "KILL")
    child.stdout.close()
    t.equal(137, child.wait(60))
    t.gone()


@case("runc: run", "run hands signals on to the process")
def run_forwards_signals(t):
    import subprocess
    t.script("trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    t.write()
    child = subprocess.Popen([*t.runtime.argv, "--root", t.runtime.root, "run", "--bundle", t.dir, t.id], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
    t.equal("ready\n", child.stdout.readline())
    child.terminate()
    t.equal("got\n", child.stdout.readline())
    child.stdout.close()
    t.equal(5, child.wait(60))


@case("runc: run --detach", "run --detach returns when the process runs; --pid-file says which")
def run_detach(t):
    t.script("echo up; sleep 60")
    t.write()
    note = os.path.join(t.dir, "note")
    t.must("run", "--detach", "--pid-file", note, "--bundle", t.dir, t.id, files=True)
    t.equal("running", t.status())
    with open(note) as file:
        t.equal(t.state()["pid"], int(file.read()))
    until(lambda: t.output() == "up", "its output")


@case("runc: run --keep", "run --keep leaves the stopped container")
def run_keep(t):
    t.script("true")
    result = t.run("--keep")
    if result.code != 0:
        raise Broken(result.refused())
    t.equal("stopped", t.status())


@case("runc: run", "run of a program that does not exist fails and leaves nothing")
def run_not_found(t):
    t.process["args"] = ["no-such-program"]
    result = t.run()
    t.true(result.code != 0, "exit 0")
    t.contains("no-such-program", result.err)
    t.gone()


def _through_pty(t, argv, typed=None):
    """Runs a command with a terminal as its stdio; what came out, and its exit status."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    out, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            got = os.read(master, 4096)
        except OSError:
            break
        if not got:
            break
        out += got
        if typed and b"ready" in out:
            os.write(master, typed)
            typed = None
    os.close(master)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return out.decode(errors="replace").replace("\r\n", "\n").strip(), status


@case("runc: run", "run with terminal in the foreground relays the caller's terminal")
def run_terminal(t):
    t.process["terminal"] = True
    t.script("tty; stty -echo; echo ready; read x; echo \"<$x>\"; exit 6")
    t.write()
    out, status = _through_pty(t, [*t.runtime.argv, "--root", t.runtime.root, "run", "--bundle", t.dir, t.id], b"typed\n")
    t.contains("/dev/pts/0", out)
    t.contains("<typed>", out)
    t.equal(6, status)


@case("runc: --console-socket", "run --detach with terminal sends the terminal to the console socket")
def run_console_socket(t):
    listening, path = t.listener("c")
    t.process["terminal"] = True
    t.script("echo hello; sleep 60")
    t.write()
    t.must("run", "--detach", "--console-socket", path, "--bundle", t.dir, t.id, files=True)
    connection, _ = listening.accept()
    message, fds = receive_fd(connection)
    t.equal(1, len(fds), "descriptors")
    t.contains("hello", os.read(fds[0], 100).decode())
    os.close(fds[0])
    t.true(message, "no name came with the descriptor")


@case("runc: --preserve-fds", "--preserve-fds N hands on the descriptors from 3 on, and no others")
def preserve_fds(t):
    import subprocess
    t.host_file("three", "three")
    t.host_file("four", "four")
    t.script("cat <&3; cat <&4; [ -e /proc/self/fd/5 ] && echo five; true")
    t.write()
    argv = [*t.runtime.argv, "--root", t.runtime.root, "run", "--preserve-fds", "2", "--bundle", t.dir, t.id]
    shell = f"exec 3< {t.dir}/three 4< {t.dir}/four 5< {t.dir}/three; exec \"$@\""
    got = subprocess.run(["sh", "-c", shell, "sh", *argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    t.equal("threefour", got.stdout, got.stderr)


@case("runc: LISTEN_FDS", "LISTEN_FDS hands on descriptors as for socket activation, with LISTEN_PID 1")
def listen_fds(t):
    import subprocess
    t.host_file("three", "three")
    t.script("cat <&3; echo \" $LISTEN_FDS $LISTEN_PID\"")
    t.write()
    argv = [*t.runtime.argv, "--root", t.runtime.root, "run", "--bundle", t.dir, t.id]
    shell = f"exec 3< {t.dir}/three; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\""
    got = subprocess.run(["sh", "-c", shell, "sh", *argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    t.equal("three 1 1\n", got.stdout, got.stderr)


@case("runc: run", "no descriptor of the runtime or of its caller leaks into the container")
def no_leaked_fds(t):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        t.script("ls /proc/self/fd | tr '\\n' ' '")
        t.write()
        # `ls` itself opens one: 3.
        t.equal("0 1 2 3", t.call("run", "--bundle", t.dir, t.id, fds=(write,)).out.strip())
    finally:
        os.close(read)
        os.close(write)


@case("CVE-2019-5736", "the runtime's binary cannot be reached through its process for writing")
def binary_is_protected(t):
    import fcntl
    t.process["args"] = ["sleep", "60"]
    t.create()
    held = os.open(f"/proc/{t.init}/exe", os.O_PATH)
    try:
        t.must("delete", "--force", t.id)
        t.wait(t.init)
        try:
            again = os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
        except OSError:
            return
        try:
            # A sealed copy in memory can be opened, not written.
            t.true(fcntl.fcntl(again, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE, "the file is writable")
        except OSError as error:
            raise Broken("the host's binary is open for writing") from error
        finally:
            os.close(again)
    finally:
        os.close(held)


@case("CVE-2024-21626", "a cwd by way of a leaked descriptor does not reach the host")
def cwd_through_fd(t):
    for n in range(7, 12):
        t.process["cwd"] = f"/proc/self/fd/{n}"
        t.script("cat ../../../../etc/hostname 2>/dev/null; ls -d ../../../../boot 2>/dev/null; pwd")
        result = t.run()
        if result.code == 0:
            t.lacks("boot", result.out)


@case("runc: --no-pivot", "run --no-pivot runs on a root that cannot be pivoted from")
def no_pivot(t):
    t.equal("ok", t.sh("echo ok; cd /../.. && [ -e /bin/busybox ]", "--no-pivot"))


@case("runc: --no-new-keyring", "create --no-new-keyring and the default both run")
def no_new_keyring(t):
    t.equal("ok", t.sh("echo ok", "--no-new-keyring"))


# --- exec ---


@case("runc: exec", "exec runs another process in the namespaces of the container")
def exec_namespaces(t):
    t.up()
    names = ("pid", "ipc", "uts", "mnt", "net", "cgroup")
    wanted = [os.readlink(f"/proc/{t.init}/ns/{n}") for n in names]
    t.equal(wanted, t.in_container("; ".join(f"readlink /proc/self/ns/{n}" for n in names)).split())


@case("runc: exec", "exec has the container's environment, working directory, user and capabilities")
def exec_inherits(t):
    t.process["cwd"] = "/tmp"
    t.process["env"].append("KEY=of-the-config")
    t.process["user"] = {"uid": 33, "gid": 44, "additionalGids": [55]}
    t.up()
    t.equal("/tmp of-the-config 33 44 44 55", t.in_container("echo $(pwd) $KEY $(id -u) $(id -g) $(id -G)"))


@case("runc: exec --env", "--env adds and replaces")
def exec_env(t):
    t.process["env"].append("KEY=old")
    t.up()
    t.equal("new added", t.in_container("echo $KEY $MORE", "--env", "KEY=new", "--env", "MORE=added"))


@case("runc: exec --cwd", "--cwd is the working directory")
def exec_cwd(t):
    t.up()
    t.equal("/etc", t.in_container("pwd", "--cwd", "/etc"))


@case("runc: exec --user", "--user UID:GID")
def exec_user(t):
    t.up()
    t.equal("1000 1001", t.in_container("echo $(id -u) $(id -g)", "--user", "1000:1001"))


@case("runc: exec --additional-gids", "--additional-gids adds supplementary groups")
def exec_additional_gids(t):
    t.up()
    t.equal("77", t.in_container("grep Groups /proc/self/status | tr -d '\\t'| cut -d: -f2 | tr -d ' '", "--additional-gids", "77"))


@case("runc: exec --cap", "--cap adds a capability")
def exec_cap(t):
    t.up()
    had = int(t.in_container("grep CapBnd /proc/self/status | cut -f2"), 16)
    has = int(t.in_container("grep CapBnd /proc/self/status | cut -f2", "--cap", "CAP_NET_ADMIN"), 16)
    t.equal((0, 1 << 12), (had & 1 << 12, has & 1 << 12))


@case("runc: exec --no-new-privs", "--no-new-privs sets the bit")
def exec_no_new_privs(t):
    t.process["noNewPrivileges"] = False
    t.up()
    t.equal("0", t.in_container("grep NoNewPrivs /proc/self/status | cut -f2"))
    t.equal("1", t.in_container("grep NoNewPrivs /proc/self/status | cut -f2", "--no-new-privs"))


@case("runc: exec --process", "--process reads the process from a JSON file")
def exec_process(t):
    t.up()
    process = {"args": ["sh", "-c", "echo $A $(pwd) $(id -u)"], "env": ["A=b", "PATH=/bin"], "cwd": "/etc",
               "user": {"uid": 7, "gid": 8}, "noNewPrivileges": True}
    path = t.host_file("process.json", json.dumps(process))
    t.equal("b /etc 7", t.must("exec", "--process", path, t.id).out.strip())


@case("runc: exec --process", "--process has the rlimits and capabilities that its file says")
def exec_process_limits(t):
    t.up()
    process = {"args": ["sh", "-c", "ulimit -n; grep CapBnd /proc/self/status | cut -f2"], "env": ["PATH=/bin"], "cwd": "/",
               "user": {"uid": 0, "gid": 0}, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}],
               "capabilities": {s: ["CAP_KILL"] for s in ("bounding", "effective", "permitted")}}
    path = t.host_file("process.json", json.dumps(process))
    t.equal(["55", "0000000000000020"], t.must("exec", "--process", path, t.id).out.split())


@case("runc: exec", "the exit status of exec is the process's")
def exec_status(t):
    t.up()
    t.equal(44, t.exec(["sh", "-c", "exit 44"]).code)


@case("runc: exec", "an exec that dies of a signal: 128 and its number")
def exec_killed(t):
    t.up()
    t.equal(137, t.exec(["sh", "-c", "kill -9 $$"]).code)


@case("runc: exec", "stdin and the two outputs of exec are the caller's")
def exec_streams(t):
    t.up()
    result = t.exec(["sh", "-c", "cat; echo err >&2"], stdin=b"in")
    t.equal(("in", "err\n"), (result.out, result.err))


@case("runc: exec", "an exec of a program that does not exist is an error that names it")
def exec_not_found(t):
    t.up()
    result = t.exec(["no-such-program"])
    t.true(result.code not in (0, 1) or "no-such-program" in result.err, f"exit {result.code}")
    t.contains("no-such-program", result.err)


@case("runc: exec", "exec in a stopped container is an error")
def exec_stopped(t):
    t.up("true")
    t.finish()
    t.true(t.exec(["true"]).code != 0, "exit 0")


@case("runc: exec", "exec in a container that does not exist is an error")
def exec_missing(t):
    t.true(t.call("exec", "no-such-container", "true").code != 0, "exit 0")


@case("runc: exec", "exec without a command is an error")
def exec_without_command(t):
    t.up()
    t.true(t.call("exec", t.id).code != 0, "exit 0")


@case("runc: exec", "the command's own flags are its own")
def exec_flags_of_the_command(t):
    t.up()
    t.equal("-n --cwd -- x\n", t.exec(["printf", "%s %s %s %s\n", "-n", "--cwd", "--", "x"]).out)


@case("runc: exec --detach", "exec --detach returns at once; --pid-file says the process")
def exec_detach(t):
    t.up()
    note = os.path.join(t.dir, "exec-pid")
    t.must("exec", "--detach", "--pid-file", note, t.id, "sleep", "60", files=True)
    with open(note) as file:
        pid = int(file.read())
    until(lambda: os.path.exists(f"/proc/{pid}/comm") and open(f"/proc/{pid}/comm").read() == "sleep\n", "the process is sleep")
    t.equal(os.readlink(f"/proc/{t.init}/ns/mnt"), os.readlink(f"/proc/{pid}/ns/mnt"))
    t.must("kill", t.id, "KILL")
    t.wait(pid)


@case("runc: exec --tty", "exec --tty through a console socket")
def exec_tty_socket(t):
    t.up()
    listening, path = t.listener("c")
    t.must("exec", "--tty", "--detach", "--console-socket", path, t.id, "sh", "-c", "tty; sleep 60", files=True)
    connection, _ = listening.accept()
    _, fds = receive_fd(connection)
    t.contains("/dev/pts/", os.read(fds[0], 100).decode())
    os.close(fds[0])


@case("runc: exec --tty", "exec --tty in the foreground relays the caller's terminal")
def exec_tty(t):
    t.up()
    out, status = _through_pty(t, [*t.runtime.argv, "--root", t.runtime.root, "exec", "--tty", t.id, "sh", "-c", "tty; exit 4"])
    t.contains("/dev/pts/", out)
    t.equal(4, status)


@case("runc: exec --preserve-fds", "exec --preserve-fds hands on descriptors")
def exec_preserve_fds(t):
    import subprocess
    t.up()
    t.host_file("three", "three")
    argv = [*t.runtime.argv, "--root", t.runtime.root, "exec", "--preserve-fds", "1", t.id, "sh", "-c", "cat <&3"]
    got = subprocess.run(["sh", "-c", f"exec 3< {t.dir}/three; exec \"$@\"", "sh", *argv], capture_output=True, text=True, check=False,
                         stdin=subprocess.DEVNULL)
    t.equal("three", got.stdout, got.stderr)


@case("runc: exec", "an exec in a container with a user namespace has mapped ids")
def exec_user_namespace(t):
    t.user_namespace()
    t.up()
    t.equal("0 100000 65536", " ".join(t.in_container("cat /proc/self/uid_map").split()))


@case("runc: exec", "ten execs at once")
def exec_at_once(t):
    import threading
    t.up()
    codes = []
    some = [threading.Thread(target=lambda n=n: codes.append(t.exec(["sh", "-c", f"exit {n}"]).code)) for n in range(10)]
    for one in some:
        one.start()
    for one in some:
        one.join()
    t.equal(list(range(10)), sorted(codes))


@case("runc: exec --ignore-paused", "the container's exec processes end with it")
def exec_ends_with_container(t):
    import threading
    t.up()
    codes = []
    waiting = threading.Thread(target=lambda: codes.append(t.exec(["sh", "-c", "echo up > /up; sleep 60"]).code))
    waiting.start()
    until(lambda: os.path.exists(os.path.join(t.rootfs, "up")), "the exec is up")
    t.must("kill", t.id, "KILL")
    waiting.join(60)
    t.equal([137], codes)


# --- list, ps, features, spec, version, log ---


@case("runc: list", "list shows a row per container: ID PID STATUS BUNDLE CREATED OWNER")
def list_table(t):
    t.up()
    lines = t.must("list").out.splitlines()
    t.equal(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], lines[0].split())
    row = next(line.split() for line in lines if line.startswith(t.id))
    t.equal([t.id, str(t.init), "running", t.dir], [*row[:3], os.path.realpath(row[3])])


@case("runc: list", "list --quiet prints ids")
def list_quiet(t):
    t.up()
    t.true(t.id in t.must("list", "--quiet").out.split("\n"), "the id is not listed")


@case("runc: list", "list --format json prints an array with id, pid, status, bundle, created, owner")
def list_json(t):
    t.up()
    rows = json.loads(t.must("list", "--format", "json").out)
    row = next(r for r in rows if r["id"] == t.id)
    t.equal([t.init, "running", "root"], [row["pid"], row["status"], row.get("owner")])
    t.true(row.get("created") and row.get("bundle"), f"{row}")


@case("runc: list", "list of an empty root: no rows, exit 0")
def list_empty(t):
    import subprocess
    empty = t.host_dir("empty-root")
    got = subprocess.run([*t.runtime.argv, "--root", empty, "list", "--quiet"], capture_output=True, text=True, check=False)
    t.equal((0, ""), (got.returncode, got.stdout))


@case("runc: ps", "ps --format json prints the process ids of the container")
def ps_json(t):
    t.needs_cgroups()
    t.up("sleep 60 & exec sleep 61")
    until(lambda: len(json.loads(t.must("ps", "--format", "json", t.id).out)) == 2, "two processes")
    t.true(t.init in json.loads(t.must("ps", "--format", "json", t.id).out), "the init process is missing")


@case("runc: ps", "ps prints a table of ps(1)")
def ps_table(t):
    t.needs_cgroups()
    t.up()
    lines = t.must("ps", t.id).out.splitlines()
    t.contains("PID", lines[0])
    t.contains("sleep 60", lines[1])


@case("features.md", "features prints ociVersionMin and ociVersionMax, and accepts both")
def features_versions(t):
    got = json.loads(t.must("features").out)
    for version in (got["ociVersionMin"], got["ociVersionMax"]):
        t.config["ociVersion"] = version
        t.equal("ok", t.sh("echo ok"), version)


@case("features.md#hooks", "features names every hook")
def features_hooks(t):
    got = json.loads(t.must("features").out)
    t.equal(["createContainer", "createRuntime", "poststart", "poststop", "prestart", "startContainer"], sorted(got["hooks"]))


@case("features.md#mount-options", "every mount option of the features is known to the runtime, none is passed as data")
def features_mount_options(t):
    options = json.loads(t.must("features").out)["mountOptions"]
    t.true(len(options) > 20, f"{options}")
    data = t.host_dir("data")
    recursive = {"r" + o for o in options} - {"rbind"}
    for n, option in enumerate(options):
        if option in ("idmap", "ridmap", "remount", "mand", "unbindable", "runbindable"):
            continue  # they need more than a word, or take the mount from the others
        if option in recursive or option in ("bind", "rbind"):
            t.mount(f"/m{n}", "bind", data, ["rbind", option])
        else:
            t.mount(f"/m{n}", "tmpfs", "tmpfs", [option])
    t.equal("ok", t.sh("echo ok"))


@case("features-linux.md#namespaces", "features names the namespaces")
def features_namespaces(t):
    got = set(json.loads(t.must("features").out)["linux"]["namespaces"])
    t.true({"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"} <= got, f"{sorted(got)}")


@case("features-linux.md#seccomp", "features names the actions, operators and architectures of seccomp")
def features_seccomp(t):
    got = json.loads(t.must("features").out)["linux"]["seccomp"]
    t.true(got["enabled"], "not enabled")
    t.true({"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_NOTIFY"} <= set(got["actions"]), f"{got['actions']}")
    t.equal(7, len(got["operators"]), "operators")
    t.true(got["archs"], "no architectures")


@case("features-linux.md", "features names cgroup, capabilities, and what needs a security module")
def features_linux(t):
    got = json.loads(t.must("features").out)["linux"]
    t.true({"cgroup", "capabilities", "apparmor", "selinux"} <= set(got), f"{sorted(got)}")
    t.equal([True, True], [got["cgroup"]["v1"], got["cgroup"]["v2"]])
    t.true("CAP_SYS_ADMIN" in got["capabilities"], "no CAP_SYS_ADMIN")


@case("runc: spec", "spec writes a config.json that runs")
def spec_runs(t):
    t.must("spec", "--bundle", t.dir)
    with open(os.path.join(t.dir, "config.json")) as file:
        t.config = json.load(file)
    t.config["process"]["terminal"] = False
    if not t.runtime.cgroups:
        t.config["mounts"] = [m for m in t.config["mounts"] if m["type"] != "cgroup"]
        t.config["linux"].pop("resources", None)
        t.linux["namespaces"] = [n for n in t.linux["namespaces"] if n["type"] != "cgroup"]
    t.equal("ok", t.sh("echo ok"))


@case("runc: spec", "spec does not overwrite a config.json")
def spec_keeps(t):
    t.host_file("config.json", "{}")
    t.true(t.call("spec", "--bundle", t.dir).code != 0, "exit 0")
    with open(os.path.join(t.dir, "config.json")) as file:
        t.equal("{}", file.read())


@case("runc: spec --rootless", "spec --rootless has a user namespace with mappings and no network setup of root")
def spec_rootless(t):
    t.must("spec", "--rootless", "--bundle", t.dir)
    with open(os.path.join(t.dir, "config.json")) as file:
        got = json.load(file)
    t.true("user" in [n["type"] for n in got["linux"]["namespaces"]], "no user namespace")
    t.true(got["linux"].get("uidMappings") and got["linux"].get("gidMappings"), "no mappings")


@case("runc: --version", "--version prints a version and the spec's")
def version_text(t):
    got = t.must("--version").out
    t.contains("version", got)
    t.contains("spec:", got)


@case("runc: --log", "--log-format json: an error is a JSON line with level and msg in the log")
def log_json(t):
    path = os.path.join(t.dir, "log.json")
    t.call("state", "no-such-container", before=("--log", path, "--log-format", "json"))
    with open(path) as file:
        lines = [json.loads(line) for line in file.read().splitlines()]
    t.true(any(line.get("level") == "error" and line.get("msg") for line in lines), f"{lines}")


@case("runc: --log", "--log: a failing create is told in the log, which is what shims read")
def log_of_create(t):
    path = os.path.join(t.dir, "log.json")
    t.process["args"] = ["no-such-program"]
    t.write()
    result = t.call("create", "--bundle", t.dir, t.id, before=("--log", path, "--log-format", "json"), files=True)
    if result.code == 0:
        result = t.call("start", t.id, before=("--log", path, "--log-format", "json"))
    t.true(result.code != 0, "exit 0")
    with open(path) as file:
        t.contains("no-such-program", file.read())


@case("runc: --log", "a log format of no such name is an error")
def log_unknown_format(t):
    t.true(t.call("list", before=("--log-format", "yaml")).code != 0, "exit 0")


@case("runc: --debug", "--debug does not change what a verb does")
def debug_flag(t):
    t.script("echo ok")
    t.write()
    result = t.call("run", "--bundle", t.dir, t.id, before=("--debug", "--log", os.path.join(t.dir, "log")))
    t.equal((0, "ok\n"), (result.code, result.out))


@case("runc: help", "help, --help and an unknown verb")
def help_text(t):
    for words in (["--help"], ["help"], ["create", "--help"]):
        result = t.call(*words)
        t.equal(0, result.code, " ".join(words))
        t.contains("create", result.out)
    t.true(t.call("no-such-verb").code != 0, "an unknown verb succeeds")


@case("runc: flags", "an unknown flag is an error")
def unknown_flag(t):
    t.write()
    t.true(t.call("create", "--no-such-flag", "--bundle", t.dir, t.id).code != 0, "exit 0")


@case("runc: flags", "flags are taken as --flag=value and with one dash, as Go's callers write them")
def flag_spellings(t):
    t.script("echo ok")
    t.write()
    result = t.call("run", f"--bundle={t.dir}", t.id)
    t.equal((0, "ok\n"), (result.code, result.out), result.err)
    result = t.call("run", "-b", t.dir, t.id)
    t.equal((0, "ok\n"), (result.code, result.out), result.err)
