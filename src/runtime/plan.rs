//! OCI config → [`Plan`]: the ordered steps of the init stage, plain data.
//!
//! Invariant: every decision that needs no look at the container's root is made here, before the clone;
//! whatever the config asks and this build cannot do is refused here, by name.

use super::error::Error;
use super::options::{self, Change, Propagation};
use super::process::{self, ProcessPlan};
use super::{Root, User};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files of procfs over which a config may bind another (what LXCFS and CRI-U need); everything else
/// below /proc would let a container be lied to about, or write through, kernel files.
const PROC_OVERLAYS: [&str; 10] =
    ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"];

/// Name, minor number (major 1 but for tty): the devices that every container has (OCI config-linux, default devices).
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// All that the init stage does, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub namespaces: Namespaces,
    pub steps: Vec<Step>,
    pub process: ProcessPlan,
}

/// Namespaces to make and to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*` flags of the clone itself.
    pub new: u64,
    /// Made late, when the process is in its cgroup.
    pub cgroup: bool,
    /// Made with offsets (`monotonic 1 0` lines) before anything enters it.
    pub time: Option<String>,
    /// Joined in this order: `CLONE_NEW*` flag and path. A pid namespace is the parent's business.
    pub join: Vec<(u64, PathBuf)>,
    /// `inside outside count` lines.
    pub uid_map: String,
    pub gid_map: String,
    /// Host ids of the new user namespace's root.
    pub owner: Option<(u32, u32)>,
}

/// One step of the stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Opens the sources of all binds, while their peers are still known.
    OpenBinds,
    /// No mount of ours reaches the host any more, nor the reverse.
    Private,
    AttachRoot(Root),
    Mount(MountStep),
    Device(DeviceStep),
    /// A symbolic link, made if nothing is there: name and target.
    Link(&'static str, &'static str),
    /// The terminal of the process, bound to /dev/console.
    Console,
    Sysctl(String, String),
    WorkingDirectory(PathBuf),
    Mask(PathBuf),
    ReadOnly(PathBuf),
    /// Waits until the parent has moved the stage into its groups.
    Joined,
    CgroupNamespace,
    ReadOnlyRoot,
    Pivot,
    RootPropagation(Propagation),
    Hostname(String),
    Domainname(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MountStep {
    pub target: PathBuf,
    pub source: Source,
    pub top: Change,
    pub tree: Change,
    pub propagation: Option<Propagation>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Bind {
        path: PathBuf,
        recursive: bool,
        idmap: Option<bool>,
    },
    Fresh {
        kind: String,
        source: Option<OsString>,
        data: Vec<String>,
    },
    /// The container's own groups of every hierarchy the host has mounted.
    Cgroup,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeviceStep {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Character,
    Block,
    Fifo,
}

/// What of [`super::Create`] decides the plan.
pub(super) struct Request<'a> {
    pub spec: &'a Spec,
    pub root: &'a Root,
    pub user: Option<&'a User>,
    pub terminal: bool,
    /// A network namespace is given by descriptor.
    pub netns: bool,
}

impl Plan {
    /// # Errors
    /// `Invalid` or `Unsupported`, naming the field.
    pub fn compile(request: &Request<'_>) -> Result<Self, Error> {
        let spec = request.spec;
        refuse_unsupported(spec)?;
        let linux = spec.linux().as_ref();
        let namespaces = namespaces(linux, request.netns)?;
        let oci_process = spec.process().as_ref().ok_or_else(|| Error::Invalid("the config has no process".to_owned()))?;
        let process = process::compile(oci_process, request.user, spec, None)?;
        let mut steps = vec![Step::OpenBinds, Step::Private, Step::AttachRoot(request.root.clone())];
        let mounts = mounts(spec)?;
        let mapped = |m: &MountStep| matches!(m.source, Source::Bind { idmap: Some(_), .. });
        if let Some(mount) = mounts.iter().find(|m| namespaces.owner.is_none() && mapped(m)) {
            return Err(Error::Invalid(format!("option \"idmap\" of \"{}\" needs a new user namespace", mount.target.display())));
        }
        let bound_dev = mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.source, Source::Bind { .. }));
        let (now, late) = split_cgroup(mounts);
        steps.extend(now.into_iter().map(Step::Mount));
        if !bound_dev {
            steps.extend(device_steps(linux)?);
            steps.extend(link_steps());
        }
        if request.terminal {
            steps.push(Step::Console);
        }
        steps.extend(sysctl_steps(linux, namespaces.new, &namespaces.join, request.netns)?);
        steps.push(Step::WorkingDirectory(oci_process.cwd().clone()));
        if let Some(linux) = linux {
            steps.extend(paths(linux.masked_paths()).map(Step::Mask));
            steps.extend(paths(linux.readonly_paths()).map(Step::ReadOnly));
        }
        steps.push(Step::Joined);
        steps.extend(late.into_iter().map(Step::Mount));
        // After the mounts: they find the groups by their names on the host.
        if namespaces.cgroup {
            steps.push(Step::CgroupNamespace);
        }
        if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
            steps.push(Step::ReadOnlyRoot);
        }
        steps.push(Step::Pivot);
        steps.extend(root_propagation(linux)?);
        steps.extend(spec.hostname().iter().filter(|name| !name.is_empty()).cloned().map(Step::Hostname));
        steps.extend(spec.domainname().iter().filter(|name| !name.is_empty()).cloned().map(Step::Domainname));
        if steps.iter().any(|step| matches!(step, Step::Hostname(_) | Step::Domainname(_))) {
            require_own_uts(&namespaces)?;
        }
        Ok(Plan { namespaces, steps, process })
    }
}

