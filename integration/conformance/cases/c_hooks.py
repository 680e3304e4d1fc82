"""config.md: POSIX-platform hooks; runtime.md: the lifecycle's order."""

import json
import os
import re
import time

from harness import NotHere, case, until

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def _hook(t, kind, text, **more):
    """A hook that is a shell with this text. Of a startContainer hook the shell is the container's.

    It reads its state, if the text does not: crun fails when a hook is faster than its own write (hooks_stdin_unread).
    """
    if not re.search("cat >|sed ", text):
        text = f"cat > /dev/null; {text}"
    shell = "/bin/sh"
    hooks = t.config.setdefault("hooks", {}).setdefault(kind, [])
    hooks.append({"path": shell, "args": ["sh", "-c", text], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **more})


def _log(t):
    """A file that hooks of both sides write to: $1 of no hook, a path that is the same inside and outside."""
    path = t.host_file("log")
    t.mount(path, "bind", path, ["bind"])
    return path


def _read(path):
    with open(path) as file:
        return file.read().split()


@case("runtime.md#lifecycle", "the hooks of each kind are called, in the order of the lifecycle")
def hooks_order(t):
    log = _log(t)
    for kind in reversed(KINDS):
        _hook(t, kind, f"echo {kind} >> {log}")
    t.script(f"echo process >> {log}; sleep 60")
    t.create()
    t.equal(["prestart", "createRuntime", "createContainer"], _read(log), "after create")
    t.start()
    until(lambda: "process" in _read(log), "the process's line")
    t.true(set(_read(log)[3:]) == {"startContainer", "process", "poststart"}, f"after start: {_read(log)}")
    t.equal("startContainer", _read(log)[3], "after start")
    t.call("kill", t.id, "KILL")
    t.finish()
    t.must("delete", t.id)
    t.equal("poststop", _read(log)[-1], "after delete")


def _listed_order(kind):
    @case("config.md#posix-platform-hooks", f"{kind} hooks are called in the listed order", name=f"hooks_{kind}_listed_order")
    def listed(t):
        log = _log(t)
        for word in ("one", "two", "three"):
            _hook(t, kind, f"echo {word} >> {log}")
        t.script("true")
        t.run()
        t.equal(["one", "two", "three"], _read(log))


def _state_on_stdin(kind, status):
    @case("config.md#posix-platform-hooks", f"{kind} hooks get the state on stdin", name=f"hooks_{kind}_state")
    def state(t):
        log = _log(t)
        t.config["annotations"] = {"com.example.key": "value"}
        _hook(t, kind, f"cat > {log}")
        # The process is there until its hook has been: a poststart hook belongs to one that runs.
        t.script("true" if kind == "poststop" else f"i=0; until [ -s {log} ] || [ $i = 400 ]; do i=$((i + 1)); sleep 0.05; done")
        t.run()
        with open(log) as file:
            got = json.loads(file.read() or "{}")
        t.equal(t.id, got.get("id"), "id")
        t.true(os.path.realpath(got.get("bundle", "/")) == t.dir, f"bundle {got.get('bundle')}")
        t.true(got.get("ociVersion"), "no ociVersion")
        t.equal("value", (got.get("annotations") or {}).get("com.example.key"), "annotation")
        t.true(got.get("status") in status, f"status {got.get('status')}")
        if kind != "poststop":
            t.true(isinstance(got.get("pid"), int) and got["pid"] > 0, f"pid {got.get('pid')}")


def _env(kind):
    @case("config.md#posix-platform-hooks", f"{kind} hooks have the configured environment", name=f"hooks_{kind}_env")
    def environment(t):
        log = _log(t)
        _hook(t, kind, f"env | grep -v -E '^(PWD|SHLVL|_)=' > {log}", env=["PATH=/bin:/usr/bin", "KEY=of-the-hook"])
        t.run()
        t.equal(["KEY=of-the-hook", "PATH=/bin:/usr/bin"], sorted(_read(log)))


def _arguments(kind):
    @case("config.md#posix-platform-hooks", f"{kind} hooks have the configured arguments", name=f"hooks_{kind}_args")
    def arguments(t):
        log = _log(t)
        text = f'cat > /dev/null; echo "$0:$1" > {log}'
        _hook(t, kind, text, args=["sh", "-c", text, "zero", "one"])
        t.run()
        t.equal(["zero:one"], _read(log))


