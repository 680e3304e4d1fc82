#!/usr/bin/env python3
"""registry-image.py OUTPUT LAYERS BYTES: a docker-archive whose layers hold one incompressible file each.

What a transfer costs is then known to the byte; the seed is fixed, so that every run has the same image.
"""
import hashlib
import io
import json
import random
import sys
import tarfile

output, layers, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
numbers = random.Random(4)


def entry(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))


with tarfile.open(output, "w") as archive:
    names, diff_ids = [], []
    for number in range(layers):
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as layer:
            entry(layer, f"file{number}", numbers.randbytes(size))
        data = inner.getvalue()
        names.append(f"layer{number}.tar")
        diff_ids.append("sha256:" + hashlib.sha256(data).hexdigest())
        entry(archive, names[-1], data)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
                         "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    entry(archive, "config.json", config)
    entry(archive, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["t:1"], "Layers": names}]).encode())
