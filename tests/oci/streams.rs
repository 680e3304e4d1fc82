//! Streams, terminals, signals and descriptors.

use super::lab::{Lab, Reaped};
use crate::outcome::eventually;
use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;
use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A terminal of the test: its master, and a command's streams on the other side.
struct Terminal {
    master: fs::File,
    peer: OwnedFd,
    shown: String,
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let peer = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
        let terminal = Terminal { master: fs::File::from(master), peer, shown: String::new() };
        terminal.resize(columns, rows);
        terminal
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    fn spawn(&self, mut command: Command) -> Reaped {
        let stream = || Stdio::from(self.peer.try_clone().unwrap());
        Reaped(command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap())
    }

    fn read_until(&mut self, words: &str) {
        while !self.shown.contains(words) {
            let mut buffer = [0; 4096];
            let count = self.master.read(&mut buffer).unwrap();
            assert!(count > 0, "ended before «{words}»: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.peer).unwrap().local_modes.contains(rustix::termios::LocalModes::ICANON)
    }
}

#[test]
fn without_a_terminal_the_streams_are_ours() {
    let lab = Lab::with_script("cat; echo err >&2; exit 5");
    lab.name_group("web");
    let mut child = lab.command(&["run", "web"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 40_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.as_slice()), (Some(5), 40_000, &b"err\n"[..]));
}

#[test]
fn a_terminal_in_the_foreground_is_relayed() {
    let lab = Lab::with_script("stty size; read line; echo \"<$line>\"; trap 'stty size; exit 6' WINCH; echo ready; while true; do sleep 0.05; done");
    lab.edit(|config| config["process"]["terminal"] = json!(true));
    lab.name_group("web");
    let mut terminal = Terminal::new(91, 37);
    let mut child = terminal.spawn(lab.command(&["run", "web"]));
    terminal.read_until("37 91");
    assert!(terminal.is_raw());
    terminal.master.write_all(b"typed\n").unwrap();
    terminal.read_until("<typed>");
    terminal.read_until("ready");
    terminal.resize(92, 38);
    // It is no controlling terminal of the runtime: the kernel tells nobody.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), Signal::WINCH).unwrap();
    terminal.read_until("38 92");
    assert_eq!(child.0.wait().unwrap().code(), Some(6));
    assert!(!terminal.is_raw());
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    let lab = Lab::with_container("web");
    let mut terminal = Terminal::new(93, 39);
    let mut child = terminal.spawn(lab.command(&["exec", "-t", "web", "sh", "-c", "stty size; tty; read line; echo \"<$line>\"; exit 8"]));
    terminal.read_until("39 93");
    terminal.read_until("/dev/pts/0");
    terminal.master.write_all(b"typed\n").unwrap();
    terminal.read_until("<typed>");
    assert_eq!(child.0.wait().unwrap().code(), Some(8));
    // All that was written is shown, however much it is.
    let done = lab.run(&["exec", "--tty", "web", "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done"]);
    assert_eq!(done.ok().lines().count(), 3000);
    // Ctrl-C goes to the terminal's foreground.
    let mut child = terminal.spawn(lab.command(&["exec", "-t", "web", "sh", "-c", "echo waiting; sleep 604"]));
    terminal.read_until("waiting");
    terminal.master.write_all(&[3]).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
}

#[test]
fn signals_are_passed_on() {
    let lab = Lab::with_script("trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; echo ready; while true; do sleep 0.05; done");
    lab.name_group("web");
    let out = lab.root.join("signals");
    let mut child = Reaped(lab.command(&["run", "web"]).stdout(fs::File::create(&out).unwrap()).spawn().unwrap());
    let text = || fs::read_to_string(&out).unwrap();
    eventually("ready", || text().contains("ready"));
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    eventually("hup", || text().contains("hup"));
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(9));
    lab.run(&["state", "web"]).fails(1, "does not exist");
}

#[test]
fn orphans_are_reaped_by_the_foreground_run() {
    for subreaper in [true, false] {
        let lab = Lab::with_script("sh -c 'sleep 0.1 & echo $! > /tmp/pid'; read line");
        lab.edit(|config| {
            config["root"]["readonly"] = json!(false);
            config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]);
        });
        lab.name_group("web");
        let words: &[&str] = if subreaper { &["run", "web"] } else { &["run", "--no-subreaper", "web"] };
        let mut child = Reaped(lab.command(words).stdin(Stdio::piped()).spawn().unwrap());
        let file = lab.bundle().join("rootfs/tmp/pid");
        eventually("the orphan's pid", || fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')));
        let orphan = fs::read_to_string(&file).unwrap().trim().to_owned();
        let parent = || {
            let status = fs::read_to_string(format!("/proc/{orphan}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|text| text.trim().to_owned())
        };
        let ours = child.0.id().to_string();
        eventually("the orphan is gone", || match parent() {
            None => true,
            Some(parent) => {
                assert!(subreaper || parent != ours);
                false
            }
        });
        drop(child.0.stdin.take());
        assert!(child.0.wait().unwrap().code().is_some());
    }
}

/// The descriptor and the words that somebody sends to a socket.
fn receive(listener: &UnixListener) -> (OwnedFd, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut words = [0; 64];
    let message = recvmsg(&stream, &mut [IoSliceMut::new(&mut words)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (fd.unwrap(), String::from_utf8_lossy(&words[..message.bytes]).into_owned())
}

#[test]
fn a_detached_terminal_goes_to_the_console_socket() {
    let lab = Lab::with_script("stty size; read line; echo \"<$line>\"; sleep 600");
    lab.edit(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"width": 81, "height": 21});
    });
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    lab.run(&["create", "web"]).fails(1, "without setting console socket");
    lab.run(&["run", "-d", "web"]).fails(1, "without setting console socket");
    lab.run(&["run", "--console-socket", &socket, "web"]).fails(1, "cannot use console socket");
    lab.run(&["run", "-d", "--console-socket", "/none", "web"]).fails(1, "console socket \"/none\"");
    lab.run(&["create", "--console-socket", &socket, "web"]).ok();
    let (master, words) = receive(&listener);
    assert_eq!(words, "/dev/ptmx");
    lab.run(&["start", "web"]).ok();
    let mut master = fs::File::from(master);
    let mut shown = String::new();
    let mut until = |master: &mut fs::File, words: &str| {
        while !shown.contains(words) {
            let mut buffer = [0; 256];
            let count = master.read(&mut buffer).unwrap();
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    until(&mut master, "21 81");
    master.write_all(b"typed\n").unwrap();
    until(&mut master, "<typed>");
    // The same for a further process.
    lab.run(&["exec", "-t", "-d", "web", "true"]).fails(255, "without setting console socket");
    lab.run(&["exec", "--console-socket", &socket, "web", "true"]).fails(255, "cannot use console socket");
    lab.run(&["exec", "-t", "-d", "--console-socket", &socket, "web", "sh", "-c", "echo other; sleep 605"]).ok();
    let (master, _) = receive(&listener);
    let mut buffer = [0; 64];
    let count = fs::File::from(master).read(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..count]).contains("other"));
}

#[test]
fn pidfds_go_to_their_socket() {
    let lab = Lab::with_script("sleep 600");
    let socket = lab.path("pidfd");
    let listener = UnixListener::bind(&socket).unwrap();
    let pid = |fd: &OwnedFd| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned()
    };
    lab.run(&["run", "-d", "--pidfd-socket", &socket, "web"]).ok();
    let (fd, words) = receive(&listener);
    assert_eq!((words.as_str(), pid(&fd)), ("standard", lab.state("web")["pid"].to_string()));
    let pid_file = lab.path("pid");
    lab.run(&["exec", "-d", "--pidfd-socket", &socket, "--pid-file", &pid_file, "web", "sleep", "606"]).ok();
    let (fd, words) = receive(&listener);
    assert_eq!((words.as_str(), pid(&fd)), ("setns", fs::read_to_string(pid_file).unwrap()));
}

