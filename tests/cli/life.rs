//! What keeps a container running, and what ends it: restart policies where a monitor dies or the machine boots, stop signals,
//! a monitor that hangs.

use crate::environment::Environment;
use crate::outcome::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};

const STATE: &str = "{{.State.Status}} {{.State.ExitCode}}";

/// The pid of a container's monitor.
fn monitor(engine: &Environment, name: &str) -> Pid {
    let id = engine.see(name, "{{.Id}}");
    let text = std::fs::read(engine.root.join("run/containers").join(id).join("live.json")).unwrap();
    let live: serde_json::Value = serde_json::from_slice(&text).unwrap();
    Pid::from_raw(i32::try_from(live["monitor_pid"].as_i64().unwrap()).unwrap()).unwrap()
}

/// Kills the monitor and waits until the container is dead too.
fn kill_monitor(engine: &Environment, name: &str) {
    let pid: i32 = engine.see(name, "{{.State.Pid}}").parse().unwrap();
    let monitor = monitor(engine, name);
    kill_process(monitor, Signal::KILL).unwrap();
    let gone = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists();
    eventually("monitor and container are dead", || gone(monitor.as_raw_nonzero().get()) && gone(pid));
}

/// What the machine's sudden death and boot do: all monitors at once, and everything under the run root.
fn crash_and_boot(engine: &Environment, names: &[&str]) {
    for name in names {
        kill_monitor(engine, name);
    }
    std::fs::remove_dir_all(engine.root.join("run")).unwrap();
    engine.rcon(&["system", "boot"]).ok();
}

fn state(engine: &Environment, name: &str) -> String {
    engine.see(name, "{{.State.Status}}")
}

#[test]
fn the_next_command_brings_back_a_container_whose_monitor_was_killed() {
    let engine = Environment::new();
    let script = "echo run >> /runs; exec sleep 1000";
    engine.rcon(&["run", "-d", "--name", "back", "--restart", "on-failure", "busybox", "sh", "-c", script]).ok();
    let ran = |runs: &str| eventually(runs, || engine.rcon(&["exec", "back", "cat", "/runs"]).out == runs);
    ran("run\n");
    engine.rcon(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]).ok();
    kill_monitor(&engine, "plain");
    kill_monitor(&engine, "back");
    assert_eq!(engine.rcon(&["ps", "--format", "{{.Names}} {{.State}}"]).ok(), "back running");
    // Its files are still there.
    ran("run\nrun\n");
    assert_eq!(engine.see("plain", STATE), "exited 255");
    // A second death soon after is paused for, and `supervise` waits for it.
    kill_monitor(&engine, "back");
    engine.rcon(&["system", "supervise"]).ok();
    assert_eq!(state(&engine, "back"), "running");
}

#[test]
fn stop_and_rm_end_what_waits_for_its_policy() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "--network", "container:base", "busybox", "sleep", "1000"]).fails(125, "base");
    engine.rcon(&["run", "-d", "--name", "base", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "--network", "container:base", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["stop", "-t", "0", "base"]).ok();
    kill_monitor(&engine, "web");
    // It cannot start without the network it joins: it waits, visibly.
    engine.rcon(&["ps"]).ok();
    assert_eq!(engine.see("web", "{{.State.Status}} {{.State.Restarting}}"), "restarting true");
    assert!(engine.see("web", "{{.State.Error}}").contains("not running"));
    assert!(engine.see("web", "{{.State.NextStartAt}}").starts_with("20"));
    assert!(engine.rcon(&["ps", "--format", "{{.Status}}"]).ok().starts_with("Restarting (128)"));
    engine.rcon(&["rm", "web"]).fails(1, "restarting");
    engine.rcon(&["stop", "web"]).ok();
    assert_eq!(state(&engine, "web"), "exited");
    engine.rcon(&["start", "base"]).ok();
    engine.rcon(&["system", "supervise"]).ok();
    assert_eq!(state(&engine, "web"), "exited", "a stop counts until the next start");
    engine.rcon(&["start", "web"]).ok();
    engine.rcon(&["stop", "-t", "0", "base"]).ok();
    kill_monitor(&engine, "web");
    engine.rcon(&["update", "--restart", "no", "web"]).ok();
    engine.rcon(&["system", "supervise"]).ok();
    assert_eq!(state(&engine, "web"), "exited", "its policy wants nothing any more");
    engine.rcon(&["rm", "-f", "web"]).ok();
}

