//! Groups on this host (root, unique names, nothing left behind) and on an imitated v2 host.
use super::hierarchy::{Layout, Mount};
use super::place::Place;
use super::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A group that is killed and removed when the test ends, however it ends.
struct Scratch {
    group: Group,
    children: Vec<Child>,
}

impl Scratch {
    fn new(resources: Option<&LinuxResources>) -> Self {
        let path = fresh_path();
        Scratch { group: Group::create(&path, resources).unwrap(), children: Vec::new() }
    }

    /// A shell in the group: it waits for a line before it goes on, so that nothing runs outside.
    fn spawn(&mut self, script: &str) -> i32 {
        let script = format!("read go; {script}");
        let mut child =
            Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.group.join(pid).unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        self.children.push(child);
        pid
    }

    /// Exit code of a script that ran in the group.
    fn run(&mut self, script: &str) -> Option<i32> {
        self.spawn(script);
        self.children.pop().unwrap().wait().unwrap().code()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let place = self.group.place().unwrap();
        place.home(controller).unwrap().0.get(file).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.group.kill_all(Duration::from_secs(10)).unwrap();
        for child in &mut self.children {
            child.wait().unwrap();
        }
        self.group.delete().unwrap();
        for dir in self.group.place().unwrap().dirs() {
            assert!(!dir.exists(), "{}", dir.display());
            remove_parent(&dir);
        }
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// A path that no other test shares a parent with, so that the parent can be removed too.
fn fresh_path() -> String {
    format!("/rcon-test-{}/x", crate::base::random_hex(16))
}

fn remove_parent(dir: &Path) {
    let parent = dir.parent().unwrap();
    if parent.exists() {
        fs::remove_dir(parent).unwrap();
    }
}

/// Waits for a state that the kernel reaches by itself.
fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "never reached: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_reach_the_kernel_and_processes_are_inside() {
    let limits = resources(
        r#"{"memory":{"limit":67108864,"swap":67108864,"reservation":33554432},"pids":{"limit":40},"cpu":{"shares":512,"quota":50000,"period":100000}}"#,
    );
    let mut scratch = Scratch::new(Some(&limits));
    let pid = scratch.spawn("exec sleep 1000");
    assert_eq!(scratch.group.pids().unwrap(), [pid]);
    assert_eq!(scratch.read("pids", "pids.max"), "40");
    assert_eq!(scratch.read("pids", "cgroup.procs"), pid.to_string());
    assert_eq!(scratch.read("memory", "cgroup.procs"), pid.to_string());
    if Layout::host().unwrap().legacy("memory").is_some() {
        assert_eq!(scratch.read("memory", "memory.limit_in_bytes"), "67108864");
        assert_eq!(scratch.read("memory", "memory.memsw.limit_in_bytes"), "67108864");
        assert_eq!(scratch.read("cpu", "cpu.shares"), "512");
        assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), "50000");
    }
    // Up with the total, then down with both, then to "unlimited": each order of writes.
    for (memory, wanted) in
        [(r#"{"memory":{"limit":268435456,"swap":536870912}}"#, 268_435_456), (r#"{"memory":{"limit":33554432,"swap":67108864}}"#, 33_554_432)]
    {
        scratch.group.update(&resources(memory)).unwrap();
        assert_eq!(scratch.group.stats().unwrap().memory_limit, wanted);
    }
    scratch.group.update(&resources(r#"{"memory":{"limit":-1},"pids":{"limit":-1}}"#)).unwrap();
    let stats = scratch.group.stats().unwrap();
    assert_eq!((stats.pids, stats.pids_limit, stats.oom_kills), (1, None, 0));
    assert!(stats.memory_limit > 268_435_456 && stats.memory_usage < stats.memory_limit);
    let reopened: Group = serde_json::from_str(&serde_json::to_string(&scratch.group).unwrap()).unwrap();
    assert_eq!(reopened.pids().unwrap(), [pid]);
}

#[test]
fn statistics_follow_and_a_later_limit_takes_the_running_processes() {
    let mut scratch = Scratch::new(None);
    let pid = scratch.spawn("exec sleep 1000");
    let second = scratch.spawn("sleep 1000 & wait");
    eventually("the shell's child", || scratch.group.pids().unwrap().len() == 3);
    scratch.group.join_accounting().unwrap();
    for controller in ["memory", "pids", "blkio"] {
        assert_eq!(scratch.read(controller, "cgroup.procs").lines().count(), 3, "{controller}");
    }
    let stats = scratch.group.stats().unwrap();
    assert!(stats.pids == 3 && stats.cpu_total > 0, "{stats:?}");
    // Accounting alone does not slow an exec down; a limit does.
    if Layout::host().unwrap().legacy("pids").is_some() {
        let late = scratch.spawn("exec sleep 1000");
        assert!(!scratch.read("pids", "cgroup.procs").contains(&late.to_string()));
        scratch.group.update(&resources(r#"{"pids":{"limit":64},"cpu":{"shares":300}}"#)).unwrap();
        assert_eq!(scratch.read("pids", "cgroup.procs").lines().count(), 4);
        assert_eq!(scratch.read("cpu", "cgroup.procs").lines().count(), 4);
        let after = scratch.spawn("exec sleep 1000");
        assert!(scratch.read("pids", "cgroup.procs").contains(&after.to_string()));
    }
    assert!([pid, second].iter().all(|pid| scratch.group.pids().unwrap().contains(pid)));
}

#[test]
fn freezing_stops_and_killing_reaches_the_frozen() {
    let mut scratch = Scratch::new(None);
    scratch.spawn("while :; do sleep 0.01; done");
    scratch.group.freeze().unwrap();
    scratch.group.freeze().unwrap();
    assert!(scratch.group.is_frozen());
    let before = scratch.group.stats().unwrap().cpu_total;
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(scratch.group.stats().unwrap().cpu_total, before);
    scratch.group.thaw().unwrap();
    eventually("running again", || scratch.group.stats().unwrap().cpu_total > before);
    assert!(!scratch.group.is_frozen());
    scratch.group.freeze().unwrap();
    scratch.group.kill_all(Duration::from_secs(10)).unwrap();
    assert!(scratch.group.pids().unwrap().is_empty());
    scratch.group.kill_all(Duration::from_secs(1)).unwrap();
}

#[test]
fn devices_are_refused_unless_admitted() {
    let node = std::env::temp_dir().join(format!("rcon-mem-{}", crate::base::random_hex(8)));
    let node = node.display();
    let script = format!(
        "mknod {node} c 1 1 || exit 10; head -c1 {node} 2>/dev/null && exit 11; rm -f {node}; \
         head -c1 /dev/kmsg >/dev/null 2>&1 && exit 12; head -c1 /dev/zero >/dev/null || exit 13; exit 0"
    );
    let mut denied = Scratch::new(Some(&resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)));
    assert_eq!(denied.run(&script), Some(0));
    let open = "exec 3</dev/kmsg || exit 1";
    assert_ne!(denied.run(open), Some(0));
    denied.group.update(&resources(r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#)).unwrap();
    assert_eq!(denied.run(open), Some(0));
    assert_ne!(denied.run("exec 3>>/dev/kmsg || exit 1"), Some(0));
    denied.group.update(&resources(r#"{"devices":[{"allow":false}]}"#)).unwrap();
    assert_ne!(denied.run(open), Some(0));
    let mut privileged = Scratch::new(Some(&resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#)));
    assert_eq!(privileged.run(open), Some(0));
    let mut unspoken = Scratch::new(None);
    assert_ne!(unspoken.run(open), Some(0));
}

#[test]
fn an_oom_kill_is_counted() {
    let limit = resources(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let mut scratch = Scratch::new(Some(&limit));
    assert_ne!(scratch.run("head -c 200000000 /dev/zero | tail -n 1"), Some(0));
    assert!(scratch.group.oom_kills() >= 1);
}

#[test]
fn a_group_is_not_taken_twice_and_children_go_with_it() {
    let mut scratch = Scratch::new(None);
    scratch.spawn("exec sleep 1000");
    assert!(matches!(Group::create(&scratch.group.path, None), Err(Error::NotEmpty(_))));
    let leftover = Scratch::new(Some(&resources(r#"{"pids":{"limit":3}}"#)));
    let again = Group::create(&leftover.group.path, None).unwrap();
    assert_eq!(again.stats().unwrap().pids_limit, None);
    for dir in scratch.group.place().unwrap().dirs().iter().filter(|dir| dir.exists()) {
        fs::create_dir_all(dir.join("child/grandchild")).unwrap();
    }
    assert!(matches!(Group::create("/../x", None), Err(Error::Path(_))));
    let gone = Group::at(&fresh_path());
    assert!(gone.pids().unwrap().is_empty());
    gone.kill_all(Duration::from_secs(1)).unwrap();
    gone.delete().unwrap();
    assert!(gone.stats().is_err());
}

#[test]
fn a_refused_limit_is_named_and_leaves_nothing() {
    let path = fresh_path();
    let error = Group::create(&path, Some(&resources(r#"{"cpu":{"cpus":"9999"}}"#))).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot set cpuset.cpus to 9999 for {path}"));
    let group = Group::at(&path);
    for dir in group.place().unwrap().dirs() {
        assert!(!dir.exists());
        remove_parent(&dir);
    }
}

#[test]
fn a_process_enters_below_a_group_that_hands_controllers_down() {
    let host = Imitation::new(&[("cgroup.subtree_control", "memory"), ("cgroup.procs", "")]);
    let below = host.base.join("rcon/x/init.scope");
    fs::create_dir(&below).unwrap();
    assert_eq!(host.place().entry().unwrap(), host.base.join("rcon/x"));
    fs::write(below.join("cgroup.procs"), "7\n").unwrap();
    assert_eq!(host.place().entry().unwrap(), below);
    fs::write(host.base.join("rcon/x/cgroup.subtree_control"), "").unwrap();
    assert_eq!(host.place().entry().unwrap(), host.base.join("rcon/x"));
}

/// What a host without a v2 tree does, on this host's v1 hierarchies.
#[test]
fn without_v2_the_freezer_tracks_and_the_devices_controller_guards() {
    let host = Layout::host().unwrap();
    if host.legacy("freezer").is_none() {
        // A pure v2 host has no such hierarchy to show it on.
        return;
    }
    let layout = Layout { v2: None, legacy: host.legacy.clone() };
    let path = fresh_path();
    let place = Place::new(&layout, &path);
    place.clear().unwrap();
    place.prepare(Some(&resources(r#"{"pids":{"limit":30}}"#))).unwrap();
    place.restrict(&[], false).unwrap();
    let mut child = Command::new("/bin/sh").args(["-c", "read go; exec sleep 1000"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    place.join(pid, false).unwrap();
    drop(child.stdin.take());
    let files = place.tracking().unwrap();
    assert_eq!(control::pids(&files).unwrap(), [pid]);
    place.account().unwrap();
    control::freeze(&files, false).unwrap();
    assert!(control::is_frozen(&files, false));
    assert!(place.stats().unwrap().cpu_total > 0);
    control::kill_all(&files, false, Duration::from_secs(10)).unwrap();
    child.wait().unwrap();
    assert!(control::pids(&files).unwrap().is_empty() && !control::is_frozen(&files, false));
    // Under dash a refused redirection of `exec` ends the shell, so its code tells that the device was refused.
    let mut second = Command::new("/bin/sh")
        .args(["-c", "read go; head -c1 /dev/zero >/dev/null || exit 0; exec 3</dev/kmsg"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    place.join(i32::try_from(second.id()).unwrap(), false).unwrap();
    drop(second.stdin.take());
    assert_ne!(second.wait().unwrap().code(), Some(0));
    control::remove(&place.dirs()).unwrap();
    for dir in place.dirs() {
        assert!(!dir.exists());
        remove_parent(&dir);
    }
}

/// A v2 tree of plain files.
struct Imitation {
    base: PathBuf,
    layout: Layout,
}

impl Imitation {
    fn new(files: &[(&str, &str)]) -> Self {
        let base = std::env::temp_dir().join(format!("rcon-cgroup-{}", crate::base::random_hex(16)));
        fs::create_dir_all(base.join("rcon/x")).unwrap();
        for dir in ["", "rcon", "rcon/x"] {
            fs::write(base.join(dir).join("cgroup.controllers"), "cpuset cpu io memory pids").unwrap();
            fs::write(base.join(dir).join("cgroup.subtree_control"), if dir.is_empty() { "memory" } else { "" }).unwrap();
        }
        for (file, text) in files {
            fs::write(base.join("rcon/x").join(file), text).unwrap();
        }
        let v2 = Mount { base: base.clone(), root: "/".to_owned() };
        Imitation { base, layout: Layout { v2: Some(v2), legacy: Vec::new() } }
    }

    fn place(&self) -> Place<'_> {
        Place::new(&self.layout, "/rcon/x")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(Path::new(&self.base).join(file)).unwrap()
    }
}

impl Drop for Imitation {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.base).unwrap();
    }
}

#[test]
fn v2_files_get_converted_values() {
    let empty = ["memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "cpuset.cpus", "pids.max", "io.weight", "io.max"];
    let host = Imitation::new(&empty.map(|file| (file, "")));
    let limits = resources(
        r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1048576},"cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},
            "pids":{"limit":100},"blockIO":{"weight":1000,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}]}}"#,
    );
    host.place().prepare(Some(&limits)).unwrap();
    assert_eq!(host.read("cgroup.subtree_control"), "+cpu +cpuset +io +pids");
    assert_eq!(host.read("rcon/cgroup.subtree_control"), "+cpu +cpuset +io +memory +pids");
    assert_eq!(host.read("rcon/x/cgroup.subtree_control"), "");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "67108864"),
        ("memory.low", "1048576"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "100"),
        ("io.weight", "10000"),
        ("io.max", "8:0 rbps=1048576"),
    ] {
        assert_eq!(host.read(&format!("rcon/x/{file}")), value, "{file}");
    }
    // A swap total alone counts from the limit in force; a period alone keeps the quota.
    host.place().limit(&resources(r#"{"memory":{"swap":67108865},"cpu":{"period":20000},"pids":{"limit":-1}}"#), true).unwrap();
    assert_eq!(host.read("rcon/x/memory.swap.max"), "1");
    assert_eq!(host.read("rcon/x/cpu.max"), "50000 20000");
    assert_eq!(host.read("rcon/x/pids.max"), "max");
}

#[test]
fn v2_refusals_name_what_is_missing() {
    let host = Imitation::new(&[("memory.max", ""), ("memory.current", "4096")]);
    let refused = |json: &str| host.place().prepare(Some(&resources(json))).unwrap_err().to_string();
    assert_eq!(refused(r#"{"memory":{"limit":64,"swap":128}}"#), "cannot set memory.swap.max to 64 for /rcon/x");
    assert_eq!(
        refused(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#),
        "cannot limit hugetlb for /rcon/x: this host has no hugetlb cgroup controller"
    );
    assert_eq!(refused(r#"{"memory":{"swappiness":1}}"#), "cannot apply memory swappiness: cgroup v2 has no such limit");
    let below = refused(r#"{"memory":{"limit":1024,"checkBeforeUpdate":true}}"#);
    assert_eq!(below, "cannot set the memory limit to 1024 for /rcon/x: 4096 bytes are in use");
    // No swap accounting: "no swap" and "unlimited" are what the group has anyway.
    host.place().prepare(Some(&resources(r#"{"memory":{"limit":64,"swap":64}}"#))).unwrap();
    for key in ["../memory.max", "max", ".memory", "cgroup.kill", "cgroup.procs"] {
        assert!(refused(&format!(r#"{{"unified":{{"{key}":"1"}}}}"#)).starts_with("invalid unified resource"), "{key}");
    }
    let missing = "cannot set unified resources of hugetlb for /rcon/x: that controller is not on cgroup v2 here";
    assert_eq!(refused(r#"{"unified":{"hugetlb.2MB.max":"1"}}"#), missing);
}

#[test]
fn a_group_with_processes_hands_nothing_down() {
    let host = Imitation::new(&[]);
    for (file, text) in [("rcon/cgroup.type", "domain\n"), ("rcon/cgroup.procs", "7\n")] {
        fs::write(host.base.join(file), text).unwrap();
    }
    host.place().prepare(None).unwrap();
    assert_eq!(host.read("rcon/cgroup.subtree_control"), "");
    let error = host.place().prepare(Some(&resources(r#"{"pids":{"limit":5}}"#))).unwrap_err();
    assert!(error.to_string().starts_with("cannot enable the pids cgroup controller in "), "{error}");
}

#[test]
fn unified_files_get_their_controller_and_each_line_its_write() {
    let host = Imitation::new(&[("io.max", ""), ("misc.max", ""), ("memory.high", ""), ("cgroup.max.depth", "")]);
    for dir in ["", "rcon", "rcon/x"] {
        fs::write(host.base.join(dir).join("cgroup.controllers"), "io memory misc").unwrap();
    }
    let limits = r#"{"memory":{"kernel":1000},"unified":{"io.max":"8:0 rbps=1\n8:16 wiops=2","misc.max":"res_a 3","memory.high":"77","cgroup.max.depth":"1"}}"#;
    host.place().prepare(Some(&resources(limits))).unwrap();
    assert_eq!(host.read("rcon/cgroup.subtree_control"), "+io +memory +misc");
    // Plain files keep the last of two writes.
    for (file, value) in [("io.max", "8:16 wiops=2"), ("misc.max", "res_a 3"), ("memory.high", "77"), ("cgroup.max.depth", "1")] {
        assert_eq!(host.read(&format!("rcon/x/{file}")), value, "{file}");
    }
    let host = Imitation::new(&[("rdma.max", ""), ("cpu.weight", ""), ("cpu.idle", "")]);
    for dir in ["", "rcon", "rcon/x"] {
        fs::write(host.base.join(dir).join("cgroup.controllers"), "rdma cpu").unwrap();
    }
    host.place().prepare(Some(&resources(r#"{"rdma":{"mlx":{"hcaObjects":4}},"cpu":{"idle":1,"shares":512}}"#))).unwrap();
    assert_eq!((host.read("rcon/x/rdma.max"), host.read("rcon/x/cpu.weight")), ("mlx hca_object=4".to_owned(), String::new()));
}

#[test]
fn v2_statistics_are_read() {
    let host = Imitation::new(&[
        ("cgroup.procs", "1\n2\n"),
        ("cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_throttled 2\n"),
        ("memory.current", "1000"),
        ("memory.stat", "anon 1\ninactive_file 300\n"),
        ("memory.max", "max"),
        ("memory.events", "oom 2\noom_kill 1\n"),
        ("pids.current", "5"),
        ("pids.max", "9"),
        ("io.stat", "8:0 rbytes=3 wbytes=4 rios=1\n"),
    ]);
    let stats = host.place().stats().unwrap();
    assert_eq!((stats.cpu_total, stats.cpu_user, stats.cpu_system, stats.throttled_periods), (7000, 4000, 3000, 2));
    assert_eq!((stats.memory_usage, stats.pids, stats.pids_limit, stats.oom_kills), (700, 5, Some(9), 1));
    assert_eq!((stats.block_read, stats.block_write), (3, 4));
    assert!(stats.memory_limit > 1 << 20);
}

#[test]
fn a_spec_places_makes_and_reuses_a_group() {
    let path = fresh_path();
    let spec = |limit: i64| -> oci_spec::runtime::Spec {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "linux": {"cgroupsPath": format!("{path}/"), "resources": {"pids": {"limit": limit}, "devices": [{"allow": false}]}},
        }))
        .unwrap()
    };
    let group = Group::of_spec(&spec(40), "id", false).unwrap();
    assert_eq!(group, Group::at(&path));
    assert!(group.place().unwrap().dirs().iter().all(|dir| !dir.exists()), "nothing is made yet");
    let group = group.make(&spec(40)).unwrap();
    let mut scratch = Scratch { group: group.clone(), children: Vec::new() };
    assert_eq!(scratch.read("pids", "pids.max"), "40");
    // An empty one may be used again; one with processes, or a frozen one, may not.
    Group::of_spec(&spec(50), "id", false).unwrap().make(&spec(50)).unwrap();
    assert_eq!(scratch.read("pids", "pids.max"), "50");
    group.freeze().unwrap();
    let error = Group::of_spec(&spec(60), "id", false).unwrap().make(&spec(60)).unwrap_err();
    assert_eq!(error.to_string(), format!("cgroup {path} is frozen: thaw it and those above it, or choose another cgroups path"));
    group.thaw().unwrap();
    scratch.spawn("exec sleep 1000");
    let error = Group::of_spec(&spec(60), "id", false).unwrap_err();
    assert_eq!(error.to_string(), format!("cgroup {path} already has processes: end them, or choose another cgroups path"));
}

#[test]
fn a_signal_reaches_all_and_the_paused_stay_paused() {
    let mut scratch = Scratch::new(None);
    let script = "trap 'exit 7' USR1; echo >&2; while :; do sleep 0.01; done";
    scratch.spawn(script);
    scratch.spawn(script);
    eventually("the shells' children", || scratch.group.pids().unwrap().len() >= 4);
    scratch.group.signal_all(crate::base::Signal::from_number(libc::SIGWINCH).unwrap()).unwrap();
    assert!(!scratch.group.is_frozen());
    scratch.group.freeze().unwrap();
    scratch.group.signal_all(crate::base::Signal::from_number(libc::SIGUSR1).unwrap()).unwrap();
    assert!(scratch.group.is_frozen());
    scratch.group.thaw().unwrap();
    for child in &mut scratch.children {
        let status = child.wait().unwrap();
        // The shell's own sleep got the signal, too; dash ends by its trap all the same.
        assert_eq!(status.code(), Some(7));
    }
    scratch.children.clear();
    scratch.spawn("exec sleep 1000");
    scratch.group.freeze().unwrap();
    scratch.group.signal_all(crate::base::Signal::KILL).unwrap();
    scratch.children.pop().unwrap().wait().unwrap();
    scratch.group.thaw().unwrap();
    assert!(matches!(Group::absent().signal_all(crate::base::Signal::KILL), Err(Error::Absent)));
    Group::absent().join(1).unwrap();
    Group::absent().delete().unwrap();
}

#[test]
fn a_further_process_may_enter_a_group_below() {
    let scratch = Scratch::new(Some(&resources(r#"{"pids":{"limit":9}}"#)));
    let layout = Layout::host().unwrap();
    for dir in scratch.group.place().unwrap().dirs().iter().filter(|dir| dir.exists()) {
        fs::create_dir_all(dir.join("a/b")).unwrap();
    }
    let sub = scratch.group.sub(&["a/b"]).unwrap();
    let mut child = Command::new("/bin/sh").args(["-c", "read go"]).stdin(Stdio::piped()).spawn().unwrap();
    sub.join(i32::try_from(child.id()).unwrap()).unwrap();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let inside = format!("{}/a/b", scratch.group.path);
    let limited = if layout.legacy("pids").is_some() { format!(":pids:{inside}\n") } else { format!("0::{inside}\n") };
    assert!(text.contains(&limited) && (layout.v2.is_none() || text.contains(&format!("0::{inside}\n"))), "{text}");
    drop(child.stdin.take());
    child.wait().unwrap();
    if layout.legacy("pids").is_some() {
        let sub = scratch.group.sub(&["pids:/a"]).unwrap();
        let place = sub.place().unwrap();
        assert_eq!((place.path, place.home("pids").unwrap().0.group), (scratch.group.path.as_str(), format!("{}/a", scratch.group.path).as_str()));
        assert!(matches!(scratch.group.sub(&["pids:/none"]), Err(Error::NoSubgroup { .. })));
    }
    assert!(matches!(scratch.group.sub(&["none"]), Err(Error::NoSubgroup { .. })));
    assert!(matches!(scratch.group.sub(&["../x"]), Err(Error::Path(_))));
    assert!(matches!(scratch.group.sub(&["nothing:/a"]), Err(Error::Controller { .. })));
    assert!(scratch.group.sub(&["/"]).unwrap().exact);
}

#[test]
fn oom_kills_are_told_and_then_the_end() {
    let limit = resources(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let mut scratch = Scratch::new(Some(&limit));
    scratch.spawn("head -c 200000000 /dev/zero | tail -n 1; exec sleep 1000");
    let mut watch = scratch.group.oom_watch().unwrap();
    assert_eq!(watch.wait(Duration::from_secs(20)).unwrap(), OomEvent::Oom);
    // Both ends of the pipe may have been killed.
    eventually("quiet", || watch.wait(Duration::from_millis(300)).unwrap() == OomEvent::Quiet);
    scratch.group.kill_all(Duration::from_secs(10)).unwrap();
    assert_eq!(watch.wait(Duration::from_secs(20)).unwrap(), OomEvent::Gone);
}

#[test]
fn full_statistics_come_from_the_kernel() {
    let mut scratch = Scratch::new(Some(&resources(r#"{"memory":{"limit":67108864},"pids":{"limit":40}}"#)));
    scratch.spawn("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000");
    scratch.group.full_stats().unwrap();
    eventually("some CPU time", || scratch.group.full_stats().unwrap().cpu.usage.total > 0);
    let stats = scratch.group.full_stats().unwrap();
    assert_eq!((stats.memory.usage.limit, stats.pids.current, stats.pids.limit), (67_108_864, 1, 40));
    assert!(stats.memory.raw.len() > 10);
    assert!(scratch.group.place().unwrap().unified().is_none_or(|files| !files.has("cpu.pressure")) || stats.cpu.psi.is_some());
    assert!(matches!(Group::absent().full_stats(), Err(Error::Absent)));
}