/// Setting the host's own name would be a change to the host.
fn require_own_uts(namespaces: &Namespaces) -> Result<(), Error> {
    let uts = libc::CLONE_NEWUTS as u64;
    if namespaces.new & uts != 0 || namespaces.join.iter().any(|(kind, _)| *kind == uts) {
        return Ok(());
    }
    Err(Error::Invalid("a hostname or domainname needs a UTS namespace of the container's own".to_owned()))
}

fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    let mut asked: Vec<&str> = Vec::new();
    if let Some(hooks) = spec.hooks() {
        let value = serde_json::to_value(hooks).unwrap_or_default();
        let any = value.as_object().is_some_and(|map| map.values().any(|list| list.as_array().is_some_and(|l| !l.is_empty())));
        if any {
            asked.push("hooks");
        }
    }
    if let Some(linux) = spec.linux() {
        if linux.intel_rdt().is_some() {
            asked.push("linux.intelRdt");
        }
        if linux.memory_policy().is_some() {
            asked.push("linux.memoryPolicy");
        }
        if linux.personality().is_some() {
            asked.push("linux.personality");
        }
        if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
            asked.push("linux.netDevices");
        }
        if linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) {
            asked.push("linux.mountLabel");
        }
    }
    match asked.first() {
        Some(name) => Err(Error::Unsupported((*name).to_owned())),
        None => Ok(()),
    }
}

fn namespaces(linux: Option<&Linux>, netns: bool) -> Result<Namespaces, Error> {
    let mut result = Namespaces::default();
    let empty = Vec::new();
    let listed = linux.and_then(|linux| linux.namespaces().as_ref()).unwrap_or(&empty);
    let mut seen = 0;
    for namespace in listed {
        let kind = namespace.typ() as u64;
        if seen & kind != 0 {
            return Err(Error::Invalid(format!("namespace \"{}\" is listed twice", namespace.typ())));
        }
        seen |= kind;
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        match (namespace.typ(), path) {
            (LinuxNamespaceType::Network, _) if netns => {}
            (LinuxNamespaceType::Mount, Some(_)) => {
                return Err(Error::Unsupported("joining a mount namespace by path".to_owned()));
            }
            (_, Some(path)) => result.join.push((kind, path.clone())),
            (LinuxNamespaceType::Cgroup, None) => result.cgroup = true,
            (LinuxNamespaceType::Time, None) => {
                result.time = Some(time_offsets(linux.and_then(|linux| linux.time_offsets().as_ref())));
            }
            (_, None) => result.new |= kind,
        }
    }
    if seen & libc::CLONE_NEWNS as u64 == 0 {
        return Err(Error::Unsupported("a container without its own mount namespace".to_owned()));
    }
    // A joined user namespace owns the others: it comes first.
    result.join.sort_by_key(|(kind, _)| *kind != libc::CLONE_NEWUSER as u64);
    let maps = |list: Option<&Vec<LinuxIdMapping>>| -> String {
        list.into_iter().flatten().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
    };
    result.uid_map = maps(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    result.gid_map = maps(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    let new_user = result.new & libc::CLONE_NEWUSER as u64 != 0;
    if new_user && (result.uid_map.is_empty() || result.gid_map.is_empty()) {
        return Err(Error::Invalid("a new user namespace needs uidMappings and gidMappings".to_owned()));
    }
    if new_user {
        result.owner = Some(owner(linux).ok_or_else(|| Error::Invalid("uidMappings and gidMappings must map the container's id 0".to_owned()))?);
    }
    if !new_user && seen & libc::CLONE_NEWUSER as u64 == 0 && !(result.uid_map.is_empty() && result.gid_map.is_empty()) {
        return Err(Error::Invalid("uidMappings and gidMappings need a user namespace".to_owned()));
    }
    Ok(result)
}

/// The host's ids of what is root inside; None without id maps.
pub(super) fn owner(linux: Option<&Linux>) -> Option<(u32, u32)> {
    let root = |list: &Option<Vec<LinuxIdMapping>>| list.iter().flatten().find(|m| m.container_id() == 0).map(LinuxIdMapping::host_id);
    Some((root(linux?.uid_mappings())?, root(linux?.gid_mappings())?))
}

fn time_offsets(offsets: Option<&HashMap<String, oci_spec::runtime::LinuxTimeOffset>>) -> String {
    let mut lines: Vec<String> = offsets
        .into_iter()
        .flatten()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)))
        .collect();
    lines.sort();
    lines.concat()
}