#[test]
fn a_start_that_fails_at_boot_is_tried_again() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "base", "--restart", "no", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "unless-stopped", "--network", "container:base", "busybox", "sleep", "1000"]).ok();
    for name in ["web", "base"] {
        kill_monitor(&engine, name);
    }
    std::fs::remove_dir_all(engine.root.join("run")).unwrap();
    let mut boot = engine.command(&["system", "boot"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Not asked of `inspect`, which would try it too.
    let (mut output, mut said) = (BufReader::new(boot.stderr.take().unwrap()), String::new());
    while !said.contains("next try at") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    engine.rcon(&["start", "base"]).ok();
    output.read_to_string(&mut said).unwrap();
    assert!(boot.wait().unwrap().success());
    assert!(said.contains("\"web\" does not start, next try at") && said.contains("\"web\" started"), "{said}");
    assert_eq!(state(&engine, "web"), "running");
}

#[test]
fn boot_starts_what_docker_would_start() {
    let engine = Environment::new();
    let run = |name: &str, policy: &str| engine.rcon(&["run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1000"]).ok();
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("failure", "on-failure"), ("no", "no")] {
        run(name, policy);
    }
    for (name, policy) in [("always-stopped", "always"), ("unless-stopped", "unless-stopped"), ("failure-stopped", "on-failure")] {
        run(name, policy);
        engine.rcon(&["stop", "-t", "0", name]).ok();
    }
    engine.rcon(&["create", "--name", "never", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    crash_and_boot(&engine, &["always", "unless", "failure", "no"]);
    let states = || {
        ["always", "unless", "failure", "no", "always-stopped", "unless-stopped", "failure-stopped", "never"]
            .map(|name| state(&engine, name))
            .join(" ")
    };
    assert_eq!(states(), "running running running exited running exited exited created");
    // It is a boot only once.
    engine.rcon(&["stop", "-t", "0", "always-stopped"]).ok();
    engine.rcon(&["system", "boot"]).ok();
    assert_eq!(state(&engine, "always-stopped"), "exited");
    // An orderly shutdown: each with its signal, and nothing counts as stopped by the user.
    engine.rcon(&["system", "shutdown"]).ok();
    assert_eq!(states(), "exited exited exited exited exited exited exited created");
    // `systemctl restart rcon-boot.service`: the boot after it starts them, though the machine was not started anew.
    engine.rcon(&["system", "boot"]).ok();
    assert_eq!(states(), "running running exited exited running exited exited created");
    engine.rcon(&["system", "shutdown"]).ok();
    std::fs::remove_dir_all(engine.root.join("run")).unwrap();
    engine.rcon(&["system", "boot"]).ok();
    assert_eq!(states(), "running running exited exited running exited exited created");
}

#[test]
fn a_reload_signal_does_not_end_the_policy_and_a_terminating_one_does() {
    let engine = Environment::new();
    let script = "trap 'exit 3' HUP TERM INT; echo up; while :; do sleep 0.02; done";
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "busybox", "sh", "-c", script]).ok();
    // The first process of a container does not get a signal before its handler is set.
    let up = |runs: usize| eventually("the handler is set", || engine.rcon(&["logs", "web"]).ok().lines().count() == runs);
    up(1);
    engine.rcon(&["kill", "-s", "HUP", "web"]).ok();
    eventually("restarted", || engine.see("web", "{{.State.Status}} {{.RestartCount}}") == "running 1");
    up(2);
    engine.rcon(&["kill", "-s", "INT", "web"]).ok();
    eventually("ended", || engine.see("web", STATE) == "exited 3");
    // Real-time signals have names and numbers.
    engine.rcon(&["start", "web"]).ok();
    engine.rcon(&["kill", "-s", "RTMIN+3", "web"]).ok();
    engine.rcon(&["kill", "-s", "64", "web"]).ok();
    engine.rcon(&["kill", "-s", "65", "web"]).fails(1, "invalid signal");
    assert_eq!(state(&engine, "web"), "running", "PID 1 has no handler for these");
}

