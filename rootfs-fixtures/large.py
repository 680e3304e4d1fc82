#!/usr/bin/env python3
"""large.py ROOT_TAR DIR: cuts a root filesystem into OCI layouts for the pull benchmark (see large.sh)."""
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile

source, out = sys.argv[1:]


class Layer:
    """A tar that is packed (by gzip -6, as the usual builders do) and hashed while it is written."""

    def __init__(self, store):
        self.store, self.path = store, f"{store}/layer"
        self.plain = hashlib.sha256()
        self.file = open(self.path, "wb")
        self.packer = subprocess.Popen(["gzip", "-6", "-n"], stdin=subprocess.PIPE, stdout=self.file)
        self.tar = tarfile.open(fileobj=self, mode="w|", format=tarfile.PAX_FORMAT)

    def write(self, data):
        self.plain.update(data)
        return self.packer.stdin.write(data)

    def done(self):
        self.tar.close()
        self.packer.stdin.close()
        if self.packer.wait():
            raise SystemExit("gzip failed")
        self.file.close()
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.path.getsize(self.path)
        os.rename(self.path, f"{self.store}/{digest}")
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": size}, "sha256:" + self.plain.hexdigest()


def layout(name, fill):
    """fill(new) yields layers made with new()."""
    path = f"{out}/{name}"
    store = f"{path}/blobs/sha256"
    os.makedirs(store)
    layers = [layer.done() for layer in fill(lambda: Layer(store))]

    def put(document):
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{store}/{digest}", "wb") as file:
            file.write(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}
    config = put({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": [i for _, i in layers]}})
    manifest = put({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": [d for d, _ in layers]})
    with open(f"{path}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                                                     "annotations": {"org.opencontainers.image.ref.name": name}}]}, file)
    with open(f"{path}/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    print(f"{name}: {len(layers)} layers, {sum(d['size'] for d, _ in layers) / 1e6:.0f} MB packed")


def debian(new):
    with tarfile.open(source) as root:
        members = [m for m in root if not m.isdev()]
        total = sum(m.size for m in members)
        layer, filled, part = new(), 0, 0
        for member in members:
            # A hard link is in the layer of its target, or it is left out: the layers stay independent of the cut.
            if member.islnk():
                continue
            if filled > total * (part + 1) / 8:
                yield layer
                layer, part = new(), part + 1
            layer.tar.addfile(member, root.extractfile(member) if member.isreg() else None)
            filled += member.size
        yield layer


def single(new):
    """Files of 1 to 64 MB that pack about as programs do: noise among words that repeat within gzip's window."""
    seed = random.Random(1)
    words = [seed.randbytes(seed.randrange(8, 60)) for _ in range(400)]
    layer, left = new(), 2 << 30
    number = 0
    while left > 0:
        size = min(left, seed.randrange(1 << 20, 64 << 20))
        piece = b"".join(seed.choice(words) if seed.random() < 0.8 else seed.randbytes(40) for _ in range(20_000))
        data = (piece * (size // len(piece) + 1))[:size]
        entry = tarfile.TarInfo(f"data/{number}")
        entry.size = size
        layer.tar.addfile(entry, io.BytesIO(data))
        left -= size
        number += 1
    yield layer


def tiny(new):
    for number in range(40):
        layer = new()
        entry = tarfile.TarInfo(f"tiny/{number}")
        entry.size = 1000
        layer.tar.addfile(entry, io.BytesIO(random.Random(number).randbytes(1000)))
        yield layer


for name, fill in (("tiny", tiny), ("debian", debian), ("single", single)):
    if not os.path.exists(f"{out}/{name}/oci-layout"):
        layout(name, fill)
