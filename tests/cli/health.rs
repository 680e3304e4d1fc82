//! Health checks: probes of the monitor, what they say in `inspect` and `ps`, and what follows when a container is unhealthy.

use crate::environment::Environment;
use crate::outcome::eventually;

const STATUS: &str = "{{.State.Health.Status}}";

/// Runs a detached container whose health is probed by `command` every 100 ms.
fn run(engine: &Environment, name: &str, command: &str, more: &[&str]) {
    let mut args = vec!["run", "-d", "--name", name, "--health-cmd", command, "--health-interval", "100ms"];
    args.extend(more);
    args.extend(["busybox", "sleep", "1000"]);
    engine.rcon(&args).ok();
}

#[test]
fn a_probe_runs_as_the_container_does_and_its_results_are_shown() {
    let engine = Environment::new();
    let probe = "echo $A:$(id -u):$(pwd); echo two >&2; test -e /tmp/well";
    run(&engine, "web", probe, &["-e", "A=1", "-u", "example", "-w", "/tmp", "--health-retries", "2"]);
    eventually("unhealthy", || engine.see("web", STATUS) == "unhealthy");
    let log = engine.see("web", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(log, "1 1:1000:/tmp\ntwo");
    engine.rcon(&["exec", "web", "touch", "/tmp/well"]).ok();
    eventually("healthy", || engine.see("web", STATUS) == "healthy");
    assert_eq!(engine.see("web", "{{.State.Health.FailingStreak}}"), "0");
    assert!(engine.rcon(&["ps", "--format", "{{.Status}} {{.HealthStatus}}"]).ok().ends_with("(healthy) healthy"));
    eventually("five results", || engine.see("web", "{{len .State.Health.Log}}") == "5");
    assert_eq!(engine.see("web", "{{index .Config.Healthcheck.Test 0}} {{.Config.Healthcheck.Interval}}"), "CMD-SHELL 100000000");
    for (filter, expected) in [("healthy", "web"), ("unhealthy", ""), ("starting", ""), ("none", "")] {
        assert_eq!(engine.rcon(&["ps", "-f", &format!("health={filter}"), "--format", "{{.Names}}"]).ok(), expected, "{filter}");
    }
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(engine.see("web", "{{.State.Health.Status}} {{len .State.Health.Log}}"), "unhealthy 5");
}

/// Seen with an interval that no test waits for: the first probe ends it.
#[test]
fn a_run_begins_as_starting_whatever_the_last_one_came_to() {
    let engine = Environment::new();
    run(&engine, "web", "true", &["--health-interval", "1h"]);
    assert!(engine.rcon(&["ps", "--format", "{{.Status}}"]).ok().ends_with("(health: starting)"));
    engine.rcon(&["healthcheck", "run", "web"]).ok();
    assert!(engine.rcon(&["ps", "--format", "{{.Status}}"]).ok().ends_with("(healthy)"));
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(engine.see("web", STATUS), "unhealthy");
    engine.rcon(&["start", "web"]).ok();
    assert_eq!(engine.see("web", STATUS), "starting");
}

#[test]
fn a_probe_that_takes_too_long_is_killed_with_all_its_processes() {
    let engine = Environment::new();
    run(&engine, "slow", "echo begun; sleep 777 & sleep 777", &["--health-timeout", "1s", "--health-retries", "1"]);
    eventually("unhealthy", || engine.see("slow", STATUS) == "unhealthy");
    // The first ones may have been killed before they said anything.
    let said = |log: &str| log.split('|').any(|result| result.trim_end() == "-1 Health check exceeded timeout (1s): begun");
    eventually("what it said", || said(&engine.see("slow", "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}|{{end}}")));
    engine.rcon(&["pause", "slow"]).ok();
    eventually("none is left", || !engine.rcon(&["top", "slow"]).out.contains("sleep 777"));
    engine.rcon(&["unpause", "slow"]).ok();
}

#[test]
fn failures_do_not_count_in_the_start_period() {
    let engine = Environment::new();
    run(&engine, "late", "exit 3", &["--health-start-period", "10m", "--health-start-interval", "50ms", "--health-retries", "1"]);
    eventually("probed", || engine.see("late", "{{len .State.Health.Log}}") == "5");
    assert_eq!(engine.see("late", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "starting 0");
}

#[test]
fn what_cannot_be_run_is_a_failure_with_its_reason() {
    let engine = Environment::new();
    run(&engine, "lost", "no-such-command", &["--health-retries", "1"]);
    eventually("unhealthy", || engine.see("lost", STATUS) == "unhealthy");
    let log = engine.see("lost", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert!(log.starts_with("127 ") && log.contains("not found"), "{log}");
    engine.rcon(&["exec", "lost", "rm", "/bin/sh"]).ok();
    eventually("no shell", || engine.see("lost", "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}").contains("-1 "));
}

#[test]
fn healthcheck_run_probes_now_and_says_why_it_cannot() {
    let engine = Environment::new();
    run(&engine, "web", "test -e /tmp/well", &["--health-interval", "1h"]);
    let done = engine.rcon(&["healthcheck", "run", "web"]);
    assert_eq!((done.code, done.out.as_str()), (1, "unhealthy\n"));
    assert_eq!(engine.see("web", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "starting 1");
    engine.rcon(&["exec", "web", "touch", "/tmp/well"]).ok();
    assert_eq!(engine.rcon(&["healthcheck", "run", "web"]).ok(), "");
    assert_eq!(engine.see("web", STATUS), "healthy");
    engine.rcon(&["pause", "web"]).ok();
    engine.rcon(&["healthcheck", "run", "web"]).fails(125, "paused");
    engine.rcon(&["unpause", "web"]).ok();
    engine.rcon(&["stop", "-t", "0", "web"]).ok();
    engine.rcon(&["healthcheck", "run", "web"]).fails(125, "not running");
    engine.rcon(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["healthcheck", "run", "plain"]).fails(125, "no defined healthcheck");
    assert_eq!(engine.rcon(&["ps", "-f", "health=none", "--format", "{{.Names}}"]).ok(), "plain");
}

#[test]
fn an_image_may_bring_a_check_and_no_healthcheck_takes_it_away() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "base", "busybox", "true"]).ok();
    engine.rcon(&["export", "-o", "root.tar", "base"]).ok();
    let change = "HEALTHCHECK --interval=100ms --retries=1 CMD test -e /tmp/well";
    engine.rcon(&["import", "-c", change, "-c", "CMD [\"sleep\",\"1000\"]", "root.tar", "probed"]).ok();
    engine.rcon(&["run", "-d", "--name", "own", "probed"]).ok();
    engine.rcon(&["run", "-d", "--name", "none", "--no-healthcheck", "probed"]).ok();
    eventually("probed", || engine.see("own", STATUS) == "unhealthy");
    assert_eq!(engine.see("none", "{{json .State.Health}} {{json .Config.Healthcheck.Test}}"), "null [\"NONE\"]");
    engine.rcon(&["run", "--no-healthcheck", "--health-retries", "1", "probed"]).fails(125, "conflicts");
    engine.rcon(&["run", "--health-interval", "-1s", "probed"]).fails(125, "negative");
    engine.rcon(&["run", "--health-on-failure", "kill", "busybox"]).fails(125, "needs a health check");
    engine.rcon(&["run", "--rm", "--health-on-failure", "restart", "probed"]).fails(125, "--rm");
}

#[test]
fn an_unhealthy_container_is_restarted_killed_or_stopped_on_request() {
    let engine = Environment::new();
    let on = |name: &str, action: &str, more: &[&str]| {
        let mut args = vec!["--health-retries", "1", "--health-on-failure", action, "--stop-timeout", "0"];
        args.extend(more);
        run(&engine, name, "test ! -e /ill", &args);
        eventually("healthy", || engine.see(name, STATUS) == "healthy");
        engine.rcon(&["exec", name, "touch", "/ill"]).ok();
    };
    on("again", "restart", &[]);
    // The file stays, so it is restarted more than once.
    eventually("restarted", || engine.see("again", "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    engine.rcon(&["rm", "-f", "again"]).ok();
    on("dead", "kill", &[]);
    eventually("killed", || engine.see("dead", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    on("policy", "kill", &["--restart", "on-failure:1"]);
    eventually("killed twice", || engine.see("policy", "{{.State.Status}} {{.RestartCount}}") == "exited 1");
    on("rest", "stop", &["--restart", "always"]);
    eventually("stopped", || engine.see("rest", "{{.State.Status}}") == "exited");
}

#[test]
fn a_container_that_is_removed_at_its_end_is_probed_too() {
    let engine = Environment::new();
    run(&engine, "short", "true", &["--rm"]);
    eventually("healthy", || engine.see("short", STATUS) == "healthy");
    engine.rcon(&["stop", "-t", "0", "short"]).ok();
    eventually("removed", || engine.rcon(&["ps", "-aq"]).out.is_empty());
}
