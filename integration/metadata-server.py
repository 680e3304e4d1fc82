#!/usr/bin/env python3
"""metadata-server.py ADDRESS:PORT LOG: the instance metadata service version 2 and a container's credentials service."""
import http.server
import json
import sys

address, port = sys.argv[1].rsplit(":", 1)
KEYS = json.dumps({"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret", "Token": "session"}).encode()
ROLE = "/latest/meta-data/iam/security-credentials/"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b""):
        with open(sys.argv[2], "a") as file:
            file.write(f"{self.command} {self.path} {status}{'' if status < 400 else ' without a token'}\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        known = self.path == "/latest/api/token" and self.headers.get("x-aws-ec2-metadata-token-ttl-seconds")
        self.answer(200, b"instance-token") if known else self.answer(404)

    def do_GET(self):
        if self.path == "/container":
            allowed = self.headers.get("Authorization") == "container-token"
            return self.answer(200, KEYS) if allowed else self.answer(401)
        if self.headers.get("x-aws-ec2-metadata-token") != "instance-token":
            return self.answer(401)
        self.answer(200, {ROLE: b"the-role", ROLE + "the-role": KEYS}[self.path])


http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()
