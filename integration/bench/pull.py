#!/usr/bin/env python3
"""Cold pull and unpack from a registry on loopback: rcon against docker, podman, containerd and skopeo with umoci, interleaved, and
against the ideal: the same blobs fetched, hashed, inflated, hashed and written by programs in C, four layers at once, then synced.

Prints median, min, max and the ratios to the best peer and to the ideal, and how long it took until everything was on disk (peers
leave that to the kernel, rcon to a process behind the pull); writes JSON. Asserts nothing: a bench is not a test.
Run it in a network and mount namespace of its own (make bench does).
"""
import argparse
import concurrent.futures
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
parser.add_argument("--layouts", required=True, help="what rootfs-fixtures/large.sh made")
parser.add_argument("--json", required=True)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--only", default="", help="comma list of images")
parser.add_argument("--engines", default="", help="comma list of engines")
options = parser.parse_args()

REGISTRY = "127.0.0.1:5880"
GOALS = {"debian": "<= 0.5 x best peer, <= 1.2 x ideal", "single": "<= 0.35 x best peer, <= 1.3 x ideal", "tiny": "<= 0.12 x best peer"}
TITLES = {"debian": "Debian, many files, 8 layers", "single": "2 GB in one layer", "tiny": "40 tiny layers"}
work = tempfile.mkdtemp(prefix="rcon-bench.")
null = subprocess.DEVNULL
services = []


def sh(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stdout[-2000:]}")
    return done.stdout.strip()


def serve(argv, ready):
    log = open(f"{work}/{argv[0]}.log", "w")
    services.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT))
    for _ in range(300):
        if subprocess.run(ready, stdout=null, stderr=null).returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"{argv[0]} does not start: " + open(log.name).read()[-2000:])


class Rcon:
    name = "rcon"
    argv = [options.rcon, "--root", f"{work}/rcon", "--run-root", f"{work}/rcon-run"]

    def pull(self, image):
        sh(*self.argv, "pull", "-q", f"{REGISTRY}/{image}")

    def clean(self, image):
        sh(*self.argv, "rmi", "-f", f"{REGISTRY}/{image}")


class Docker:
    name = "docker"

    def start(self):
        self.argv = ["docker", "-H", f"unix://{work}/docker.sock"]
        serve(["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run", "-H", f"unix://{work}/docker.sock", "--pidfile",
               f"{work}/docker.pid", "--bridge", "none", "--iptables=false"], self.argv + ["version"])

    def pull(self, image):
        sh(*self.argv, "pull", "-q", f"{REGISTRY}/{image}")

    def clean(self, image):
        sh(*self.argv, "rmi", "-f", f"{REGISTRY}/{image}")


class Podman:
    name = "podman"
    argv = ["podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    def pull(self, image):
        sh(*self.argv, "pull", "-q", "--tls-verify=false", f"{REGISTRY}/{image}")

    def clean(self, image):
        sh(*self.argv, "rmi", "-f", f"{REGISTRY}/{image}")


class Containerd:
    name = "ctr"

    def start(self):
        with open(f"{work}/containerd.toml", "w") as config:
            config.write(f'version = 2\nroot = "{work}/containerd"\nstate = "{work}/containerd-run"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                         f'[grpc]\naddress = "{work}/containerd.sock"\n')
        self.argv = ["ctr", "-a", f"{work}/containerd.sock"]
        serve(["containerd", "-c", f"{work}/containerd.toml"], self.argv + ["version"])

    def pull(self, image):
        sh(*self.argv, "images", "pull", "--plain-http", f"{REGISTRY}/{image}:latest")

    def clean(self, image):
        sh(*self.argv, "images", "rm", "--sync", f"{REGISTRY}/{image}:latest")


class SkopeoUmoci:
    name = "skopeo"

    def pull(self, image):
        sh("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", f"docker://{REGISTRY}/{image}", f"oci:{work}/skopeo:t")
        sh("umoci", "unpack", "--image", f"{work}/skopeo:t", f"{work}/bundle")

    def clean(self, image):
        shutil.rmtree(f"{work}/skopeo")
        shutil.rmtree(f"{work}/bundle")


class Ideal:
    name = "ideal"
    pipeline = """set -o pipefail; mkdir -p "$2"; curl -sSf "$1" | tee >(openssl dgst -sha256 > /dev/null) | igzip -dc | tee >(openssl dgst -sha256 > /dev/null) | tar -xpf - -C "$2" """

    def pull(self, image):
        layers = manifest(image)["layers"]

        def one(number):
            sh("bash", "-c", self.pipeline, "ideal", f"http://{REGISTRY}/v2/{image}/blobs/{layers[number]['digest']}", f"{work}/ideal/{number}")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(len(layers))))
        sh("sync", "-f", f"{work}/ideal")

    def clean(self, image):
        shutil.rmtree(f"{work}/ideal")


