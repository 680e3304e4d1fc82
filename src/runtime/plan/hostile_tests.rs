//! Documents that nobody sane writes: each must give a plan or an error, soon, and never a panic.

use super::{MountStep, Plan, Request, Step};
use crate::runtime::hooks::State;
use crate::runtime::{Root, cgroup, config};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest time that reading and compiling one document may take, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A config in which every section that the plan reads is there.
fn full() -> Value {
    json!({
        "ociVersion": "1.2.0", "hostname": "web", "domainname": "example", "root": {"path": "/r", "readonly": true},
        "process": {
            "terminal": true, "consoleSize": {"width": 1, "height": 2}, "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]},
            "args": ["true"], "env": ["A=b"], "cwd": "/", "noNewPrivileges": true, "oomScoreAdj": 5, "apparmorProfile": "", "selinuxLabel": "",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}], "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3},
            "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "priority": 0, "flags": [], "runtime": 0, "deadline": 0, "period": 0},
            "execCPUAffinity": {"initial": "0", "final": "0-1"},
        },
        "hooks": {"poststop": [{"path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 1}]},
        "annotations": {"a": "b"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro", "rprivate"]},
            {"destination": "/map", "type": "bind", "source": "/srv", "options": ["bind", "idmap"],
             "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "size=1k", "tmpcopyup"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "pid"}, {"type": "cgroup"}, {"type": "time"}, {"type": "user"},
                           {"type": "network", "path": "/run/n"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}], "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}}, "cgroupsPath": "/a/b", "rootfsPropagation": "rslave", "mountLabel": "",
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "sysctl": {"net.core.somaxconn": "9", "kernel.msgmax": "1"},
            "personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": []}, "netDevices": {"eth0": {"name": "e"}},
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"], "flags": [],
                        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1, "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}]},
            "resources": {"devices": [{"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm"}], "cpu": {"cpus": "0-1", "mems": "0", "shares": 2, "quota": 3, "period": 4},
                          "memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}, "unified": {"memory.high": "1"}},
        },
    })
}

/// Values that parsers forget.
fn nasty() -> Vec<Value> {
    let texts = [
        "",
        "\0",
        "a\0b",
        "/",
        ".",
        "..",
        "../../x",
        "/../x",
        "//",
        "/proc/self/fd/3",
        "/proc/../etc",
        "-",
        "-1",
        "0-4294967295",
        "4294967295-0",
        "1-",
        ",",
        "0,,1",
        "0-18446744073709551615",
        "99999999999999999999",
        "=",
        "a=b=c",
        "\n",
        "\u{202e}",
        "é",
        "r",
        "rr",
        "rbind",
        "idmap=",
        "CAP_",
        "all",
        "LINUX32",
        "MPOL_F_STATIC_NODES",
    ];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.extend([json!("x".repeat(70_000)), json!(format!("/{}", "x/".repeat(5000))), json!("0-1,".repeat(20_000))]);
    values.extend([
        json!(0),
        json!(-1),
        json!(1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(4_294_967_296_u64),
        json!(u64::MAX),
        json!(1e308),
        json!(0.5),
    ]);
    values.extend([
        Value::Null,
        json!(true),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
        json!({"": ""}),
        json!(vec!["a"; 3000]),
        json!(vec![json!({}); 300]),
    ]);
    values
}

/// JSON pointers of everything in a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found)),
        _ => {}
    }
}

/// Reads and compiles; checks what must hold of any plan.
fn judge(text: &[u8], what: &str) {
    let start = Instant::now();
    if let Ok(read) = config::read(text) {
        let spec = read.document;
        let root = Root::Directory("/r".into());
        let state = State { oci_version: "1.2.0".to_owned(), id: "a".to_owned(), bundle: "/b".into(), annotations: Default::default() };
        let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
        let request = Request {
            spec: &spec,
            root: &root,
            bundle: Some("/b".as_ref()),
            sources: &[],
            no_pivot: false,
            user: None,
            keyring: None,
            terminal,
            netns: false,
            state: Some(&state),
        };
        match Plan::compile(&request) {
            Ok(plan) => {
                assert!(plan.namespaces.owner.is_none_or(|(uid, gid)| uid != u32::MAX && gid != u32::MAX), "{what}");
                plan.steps.iter().for_each(|step| sound(step, what));
            }
            Err(error) => assert!(!error.to_string().is_empty(), "{what}"),
        }
        for systemd in [false, true] {
            let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref()).map(|path| path.to_string_lossy().into_owned());
            if let Ok(group) = cgroup::Group::place_for(path.as_deref(), "a", systemd) {
                assert!(group.path.starts_with('/') && !group.path.split('/').any(|part| part == ".."), "{what}: {}", group.path);
            }
        }
    }
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
}

