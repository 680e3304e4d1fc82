//! Logs as users meet them: drivers, rotation, several containers, what is missing; OOM kills; the screen of `stats`.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// A container that writes numbered lines.
fn count(engine: &Environment, name: &str, options: &[&str], lines: u32) {
    let script = format!("i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done");
    let args = [&["run", "--name", name, "--network", "none"][..], options, &["busybox", "sh", "-c", &script]].concat();
    assert_eq!(engine.rcon(&args).ok().lines().count(), lines as usize);
}

#[test]
fn the_local_driver_rotates_compresses_and_reads_back() {
    let engine = Environment::new();
    count(&engine, "loc", &["--log-driver", "local", "--log-opt", "max-size=64k", "--log-opt", "max-file=4"], 10_000);
    let id = engine.see("loc", "{{.Id}}");
    let dir = engine.root.join("data/containers").join(id).join("local-logs");
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["container.log", "container.log.1.gz", "container.log.2.gz", "container.log.3.gz"]);
    let log = engine.rcon(&["logs", "loc"]).ok();
    assert!(log.ends_with("line 9999") && log.lines().count() > 1000 && log.lines().count() < 10_000);
    let first: u32 = log.lines().next().unwrap()[5..].parse().unwrap();
    assert!(log.lines().map(str::to_owned).eq((first..10_000).map(|n| format!("line {n}"))), "no line is lost or torn");
    assert_eq!(engine.rcon(&["logs", "-n", "2000", "loc"]).ok().lines().count(), 2000);
    assert_eq!(engine.see("loc", "{{.HostConfig.LogConfig.Type}} {{.State.LogLinesLost}}"), "local 0");
    let verbose = engine.rcon(&["system", "df", "-v", "--format", "{{range .Containers}}{{.Logs}}{{end}}"]).ok();
    assert!(verbose.ends_with("kB"), "{verbose}");
}

#[test]
fn details_names_colours_and_several_containers() {
    let engine = Environment::new();
    let options = ["--label", "tier=front", "--log-opt", "labels=tier", "--log-opt", "tag={{.Name}}", "--log-opt", "env=MODE", "-e", "MODE=x"];
    count(&engine, "one", &options, 2);
    count(&engine, "two", &[], 1);
    assert_eq!(engine.rcon(&["logs", "--details", "one"]).ok(), "MODE=x,tag=one,tier=front line 0\nMODE=x,tag=one,tier=front line 1");
    assert_eq!(engine.rcon(&["logs", "--names", "one", "two"]).ok(), "one line 0\none line 1\ntwo line 0");
    let short = &engine.see("two", "{{.Id}}")[..12];
    assert!(engine.rcon(&["logs", "one", "two"]).ok().ends_with(&format!("{short} line 0")));
    assert_eq!(engine.rcon(&["logs", "--color", "two"]).ok(), "\u{1b}[32mline 0\u{1b}[0m");
    assert_eq!(engine.rcon(&["logs", "-f", "--names", "one", "two"]).ok().lines().count(), 3);
    engine.rcon(&["logs", "one", "nope"]).fails(1, "nope");
}

#[test]
fn drivers_and_options_are_refused_by_name() {
    let engine = Environment::new();
    for (args, word) in [
        (&["--log-driver", "fluentd"][..], "fluentd"),
        (&["--log-driver", "bogus"], "bogus"),
        (&["--log-opt", "max-size=tiny"], "max-size"),
        (&["--log-opt", "colour=red"], "colour"),
        (&["--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://x:1"], "TLS"),
        (&["--log-driver", "none", "--log-opt", "mode=non-blocking"], "none"),
        (&["--log-opt", "max-buffer-size=1m"], "non-blocking"),
        (&["--log-opt", "tag={{.Nope}}"], "Nope"),
    ] {
        engine.rcon(&[&["run", "--rm"][..], args, &["busybox", "true"]].concat()).fails(125, word);
    }
    engine.rcon(&["run", "--log-driver", "syslog", "--log-opt", "syslog-address=unix:///nowhere", "busybox"]).fails(125, "unix:///nowhere");
    engine.rcon(&["run", "--name", "quiet", "--log-driver", "none", "busybox", "echo", "x"]).ok();
    engine.rcon(&["logs", "quiet"]).fails(1, "none");
}

#[test]
fn syslog_gets_the_lines_and_a_local_copy_stays_readable() {
    let engine = Environment::new();
    let socket = engine.root.join("log.sock");
    let receiver = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let address = format!("syslog-address=unixgram://{}", socket.display());
    let options = ["--log-driver", "syslog", "--log-opt", &address, "--log-opt", "tag={{.Name}}", "--log-opt", "syslog-facility=local0"];
    count(&engine, "far", &options, 3);
    let mut buffer = [0; 1024];
    for n in 0..3 {
        let length = receiver.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(text.starts_with("<134>") && text.contains(" far[") && text.ends_with(&format!(": line {n}")), "{text}");
    }
    assert_eq!(engine.rcon(&["logs", "far"]).ok(), "line 0\nline 1\nline 2");
}

#[test]
fn a_child_that_the_oom_killer_took_is_seen_everywhere() {
    let engine = Environment::new();
    let hog = "head -c 120m /dev/zero | tail > /dev/null; echo next; sleep 600";
    engine.rcon(&["run", "-d", "--name", "hog", "--network", "none", "--memory", "32m", "--memory-swap", "32m", "busybox", "sh", "-c", hog]).ok();
    eventually("the kill is counted", || engine.see("hog", "{{.State.OOMKilled}} {{.State.Running}}") == "true true");
    assert_eq!(engine.see("hog", "{{.State.OOMKills}}"), "1");
    assert!(engine.rcon(&["ps", "--format", "{{.Status}}"]).ok().ends_with(" (1 OOM kill)"));
    let oom = engine.rcon(&["events", "--stream=false", "-f", "event=oom"]).ok();
    assert!(oom.lines().count() == 1 && oom.contains("kills=1") && oom.contains("name=hog"), "{oom}");
    engine.rcon(&["kill", "hog"]).ok();
    assert_eq!(engine.see("hog", "{{.State.Status}} {{.State.OOMKilled}} {{.State.OOMKills}}"), "exited true 1");
}

#[test]
fn stats_follow_what_comes_and_goes() {
    let engine = Environment::new();
    assert_eq!(engine.rcon(&["stats", "--no-stream", "--format", "json"]).ok(), "", "none running");
    engine.rcon(&["run", "-d", "--name", "first", "--network", "none", "busybox", "sleep", "600"]).ok();
    let mut stats = engine.command(&["stats", "-i", "0.1", "--format", "{{.Name}} {{.PIDs}} {{.CPUPerc}}"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stats.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("first 1 "));
    engine.rcon(&["run", "-d", "--name", "second", "--network", "none", "busybox", "sleep", "600"]).ok();
    assert!(lines.by_ref().any(|line| line.starts_with("second ")));
    engine.rcon(&["rm", "-f", "second"]).ok();
    let mut firsts = 0;
    // Two samples in a row without it.
    assert!(lines.by_ref().any(|line| {
        firsts = if line.starts_with("first ") { firsts + 1 } else { 0 };
        firsts == 3
    }));
    stats.kill().unwrap();
    stats.wait().unwrap();
    engine.rcon(&["stats", "-i", "0", "first"]).fails(125, "--interval");
    engine.rcon(&["stats", "--no-stream", "nope"]).fails(1, "nope");
}
