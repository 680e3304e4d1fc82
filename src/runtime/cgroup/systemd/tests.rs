//! The driver against a service that speaks D-Bus and does what systemd would, on a socket of the test's own.
use super::super::hierarchy::{Layout, Mount};
use super::bus::Address;
use super::wire::{self, Message, Reader, Writer};
use super::*;
use serde_json::json;
use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

/// What the service does for one call, in order of the calls to the manager.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// A job that ends so; another job's end is told before.
    Job(&'static str),
    Error(&'static str),
    Done,
    Text(&'static str),
}

/// A service that serves one connection and returns the calls it got: member and readable arguments.
struct Service {
    dir: PathBuf,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Service {
    fn new(answers: &[Answer], rejects_uid: bool) -> Self {
        let dir = std::env::temp_dir().join(format!("rcon-bus-{}", crate::base::random_hex(16)));
        fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("bus")).unwrap();
        let mut answers: VecDeque<Answer> = answers.iter().copied().collect();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if rejects_uid {
                refuse(&mut stream);
                stream = listener.accept().unwrap().0;
                assert_eq!((line(&mut stream), line(&mut stream)), ("AUTH EXTERNAL".to_owned(), "DATA".to_owned()));
                stream.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
                assert_eq!(line(&mut stream), "BEGIN");
            } else {
                greet(&mut stream);
            }
            let mut calls = Vec::new();
            while let Some(message) = next(&mut stream) {
                let answer = if message.interface == "org.freedesktop.DBus" { Answer::Done } else { answers.pop_front().unwrap() };
                calls.push(shown(&message));
                reply(&mut stream, &message, answer);
            }
            calls
        });
        Service { dir, thread: Some(thread) }
    }

    fn manager(&self) -> Manager {
        Manager::connect(&Address::Bus(format!("unix:guid=x;unix:path={}/nobody;unix:path={}/bus,guid=y", self.dir.display(), self.dir.display())))
            .unwrap()
    }

    /// To be called when the connection is closed.
    fn calls(mut self) -> Vec<String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_start_matches('\0').trim_end().to_owned()
}

fn asks_as_ourselves(stream: &mut UnixStream) {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(line(stream), format!("AUTH EXTERNAL {hex}"));
}

fn greet(stream: &mut UnixStream) {
    asks_as_ourselves(stream);
    // Before the answer: no message may come in one piece with it.
    assert_eq!(line(stream), "BEGIN");
    stream.write_all(b"OK 0123\r\n").unwrap();
}

fn refuse(stream: &mut UnixStream) {
    asks_as_ourselves(stream);
    stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
}

/// None at the end of the connection.
fn next(stream: &mut UnixStream) -> Option<Message> {
    let mut prefix = [0; wire::PREFIX];
    stream.read_exact(&mut prefix).ok()?;
    let mut bytes = prefix.to_vec();
    bytes.resize(wire::total(&prefix).unwrap(), 0);
    stream.read_exact(&mut bytes[wire::PREFIX..]).unwrap();
    Some(Message::parse(&bytes).unwrap())
}

/// A message of another kind than a call: kind, header fields (code, type, text) and body.
fn message(kind: u8, serial: u32, reply_to: Option<u32>, fields: &[(u8, &str, &str)], body: Writer) -> Vec<u8> {
    let body = body.finish();
    let mut writer = Writer::default();
    [b'l', kind, 0, 1].into_iter().for_each(|byte| writer.byte(byte));
    writer.uint(u32::try_from(body.len()).unwrap());
    writer.uint(serial);
    writer.array(8, |writer| {
        if let Some(serial) = reply_to {
            writer.structure();
            writer.byte(5);
            writer.signature("u");
            writer.uint(serial);
        }
        for (code, kind, text) in fields {
            writer.structure();
            writer.byte(*code);
            writer.signature(kind);
            if *kind == "g" { writer.signature(text) } else { writer.text(text) }
        }
    });
    writer.structure();
    [writer.finish(), body].concat()
}

fn reply(stream: &mut UnixStream, call: &Message, answer: Answer) {
    let text = |text: &str| {
        let mut body = Writer::default();
        body.text(text);
        body
    };
    let serial = Some(call.serial);
    let removed = |job: &str, result: &str| {
        let mut body = Writer::default();
        body.uint(7);
        body.text(job);
        body.text("u.scope");
        body.text(result);
        let fields = [(1, "o", "/org/freedesktop/systemd1"), (2, "s", "org.freedesktop.systemd1.Manager"), (3, "s", "JobRemoved"), (8, "g", "uoss")];
        message(wire::MESSAGE_SIGNAL, 90, None, &fields, body)
    };
    let bytes = match answer {
        Answer::Done => message(wire::MESSAGE_RETURN, 1, serial, &[], Writer::default()),
        Answer::Error(name) => message(wire::MESSAGE_ERROR, 1, serial, &[(4, "s", name), (8, "g", "s")], text("it says why")),
        Answer::Text(value) => {
            let mut body = Writer::default();
            body.variant(&Value::Text(value.to_owned()));
            message(wire::MESSAGE_RETURN, 1, serial, &[(8, "g", "v")], body)
        }
        // The end of the job may come before the answer that names it.
        Answer::Job(result) => {
            let answer = message(wire::MESSAGE_RETURN, 1, serial, &[(8, "g", "o")], text("/job/1"));
            [removed("/job/2", "failed"), removed("/job/1", result), answer].concat()
        }
    };
    stream.write_all(&bytes).unwrap();
}

