//! `build` that is ended by a signal: what it says, how it exits, and that it leaves nothing.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

/// A build whose progress has come to a line that ends with these words.
struct Running {
    child: Child,
    progress: BufReader<ChildStderr>,
}

impl Running {
    fn until(lab: &Environment, dockerfile: &str, words: &str) -> Self {
        fs::create_dir_all(lab.root.join("context")).unwrap();
        fs::write(lab.root.join(dockerfile), text(dockerfile)).unwrap();
        let mut command = lab.command(&["build", "--progress", "plain", "-f", dockerfile, "context"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut progress = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut all) = (String::new(), String::new());
        while !line.trim_end().ends_with(words) {
            line.clear();
            assert_ne!(progress.read_line(&mut line).unwrap(), 0, "no «{words}» in {all}");
            all.push_str(&line);
        }
        Running { child, progress }
    }

    /// Its exit code after the signal, and what it still said.
    fn end(mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
        let mut rest = String::new();
        self.progress.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

/// The first runs until it is ended; the second waits for it, for it wants the same step, and the third for its cache.
fn text(dockerfile: &str) -> String {
    let seconds = if dockerfile == "third" { 1001 } else { 1000 };
    format!("FROM busybox\nRUN --mount=type=cache,id=one,sharing=locked,target=/cache touch /cache/left; echo begun; sleep {seconds}\n")
}

#[test]
fn a_signal_cancels_a_build_and_those_that_wait_for_it() {
    use rustix::process::Signal;
    let lab = Environment::new();
    let first = Running::until(&lab, "first", " begun");
    // Its step has no record; its link and address are no leftovers for that.
    assert!(lab.rcon(&["system", "check", "--repair"]).ok().ends_with("sound"));
    for (name, words, signal, code) in [("second", "sleep 1000", Signal::TERM, 143), ("third", "sleep 1001", Signal::INT, 130)] {
        let (ended, rest) = Running::until(&lab, name, words).end(signal);
        assert_eq!(ended, Some(code), "{rest}");
        assert!(rest.contains("CANCELED") && rest.contains("error: the build was cancelled") && !rest.contains("begun"), "{rest}");
    }
    let (ended, rest) = first.end(Signal::INT);
    assert_eq!(ended, Some(130), "{rest}");
    assert!(rest.contains("CANCELED") && rest.contains("error: the build was cancelled"), "{rest}");
    for live in ["run/containers", "data/containers", "data/build/trees"] {
        let left = fs::read_dir(lab.root.join(live)).map(|entries| entries.count());
        assert!(left.as_ref().is_ok_and(|count| *count == 0) || left.is_err(), "{live}: {left:?}");
    }
    // What it held is free, and what its cache has is still there.
    fs::write(lab.root.join("again"), "FROM busybox\nRUN --mount=type=cache,id=one,sharing=locked,target=/cache test -e /cache/left\n").unwrap();
    lab.rcon(&["build", "-q", "-f", "again", "context"]).ok();
}

#[test]
fn a_signal_cancels_the_output() {
    let lab = Environment::new();
    fs::create_dir_all(lab.root.join("context")).unwrap();
    // Longer than a pipe is: the build waits in the midst of it until it is read.
    fs::write(lab.root.join("context/long"), vec![7; 16 << 20]).unwrap();
    fs::write(lab.root.join("context/Dockerfile"), "FROM scratch\nCOPY long /\n").unwrap();
    let later = format!("type=oci,dest={}", lab.root.join("later").display());
    let arguments = ["build", "--progress", "plain", "-o", "type=oci,compression=uncompressed,dest=-", "-o", &later, "context"];
    let mut child = lab.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut archive = child.stdout.take().unwrap();
    archive.read_exact(&mut [0; 512]).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let (mut line, mut all) = (String::new(), String::new());
    while !line.contains("cancelling the build") {
        line.clear();
        assert_ne!(progress.read_line(&mut line).unwrap(), 0, "{all}");
        all.push_str(&line);
    }
    let mut rest = Vec::new();
    archive.read_to_end(&mut rest).unwrap();
    progress.read_to_string(&mut all).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{all}");
    assert!(all.contains("CANCELED") && all.contains("error: the build was cancelled"), "{all}");
    assert!(rest.len() < 16 << 20 && !lab.root.join("later").exists(), "{} bytes", rest.len());
}

#[test]
fn a_signal_cancels_an_output_that_nobody_reads() {
    use rustix::process::{Pid, Signal, kill_process};
    let lab = Environment::new();
    fs::create_dir_all(lab.root.join("context")).unwrap();
    fs::write(lab.root.join("context/long"), vec![7; 16 << 20]).unwrap();
    fs::write(lab.root.join("context/Dockerfile"), "FROM scratch\nCOPY long /\n").unwrap();
    let fifo = lab.root.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    for (output, signal, code) in [
        ("type=tar,dest=-", Signal::INT, 130),
        ("type=oci,compression=uncompressed,dest=-", Signal::TERM, 143),
        ("type=docker,compression=uncompressed,dest=-", Signal::INT, 130),
        ("type=tar,dest=fifo", Signal::TERM, 143),
    ] {
        let mut command = lab.command(&["build", "--progress", "plain", "-o", output, "context"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (archive, mut progress) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let (mut line, mut all) = (String::new(), String::new());
        while !line.contains("exporting the result") {
            line.clear();
            assert_ne!(progress.read_line(&mut line).unwrap(), 0, "{all}");
            all.push_str(&line);
        }
        // What is in the pipe stays there: soon it is full.
        let begun = || rustix::io::ioctl_fionread(&archive).unwrap() > 32 << 10;
        eventually("the archive is begun", || output.contains("fifo") || begun());
        kill_process(Pid::from_child(&child), signal).unwrap();
        eventually("the first signal ends it", || child.try_wait().unwrap().is_some());
        progress.read_to_string(&mut all).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{output}: {all}");
        assert!(all.contains("cancelling the build") && all.contains("error: the build was cancelled"), "{output}: {all}");
    }
    let left = fs::read_dir(lab.root.join("data/build/trees")).map(|entries| entries.count());
    assert!(left.as_ref().is_ok_and(|count| *count == 0) || left.is_err(), "{left:?}");
}
