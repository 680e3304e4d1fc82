//! The life of a container: run, start, stop, exec, attach, logs, wait, rename, pause, update, top, stats, cp.

use crate::environment::Environment;
use crate::outcome::eventually;
use std::process::Stdio;

#[test]
fn run_gives_output_and_exit_code_of_the_process() {
    let engine = Environment::new();
    let done = engine.rcon(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
    assert_eq!(engine.rcon(&["run", "--rm", "busybox", "sh", "-c", "exit 300"]).code, 44);
    assert_eq!(engine.rcon(&["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(engine.rcon(&["run", "--rm", "busybox", "sh", "-c", "kill -TERM $$; sleep 5"]).code, 0, "PID 1 ignores TERM");
    eventually("removed", || engine.rcon(&["ps", "-aq"]).out.is_empty());
}

#[test]
fn a_megabyte_of_output_arrives_whole() {
    let engine = Environment::new();
    let done = engine.rcon(&[
        "run",
        "--name",
        "big",
        "busybox",
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do echo line $i of many lines that make a flood; i=$((i+1)); done",
    ]);
    assert_eq!(done.out.lines().count(), 20000);
    assert_eq!(done.out.lines().last(), Some("line 19999 of many lines that make a flood"));
    assert_eq!(engine.rcon(&["logs", "big"]).ok().lines().count(), 20000);
    assert_eq!(engine.rcon(&["logs", "--tail", "2", "big"]).ok().lines().next(), Some("line 19998 of many lines that make a flood"));
}

#[test]
fn stdin_flows_with_i_and_ends() {
    let engine = Environment::new();
    assert_eq!(engine.rcon_with_input(&["run", "--rm", "-i", "busybox", "cat"], b"one\ntwo\n").ok(), "one\ntwo");
    let big = vec![b'x'; 3_000_000];
    assert_eq!(engine.rcon_with_input(&["run", "--rm", "-i", "busybox", "wc", "-c"], &big).ok().trim(), "3000000");
    assert_eq!(engine.rcon_with_input(&["run", "--rm", "busybox", "cat"], b"not read").ok(), "");
}

#[test]
fn environment_workdir_user_entrypoint_and_hostname() {
    let engine = Environment::new();
    std::fs::write(engine.root.join("vars"), "# comment\nA=from file\nB=b # kept\n").unwrap();
    let out = engine.rcon(&["run", "--rm", "--env-file", "vars", "-e", "A=flag", "busybox", "sh", "-c", "echo $A/$B"]).ok();
    assert_eq!(out, "flag/b # kept");
    assert_eq!(engine.rcon(&["run", "--rm", "-w", "/new/dir", "busybox", "pwd"]).ok(), "/new/dir");
    assert_eq!(engine.rcon(&["run", "--rm", "-u", "example", "busybox", "sh", "-c", "id -u; echo $HOME"]).ok(), "1000\n/home/example");
    assert_eq!(engine.rcon(&["run", "--rm", "-u", "33:44", "busybox", "sh", "-c", "id -u; id -g"]).ok(), "33\n44");
    assert_eq!(engine.rcon(&["run", "--rm", "--entrypoint", "echo", "busybox", "hi"]).ok(), "hi");
    let id = engine.rcon(&["run", "-d", "--name", "host", "busybox", "hostname"]).ok();
    assert_eq!(engine.rcon(&["wait", "host"]).ok(), "0");
    assert_eq!(engine.rcon(&["logs", "host"]).ok(), id[..12]);
}

#[test]
fn stop_start_restart_keep_the_file_system() {
    let engine = Environment::new();
    // Whoever has written its line has its handler.
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "trap 'exit 3' TERM; echo run >> /runs; while :; do sleep 0.05; done"]).ok();
    let ran = |runs: &str| eventually(runs, || engine.rcon(&["exec", "web", "cat", "/runs"]).out == runs);
    ran("run\n");
    assert_eq!(engine.rcon(&["stop", "web"]).ok(), "web");
    assert_eq!(engine.see("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    assert_eq!(engine.rcon(&["stop", "web"]).code, 0, "stop on stopped");
    engine.rcon(&["start", "web"]).ok();
    assert_eq!(engine.rcon(&["start", "web"]).code, 0, "start on running");
    ran("run\nrun\n");
    engine.rcon(&["restart", "-t", "5", "web"]).ok();
    ran("run\nrun\nrun\n");
    engine.rcon(&["kill", "web"]).ok();
    assert_eq!(engine.rcon(&["wait", "web"]).ok(), "137");
    engine.rcon(&["kill", "web"]).fails(1, "is not running");
    engine.rcon(&["rm", "web"]).ok();
}

#[test]
fn start_a_gives_output_and_code() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "once", "busybox", "sh", "-c", "echo hi; exit 4"]).ok();
    let done = engine.rcon(&["start", "-a", "once"]);
    assert_eq!((done.code, done.out.as_str()), (4, "hi\n"));
}

#[test]
fn exec_runs_beside_with_its_own_code() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "-e", "A=1", "busybox", "sleep", "1000"]).ok();
    assert_eq!(engine.rcon(&["exec", "-e", "B=2", "-w", "/tmp", "web", "sh", "-c", "echo $A $B $(pwd)"]).ok(), "1 2 /tmp");
    assert_eq!(engine.rcon(&["exec", "web", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(engine.rcon(&["exec", "-u", "example", "web", "id", "-u"]).ok(), "1000");
    assert_eq!(engine.rcon_with_input(&["exec", "-i", "web", "cat"], b"in").ok(), "in");
    engine.rcon(&["exec", "-d", "web", "touch", "/made"]).ok();
    eventually("detached exec", || engine.rcon(&["exec", "web", "ls", "/made"]).code == 0);
    engine.rcon(&["exec", "web", "no-such-command"]).fails(127, "not found");
    let caps = engine.rcon(&["exec", "web", "grep", "CapEff", "/proc/self/status"]).ok();
    assert!(caps.ends_with("00000000a80425fb"), "{caps}");
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
    engine.rcon(&["exec", "web", "true"]).fails(1, "is not running");
}

#[test]
fn attach_sees_what_comes_and_the_end() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "-i", "--name", "echo", "busybox", "sh", "-c", "read line; echo got $line; exit 5"]).ok();
    let done = engine.rcon_with_input(&["attach", "echo"], b"word\n");
    assert_eq!((done.code, done.out.as_str()), (5, "got word\n"));
}

