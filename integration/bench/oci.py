#!/usr/bin/env python3
"""oci.py --rcon RUNTIME --image TAR --json FILE: rcon-runtime against crun, runc and youki on one busybox bundle.

Interleaved run by run. Each world is a mount namespace of its own, in which every runtime sees the same control groups: "v2"
(one cgroup2 tree and nothing else) and "v1" (the legacy hierarchies alone). Hosts that are hybrid are seen so by none, because
crun refuses them. The floor (floor.c) runs along. Prints median, min, max and the ratio to crun; writes JSON. Asserts nothing: a bench is not a test.
"""
import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--rcon", required=True, help="the rcon-runtime binary")
parser.add_argument("--image", required=True, help="busybox image archive: its layer is the bundle's root")
parser.add_argument("--youki", default="", help="youki binary, where there is one")
parser.add_argument("--json", required=True)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--world", default="", help="(internal) the world that this process is in")
options = parser.parse_args()
null = subprocess.DEVNULL

WORLDS = {
    # Nothing of the host's mounts is removed: one is covered, the other left out, in a private mount namespace.
    "v2": "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    "v1": "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; else exit 3; fi",
}


def enter(world):
    script = WORLDS[world] + ' && exec "$@"'
    argv = [sys.executable, *sys.argv, "--world", world]
    return subprocess.run(["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "world", *argv]).returncode


def bundle(work):
    root = f"{work}/bundle/rootfs"
    os.makedirs(root)
    subprocess.run(["tar", "-xf", options.image, "-C", work], check=True)
    layers = json.load(open(f"{work}/manifest.json"))[0]["Layers"]
    for layer in layers:
        subprocess.run(["tar", "-xpf", f"{work}/{layer}", "-C", root], check=True)
    subprocess.run(["runc", "spec", "-b", f"{work}/bundle"], check=True)
    path = f"{work}/bundle/config.json"
    config = json.load(open(path))
    config["process"].update(terminal=False, args=["/bin/true"])
    # Device rules need more than this root may do in crun; cgroup mounts differ between the runtimes.
    config["linux"].pop("resources", None)
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    json.dump(config, open(path, "w"))
    return f"{work}/bundle"


class Runtime:
    def __init__(self, name, argv, directory):
        self.name, self.argv, self.directory, self.number = name, argv, directory, 0
        self.errors = f"{os.path.dirname(directory)}/errors-{name}"

    def timed(self, *args):
        # A file, for a created container keeps its streams open.
        with open(self.errors, "w+b") as errors:
            begin = time.perf_counter()
            done = subprocess.Popen([*self.argv, *args], cwd=self.directory, stdin=null, stdout=null, stderr=errors)
            # Popen.wait(timeout) looks again and again, ever more rarely: what it measures is its own sleep.
            process = os.pidfd_open(done.pid)
            ended = select.poll()
            ended.register(process, select.POLLIN)
            hung = not ended.poll(5000)
            os.close(process)
            if hung:
                done.kill()
            done.wait()
            took = (time.perf_counter() - begin) * 1000
            if hung:
                raise RuntimeError(f"{self.name} {' '.join(args)} hung")
            if done.returncode:
                errors.seek(0)
                raise RuntimeError(f"{self.name} {' '.join(args)}: {errors.read().decode().strip()[-300:]}")
        return took

    def fresh(self):
        self.number += 1
        return f"bench-{self.name}-{os.getpid()}-{self.number}"

    def run(self):
        return self.timed("run", self.fresh())

    def lifecycle(self):
        name = self.fresh()
        took = self.timed("create", name) + self.timed("start", name)
        # Its end is not part of what is measured: /bin/true takes well below this.
        time.sleep(0.005)
        return took + self.timed("delete", "--force", name)

    def waiting_memory(self):
        """KiB that only the waiting init stage has."""
        name = self.fresh()
        self.timed("create", name)
        state = json.loads(subprocess.run([*self.argv, "state", name], check=True, stdout=subprocess.PIPE).stdout)
        private = 0
        with open(f"/proc/{state['pid']}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    private += int(line.split()[1])
        self.timed("delete", "--force", name)
        return private


def interleaved(runtimes, measure, quiet):
    samples = {runtime.name: [] for runtime in runtimes}
    for number in range(options.rounds + 1):
        turn = number % len(runtimes)
        for runtime in runtimes[turn:] + runtimes[:turn]:
            time.sleep(quiet)
            try:
                value = measure(runtime)
            except RuntimeError as error:
                # youki waits for a signal that it sometimes loses; it is no reason to measure nobody.
                print(f"left out: {error}")
                continue
            if number:
                samples[runtime.name].append(value)
    return {name: values for name, values in samples.items() if values}


def row(results, title, samples, unit="ms", goal=""):
    print(f"\n{title}" + (f"   (goal: {goal})" if goal else ""))
    crun = statistics.median(samples["crun"]) if "crun" in samples else None
    results[title] = {}
    for name, values in samples.items():
        median = statistics.median(values)
        ratio = median / crun if crun else None
        wide = "  (wide spread)" if max(values) > 2.5 * median else ""
        shown = f"{ratio:5.2f} x crun" if ratio else ""
        print(f"  {name:8} median {median:9.2f} {unit}   min {min(values):9.2f}   max {max(values):9.2f}   {shown}{wide}")
        results[title][name] = {"median": median, "min": min(values), "max": max(values), "unit": unit, "ratio": ratio}


class Floor(Runtime):
    """A bare program that makes the same kernel objects and nothing else (floor.c); it wants a cgroup v2 tree."""

    def __init__(self, work):
        program = f"{work}/floor"
        subprocess.run(["gcc", "-O2", "-o", program, os.path.join(os.path.dirname(os.path.abspath(__file__)), "floor.c")], check=True)
        for name in ("upper", "work", "root"):
            os.makedirs(f"{work}/floor-work/{name}")
        super().__init__("floor", [program, f"{work}/bundle/rootfs", f"{work}/floor-work", "none"], work)

    def run(self):
        return self.timed()


def measure(world):
    # A tmpfs, as the state of a runtime is on; not every host has one on /run. It goes with the mount namespace.
    work = tempfile.mkdtemp(prefix="rcon-bench.", dir="/run")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)
    try:
        directory = bundle(work)
        candidates = [("rcon", options.rcon), ("crun", "crun"), ("runc", "runc")]
        if options.youki and os.access(options.youki, os.X_OK):
            candidates.append(("youki", options.youki))
        runtimes = []
        for name, binary in candidates:
            runtime = Runtime(name, [binary, "--root", f"{work}/state-{name}"], directory)
            try:
                runtime.run()
                runtime.lifecycle()
                runtimes.append(runtime)
            except (RuntimeError, OSError) as error:
                print(f"{world}: {name} cannot run here: {error}")
        results = {}
        runners = runtimes + ([Floor(work)] if world == "v2" else [])
        run = lambda runner: runner.run()
        row(results, f"{world}: OCI run /bin/true after 40 ms of quiet", interleaved(runners, run, 0.04), goal="0.85 x crun")
        row(results, f"{world}: OCI run /bin/true back to back", interleaved(runners, run, 0), goal="0.65 x crun")
        row(results, f"{world}: OCI create + start + delete", interleaved(runtimes, Runtime.lifecycle, 0.04), goal="0.8 x crun")
        memory = {runtime.name: [runtime.waiting_memory() for _ in range(3)] for runtime in runtimes}
        row(results, f"{world}: private memory of the waiting init stage", memory, unit="KiB", goal="below 1024 KiB")
        return results
    finally:
        subprocess.run(["umount", "--lazy", work], check=True)
        os.rmdir(work)


def merge(results):
    known = json.load(open(options.json)) if os.path.exists(options.json) else {}
    known.update(results)
    json.dump(known, open(options.json, "w"), indent=1)


if options.world:
    merge(measure(options.world))
else:
    for world in WORLDS:
        if enter(world) == 3:
            print(f"{world}: this host has no such control groups beside others")