def manifest(image):
    with open(f"{options.layouts}/{image}/index.json") as index:
        digest = json.load(index)["manifests"][0]["digest"]
    with open(f"{options.layouts}/{image}/blobs/{digest.replace(':', '/')}") as file:
        return json.load(file)


def start_registry(images):
    with open(f"{work}/registry.yml", "w") as config:
        config.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {work}/registry}}}}\nhttp: {{addr: {REGISTRY}}}\n")
    serve(["docker-registry", "serve", f"{work}/registry.yml"], ["curl", "-sf", f"http://{REGISTRY}/v2/"])
    for image in images:
        sh("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"oci:{options.layouts}/{image}:{image}", f"docker://{REGISTRY}/{image}:latest")


def measure(image, engines):
    """The first round warms up: caches, and the memory behind them."""
    samples = {engine.name: [] for engine in engines}
    on_disk = {engine.name: [] for engine in engines}
    for number in range(options.rounds + 1):
        turn = number % len(engines)
        for engine in engines[turn:] + engines[:turn]:
            subprocess.run(["sync"])
            begin = time.perf_counter()
            engine.pull(image)
            took = time.perf_counter() - begin
            sh("sync", "-f", work)
            synced = time.perf_counter() - begin
            engine.clean(image)
            if number:
                samples[engine.name].append(took)
                on_disk[engine.name].append(synced)
    return samples, on_disk


def row(image, samples, on_disk):
    median = {name: statistics.median(values) for name, values in samples.items()}
    peers = [value for name, value in median.items() if name not in ("rcon", "ideal")]
    print(f"\ncold pull and unpack: {TITLES[image]}   (goal: {GOALS[image]})")
    for name, values in samples.items():
        ratios = ""
        if name == "rcon":
            ratios = (f"   {median[name] / min(peers):.2f} x best peer" if peers else "") + (f"   {median[name] / median['ideal']:.2f} x ideal" if "ideal" in median else "")
        wide = "  (wide spread)" if max(values) > 2.5 * median[name] else ""
        print(f"  {name:8} median {median[name]:7.2f} s   min {min(values):7.2f}   max {max(values):7.2f}   on disk after {statistics.median(on_disk[name]):7.2f}{ratios}{wide}", flush=True)
    return {name: {"median": median[name], "min": min(values), "max": max(values), "on disk": statistics.median(on_disk[name]), "unit": "s"}
            for name, values in samples.items()}


engines = [Rcon(), Docker(), Podman(), Containerd(), SkopeoUmoci(), Ideal()]
engines = [e for e in engines if not options.engines or e.name in options.engines.split(",")]
images = [i for i in ("tiny", "debian", "single") if not options.only or i in options.only.split(",")]
results = {}
# A bench that is stopped ends its services, too.
signal.signal(signal.SIGTERM, lambda *_: exit("stopped"))
try:
    start_registry(images)
    for engine in engines:
        getattr(engine, "start", lambda: None)()
    for image in images:
        results[f"pull {image}"] = row(image, *measure(image, engines))
finally:
    for service in reversed(services):
        service.send_signal(signal.SIGTERM)
        service.wait()
    for mounted in ("podman/overlay", "docker"):
        subprocess.run(["umount", "-R", "-l", f"{work}/{mounted}"], stderr=null)
    shutil.rmtree(work, ignore_errors=True)
with open(options.json, "w") as file:
    json.dump(results, file, indent=1)
print(f"\nwritten: {options.json}")