/// A call as a line: member and arguments.
fn shown(call: &Message) -> String {
    let mut body = call.body();
    let mut words = vec![call.member.clone()];
    let mut signature = call.signature.as_str();
    while let Some(first) = signature.chars().next() {
        if signature.starts_with("a(sv)") {
            words.push(format!("{{{}}}", properties_of(&mut body).join(", ")));
            signature = &signature[5..];
            continue;
        }
        match first {
            's' | 'o' => words.push(body.text().unwrap()),
            'b' | 'u' => words.push(body.uint().unwrap().to_string()),
            // Further units, and pids, are at the end.
            _ => break,
        }
        signature = &signature[1..];
    }
    words.join(" ")
}

fn properties_of(body: &mut Reader<'_>) -> Vec<String> {
    let end = usize::try_from(body.uint().unwrap()).unwrap();
    body.align(8);
    let end = body.at() + end;
    let mut list = Vec::new();
    while body.at() < end {
        body.align(8);
        let name = body.text().unwrap();
        let signature = body.signature().unwrap();
        let array = |body: &mut Reader<'_>, item: &dyn Fn(&mut Reader<'_>) -> String| {
            let length = usize::try_from(body.uint().unwrap()).unwrap();
            if signature == "a(ss)" {
                body.align(8);
            }
            let end = body.at() + length;
            let mut items = Vec::new();
            while body.at() < end {
                items.push(item(body));
            }
            format!("[{}]", items.join(" "))
        };
        let value = match signature.as_str() {
            "b" | "u" => body.uint().unwrap().to_string(),
            "s" => format!("'{}'", body.text().unwrap()),
            "t" => body.long().unwrap().to_string(),
            "au" => array(body, &|body| body.uint().unwrap().to_string()),
            "as" => array(body, &|body| body.text().unwrap()),
            "ay" => array(body, &|body| body.byte().unwrap().to_string()),
            "a(ss)" => array(body, &|body| {
                body.align(8);
                format!("({} {})", body.text().unwrap(), body.text().unwrap())
            }),
            other => panic!("unexpected type {other}"),
        };
        list.push(format!("{name}={value}"));
    }
    list
}

/// A pure v2 host of plain files with the group of a unit.
struct Host {
    base: PathBuf,
    layout: Layout,
    group: Group,
}

impl Host {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("rcon-systemd-{}", crate::base::random_hex(16)));
        let unit = Unit { name: "p-x.scope".to_owned(), slice: "a-b.slice".to_owned(), user: false };
        let group = group(unit, "");
        assert_eq!(group.path, "/a.slice/a-b.slice/p-x.scope");
        fs::create_dir_all(base.join(&group.path[1..])).unwrap();
        for dir in ["", "a.slice", "a.slice/a-b.slice", "a.slice/a-b.slice/p-x.scope"] {
            for (file, text) in [("cgroup.controllers", "memory pids"), ("cgroup.subtree_control", ""), ("cgroup.procs", "")] {
                fs::write(base.join(dir).join(file), text).unwrap();
            }
        }
        for file in ["memory.max", "memory.current", "pids.max", "memory.oom.group"] {
            fs::write(base.join(&group.path[1..]).join(file), "").unwrap();
        }
        let layout = Layout { v2: Some(Mount { base: base.clone(), root: "/".to_owned() }), legacy: Vec::new() };
        Host { base, layout, group }
    }

    fn place(&self) -> Place<'_> {
        Place::new(&self.layout, &self.group.path)
    }

    fn unit(&self) -> &Unit {
        self.group.unit.as_ref().unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.base.join(&self.group.path[1..]).join(file)).unwrap()
    }

    /// What a container's config asks for.
    fn pending(&self, annotations: serde_json::Value) -> Pending {
        let spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "annotations": annotations,
            "linux": {"resources": {
                "devices": [{"allow": true}], "memory": {"limit": 4096}, "pids": {"limit": 7}, "unified": {"memory.oom.group": "1"},
            }},
        }))
        .unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().as_ref();
        *self.group.clone().described(&spec, resources, None).unwrap().pending.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.base).unwrap();
    }
}

const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

