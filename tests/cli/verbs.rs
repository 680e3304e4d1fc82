//! Verbs that podman's users know, and corners of those that everybody uses.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::fs;

#[test]
fn files_on_the_host_running_or_not() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "web", "busybox", "sh", "-c", "cat /from-host; echo x > /made; sleep 600"]).ok();
    let path = engine.rcon(&["container", "mount", "web"]).ok();
    fs::write(format!("{path}/from-host"), "hello\n").unwrap();
    assert_eq!(engine.rcon(&["container", "mount", "web"]).ok(), path, "a second time it is the same");
    assert!(engine.rcon(&["container", "mount"]).ok().contains(&path));
    engine.rcon(&["start", "web"]).ok();
    eventually("the file on the mount of the host", || fs::read_to_string(format!("{path}/made")).is_ok_and(|text| text == "x\n"));
    eventually("its line is logged", || engine.rcon(&["logs", "web"]).ok() == "hello");
    engine.rcon(&["container", "umount", "web"]).ok();
    engine.rcon(&["container", "umount", "web"]).fails(1, "not mounted");
    assert_eq!(engine.rcon(&["exec", "web", "cat", "/made"]).ok(), "x", "the container keeps its own");
    let path = engine.rcon(&["container", "mount", "web"]).ok();
    fs::write(format!("{path}/late"), "y").unwrap();
    assert_eq!(engine.rcon(&["exec", "web", "cat", "/late"]).ok(), "y");
    let killed = engine.command(&["container", "mount", "web"]).env("RCON_FAILPOINT", "engine.mount.directory=kill").output().unwrap();
    assert!(killed.status.success(), "it is mounted already");
    engine.rcon(&["rm", "-f", "web"]).ok();
    assert!(!std::path::Path::new(&path).exists(), "rm unmounts");
    engine.rcon(&["create", "--name", "idle", "busybox"]).ok();
    let killed = engine.command(&["container", "mount", "idle"]).env("RCON_FAILPOINT", "engine.mount.directory=kill").output().unwrap();
    assert!(!killed.status.success());
    assert_eq!(engine.rcon(&["container", "mount"]).ok(), "");
    engine.rcon(&["container", "mount", "idle"]).ok();
}

