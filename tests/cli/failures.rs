//! Wrong input and failing steps: the right code, a message that names the object, nothing left.

use crate::environment::{Environment, eventually};

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
    engine.rcon(&["run", "--rm", "--volumes-from", "nobody", "busybox", "true"]).fails(125, "no such container: nobody");
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
    engine.rcon(&["volume", "rm", "ghost"]).fails(1, "no such volume");
    engine.rcon(&["ps", "--filter", "colour=red"]).fails(1, "colour");
}

#[test]
fn a_name_is_unique_and_the_holder_is_quoted() {
    let engine = Environment::new();
    let id = engine.rcon(&["create", "--name", "web", "busybox"]).ok();
    engine.rcon(&["create", "--name", "web", "busybox"]).fails(1, &id);
    engine.rcon(&["run", "--name", "web", "busybox"]).fails(125, &id);
    engine.rcon(&["create", "--name", "-web", "busybox"]).fails(125, "-web");
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
        // `run` reserves in one transaction of its own: this step is only `create`'s.
        let verb = if point == "engine.create.recorded" { "create" } else { "run" };
        let done = engine.command(&[verb, "--name", "victim", "-p", "18080:80", "-v", "/data", "busybox", "sleep", "100"])
            .env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert!(!done.status.success(), "{point} was never reached");
        let again = engine.rcon(&["rm", "-f", "-v", "victim"]);
        assert_eq!(again.code, 0, "{point}: {}", again.err);
        assert_eq!(engine.rcon(&["run", "--rm", "--name", "victim", "-p", "18080:80", "busybox", "true"]).code, 0, "{point}: name or port still taken");
        eventually("gone", || engine.rcon(&["ps", "-aq"]).out.is_empty());
    }
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
    let left: Vec<_> = std::fs::read_dir(engine.root.join("data/containers")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The failpoints of create and start, read from the source so that a new one is tested at once.
fn engine_failpoints() -> Vec<String> {
    let mut points = Vec::new();
    for file in ["create", "start"] {
        let path = format!("{}/src/engine/container/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for part in text.split("failpoint_at(\"").skip(1) {
            points.push(part.split('"').next().unwrap().to_owned());
        }
    }
    assert!(points.len() >= 5, "failpoints were found: {points:?}");
    points
}