#[test]
fn a_stop_that_cannot_work_does_not_sit_out_its_time() {
    let engine = Environment::new();
    // The time of a stop, on a machine that may be busy.
    let full = std::time::Duration::from_secs(10);
    engine.rcon(&["run", "-d", "--name", "deaf", "busybox", "sleep", "1000"]).ok();
    let begin = std::time::Instant::now();
    engine.rcon(&["stop", "deaf"]).fails(0, "does not handle SIGTERM, it is killed at once");
    assert!(begin.elapsed() < full);
    engine.rcon(&["start", "deaf"]).ok();
    assert_eq!(engine.rcon(&["stop", "-s", "KILL", "deaf"]).err, "", "nothing handles SIGKILL");
    assert_eq!(engine.see("deaf", STATE), "exited 137");
    // Behind a shell: the program gets the signal and ends in order.
    let script = "sh -c 'trap \"exit 5\" TERM; touch /up; while :; do sleep 0.02; done'; exit $?";
    engine.rcon(&["run", "-d", "--name", "behind", "busybox", "sh", "-c", script]).ok();
    eventually("the child runs", || engine.rcon(&["exec", "behind", "ls", "/up"]).code == 0);
    let begin = std::time::Instant::now();
    engine.rcon(&["stop", "behind"]).fails(0, "its children got it too");
    assert!(begin.elapsed() < full);
    assert_eq!(engine.see("behind", STATE), "exited 5");
    // With its own reaper the program gets the signal itself.
    engine.rcon(&["run", "-d", "--name", "init", "--init", "busybox", "sleep", "1000"]).ok();
    let stopped = engine.rcon(&["stop", "init"]);
    assert_eq!((stopped.code, stopped.err.as_str()), (0, ""));
    assert_eq!(engine.see("init", STATE), "exited 143");
    // Who names a time gets it.
    let script = "sleep 1; exit 4";
    engine.rcon(&["run", "-d", "--name", "patient", "busybox", "sh", "-c", script]).ok();
    engine.rcon(&["create", "--name", "ignoring", "busybox", "sh", "-c", "trap '' TERM; touch /up; exec sleep 2"]).ok();
    engine.rcon(&["stop", "-t", "60", "patient"]).ok();
    engine.rcon(&["start", "ignoring"]).ok();
    eventually("it ignores the signal", || engine.rcon(&["exec", "ignoring", "ls", "/up"]).code == 0);
    assert_eq!(engine.rcon(&["stop", "ignoring"]).err, "");
    assert_eq!(engine.see("ignoring", STATE), "exited 0", "ignored on purpose");
}

#[test]
fn a_monitor_that_is_stopped_or_hangs_does_not_keep_rm() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    kill_process(monitor(&engine, "web"), Signal::STOP).unwrap();
    let removed = engine.rcon(&["rm", "-f", "web"]);
    assert_eq!((removed.code, removed.err.as_str()), (0, ""), "it is woken, not waited for and killed");
    assert_eq!(engine.rcon(&["ps", "-aq"]).out, "");
}

