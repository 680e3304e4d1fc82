//! The event journal: what is written, what filters choose, following, surviving kills.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// `TYPE ACTION` of the events that are kept.
fn told(engine: &Environment, filters: &[&str]) -> Vec<String> {
    let mut args = vec!["events", "--stream=false", "--format", "{{.Type}} {{.Action}}"];
    args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    engine.rcon(&args).ok().lines().map(str::to_owned).collect()
}

#[test]
fn the_life_of_a_container_is_told_in_dockers_words() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--label", "tier=front", "-v", "data:/data", "busybox", "sleep", "600"]).ok();
    engine.rcon(&["pause", "web"]).ok();
    engine.rcon(&["unpause", "web"]).ok();
    engine.rcon(&["exec", "web", "true"]).ok();
    engine.rcon(&["rename", "web", "shop"]).ok();
    engine.rcon(&["stop", "-t", "0", "shop"]).ok();
    engine.rcon(&["rm", "-v", "shop"]).ok();
    engine.rcon(&["volume", "rm", "data"]).ok();
    let expected = [
        "image load",
        "volume create",
        "container create",
        "network connect",
        "volume mount",
        "container start",
        "container pause",
        "container unpause",
        "container exec_create: true",
        "container exec_start: true",
        "container exec_die",
        "container rename",
        "container kill",
        "container die",
        "network disconnect",
        "volume unmount",
        "container stop",
        "container destroy",
        "volume destroy",
    ];
    assert_eq!(told(&engine, &[]), expected);
    assert_eq!(told(&engine, &["type=volume"]).len(), 4);
    assert_eq!(told(&engine, &["event=die", "event=stop"]), ["container die", "container stop"]);
    assert_eq!(told(&engine, &["container=shop", "label=tier=front"]).len(), 5, "what happened under the new name");
    assert_eq!(told(&engine, &["label=tier=back"]).len(), 0);
    let die = engine.rcon(&["events", "--stream=false", "--filter", "event=die"]).ok();
    assert!(die.contains("exitCode=137") && die.contains("image=busybox, name=shop, tier=front)") && die.contains("execDuration="), "{die}");
    let json = engine.rcon(&["events", "--stream=false", "--filter", "event=kill", "--format", "json"]).ok();
    assert!(json.starts_with("{\"status\":\"kill\",\"id\":\"") && json.contains("\"signal\":\"9\""), "{json}");
    engine.rcon(&["events", "--filter", "colour=red"]).fails(1, "invalid filter \"colour\"");
    engine.rcon(&["events", "--since", "yesterday"]).fails(1, "yesterday");
    for format in ["table", "table {{.ID}}"] {
        engine.rcon(&["events", "--stream=false", "--format", format]).fails(1, "no table");
    }
}

#[test]
fn a_follower_sees_each_event_and_ends_at_until() {
    let engine = Environment::new();
    let mut follower = engine
        .command(&["events", "--since", "1h", "--format", "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}", "-f", "type=container"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(engine.rcon(&["run", "--rm", "busybox", "sh", "-c", "exit 3"]).code, 3);
    let seen: Vec<String> = lines.by_ref().take(5).collect();
    assert_eq!(seen, ["create ", "attach ", "start ", "die 3", "destroy "]);
    // Restarts by policy are told as well.
    engine.rcon(&["run", "-d", "--restart", "on-failure:1", "busybox", "false"]).ok();
    let seen: Vec<String> = lines.by_ref().take(5).collect();
    assert_eq!(seen, ["create ", "start ", "die 1", "start ", "die 1"]);
    follower.kill().unwrap();
    follower.wait().unwrap();
    let all = engine.rcon(&["events", "--since", "1h", "--until", "0s", "-f", "type=container", "-f", "event=die"]).ok();
    assert_eq!(all.lines().count(), 3, "{all}");
    assert_eq!(engine.rcon(&["system", "events", "--since", "0s", "--until", "0s"]).ok(), "");
}

#[test]
fn a_dead_monitor_is_told_of_by_the_next_command() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "orphan", "busybox", "sleep", "600"]).ok();
    let monitor: i32 = std::fs::read_dir(engine.root.join("run/containers"))
        .unwrap()
        .find_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("live.json")).ok())
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap()["monitor_pid"].as_i64())
        .unwrap()
        .try_into()
        .unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(monitor).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("reconciled", || engine.rcon(&["ps", "-a", "--format", "{{.State}}"]).out == "exited\n");
    let die = engine.rcon(&["events", "--stream=false", "-f", "event=die"]).ok();
    assert!(die.contains("exitCode=255") && die.contains("name=orphan"), "{die}");
    assert_eq!(told(&engine, &["type=network"]), ["network connect", "network disconnect"]);
}
