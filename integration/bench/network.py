#!/usr/bin/env python3
"""Networks: rcon against docker and podman, and against a plain veth pair, interleaved path by path.

Throughput (one TCP stream, iperf3) and latency (a byte there and back, pingpong.c) between two containers, from a container to the
host, from another machine (a network namespace behind a veth pair) to a published port, and from a container to a published port of
another; then what it costs to connect, to disconnect and to publish. Asserts nothing: a bench is not a test. Run it in a network and
mount namespace of its own (make bench-network does): traffic stays there.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--rcon", required=True)
parser.add_argument("--image", required=True)
parser.add_argument("--json", required=True)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--engines", default="rcon,docker,podman")
parser.add_argument("--only", default="", help="a part of the paths' titles")
parser.add_argument("--seconds", type=float, default=1)
options = parser.parse_args()

work = tempfile.mkdtemp(prefix="rcon-bench.")
null = subprocess.DEVNULL
UPLINK, OUTSIDE = "198.51.100.1", "198.51.100.2"
SERVE, PING = 5201, 5301
WITHIN, PAST_RULES = "container to container", "container to container, frames that do not pass iptables (no br_netfilter)"
running = []


def sh(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stdout[-1500:]}")
    return done.stdout.strip()


def inside(pid, *argv):
    return ["nsenter", "-t", str(pid), "-n", *argv] if pid else list(argv)


def start(argv):
    running.append(subprocess.Popen(argv, stdout=null, stderr=null))
    return running[-1]


class Floor:
    """Two namespaces and a veth pair; what is published and who is the host have no meaning here."""
    name = "veth"

    def up(self):
        self.a, self.b = (start(["unshare", "--net", "sleep", "100000"]).pid for _ in range(2))
        time.sleep(0.3)
        sh("ip", "link", "add", "eth0", "netns", str(self.a), "type", "veth", "peer", "name", "eth0", "netns", str(self.b))
        for pid, address in ((self.a, "10.254.0.1/24"), (self.b, "10.254.0.2/24")):
            sh(*inside(pid, "ip", "link", "set", "lo", "up"))
            sh(*inside(pid, "ip", "address", "add", address, "dev", "eth0"))
            sh(*inside(pid, "ip", "link", "set", "eth0", "up"))
        self.address = "10.254.0.1"


class Bridge:
    """Two namespaces on a bridge, and no engine: what a bridge and a second pair of links cost."""
    name = "bridge"

    def up(self):
        sh("ip", "link", "add", "plain0", "type", "bridge")
        sh("ip", "link", "set", "plain0", "up")
        self.a, self.b = (start(["unshare", "--net", "sleep", "100000"]).pid for _ in range(2))
        time.sleep(0.3)
        for number, pid in enumerate((self.a, self.b), 1):
            sh("ip", "link", "add", f"plain{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
            sh("ip", "link", "set", f"plain{number}", "master", "plain0", "up")
            sh(*inside(pid, "ip", "link", "set", "lo", "up"))
            sh(*inside(pid, "ip", "address", "add", f"10.253.0.{number}/24", "dev", "eth0"))
            sh(*inside(pid, "ip", "link", "set", "eth0", "up"))
        self.address = "10.253.0.1"


class Engine:
    def __init__(self, name, argv, port):
        self.name, self.argv, self.port = name, argv, port

    def __call__(self, *args):
        return sh(*self.argv, *args)

    def up(self):
        image = self("load", "-q", "-i", options.image).split()[-1].removeprefix("localhost/")
        self.image = "localhost/" + image if self.name == "podman" else image
        self("network", "create", "bench")
        self("network", "create", "second")
        ports = ["-p", f"{self.port}:{SERVE}", "-p", f"{self.port + 1}:{PING}"]
        self("run", "-d", "--name", "bench-a", "--network", "bench", *ports, self.image, "sleep", "100000")
        self("run", "-d", "--name", "bench-b", "--network", "bench", self.image, "sleep", "100000")
        self.a, self.b = (int(self("inspect", "-f", "{{.State.Pid}}", f"bench-{x}")) for x in "ab")
        self.address = self("inspect", "-f", "{{(index .NetworkSettings.Networks \"bench\").IPAddress}}", "bench-a")
        self.gateway = self("inspect", "-f", "{{(index .NetworkSettings.Networks \"bench\").Gateway}}", "bench-a")

    def down(self):
        for name in ("bench-a", "bench-b"):
            subprocess.run([*self.argv, "rm", "-f", name], stdout=null, stderr=null)
        subprocess.run([*self.argv, "network", "rm", "bench", "second"], stdout=null, stderr=null)


def dockerd():
    socket = f"unix://{work}/docker.sock"
    start(["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run", "-H", socket, "--pidfile", f"{work}/docker.pid",
           "--bip", "172.31.250.1/24"])
    for _ in range(300):
        if subprocess.run(["docker", "-H", socket, "version"], stdout=null, stderr=null).returncode == 0:
            return ["docker", "-H", socket]
        time.sleep(0.1)
    raise SystemExit("dockerd does not start")


def podman():
    with open(f"{work}/containers.conf", "w") as conf:
        conf.write('[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n')
    os.environ["CONTAINERS_CONF"] = f"{work}/containers.conf"
    return ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run", "--runtime", "runc", "--network-config-dir", f"{work}/podman-nets"]


def bridged_frames(pass_rules):
    """Sets whether frames within a bridge pass the rules for packets, too (br_netfilter); False: this kernel cannot be told, none does."""
    try:
        for family in ("ip", "ip6"):
            with open(f"/proc/sys/net/bridge/bridge-nf-call-{family}tables", "w") as file:
                file.write("1" if pass_rules else "0")
    except FileNotFoundError:
        return False
    return True


def throughput(pid, address, port):
    out = sh(*inside(pid, "iperf3", "-c", address, "-p", str(port), "-t", str(options.seconds), "-J"))
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9


def latency(pid, address, port):
    return float(sh(*inside(pid, pingpong, address, str(port), "3000")))


def table(title, unit, samples, best):
    print(f"\n{title}")
    floor = statistics.median(samples["veth"]) if "veth" in samples else None
    results[title] = {}
    for name, values in samples.items():
        median = statistics.median(values)
        ratio = f"{median / floor:5.2f} x veth" if floor and name != "veth" else ""
        print(f"  {name:8} median {median:9.2f} {unit}   min {min(values):9.2f}   max {max(values):9.2f}   {ratio}")
        results[title][name] = {"median": median, "min": min(values), "max": max(values), "unit": unit}
    print(f"  ({best} is better)")


results = {}
try:
    pingpong = f"{work}/pingpong"
    sh("gcc", "-O2", "-o", pingpong, os.path.join(os.path.dirname(os.path.abspath(__file__)), "pingpong.c"))
    outside = start(["unshare", "--net", "sleep", "100000"]).pid
    time.sleep(0.3)
    sh("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(outside))
    sh("ip", "address", "add", f"{UPLINK}/24", "dev", "up0")
    sh("ip", "link", "set", "up0", "up")
    sh(*inside(outside, "ip", "address", "add", f"{OUTSIDE}/24", "dev", "eth0"))
    sh(*inside(outside, "ip", "link", "set", "eth0", "up"))
    # The peers would otherwise have the last word on what is forwarded.
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("1")
    wanted = options.engines.split(",")
    engines = []
    if "rcon" in wanted:
        engines.append(Engine("rcon", [options.rcon, "--root", f"{work}/rcon", "--run-root", f"{work}/rcon-run"], 20000))
    if "docker" in wanted:
        engines.append(Engine("docker", dockerd(), 21000))
    if "podman" in wanted:
        engines.append(Engine("podman", podman(), 22000))
    floor, bridge = Floor(), Bridge()
    # As on a host without br_netfilter, which is looked at when a container joins.
    bridged_frames(False)
    for each in [floor, bridge, *engines]:
        each.up()
        for port, argv in ((SERVE, ["iperf3", "-s", "-p", str(SERVE)]), (PING, [pingpong, "serve", str(PING)])):
            start(inside(each.a, *argv))
    start(["iperf3", "-s", "-p", "5202"])
    start([pingpong, "serve", "5302"])
    time.sleep(1)
    paths = [
        (PAST_RULES, lambda e: (e.b, e.address, SERVE, PING)),
        (WITHIN, lambda e: (e.b, e.address, SERVE, PING)),
        ("container to host", lambda e: (e.b, e.gateway, 5202, 5302)),
        ("another machine to a published port", lambda e: (outside, UPLINK, e.port, e.port + 1)),
        ("container to a published port of another", lambda e: (e.b, UPLINK, e.port, e.port + 1)),
        ("host's loopback to a published port", lambda e: (0, "127.0.0.1", e.port, e.port + 1)),
    ]
    for title, path in (path for path in paths if options.only in path[0]):
        fast, slow = {}, {}
        order = [floor, *engines]
        if not bridged_frames(title != PAST_RULES) and title != PAST_RULES:
            continue
        for engine in engines:
            # A container that joins: whoever looks at the setting then sees it.
            engine("run", "--rm", "--network", "bench", engine.image, "true")
        if title in (WITHIN, PAST_RULES):
            order.insert(1, bridge)
        for number in range(options.rounds):
            turn = number % len(order)
            for each in order[turn:] + order[:turn]:
                pid, address, port, ping = (each.b, each.address, SERVE, PING) if each in (floor, bridge) else path(each)
                fast.setdefault(each.name, []).append(throughput(pid, address, port))
                slow.setdefault(each.name, []).append(latency(pid, address, ping))
        table(f"{title}: throughput", "Gbit/s", fast, "more")
        table(f"{title}: round trip", "us", slow, "less")
    costs = {"network connect": {}, "network disconnect": {}, "run with 10 published ports, beyond run without": {}}
    for number in range(options.rounds):
        for engine in engines:
            def timed(*args):
                begin = time.perf_counter()
                engine(*args)
                return (time.perf_counter() - begin) * 1000
            costs["network connect"].setdefault(engine.name, []).append(timed("network", "connect", "second", "bench-b"))
            costs["network disconnect"].setdefault(engine.name, []).append(timed("network", "disconnect", "second", "bench-b"))
            plain = timed("run", "--rm", "--network", "bench", engine.image, "true")
            published = timed("run", "--rm", "--network", "bench", "-p", "23000-23009:80-89", engine.image, "true")
            costs["run with 10 published ports, beyond run without"].setdefault(engine.name, []).append(published - plain)
    for title, samples in costs.items():
        table(title, "ms", samples, "less")
    for engine in engines:
        engine.down()
finally:
    for process in reversed(running):
        process.send_signal(signal.SIGTERM)
    for process in running:
        process.wait()
    for mounted in ("podman/overlay", "docker"):
        subprocess.run(["umount", "-R", "-l", f"{work}/{mounted}"], stderr=null)
    shutil.rmtree(work, ignore_errors=True)
with open(options.json, "w") as file:
    json.dump(results, file, indent=1)
print(f"\nwritten: {options.json}")
