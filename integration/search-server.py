#!/usr/bin/env python3
"""search-server.py PORT: Docker's search of version 1, on loopback."""
import http.server
import json
import sys
import urllib.parse

ALL = [
    {"name": "web", "description": "Serves\nthings \u001b[31m", "star_count": 12, "is_official": True, "is_automated": False},
    {"name": "some/web", "description": "x" * 100, "star_count": 3, "is_official": False, "is_automated": False},
    {"name": "db", "description": "Stores things", "star_count": 40, "is_official": True, "is_automated": False},
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        found = [entry for entry in ALL if query.get("q", [""])[0] in entry["name"]][: int(query.get("n", ["25"])[0])]
        answer = json.dumps({"num_results": len(found), "query": query.get("q", [""])[0], "results": found}).encode()
        self.send_response(200 if url.path == "/v1/search" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
