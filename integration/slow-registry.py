#!/usr/bin/env python3
"""A registry of generated images that sends at a limited rate and tells what was asked for.

slow-registry.py PORT LOG RATE: serves test/app:1 (three layers), test/other:1 (another base under app's largest
layer), test/zeros:1 (48 MiB of zeros, tiny on the wire). RATE is bytes a second of each connection. LOG gets one line
for each layer request: "GET <digits> <first byte>", and one at its end: "SENT <digits> <bytes>". /idle is answered when no
connection that came before it is left.
"""
import gzip
import hashlib
import io
import json
import random
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LOG, RATE = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
blobs, tags, layers, lock = {}, {}, set(), threading.Lock()
ended, connections = threading.Condition(), set()


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o755, 1
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(seed, count):
    return random.Random(seed).randbytes(count)


def put(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return digest


def image(name, tars):
    described = []
    for data in tars:
        packed = gzip.compress(data, 1, mtime=0)
        digest = put(packed)
        layers.add(digest)
        described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": len(packed)})
    diffs = ["sha256:" + hashlib.sha256(data).hexdigest() for data in tars]
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]},
                         "rootfs": {"type": "layers", "diff_ids": diffs}}).encode()
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": described, "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": put(config), "size": len(config)}}).encode()
    tags[name] = put(manifest)


def log(line):
    with lock, open(LOG, "a", encoding="ascii") as out:
        out.write(line + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        if self.path == "/idle":
            with ended:
                earlier = connections - {self.connection}
                quiet = ended.wait_for(lambda: not earlier & connections, 50)
            self.send_response(200 if quiet else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        last = self.path.rsplit("/", 1)[-1]
        digest = tags.get(self.path.split("/")[-3] + ":" + last, last) if "/manifests/" in self.path else last
        data = blobs.get(digest) if self.path.startswith("/v2/test/") else b"{}"
        if data is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range", "bytes=0-")
        first = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/octet-stream")
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if not with_body:
            return
        is_layer = digest in layers
        if is_layer:
            log(f"GET {digest[7:]} {first}")
        sent = 0
        try:
            while first + sent < len(data):
                piece = data[first + sent : first + sent + (64 << 10)]
                self.wfile.write(piece)
                sent += len(piece)
                if is_layer:
                    time.sleep(len(piece) / RATE)
        except OSError:
            self.close_connection = True
        if is_layer:
            log(f"SENT {digest[7:]} {sent}")


class Server(ThreadingHTTPServer):
    def process_request(self, request, client_address):
        with ended:
            connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with ended:
            connections.discard(request)
            ended.notify_all()
        super().shutdown_request(request)


small = [(f"many/{number}", noise(number, 700)) for number in range(600)]
big = tar([("data/big", noise(1, 6 << 20))])
image("app:1", [tar(small), big, tar([("data/second", noise(2, 3 << 20))])])
image("other:1", [tar([("base", b"another")]), big])
image("zeros:1", [tar([("zeros", bytes(48 << 20))])])
Server(("127.0.0.1", PORT), Handler).serve_forever()
