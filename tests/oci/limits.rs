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

#[test]
fn shares_of_the_cache_need_a_resctrl_file_system() {
    let lab = Lab::with_container("web");
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        return;
    }
    lab.run(&["update", "--l3-cache-schema", "L3:0=f", "web"]).fails(1, "resctrl");
    lab.run(&["update", "--mem-bw-schema", "MB:0=50", "web"]).fails(1, "resctrl");
    lab.run(&["update", "--mem-bw-schema", "L3:0=50", "web"]).fails(1, "memBwSchema");
}

#[test]
fn statistics_are_lines_of_json() {
    let lab = Lab::with_container("web");
    let event: serde_json::Value = serde_json::from_str(&lab.run(&["events", "--stats", "web"]).ok()).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some("web")));
    for field in ["cpu", "memory", "pids", "blkio", "hugetlb", "cpuset", "network_interfaces"] {
        assert!(!event["data"].get(field).is_none_or(|value| field == "cpu" && value.is_null()), "{field}: {event}");
    }
    assert!(event["data"]["pids"]["current"].as_u64().unwrap() >= 1);
    lab.run(&["events", "--interval", "0", "web"]).fails(1, "duration");
    let out = lab.root.join("events");
    let mut command = lab.command(&["events", "--interval", "20ms", "web"]);
    let mut child = super::lab::Reaped(command.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap());
    crate::outcome::eventually("three events", || std::fs::read_to_string(&out).unwrap().lines().count() >= 3);
    lab.run(&["kill", "web", "KILL"]).ok();
    lab.await_status("web", "stopped");
    lab.run(&["events", "--stats", "web"]).fails(1, "not running");
    lab.run(&["delete", "web"]).ok();
    assert!(child.0.wait().unwrap().success());
}
