//! create, start, run, state, kill, delete, list, ps, pause, resume.

use super::lab::Lab;
use crate::outcome::eventually;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_container_goes_through_every_phase() {
    let lab = Lab::with_script("sleep 600");
    lab.edit(|config| config["annotations"] = json!({"org.example.key": "value"}));
    let pid_file = lab.path("pid");
    lab.run(&["create", "--pid-file", &pid_file, "web"]).ok();
    let state = lab.state("web");
    let bundle = fs::canonicalize(lab.bundle()).unwrap();
    assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
    assert_eq!((state["status"].as_str(), state["id"].as_str(), state["owner"].as_str()), (Some("created"), Some("web"), Some("root")));
    assert_eq!((state["bundle"].as_str(), state["rootfs"].as_str()), (bundle.to_str(), bundle.join("rootfs").to_str()));
    assert_eq!((&state["annotations"]["org.example.key"], &state["ociVersion"]), (&json!("value"), &json!("1.3.0")));
    lab.run(&["create", "web"]).fails(1, "container with id exists");
    lab.run(&["resume", "web"]).fails(1, "container not paused");
    lab.run(&["start", "web"]).ok();
    assert_eq!(lab.status("web"), "running");
    lab.run(&["start", "web"]).fails(1, "cannot start an already running container");
    lab.run(&["delete", "web"]).fails(1, "cannot delete container web that is not stopped: running");
    lab.run(&["pause", "web"]).ok();
    assert_eq!(lab.status("web"), "paused");
    lab.run(&["pause", "web"]).fails(1, "container not running");
    lab.run(&["delete", "web"]).fails(1, "cannot delete container web that is not stopped: paused");
    lab.run(&["resume", "web"]).ok();
    assert_eq!(lab.status("web"), "running");
    lab.run(&["kill", "web", "KILL"]).ok();
    lab.await_status("web", "stopped");
    assert_eq!(lab.state("web")["pid"], 0);
    lab.run(&["kill", "web"]).fails(1, "container not running");
    lab.run(&["start", "web"]).fails(1, "cannot start a container that has stopped");
    lab.run(&["pause", "web"]).fails(1, "container not running");
    lab.run(&["update", "--memory", "20m", "web"]).fails(1, "container not running");
    lab.run(&["exec", "web", "true"]).fails(255, "cannot exec in a stopped container");
    lab.run(&["delete", "web"]).ok();
    lab.run(&["state", "web"]).fails(1, "does not exist");
    lab.run(&["delete", "web"]).fails(1, "does not exist");
    lab.run(&["delete", "--force", "web"]).ok();
}

#[test]
fn what_does_not_exist_is_said_by_every_verb() {
    let lab = Lab::new();
    for verb in ["delete", "kill", "pause", "ps", "resume", "start", "state", "update"] {
        lab.run(&[verb, "none"]).fails(1, "container \"none\" does not exist");
    }
    lab.run(&["exec", "none", "true"]).fails(255, "container \"none\" does not exist");
    for bad in ["../x", "a/b", "..", ".", "a b", ""] {
        lab.run(&["state", bad]).fails(1, "container id");
        lab.run(&["create", bad]).fails(1, "container id");
    }
    assert!(!lab.state_dir().exists());
    lab.run(&["create", "--bundle", "/nowhere", "x"]).fails(1, "/nowhere");
    fs::remove_file(lab.bundle().join("config.json")).unwrap();
    lab.finish(lab.command(&["create", "x"])).fails(1, "config.json not found");
}

#[test]
fn run_ends_as_its_process_does() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$; sleep 1", 137), ("kill -TERM $$; sleep 1", 143)] {
        // The first process of a pid namespace takes no signal from within.
        let lab = Lab::with_script(&format!("exec 2>/dev/null; sh -c '{script}'; exit $?"));
        let done = lab.run(&["run", "web"]);
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{script}");
        lab.run(&["state", "web"]).fails(1, "does not exist");
    }
    let lab = Lab::with_script("echo out; echo err >&2; exit 3");
    let done = lab.run(&["run", "--keep", "web"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (3, "out\n", "err\n"));
    assert_eq!(lab.status("web"), "stopped");
    lab.edit(|config| config["process"]["args"] = json!(["/bin/none"]));
    lab.run(&["run", "other"]).fails(1, "no such file or directory");
    lab.edit(|config| config["process"]["args"] = json!(["none"]));
    lab.run(&["run", "other"]).fails(1, "exec: \"none\": executable file not found in $PATH");
    lab.run(&["state", "other"]).fails(1, "does not exist");
}

#[test]
fn a_detached_run_returns_at_once() {
    let lab = Lab::with_script("sleep 600");
    let pid_file = lab.path("pid");
    lab.run(&["run", "--detach", "--pid-file", &pid_file, "web"]).ok();
    assert_eq!((lab.status("web").as_str(), lab.state("web")["pid"].to_string()), ("running", fs::read_to_string(pid_file).unwrap()));
}

#[test]
fn a_created_container_is_deleted_without_force() {
    let lab = Lab::with_script("sleep 600");
    lab.run(&["create", "web"]).ok();
    lab.run(&["delete", "web"]).ok();
    lab.run(&["create", "web"]).ok();
    lab.run(&["kill", "web", "KILL"]).ok();
    lab.await_status("web", "stopped");
    lab.run(&["start", "web"]).fails(1, "cannot start a container that has stopped");
    lab.run(&["delete", "web"]).ok();
    lab.run(&["run", "-d", "web"]).ok();
    lab.run(&["pause", "web"]).ok();
    lab.run(&["delete", "-f", "web"]).ok();
}

