#!/usr/bin/env python3
"""A weblog on a MariaDB: POST / adds a post (its text is also kept as a file below /srv/uploads, as media are), GET / lists
all posts, GET /count counts them. It speaks HTTP on a socket that nginx finds in a shared volume."""
import hashlib
import http.server
import os
import socketserver

import pymysql

SOCKET = "/run/blog/blog.sock"
UPLOADS = "/srv/uploads"


def database():
    settings = {name: os.environ[f"DB_{name.upper()}"] for name in ("host", "user", "password", "database")}
    return pymysql.connect(port=int(os.environ.get("DB_PORT", "3306")), connect_timeout=5, autocommit=True, **settings)


def query(sql, *values):
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("create table if not exists posts (id int auto_increment primary key, text varchar(200) unique)")
        cursor.execute(sql, values)
        return cursor.fetchall()


class Blog(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "nginx"

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def attempt(self, act):
        try:
            self.answer(200, act())
        except pymysql.MySQLError as error:
            self.answer(503, f"{error}\n")

    def do_GET(self):
        if self.path == "/count":
            self.attempt(lambda: f"{query('select count(*) from posts')[0][0]}\n")
        else:
            self.attempt(lambda: "".join(f"{text}\n" for (text,) in query("select text from posts order by id")))

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()

        def add():
            path = os.path.join(UPLOADS, hashlib.sha256(text.encode()).hexdigest())
            with open(path, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            query("insert into posts (text) values (%s)", text)
            return os.path.basename(path) + "\n"

        self.attempt(add)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if os.path.exists(SOCKET):
    os.unlink(SOCKET)
server = Server(SOCKET, Blog)
os.chmod(SOCKET, 0o666)
server.serve_forever()
