//! Volumes: bind, named with copy-up, anonymous, `--volumes-from`, tmpfs.

use crate::environment::Environment;
use crate::outcome::eventually;

#[test]
fn binds_are_created_by_v_and_refused_by_mount() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "./made:/m", "busybox", "touch", "/m/x"]).ok();
    assert!(engine.root.join("made/x").exists());
    engine.rcon(&["run", "--rm", "-v", "./made:/m:ro", "busybox", "touch", "/m/y"]).fails(1, "Read-only");
    std::fs::write(engine.root.join("file"), "text").unwrap();
    let path = engine.root.join("file");
    let mount = format!("type=bind,src={},dst=/etc/passwd,readonly", path.display());
    assert_eq!(engine.rcon(&["run", "--rm", "--mount", &mount, "busybox", "cat", "/etc/passwd"]).ok(), "text");
}

#[test]
fn a_named_volume_keeps_data_and_starts_with_the_images() {
    let engine = Environment::new();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "home:/home", "busybox", "stat", "-c", "%u", "/home/example"]).ok(), "1000");
    engine.rcon(&["run", "--rm", "-v", "home:/x", "busybox", "touch", "/x/kept"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "home:/home", "busybox", "ls", "/home"]).ok(), "example\nkept");
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "bare:/home:nocopy", "busybox", "ls", "/home"]).ok(), "");
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "bare\nhome");
    engine.rcon(&["create", "--name", "user", "-v", "home:/h", "busybox"]).ok();
    engine.rcon(&["volume", "rm", "home"]).fails(1, "in use");
    engine.rcon(&["rm", "user"]).ok();
    assert_eq!(engine.rcon(&["volume", "rm", "home"]).ok(), "home");
}

#[test]
fn volumes_from_shares_all_and_clamps() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "data", "-v", "/anon", "-v", "named:/named:ro", "-v", "./bind:/bind", "--tmpfs", "/tmpfs", "busybox"]).ok();
    engine.rcon(&["run", "--rm", "--volumes-from", "data", "busybox", "sh", "-c", "echo 1 > /anon/f; echo 2 > /bind/f"]).ok();
    let out =
        engine.rcon(&["run", "--rm", "--volumes-from", "data", "busybox", "sh", "-c", "cat /anon/f /bind/f; ls -d /tmpfs 2>&1; touch /named/x 2>&1"]);
    assert!(out.out.starts_with("1\n2\n") && out.out.contains("/tmpfs: No such") && out.out.contains("Read-only"), "{}", out.out);
    engine.rcon(&["run", "--rm", "--volumes-from", "data:ro", "busybox", "touch", "/anon/g"]).fails(1, "Read-only");
    engine.rcon(&["rm", "data"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok().lines().count(), 2, "rm without -v keeps volumes");
}

#[test]
fn anonymous_volumes_live_as_long_as_their_users() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "/a", "busybox", "touch", "/a/x"]).ok();
    eventually("--rm removes them", || engine.rcon(&["volume", "ls", "-q"]).out.is_empty());
    engine.rcon(&["create", "--name", "one", "-v", "/a", "busybox"]).ok();
    engine.rcon(&["create", "--name", "two", "--volumes-from", "one", "busybox"]).ok();
    engine.rcon(&["rm", "-v", "one"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok().lines().count(), 1, "still used");
    engine.rcon(&["rm", "-v", "two"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn create_inspect_prune() {
    let engine = Environment::empty();
    assert_eq!(engine.rcon(&["volume", "create", "--label", "a=b", "vol"]).ok(), "vol");
    assert_eq!(engine.rcon(&["volume", "create", "vol"]).ok(), "vol");
    assert_eq!(engine.rcon(&["volume", "inspect", "-f", "{{.Name}} {{index .Labels \"a\"}} {{.Driver}}", "vol"]).ok(), "vol b local");
    let anonymous = engine.rcon(&["volume", "create"]).ok();
    assert_eq!(anonymous.len(), 64);
    assert!(engine.rcon(&["volume", "prune", "-f"]).ok().contains(&anonymous));
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "vol");
    engine.rcon(&["volume", "prune", "-a", "-f"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}
