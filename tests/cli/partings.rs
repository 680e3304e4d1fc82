//! Monitors that end, or are killed, while a command speaks to them: it works, or says what is true of the container.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::process::Output;

/// Stops a command right after it has connected to a monitor.
const CONNECTED: &str = "engine.contact.connected";

/// A container's live fact that is a number.
fn fact(engine: &Environment, id: &str, name: &str) -> u32 {
    let facts = std::fs::read_to_string(engine.root.join("run/containers").join(id).join("live.json")).unwrap();
    let after = facts.split(&format!("\"{name}\":")).nth(1).unwrap();
    after.split([',', '}']).next().unwrap().parse().unwrap()
}

fn signal(pid: u32, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// What the command comes to when this process of the container was killed between its connection and its request.
fn kill_and_go_on(engine: &Environment, id: &str, words: &[&str], process: &str) -> Output {
    let (victim, monitor) = (fact(engine, id, process), fact(engine, id, "monitor_pid"));
    let child = engine.stopped(words, CONNECTED);
    signal(victim, "-KILL");
    let gone = || std::fs::read(format!("/proc/{monitor}/cmdline")).map_or(true, |line| line.is_empty());
    eventually("the monitor ends", gone);
    signal(child.id(), "-CONT");
    child.wait_with_output().unwrap()
}

#[test]
fn commands_survive_the_end_of_the_monitor_that_they_speak_to() {
    let engine = Environment::new();
    // Init: its monitor leaves as ever. The monitor: nobody records anything, and whoever stops it must rest the policy.
    let without = [("pid", "no", (137, "")), ("monitor_pid", "always", (125, "the container's monitor was killed"))];
    for (process, policy, attached) in without {
        let table: [(&[&str], (i32, &str)); 6] = [
            (&["stop", "web"], (0, "")),
            (&["kill", "web"], (0, "")),
            (&["rm", "-f", "web"], (0, "")),
            (&["restart", "-t", "0", "web"], (0, "")),
            (&["attach", "--no-stdin", "web"], attached),
            (&["healthcheck", "run", "web"], (125, "container web is not running")),
        ];
        for (words, (code, text)) in table {
            let options = ["run", "-d", "--name", "web", "--restart", policy, "--health-cmd", "true", "--health-interval", "1h"];
            let id = engine.rcon(&[&options[..], &["busybox", "sleep", "1000"]].concat()).ok();
            let done = kill_and_go_on(&engine, &id, words, process);
            let err = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(code), "{words:?} without {process}: {err}");
            assert!(err.contains(text) && !err.contains("connection"), "{words:?} without {process}: {err}");
            match words[0] {
                "restart" => assert_eq!(engine.see("web", "{{.State.Status}}"), "running"),
                "stop" | "kill" => assert_eq!(engine.see("web", "{{.State.Status}}"), "exited", "{words:?} without {process}"),
                _ => {}
            }
            engine.rcon(&["rm", "-f", "web"]).ok();
        }
    }
}

#[test]
fn a_start_of_one_that_waits_says_that_it_has_just_ended() {
    let engine = Environment::new();
    for process in ["pid", "monitor_pid"] {
        let id = engine.rcon(&["create", "--name", "web", "busybox", "sleep", "1000"]).ok();
        engine.rcon(&["container", "init", "web"]).ok();
        let done = kill_and_go_on(&engine, &id, &["start", "web"], process);
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "without {process}: {err}");
        assert!(err.contains("container web has just ended"), "without {process}: {err}");
        engine.rcon(&["start", "web"]).ok();
        engine.rcon(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn a_start_whose_monitor_is_killed_says_so_and_leaves_nothing_running() {
    let engine = Environment::new();
    for point in ["monitor.stage.begun", "monitor.gate.open", "monitor.gate.opened"] {
        let words = ["run", "-d", "--name", "web", "-p", "18083:80", "busybox", "sleep", "1000"];
        let done = engine.command(&words).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(125), "{point}: {err}");
        assert!(err.contains("its monitor was killed"), "{point}: {err}");
        assert_eq!(engine.see("web", "{{.State.Status}}"), "created", "{point}");
        engine.rcon(&["start", "web"]).ok();
        engine.rcon(&["rm", "-f", "web"]).ok();
    }
}
