//! Flags of `run` that few use, each by what the container sees of it; and what is refused, by its name.

use crate::environment::Environment;
use std::fs;

#[test]
fn what_the_process_gets() {
    let engine = Environment::new();
    let sh = |flags: &[&str], script: &str| engine.rcon(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat()).ok();
    assert_eq!(sh(&["--umask", "077"], "umask"), "0077");
    assert_eq!(sh(&["--hostname", "", "--name", "web"], "hostname").len(), 12, "the id's first digits, as without the flag");
    assert_eq!(sh(&["--tz", "Asia/Tokyo"], "date +%Z"), "JST");
    assert_eq!(sh(&["--entrypoint", "[\"echo\",\"a b\"]"], "ignored"), "a b sh -c ignored");
    assert_eq!(sh(&["--unsetenv", "PATH", "-e", "A=1"], "env | grep -c '^A=1'"), "1");
    assert_eq!(sh(&["--no-hosts"], "[ -s /etc/hosts ] || echo none"), "none");
    assert_eq!(sh(&["--read-only", "--read-only-tmpfs"], "touch /tmp/x /run/x && ! touch /x 2>/dev/null && echo fine"), "fine");
    assert_eq!(sh(&["--security-opt", "mask=/etc/services:/home"], "ls /home"), "");
    assert_eq!(sh(&["--security-opt", "unmask=/proc/sys"], "grep -c ' /proc/sys ' /proc/mounts || true"), "0");
    assert_eq!(sh(&["--security-opt", "proc-opts=hidepid=2", "-u", "1000"], "grep ' /proc ' /proc/mounts | grep -c hidepid="), "1");
    let passed =
        engine.command(&["run", "--rm", "--env-host", "-e", "B=mine", "busybox", "sh", "-c", "echo $A$B"]).env("A", "1").env("B", "no").output();
    assert_eq!(String::from_utf8_lossy(&passed.unwrap().stdout), "1mine\n");
    let proxied = engine
        .command(&["run", "--rm", "--http-proxy", "busybox", "sh", "-c", "echo $HTTP_PROXY $http_proxy"])
        .env("http_proxy", "http://p")
        .output();
    assert_eq!(String::from_utf8_lossy(&proxied.unwrap().stdout), "http://p http://p\n");
    fs::create_dir_all(engine.root.join("home/.docker")).unwrap();
    fs::write(engine.root.join("home/.docker/config.json"), "{\"proxies\":{\"default\":{\"noProxy\":\"*.local\"}}}").unwrap();
    assert_eq!(sh(&[], "echo $NO_PROXY"), "*.local");
}

#[test]
fn secrets_are_seen_by_the_container_alone() {
    let engine = Environment::new();
    let id = engine.rcon_with_input(&["secret", "create", "-l", "k=v", "pw", "-"], b"hidden").ok();
    engine.rcon_with_input(&["secret", "create", "pw", "-"], b"x").fails(1, "already exists");
    assert_eq!(engine.rcon(&["secret", "ls", "--format", "{{.Name}} {{.Label \"k\"}}"]).ok(), "pw v");
    assert!(!engine.rcon(&["secret", "inspect", "pw"]).ok().contains("hidden"));
    assert_eq!(engine.rcon(&["secret", "inspect", "-f", "{{.ID}} {{.Spec.Name}}", &id[..6]]).ok(), format!("{id} pw"));
    let flags = ["--secret", "pw,mode=0400,uid=5,gid=6", "--secret", "pw,type=env,target=PW", "--secret", "pw,target=/etc/pw"];
    let script = "stat -c '%u %g %a' /run/secrets/pw; cat /run/secrets/pw /etc/pw; echo $PW; touch /etc/pw 2>/dev/null || echo ro";
    engine.rcon(&[&["create", "--name", "web"], &flags[..], &["busybox", "sh", "-c", script]].concat()).ok();
    engine.rcon(&["secret", "rm", "pw"]).ok();
    for _ in 0..2 {
        assert_eq!(engine.rcon(&["start", "-a", "web"]).ok(), "5 6 400\nhiddenhiddenhidden\nro");
    }
    assert!(!engine.rcon(&["inspect", "web"]).ok().contains("hidden"));
    engine.rcon(&["run", "--rm", "--secret", "pw", "busybox", "true"]).fails(125, "No such secret: pw");
    engine.rcon(&["secret", "rm", "pw"]).fails(1, "No such secret: pw");
    engine.rcon(&["secret", "rm", "-i", "pw"]).ok();
}

