//! Terminals: detach keys, sizes, and who keeps a terminal open when nobody is attached.

use crate::environment::Environment;
use crate::outcome::eventually;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Child;

/// A command of ours on a terminal.
struct Session {
    child: Child,
    master: File,
    seen: String,
}

impl Session {
    fn new(engine: &Environment, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = || OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let child = engine.command(args).stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        Session { child, master: master.into(), seen: String::new() }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Reads until the text was shown.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.seen.contains(text) {
            assert!(std::time::Instant::now() < deadline, "no «{text}» in «{}»", self.seen);
            let mut fds = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let timeout = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            if rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0 {
                let mut buffer = [0u8; 4096];
                let count = self.master.read(&mut buffer).unwrap_or(0);
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }

    fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn exec_detaches_by_its_keys_and_goes_on() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let script = "echo ready; read x; echo got $x > /got; stty size > /size; while :; do echo alive; sleep 0.05; done";
    let mut session = Session::new(&engine, &["exec", "-it", "--detach-keys", "ctrl-a,d", "web", "sh", "-c", script], (90, 30));
    session.until("ready");
    session.type_keys(b"word\n");
    session.until("alive");
    session.type_keys(b"\x01d");
    assert_eq!(session.code(), 0);
    assert_eq!(engine.rcon(&["exec", "web", "cat", "/got", "/size"]).ok(), "got word\n30 90");
    assert!(engine.rcon(&["top", "web"]).ok().contains("echo alive"), "it goes on");
    // Nor does a detached one with a terminal hang up.
    engine.rcon(&["exec", "-d", "-t", "web", "sh", "-c", "tty > /tty; echo out; exec sleep 555"]).ok();
    eventually("its terminal", || engine.rcon(&["exec", "web", "cat", "/tty"]).out.starts_with("/dev/"));
    assert!(engine.rcon(&["top", "web"]).ok().contains("sleep 555"));
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
}

#[test]
fn attach_detaches_resizes_and_shares_the_terminal() {
    let engine = Environment::new();
    let mut first = Session::new(&engine, &["run", "-it", "--name", "sh", "busybox", "sh"], (91, 31));
    first.until("#");
    first.type_keys(b"stty size\n");
    first.until("31 91");
    // ctrl-p is held back until the next key decides.
    first.type_keys(b"\x10\x11");
    assert_eq!(first.code(), 0);
    assert_eq!(engine.see("sh", "{{.State.Status}}"), "running");
    let clients = 5;
    let mut sessions: Vec<Session> = (0..clients).map(|_| Session::new(&engine, &["attach", "sh"], (80, 24))).collect();
    for session in &mut sessions {
        session.type_keys(b"\n");
        session.until("#");
    }
    sessions[0].type_keys(b"echo to-$((40+2))-all\n");
    for session in &mut sessions {
        session.until("to-42-all");
    }
    sessions[1].type_keys(b"\x10\x11");
    assert_eq!(sessions.remove(1).code(), 0);
    // The keys of config.json.
    std::fs::create_dir_all(engine.root.join("home/.docker")).unwrap();
    std::fs::write(engine.root.join("home/.docker/config.json"), r#"{"detachKeys": "ctrl-x,x"}"#).unwrap();
    let mut own = Session::new(&engine, &["attach", "sh"], (80, 24));
    own.type_keys(b"\n");
    own.until("#");
    own.type_keys(b"\x18x");
    assert_eq!(own.code(), 0);
    sessions[0].type_keys(b"exit 7\n");
    for session in sessions {
        assert_eq!(session.code(), 7);
    }
}
