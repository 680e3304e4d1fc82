"""runtime.md: the state, the operations, their errors."""

import json
import os
import signal
import time

from harness import Broken, case, until

# --- State ---


@case("runtime.md#state", "the state after create: every property, status created")
def state_created(t):
    t.process["args"] = ["sleep", "60"]
    t.config["annotations"] = {"k": "v"}
    t.create()
    state = t.state()
    t.equal([t.id, "created", {"k": "v"}], [state.get("id"), state.get("status"), state.get("annotations")])
    t.equal(t.dir, os.path.realpath(state.get("bundle", "/")), "bundle")
    t.true(os.path.isabs(state["bundle"]), "bundle is not absolute")
    t.true(state.get("ociVersion", "").count(".") >= 2, f"ociVersion {state.get('ociVersion')}")
    t.equal(t.init, state.get("pid"), "pid")


@case("runtime.md#state", "the state after start: status running, the same pid")
def state_running(t):
    t.up()
    state = t.state()
    t.equal(["running", t.init], [state["status"], state["pid"]])


@case("runtime.md#state", "the state after the process has ended: status stopped")
def state_stopped(t):
    t.up("true")
    t.finish()
    t.equal("stopped", t.status())


@case("runtime.md#state", "a process that nobody has reaped is stopped")
def state_zombie(t):
    t.up("true")
    until(lambda: t.status() == "stopped", "the state becomes stopped")


@case("runtime.md#state", "pid is required only while created or running: stopped has none, or 0")
def state_stopped_pid(t):
    t.up("true")
    t.finish()
    t.true(t.state().get("pid", 0) == 0, f"pid {t.state().get('pid')}")


@case("runtime.md#state", "a process killed while created makes the container stopped")
def state_killed_while_created(t):
    t.process["args"] = ["sleep", "60"]
    t.create()
    os.kill(t.init, signal.SIGKILL)
    t.finish()
    t.equal("stopped", t.status())


@case("runtime.md#query-state", "state of a container that does not exist is an error")
def state_missing(t):
    result = t.call("state", "no-such-container")
    t.true(result.code != 0 and result.err, f"exit {result.code}, «{result.err}»")


@case("runtime.md#query-state", "state without an id is an error")
def state_without_id(t):
    t.true(t.call("state").code != 0, "exit 0")


@case("runtime.md#state", "the bundle is absolute though create was given a relative path")
def state_relative_bundle(t):
    t.write()
    t.must("create", "--bundle", ".", t.id, files=True, cwd=t.dir)
    t.equal(t.dir, os.path.realpath(t.state()["bundle"]))
    t.true(os.path.isabs(t.state()["bundle"]), "bundle is relative")


@case("runc: --bundle", "without --bundle the bundle is the working directory")
def create_default_bundle(t):
    t.write()
    t.must("create", t.id, files=True, cwd=t.dir)
    t.equal("created", t.status())


# --- Create ---


@case("runtime.md#create", "an id that is taken is an error, and the first container is untouched")
def create_id_taken(t):
    pid = t.up()
    t.write()
    result = t.call("create", "--bundle", t.dir, t.id, files=True)
    t.true(result.code != 0, "accepted: the id a second time")
    state = t.state()
    t.equal(["running", pid], [state["status"], state["pid"]])


def _bad_id(word, id):
    @case("runtime.md#create", f"an id that is not valid is an error: {word}", name=f"create_id_{word}")
    def bad(t):
        t.write()
        before = sorted(os.listdir(t.dir))
        result = t.call("create", "--bundle", t.dir, id, files=True)
        t.true(result.code != 0, f"accepted: the id «{id}»")
        t.equal(sorted({*before, "out", "err"}), sorted(os.listdir(t.dir)), "what is in the bundle")


_bad_id("empty", "")
_bad_id("dots", "..")
_bad_id("parent", "../outside")
_bad_id("slash", "a/b")
_bad_id("absolute", "/tmp/x")
_bad_id("space", "a b")
_bad_id("newline", "a\nb")


@case("runtime.md#create", "create without an id is an error")
def create_without_id(t):
    t.write()
    t.true(t.call("create", "--bundle", t.dir).code != 0, "exit 0")


@case("runtime.md#create", "a bundle that does not exist is an error")
def create_missing_bundle(t):
    result = t.call("create", "--bundle", os.path.join(t.dir, "nowhere"), t.id)
    t.true(result.code != 0, "accepted: a bundle that does not exist")
    t.gone()


@case("runtime.md#create", "the process must not run at create")
def create_does_not_run(t):
    t.own_file("/mark", "")
    t.script("echo ran > /mark; sleep 60")
    t.create()
    time.sleep(0.2)
    with open(os.path.join(t.rootfs, "mark")) as file:
        t.equal("", file.read())


