//! exec.

use super::lab::Lab;
use crate::outcome::eventually;
use serde_json::json;
use std::fs;

#[test]
fn exit_codes_are_the_processs_and_255_is_ours() {
    let lab = Lab::with_container("web");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 254", 254), ("kill -9 $$", 137)] {
        let done = lab.run(&["exec", "web", "sh", "-c", script]);
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{script}");
    }
    lab.run(&["exec", "web", "none"]).fails(255, "exec failed: exec: \"none\": executable file not found in $PATH");
    lab.run(&["exec", "web", "/etc"]).fails(255, "exec: \"/etc\": is a directory");
    lab.run(&["exec", "web"]).fails(255, "process args cannot be empty");
    lab.run(&["exec", "web", ""]).fails(255, "exec");
    lab.run(&["exec", "--cwd", "/none", "web", "true"]).fails(255, "/none");
    // Flags are the command's own behind the container.
    assert_eq!(lab.run(&["exec", "web", "echo", "-t", "--user", "-n"]).ok(), "-t --user -n");
}

#[test]
fn users_groups_and_capabilities() {
    let lab = Lab::with_container("web");
    let id = |words: &[&str]| lab.run(&[&["exec"], words, &["web", "sh", "-c", "id -u; id -g; id -G"]].concat()).ok().replace('\n', " ");
    assert_eq!(id(&[]), "0 0 0");
    assert_eq!(id(&["-u", "1"]), "1 0 0");
    assert_eq!(id(&["--user=1000:77"]), "1000 77 77");
    assert_eq!(id(&["-u", "1:1", "-g", "5", "--additional-gids", "6"]), "1 1 1 5 6");
    for bad in ["daemon", "-1", "1:", "4294967295", "1x"] {
        lab.run(&["exec", "-u", bad, "web", "true"]).fails(255, "UID[:GID]");
    }
    let status = |words: &[&str], field: &str| {
        let text = lab.run(&[&["exec"], words, &["web", "cat", "/proc/self/status"]].concat()).ok();
        text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    };
    let plain = u64::from_str_radix(&status(&[], "CapEff:"), 16).unwrap();
    let more = u64::from_str_radix(&status(&["--cap", "CAP_SYS_TIME", "-c", "CAP_CHOWN"], "CapEff:"), 16).unwrap();
    assert_eq!(more, plain | 1 << 25 | 1);
    assert_eq!(status(&["--cap", "CAP_SYS_TIME"], "CapInh:"), "0000000000000000");
    lab.run(&["exec", "--cap", "NONE_SUCH", "web", "true"]).fails(255, "unknown capability");
    assert_eq!((status(&["--no-new-privs=false"], "NoNewPrivs:"), status(&["--no-new-privs"], "NoNewPrivs:")), ("0".to_owned(), "1".to_owned()));
}

