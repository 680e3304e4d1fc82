//! Wrong input and failing steps: the right code, a message that names the object, nothing left.

use crate::environment::Environment;
use crate::outcome::eventually;

#[test]
fn exit_codes_tell_who_failed() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "busybox", "no-such-command"]).fails(127, "not found");
    engine.rcon(&["run", "--rm", "busybox", "/no/such/file"]).fails(127, "no such file");
    engine.rcon(&["run", "--rm", "busybox", "/etc"]).fails(126, "/etc");
    engine.rcon(&["run", "--rm", "busybox", "/etc/passwd"]).fails(126, "permission denied");
    engine.rcon(&["run", "--rm", "--no-such-flag", "busybox"]).fails(125, "--no-such-flag");
    engine.rcon(&["run", "--rm", "--pull", "never", "absent"]).fails(125, "absent");
    engine.rcon(&["run", "--rm", "-u", "nosuchuser", "busybox", "true"]).fails(125, "nosuchuser");
    engine.rcon(&["run", "--rm", "-m", "1m", "busybox", "true"]).fails(125, "memory");
    engine.rcon(&["run", "--rm", "--cpus", "10000", "busybox", "true"]).fails(125, "cpus");
    engine.rcon(&["run", "--rm", "--volumes-from", "nobody", "busybox", "true"]).fails(125, "No such container: nobody");
    engine.rcon(&["run", "--rm", "--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"]).fails(125, "/no/such");
    engine.rcon(&["run", "--rm", "--cap-add", "NO_SUCH", "busybox", "true"]).fails(125, "NO_SUCH");
    engine.rcon(&["run", "--rm", "--security-opt", "apparmor=none-such", "busybox", "true"]).fails(125, "apparmor");
    engine.rcon(&["run", "--rm", "-it", "busybox", "true"]).fails(1, "not a TTY");
    eventually("nothing stays", || engine.rcon(&["ps", "-aq"]).out.is_empty());
}

#[test]
fn a_failed_start_leaves_a_created_container_with_the_reason() {
    let engine = Environment::new();
    engine.rcon(&["run", "--name", "bad", "busybox", "no-such-command"]).fails(127, "no-such-command");
    assert_eq!(engine.see("bad", "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
    assert!(engine.see("bad", "{{.State.Error}}").contains("no-such-command"));
}

#[test]
fn missing_objects_are_named() {
    let engine = Environment::new();
    for verb in ["stop", "kill", "logs", "start", "pause", "wait", "top", "attach"] {
        engine.rcon(&[verb, "ghost"]).fails(1, "No such container: ghost");
    }
    engine.rcon(&["rm", "ghost"]).fails(1, "No such container: ghost");
    let forced = engine.rcon(&["rm", "-f", "ghost"]);
    assert_eq!(forced.code, 0, "{}", forced.err);
    assert!(forced.err.contains("ghost"), "{}", forced.err);
    let inspected = engine.rcon(&["inspect", "ghost"]);
    assert_eq!((inspected.code, inspected.out.trim()), (1, "[]"));
    engine.rcon(&["rmi", "ghost"]).fails(1, "No such image: ghost");
    engine.rcon(&["volume", "rm", "ghost"]).fails(1, "No such volume");
    engine.rcon(&["ps", "--filter", "colour=red"]).fails(1, "colour");
}

#[test]
fn a_name_is_unique_and_the_holder_is_quoted() {
    let engine = Environment::new();
    let id = engine.rcon(&["create", "--name", "web", "busybox"]).ok();
    engine.rcon(&["create", "--name", "web", "busybox"]).fails(1, &id);
    engine.rcon(&["run", "--name", "web", "busybox"]).fails(125, &id);
    engine.rcon(&["create", "--name", "-web", "busybox"]).fails(1, "-web");
    engine.rcon(&["run", "--name", "-web", "busybox"]).fails(125, "-web");
}

#[test]
fn several_objects_are_all_tried() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "aa", "busybox"]).ok();
    engine.rcon(&["create", "--name", "bb", "busybox"]).ok();
    let done = engine.rcon(&["rm", "aa", "ghost", "bb"]);
    assert_eq!((done.code, done.out.as_str()), (1, "aa\nbb\n"));
}