#[test]
fn logs_follow_until_the_end() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"]).ok();
    assert_eq!(engine.rcon(&["logs", "-f", "slow"]).ok(), "1\n2\n3");
    let stamped = engine.rcon(&["logs", "-t", "slow"]).ok();
    assert!(stamped.lines().all(|l| l.contains("T") && l.contains("Z ")), "{stamped}");
    engine.rcon(&["run", "--name", "mute", "--log-driver", "none", "busybox", "echo", "x"]).ok();
    engine.rcon(&["logs", "mute"]).fails(1, "log");
}

#[test]
fn rename_pause_and_prefixes() {
    let engine = Environment::new();
    let id = engine.rcon(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["rename", "one", "two"]).ok();
    assert_eq!(engine.see(&id[..6], "{{.Name}}"), "/two");
    engine.rcon(&["inspect", "tw"]).fails(1, "No such");
    engine.rcon(&["pause", "two"]).ok();
    assert!(engine.rcon(&["ps", "--format", "{{.Status}}"]).ok().ends_with("(Paused)"));
    engine.rcon(&["exec", "two", "true"]).fails(1, "paused");
    engine.rcon(&["unpause", "two"]).ok();
    engine.rcon(&["rm", "two"]).fails(1, "running");
    assert_eq!(engine.rcon(&["rm", "-f", "two"]).ok(), "two");
}

#[test]
fn restart_policy_restarts_and_stop_ends_it() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "loop", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo x; exit 1"]).ok();
    eventually("three runs", || engine.see("loop", "{{.State.Status}} {{.RestartCount}}") == "exited 2");
    assert_eq!(engine.rcon(&["logs", "loop"]).ok(), "x\nx\nx");
    engine.rcon(&["run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", "exit 0"]).ok();
    eventually("restarted", || engine.see("always", "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    engine.rcon(&["stop", "always"]).ok();
    assert_eq!(engine.see("always", "{{.State.Status}}"), "exited");
    engine.rcon(&["run", "--rm", "--restart", "always", "busybox"]).fails(125, "conflict");
}

#[test]
fn top_stats_and_inspect_tell_the_truth() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "--memory", "64m", "-l", "a=b", "busybox", "sleep", "777"]).ok();
    assert!(engine.rcon(&["top", "web"]).ok().contains("sleep 777"));
    let stats = engine.rcon(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "web"]).ok();
    assert!(stats.starts_with("web 1 ") && stats.ends_with("/ 64MiB"), "{stats}");
    assert_eq!(engine.see("web", "{{.Path}} {{index .Args 0}} {{index .Config.Labels \"a\"}} {{.HostConfig.Memory}}"), "sleep 777 b 67108864");
    let pid = engine.see("web", "{{.State.Pid}}");
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("sleep"));
}