def _namespaces(kind, inside):
    @case("config.md#summary", f"{kind} hooks are executed in the {'container' if inside else 'runtime'} namespace",
          name=f"hooks_{kind}_namespace")
    def namespace(t):
        log = _log(t)
        _hook(t, kind, f"(readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts) > {log}")
        t.run()
        own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
        got = _read(log)
        t.equal(2, len(got), "namespaces in the log")
        for have, mine in zip(got, own):
            t.true((have != mine) if inside else (have == mine), f"the hook is in {have}, the runtime in {mine}")


def _fails(kind):
    @case("runtime.md#lifecycle", f"a failing {kind} hook is an error, stops the container, and goes on to its destruction",
          name=f"hooks_{kind}_fails")
    def fails(t):
        log = _log(t)
        _hook(t, kind, "echo of-the-hook >&2; exit 7")
        _hook(t, kind, f"echo second >> {log}")
        _hook(t, "poststop", f"echo poststop >> {log}")
        t.script(f"sleep 20; echo process >> {log}")
        result = t.run()
        t.true(result.code != 0, "no error")
        t.lacks("second", _read(log), "hooks after the failing one")
        t.lacks("process", _read(log), "the process")
        t.contains("poststop", _read(log), "the destruction's hooks")
        t.gone()


def _fails_create(kind):
    @case("runtime.md#errors", f"a failing {kind} hook leaves nothing of create", name=f"hooks_{kind}_fails_create")
    def fails(t):
        _hook(t, kind, "exit 7")
        t.refuses(why=f"a failing {kind} hook")


def _timeout(kind):
    @case("config.md#posix-platform-hooks", f"a {kind} hook is aborted after its timeout", name=f"hooks_{kind}_timeout")
    def timeout(t):
        _hook(t, kind, "exec sleep 100", timeout=1)
        began = time.monotonic()
        t.script("sleep 100")
        if kind == "poststop":
            t.script("true")
        result = t.run()
        t.true(time.monotonic() - began < 50, "the hook was not aborted")
        t.true(kind == "poststop" or result.code != 0, "no error")


for _kind in KINDS:
    _listed_order(_kind)
    _state_on_stdin(_kind, {"prestart": ("creating", "created"), "createRuntime": ("creating", "created"),
                            "createContainer": ("creating", "created"), "startContainer": ("created", "creating"),
                            "poststart": ("running",), "poststop": ("stopped",)}[_kind])
    _env(_kind)
    _arguments(_kind)
    _namespaces(_kind, _kind in ("createContainer", "startContainer"))
    if _kind != "poststop":
        _fails(_kind)
    _timeout(_kind)
for _kind in KINDS[:3]:
    _fails_create(_kind)


@case("runtime.md#lifecycle", "a failing poststop hook is a warning; the others are called and delete succeeds")
def hooks_poststop_fails(t):
    log = _log(t)
    _hook(t, "poststop", "exit 9")
    _hook(t, "poststop", f"echo second >> {log}")
    t.up("true")
    t.finish()
    t.must("delete", t.id)
    t.equal(["second"], _read(log))
    t.gone()


@case("config.md#poststop", "poststop hooks run after the container is deleted: its cgroup and record are gone")
def hooks_poststop_after_delete(t):
    log = _log(t)
    _hook(t, "poststop", f"find /sys/fs/cgroup -name '*{t.id}*' > {log}; echo end >> {log}")
    t.run()
    t.equal(["end"], _read(log))


@case("config.md#createruntime-hooks", "createRuntime: the mounts are made, the root is not yet pivoted to")
def hooks_create_runtime_sees_mounts(t):
    log = _log(t)
    t.mount("/made", "tmpfs", "the-mount")
    _hook(t, "createRuntime", "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); " f"grep the-mount /proc/$pid/mountinfo > {log}")
    t.run()
    t.true(_read(log), "the container's mounts are not there yet")
    t.true(_read(log)[4].endswith("/rootfs/made") or _read(log)[4] == "/made", _read(log)[4])


@case("config.md#createcontainer-hooks", "createContainer: the mounts are made, the host's root is still the root")
def hooks_create_container_before_pivot(t):
    log = _log(t)
    t.mount("/made", "tmpfs", "the-mount")
    _hook(t, "createContainer", f"grep the-mount /proc/self/mountinfo | cut -d' ' -f5 > {log}")
    t.run()
    t.equal([os.path.join(t.rootfs, "made")], _read(log))


