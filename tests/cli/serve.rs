//! `rcon serve` as its clients meet it: bare HTTP over its socket, so that what no client library would send can be sent, too.

use crate::environment::Environment;
use crate::outcome::eventually;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long a read may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    fn new(engine: &Environment) -> Self {
        let socket = engine.root.join("s.sock");
        let address = format!("unix://{}", socket.display());
        let process = engine.command(&["serve", "--listen", &address]).stderr(Stdio::null()).spawn().unwrap();
        let server = Server { process, socket };
        eventually("the server listens", || UnixStream::connect(&server.socket).is_ok());
        server
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request whose answer is for the caller to read.
    fn begin(&self, request: &str, headers: &str, body: &str) -> UnixStream {
        let mut stream = self.connect();
        let head = format!("{request} HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// The status and the document.
    fn ask(&self, request: &str, body: &Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = rest(self.begin(request, "Connection: close\r\n", &text));
        status(&answer)
    }

    fn create(&self, body: &Value) -> String {
        let mut body = body.clone();
        body["Image"] = json!("busybox");
        let (status, created) = self.ask("POST /containers/create", &body);
        assert_eq!(status, 201, "{created}");
        created["Id"].as_str().unwrap().to_owned()
    }

    fn start(&self, id: &str) {
        assert_eq!(self.ask(&format!("POST /containers/{id}/start"), &Value::Null).0, 204);
    }

    /// A connection that has changed hands.
    fn take_over(&self, request: &str, body: &Value) -> UnixStream {
        let mut stream = self.begin(request, "Connection: Upgrade\r\nUpgrade: tcp\r\n", &body.to_string());
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }

    fn attach(&self, id: &str, streams: &str) -> UnixStream {
        self.take_over(&format!("POST /containers/{id}/attach?stream=1&{streams}"), &Value::Null)
    }

    fn exec(&self, container: &str, body: &Value) -> String {
        let (status, made) = self.ask(&format!("POST /containers/{container}/exec"), body);
        assert_eq!(status, 201, "{made}");
        made["Id"].as_str().unwrap().to_owned()
    }

    fn start_exec(&self, id: &str, tty: bool) -> UnixStream {
        self.take_over(&format!("POST /exec/{id}/start"), &json!({"Tty": tty}))
    }

    /// The process itself: nsenter(1) has become it.
    fn open_files(&self) -> usize {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        // Connections to the database are kept for the next request.
        fds.flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| !to.to_string_lossy().contains("rcon.db"))).count()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by the test.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        // It may answer before it has read all that was sent.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    all
}

/// Of a whole answer; the document may be in chunks.
fn status(answer: &[u8]) -> (u16, Value) {
    let text = String::from_utf8_lossy(answer);
    let code = text.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {text}")).parse().unwrap();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let document = body.find(['{', '[']).map(|at| &body[at..]).unwrap_or_default();
    (code, serde_json::Deserializer::from_str(document).into_iter().next().and_then(Result::ok).unwrap_or_default())
}

/// The bytes of stdout and of stderr.
fn unframed(mut data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((frame, behind)) = data.split_at_checked(8) {
        let (bytes, behind) = behind.split_at(u32::from_be_bytes(frame[4..].try_into().unwrap()) as usize);
        if frame[0] == 2 { &mut err } else { &mut out }.extend_from_slice(bytes);
        data = behind;
    }
    (out, err)
}

#[test]
fn what_is_malformed_is_refused_and_the_server_goes_on() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    for (request, expected) in [
        ("\0\0\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\n\r\n", "400"),
        ("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -5\r\n\r\n", "400"),
        ("POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n", "400"),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)), "414"),
        ("BREW /info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "404"),
        ("GET /v1.99/info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "400"),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&rest(stream)).into_owned();
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{request:.60}: {answer}");
    }
    let deep = "{\"Image\":".repeat(50_000);
    let large = format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20));
    for (body, expected) in [
        ("[\"host\"]", 400),
        ("{\"Image\":5}", 400),
        ("{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"/a\\u0000:/b\"]}}", 400),
        (&deep, 400),
        (&large, 413),
        ("null", 400),
        ("{\"Image\":\"no-such-image\"}", 404),
    ] {
        let (code, document) = status(&rest(server.begin("POST /containers/create", "Connection: close\r\n", body)));
        assert_eq!(code, expected, "{body:.60}: {document}");
        assert!(document["message"].is_string(), "{document}");
    }
    assert_eq!(server.ask("GET /_ping", &Value::Null).0, 200);
}

