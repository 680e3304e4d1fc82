#!/usr/bin/env python3
"""rcon against docker and podman (runc), interleaved run by run on this machine, with the floor measured in the same run.

Prints median, min, max and the ratio to the best peer; writes JSON. Asserts nothing: a bench is not a test.
Shape and goals: README, "Performance".
"""
import argparse
import concurrent.futures
import glob
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--rcon", required=True)
parser.add_argument("--image", required=True)
parser.add_argument("--json", required=True)
parser.add_argument("--rounds", type=int, default=15)
parser.add_argument("--only", default="", help="comma list of rows")
options = parser.parse_args()

work = tempfile.mkdtemp(prefix="rcon-bench.")
null = subprocess.DEVNULL
# Podman raises the open-files limit by default, which a root without CAP_SYS_RESOURCE may not.
with open(f"{work}/containers.conf", "w") as conf:
    conf.write('[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n')
os.environ["CONTAINERS_CONF"] = f"{work}/containers.conf"


def sh(argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw).stdout.strip()


class Engine:
    def __init__(self, name, argv, service=None):
        self.name, self.argv, self.service = name, argv, service

    def __call__(self, *args):
        return sh(self.argv + list(args))

    def timed(self, *args):
        begin = time.perf_counter()
        # The engines print to /dev/null; an error ends the bench with its text.
        done = subprocess.run(self.argv + list(args), stdout=null, stderr=subprocess.PIPE)
        took = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{self.name} {' '.join(args)}: {done.stderr.decode()}")
        return took * 1000


def start_dockerd():
    # A private daemon: own data, own socket, so that nothing of a running one is measured or changed.
    socket = f"unix://{work}/docker.sock"
    daemon = subprocess.Popen(
        ["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run", "-H", socket, "--pidfile", f"{work}/docker.pid",
         "--bip", "172.31.250.1/24"],
        stdout=open(f"{work}/dockerd.log", "w"), stderr=subprocess.STDOUT)
    for _ in range(300):
        if subprocess.run(["docker", "-H", socket, "version"], stdout=null, stderr=null).returncode == 0:
            return daemon, ["docker", "-H", socket]
        time.sleep(0.1)
    raise SystemExit("dockerd does not start: " + open(f"{work}/dockerd.log").read()[-2000:])


def interleaved(engines, measure, rounds, pause=0.04):
    """measure(engine) per engine and round, in rotating order, after 40 ms of quiet. The first round warms up."""
    samples = {e.name: [] for e in engines}
    for number in range(rounds + 1):
        turn = number % len(engines)
        for engine in engines[turn:] + engines[:turn]:
            time.sleep(pause)
            value = measure(engine)
            if number:
                samples[engine.name].append(value)
    return samples


results = {}


def row(title, samples, unit="ms", goal=None):
    peers = {k: statistics.median(v) for k, v in samples.items() if k in ("docker", "podman")}
    best = min(peers.values()) if peers else None
    results[title] = {}
    print(f"\n{title}" + (f"   (goal: {goal})" if goal else ""))
    for name, values in samples.items():
        median = statistics.median(values)
        ratio = f"{median / best:5.2f} x best peer" if best and name == "rcon" else ""
        wide = "  (wide spread)" if max(values) > 2.5 * median else ""
        print(f"  {name:10} median {median:9.2f} {unit}   min {min(values):9.2f}   max {max(values):9.2f}   {ratio}{wide}")
        results[title][name] = {"median": median, "min": min(values), "max": max(values), "unit": unit,
                                **({"ratio": median / best} if ratio else {})}


def wanted(name):
    return not options.only or name in options.only.split(",")


def memory_of(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1])
    return total / 1024


def pss_of(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def pids_named(prefix):
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            text = open(path, "rb").read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if os.path.basename(text.split(" ")[0]).startswith(prefix):
            found.append(int(path.split("/")[2]))
    return found


daemon, docker_argv = start_dockerd()
rcon = Engine("rcon", [options.rcon, "--root", f"{work}/rcon", "--run-root", f"{work}/rcon-run"])
docker = Engine("docker", docker_argv)
podman = Engine("podman", ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run", "--runtime", "runc",
                           "--cgroup-manager", "cgroupfs"])