@case("config.md#createcontainer-hooks", "what a createContainer hook mounts, the container has")
def hooks_create_container_mounts(t):
    _hook(t, "createContainer", f"mount -t tmpfs of-the-hook {t.rootfs}/tmp")
    t.equal("of-the-hook", t.mountinfo(t.sh("cat /proc/self/mountinfo"), "/tmp")["source"])


@case("config.md#startcontainer-hooks", "startContainer: the path resolves inside the container")
def hooks_start_container_path(t):
    t.own_file("/only-inside", "#!/bin/sh\necho ran > /mark\n", 0o755)
    t.config["hooks"] = {"startContainer": [{"path": "/only-inside"}]}
    t.equal("ran", t.sh("cat /mark"))


@case("config.md#startcontainer-hooks", "startContainer hooks belong to start, not to create")
def hooks_start_container_not_in_create(t):
    log = _log(t)
    _hook(t, "startContainer", f"echo ran >> {log}")
    t.create()
    t.equal([], _read(log), "after create")
    t.start()
    t.equal(["ran"], _read(log), "after start")


@case("config.md#poststart", "poststart hooks are called before start returns")
def hooks_poststart_before_return(t):
    log = _log(t)
    _hook(t, "poststart", f"sleep 0.3; echo ran >> {log}")
    t.script("sleep 60")
    t.create()
    t.equal([], _read(log), "after create")
    t.start()
    t.equal(["ran"], _read(log), "after start")


@case("config.md#poststart", "poststart hooks are called after the process is executed")
def hooks_poststart_after_exec(t):
    log = _log(t)
    _hook(t, "poststart", "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); " f"tr '\\0' ' ' < /proc/$pid/cmdline > {log}")
    t.process["args"] = ["sleep", "60"]
    t.create()
    t.start()
    t.equal(["sleep", "60"], _read(log))


@case("config.md#posix-platform-hooks", "a hook's path must be absolute")
def hooks_relative_path(t):
    t.config["hooks"] = {"createRuntime": [{"path": "bin/true"}]}
    t.refuses(why="a hook with a relative path")


@case("config.md#posix-platform-hooks", "a hook's path is required")
def hooks_no_path(t):
    t.config["hooks"] = {"createRuntime": [{"args": ["true"]}]}
    t.refuses(why="a hook without path")


@case("config.md#posix-platform-hooks", "a hook that does not exist is an error that names it")
def hooks_missing_program(t):
    t.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    t.contains("/no/such/hook", t.refuses(why="a hook that does not exist"))


@case("config.md#posix-platform-hooks", "a hook's timeout must be greater than zero")
def hooks_timeout_zero(t):
    t.config["hooks"] = {"createRuntime": [{"path": "/bin/true", "timeout": 0}]}
    t.refuses(why="timeout 0")


@case("config.md#posix-platform-hooks", "a hook's timeout must not be negative")
def hooks_timeout_negative(t):
    t.config["hooks"] = {"createRuntime": [{"path": "/bin/true", "timeout": -1}]}
    t.refuses(why="timeout -1")


@case("config.md#posix-platform-hooks", "a hook that dies of a signal has failed")
def hooks_killed(t):
    _hook(t, "createRuntime", "kill -9 $$")
    t.refuses(why="a hook that dies of SIGKILL")


@case("config.md#posix-platform-hooks", "what a failing hook says on stderr is part of the error")
def hooks_error_text(t):
    _hook(t, "createRuntime", "echo reason-of-the-hook >&2; exit 3")
    t.contains("reason-of-the-hook", t.refuses(why="a failing hook"))


@case("config.md#posix-platform-hooks", "a hook need not read its stdin")
def hooks_stdin_unread(t):
    t.config["annotations"] = {f"key{n}": "x" * 1000 for n in range(200)}  # more than a pipe holds
    t.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    t.equal("ok", t.sh("echo ok"))


@case("config.md#posix-platform-hooks", "an empty hooks object is legal")
def hooks_empty(t):
    t.config["hooks"] = {}
    t.equal("ok", t.sh("echo ok"))


@case("config.md#posix-platform-hooks", "hooks hold no file of the runtime but their standard streams")
def hooks_open_files(t):
    if not os.path.exists("/proc/self/fd"):
        raise NotHere("no procfs")
    log = _log(t)
    _hook(t, "createRuntime", f"ls /proc/$$/fd > {log}")
    t.run()
    t.true({int(n) for n in _read(log)} <= {0, 1, 2, 10}, f"open: {_read(log)}")