#[test]
fn statuses_are_dockers() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let id = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&id);
    assert_eq!(server.ask(&format!("POST /containers/{id}/rename?name=web"), &Value::Null).0, 204);
    for (request, expected) in [
        ("POST /containers/web/start", 304),
        ("DELETE /containers/web", 409),
        ("POST /containers/web/unpause", 409),
        ("POST /containers/create?name=web", 409),
        ("POST /containers/create?name=a%2Fb", 400),
        ("GET /containers/..%2F..%2Fetc/json", 404),
        ("GET /containers/%00/json", 404),
        ("GET /containers/web/archive?path=%00", 400),
        ("GET /containers/web/archive?path=/nowhere", 404),
        ("GET /containers/web/logs", 400),
        ("POST /containers/web/stop?t=soon", 400),
        ("POST /containers/web/kill?signal=NOPE", 400),
        ("POST /containers/web/wait?condition=never", 400),
        ("GET /containers/json?filters=x", 400),
        ("DELETE /networks/bridge", 403),
        ("DELETE /networks/host", 403),
        ("GET /volumes/..", 404),
        ("GET /system/df?type=nothing", 400),
        ("GET /exec/0123456789ab/json", 404),
        ("POST /containers/web/stop?t=0", 204),
        ("POST /containers/web/stop", 304),
        ("POST /containers/web/exec", 409),
    ] {
        let (code, document) = server.ask(request, &json!({"Image": "busybox", "Cmd": ["true"]}));
        assert_eq!(code, expected, "{request}: {document}");
    }
}

#[test]
fn a_wait_tells_the_code_of_a_container_that_is_gone_at_once() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    for round in 0..60u8 {
        let code = i64::from(round % 7 + 1);
        let condition = ["removed", "next-exit", "not-running"][usize::from(round % 3)];
        let id = server.create(&json!({"Cmd": ["sh", "-c", format!("exit {code}")], "HostConfig": {"AutoRemove": true}}));
        let request = format!("POST /containers/{id}/wait?condition={condition}");
        let ahead = (condition != "not-running" && round % 2 == 0).then(|| {
            let mut ahead = server.begin(&request, "Connection: close\r\n", "");
            // With the head, the server has begun to look.
            let head = head(&mut ahead);
            (head, ahead)
        });
        server.start(&id);
        let (status, document) = match ahead {
            Some((head, ahead)) => status(&[head.as_bytes(), &rest(ahead)].concat()),
            None => server.ask(&request, &Value::Null),
        };
        // It may be gone before it is asked for; a code must be right.
        assert!(status == 404 || document["StatusCode"] == code, "round {round}, {condition}: {status} {document}");
    }
}

#[test]
fn clients_that_attach_before_the_start_get_every_byte() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let id = server.create(&json!({"Cmd": ["sh", "-c", "echo said; echo wrong >&2; head -c 300000 /dev/zero"]}));
    // One that has left again must not be in the way.
    drop(server.attach(&id, "stdout=1"));
    let clients: Vec<UnixStream> = (0..20).map(|_| server.attach(&id, "stdout=1&stderr=1")).collect();
    server.start(&id);
    let readers: Vec<_> = clients.into_iter().map(|client| std::thread::spawn(move || unframed(&rest(client)))).collect();
    for reader in readers {
        let (out, err) = reader.join().unwrap();
        assert_eq!((&out[..5], out.len(), err.as_slice()), (&b"said\n"[..], 300_005, &b"wrong\n"[..]));
    }
}