#[test]
fn stop_kill_and_rm_take_all_files_and_missing_ones() {
    let engine = Environment::new();
    for name in ["one", "two"] {
        engine.rcon(&["run", "-d", "--name", name, "--cidfile", &format!("{name}.id"), "busybox", "sleep", "1000"]).ok();
    }
    engine.rcon(&["create", "--name", "three", "busybox", "true"]).ok();
    engine.rcon(&["stop", "-t", "0", "--cidfile", "one.id"]).ok();
    assert_eq!(engine.rcon(&["ps", "--format", "{{.Names}}"]).ok(), "two");
    engine.rcon(&["stop", "--ignore", "missing", "--cidfile", "missing.id"]).ok();
    engine.rcon(&["stop", "missing"]).fails(1, "No such container");
    engine.rcon(&["stop", "--cidfile", "missing.id"]).fails(125, "missing.id");
    engine.rcon(&["stop", "-a", "two"]).fails(125, "--all");
    engine.rcon(&["stop"]).fails(1, "CONTAINER is missing");
    assert_eq!(engine.rcon(&["restart", "-t", "0", "-a"]).ok().lines().count(), 1);
    engine.rcon(&["kill", "-a"]).ok();
    assert_eq!(engine.rcon(&["ps", "-q"]).ok(), "");
    assert_eq!(engine.rcon(&["rm", "-a"]).ok().lines().count(), 3);
}

/// Runs a command that is killed as soon as it waits for the container's grace period: its request and the signal are sent.
fn killed_while_it_waits(engine: &Environment, args: &[&str]) {
    let done = engine.command(args).env("RCON_FAILPOINT", "engine.stop.asked=kill").output().unwrap();
    assert_eq!(done.status.code(), None, "it was never reached: {done:?}");
}

/// Waits until all of these have got the signal, which comes after the request to their monitors, and kills the command. Their
/// logs are read here: a command takes a part of their grace period.
fn killed_when_all_have_heard(engine: &Environment, args: &[&str], names: &[&str]) {
    let log = |name: &&str| {
        let id = engine.see(name, "{{.Id}}");
        engine.root.join("data/containers").join(&id).join(format!("{id}-json.log"))
    };
    let logs: Vec<_> = names.iter().map(log).collect();
    let mut command = engine.command(args).spawn().unwrap();
    eventually("all have heard", || logs.iter().all(|log| std::fs::read_to_string(log).unwrap().contains("heard")));
    command.kill().unwrap();
    assert!(!command.wait().unwrap().success());
}

const DEAF: &str = "trap 'echo heard' TERM; echo up; while :; do sleep 0.05; done";

#[test]
fn a_stop_whose_command_is_killed_comes_to_its_end() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "busybox", "sh", "-c", DEAF]).ok();
    eventually("it runs", || engine.rcon(&["logs", "web"]).ok().contains("up"));
    killed_while_it_waits(&engine, &["stop", "-t", "1", "web"]);
    eventually("the monitor has killed it", || state(&engine, "web") == "exited");
    assert_eq!(engine.see("web", STATE), "exited 137");
    let told = engine.rcon(&["events", "--since", "1h", "--stream=false", "--filter", "container=web", "--format", "{{.Action}}"]).ok();
    assert!(told.ends_with("kill\nkill\ndie\nstop"), "{told}");
    engine.rcon(&["system", "supervise"]).ok();
    assert_eq!(state(&engine, "web"), "exited", "the user wanted it down");
}

#[test]
fn a_restart_whose_command_is_killed_comes_to_its_end() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sh", "-c", DEAF]).ok();
    eventually("it runs", || engine.rcon(&["logs", "web"]).ok().contains("up"));
    let first = engine.see("web", "{{.State.Pid}}");
    killed_while_it_waits(&engine, &["restart", "-t", "1", "web"]);
    eventually("it runs again", || engine.see("web", "{{.State.Running}} {{.RestartCount}}") == "true 1");
    assert_ne!(engine.see("web", "{{.State.Pid}}"), first);
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
}