#[test]
fn cp_both_ways() {
    let engine = Environment::new();
    engine
        .rcon(&[
            "run",
            "-d",
            "--name",
            "box",
            "-v",
            "vol:/vol",
            "busybox",
            "sh",
            "-c",
            "mkdir /d; echo in > /d/f; ln -s /etc/passwd /d/link; sleep 1000",
        ])
        .ok();
    eventually("ready", || engine.rcon(&["exec", "box", "test", "-L", "/d/link"]).code == 0);
    engine.rcon(&["cp", "box:/d", "copy"]).ok();
    assert_eq!(std::fs::read_to_string(engine.root.join("copy/f")).unwrap(), "in\n");
    assert_eq!(std::fs::read_link(engine.root.join("copy/link")).unwrap().to_str(), Some("/etc/passwd"));
    std::fs::write(engine.root.join("new"), "out").unwrap();
    engine.rcon(&["cp", "new", "box:/vol/"]).ok();
    assert_eq!(engine.rcon(&["exec", "box", "cat", "/vol/new"]).ok(), "out");
    engine.rcon(&["stop", "-t", "0", "box"]).ok();
    engine.rcon(&["cp", "new", "box:/d/renamed"]).ok();
    engine.rcon(&["cp", "box:/d/renamed", "back"]).ok();
    assert_eq!(std::fs::read_to_string(engine.root.join("back")).unwrap(), "out");
    engine.rcon(&["cp", "box:/vol/new", "fromvol"]).ok();
    assert_eq!(std::fs::read_to_string(engine.root.join("fromvol")).unwrap(), "out");
    engine.rcon(&["cp", "box:/none", "x"]).fails(1, "/none");
}

#[test]
fn a_killed_client_does_not_take_the_container_along() {
    let engine = Environment::new();
    let mut client = engine.command(&["run", "--name", "web", "busybox", "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("running", || engine.rcon(&["ps", "--format", "{{.Names}}"]).out == "web\n");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(engine.see("web", "{{.State.Status}}"), "running");
}

#[test]
fn cidfile_and_detached_ids() {
    let engine = Environment::new();
    let id = engine.rcon(&["run", "-d", "--cidfile", "cid", "busybox", "true"]).ok();
    assert_eq!(std::fs::read_to_string(engine.root.join("cid")).unwrap(), id);
    engine.rcon(&["run", "-d", "--cidfile", "cid", "busybox", "true"]).fails(125, "cid");
}

#[test]
fn a_restarting_container_shows_its_last_exit() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "loops", "--restart", "always", "busybox", "sh", "-c", "exit 3"]).ok();
    eventually("it waits for its restart", || engine.rcon(&["ps", "--format", "{{.Status}}"]).out.starts_with("Restarting (3) "));
    assert!(!engine.rcon(&["ps", "--format", "{{.Status}}"]).out.contains("N/A"));
    engine.rcon(&["rm", "-f", "loops"]).ok();
}

#[test]
fn publish_filters_by_the_port_on_the_host() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "-p", "18081:80", "busybox", "sleep", "1000"]).ok();
    let names = |filter: &str| engine.rcon(&["ps", "--filter", filter, "--format", "{{.Names}}"]).out;
    assert_eq!((names("publish=18081").as_str(), names("publish=18000-18100/tcp").as_str()), ("web\n", "web\n"));
    assert_eq!((names("publish=80").as_str(), names("publish=18081/udp").as_str(), names("expose=80").as_str()), ("", "", "web\n"));
    engine.rcon(&["rm", "-f", "web"]).ok();
}

/// The stage is the leader of its terminal's session: a master that closes too early hangs it up before it can report.
#[test]
fn a_terminal_does_not_hide_why_a_command_could_not_start() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["exec", "-t", "up", "no-such-command"]).fails(127, "no-such-command");
    engine.rcon(&["run", "--rm", "-t", "--pid", "host", "busybox", "no-such-command"]).fails(127, "no-such-command");
    engine.rcon(&["rm", "-f", "up"]).ok();
}

/// A script may use name, port and volume of a container as soon as its `run` has returned.
#[test]
fn what_a_run_held_is_free_when_it_returns() {
    let engine = Environment::new();
    for _ in 0..10 {
        engine.rcon(&["run", "--rm", "--name", "again", "-p", "18082:80", "-v", "mine:/v", "busybox", "true"]).ok();
        engine.rcon(&["volume", "rm", "mine"]).ok();
    }
    engine.rcon(&["run", "--name", "first", "-p", "18082:80", "busybox", "true"]).ok();
    engine.rcon(&["run", "--name", "second", "-p", "18082:80", "busybox", "true"]).ok();
}
