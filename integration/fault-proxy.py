#!/usr/bin/env python3
"""A proxy that does to a registry's answers what networks and servers do to them, and records what it saw.

fault-proxy.py ADDRESS:PORT UPSTREAM DIRECTORY: forwards to http://UPSTREAM. DIRECTORY/plan.json is a list of faults;
each request takes the first that matches and has times left (the file is read anew when it changes):
    {"match": regex of the path, "times": n, "method": "GET",
     "do": "cut" (after `bytes` of the body; random if absent) | "reset" (the same with RST) | "wrong" (a byte is changed)
           | "status" (`status`, `headers`, `body`) | "stall" (silence after `bytes`) | "slow" (`rate` bytes per second)
           | "redirect" (`to`: the address before the path) | "norange" (Range is not passed on)}
DIRECTORY/log.jsonl gets one line per request, when it has ended: method, path, status, body bytes sent, the request's
headers. A request for /-/idle is answered as soon as no connection that came before it is left: then the log is complete.
"""
import http.client
import http.server
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time

listen, upstream, directory = sys.argv[1], sys.argv[2], sys.argv[3]
os.makedirs(directory, exist_ok=True)
lock = threading.Lock()
idle, connections = threading.Condition(), set()
plan, plan_of = [], None
SKIPPED = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host"}


def fault(method, path):
    global plan, plan_of
    with lock:
        try:
            status = os.stat(f"{directory}/plan.json")
        except FileNotFoundError:
            return {}
        if (status.st_ino, status.st_mtime_ns) != plan_of:
            plan_of = (status.st_ino, status.st_mtime_ns)
            with open(f"{directory}/plan.json") as file:
                plan = json.load(file)
        for rule in plan:
            if re.search(rule["match"], path) and rule.get("times", 1) > 0 and rule.get("method", method) == method:
                rule["times"] = rule.get("times", 1) - 1
                return rule
    return {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def record(self, status, sent):
        line = json.dumps({"method": self.command, "path": self.path, "status": status, "bytes": sent,
                           "headers": {k.lower(): v for k, v in self.headers.items()}})
        with lock, open(f"{directory}/log.jsonl", "a") as file:
            file.write(line + "\n")

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.record(status, len(body))

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        rule = fault(self.command, self.path)
        kind = rule.get("do")
        if kind == "status":
            return self.answer(rule["status"], rule.get("headers", {}), rule.get("body", "").encode())
        if kind == "redirect":
            return self.answer(rule.get("status", 307), {"Location": rule["to"] + self.path}, b"")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in SKIPPED}
        if kind == "norange":
            headers = {k: v for k, v in headers.items() if k.lower() != "range"}
        connection = http.client.HTTPConnection(upstream)
        connection.request(self.command, self.path, body=body, headers={**headers, "Host": self.headers["Host"]})
        response = connection.getresponse()
        data = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in SKIPPED | {"content-length", "date", "server"}:
                self.send_header(name, value)
        size = response.getheader("Content-Length") or str(len(data))
        self.send_header("Content-Length", size)
        self.end_headers()
        sent = 0
        try:
            sent = self.send_body(data, kind, rule)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.record(response.status, sent)

    def send_body(self, data, kind, rule):
        if self.command == "HEAD":
            return 0
        at = min(rule.get("bytes", random.randrange(1, max(2, len(data)))), len(data))
        if kind in ("cut", "reset"):
            self.wfile.write(data[:at])
            self.wfile.flush()
            if kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return at
        if kind == "stall":
            self.wfile.write(data[:at])
            self.wfile.flush()
            self.close_connection = True
            # Until the other side hangs up.
            self.connection.settimeout(rule.get("seconds", 120))
            try:
                self.connection.recv(1)
            except OSError:
                pass
            return at
        if kind == "wrong" and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:]
        if kind == "slow":
            step = max(1, rule["rate"] // 20)
            for start in range(0, len(data), step):
                self.wfile.write(data[start:start + step])
                time.sleep(0.05)
            return len(data)
        self.wfile.write(data)
        return len(data)

    def handle_request(self):
        if self.path == "/-/idle":
            with idle:
                earlier = connections - {self.connection}
                quiet = idle.wait_for(lambda: not earlier & connections, 30)
            self.close_connection = True
            self.send_response(200 if quiet else 503)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.serve()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def process_request(self, request, client_address):
        with idle:
            connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with idle:
            connections.discard(request)
            idle.notify_all()
        super().shutdown_request(request)


address, port = listen.rsplit(":", 1)
Server((address, int(port)), Handler).serve_forever()