/// Dies with SIGKILL at each named step of create and start; afterwards the engine repairs itself.
#[test]
fn kill_nine_at_every_step_leaves_nothing() {
    let engine = Environment::new();
    for point in engine_failpoints() {
        // `run` reserves in one transaction of its own: this step is only `create`'s. One only set up is `container init`'s.
        let verb = if matches!(point.as_str(), "engine.create.recorded" | "engine.start.held") { "create" } else { "run" };
        let words = [verb, "--name", "victim", "-p", "18080:80", "-v", "/data", "busybox", "sleep", "1000"];
        let mut words = words.as_slice();
        if point == "engine.start.held" {
            engine.rcon(words).ok();
            words = &["container", "init", "victim"];
        }
        let done = engine.command(words).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert!(!done.status.success(), "{point} was never reached");
        let again = engine.rcon(&["rm", "-f", "-v", "victim"]);
        assert_eq!(again.code, 0, "{point}: {}", again.err);
        let next = engine.rcon(&["run", "--rm", "--name", "victim", "-p", "18080:80", "busybox", "true"]);
        assert_eq!(next.code, 0, "{point}: name or port still taken: {}", next.err);
        eventually("gone", || engine.rcon(&["ps", "-aq"]).out.is_empty());
    }
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
    let volumes = engine.root.join("data/volumes");
    assert_eq!(std::fs::read_dir(&volumes).map_or(0, Iterator::count), 0, "{}", volumes.display());
    let left: Vec<_> = std::fs::read_dir(engine.root.join("data/containers")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A monitor that does not move hides nothing and is no obstacle; what else waits for it says why.
#[test]
fn a_monitor_that_hangs_is_killed_by_a_forced_removal() {
    let engine = Environment::new();
    let id = engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let facts = std::fs::read_to_string(engine.root.join("run/containers").join(&id).join("live.json")).unwrap();
    let pid = facts.split("\"monitor_pid\":").nth(1).unwrap().split(',').next().unwrap();
    assert!(std::process::Command::new("kill").args(["-STOP", pid]).status().unwrap().success());
    assert_eq!(engine.rcon(&["ps", "--format", "{{.Names}}"]).ok(), "web");
    engine.rcon(&["rm", "-f", "web"]).ok();
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "");
    engine.rcon(&["run", "--rm", "--name", "web", "busybox", "true"]).ok();
}

#[test]
fn a_stop_during_a_start_stops_what_was_started() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "slow", "busybox", "sleep", "1000"]).ok();
    let mut starting = engine.stopped(&["start", "slow"], "engine.start.created");
    let mut stopping = engine.command(&["stop", "-t", "0", "slow"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let files = format!("/proc/{}/fd", stopping.id());
    let link = |fd: std::io::Result<std::fs::DirEntry>| std::fs::read_link(fd.unwrap().path()).unwrap_or_default();
    eventually("the stop has begun", || std::fs::read_dir(&files).unwrap().map(link).any(|to| to.ends_with("data/rcon.db")));
    assert_eq!(stopping.try_wait().unwrap(), None, "it waits for what comes of the start");
    rustix::process::kill_process(rustix::process::Pid::from_child(&starting), rustix::process::Signal::CONT).unwrap();
    assert!(starting.wait().unwrap().success() && stopping.wait().unwrap().success());
    assert_eq!(engine.see("slow", "{{.State.Status}}"), "exited");
}

/// The monitor of a start that was killed is still leaving when the next one comes, or opens the gate only then: that waits
/// for what becomes of it. A monitor whose end is recorded and whose facts are gone holds no port any more.
#[test]
fn a_start_right_after_one_that_was_killed_works() {
    let engine = Environment::new();
    for point in ["created", "gate", "started", "created=kill,monitor.leave.facts=sleep:1000", "gate=kill,monitor.gate.open=sleep:1000"] {
        let failpoint = if point.contains('=') { format!("engine.start.{point}") } else { format!("engine.start.{point}=kill") };
        engine.rcon(&["create", "--name", "web", "-p", "18082:80", "busybox", "sleep", "1000"]).ok();
        let killed = engine.command(&["start", "web"]).env("RCON_FAILPOINT", failpoint).output().unwrap();
        assert!(!killed.status.success(), "{point} was never reached");
        engine.rcon(&["start", "web"]).ok();
        assert_eq!(engine.see("web", "{{.State.Status}}"), "running", "{point}");
        engine.rcon(&["rm", "-f", "web"]).ok();
    }
}

/// A full disk: the monitor cannot write the record. The code is not lost, and the reason can be read.
#[test]
fn an_end_that_could_not_be_recorded_is_recorded_by_the_next_command() {
    let engine = Environment::new();
    let run = engine
        .command(&["run", "--name", "lost", "busybox", "sh", "-c", "exit 7"])
        .env("RCON_FAILPOINT", "engine.finish.record=error")
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(7));
    let warnings = engine.see("lost", "{{.Id}}");
    let warnings = std::fs::read_to_string(engine.root.join("data/containers").join(warnings).join("monitor.log")).unwrap();
    assert!(warnings.contains("cannot record the end"), "{warnings}");
    assert_eq!(engine.see("lost", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}"), "exited 7");
    engine.rcon(&["start", "lost"]).ok();
    assert_eq!(engine.rcon(&["wait", "lost"]).ok(), "7");
}

/// `--rm` in the foreground has ended when the next one can have its name, port and volume.
#[test]
fn runs_with_rm_follow_each_other_at_once() {
    let engine = Environment::new();
    for _ in 0..10 {
        engine.rcon(&["run", "--rm", "--name", "same", "-p", "18081:80", "-v", "/data", "busybox", "true"]).ok();
    }
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}

/// The failpoints of create and start, read from the source so that a new one is tested at once.
fn engine_failpoints() -> Vec<String> {
    let mut points = Vec::new();
    for file in ["create", "start", "gate"] {
        let path = format!("{}/src/engine/container/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("failpoint_at(\"").skip(1) {
            points.push(part.split('"').next().unwrap().to_owned());
        }
    }
    assert!(points.len() >= 5, "failpoints were found: {points:?}");
    points
}
