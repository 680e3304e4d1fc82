#!/usr/bin/env python3
"""docker-py.py SOCKET IMAGE: Docker's Python library on a server; a line for each thing tried, "  ok    NAME" or "  FAIL  NAME: why"."""
import faulthandler
import io
import socket as sockets
import struct
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound

PATIENCE = 60
NAME, IMAGE = sys.argv[1], sys.argv[2]
client = docker.DockerClient(base_url=NAME, timeout=120)
TRIED = []
# Whoever waits for ever says where.
faulthandler.dump_traceback_later(800, exit=True)


def short(value):
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} … {text[-200:]} ({len(text)} characters)"


def expect(name, wanted, got):
    print(f"  ok    {name}" if wanted == got else f"  FAIL  {name}: expected «{short(wanted)}», got «{short(got)}»", flush=True)


def raises(name, kind, call):
    try:
        got = call()
    except kind as error:
        print(f"  ok    {name}", flush=True)
        return error
    except Exception as error:  # pylint: disable=broad-except
        print(f"  FAIL  {name}: {error!r} instead of {kind.__name__}", flush=True)
        return None
    print(f"  FAIL  {name}: it returned {got!r}", flush=True)
    return None


def eventually(what):
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def tried(what):
    TRIED.append(what)
    return what


def begin(*command, **more):
    more.setdefault("network_mode", "none")
    return client.containers.run(IMAGE, list(command), detach=True, **more)