fn mounts(spec: &Spec) -> Result<Vec<MountStep>, Error> {
    spec.mounts().iter().flatten().map(mount_step).collect()
}

fn mount_step(mount: &Mount) -> Result<MountStep, Error> {
    let target = mount.destination().clone();
    let name = target.display();
    if !target.is_absolute() || target.components().any(|c| c.as_os_str() == "..") {
        return Err(Error::Invalid(format!("mount destination \"{name}\" must be an absolute path without \"..\"")));
    }
    if target == Path::new("/") {
        return Err(Error::Invalid("a mount cannot replace the root \"/\"".to_owned()));
    }
    let mapped = [mount.uid_mappings(), mount.gid_mappings()];
    if mapped.iter().any(|mappings| mappings.as_ref().is_some_and(|list| !list.is_empty())) {
        return Err(Error::Unsupported(format!("an id-mapped mount (\"{name}\")")));
    }
    let empty = Vec::new();
    let parsed = options::parse(mount.options().as_ref().unwrap_or(&empty))?;
    let kind = mount.typ().as_deref().unwrap_or("");
    let bind = parsed.bind.or_else(|| matches!(kind, "bind" | "rbind").then_some(kind == "rbind"));
    let source = match (bind, kind) {
        (Some(recursive), _) => {
            let path = mount.source().clone().ok_or_else(|| Error::Invalid(format!("bind mount \"{name}\" has no source")))?;
            if !path.is_absolute() {
                return Err(Error::Invalid(format!("bind source \"{}\" must be an absolute path", path.display())));
            }
            if let Some(option) = parsed.data.first() {
                return Err(Error::Invalid(format!("unknown option \"{option}\" of bind mount \"{name}\"")));
            }
            Source::Bind { path, recursive, idmap: parsed.idmap }
        }
        (None, _) if parsed.idmap.is_some() => return Err(Error::Unsupported(format!("option \"idmap\" of \"{name}\", which is no bind mount,"))),
        (None, "") => return Err(Error::Invalid(format!("mount \"{name}\" has no type"))),
        (None, "cgroup" | "cgroup2") => Source::Cgroup,
        (None, kind) => Source::Fresh {
            kind: kind.to_owned(),
            source: mount.source().as_ref().map(|source| source.as_os_str().to_owned()).filter(|source| !source.is_empty()),
            data: parsed.data,
        },
    };
    check_proc(&target, &source)?;
    Ok(MountStep { target, source, top: parsed.top, tree: parsed.tree, propagation: parsed.propagation })
}

/// Nothing but procfs is mounted on /proc, and nothing but a few files over its files.
fn check_proc(target: &Path, source: &Source) -> Result<(), Error> {
    let Ok(below) = target.strip_prefix("/proc") else { return Ok(()) };
    let fine = if below.as_os_str().is_empty() {
        // A bind of another procfs is verified by the stage.
        matches!(source, Source::Bind { .. }) || matches!(source, Source::Fresh { kind, .. } if kind == "proc")
    } else {
        matches!(source, Source::Bind { .. }) && PROC_OVERLAYS.iter().any(|name| below == Path::new(name))
    };
    if fine { Ok(()) } else { Err(Error::Invalid(format!("a mount on \"{}\" is not allowed: it is inside /proc", target.display()))) }
}