/// A command whose descriptors from 3 on are these files.
fn with_files(mut command: Command, files: &[&str]) -> Command {
    let opened: Vec<String> = files.iter().enumerate().map(|(i, file)| format!("{}<{file}", i + 3)).collect();
    let program = command.get_program().to_owned();
    let script = format!("exec \"$0\" \"$@\" {}", opened.join(" "));
    let mut shell = Command::new("bash");
    shell.arg0("bash").args(["-c", &script]).arg(program).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.current_dir(command.get_current_dir().unwrap());
    command = shell;
    command.stdin(Stdio::null());
    command
}

#[test]
fn descriptors_are_preserved_when_they_are_open() {
    let lab = Lab::with_script("cat <&3; cat <&4; ls /proc/self/fd | wc -l; sleep 600");
    let (one, two) = (lab.path("one"), lab.path("two"));
    fs::write(&one, "1\n").unwrap();
    fs::write(&two, "2\n").unwrap();
    lab.name_group("web");
    lab.finish(lab.command(&["create", "--preserve-fds", "2", "web"])).fails(1, "--preserve-fds 2: file descriptor 3 is not open");
    let log = lab.path("log");
    lab.finish(with_files(lab.command(&["--log", &log, "create", "--preserve-fds", "3", "web"]), &[&one, &two]))
        .fails(1, "file descriptor 5 is not open");
    lab.finish(with_files(lab.command(&["run", "-d", "--preserve-fds", "2", "web"]), &[&one, &two])).ok();
    let exec = lab.command(&["exec", "--preserve-fds", "1", "web", "sh", "-c", "cat <&3; [ ! -e /proc/self/fd/4 ]"]);
    assert_eq!(lab.finish(with_files(exec, &[&two, &one])).ok(), "2");
    lab.run(&["exec", "--preserve-fds", "1", "web", "true"]).fails(255, "file descriptor 3 is not open");
}