#[test]
fn links_and_requirements() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "db", "--expose", "5432", "-e", "K=v", "busybox", "sleep", "600"]).ok();
    engine.rcon(&["run", "--rm", "--link", "db", "busybox", "true"]).fails(125, "non running container");
    let script = "grep -c sql /etc/hosts; echo $SQL_PORT_5432_TCP_PORT $SQL_ENV_K $SQL_PORT; ping -c 1 -W 20 sql > /dev/null && echo reached";
    let out = engine.rcon(&["run", "--name", "web", "--requires", "db", "--link", "db:sql", "busybox", "sh", "-c", script]).ok();
    let address = engine.see("db", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(out, format!("1\n5432 v tcp://{address}:5432\nreached"));
    engine.rcon(&["rename", "db", "other"]).ok();
    engine.rcon(&["kill", "other"]).ok();
    assert!(engine.rcon(&["start", "-a", "web"]).ok().ends_with("reached"), "a requirement is started again");
    engine.rcon(&["run", "--rm", "--network", "host", "--link", "other", "busybox", "true"]).fails(125, "--link");
    engine.rcon(&["run", "--rm", "--requires", "none", "busybox", "true"]).fails(125, "none");
}

#[test]
fn a_container_or_its_image_is_replaced_or_removed() {
    let engine = Environment::new();
    let first = engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "600"]).ok();
    let second = engine.rcon(&["run", "-d", "--replace", "--name", "web", "busybox", "sleep", "600"]).ok();
    assert_ne!(first, second);
    assert_eq!(engine.rcon(&["ps", "-aq", "--no-trunc"]).ok(), second);
    engine.rcon(&["rm", "-f", "web"]).ok();
    engine.rcon(&["tag", "busybox", "other"]).ok();
    engine.rcon(&["rmi", "busybox"]).ok();
    engine.rcon(&["run", "--rmi", "other", "true"]).ok();
    engine.rcon(&["image", "inspect", "other"]).fails(1, "No such image");
    engine.rcon(&["run", "-d", "--rmi", "other", "true"]).fails(125, "--rmi");
}

#[test]
fn what_is_refused_names_itself() {
    let engine = Environment::new();
    for (flag, words) in [
        ("--rootfs", "cannot find the container's root"),
        ("--storage-opt=size=1g", "--storage-opt is not supported"),
        ("--runtime=runc", "--runtime is not supported"),
        ("--isolation=hyperv", "Windows"),
        ("--device=vendor.com/class=none", "unresolvable CDI device vendor.com/class=none"),
        ("--gpus=all", "nvidia.com/gpu=all"),
        ("--bogus", "unknown flag: --bogus"),
    ] {
        engine.rcon(&["run", "--rm", flag, "busybox", "true"]).fails(125, words);
    }
    engine.rcon(&["-H", "tcp://1.2.3.4:5", "ps"]).fails(125, "--host tcp://1.2.3.4:5");
    engine.rcon(&["--context", "far", "ps"]).fails(125, "--context far");
    engine.rcon(&["--context", "default", "ps"]).ok();
    engine.rcon(&["--tlsverify", "ps"]).fails(125, "--tlsverify");
    engine.rcon(&["container", "checkpoint", "x"]).fails(1, "CRIU");
    let far = engine.command(&["ps"]).env("DOCKER_HOST", "ssh://far").output().unwrap();
    assert!(!far.status.success() && String::from_utf8_lossy(&far.stderr).contains("DOCKER_HOST=ssh://far"));
}
