#!/usr/bin/env python3
"""Signs an image in a registry as cosign does with a key: sign.py REGISTRY REPOSITORY TAG KEY.pem [options].

The payload, the signature and the manifest that carries it are made here with openssl's command line; nothing
of rcon takes part. Prints the digest that was signed.
  --reference NAME   the docker-reference of the payload (default REGISTRY/REPOSITORY)
  --digest DIGEST    the digest in the payload (default: what TAG points to)
  --tamper           one byte of the payload is changed after signing
  --referrer         attach by the referrers tag schema (OCI 1.1) instead of by cosign's tag
  --index            first replace TAG by an index that holds its manifest for linux/amd64
"""
import argparse
import base64
import hashlib
import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Repository:
    def __init__(self, registry, name):
        self.base = f"http://{registry}/v2/{name}"

    def call(self, method, url, data=None, headers=None):
        request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
        with urllib.request.urlopen(request) as answer:
            return answer.read(), answer.headers

    def manifest(self, tag):
        return self.call("GET", f"{self.base}/manifests/{tag}", headers={"Accept": f"{INDEX}, {MANIFEST}, {DOCKER}"})

    def blob(self, data):
        _, headers = self.call("POST", f"{self.base}/blobs/uploads/", b"")
        place = headers["Location"]
        place += ("&" if "?" in place else "?") + "digest=" + digest_of(data)
        self.call("PUT", place, data, {"Content-Type": "application/octet-stream"})
        return {"digest": digest_of(data), "size": len(data)}

    def put(self, tag, document, kind):
        data = json.dumps(document).encode()
        self.call("PUT", f"{self.base}/manifests/{tag}", data, {"Content-Type": kind})
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def sign(key, payload):
    with tempfile.TemporaryDirectory() as directory:
        inside, outside = os.path.join(directory, "payload"), os.path.join(directory, "signature")
        with open(inside, "wb") as file:
            file.write(payload)
        kind = subprocess.run(["openssl", "pkey", "-in", key, "-noout", "-text"], check=True, capture_output=True, text=True).stdout
        if "ED25519" in kind:
            command = ["openssl", "pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", inside, "-out", outside]
        else:
            command = ["openssl", "dgst", "-sha256", "-sign", key, "-out", outside, inside]
        subprocess.run(command, check=True)
        with open(outside, "rb") as file:
            return base64.b64encode(file.read()).decode()


def main():
    parser = argparse.ArgumentParser()
    for name in ("registry", "repository", "tag", "key"):
        parser.add_argument(name)
    parser.add_argument("--reference")
    parser.add_argument("--digest")
    for flag in ("--tamper", "--referrer", "--index"):
        parser.add_argument(flag, action="store_true")
    args = parser.parse_args()
    repository = Repository(args.registry, args.repository)
    data, headers = repository.manifest(args.tag)
    if args.index:
        entry = {"mediaType": headers["Content-Type"], "digest": digest_of(data), "size": len(data), "platform": {"os": "linux", "architecture": "amd64"}}
        repository.put(args.tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX)
        data, headers = repository.manifest(args.tag)
    subject = {"mediaType": headers["Content-Type"], "digest": digest_of(data), "size": len(data)}
    payload = {
        "critical": {
            "identity": {"docker-reference": args.reference or f"{args.registry}/{args.repository}"},
            "image": {"docker-manifest-digest": args.digest or subject["digest"]},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    payload = json.dumps(payload).encode()
    signature = sign(args.key, payload)
    if args.tamper:
        payload = payload.replace(b'"optional": null', b'"optional": true')
    layer = {"mediaType": SIMPLE_SIGNING, **repository.blob(payload), "annotations": {"dev.cosignproject.cosign/signature": signature}}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **repository.blob(b"{}")}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    tag = subject["digest"].replace(":", "-")
    if args.referrer:
        document["subject"] = subject
        attached = repository.put(digest_of(json.dumps(document).encode()), document, MANIFEST)
        repository.put(tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [attached]}, INDEX)
    else:
        repository.put(tag + ".sig", document, MANIFEST)
    print(subject["digest"])


main()