#[test]
fn environment_and_directory() {
    let lab = Lab::with_container("web");
    let done = lab.run(&["exec", "-e", "A=1", "--env", "B=x y", "-e", "TERM=dumb", "-e", "A=2", "--cwd", "/usr", "web", "sh", "-c", "pwd; env"]).ok();
    let lines: Vec<&str> = done.lines().collect();
    assert_eq!(lines[0], "/usr");
    for expected in ["A=2", "B=x y", "TERM=dumb"] {
        assert!(lines.contains(&expected), "{done}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with("A=") || line.starts_with("TERM=")).count(), 2, "{done}");
    lab.run(&["exec", "-e", "A", "web", "true"]).fails(255, "NAME=VALUE");
}

#[test]
fn a_process_file_says_it_all() {
    let lab = Lab::with_container("web");
    let file = lab.path("process.json");
    let write = |process| fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
    write(json!({"args": ["sh", "-c", "id -u; pwd; echo $A; exit 4"], "env": ["A=b", "PATH=/bin"], "cwd": "/tmp", "user": {"uid": 5, "gid": 6}}));
    let done = lab.run(&["exec", "--process", &file, "web"]);
    assert_eq!((done.code, done.out.as_str()), (4, "5\n/tmp\nb\n"));
    assert_eq!(lab.run(&["exec", "-p", &file, "-u", "9", "web"]).out.lines().next(), Some("9"));
    lab.run(&["exec", "-p", &file, "web", "true"]).fails(255, "not both");
    lab.run(&["exec", "-p", "/none", "web"]).fails(255, "/none");
    write(json!({"args": [], "cwd": "/", "user": {"uid": 0, "gid": 0}}));
    lab.run(&["exec", "-p", &file, "web"]).fails(255, "process args cannot be empty");
    write(json!({"args": ["true"], "cwd": "tmp", "user": {"uid": 0, "gid": 0}}));
    lab.run(&["exec", "-p", &file, "web"]).fails(255, "absolute");
    fs::write(&file, "{").unwrap();
    lab.run(&["exec", "-p", &file, "web"]).fails(255, "process.json");
}

#[test]
fn detached_processes_have_pid_files() {
    let lab = Lab::with_container("web");
    let pid_file = lab.path("pid");
    lab.run(&["exec", "--detach", "--pid-file", &pid_file, "web", "sleep", "603"]).ok();
    let pid = fs::read_to_string(&pid_file).unwrap();
    let line = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    eventually("the process runs", || line() == "sleep\x00603\0");
    let pids: Vec<i64> = serde_json::from_str(&lab.run(&["ps", "-f", "json", "web"]).ok()).unwrap();
    assert!(pids.iter().any(|number| number.to_string() == pid));
    // One that nobody is told of is not left behind.
    lab.run(&["exec", "-d", "--pid-file", "/none/pid", "web", "sleep", "607"]).fails(255, "/none/pid");
    eventually("it is gone", || !lab.run(&["ps", "web"]).ok().contains("sleep 607"));
}

#[test]
fn created_and_paused_containers() {
    let lab = Lab::with_script("sleep 600");
    lab.run(&["create", "web"]).ok();
    assert_eq!(lab.run(&["exec", "web", "echo", "early"]).ok(), "early");
    lab.run(&["start", "web"]).ok();
    lab.run(&["pause", "web"]).ok();
    lab.run(&["exec", "web", "true"]).fails(255, "--ignore-paused");
    let mut command = lab.command(&["exec", "--ignore-paused", "web", "echo", "late"]);
    let out = fs::File::create(lab.root.join("late")).unwrap();
    let mut child = super::lab::Reaped(command.stdout(out).spawn().unwrap());
    let pids = || -> Vec<i64> { serde_json::from_str(&lab.run(&["ps", "-f", "json", "web"]).ok()).unwrap() };
    eventually("a second process", || pids().len() == 2);
    assert_eq!(fs::read_to_string(lab.root.join("late")).unwrap(), "");
    lab.run(&["resume", "web"]).ok();
    assert!(child.0.wait().unwrap().success());
    assert_eq!(fs::read_to_string(lab.root.join("late")).unwrap(), "late\n");
}

#[test]
fn labels_of_absent_modules_are_refused() {
    let lab = Lab::with_container("web");
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        lab.run(&["exec", "--apparmor", "some-profile", "web", "true"]).fails(255, "AppArmor");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        lab.run(&["exec", "--process-label", "a:b:c:s0", "web", "true"]).fails(255, "SELinux");
    }
    lab.run(&["exec", "--apparmor", "", "--process-label", "", "web", "true"]).ok();
}

#[test]
fn groups_below_the_containers_own_may_be_joined() {
    let lab = Lab::with_container("web");
    lab.run(&["exec", "--cgroup", "none", "web", "true"]).fails(255, "none");
    lab.run(&["exec", "--cgroup", "../..", "web", "true"]).fails(255, "..");
    // The container's own.
    lab.run(&["exec", "--cgroup", "/", "web", "true"]).ok();
}
