//! update.

use super::lab::Lab;
use std::io::Write;
use std::process::Stdio;

#[test]
fn every_limit_has_a_flag() {
    let lab = Lab::with_container("web");
    let update = |words: &[&str]| lab.run(&[&["update"], words, &["web"]].concat()).ok();
    update(&["--memory", "30m"]);
    assert_eq!(lab.group_file("web", &["memory.limit_in_bytes", "memory.max"]), (30 << 20).to_string());
    update(&["--memory-reservation", "20m"]);
    assert_eq!(lab.group_file("web", &["memory.soft_limit_in_bytes", "memory.low"]), (20 << 20).to_string());
    update(&["--pids-limit", "33"]);
    assert_eq!(lab.group_file("web", &["pids.max"]), "33");
    update(&["--pids-limit", "0"]);
    assert_eq!(lab.group_file("web", &["pids.max"]), "33");
    update(&["--pids-limit=-1"]);
    assert_eq!(lab.group_file("web", &["pids.max"]), "max");
    update(&["--cpu-period", "50000", "--cpu-quota", "20000"]);
    assert!(["20000", "20000 50000"].contains(&lab.group_file("web", &["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    update(&["--cpu-quota", "-1"]);
    assert!(["-1", "max 50000"].contains(&lab.group_file("web", &["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    update(&["--cpu-share", "512"]);
    assert!(["512", "20", "59"].contains(&lab.group_file("web", &["cpu.shares", "cpu.weight"]).as_str()));
    update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!((lab.group_file("web", &["cpuset.cpus"]), lab.group_file("web", &["cpuset.mems"])), ("0".to_owned(), "0".to_owned()));
    lab.run(&["update", "--memory", "x", "web"]).fails(1, "--memory");
    lab.run(&["update", "--cpu-period", "x", "web"]).fails(1, "x");
    lab.run(&["update", "--cpuset-cpus", "999", "web"]).fails(1, "cpuset");
}

#[test]
fn resources_come_from_a_file_or_stdin() {
    let lab = Lab::with_container("web");
    let file = lab.path("resources.json");
    std::fs::write(&file, "{\"memory\": {\"limit\": 41943040}, \"pids\": {\"limit\": 44}}").unwrap();
    lab.run(&["update", "--resources", &file, "web"]).ok();
    assert_eq!(lab.group_file("web", &["memory.limit_in_bytes", "memory.max"]), (40 << 20).to_string());
    assert_eq!(lab.group_file("web", &["pids.max"]), "44");
    let mut child = lab.command(&["update", "-r", "-", "web"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"pids\": {\"limit\": 45}}").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(lab.group_file("web", &["pids.max"]), "45");
    lab.run(&["update", "-r", &file, "--memory", "1g", "web"]).fails(1, "not both");
    lab.run(&["update", "-r", "/none", "web"]).fails(1, "/none");
    std::fs::write(&file, "{\"memory\": 7}").unwrap();
    lab.run(&["update", "-r", &file, "web"]).fails(1, "resources.json");
}