/// Mounts that can be made at once, and those that need the process in its groups.
fn split_cgroup(mounts: Vec<MountStep>) -> (Vec<MountStep>, Vec<MountStep>) {
    let groups: Vec<PathBuf> = mounts.iter().filter(|m| m.source == Source::Cgroup).map(|m| m.target.clone()).collect();
    mounts.into_iter().partition(|mount| !groups.iter().any(|group| mount.target.starts_with(group)))
}

fn device_steps(linux: Option<&Linux>) -> Result<Vec<Step>, Error> {
    let mut devices: Vec<DeviceStep> = DEFAULT_DEVICES
        .iter()
        .map(|(name, major, minor)| DeviceStep {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Character,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        let step = device_step(device)?;
        devices.retain(|known| known.path != step.path);
        devices.push(step);
    }
    Ok(devices.into_iter().map(Step::Device).collect())
}

fn device_step(device: &LinuxDevice) -> Result<DeviceStep, Error> {
    let path = device.path().clone();
    let wrong = |what: &str| Error::Invalid(format!("device \"{}\" has {what}", path.display()));
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(wrong("no absolute path"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(wrong("no type that can be made")),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| wrong("an invalid number"));
    let (major, minor) = if kind == DeviceKind::Fifo { (0, 0) } else { (number(device.major())?, number(device.minor())?) };
    Ok(DeviceStep {
        kind,
        major,
        minor,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

fn link_steps() -> [Step; 6] {
    [
        Step::Link("/dev/ptmx", "pts/ptmx"),
        Step::Link("/dev/fd", "/proc/self/fd"),
        Step::Link("/dev/stdin", "/proc/self/fd/0"),
        Step::Link("/dev/stdout", "/proc/self/fd/1"),
        Step::Link("/dev/stderr", "/proc/self/fd/2"),
        Step::Link("/dev/core", "/proc/kcore"),
    ]
}

/// A sysctl is written only if it belongs to a namespace that is not the host's.
fn sysctl_steps(linux: Option<&Linux>, new: u64, join: &[(u64, PathBuf)], netns: bool) -> Result<Vec<Step>, Error> {
    let own = |flag: i32| new & flag as u64 != 0 || join.iter().any(|(kind, _)| *kind == flag as u64);
    let mut steps = Vec::new();
    for (key, value) in linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten() {
        // Either separator is legal, as with sysctl(8): the first one met decides.
        let path = if key.find('/').unwrap_or(usize::MAX) < key.find('.').unwrap_or(usize::MAX) {
            key.clone()
        } else {
            key.chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect()
        };
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") || value.contains('\0') {
            return Err(Error::Invalid(format!("sysctl \"{key}\" is malformed")));
        }
        let ipc = [
            "kernel/msgmax",
            "kernel/msgmnb",
            "kernel/msgmni",
            "kernel/sem",
            "kernel/shmall",
            "kernel/shmmax",
            "kernel/shmmni",
            "kernel/shm_rmid_forced",
        ];
        let (allowed, owner) = if path.starts_with("net/") {
            (netns || own(libc::CLONE_NEWNET), "network")
        } else if ipc.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
            (own(libc::CLONE_NEWIPC), "IPC")
        } else if path == "kernel/domainname" || path == "kernel/hostname" {
            (own(libc::CLONE_NEWUTS), "UTS")
        } else if path.starts_with("user/") {
            (own(libc::CLONE_NEWUSER), "user")
        } else {
            return Err(Error::Invalid(format!("sysctl \"{key}\" is not in a namespace: it would change the host")));
        };
        if !allowed {
            return Err(Error::Invalid(format!("sysctl \"{key}\" needs a {owner} namespace of the container's own")));
        }
        steps.push((path, value.clone()));
    }
    steps.sort();
    Ok(steps.into_iter().map(|(path, value)| Step::Sysctl(path, value)).collect())
}

fn paths(list: &Option<Vec<String>>) -> impl Iterator<Item = PathBuf> + '_ {
    list.iter().flatten().map(PathBuf::from)
}

fn root_propagation(linux: Option<&Linux>) -> Result<Option<Step>, Error> {
    let text = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or("");
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = Propagation::parse(text).ok_or_else(|| Error::Invalid(format!("unknown rootfsPropagation \"{text}\"")))?;
    // The root is private from the start.
    Ok((parsed.flag != libc::MS_PRIVATE).then_some(Step::RootPropagation(parsed)))
}

#[cfg(test)]
mod tests {
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
        Plan::compile(&Request { spec: &spec, root: &Root::Directory("/r".into()), user: None, terminal: true, netns: false })
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
}
