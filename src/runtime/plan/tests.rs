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
    let spec: oci_spec::runtime::Spec = serde_json::from_value(value).unwrap();
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(true);
    let root = Root::Directory("/r".into());
    let bundle = Some("/b".as_ref());
    Plan::compile(&Request {
        spec: &spec,
        root: &root,
        bundle,
        sources: &[],
        no_pivot: false,
        user: None,
        keyring: None,
        terminal,
        netns: false,
        state: None,
    })
}

/// One word a step.
fn outline(plan: &Plan) -> String {
    let word = |step: &Step| match step {
        Step::Mount(mount) => {
            let source = match &mount.source {
                Source::Bind { .. } => "bind",
                Source::Fresh { kind, .. } => kind,
                Source::Remount { .. } => "remount",
                Source::Cgroup { .. } => "cgroup",
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
    let cases: [Case; 15] = [
        ("empty key", |v| v["annotations"] = json!({"": "x"})),
        ("inside /proc", |v| v["mounts"][2]["destination"] = json!("/proc/sys/kernel")),
        ("inside /proc", |v| v["mounts"][0]["type"] = json!("tmpfs")),
        ("inside /proc", |v| v["mounts"][2]["destination"] = json!("a/../../proc//sys/x")),
        ("\"proc/kcore\" of linux.maskedPaths must be absolute", |v| v["linux"]["maskedPaths"] = json!(["/x", "proc/kcore"])),
        ("\"\" of linux.readonlyPaths must be absolute", |v| v["linux"]["readonlyPaths"] = json!([""])),
        ("no major and minor numbers", |v| v["linux"]["devices"] = json!([{"path": "/dev/x", "type": "c"}])),
        ("replace the root", |v| v["mounts"][2]["destination"] = json!("..")),
        ("UTS namespace", |v| v["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}])),
        ("change the host", |v| v["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"})),
        ("malformed", |v| v["linux"]["sysctl"] = json!({"net/../kernel/core_pattern": "x"})),
        ("hooks", |v| v["hooks"] = json!({"poststop": [{"path": "/x"}]})),
        ("only one of uidMappings and gidMappings", |v| v["mounts"][2]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("listed twice", |v| v["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "mount"}))),
        ("AppArmor", |v| v["process"]["apparmorProfile"] = json!("strict")),
    ];
    for (message, change) in cases {
        let error = compile(change).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
}

#[test]
fn mounts_are_refused_by_option_and_name() {
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 8] = [
        ("option \"tmpcopyup\" of mount \"/data\"", |v| v["mounts"][2]["options"] = json!(["bind", "tmpcopyup"])),
        ("option \"size=1\" of mount \"/data\"", |v| v["mounts"][2]["options"] = json!(["bind", "size=1"])),
        ("option \"idmap\" of mount \"/data\" needs uidMappings", |v| v["mounts"][2]["options"] = json!(["bind", "idmap"])),
        ("option \"idmap\" of mount \"/data\" is for bind mounts", |v| {
            let maps = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
            v["mounts"][2] = json!({"destination": "/data", "type": "tmpfs", "uidMappings": maps.clone(), "gidMappings": maps});
        }),
        ("mount \"/data\" has no type", |v| v["mounts"][2] = json!({"destination": "/data", "type": "none", "source": "/x"})),
        ("bind mount \"/data\" has no source", |v| v["mounts"][2] = json!({"destination": "/data", "options": ["bind"]})),
        ("unknown linux.rootfsPropagation \"public\"", |v| v["linux"]["rootfsPropagation"] = json!("public")),
        ("linux.mountLabel", |v| v["linux"]["mountLabel"] = json!("system_u:object_r:x")),
    ];
    for (message, change) in cases {
        let error = compile(change).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
}

/// The mount steps of these mounts.
fn mounts_of(mounts: Value) -> Vec<super::MountStep> {
    let plan = compile(|v| v["mounts"] = mounts).unwrap();
    plan.steps.into_iter().filter_map(|step| if let Step::Mount(mount) = step { Some(mount) } else { None }).collect()
}

#[test]
fn paths_are_made_absolute() {
    let mounts = mounts_of(json!([
        {"destination": "data/./x/..//y", "type": "none", "source": "volume", "options": ["rbind"]},
        {"destination": "/../../up", "type": "bind", "source": "/srv", "options": ["bind"]},
    ]));
    let paths: Vec<_> = mounts
        .iter()
        .map(|mount| match &mount.source {
            Source::Bind { path, recursive, .. } => format!("{} {} {recursive}", mount.target.display(), path.display()),
            _ => String::new(),
        })
        .collect();
    assert_eq!(paths, ["/data/y /b/volume true", "/up /srv false"]);
}

#[test]
fn file_systems_get_what_is_theirs() {
    let mounts = mounts_of(json!([
        {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "sync", "lazytime", "nolazytime", "size=1m", "rnoexec", "exec"]},
        {"destination": "/d", "type": "ext4", "source": "/dev/vda", "options": ["rro", "mand", "data=journal", "iversion"]},
        {"destination": "/t", "type": "tmpfs", "options": ["remount", "rw", "async", "size=2m"]},
        {"destination": "/t", "options": ["remount", "bind", "nosuid"]},
    ]));
    let fresh = |kind: &str, source: Option<&str>, data: &[&str], iversion| Source::Fresh {
        kind: kind.to_owned(),
        source: source.map(Into::into),
        data: data.iter().map(|text| (*text).to_owned()).collect(),
        copy_up: false,
        iversion,
    };
    assert_eq!((&mounts[0].source, mounts[0].attributes()), (&fresh("tmpfs", Some("tmpfs"), &["sync", "size=1m"], false), libc::MOUNT_ATTR_RDONLY));
    assert_eq!(
        (&mounts[1].source, mounts[1].attributes()),
        (&fresh("ext4", Some("/dev/vda"), &["mand", "ro", "data=journal"], true), libc::MOUNT_ATTR_RDONLY)
    );
    assert_eq!(mounts[2].source, Source::Remount { data: Some(vec!["async".into(), "rw".into(), "size=2m".into()]) });
    assert_eq!(mounts[3].source, Source::Remount { data: None });
    assert_eq!(mounts[3].settings().len(), 1);
}

#[test]
fn the_root_follows_the_mount_namespace() {
    let steps = |change: fn(&mut Value)| outline(&compile(change).unwrap());
    let slave = steps(|v| v["linux"]["rootfsPropagation"] = json!("rslave"));
    assert!(slave.starts_with("OpenBinds OpenRoot(Directory(/r)) Private AttachRoot(Directory(/r)) "), "{slave}");
    assert!(slave.contains(" Pivot RootPropagation(Propagation { flag: 524288, recursive: true }) "), "{slave}");
    let unbindable = steps(|v| v["linux"]["rootfsPropagation"] = json!("unbindable"));
    assert!(unbindable.starts_with("OpenBinds Private "), "{unbindable}");
    let joined = steps(|v| v["linux"]["namespaces"][0]["path"] = json!("/run/mnt"));
    assert!(joined.starts_with("OpenBinds Slave AttachRoot(Directory(/r)) ") && joined.contains(" Pivot "), "{joined}");
    let sealed = steps(|v| v["mounts"] = json!([{"destination": "/dev", "type": "tmpfs", "options": ["ro"]}]));
    assert!(sealed.contains(" tmpfs:/dev /dev/null ") && sealed.contains(" Seal(/dev) ReadOnlyRoot Pivot "), "{sealed}");
}

#[test]
fn without_a_mount_namespace_there_is_only_the_root() {
    let bare = |value: &mut Value| {
        value["mounts"] = json!([]);
        value["root"]["readonly"] = json!(false);
        value["process"]["terminal"] = json!(false);
        value["linux"] = json!({"namespaces": [{"type": "uts"}]});
    };
    let plan = compile(bare).unwrap();
    let steps = outline(&plan);
    assert!(steps.starts_with("HoldRoot(Directory(/r)) /dev/null ") && steps.ends_with(" Joined Chroot Hostname(web)"), "{steps}");
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 6] = [
        ("mounts", |v| v["mounts"] = json!([{"destination": "/x", "type": "tmpfs"}])),
        ("linux.maskedPaths", |v| v["linux"]["maskedPaths"] = json!(["/x"])),
        ("linux.readonlyPaths", |v| v["linux"]["readonlyPaths"] = json!(["/x"])),
        ("linux.rootfsPropagation", |v| v["linux"]["rootfsPropagation"] = json!("slave")),
        ("root.readonly", |v| v["root"]["readonly"] = json!(true)),
        ("process.terminal", |v| v["process"]["terminal"] = json!(true)),
    ];
    for (name, change) in cases {
        let error = compile(|value| {
            bare(value);
            change(value);
        });
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains("linux.namespaces"), "{name}: {error}");
    }
}

#[test]
fn a_source_that_is_made_needs_a_bind() {
    use crate::runtime::{Base, BindSource};
    let mut mounts = mounts_of(json!([
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]));
    let source = |target: &str| BindSource { target: target.into(), base: Base::Directory("/other".into()), subpath: Some("part".into()) };
    super::mounts::replace_sources(&mut mounts, &[source("/data")]).unwrap();
    let Source::Bind { made: Some(made), .. } = &mounts[0].source else { panic!() };
    assert_eq!(**made, source("/data"));
    for target in ["/tmp", "/none"] {
        assert!(super::mounts::replace_sources(&mut mounts, &[source(target)]).unwrap_err().to_string().contains(target));
    }
}