#[test]
fn signals_have_names_and_numbers() {
    let lab = Lab::with_container("web");
    let mark = lab.bundle().join("rootfs/tmp/usr1");
    for spelled in ["USR1", "SIGUSR1", "sigusr1", "usr1", "10"] {
        lab.run(&["kill", "web", spelled]).ok();
        eventually(spelled, || mark.exists());
        fs::remove_file(&mark).unwrap();
    }
    lab.run(&["kill", "--all", "web", "USR1"]).ok();
    eventually("all", || mark.exists());
    for bad in ["NOPE", "65", "-1", "SIG", "1x"] {
        lab.run(&["kill", "web", bad]).fails(1, "signal");
    }
    lab.run(&["kill", "web", "0"]).ok();
    lab.run(&["kill"]).fails(1, "ID");
    lab.run(&["kill", "web"]).ok();
    lab.await_status("web", "stopped");
    lab.run(&["kill", "web", "0"]).fails(1, "container not running");
    lab.run(&["kill", "-a", "web", "KILL"]).ok();
}

/// The program that a pid belongs to.
fn program(pid: i64) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

#[test]
fn without_a_pid_namespace_kill_reaches_every_process() {
    let lab = Lab::with_script("sleep 601 & exec sleep 602");
    let namespaces = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]);
    lab.edit(|config| config["linux"]["namespaces"] = namespaces);
    lab.run(&["run", "-d", "web"]).ok();
    let pids = || -> Vec<i64> { serde_json::from_str(&lab.run(&["ps", "-f", "json", "web"]).ok()).unwrap() };
    eventually("two processes", || pids().len() == 2 && pids().iter().all(|pid| program(*pid).as_deref() == Some("sleep\n")));
    let before = pids();
    lab.run(&["kill", "web", "KILL"]).ok();
    eventually("all are gone", || before.iter().all(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()));
    lab.run(&["delete", "web"]).ok();
}

#[test]
fn containers_are_listed() {
    let lab = Lab::with_script("sleep 600");
    assert_eq!(lab.run(&["list"]).ok(), "ID          PID         STATUS      BUNDLE      CREATED     OWNER");
    assert_eq!((lab.run(&["list", "-f", "json"]).ok().as_str(), lab.run(&["list", "-q"]).ok().as_str()), ("[]", ""));
    lab.run(&["run", "-d", "two"]).ok();
    lab.run(&["create", "one"]).ok();
    assert_eq!(lab.run(&["list", "--quiet"]).ok(), "one\ntwo");
    let list: Value = serde_json::from_str(&lab.run(&["list", "-format=json"]).ok()).unwrap();
    assert_eq!((&list[0], &list[1]), (&lab.state("one"), &lab.state("two")));
    let table = lab.run(&["list", "--format", "table"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((rows[1][0], rows[1][2], rows[1][5], rows.len()), ("one", "created", "root", 3));
    lab.run(&["list", "-f", "bad"]).fails(1, "bad");
    // What is no container, or a broken one, hides no other.
    fs::create_dir(lab.state_dir().join("broken")).unwrap();
    fs::write(lab.state_dir().join("broken/state.json"), "{").unwrap();
    fs::write(lab.state_dir().join("file"), "").unwrap();
    let done = lab.run(&["list", "-q"]);
    assert!(done.err.contains("broken"), "{}", done.err);
    assert_eq!(done.ok(), "one\ntwo");
    fs::remove_file(lab.state_dir().join("file")).unwrap();
    fs::remove_dir_all(lab.state_dir().join("broken")).unwrap();
}

#[test]
fn processes_are_shown() {
    let lab = Lab::with_container("web");
    let pid = lab.state("web")["pid"].to_string();
    let table = lab.run(&["ps", "web"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!((rows[1][0], rows[1][1]), ("root", pid.as_str()));
    let pids: Vec<i64> = serde_json::from_str(&lab.run(&["ps", "--format", "json", "web"]).ok()).unwrap();
    assert!(pids.iter().any(|number| number.to_string() == pid));
    let table = lab.run(&["ps", "web", "-o", "pid,comm"]).ok();
    assert!(table.lines().any(|line| line.split_whitespace().eq([pid.as_str(), "sh"])), "{table}");
    lab.run(&["ps", "web", "-o", "comm"]).fails(1, "shows no PID column");
    lab.run(&["ps", "-f", "bad", "web"]).fails(1, "bad");
}

#[test]
fn keyrings_and_roots_are_made_as_asked() {
    let lab = Lab::with_script("cat /proc/self/mountinfo | head -1 | cut -d' ' -f5; ls / | grep -c rootfs");
    let done = lab.run(&["run", "--no-pivot", "web"]);
    assert_eq!((done.err.as_str(), done.out.lines().last()), ("", Some("0")), "{}", done.out);
    // The name of the session keyring is the container's id; the kernel's list of keys is masked in the example config.
    let name = format!("keyed-{}", std::process::id());
    lab.edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["process"]["args"] = json!(["sh", "-c", format!("grep -c {name} /proc/keys")]);
    });
    assert_eq!(lab.run(&["run", "--no-new-keyring", &name]).out.trim(), "0");
    assert_eq!(lab.run(&["run", &name]).out.trim(), "1");
}
