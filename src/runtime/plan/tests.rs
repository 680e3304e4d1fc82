//! Order of the steps, and what is refused.

use super::{Plan, Request, Source, Step};
use crate::runtime::Root;
use serde_json::{Value, json};

fn compile(change: impl FnOnce(&mut Value)) -> Result<Plan, crate::runtime::Error> {
    let mut value = json!({
        "ociVersion": "1.2.0", "hostname": "web", "root": {"path": "/r", "readonly": true},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "network", "path": "/run/n"}],
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "sysctl": {"net.core.somaxconn": "9"},
        },
    });
    change(&mut value);
    let spec = serde_json::from_value(value).unwrap();
    Plan::compile(&Request { spec: &spec, root: &Root::Directory("/r".into()), user: None, keyring: None, terminal: true, netns: false, state: None })
}

/// One word a step.
fn outline(plan: &Plan) -> String {
    let word = |step: &Step| match step {
        Step::Mount(mount) => {
            let source = match &mount.source {
                Source::Bind { .. } => "bind",
                Source::Fresh { kind, .. } => kind,
                Source::Cgroup => "cgroup",
            };
            format!("{source}:{}", mount.target.display())
        }
        Step::Device(device) => device.path.display().to_string(),
        other => format!("{other:?}").replace("\"", ""),
    };
    plan.steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_order_of_steps_is_fixed() {
    let plan = compile(|_| {}).unwrap();
    assert_eq!(
        outline(&plan),
        "OpenBinds Private AttachRoot(Directory(/r)) proc:/proc bind:/data /dev/null /dev/zero /dev/full /dev/random \
         /dev/urandom /dev/tty Link(/dev/ptmx, pts/ptmx) Link(/dev/fd, /proc/self/fd) Link(/dev/stdin, /proc/self/fd/0) \
         Link(/dev/stdout, /proc/self/fd/1) Link(/dev/stderr, /proc/self/fd/2) Link(/dev/core, /proc/kcore) Console \
         Sysctl(net/core/somaxconn, 9) WorkingDirectory(/) Mask(/proc/kcore) ReadOnly(/proc/sys) Joined \
         cgroup:/sys/fs/cgroup CgroupNamespace ReadOnlyRoot Pivot Hostname(web)"
    );
    assert_eq!(plan.namespaces.new, (libc::CLONE_NEWNS | libc::CLONE_NEWUTS) as u64);
    assert_eq!(plan.namespaces.join, [(libc::CLONE_NEWNET as u64, "/run/n".into())]);
}

#[test]
fn what_would_weaken_or_be_dropped_is_refused() {
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 11] = [
        ("inside /proc", |v| v["mounts"][2]["destination"] = json!("/proc/sys/kernel")),
        ("inside /proc", |v| v["mounts"][0]["type"] = json!("tmpfs")),
        ("\"..\"", |v| v["mounts"][2]["destination"] = json!("/a/../b")),
        ("own mount namespace", |v| v["linux"]["namespaces"] = json!([{"type": "pid"}])),
        ("UTS namespace", |v| v["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}])),
        ("change the host", |v| v["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"})),
        ("malformed", |v| v["linux"]["sysctl"] = json!({"net/../kernel/core_pattern": "x"})),
        ("hooks", |v| v["hooks"] = json!({"poststop": [{"path": "/x"}]})),
        ("id-mapped", |v| v["mounts"][2]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("listed twice", |v| v["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "mount"}))),
        ("AppArmor", |v| v["process"]["apparmorProfile"] = json!("strict")),
    ];
    for (message, change) in cases {
        let error = compile(change).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
}