#[test]
fn a_scope_is_made_with_its_process_changed_and_stopped() {
    let answers = [
        Answer::Text("252.38-1~deb12u1"),
        Answer::Error(EXISTS),
        Answer::Done,
        Answer::Job("done"),
        Answer::Done,
        Answer::Job("canceled"),
        Answer::Error("org.freedesktop.systemd1.NoSuchUnit"),
    ];
    let (service, host) = (Service::new(&answers, true), Host::new());
    let mut manager = service.manager();
    let annotations = json!({"org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.Description": "'mine'", "other": "x"});
    start(&mut manager, &host.place(), host.unit(), &host.pending(annotations), 4711).unwrap();
    assert_eq!((host.read("memory.max"), host.read("pids.max"), host.read("memory.oom.group")), ("4096".into(), "7".into(), "1".into()));
    let limits: LinuxResources = serde_json::from_value(json!({"memory": {"limit": -1}, "cpu": {"cpus": "1"}})).unwrap();
    change(&mut manager, &host.place(), host.unit(), &limits).unwrap();
    manager.stop("p-x.scope").unwrap();
    drop(manager);
    let started = "StartTransientUnit p-x.scope replace {Slice='a-b.slice', Delegate=1, PIDs=[4711], CPUAccounting=1, MemoryAccounting=1, \
                   TasksAccounting=1, IOAccounting=1, DefaultDependencies=0, DevicePolicy='auto', DeviceAllow=[], MemoryMax=4096, TasksMax=7, \
                   OOMPolicy='kill', CollectMode='inactive-or-failed', Description='mine'}";
    let rule = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
    assert_eq!(
        service.calls(),
        [
            "Hello",
            &format!("AddMatch {rule}"),
            "Get org.freedesktop.systemd1.Manager Version",
            started,
            "ResetFailedUnit p-x.scope",
            started,
            "SetUnitProperties p-x.scope 1 {MemoryMax=18446744073709551615, MemorySwapMax=18446744073709551615, AllowedCPUs=[2]}",
            "StopUnit p-x.scope replace",
            "ResetFailedUnit p-x.scope",
        ]
    );
}

#[test]
fn what_systemd_refuses_is_named() {
    let (service, host) = (Service::new(&[Answer::Text("252"), Answer::Job("failed"), Answer::Done], false), Host::new());
    let mut manager = service.manager();
    let error = start(&mut manager, &host.place(), host.unit(), &host.pending(json!({})), 1).unwrap_err();
    assert_eq!(error.to_string(), "cannot start systemd unit p-x.scope");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the job ended with \"failed\"");
    drop(manager);
    assert_eq!(service.calls().last().unwrap(), "ResetFailedUnit p-x.scope");
    let service = Service::new(&[Answer::Text("252"), Answer::Error("org.freedesktop.DBus.Error.AccessDenied")], false);
    let error = start(&mut service.manager(), &host.place(), host.unit(), &host.pending(json!({})), 1).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "it says why (org.freedesktop.DBus.Error.AccessDenied)");
    service.calls();
    // A limit that could not be set leaves no unit behind.
    let answers = [Answer::Text("252"), Answer::Job("done"), Answer::Job("done"), Answer::Done];
    let service = Service::new(&answers, false);
    fs::remove_file(host.base.join(&host.group.path[1..]).join("pids.max")).unwrap();
    let error = start(&mut service.manager(), &host.place(), host.unit(), &host.pending(json!({})), 1).unwrap_err();
    assert_eq!(error.to_string(), "cannot set pids.max to 7 for /a.slice/a-b.slice/p-x.scope");
    assert!(service.calls().iter().any(|call| call == "StopUnit p-x.scope replace"));
}

#[test]
fn a_bus_that_is_not_there_or_talks_nonsense_is_an_error() {
    let nowhere = Manager::connect(&Address::Bus("unix:path=/nowhere/at/all".to_owned())).unwrap_err();
    assert_eq!(nowhere.to_string(), "cannot connect to unix:path=/nowhere/at/all");
    assert!(Manager::connect(&Address::Bus("tcp:host=x".to_owned())).is_err());
    let dir = std::env::temp_dir().join(format!("rcon-bus-{}", crate::base::random_hex(16)));
    fs::create_dir(&dir).unwrap();
    let listener = UnixListener::bind(dir.join("s")).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        greet(&mut stream);
        next(&mut stream).unwrap();
        stream.write_all(b"no message of any kind at all").unwrap();
    });
    let mut manager = Manager::connect(&Address::Direct(dir.join("s").display().to_string())).unwrap();
    assert!(matches!(manager.version(), Err(BusError::Malformed)));
    thread.join().unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn units_are_written_down_and_a_slice_is_where_its_name_says() {
    let unit = Unit { name: "a-b.slice".to_owned(), slice: "system.slice".to_owned(), user: true };
    let group = group(unit, "/user.slice/user-1.slice/user@1.service/");
    assert_eq!(group.path, "/user.slice/user-1.slice/user@1.service/a.slice/a-b.slice");
    let kept: Group = serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
    assert_eq!(kept, group);
    assert!(group.clone_fd().is_none());
}