#[test]
fn an_attach_that_waits_sees_what_others_do() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let started = server.create(&json!({"Cmd": ["sh", "-c", "while :; do echo tick; sleep 0.1; done"]}));
    let mut attached = server.attach(&started, "stdout=1");
    engine.rcon(&["start", &started]).ok();
    let mut frame = [0; 13];
    attached.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[8..], b"tick\n");
    let removed = server.create(&json!({"Cmd": ["true"]}));
    let attached = server.attach(&removed, "stdout=1");
    engine.rcon(&["rm", &removed]).ok();
    assert_eq!(rest(attached), b"");
    let restarted = server.create(&json!({"Cmd": ["echo", "hello"]}));
    let attached = server.attach(&restarted, "stdout=1");
    assert_eq!(server.ask(&format!("POST /containers/{restarted}/restart"), &Value::Null).0, 204);
    assert_eq!(unframed(&rest(attached)).0, b"hello\n");
}

#[test]
fn input_and_output_do_not_wait_for_each_other() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let data: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let id = server.create(&json!({"Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true}));
    let attached = server.attach(&id, "stdin=1&stdout=1");
    server.start(&id);
    let holder = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&holder);
    let exec = server.exec(&holder, &json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true}));
    for stream in [attached, server.start_exec(&exec, false)] {
        let (mut input, sent) = (stream.try_clone().unwrap(), data.clone());
        let writes = std::thread::spawn(move || {
            input.write_all(&sent).unwrap();
            // The other direction stays open.
            input.shutdown(Shutdown::Write).unwrap();
        });
        assert!(unframed(&rest(stream)).0 == data);
        writes.join().unwrap();
    }
    // One that never reads holds its client up, who still gets what it writes.
    let id = server.create(&json!({"Cmd": ["yes"], "OpenStdin": true, "AttachStdin": true}));
    let mut attached = server.attach(&id, "stdin=1&stdout=1");
    server.start(&id);
    let mut input = attached.try_clone().unwrap();
    let writes = std::thread::spawn(move || while input.write_all(&[7; 65_536]).is_ok() {});
    attached.read_exact(&mut vec![0; 3_000_000]).unwrap();
    attached.shutdown(Shutdown::Both).unwrap();
    writes.join().unwrap();
}

#[test]
fn clients_that_leave_leave_nothing() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let running = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&running);
    let made = server.create(&json!({"Cmd": ["true"]}));
    assert_eq!(server.ask("GET /info", &Value::Null).0, 200);
    let before = server.open_files();
    for _ in 0..50 {
        drop(server.connect());
        server.connect().write_all(b"GET /info HT").unwrap();
        server.connect().write_all(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 500\r\n\r\n{").unwrap();
        server.connect().write_all(b"PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: d\r\nContent-Length: 500000\r\n\r\nx").unwrap();
        for quiet in [
            "GET /events".to_owned(),
            format!("GET /containers/{running}/logs?stdout=1&follow=1"),
            format!("GET /containers/{running}/stats"),
            format!("POST /containers/{running}/wait"),
            format!("POST /containers/{running}/attach?stream=1&stdout=1"),
        ] {
            head(&mut server.begin(&quiet, "", ""));
        }
        drop(server.attach(&running, "stdout=1"));
        drop(server.attach(&made, "stdout=1"));
        let exec = server.exec(&running, &json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true}));
        drop(server.start_exec(&exec, false));
    }
    eventually("everything is closed", || server.open_files() <= before);
    server.start(&made);
}

#[test]
fn many_execs_at_once_end_with_their_own_code() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let id = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&id);
    std::thread::scope(|scope| {
        for number in 0..40 {
            let (server, id) = (&server, &id);
            scope.spawn(move || {
                let command = format!("echo {number}; exit {number}");
                let exec = server.exec(id, &json!({"Cmd": ["sh", "-c", command], "AttachStdout": true}));
                assert_eq!(unframed(&rest(server.start_exec(&exec, false))).0, format!("{number}\n").as_bytes());
                let (_, document) = server.ask(&format!("GET /exec/{exec}/json"), &Value::Null);
                assert_eq!((&document["ExitCode"], &document["Running"]), (&json!(number), &json!(false)), "{document}");
                assert_eq!(server.ask(&format!("POST /exec/{exec}/start"), &json!({})).0, 409);
            });
        }
    });
}