#[test]
fn the_members_of_a_pod_end_when_its_stop_is_killed() {
    let engine = Environment::new();
    engine.rcon(&["pod", "create", "-n", "both"]).ok();
    for name in ["aa", "bb"] {
        engine.rcon(&["run", "-d", "--name", name, "--pod", "both", "--restart", "always", "busybox", "sh", "-c", DEAF]).ok();
        eventually("it runs", || engine.rcon(&["logs", name]).ok().contains("up"));
    }
    let held = engine.root.join("run/pods").join(engine.rcon(&["pod", "inspect", "-f", "{{.Id}}", "both"]).ok());
    assert!(held.exists());
    killed_when_all_have_heard(&engine, &["pod", "stop", "-t", "5", "both"], &["aa", "bb"]);
    // Only files are looked at: nobody else may finish it.
    eventually("the last one has taken the pod down", || !held.exists());
    assert!(["aa", "bb"].iter().all(|name| engine.see(name, STATE) == "exited 137"));
    engine.rcon(&["pod", "rm", "both"]).ok();
}

#[test]
fn a_member_started_after_a_stop_that_was_killed_keeps_the_pod_up() {
    let engine = Environment::new();
    engine.rcon(&["pod", "create", "-n", "both"]).ok();
    engine.rcon(&["run", "-d", "--name", "aa", "--pod", "both", "busybox", "sh", "-c", DEAF]).ok();
    engine.rcon(&["create", "--name", "bb", "--pod", "both", "busybox", "sleep", "1000"]).ok();
    eventually("it runs", || engine.rcon(&["logs", "aa"]).ok().contains("up"));
    killed_while_it_waits(&engine, &["pod", "stop", "-t", "1", "both"]);
    engine.rcon(&["start", "bb"]).ok();
    eventually("the other one has ended", || engine.see("aa", STATE) == "exited 137");
    engine.rcon(&["kill", "bb"]).ok();
    let held = engine.root.join("run/pods").join(engine.rcon(&["pod", "inspect", "-f", "{{.Id}}", "both"]).ok());
    assert!(held.exists(), "its exit policy is continue");
    engine.rcon(&["pod", "rm", "-f", "both"]).ok();
}

#[test]
fn the_members_of_a_pod_run_again_when_its_restart_is_killed() {
    let engine = Environment::new();
    engine.rcon(&["pod", "create", "-n", "both"]).ok();
    for name in ["aa", "bb"] {
        engine.rcon(&["run", "-d", "--name", name, "--pod", "both", "--stop-timeout", "5", "busybox", "sh", "-c", DEAF]).ok();
        eventually("it runs", || engine.rcon(&["logs", name]).ok().contains("up"));
    }
    killed_when_all_have_heard(&engine, &["pod", "restart", "both"], &["aa", "bb"]);
    eventually("both run again", || ["aa", "bb"].iter().all(|name| engine.see(name, "{{.State.Running}} {{.RestartCount}}") == "true 1"));
    engine.rcon(&["pod", "rm", "-f", "both"]).ok();
}

#[test]
fn inspect_and_exec_bring_back_what_lost_its_monitor() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]).ok();
    kill_monitor(&engine, "web");
    assert_eq!(engine.rcon(&["exec", "web", "echo", "here"]).ok(), "here");
    kill_monitor(&engine, "web");
    // The second death so soon is paused for, which whoever looks is told.
    eventually("it is back", || engine.see("web", "{{.State.Running}}") == "true");
    kill_monitor(&engine, "plain");
    assert_eq!(engine.rcon(&["ps", "-a", "--filter", "name=plain", "--format", "{{.State}}"]).ok(), "exited");
    engine.rcon(&["exec", "plain", "true"]).fails(1, "container plain is not running");
    engine.rcon(&["top", "plain"]).fails(1, "not running");
}