/// No step names anything outside, whatever was asked.
fn sound(step: &Step, what: &str) {
    let inside = |path: &std::path::Path| assert!(path.is_absolute(), "{what}: {step:?}");
    match step {
        Step::Mount(MountStep { target, .. }) => {
            inside(target);
            assert!(!target.components().any(|part| part.as_os_str() == ".."), "{what}: {step:?}");
        }
        Step::Device(device) => {
            inside(&device.path);
            assert!(device.uid != u32::MAX && device.gid != u32::MAX, "{what}");
        }
        Step::Hostname(name) | Step::Domainname(name) => assert!(name.len() <= 64 && !name.contains('\0'), "{what}"),
        Step::Mask(path) | Step::ReadOnly(path) | Step::WorkingDirectory(path) => inside(path),
        Step::Sysctl(path, value) => {
            let allowed = ["net/", "fs/mqueue/", "kernel/", "user/"].iter().any(|prefix| path.starts_with(prefix));
            assert!(allowed && !path.split('/').any(|part| part.is_empty() || part == "..") && !value.contains('\0'), "{what}: {step:?}");
            assert!(path != "kernel/core_pattern", "{what}");
        }
        _ => {}
    }
}

#[test]
fn every_field_may_hold_anything() {
    let whole = full();
    judge(&serde_json::to_vec(&whole).unwrap(), "the whole");
    let mut places = Vec::new();
    pointers(&whole, "", &mut places);
    let values = nasty();
    for place in &places {
        for value in &values {
            let mut document = whole.clone();
            *document.pointer_mut(place).unwrap() = value.clone();
            judge(&serde_json::to_vec(&document).unwrap(), &format!("{place} = {:.60}", value.to_string()));
        }
    }
}

/// The keys of maps are as free as values.
#[test]
fn keys_may_be_anything() {
    for key in nasty().iter().filter_map(Value::as_str) {
        for place in ["/linux/sysctl", "/annotations", "/linux/timeOffsets", "/linux/resources/unified", "/linux/netDevices"] {
            for value in [json!("1"), json!({"secs": 1}), json!({"name": "x"})] {
                let mut document = full();
                document.pointer_mut(place).and_then(Value::as_object_mut).unwrap().insert(key.to_owned(), value);
                judge(&serde_json::to_vec(&document).unwrap(), &format!("{place} has the key {key:.60}"));
            }
        }
    }
}

#[test]
fn deep_and_cut_documents_are_refused() {
    for text in ["", "{", "nul", "[]", "{}", "\"x\"", "{\"ociVersion\":", "\u{feff}{}"] {
        judge(text.as_bytes(), text);
    }
    judge("[".repeat(1_000_000).as_bytes(), "deep lists");
    judge("{\"a\":".repeat(200_000).as_bytes(), "deep maps");
    let whole = serde_json::to_vec(&full()).unwrap();
    for end in (0..whole.len()).step_by(37) {
        judge(&whole[..end], &format!("cut at {end}"));
    }
}

/// Any JSON, not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,12}", inner, 0..6).prop_map(|map| json!(map))
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn several_fields_at_once(changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..5)) {
        let mut document = full();
        let mut places = Vec::new();
        pointers(&document, "", &mut places);
        for (index, value) in changes {
            // An earlier change may have taken the place away.
            if let Some(place) = document.pointer_mut(index.get(&places).as_str()) {
                *place = value;
            }
        }
        judge(&serde_json::to_vec(&document).unwrap(), "several");
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&bytes, "bytes");
        drop(config::read_process(&bytes));
    }
}