#[test]
fn execs_outlive_a_server_that_is_killed() {
    let engine = Environment::new();
    let server = Server::new(&engine);
    let id = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&id);
    let stages = || {
        let name = format!("rcon-exec-{}", &id[..12]);
        let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(name.as_bytes())).count()
    };
    for tty in [false, true] {
        // With a terminal it writes on, more than a terminal holds; it ends when it is told to.
        let flood = if tty { "head -c 100000 /dev/zero;" } else { "" };
        let command = format!("trap '' HUP; echo begun; until [ -e /go ]; do {flood} sleep 0.1; done; touch /done-{tty}");
        let exec = server.exec(&id, &json!({"Cmd": ["sh", "-c", command], "AttachStdout": true, "Tty": tty}));
        let mut stream = server.start_exec(&exec, tty);
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    assert_eq!(stages(), 2);
    drop(server);
    let server = Server::new(&engine);
    assert_eq!(stages(), 2, "they wait for their processes");
    engine.rcon(&["exec", &id, "touch", "/go"]).ok();
    eventually("both have gone on to their end", || engine.rcon(&["exec", &id, "ls", "/done-false", "/done-true"]).code == 0);
    eventually("the stages end with them", || stages() == 0);
    assert_eq!(server.ask(&format!("GET /containers/{id}/json"), &Value::Null).1["State"]["Status"], "running");
}

#[test]
fn a_server_that_is_told_to_ends_with_its_streams_and_its_socket() {
    let engine = Environment::new();
    let mut server = Server::new(&engine);
    assert_eq!(std::fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let address = format!("unix://{}", server.socket.display());
    engine.rcon(&["serve", "--listen", &address]).fails(1, "is served by another process already");
    let id = server.create(&json!({"Cmd": ["sleep", "600"]}));
    server.start(&id);
    let made = server.create(&json!({"Cmd": ["true"]}));
    let mut streams = vec![server.attach(&id, "stdout=1"), server.attach(&made, "stdout=1")];
    for quiet in ["GET /events".to_owned(), format!("GET /containers/{id}/logs?stdout=1&follow=1"), format!("POST /containers/{id}/wait")] {
        let mut stream = server.begin(&quiet, "", "");
        head(&mut stream);
        streams.push(stream);
    }
    server.signal(rustix::process::Signal::TERM);
    for stream in streams {
        rest(stream);
    }
    assert!(server.process.wait().unwrap().success());
    assert!(!server.socket.exists());
    // Whose socket is left over is no server any more.
    let killed = Server::new(&engine);
    drop(killed);
    assert!(engine.root.join("s.sock").exists());
    let again = Server::new(&engine);
    assert_eq!(again.ask("GET /_ping", &Value::Null).0, 200);
    assert_eq!(engine.see(&id, "{{.State.Status}}"), "running");
}

#[test]
fn addresses_that_cannot_be_are_refused() {
    let engine = Environment::empty();
    engine.rcon(&["serve", "--listen", "tcp://127.0.0.1:2375"]).fails(125, "tcp://127.0.0.1:2375");
    engine.rcon(&["serve", "--listen", "fd://"]).fails(1, "no socket was handed over");
    engine.rcon(&["serve", "--listen", "unix:///a", "--listen", "unix:///a"]).fails(125, "given twice");
    engine.rcon(&["serve", "--listen", "unix:///dev/null"]).fails(1, "is not a socket");
    engine.rcon(&["serve", "--group", "no-such-group"]).fails(125, "no-such-group");
    // A unit that hands over something else.
    let program = engine.command(&["serve", "--listen", "fd://"]);
    let words: Vec<String> = program.get_args().skip(2).map(|word| word.to_str().unwrap().to_owned()).collect();
    let mut command = engine.inside("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3< /dev/null", "sh"]).args(words);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no listening Unix stream socket"), "{text}");
}
