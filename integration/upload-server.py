#!/usr/bin/env python3
"""upload-server.py PORT CUTS BYTES COUNTER: as much of a registry as a push needs, whose uploads can be taken up where
they broke (distribution-spec, "Pushing a blob in chunks"). The first CUTS uploads break after BYTES each. COUNTER gets
the bytes of blobs that arrived."""
import hashlib
import http.server
import re
import sys
import urllib.parse

port, cuts, limit, counter = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
uploads, blobs, arrived = {}, set(), 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def pieces(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            left = int(length)
            while left and (data := self.rfile.read(min(left, 65536))):
                left -= len(data)
                yield data
            return
        while size := int(self.rfile.readline() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def take(self, name):
        global cuts, arrived
        got, data = 0, uploads[name]
        for piece in self.pieces():
            data += piece
            got += len(piece)
            arrived += len(piece)
            if got > limit and cuts > 0:
                cuts -= 1
                self.close_connection = True
                return False
        with open(counter, "w") as file:
            file.write(str(arrived))
        return True

    def where(self, status):
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        self.answer(status, Location=f"/v2/x/blobs/uploads/{name}", Range=f"0-{max(0, len(uploads[name]) - 1)}")

    def do_HEAD(self):
        self.answer(200 if self.path.rsplit("/", 1)[1] in blobs else 404)

    def do_GET(self):
        self.where(204)

    def do_POST(self):
        name = str(len(uploads))
        uploads[name] = bytearray()
        self.answer(202, Location=f"/v2/x/blobs/uploads/{name}")

    def do_PATCH(self):
        name = self.path.rsplit("/", 1)[1]
        start = re.match(r"(\d+)-", self.headers.get("Content-Range", f"{len(uploads[name])}-"))
        if int(start.group(1)) != len(uploads[name]):
            self.close_connection = True
            return self.answer(416)
        if self.take(name):
            self.where(202)

    def do_PUT(self):
        url = urllib.parse.urlparse(self.path)
        if "/manifests/" in url.path:
            body = b"".join(self.pieces())
            return self.answer(201, Docker_Content_Digest="sha256:" + hashlib.sha256(body).hexdigest())
        name = url.path.rsplit("/", 1)[1]
        digest = urllib.parse.parse_qs(url.query)["digest"][0]
        if not self.take(name):
            return None
        if digest != "sha256:" + hashlib.sha256(uploads[name]).hexdigest():
            return self.answer(400)
        blobs.add(digest)
        return self.answer(201)

    def do_DELETE(self):
        self.answer(204)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