#[test]
fn sockets_of_systemd_are_handed_on() {
    let lab = Lab::with_script("echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4; [ ! -e /proc/self/fd/5 ]");
    let (one, two) = (lab.path("one"), lab.path("two"));
    fs::write(&one, "1\n").unwrap();
    fs::write(&two, "2\n").unwrap();
    lab.name_group("web");
    let run = |words: &str, pid: &str| {
        let script = format!(
            "export LISTEN_FDS=1 LISTEN_PID={pid}; exec {} --root {} run {words} web 3<{one} 4<{two}",
            lab.path("rcon-runtime"),
            lab.state_dir().display()
        );
        let mut command = Command::new("bash");
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(lab.bundle()).stdin(Stdio::null()).args(["-c", &script]);
        lab.finish(command)
    };
    assert_eq!(run("--preserve-fds 1", "$$").ok(), "1 1\n1\n2");
    // Not ours.
    let done = run("", "1");
    assert!(done.out.starts_with('\n'), "{}", done.out);
}

/// What systemd would hear; the pipe of a barrier is closed by dropping it.
fn heard(host: &std::os::unix::net::UnixDatagram) -> String {
    let mut text = String::new();
    while !text.contains("BARRIER=1") {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut words = [0; 4096];
        let message = recvmsg(host, &mut [IoSliceMut::new(&mut words)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        // Whoever gets the pipe lets go of it.
        control.drain().for_each(drop);
        text.push_str(&String::from_utf8_lossy(&words[..message.bytes]));
    }
    text
}

#[test]
fn systemd_is_told_when_the_container_is_ready() {
    use std::os::unix::net::UnixDatagram;
    let lab = Lab::with_script("echo $NOTIFY_SOCKET; [ -S $NOTIFY_SOCKET ] && echo there; sleep 600");
    let path = lab.path("host.sock");
    let host = UnixDatagram::bind(&path).unwrap();
    host.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    // The state directory's socket is the one that the container sees.
    let speak = |id: &str| {
        let socket = lab.state_dir().join(id).join("notify/notify.sock");
        eventually("the container's socket", || socket.exists());
        let container = UnixDatagram::unbound().unwrap();
        eventually("it listens", || container.connect(&socket).is_ok());
        container.send(b"STATUS=starting\n").unwrap();
        container.send(b"MAINPID=1\nREADY=1\nSTATUS=x").unwrap();
    };
    for (verb, words) in [("run", &["run", "--detach"][..]), ("foreground", &["run"]), ("start", &["start"])] {
        if verb == "start" {
            lab.name_group(verb);
            let mut command = lab.command(&["create", verb]);
            command.env("NOTIFY_SOCKET", &path);
            lab.finish(command).ok();
        } else {
            lab.name_group(verb);
        }
        let mut command = lab.command(words);
        let out = lab.root.join(format!("said.{verb}"));
        command.arg(verb).env("NOTIFY_SOCKET", &path).stdout(fs::File::create(&out).unwrap());
        let mut child = Reaped(command.spawn().unwrap());
        speak(verb);
        assert_eq!(heard(&host), format!("READY=1\nMAINPID={}\nBARRIER=1", lab.state(verb)["pid"]));
        if verb == "foreground" {
            lab.run(&["kill", verb, "KILL"]).ok();
            assert_eq!(child.0.wait().unwrap().code(), Some(137));
        } else {
            assert!(child.0.wait().unwrap().success());
        }
        if verb != "start" {
            eventually("the container looked", || fs::read_to_string(&out).unwrap().lines().count() == 2);
            assert_eq!(fs::read_to_string(&out).unwrap(), "/run/notify/notify.sock\nthere\n");
        }
    }
    // One that ends unready keeps nobody waiting.
    lab.edit(|config| config["process"]["args"] = json!(["true"]));
    lab.name_group("short");
    let mut command = lab.command(&["run", "-d", "short"]);
    command.env("NOTIFY_SOCKET", &path);
    lab.finish(command).ok();
}
