"""`rcon build` and what comes over the network: git repositories and files of the web that want more than to be fetched."""
import http.server
import signal
import socket
import threading

from lab import *

busybox()
HOST = WORK + "/host"
os.makedirs(HOST)
SECRET = HOST + "/secret"
NEW = HOST + "/new"
MARK = "secret of the host"
open(SECRET, "w").write(MARK)
CLIMB = "../" * 14 + HOST.lstrip("/")
SHORT = 60  # Seconds that something hostile may take.


def closed(result):
    fine = MARK not in result.all and os.listdir(HOST) == ["secret"] and read(SECRET) == MARK and not any(word in result.all for word in PANIC) and result.code >= 0
    if os.path.lexists(NEW):
        os.remove(NEW)
    return fine


def port():
    """One that nobody listens on: the name space of the network is ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# Git, served by its own daemon.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
GIT = port()
daemon = subprocess.Popen(["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={GIT}", "--export-all", f"--base-path={WORK}/git"], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def answers():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", GIT)) == 0


def git(name, *words, **more):
    result = command("git", "-C", f"{WORK}/git/{name}", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *words, env=ENV, **more)
    if result.code != 0:
        raise RuntimeError(f"git {words}: {result}")
    return result.out.strip()


def repository(name, files, modules=None):
    """A repository with these files, and a submodule for each path of `modules` with the text of its section."""
    path = f"{WORK}/git/{name}"
    os.rename(context("FROM scratch\nCOPY . /\n" if "Dockerfile" not in files else None, files), path)
    git(name, "init", "-q")
    git(name, "add", "-A")
    for module, commit in (modules or {}).items():
        git(name, "update-index", "--add", "--cacheinfo", f"160000,{commit},{module}")
    git(name, "commit", "-q", "-m", "one")
    return f"git://127.0.0.1:{GIT}/{name}"


os.makedirs(WORK + "/git")
if not wait_for(answers):
    raise RuntimeError("the daemon of git does not answer")
plain = repository("plain", {"x": "x", "sub/Dockerfile": "FROM scratch\nCOPY . /\n"})
head = git("plain", "rev-parse", "HEAD")


def fetch(spec, *flags, at=None, env=None):
    return rcon("build", "--progress", "plain", "-o", "-", *flags, "--", spec, limit=SHORT, cwd=at, env=env)


for name, spec in (("a repository", plain), ("a branch and a directory", plain + "#main:sub"), ("a commit", f"{plain}#{head}")):
    result = fetch(spec)
    control("git", f"{name} is built", result.code == 0, result)

TOUCH = f"touch {NEW}"
for name, spec in {
    "a helper that executes": f"ext::sh -c touch% {NEW}", "a file": f"file://{WORK}/git/plain", "a file that ends as one": f"file://{WORK}/git/plain/.git", "an option for a host": f"git@-oProxyCommand={TOUCH}:x.git",
    "an option for a host of ssh": f"ssh://-oProxyCommand=touch%20{NEW}/x.git", "an option with a space": f"ssh://-oProxyCommand={TOUCH}/x.git", "an option for a user": f"-oProxyCommand={TOUCH}@host:x.git", "an option as repository": f"--upload-pack={TOUCH}:x.git",
    "an option as reference": f"{plain}#--upload-pack={TOUCH}", "an option as reference, without space": f"{plain}#--upload-pack=touch${{IFS}}{NEW}", "an option as reference in a query": f"{plain}?ref=--upload-pack=touch", "an option as short reference": f"{plain}#-u",
    "a refspec": f"{plain}#+refs/heads/main:refs/heads/evil", "a reference with a line end": f"{plain}#main\n--upload-pack=x", "a path as reference": f"{plain}#../../../../{HOST}", "an option as commit": f"{plain}?checksum=--exec", "a climbing directory": f"{plain}#main:{CLIMB}",
    "a climbing directory in a query": f"{plain}?subdir={CLIMB}", "an absolute directory": f"{plain}#main:{HOST}", "an option as directory": f"{plain}#main:--help", "a repository that climbs": f"git://127.0.0.1:{GIT}/../../../..{HOST}", "a line end in the address": f"{plain}\n.git", "another helper": f"fd::17/x.git",
}.items():
    result = fetch(spec)
    # A climbing directory ends at the top of the checkout.
    fine = told(result) or (result.code == 0 and "climbing" in name)
    held("CVE-2019-13139", f"{name} in the address of a context", fine and closed(result), result)
    result = build(f"FROM scratch\nADD {json.dumps([spec, '/x'])}\n", "-o", "-", limit=SHORT)
    held("CVE-2019-13139", f"{name} in ADD", (told(result) or (result.code == 0 and "climbing" in name)) and closed(result), result)
command("git", "-c", "protocol.ext.allow=always", "clone", "-q", f"ext::sh -c touch% {NEW}", WORK + "/cloned", env=ENV)
control("CVE-2019-13139", "git itself executes such an address", os.path.exists(NEW))
closed(Result(0, "", ""))
for address in ("https://me:hunter2@127.0.0.1:1/x.git", "http://me:hunter2@127.0.0.1:1/x.tar"):
    result = fetch(address)
    held("CVE-2019-13509", f"the password of {address[:5].strip(':')}…{address[-4:]} is told when it fails", told(result) and "hunter2" not in result.all, result)
    result = build(f"FROM scratch\nADD {address} /x\n", "--progress", "plain", limit=SHORT)
    shown = "\n".join(line for line in result.all.splitlines() if "ADD" not in line or "cannot" in line)
    held("CVE-2019-13509", f"the same in ADD, besides the line of the Dockerfile", told(result) and "hunter2" not in shown, result)

# Trees.
evil = repository("links", {"way": ("link", HOST), "climb": ("link", CLIMB), "Dockerfile": ("link", SECRET), "real": "FROM scratch\nCOPY way/secret climb/secret /\n", "inner/Dockerfile": ("link", CLIMB + "/secret"), "all": "FROM scratch\nCOPY . /\n"})
for name, spec, flags in (("directory of the context", evil + "#main:way", ()), ("climbing directory of the context", evil + "#main:climb", ()), ("Dockerfile", evil, ()), ("Dockerfile of a directory", evil + "#main:inner", ()), ("source", evil, ("-f", "real")), ("file behind -f", evil, ("-f", "way/secret"))):
    result = fetch(spec, *flags)
    held("CVE-2026-33748", f"a link of the repository as {name}", told(result) and closed(result), result)
result = fetch(evil, "-f", "all")
held("CVE-2026-33748", "links of the repository are copied as links", result.code == 0 and closed(result), result)


def raw(name, *entries):
    """A repository whose tree git would not write itself: entries (mode, name, kind, data or its entries)."""
    def tree(entries):
        body = b""
        for mode, file, what in entries:
            made = tree(what) if isinstance(what, list) else git(name, "hash-object", "-w", "--stdin", data=what.encode())
            body += mode + b" " + file + b"\0" + bytes.fromhex(made)
        return git(name, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=body)
    url = repository(name, {"x": "x"})
    git(name, "update-ref", "refs/heads/main", git(name, "commit-tree", "-m", "evil", tree(entries)))
    return url


CONFIG = f"[core]\n\tfsmonitor = \"{TOUCH}; false\"\n\tsshCommand = {TOUCH}\n\thooksPath = hooks\n"
dockerfile = (b"100644", b"Dockerfile", "FROM scratch\nCOPY . /\n")
for name, entries in {
    "a directory .git": [(b"40000", b".git", [(b"100644", b"config", CONFIG), (b"40000", b"hooks", [(b"100755", b"post-checkout", f"#!/bin/sh\n{TOUCH}\n")])]), dockerfile],
    "a link .git": [(b"120000", b".git", HOST), dockerfile], "a directory ..": [(b"40000", b"..", [(b"100644", b"new", "x")]), dockerfile], "a name with slashes": [(b"100644", b"../../../../../.." + NEW.encode(), "x"), dockerfile],
    "a link, then a file below it": [(b"120000", b"a", HOST), (b"40000", b"a", [(b"100644", b"new", "x")]), dockerfile], "a link .gitmodules": [(b"120000", b".gitmodules", SECRET), dockerfile], "a hidden .git": [(b"40000", ".g\u200cit".encode(), [(b"100644", b"config", CONFIG)]), dockerfile],
}.items():
    result = fetch(raw("raw" + str(len(os.listdir(WORK + "/git"))), *entries))
    held("CVE-2014-9390", f"a tree with {name}", (told(result) or result.code == 0) and closed(result), result)

# Submodules.
MODULES = {
    ("CVE-2022-39253", "whose address executes"): f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c touch% {NEW}\n', ("CVE-2022-39253", "that is a file of the host"): f'[submodule "s"]\n\tpath = s\n\turl = {WORK}/git/plain\n',
    ("CVE-2022-39253", "that is a file:// of the host"): f'[submodule "s"]\n\tpath = s\n\turl = file://{WORK}/git/plain\n', ("CVE-2018-17456", "whose address is an option"): f'[submodule "s"]\n\tpath = s\n\turl = -u./payload\n',
    ("CVE-2017-1000117", "whose host is an option"): f'[submodule "s"]\n\tpath = s\n\turl = ssh://-oProxyCommand=touch%20{NEW}/x\n', ("CVE-2018-11235", "whose name climbs"): f'[submodule "../../../../evil"]\n\tpath = s\n\turl = {plain}\n\tupdate = checkout\n',
    ("CVE-2019-19604", "whose update executes"): f'[submodule "s"]\n\tpath = s\n\turl = {plain}\n\tupdate = !{TOUCH}\n',
}
for (flaw, name), text in MODULES.items():
    url = repository("m" + str(len(os.listdir(WORK + "/git"))), {"x": "x", ".gitmodules": text, "payload": f"#!/bin/sh\n{TOUCH}\n"}, {"s": head})
    result = fetch(url)
    held(flaw, f"a submodule {name}", (told(result) or result.code == 0) and closed(result) and not os.path.exists(WORK + "/evil"), result)
executing = repository("executing", {".gitmodules": MODULES["CVE-2022-39253", "whose address executes"]}, {"s": head})
command("git", "-c", "protocol.ext.allow=always", "clone", "-q", "--recurse-submodules", executing, WORK + "/recursed", env=ENV)
control("CVE-2022-39253", "git executes the address of a submodule where that helper is allowed", os.path.exists(NEW))
closed(Result(0, "", ""))
result = fetch(repository("nested", {".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = {plain}\n'}, {"s": head}))
control("CVE-2022-39253", "an honest submodule is fetched", result.code == 0 and "s/sub/Dockerfile" in result.out, result)

# The repository that the builder is called in.
repository("around", {"x": "x"})
open(WORK + "/git/around/.git/config", "a").write(CONFIG)
os.makedirs(WORK + "/template/hooks")
for hook in ("post-checkout", "reference-transaction", "post-index-change"):
    for path in (f"{WORK}/git/around/.git/hooks/{hook}", f"{WORK}/template/hooks/{hook}"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(f"#!/bin/sh\n{TOUCH}\n")
        os.chmod(path, 0o755)
around = WORK + "/git/around"
for name, env in {"its configuration": {}, "GIT_DIR": {"GIT_DIR": around + "/.git", "GIT_WORK_TREE": around}, "GIT_CONFIG_COUNT": {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": TOUCH}, "GIT_TEMPLATE_DIR": {"GIT_TEMPLATE_DIR": WORK + "/template"},
                  "GIT_EXEC_PATH": {"GIT_EXEC_PATH": WORK + "/template/hooks"}, "GIT_PROXY_COMMAND": {"GIT_PROXY_COMMAND": WORK + "/template/hooks/post-checkout"}}.items():
    result = fetch(plain, at=around, env=ENV | env)
    held("CVE-2022-24765", f"a build inside of a hostile checkout: {name}", result.code == 0 and closed(result), result)
command("git", "-C", around, "status", env=ENV)
control("CVE-2022-24765", "git itself obeys that configuration", os.path.exists(NEW))
closed(Result(0, "", ""))


# Files of the web.
class Server(http.server.BaseHTTPRequestHandler):
    """Answers by a table: path to a function of the request."""
    protocol_version = "HTTP/1.1"
    heads = []
    pages = {}

    def do_GET(self):
        Server.heads.append((self.server.server_port, self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, headers, body = Server.pages.get(self.path.split("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) for _ in range(2)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
ONE, TWO = (server.server_port for server in servers)
BASE = f"http://127.0.0.1:{ONE}"
Server.pages = {
    "/file": (200, {}, b"a file"), "/to-file": (302, {"Location": "file://" + SECRET}, b""), "/to-data": (302, {"Location": "data:text/plain,x"}, b""), "/to-unix": (302, {"Location": f"unix:{SECRET}"}, b""), "/loop": (302, {"Location": "/loop"}, b""),
    "/to-other": (302, {"Location": f"http://127.0.0.1:{TWO}/taken"}, b""), "/to-name": (302, {"Location": f"http://localhost:{ONE}/taken"}, b""), "/to-same": (302, {"Location": "/taken"}, b""), "/taken": (200, {}, b"taken"), "/short": (200, {"Content-Length": "1000"}, b"short"),
    "/unchanged": (304, {"ETag": '"x"'}, b""), "/page": (200, {}, b"<html>not a tar</html>"),
}
for name, path in (("a file of the host", "/to-file"), ("data", "/to-data"), ("a socket", "/to-unix"), ("itself", "/loop")):
    for what, result in (("ADD", build(f"FROM scratch\nADD {BASE}{path} /x\n", "-o", "-", limit=SHORT)), ("a context", fetch(BASE + path))):
        held("redirects", f"{what} is redirected to {name}", told(result) and closed(result), result)
result = build(f"FROM scratch\nADD {BASE}/short /x\n", "-o", "-", limit=SHORT)
held("digests", "a server that breaks off", told(result), result)
result = build(f"FROM scratch\nADD {BASE}/unchanged /x\n", "-o", "-", limit=SHORT)
held("digests", "a server that says unchanged when nobody has the file", told(result), result)
result = build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {BASE}/file /x\n", "-o", "-", limit=SHORT)
held("digests", "a file with another digest than demanded", told(result), result)
result = fetch(BASE + "/page")
held("digests", "a page of excuses as context", told(result), result)

# Headers for one server are another's gain.
open(WORK + "/token", "w").write("token-of-one")
TOKEN = ("--secret", f"id=HTTP_AUTH_TOKEN_127.0.0.1:{ONE},src={WORK}/token")


def leaked():
    return [head for head in Server.heads if head[0] == TWO and "token-of-one" in str(head[2])] + [head for head in Server.heads if "localhost" in head[2].get("host", "") and "token-of-one" in str(head[2])]


for name, address in {
    "by a redirect to another port": BASE + "/to-other", "by a redirect to another name": BASE + "/to-name", "by a user's name in front": f"http://127.0.0.1:{ONE}@127.0.0.1:{TWO}/taken", "by a backslash in front": f"http://127.0.0.1:{TWO}\\@127.0.0.1:{ONE}/taken",
    "by a backslash that is escaped in front": f"http://127.0.0.1:{TWO}\\\\@127.0.0.1:{ONE}/taken", "by a backslash that is escaped and a path": f"http://127.0.0.1:{TWO}/taken\\\\@127.0.0.1:{ONE}", "by a backslash and a path": f"http://127.0.0.1:{TWO}/taken\\@127.0.0.1:{ONE}", "by a tab": f"http://127.0.0.1:{TWO}\t/taken@127.0.0.1:{ONE}/", "by a fragment": f"http://127.0.0.1:{TWO}#@127.0.0.1:{ONE}/taken", "by a query": f"http://127.0.0.1:{TWO}?@127.0.0.1:{ONE}/taken",
    "by three slashes": f"http:///127.0.0.1:{TWO}/taken", "by a backslash instead of slashes": f"http://\\127.0.0.1:{TWO}\\taken",
}.items():
    Server.heads.clear()
    result = build(f"FROM scratch\nADD {json.dumps([address, '/x'])}\n", *TOKEN, "-o", "type=cacheonly", limit=SHORT)
    held("CVE-2020-15157", f"a header for one server goes to another {name}", not leaked() and closed(result) and (told(result) or result.code == 0), leaked() or result)
Server.heads.clear()
result = build(f"FROM scratch\nADD {BASE}/to-same /x\n", *TOKEN, "-o", "type=cacheonly", limit=SHORT)
control("CVE-2020-15157", "the server itself gets the header, behind a redirect to itself, too", [bool(head[2].get("authorization")) for head in Server.heads] == [True, True], Server.heads)
kept = holding("token-of-one", WORK + "/data")
held("CVE-2019-13509", "the header stays in the store", not kept, kept)

# Names that a server gives.
for index, name in enumerate(("../../../../../../etc/new", CLIMB + "/new", "..", ".", "", "a/b", "a\\..\\b", "x" * 300, "a\x1b[31mb", "*", "[a")):
    for quote in ('"', ""):
        page = f"/name{index}{'q' if quote else ''}"
        Server.pages[page] = (200, {"Content-Disposition": f"attachment; filename={quote}{name}{quote}"}, b"named")
        result = build(f"FROM busybox\nADD {BASE}{page} /to/\nRUN find /to -type f | wc -l > /count\n", "-t", "named", limit=SHORT)
        count = run("named", "cat", "/count").out.strip() if result.code == 0 else ""
        held("CVE-2019-10152", f"a server calls its file {quote}{name[:24]!r}{quote}", closed(result) and (told(result) or count == "1") and "\x1b" not in result.err, result)
for path in ("/..%2f..%2f..%2fnew", "/%2e%2e", "/a%00b", "/%2f", "/%", "/"):
    Server.pages[path] = (200, {}, b"named")
    result = build(f"FROM busybox\nADD {BASE}{path} /to/\n", "-t", "named", limit=SHORT)
    held("CVE-2019-10152", f"an address that ends with {path}", closed(result) and (result.code == 0 or told(result)), result)

# Servers that never end, and builders that are killed meanwhile.
silent = socket.create_server(("127.0.0.1", 0))
QUIET = silent.getsockname()[1]


def ours():
    """Processes of this network besides us: what a builder has left."""
    mine = os.readlink("/proc/self/ns/net")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = read(f"/proc/{pid}/cmdline").replace("\0", " ")
            if os.readlink(f"/proc/{pid}/ns/net") == mine and (words.startswith(("git ", "/usr/lib/git", "rcon-step")) or "git-core" in words) and "daemon" not in words:
                found.append(words)
        except OSError:
            pass
    return found


for name, spec in (("a repository", f"git://127.0.0.1:{QUIET}/x.git"), ("a tar", f"http://127.0.0.1:{QUIET}/x.tar")):
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        builder = subprocess.Popen([*ENGINE, "build", spec], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        silent.settimeout(60)
        connection = silent.accept()[0]
        builder.send_signal(how)
        ended = wait_for(lambda: builder.poll() is not None)
        held("CVE-2021-20291", f"{name} from a server that says nothing, then {how.name}: the builder ends", ended, builder.pid)
        connection.close()
        held("leftovers", f"and so does what it had started when the server goes away ({name}, {how.name})", wait_for(lambda: not ours()), ours())
        builder.kill()
        builder.wait()
        wait_for(lambda: not ours())
result = fetch(plain)
place = WORK + "/data/build/trees"
held("leftovers", "the next build takes away what they left", result.code == 0 and os.listdir(place) == [], os.listdir(place))
daemon.kill()
daemon.wait()
finish()