engines = [rcon, docker, podman]
try:
    for engine in engines:
        engine("load", "-q", "-i", options.image)
    image = {"rcon": "busybox", "docker": "busybox", "podman": "docker.io/library/busybox:latest"}
    if podman("images", "-q", "localhost/busybox"):
        image["podman"] = "localhost/busybox:latest"

    # The floor: the same objects by a bare program on the same root.
    subprocess.run(["gcc", "-O2", "-o", f"{work}/floor", os.path.join(os.path.dirname(__file__), "floor.c")], check=True)
    os.makedirs(f"{work}/floor-root")
    subprocess.run(["tar", "-xf", options.image, "-C", work, "./layer1.tar"], check=True)
    subprocess.run(["tar", "-xpf", f"{work}/layer1.tar", "-C", f"{work}/floor-root"], check=True)
    for name in ("upper", "work", "root"):
        os.makedirs(f"{work}/floor-work/{name}")

    class Floor:
        name = "floor"

        def timed(self, *_):
            begin = time.perf_counter()
            subprocess.run([f"{work}/floor", f"{work}/floor-root", f"{work}/floor-work", "none"], check=True)
            return (time.perf_counter() - begin) * 1000

    floor = Floor()

    def run(*flags):
        return lambda e: e.timed() if e is floor else e.timed("run", "--rm", *flags, image[e.name], "true")

    if wanted("run"):
        row("run --rm busybox true, default network", interleaved(engines + [floor], run(), options.rounds), goal="<= 0.10 x best peer")
    if wanted("none"):
        row("run --rm --network none busybox true", interleaved(engines + [floor], run("--network", "none"), options.rounds), goal="<= 0.15 x")
    if wanted("parallel"):
        def parallel(engine):
            begin = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(20) as pool:
                list(pool.map(lambda _: run()(engine), range(20)))
            return (time.perf_counter() - begin) * 1000
        row("20 parallel run --rm", interleaved(engines, parallel, 3, 0.5), goal="<= 0.15 x")
    if wanted("exec"):
        for engine in engines:
            engine("run", "-d", "--name", "target", image[engine.name], "sleep", "1000")
        pid = rcon("inspect", "-f", "{{.State.Pid}}", "target")

        class Nsenter:
            name = "nsenter"

            def timed(self, *_):
                begin = time.perf_counter()
                subprocess.run(["nsenter", "-t", pid, "-a", "/bin/true"], check=True)
                return (time.perf_counter() - begin) * 1000
        row("exec true", interleaved(engines + [Nsenter()], lambda e: e.timed("exec", "target", "true"), options.rounds),
            goal="<= 0.12 x docker, <= 2 x nsenter")
        for engine in engines:
            engine("rm", "-f", "target")
    if wanted("detached"):
        counter = iter(range(10**6))
        row("run -d busybox sleep", interleaved(engines, lambda e: e.timed("run", "-d", "--name", f"d{next(counter)}", image[e.name], "sleep", "1000"), 10), goal="<= 0.15 x")
        for engine in engines:
            engine("rm", "-f", *engine("ps", "-aq").split())
    if wanted("ps"):
        for engine in engines:
            for number in range(50):
                engine("run", "-d", "--network", "none", "--name", f"idle{number}", image[engine.name], "sleep", "1000")
        row("ps with 50 containers", interleaved(engines, lambda e: e.timed("ps"), options.rounds), goal="<= 0.3 x")
        monitors = {"rcon": "rcon-monitor", "docker": "containerd-shim", "podman": "conmon"}
        private = {e.name: [memory_of(pids_named(monitors[e.name])) / 50] for e in engines}
        row("private memory per idle container (monitor, shim, conmon)", private, "MiB", "<= 1 MiB, then <= 0.36")
        row("the same as PSS", {e.name: [pss_of(pids_named(monitors[e.name])) / 50] for e in engines}, "MiB")
        names = {e.name: iter(e("ps", "-q").split()) for e in engines}
        row("rm -f of a running container", interleaved(engines, lambda e: e.timed("rm", "-f", *(["-t", "0"] if e is podman else []), next(names[e.name])), 15), goal="<= 0.4 x")
    if wanted("scale"):
        # rcon alone: the others take minutes for as many.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: rcon("create", "--name", f"many{number}", image["rcon"], "true"), range(1000)))
        row("ps -a with 1,000 records", interleaved([rcon], lambda e: e.timed("ps", "-a"), options.rounds), goal="< 50 ms")
        counter = iter(range(10**6))

        def simultaneous(engine):
            names = [f"wave{next(counter)}" for _ in range(200)]
            begin = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(200) as pool:
                list(pool.map(lambda name: engine("run", "-d", "--name", name, image["rcon"], "sleep", "1000"), names))
            took = (time.perf_counter() - begin) * 1000
            engine("rm", "-f", *names)
            return took
        row("200 simultaneous run -d", interleaved([rcon], simultaneous, 2, 0.5))
finally:
    for engine in engines:
        listed = subprocess.run(engine.argv + ["ps", "-aq"], stdout=subprocess.PIPE, stderr=null, text=True).stdout.split()
        if listed:
            subprocess.run(engine.argv + ["rm", "-f", *listed], stdout=null, stderr=null)
    daemon.terminate()
    daemon.wait()
    subprocess.run(["umount", "-R", "-l", f"{work}/podman/overlay"], stderr=null)
    shutil.rmtree(work, ignore_errors=True)
os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
with open(options.json, "w") as f:
    json.dump(results, f, indent=1)
print(f"\nwritten: {options.json}")
