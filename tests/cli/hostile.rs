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
    crate::outcome::eventually("it watches", || engine.rcon(&["exec", "watcher", "test", "-e", "/seen"]).code == 0);
    for _ in 0..40 {
        engine.rcon(&["exec", "watcher", "true"]).ok();
    }
    engine.rcon(&["exec", "watcher", "touch", "/stop"]).ok();
    crate::outcome::eventually("the watcher's end", || engine.rcon(&["exec", "watcher", "ls", "/done"]).code == 0);
    let seen = engine.rcon(&["exec", "watcher", "cat", "/seen"]).ok();
    assert!(seen.contains(" -> "), "it saw something: {seen}");
    let root = engine.root.to_str().unwrap();
    let binary = env!("CARGO_BIN_EXE_rcon");
    let bad: Vec<&str> =
        seen.lines().filter(|line| line.contains(root) || line.contains(binary) || line.contains("rcon.db") || line.contains("cgroup")).collect();
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

/// A container that fills the disk can still be removed, and its end is recorded.
#[test]
fn a_full_disk_can_be_emptied() {
    let place = std::env::temp_dir().join(format!("rcon-full-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let script = r#"
        mount -t tmpfs -o size=64m none "$PLACE"; cd "$PLACE"
        engine() { "$RCON" --root "$PLACE/data" --run-root "$PLACE/run" "$@"; }
        engine load -q -i "$IMAGE" > /dev/null
        engine run --name hog --network none busybox sh -c 'dd if=/dev/zero of=/x bs=1M count=100 2> /dev/null; exit 3' || echo "code $?"
        echo "wait $(engine wait hog)"
        engine rm -f hog
        engine run --rm --network none busybox echo again
        for i in $(seq 1200); do [ -n "$(engine ps -aq)" ] || break; sleep 0.05; done
        engine ps -aq
    "#;
    let done = std::process::Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-ec", script])
        .env("PLACE", &place)
        .env("RCON", env!("CARGO_BIN_EXE_rcon"))
        .env("IMAGE", crate::outcome::fixtures().join("busybox.tar"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "code 3\nwait 3\nhog\nagain\n", "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_dir(&place).unwrap();
}