#[test]
fn a_clone_has_the_settings_and_none_of_the_changes() {
    let engine = Environment::new();
    engine
        .rcon(&[
            "run",
            "--name",
            "one",
            "-e",
            "A=1",
            "-v",
            "named:/named",
            "-v",
            "/anonymous",
            "--memory",
            "32m",
            "busybox",
            "sh",
            "-c",
            "echo x >> /f; cat /f; hostname; echo $A",
        ])
        .ok();
    let id = engine.rcon(&["container", "clone", "--memory", "64m", "one"]).ok();
    assert_eq!(engine.rcon(&["start", "-a", "one-clone"]).ok(), format!("x\n{}\n1", &id[..12]));
    assert_eq!(engine.see("one-clone", "{{.HostConfig.Memory}}"), (64u64 << 20).to_string());
    let volumes = |name: &str| engine.see(name, "{{range .Mounts}}{{.Name}} {{end}}");
    let (first, second) = (volumes("one"), volumes("one-clone"));
    assert!(first.contains("named") && second.contains("named") && first != second);
    engine.rcon(&["container", "clone", "one", "one-clone"]).fails(1, "already in use");
    engine.rcon(&["container", "clone", "one"]).ok();
    assert_eq!(engine.see("one-clone1", "{{.State.Status}}"), "created");
    let killed = engine.command(&["container", "clone", "one", "third"]).env("RCON_FAILPOINT", "engine.clone.volumes=kill").output().unwrap();
    assert!(!killed.status.success());
    engine.rcon(&["container", "clone", "--destroy", "--run", "one", "third"]).ok();
    engine.rcon(&["inspect", "one"]).fails(1, "No such");
    assert_eq!(engine.rcon(&["wait", "third"]).ok(), "0");
    engine.rcon(&["rm", "-v", "third", "one-clone", "one-clone1"]).ok();
    engine.rcon(&["volume", "prune", "-f"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "named");
}

/// Waits until a `wait` has said to the container's monitor that it listens: it is connected and sleeps, and after that the
/// monitor, which the connection has woken, sleeps again.
fn listens(engine: &Environment, wait: &std::process::Child, name: &str) {
    let facts = engine.root.join("run/containers").join(engine.see(name, "{{.Id}}")).join("live.json");
    let facts: serde_json::Value = serde_json::from_slice(&fs::read(facts).unwrap()).unwrap();
    let sleeps = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().rsplit_once(')').unwrap().1.starts_with(" S");
    let (wait, monitor) = (wait.id().to_string(), facts["monitor_pid"].to_string());
    let open = |fd: std::io::Result<fs::DirEntry>| fs::read_link(fd.unwrap().path()).unwrap_or_default();
    let connected = || fs::read_dir(format!("/proc/{wait}/fd")).unwrap().map(open).any(|link| link.to_string_lossy().starts_with("socket:"));
    eventually("it listens to the monitor", || connected() && sleeps(&wait) && sleeps(&monitor));
}

#[test]
fn waiting_for_a_state() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "web", "busybox", "sh", "-c", "sleep 600"]).ok();
    let mut waits = engine.command(&["wait", "--condition", "running", "-i", "5ms", "web"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    engine.rcon(&["start", "web"]).ok();
    assert!(waits.wait().unwrap().success());
    let removed = engine.command(&["wait", "--condition", "removed", "-i", "5ms", "web"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    listens(&engine, &removed, "web");
    engine.rcon(&["kill", "web"]).ok();
    assert_eq!(engine.rcon(&["wait", "--condition", "exited", "web"]).ok(), "137");
    engine.rcon(&["rm", "web"]).ok();
    assert!(removed.wait_with_output().unwrap().status.success());
    engine.rcon(&["wait", "--condition", "someday", "web"]).fails(125, "someday");
    assert_eq!(engine.rcon(&["wait", "--ignore", "web"]).ok(), "-1");
}

#[test]
fn waiting_tells_the_code_of_the_run_that_ended() {
    let engine = Environment::new();
    let script = "mkfifo /go; read line < /go; exit 7";
    // By its policy it lives on at once, by --rm there is nothing left: between two looks at the record the code is gone.
    for (condition, kept) in [("next-exit", "--restart=always"), ("removed", "--rm")] {
        engine.rcon(&["run", "-d", "--name", "web", kept, "busybox", "sh", "-c", script]).ok();
        let mut wait = engine.command(&["wait", "--condition", condition, "-i", "2s", "web"]);
        let wait = wait.stdout(std::process::Stdio::piped()).spawn().unwrap();
        listens(&engine, &wait, "web");
        engine.rcon(&["exec", "-d", "web", "sh", "-c", "echo go > /go"]).ok();
        assert_eq!(String::from_utf8(wait.wait_with_output().unwrap().stdout).unwrap(), "7\n", "{condition}");
        engine.rcon(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn lists_and_columns() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "bb", "-p", "8081:80", "--restart", "always", "-u", "1000", "busybox", "sleep", "600"]).ok();
    engine.rcon(&["create", "--name", "aa", "-l", "k=v", "busybox", "true"]).ok();
    let names = |flags: &[&str]| engine.rcon(&[&["ps", "--format", "{{.Names}}"], flags].concat()).ok().replace('\n', " ");
    assert_eq!(
        (names(&["-a"]), names(&["-a", "--sort", "names"]), names(&["-l"]), names(&["-n", "1"])),
        ("aa bb".into(), "aa bb".into(), "aa".into(), "aa".into())
    );
    assert_eq!(names(&["-a", "--sort", "created"]), "bb aa");
    assert_eq!(
        (names(&["-a", "-f", "restart-policy=always"]), names(&["-a", "-f", "command=true"]), names(&["-a", "-f", "label!=k"])),
        ("bb".into(), "aa".into(), "bb".into())
    );
    assert_eq!((names(&["-a", "-f", "until=1h"]), names(&["-a", "-f", "is-task=true"])), (String::new(), String::new()));
    engine.rcon(&["ps", "--sort", "colour"]).fails(125, "colour");
    engine.rcon(&["ps", "-f", "restart-policy=x"]).fails(1, "restart-policy=x");
    let pid = engine.see("bb", "{{.State.Pid}}");
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let shown = engine.rcon(&["ps", "--ns", "--format", "{{.Pid}} net:[{{.NET}}]"]).ok();
    assert_eq!(shown, format!("{pid} {}", net.display()));
    assert_eq!(engine.rcon(&["port", "-a"]).ok().split('\t').nth(1), Some("80/tcp -> 0.0.0.0:8081"));
    let top = engine.rcon(&["top", "bb", "user,pid,hpid", "comm"]).ok();
    let row: Vec<&str> = top.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["example", "1", &pid, "sleep"], "as the container calls its users");
    assert!(engine.rcon(&["top", "bb", "-o", "pid,comm"]).ok().contains(&pid));
    engine.rcon(&["create", "--name", "cc", "busybox"]).ok();
    engine.rcon(&["cp", "bb:/etc/passwd", "cc:/copied"]).ok();
    assert_eq!(engine.rcon(&["cp", "cc:/copied", "-"]).code, 0);
    engine.rcon(&["cp", "x", "y"]).fails(1, "container");
}

#[test]
fn verbs_for_all_or_for_what_a_filter_meets() {
    let engine = Environment::new();
    for (name, label) in [("one", "kind=web"), ("two", "kind=web"), ("three", "kind=db")] {
        engine.rcon(&["create", "--name", name, "--label", label, "busybox", "sleep", "600"]).ok();
    }
    let names = |filter: &str| engine.rcon(&["ps", "--sort", "names", "--filter", filter, "--format", "{{.Names}}"]).ok().replace('\n', " ");
    assert_eq!(engine.rcon(&["start", "--filter", "label=kind=web"]).ok().lines().count(), 2);
    assert_eq!(names("status=running"), "one two");
    engine.rcon(&["start", "--all"]).ok();
    engine.rcon(&["start", "--all"]).ok();
    assert_eq!(names("status=running"), "one three two");
    engine.rcon(&["pause", "-a"]).ok();
    engine.rcon(&["unpause", "--filter", "label=kind=db"]).ok();
    assert_eq!(names("status=paused"), "one two");
    engine.rcon(&["unpause", "-a"]).ok();
    engine.rcon(&["stop", "-t", "0", "--filter", "label=kind=web"]).ok();
    let before = engine.see("three", "{{.State.Pid}}");
    assert_eq!(engine.rcon(&["restart", "-t", "0", "--running"]).ok().lines().count(), 1);
    assert_eq!(engine.rcon(&["restart", "-t", "0", "--running", "one"]).ok(), "", "it does not run");
    assert_eq!(names("status=running"), "three");
    assert_ne!(engine.see("three", "{{.State.Pid}}"), before);
    engine.rcon(&["rm", "-t", "0", "three"]).fails(125, "--time needs --force");
    assert_eq!(engine.rcon(&["rm", "-f", "-t", "0", "three"]).ok(), "three");
    for verb in ["stop", "start", "rm", "pause"] {
        engine.rcon(&[verb, "--filter", "label=kind=web", "one"]).fails(125, "conflicting options: --");
    }
    engine.rcon(&["stop", "--filter", "kind=web"]).fails(1, "invalid filter \"kind\"");
    engine.rcon(&["rm", "--filter", "label=kind=web"]).ok();
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "");
    engine.rcon(&["restart"]).fails(1, "CONTAINER is missing");
}