#[test]
fn exec_says_that_the_container_waits_to_be_restarted() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "base", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["run", "-d", "--name", "web", "--restart", "always", "--network", "container:base", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["stop", "-t", "0", "base"]).ok();
    kill_monitor(&engine, "web");
    engine.rcon(&["exec", "web", "true"]).fails(1, "container web is restarting");
    engine.rcon(&["stop", "web"]).ok();
}

#[test]
fn exec_says_that_the_container_has_just_ended() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let exec = engine.stopped(&["exec", "web", "true"], "engine.exec.ready");
    assert!(engine.rcon(&["events", "--since", "1h", "--stream=false", "--filter", "event=exec_create"]).ok().contains("exec_create"));
    engine.rcon(&["kill", "web"]).ok();
    kill_process(Pid::from_child(&exec), Signal::CONT).unwrap();
    let done = exec.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!((done.status.code(), text.contains("container web has ended before")), (Some(1), true), "{text}");
}

#[test]
fn a_restart_names_the_removed_container_that_it_joins_and_stops_nothing() {
    let engine = Environment::new();
    for (kind, flag) in [("network", "--network"), ("PID", "--pid"), ("IPC", "--ipc")] {
        engine.rcon(&["run", "-d", "--name", "base", "--ipc", "shareable", "busybox", "sleep", "1000"]).ok();
        let id = engine.see("base", "{{.Id}}");
        engine.rcon(&["run", "-d", "--name", "web", flag, "container:base", "busybox", "sleep", "1000"]).ok();
        let joins_pids = kind == "PID";
        engine.rcon(&["rm", "-f", "base"]).ok();
        let why = format!("cannot join the {kind} namespace of container {}: it was removed", &id[..12]);
        engine.rcon(&["restart", "-t", "0", "web"]).fails(1, &why);
        // The first process of a PID namespace takes all others with it.
        eventually("it was left alone", || engine.see("web", "{{.State.Running}}") == (!joins_pids).to_string());
        engine.rcon(&["stop", "-t", "0", "web"]).ok();
        engine.rcon(&["start", "web"]).fails(1, &why);
        engine.rcon(&["rm", "web"]).ok();
    }
}

#[test]
fn memory_from_before_the_accounting_is_shown() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    // On cgroup v1 it joins the group that counts memory a moment later.
    for _ in 0..2 {
        let shown = engine.rcon(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]).ok();
        assert!(!shown.starts_with("0B "), "{shown}");
    }
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let engine = Environment::new();
    let begun = std::time::Instant::now();
    engine.rcon(&["run", "--name", "short", "--timeout", "1", "busybox", "sleep", "600"]).fails(137, "");
    let took = begun.elapsed().as_secs_f64();
    assert!((1.0..300.0).contains(&took), "{took}");
    assert_eq!(engine.see("short", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.Config.Timeout}}"), "137 false 1");
    // Each run has its time, and what ends before is left alone; 0 is without limit.
    engine.rcon(&["run", "-d", "--name", "again", "--restart", "on-failure:1", "--timeout", "1", "busybox", "sleep", "600"]).ok();
    eventually("its policy starts it once more", || engine.see("again", "{{.RestartCount}} {{.State.Status}}") == "1 exited");
    engine.rcon(&["run", "--timeout", "60", "busybox", "true"]).ok();
    engine.rcon(&["run", "-d", "--name", "long", "--timeout", "0", "busybox", "sleep", "600"]).ok();
    assert_eq!(engine.see("long", "{{.State.Status}}"), "running");
    // Also of one that is frozen, for which a busy machine may need more time than it has.
    let frozen = ["2", "8", "32"].iter().any(|seconds| {
        engine.rcon(&["run", "-d", "--replace", "--name", "frozen", "--timeout", seconds, "busybox", "sleep", "600"]).ok();
        engine.rcon(&["pause", "frozen"]).code == 0
    });
    assert!(frozen);
    eventually("it is killed all the same", || engine.see("frozen", "{{.State.Status}}") == "exited");
    engine.rcon(&["rm", "-f", "-a"]).ok();
}
