#!/usr/bin/env python3
"""Builds: rcon against docker (its classic builder) and buildah, interleaved, all from the same base image and context.

Rows: twelve instructions on a Debian base, cold, unchanged and with one file changed; 20,000 small files copied; four stages that do not
depend on one another. Prints median, min, max and the ratio to the best peer; writes JSON. Asserts nothing: a bench is not a test.
Run it in a network and mount namespace of its own (make bench-build does).
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
parser.add_argument("--image", required=True, help="a docker-archive of a small Debian")
parser.add_argument("--json", required=True)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--only", default="", help="comma list of rows")
parser.add_argument("--engines", default="", help="comma list of engines")
options = parser.parse_args()

FILES = 20000
work = tempfile.mkdtemp(prefix="rcon-bench.")
null = subprocess.DEVNULL
services = []
serial = 0


def sh(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stdout[-3000:]}")
    return done.stdout.strip()


class Rcon:
    name = "rcon"
    argv = [options.rcon, "--root", f"{work}/rcon", "--run-root", f"{work}/rcon-run"]

    def load(self):
        sh(*self.argv, "tag", sh(*self.argv, "load", "-q", "-i", options.image).split()[-1], "base")

    def build(self, context):
        sh(*self.argv, "build", "-q", "-t", "bench", context)

    def forget(self):
        sh(*self.argv, "rmi", "-f", "bench")
        sh(*self.argv, "builder", "prune", "-af")


class Docker:
    name = "docker"

    def start(self):
        self.argv = ["docker", "-H", f"unix://{work}/docker.sock"]
        log = open(f"{work}/dockerd.log", "w")
        services.append(subprocess.Popen(["dockerd", "--data-root", f"{work}/docker", "--exec-root", f"{work}/docker-run", "-H",
                                          f"unix://{work}/docker.sock", "--pidfile", f"{work}/docker.pid"], stdout=log, stderr=subprocess.STDOUT))
        for _ in range(300):
            if subprocess.run(self.argv + ["version"], stdout=null, stderr=null).returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit("dockerd does not start: " + open(log.name).read()[-2000:])

    def load(self):
        sh(*self.argv, "tag", sh(*self.argv, "load", "-q", "-i", options.image).split()[-1], "base")

    def build(self, context):
        sh(*self.argv, "build", "-q", "-t", "bench", context, env={**os.environ, "DOCKER_BUILDKIT": "0"})

    def forget(self):
        sh(*self.argv, "rmi", "-f", "bench")
        sh(*self.argv, "image", "prune", "-f")


class Buildah:
    name = "buildah"
    argv = ["buildah", "--root", f"{work}/buildah", "--runroot", f"{work}/buildah-run", "--storage-driver", "overlay"]

    def load(self):
        sh(*self.argv, "pull", "-q", f"docker-archive:{options.image}")
        first = sh(*self.argv, "images", "-q").split()[0]
        sh(*self.argv, "tag", first, "localhost/base")

    def build(self, context):
        sh(*self.argv, "bud", "-q", "--layers", "--isolation", "oci", "--runtime", "runc", "-t", "bench", context)

    def forget(self):
        sh(*self.argv, "rmi", "-f", "localhost/bench")
        sh(*self.argv, "rmi", "--prune", "-f")


def twelve(path):
    os.makedirs(f"{path}/src")
    for number in range(50):
        with open(f"{path}/src/{number}.txt", "w") as file:
            file.write(f"{number}\n" * 200)
    with open(f"{path}/app.sh", "w") as file:
        file.write("#!/bin/sh\necho app\n")
    with open(f"{path}/Dockerfile", "w") as file:
        file.write("""FROM base
ENV LANG=C.UTF-8 STAGE=bench
LABEL org.example.bench=yes
WORKDIR /srv/app
RUN useradd -r app || adduser -D app || true
RUN mkdir -p /var/lib/app && head -c 1000000 /dev/urandom > /var/lib/app/data
COPY src/ /srv/app/src/
RUN cat /srv/app/src/*.txt | sha256sum > /srv/app/sum
COPY app.sh /usr/local/bin/app
RUN chmod 755 /usr/local/bin/app && app
EXPOSE 8080
CMD ["app"]
""")


def many(path):
    os.makedirs(path)
    for directory in range(200):
        os.makedirs(f"{path}/files/{directory}")
        for number in range(FILES // 200):
            with open(f"{path}/files/{directory}/{number}", "w") as file:
                file.write(f"file {directory} {number}\n")
    with open(f"{path}/Dockerfile", "w") as file:
        file.write("FROM base\nCOPY files /files\n")


def stages(path):
    os.makedirs(path)
    with open(f"{path}/Dockerfile", "w") as file:
        for number in range(4):
            file.write(f"FROM base AS part{number}\nRUN head -c 60000000 /dev/zero | sha256sum > /part{number}\n")
        file.write("FROM base\n" + "".join(f"COPY --from=part{number} /part{number} /\n" for number in range(4)))


def change(path):
    """One file of the context is another one."""
    global serial
    serial += 1
    with open(f"{path}/app.sh", "w") as file:
        file.write(f"#!/bin/sh\necho app {serial}\n")


ROWS = [
    # name, title, context, before each build, goal
    ("cold", "12 instructions, nothing known", "twelve", "forget", "<= 0.4 x best peer"),
    ("cached", "12 instructions, unchanged", "twelve", None, "<= 0.4 x best peer, < 100 ms"),
    ("changed", "12 instructions, one file changed", "twelve", "change", "<= 0.4 x best peer"),
    ("files", f"COPY of {FILES} small files", "many", "forget", "<= 0.4 x best peer"),
    ("stages", "four independent stages", "stages", "forget", "<= 0.4 x best peer"),
]


def main():
    twelve(f"{work}/twelve")
    many(f"{work}/many")
    stages(f"{work}/stages")
    engines = [engine for engine in (Rcon(), Docker(), Buildah()) if not options.engines or engine.name in options.engines.split(",")]
    for engine in engines:
        getattr(engine, "start", lambda: None)()
        engine.load()
    results = {}
    for name, title, context, before, goal in ROWS:
        if options.only and name not in options.only.split(","):
            continue
        times = {engine.name: [] for engine in engines}
        for engine in engines:
            engine.build(f"{work}/{context}")
        for turn in range(options.rounds):
            order = engines[turn % len(engines):] + engines[:turn % len(engines)]
            if before == "change":
                change(f"{work}/{context}")
            for engine in order:
                if before == "forget":
                    engine.forget()
                time.sleep(0.2)
                began = time.monotonic()
                engine.build(f"{work}/{context}")
                times[engine.name].append(time.monotonic() - began)
        results[name] = times
        peers = [statistics.median(values) for engine, values in times.items() if engine != "rcon" and values]
        print(f"{title}   (goal {goal})")
        for engine, values in times.items():
            median = statistics.median(values)
            ratio = f"  {median / min(peers):.2f} x best peer" if engine == "rcon" and peers else ""
            wide = "  (wide spread)" if max(values) > 2 * min(values) else ""
            print(f"  {engine:8} {median * 1000:9.1f} ms   {min(values) * 1000:9.1f} .. {max(values) * 1000:9.1f}{ratio}{wide}")
    with open(options.json, "w") as file:
        json.dump(results, file, indent=1)


try:
    main()
finally:
    for service in services:
        service.send_signal(signal.SIGTERM)
        service.wait()
    subprocess.run(["bash", "-c", f"awk '$5 ~ \"^{work}\" {{print $5}}' /proc/self/mountinfo | sort -r | xargs -r umount -l"])
    shutil.rmtree(work, ignore_errors=True)