@case("runtime.md#create", "changes of config.json after create have no effect")
def create_config_is_kept(t):
    t.script("echo first")
    t.create()
    t.script("echo second")
    t.write()
    t.start()
    t.equal((0, "first"), t.finish())


@case("runtime.md#create", "the bundle's config.json is not modified")
def create_leaves_config(t):
    t.write()
    path = os.path.join(t.dir, "config.json")
    with open(path) as file:
        before = file.read()
    t.create()
    with open(path) as file:
        t.equal(json.loads(before)["process"], json.load(file)["process"])


@case("runtime.md#create", "the bundle may be removed while the container runs, and delete still works")
def create_bundle_removed(t):
    t.up()
    os.unlink(os.path.join(t.dir, "config.json"))
    t.equal("running", t.status())
    t.must("delete", "--force", t.id)


@case("runtime.md#errors", "a create that fails leaves nothing: no record, no cgroup, no mount, no process")
def create_failure_leaves_nothing(t):
    t.mount("/one", "tmpfs", "tmpfs")
    t.mount("/two", "no-such-fs", "x")
    t.refuses(why="a file system that does not exist")
    found = []
    for pid in (p for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if t.id in file.read():
                    found.append(pid)
        except OSError:
            continue
    t.equal([], found, "processes left")


@case("runtime.md#errors", "after a create that failed the id is free")
def create_after_failure(t):
    good = list(t.process["args"])
    t.process["args"] = []
    t.refuses(why="empty args")
    t.process["args"] = good
    t.create()
    t.equal("created", t.status())


# --- Start ---


@case("runtime.md#start", "start runs the process; its status is the container's exit status")
def start_runs(t):
    t.up("echo ran; exit 33")
    t.equal((33, "ran"), t.finish())


@case("runtime.md#start", "start of a container that does not exist is an error")
def start_missing(t):
    t.true(t.call("start", "no-such-container").code != 0, "exit 0")


@case("runtime.md#start", "start without an id is an error")
def start_without_id(t):
    t.true(t.call("start").code != 0, "exit 0")


@case("runtime.md#start", "a second start is an error and has no effect")
def start_twice(t):
    t.own_file("/count", "")
    pid = t.up("echo x >> /count; exec sleep 60")
    until(lambda: os.path.getsize(os.path.join(t.rootfs, "count")) == 2, "the process's line")
    t.true(t.call("start", t.id).code != 0, "a second start succeeds")
    t.equal(["running", pid], [t.state()["status"], t.state()["pid"]])
    t.equal(2, os.path.getsize(os.path.join(t.rootfs, "count")))


@case("runtime.md#start", "start of a stopped container is an error")
def start_stopped(t):
    t.up("true")
    t.finish()
    t.true(t.call("start", t.id).code != 0, "start of a stopped container succeeds")
    t.equal("stopped", t.status())


@case("runtime.md#start", "two starts at once: one succeeds")
def start_race(t):
    import threading
    t.own_file("/count", "")
    t.script("echo x >> /count; exec sleep 60")
    t.create()
    codes = []
    both = [threading.Thread(target=lambda: codes.append(t.call("start", t.id).code)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    until(lambda: os.path.getsize(os.path.join(t.rootfs, "count")) == 2, "the process's line")
    t.equal(1, codes.count(0), "starts that succeeded")


@case("runtime.md#start", "the standard streams of create are the container's")
def start_streams(t):
    t.up("echo out; echo err >&2")
    t.equal((0, "out"), t.finish())
    with open(os.path.join(t.dir, "err")) as file:
        t.contains("err", file.read())


# --- Kill ---


def _signal(word, number):
    @case("runtime.md#kill", f"the signal {word} is sent to the process", name=f"kill_{word.replace('+', '_')}")
    def sent(t):
        t.up(f"trap 'echo got; exit 9' {number}; echo ready; while :; do sleep 0.05; done")
        until(lambda: "ready" in t.output(), "the process is ready")
        t.must("kill", t.id, word)
        t.equal((9, "ready\ngot"), t.finish())


for _word, _number in (("TERM", 15), ("SIGTERM", 15), ("15", 15), ("HUP", 1), ("SIGUSR1", 10), ("usr2", 12), ("sigint", 2), ("RTMIN+3", 37)):
    _signal(_word, _number)


@case("runc: kill", "without a signal it is TERM")
def kill_default(t):
    t.up("trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: "ready" in t.output(), "the process is ready")
    t.must("kill", t.id)
    t.equal((9, "ready\ngot"), t.finish())


@case("runtime.md#kill", "KILL ends the process; the status is stopped")
def kill_kill(t):
    t.up()
    t.must("kill", t.id, "KILL")
    t.equal(137, t.finish()[0])
    t.equal("stopped", t.status())


@case("runtime.md#kill", "a created container can be killed")
def kill_created(t):
    t.process["args"] = ["sleep", "60"]
    t.create()
    t.must("kill", t.id, "KILL")
    t.finish()
    t.equal("stopped", t.status())


@case("runtime.md#kill", "kill of a stopped container is an error")
def kill_stopped(t):
    t.up("true")
    t.finish()
    t.true(t.call("kill", t.id, "KILL").code != 0, "exit 0")


@case("runtime.md#kill", "kill of a container that does not exist is an error")
def kill_missing(t):
    t.true(t.call("kill", "no-such-container", "KILL").code != 0, "exit 0")


@case("runtime.md#kill", "kill without an id is an error")
def kill_without_id(t):
    t.true(t.call("kill").code != 0, "exit 0")


@case("runc: kill", "a signal of no such name or number is an error and sends nothing")
def kill_unknown_signal(t):
    t.up()
    for word in ("SIGNONSENSE", "0x9", "99", "-1", ""):
        t.true(t.call("kill", t.id, word).code != 0, f"accepted: the signal «{word}»")
    t.equal("running", t.status())


# --- Delete ---


@case("runtime.md#delete", "delete of a stopped container removes it; the id may be used again")
def delete_stopped(t):
    t.up("true")
    t.finish()
    t.must("delete", t.id)
    t.gone()
    t.create()
    t.equal("created", t.status())


@case("runtime.md#delete", "delete of a running container is an error and has no effect")
def delete_running(t):
    pid = t.up()
    t.true(t.call("delete", t.id).code != 0, "exit 0")
    t.equal(["running", pid], [t.state()["status"], t.state()["pid"]])
    os.kill(pid, 0)


@case("runc: delete", "delete of a created container removes it")
def delete_created(t):
    t.process["args"] = ["sleep", "60"]
    t.create()
    t.must("delete", t.id)
    t.gone()
    t.wait(t.init)


@case("runtime.md#delete", "delete of a container that does not exist is an error")
def delete_missing(t):
    t.true(t.call("delete", "no-such-container").code != 0, "exit 0")


@case("runtime.md#delete", "delete without an id is an error")
def delete_without_id(t):
    t.true(t.call("delete").code != 0, "exit 0")


@case("runc: delete", "delete --force of a running container kills and removes it")
def delete_force(t):
    pid = t.up("trap '' TERM; sleep 60")
    t.must("delete", "--force", t.id)
    t.gone()
    t.wait(pid)


@case("runc: delete", "delete --force of a container that does not exist succeeds")
def delete_force_missing(t):
    t.equal(0, t.call("delete", "--force", "no-such-container").code)


@case("runtime.md#delete", "what the container did not create stays: bind sources, the root file system")
def delete_leaves_foreign(t):
    data = t.host_dir("data")
    t.host_file("data/x", "kept")
    t.mount("/m", "bind", data, ["bind"])
    t.up("true")
    t.finish()
    t.must("delete", t.id)
    with open(os.path.join(data, "x")) as file:
        t.equal("kept", file.read())
    t.true(os.path.exists(os.path.join(t.rootfs, "bin/busybox")), "the root file system is gone")


@case("runtime.md#delete", "a process that the container left in a shared PID namespace does not keep delete from its work")
def delete_with_orphans(t):
    t.needs_cgroups()
    t.no_namespace("pid")
    t.no_mount("/proc")
    t.mount("/proc", "bind", "/proc", ["rbind"])
    t.linux.pop("maskedPaths")
    t.linux.pop("readonlyPaths")
    t.linux["cgroupsPath"] = f"/{t.id}"
    t.up("(sleep 60 < /dev/null > /dev/null 2>&1 &) ; exit 0")
    t.finish()
    t.must("delete", "--force", t.id)
    t.equal([], t.cgroup_directories())


@case("runtime.md#lifecycle", "the whole round ten times leaves no file of the runtime behind")
def round_ten_times(t):
    for _ in range(10):
        t.up("true")
        t.finish()
        t.must("delete", t.id)
        os.unlink(os.path.join(t.dir, "out"))
    left = [n for n in os.listdir(t.runtime.root) if t.id in n]
    if left:
        raise Broken(f"left: {left}")


@case("runtime.md#scope-of-a-container", "a container is known only beneath its --root")
def scope_of_root(t):
    t.up()
    other = os.path.join(t.dir, "other-root")
    os.mkdir(other)
    import subprocess
    got = subprocess.run([*t.runtime.argv, "--root", other, "state", t.id], capture_output=True, check=False)
    t.true(got.returncode != 0, "another root knows the container")


@case("runtime.md#warnings", "a legal config.json is not an occasion for words")
def quiet(t):
    t.script("true")
    t.equal("", t.run().err)
