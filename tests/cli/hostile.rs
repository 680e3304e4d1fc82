//! Hostile containers: what they must not see or reach when we act inside of them.

use crate::environment::Environment;

/// A process of the container that may trace sees every process of its pid namespace, the exec stage too; what the
/// stage holds and runs from must not lead to the host.
#[test]
fn exec_brings_nothing_of_the_host() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "watcher", "--cap-add", "SYS_PTRACE", "busybox", "sleep", "600"]).ok();
    let script = "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || ls -l $p/exe $p/fd; done; done 2>/dev/null > /seen; : > /done";
    engine.rcon(&["exec", "-d", "watcher", "sh", "-c", script]).ok();
    for _ in 0..40 {
        engine.rcon(&["exec", "watcher", "true"]).ok();
    }
    engine.rcon(&["exec", "watcher", "touch", "/stop"]).ok();
    crate::environment::eventually("the watcher's end", || engine.rcon(&["exec", "watcher", "ls", "/done"]).code == 0);
    let seen = engine.rcon(&["exec", "watcher", "cat", "/seen"]).ok();
    assert!(seen.contains(" -> "), "it saw something: {seen}");
    let root = engine.root.to_str().unwrap();
    let binary = env!("CARGO_BIN_EXE_rcon");
    let bad: Vec<&str> = seen.lines().filter(|line| line.contains(root) || line.contains(binary) || line.contains("rcon.db") || line.contains("cgroup")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    engine.rcon(&["rm", "-f", "watcher"]).ok();
}

/// Control characters of labels and commands do not reach the terminal.
#[test]
fn listings_and_errors_cannot_steer_the_terminal() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "evil", "--label", "a=\u{1b}]0;x\u{7}\nb", "busybox", "\u{1b}[31m"]).ok();
    for format in ["table {{.Labels}}\t{{.Command}}", "{{.Label \"a\"}}", "table"] {
        let out = engine.rcon(&["ps", "-a", "--format", format]).ok();
        assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{out:?}");
    }
    let done = engine.rcon(&["start", "-a", "evil"]);
    assert_ne!(done.code, 0);
    assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
    engine.rcon(&["rm", "evil"]).ok();
}