def archive(**files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return data.getvalue()


def received(connection, length=None):
    """What comes until the end, or that many bytes."""
    raw = getattr(connection, "_sock", connection)
    raw.settimeout(PATIENCE)
    data = b""
    while length is None or len(data) < length:
        piece = raw.recv(65536 if length is None else length - len(data))
        if not piece:
            break
        data += piece
    return data


def frames(data):
    out = {1: b"", 2: b""}
    while data:
        stream, length = struct.unpack(">BxxxL", data[:8])
        out[stream] += data[8:8 + length]
        data = data[8 + length:]
    return out[1], out[2]


@tried
def running():
    expect("run", b"hello\n", client.containers.run(IMAGE, ["echo", "hello"], remove=True, network_mode="none"))
    expect("run with both streams", {b"out", b"err"},
           set(client.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2"], stderr=True, remove=True, network_mode="none").split()))
    error = raises("run that fails", ContainerError, lambda: client.containers.run(IMAGE, ["sh", "-c", "echo why >&2; exit 7"], remove=True, network_mode="none"))
    expect("its code and words", (7, b"why\n"), error and (error.exit_status, error.stderr))
    raises("an unknown image", ImageNotFound, lambda: client.containers.create("no-such-image", "true"))
    raises("an unknown container", NotFound, lambda: client.containers.get("no-such-container"))
    expect("a streamed run", [b"1\n2\n3\n"], [b"".join(client.containers.run(IMAGE, ["seq", "3"], stream=True, remove=True, network_mode="none"))])
    container = client.containers.create(IMAGE, ["sh", "-c", "echo $A; pwd; exit 3"], environment={"A": "b"}, working_dir="/tmp", name="made",
                                         labels={"of": "py"}, mem_limit="64m", network_mode="none", ports={"80/tcp": ("127.0.0.1", 8124)})
    expect("create", ("created", "made", "py", 64 << 20), (container.status, container.name, container.labels["of"], container.attrs["HostConfig"]["Memory"]))
    container.start()
    expect("wait", 3, container.wait()["StatusCode"])
    expect("logs", b"b\n/tmp\n", container.logs())
    expect("list with filters", ["made"], [one.name for one in client.containers.list(all=True, filters={"label": "of=py", "status": "exited"})])
    raises("its name again", APIError, lambda: client.containers.create(IMAGE, "true", name="made"))
    container.rename("renamed")
    container.reload()
    expect("rename", "renamed", container.name)
    container.remove()
    raises("it is gone", NotFound, container.reload)


@tried
def life():
    container = begin("sh", "-c", "trap 'echo usr1' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(lambda: b"ready" in container.logs())
    container.kill(signal="USR1")
    expect("kill with a signal", True, eventually(lambda: b"usr1" in container.logs()))
    container.pause()
    container.reload()
    expect("pause", "paused", container.status)
    container.unpause()
    container.update(mem_limit="128m", memswap_limit="128m")
    container.reload()
    expect("unpause and update", ("running", 128 << 20), (container.status, container.attrs["HostConfig"]["Memory"]))
    top = container.top()
    expect("top", True, "PID" in top["Titles"] and any("sh" in " ".join(process) for process in top["Processes"]))
    container.restart(timeout=5)
    container.reload()
    expect("restart", "running", container.status)
    eventually(lambda: container.logs().count(b"ready") == 2)
    container.stop(timeout=20)
    expect("stop", 0, container.wait()["StatusCode"])
    expect("wait for the next exit", 9, next_exit(container))
    container.remove(force=True)


def next_exit(container):
    """A wait that begins before the start."""
    other = client.containers.create(IMAGE, ["sh", "-c", "exit 9"], network_mode="none")
    code = []
    waiter = threading.Thread(target=lambda: code.append(other.wait(condition="next-exit")["StatusCode"]))
    waiter.start()
    # Started again and again until the wait has seen one.
    while waiter.is_alive():
        other.start()
        waiter.join(1)
    other.remove(force=True)
    return code[0]


@tried
def attaching():
    container = client.containers.create(IMAGE, ["sh", "-c", "echo first; echo second >&2; seq 1 5000"], network_mode="none")
    connection = container.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    expect("attach before the start", (b"first\n" + b"".join(b"%d\n" % n for n in range(1, 5001)), b"second\n"), frames(received(connection)))
    container.remove(force=True)
    container = client.containers.create(IMAGE, ["cat"], stdin_open=True, network_mode="none")
    connection = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    raw = connection._sock
    raw.sendall(b"typed\n")
    expect("an answer while it runs", (b"typed\n", b""), frames(received(connection, 8 + 6)))
    raw.shutdown(sockets.SHUT_WR)
    expect("the end of input is one", 0, container.wait()["StatusCode"])
    container.remove()
    container = begin("sh", "-c", "until [ -e /go ]; do echo tick; sleep 0.1; done; echo out; echo err >&2")
    pieces = container.attach(stream=True, demux=True)
    expect("attach(stream, demux)", (b"tick\n", None), next(pieces))
    container.exec_run("touch /go")
    rest = [piece for piece in pieces if piece != (b"tick\n", None)]
    expect("its rest", {(b"out\n", None), (None, b"err\n")}, set(rest))
    container.remove(force=True)


@tried
def logging():
    container = begin("sh", "-c", "echo one; echo two >&2; until [ -e /go ]; do sleep 0.1; done; echo three")
    eventually(lambda: b"two" in container.logs())
    expect("logs of one stream", (b"one\n", b"two\n"), (container.logs(stderr=False), container.logs(stdout=False)))
    lines = container.logs(stream=True, follow=True, stdout=True, stderr=False)
    expect("logs(stream)", b"one\n", next(lines))
    container.exec_run("touch /go")
    expect("and what comes", [b"three\n"], list(lines))
    expect("tail", b"three\n", container.logs(tail=1))
    stamp = container.logs(timestamps=True, tail=1).split(b" ")[0]
    expect("timestamps", True, stamp.startswith(b"20") and stamp.endswith(b"Z"))
    expect("since and until", (3, b""), (len(container.logs(since=int(time.time()) - 3600).splitlines()), container.logs(since=int(time.time()) + 3600)))
    container.remove(force=True)


@tried
def executions():
    container = begin("sleep", "1000")
    expect("exec_run", (3, b"out\n"), tuple(container.exec_run(["sh", "-c", "echo out; exit 3"])))
    expect("demux", (0, (b"out\n", b"err\n")), tuple(container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)))
    expect("stream", b"".join(b"%d\n" % n for n in range(1, 20001)), b"".join(container.exec_run(["seq", "20000"], stream=True).output))
    streamed = container.exec_run(["sh", "-c", "echo out; echo err >&2"], stream=True, demux=True).output
    expect("stream and demux", {(b"out\n", None), (None, b"err\n")}, set(streamed))
    expect("user, workdir, environment", b"1000 /tmp b\n", container.exec_run(["sh", "-c", "echo $(id -u) $(pwd) $A"], user="1000", workdir="/tmp", environment={"A": "b"}).output)
    expect("a terminal", b"/dev/pts/0\r\n", container.exec_run("tty", tty=True).output)
    connection = container.exec_run("cat", stdin=True, socket=True).output
    raw = connection._sock
    raw.sendall(b"typed\n")
    expect("socket", (b"typed\n", b""), frames(received(connection, 8 + 6)))
    raw.shutdown(sockets.SHUT_WR)
    expect("its end", b"", received(connection))
    expect("detach", "", container.exec_run("touch /detached", detach=True).output)
    expect("which is done", True, eventually(lambda: container.exec_run("test -e /detached").exit_code == 0))
    made = client.api.exec_create(container.id, ["sh", "-c", "exit 4"])["Id"]
    expect("exec_inspect before", (False, None), (client.api.exec_inspect(made)["Running"], client.api.exec_inspect(made)["ExitCode"]))
    client.api.exec_start(made)
    found = client.api.exec_inspect(made)
    expect("exec_inspect after", (False, 4, container.id, "sh"), (found["Running"], found["ExitCode"], found["ContainerID"], found["ProcessConfig"]["entrypoint"]))
    raises("a second start", APIError, lambda: client.api.exec_start(made))
    raises("an unknown exec", NotFound, lambda: client.api.exec_inspect("0" * 64))
    container.remove(force=True)


@tried
def files():
    container = begin("sleep", "1000")
    expect("put_archive", True, container.put_archive("/root", archive(a=b"text", b=b"x" * 3_000_000)))
    expect("is there", b"text 3000000\n", container.exec_run(["sh", "-c", "echo $(cat /root/a) $(stat -c %s /root/b)"]).output)
    pieces, stat = container.get_archive("/root/a")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        expect("get_archive", (["a"], b"text"), (tar.getnames(), tar.extractfile("a").read()))
    expect("its stat", ("a", 4), (stat["name"], stat["size"]))
    raises("get_archive of nothing", NotFound, lambda: container.get_archive("/none"))
    raises("put_archive to nowhere", NotFound, lambda: container.put_archive("/none", archive(a=b"")))
    expect("diff", True, {"Path": "/root/a", "Kind": 1} in container.diff())
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as tar:
        expect("export", b"text", tar.extractfile("root/a").read())
    image = container.commit(repository="from-py", tag="1", conf={"Cmd": ["cat", "/root/a"]})
    expect("commit", (["from-py:1"], b"text"), (image.tags, client.containers.run("from-py:1", remove=True, network_mode="none")))
    client.images.remove("from-py:1")
    container.remove(force=True)


@tried
def facts():
    begun = time.time()
    container = begin("sleep", "1000", mem_limit="64m")
    once = container.stats(stream=False)
    expect("stats", (64 << 20, 1), (once["memory_stats"]["limit"], once["pids_stats"]["current"]))
    pieces = container.stats(stream=True, decode=True)
    seen = [next(pieces), next(pieces)]
    expect("stats(stream)", True, seen[0]["read"] < seen[1]["read"] and seen[1]["precpu_stats"]["cpu_usage"]["total_usage"] == seen[0]["cpu_stats"]["cpu_usage"]["total_usage"])
    pieces.close()
    events = client.events(since=begun, decode=True, filters={"container": container.id})
    expect("events of before", ["create", "start"], [next(events)["Action"], next(events)["Action"]])
    container.kill()
    following = []
    for event in events:
        following.append(event["Action"])
        if event["Action"] == "die":
            code = event["Actor"]["Attributes"]["exitCode"]
            break
    expect("events as they come", (True, "137"), (following[-1] == "die" and set(following) <= {"kill", "die"}, code))
    events.close()
    container.remove()
    expect("ping, version, info, df", (True, "1.51", "linux", True),
           (client.ping(), client.version()["ApiVersion"], client.info()["OSType"], client.df()["LayersSize"] > 0))


@tried
def images():
    dockerfile = f"FROM {IMAGE}\nARG WHO\nRUN echo hello $WHO > /greeting\nCMD cat /greeting\n".encode()
    image, log = client.images.build(fileobj=io.BytesIO(dockerfile), tag="py-built:1", buildargs={"WHO": "py"}, labels={"of": "py"}, network_mode="none", rm=True)
    words = "".join(line.get("stream", "") for line in log)
    expect("images.build", (["py-built:1"], True), (image.tags, "RUN echo hello" in words and "Successfully built" in words))
    expect("it runs", b"hello py\n", client.containers.run("py-built:1", remove=True, network_mode="none"))
    error = raises("a build that fails", BuildError, lambda: client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN exit 3\n".encode()), network_mode="none", rm=True))
    expect("its words", True, "returned a non-zero code: 3" in str(error))
    context = archive(Dockerfile=f"FROM {IMAGE}\nCOPY file /file\n".encode(), file=b"in the context")
    image, _ = client.images.build(fileobj=io.BytesIO(context), custom_context=True, tag="py-context")
    expect("a context", b"in the context", client.containers.run("py-context", ["cat", "/file"], remove=True, network_mode="none"))
    expect("list with filters", [["py-built:1"]], [one.tags for one in client.images.list(filters={"label": "of=py"})])
    expect("tag", True, image.tag("py-other", tag="2"))
    image.reload()
    expect("its tags", ["py-context:latest", "py-other:2"], sorted(image.tags))
    expect("history", True, "COPY" in image.history()[0]["CreatedBy"])
    saved = b"".join(image.save(named="py-other:2"))
    client.images.remove("py-other:2")
    raises("an image that is gone", ImageNotFound, lambda: client.images.get("py-other:2"))
    expect("load", [image.id], [one.id for one in client.images.load(saved)])
    raises("pull of none", APIError, lambda: client.images.pull("localhost:1/none", tag="none"))
    for name in ("py-built:1", "py-context", "py-other:2"):
        client.images.remove(name)
    holder = begin("true")
    pruned = client.images.prune(filters={"dangling": False})
    holder.remove(force=True)
    expect("prune", ([IMAGE], True), ([tag for one in client.images.list() for tag in one.tags], "SpaceReclaimed" in pruned))


@tried
def resources():
    volume = client.volumes.create("py-volume", labels={"of": "py"})
    expect("volumes", ("py-volume", ["py-volume"]), (volume.name, [one.name for one in client.volumes.list(filters={"label": "of=py"})]))
    client.containers.run(IMAGE, ["sh", "-c", "echo kept > /d/f"], volumes={"py-volume": {"bind": "/d", "mode": "rw"}}, remove=True, network_mode="none")
    mount = docker.types.Mount("/d", "py-volume", read_only=True)
    expect("a mount", b"kept\n", client.containers.run(IMAGE, ["cat", "/d/f"], mounts=[mount], remove=True, network_mode="none"))
    volume.remove()
    raises("it is gone", NotFound, lambda: client.volumes.get("py-volume"))
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="172.31.241.0/24", gateway="172.31.241.1")])
    network = client.networks.create("py-network", ipam=pool, labels={"of": "py"}, check_duplicate=True)
    expect("networks", ["py-network"], [one.name for one in client.networks.list(names=["py-network"])])
    server = begin("sh", "-c", "mkdir /www; echo served > /www/index.html; httpd -f -h /www -p 80", network_mode=None, name="py-web")
    network.connect(server, aliases=["alias"], ipv4_address="172.31.241.9")
    server.reload()
    expect("connect", "172.31.241.9", server.attrs["NetworkSettings"]["Networks"]["py-network"]["IPAddress"])
    network.reload()
    expect("the network knows it", ["py-web"], [one.name for one in network.containers])

    def serves():
        """Over a shell: wget of a static busybox needs what a static C library does not have."""
        command = ["sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc alias 80 | tail -n 1"]
        return client.containers.run(IMAGE, command, network="py-network", remove=True) == b"served\n"

    expect("by its alias", True, eventually(serves))
    raises("removal in use", APIError, network.remove)
    network.disconnect(server)
    network.reload()
    expect("disconnect", [], network.containers)
    server.remove(force=True)
    network.remove()
    raises("it is gone, too", NotFound, lambda: client.networks.get("py-network"))
    ended = begin("true")
    ended.wait()
    expect("containers.prune", [ended.id], client.containers.prune()["ContainersDeleted"])
    client.networks.create("py-empty")
    expect("networks.prune", ["py-empty"], client.networks.prune()["NetworksDeleted"])
    client.volumes.create()
    expect("volumes.prune", 1, len(client.volumes.prune()["VolumesDeleted"]))


for one in TRIED:
    try:
        one()
    except Exception:  # pylint: disable=broad-except
        print(f"  FAIL  docker-py, {one.__name__}: {' / '.join(traceback.format_exc().strip().splitlines()[-3:])}", flush=True)
    for left in client.containers.list(all=True):
        left.remove(force=True)
print("docker-py.py: all was tried")
