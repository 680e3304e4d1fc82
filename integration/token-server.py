#!/usr/bin/env python3
"""A token server in the manner of Docker Hub's: anonymous pull of test/busybox, everything for user:secret, who also
gets a refresh token (offline_token=true) and can use it (POST, grant_type=refresh_token).

token-server.py DIRECTORY PORT writes DIRECTORY/cert.pem (for the registry) and serves /token on loopback.
Signs RS256 with openssl; the standard library does the rest.
"""
import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import time
import urllib.parse

directory, port = sys.argv[1], int(sys.argv[2])
os.makedirs(directory, exist_ok=True)
key, cert = f"{directory}/key.pem", f"{directory}/cert.pem"
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert + ".new",
                "-subj", "/CN=test", "-days", "2"], check=True, capture_output=True)
os.rename(cert + ".new", cert)
der = subprocess.run(["openssl", "x509", "-in", cert, "-pubkey", "-noout"], check=True, capture_output=True).stdout
public = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=der, check=True, capture_output=True).stdout
text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
key_id = ":".join(text[i:i + 4] for i in range(0, len(text), 4))


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        authorization = self.headers.get("Authorization", "")
        known = authorization == "Basic " + base64.b64encode(b"user:secret").decode()
        if authorization and not known:
            return self.send_error(401)
        self.give(query, known)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        query = urllib.parse.parse_qs(body)
        if query.get("grant_type") != ["refresh_token"] or query.get("refresh_token") != ["refresh-of-user"]:
            return self.send_error(401)
        query["scope"] = query.get("scope", [""])[0].split()
        self.give(query, True)

    def give(self, query, known):
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            if known or name == "test/busybox":
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "test", "sub": "", "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now,
                  "jti": str(time.time_ns()), "access": access}
        head = encode(json.dumps({"typ": "JWT", "alg": "RS256", "kid": key_id}).encode())
        body = encode(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=f"{head}.{body}".encode(),
                                   check=True, capture_output=True).stdout
        answer = {"token": f"{head}.{body}.{encode(signature)}", "expires_in": 300}
        if known and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = "refresh-of-user"
        answer = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
