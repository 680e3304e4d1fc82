//! Mounts of the config, in the order of the config.

use super::{Error, Namespaces};
use crate::runtime::BindSource;
use crate::runtime::options::{self, Change, Options, Propagation, Setting};
use oci_spec::runtime::{Linux, Mount, Spec};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Files of procfs over which a config may bind another (what LXCFS and CRI-U need); everything else
/// below /proc would let a container be lied to about, or write through, kernel files.
const PROC_OVERLAYS: [&str; 10] =
    ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"];

/// File systems that need no word about read-only mounts: nothing is on a disk.
const IN_MEMORY: [&str; 9] = ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "debugfs", "securityfs"];

#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) struct MountStep {
    pub target: PathBuf,
    pub source: Source,
    /// For the mount itself.
    pub top: Change,
    /// For it and all below it.
    pub tree: Change,
    pub propagation: Vec<Propagation>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) enum Source {
    Bind {
        path: PathBuf,
        recursive: bool,
        idmap: Option<Idmap>,
        /// Instead of the path.
        made: Option<Box<BindSource>>,
    },
    Fresh {
        kind: String,
        source: Option<OsString>,
        /// `key=value` or flags, those of the super block first.
        data: Vec<String>,
        copy_up: bool,
        iversion: bool,
    },
    /// What is mounted there already, with other attributes. With data: its super block, too.
    Remount { data: Option<Vec<String>> },
    /// The container's own groups of every hierarchy the host has mounted; `v2`: of the unified one alone.
    Cgroup { v2: bool },
}

/// Files are shown with other owners than they have on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct Idmap {
    /// Submounts are mapped, too.
    pub recursive: bool,
    /// None: those of the container's user namespace.
    pub maps: Option<Maps>,
}

/// Lines `on disk, shown as, count` for `uid_map` and `gid_map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct Maps {
    pub uid: String,
    pub gid: String,
}

impl MountStep {
    /// The calls that give a bind its attributes and a mount its propagation.
    pub fn settings(&self) -> Vec<Setting> {
        match &self.source {
            // Host and container share no later mount unless the config asks for it.
            Source::Bind { recursive, .. } if self.propagation.is_empty() => {
                let private = Propagation { flag: libc::MS_PRIVATE, recursive: true };
                options::settings(self.tree, self.top, &[private], !recursive)
            }
            Source::Bind { recursive, .. } => options::settings(self.tree, self.top, &self.propagation, !recursive),
            // A new mount has its attributes from the start.
            Source::Fresh { .. } => options::settings(Change::default(), Change::default(), &self.propagation, true),
            Source::Remount { .. } => options::settings(self.tree, self.top, &self.propagation, false),
            Source::Cgroup { .. } => options::settings(Change::default(), Change::default(), &self.propagation, false),
        }
    }

    /// The attributes of a new mount, on which nothing is mounted yet.
    pub fn attributes(&self) -> u64 {
        let mut all = self.tree;
        all.apply(self.top.set, self.top.clear);
        all.set
    }
}

/// The mounts; a bind's relative source belongs to the bundle.
pub(super) fn mounts(spec: &Spec, bundle: Option<&Path>, namespaces: &Namespaces) -> Result<Vec<MountStep>, Error> {
    spec.mounts().iter().flatten().map(|mount| mount_step(mount, bundle, namespaces)).collect()
}

/// Gives binds the sources that are made for them.
pub(super) fn replace_sources(mounts: &mut [MountStep], sources: &[BindSource]) -> Result<(), Error> {
    for wanted in sources {
        let mount = mounts.iter_mut().find(|mount| mount.target == wanted.target);
        let Some(Source::Bind { made, .. }) = mount.map(|mount| &mut mount.source) else {
            return Err(Error::Invalid(format!("a source is given for \"{}\", where no bind is mounted", wanted.target.display())));
        };
        *made = Some(Box::new(wanted.clone()));
    }
    Ok(())
}

fn mount_step(mount: &Mount, bundle: Option<&Path>, namespaces: &Namespaces) -> Result<MountStep, Error> {
    let target = destination(mount.destination());
    let name = target.display();
    if target == Path::new("/") {
        return Err(Error::Invalid("a mount cannot replace the root \"/\"".to_owned()));
    }
    let empty = Vec::new();
    let parsed = options::parse(mount.options().as_ref().unwrap_or(&empty));
    let kind = mount.typ().as_deref().unwrap_or("");
    let bind = parsed.bind.or_else(|| matches!(kind, "bind" | "rbind").then_some(kind == "rbind"));
    let idmap = idmap(mount, &parsed, namespaces)?;
    let wrong = |option: &str, what: &str| Err(Error::Invalid(format!("option \"{option}\" of mount \"{name}\" {what}")));
    if parsed.copy_up && (kind != "tmpfs" || bind.is_some() || parsed.remount) {
        return wrong("tmpcopyup", "is for new mounts of type \"tmpfs\"");
    }
    if idmap.is_some() && (bind.is_none() || parsed.remount) {
        return wrong("idmap", "is for bind mounts");
    }
    if parsed.iversion && parsed.remount && bind.is_none() {
        return wrong("iversion", "cannot be set by \"remount\"");
    }
    let source = match (bind, kind) {
        // As mount(2) has it: with both, only the attributes of the one mount change.
        (Some(_), _) if parsed.remount => Source::Remount { data: None },
        (None, _) if parsed.remount => Source::Remount { data: Some(reconfigured(&parsed)) },
        (Some(recursive), _) => {
            if let Some(option) = parsed.data.first() {
                return wrong(option, "is unknown, and a bind mount has no options of a file system");
            }
            // Flags of the super block have no effect on a bind mount, as with mount(2).
            Source::Bind { path: bind_source(mount, bundle)?, recursive, idmap, made: None }
        }
        (None, "" | "none") => {
            return Err(Error::Invalid(format!("mount \"{name}\" has no type; for a bind mount add the option \"bind\" or \"rbind\"")));
        }
        (None, "cgroup" | "cgroup2") => Source::Cgroup { v2: kind == "cgroup2" },
        (None, kind) => fresh(kind, mount, &parsed),
    };
    check_proc(&target, &source)?;
    Ok(MountStep { target, source, top: parsed.top, tree: parsed.tree, propagation: parsed.propagation })
}

/// Relative destinations are deprecated and mean "below /" (config.md, "Mounts"). What climbs above "/" stays there.
fn destination(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn bind_source(mount: &Mount, bundle: Option<&Path>) -> Result<PathBuf, Error> {
    let name = mount.destination().display();
    let path = mount.source().as_ref().filter(|path| !path.as_os_str().is_empty());
    let path = path.ok_or_else(|| Error::Invalid(format!("bind mount \"{name}\" has no source")))?;
    match bundle {
        _ if path.is_absolute() => Ok(path.clone()),
        Some(bundle) => Ok(bundle.join(path)),
        None => Err(Error::Invalid(format!("bind source \"{}\" must be an absolute path", path.display()))),
    }
}

fn fresh(kind: &str, mount: &Mount, parsed: &Options) -> Source {
    let mut data: Vec<String> = parsed.superblock_set().collect();
    let mut attributes = parsed.tree;
    attributes.apply(parsed.top.set, parsed.top.clear);
    if attributes.set & libc::MOUNT_ATTR_RDONLY != 0 && !IN_MEMORY.contains(&kind) {
        // A disk that cannot be written is not mounted otherwise.
        data.push("ro".to_owned());
    }
    data.extend(parsed.data.iter().cloned());
    Source::Fresh {
        kind: kind.to_owned(),
        source: mount.source().as_ref().map(|source| source.as_os_str().to_owned()).filter(|source| !source.is_empty()),
        data,
        copy_up: parsed.copy_up,
        iversion: parsed.iversion,
    }
}

/// What a remount says to the super block.
fn reconfigured(parsed: &Options) -> Vec<String> {
    let mut data: Vec<String> = parsed.superblock.iter().map(|flag| (*flag).to_owned()).collect();
    match (parsed.top.set & libc::MOUNT_ATTR_RDONLY, parsed.top.clear & libc::MOUNT_ATTR_RDONLY) {
        (0, 0) => {}
        (0, _) => data.push("rw".to_owned()),
        _ => data.push("ro".to_owned()),
    }
    data.extend(parsed.data.iter().cloned());
    data
}

/// How owners are mapped (config.md, "idmap"): by the mount's own maps, or else by the container's.
fn idmap(mount: &Mount, parsed: &Options, namespaces: &Namespaces) -> Result<Option<Idmap>, Error> {
    let name = mount.destination().display();
    let lines = |list: &Option<Vec<_>>| super::namespaces::map_lines(list.as_ref());
    let (uid, gid) = (lines(mount.uid_mappings()), lines(mount.gid_mappings()));
    match (uid.is_empty(), gid.is_empty(), parsed.idmap) {
        (true, true, None) => Ok(None),
        (true, true, Some(recursive)) => {
            if namespaces.has(libc::CLONE_NEWUSER) {
                return Ok(Some(Idmap { recursive, maps: None }));
            }
            Err(Error::Invalid(format!(
                "option \"idmap\" of mount \"{name}\" needs uidMappings and gidMappings of the mount, or a user namespace of the container"
            )))
        }
        (false, false, recursive) => Ok(Some(Idmap { recursive: recursive.unwrap_or(false), maps: Some(Maps { uid, gid }) })),
        _ => Err(Error::Invalid(format!("mount \"{name}\" has only one of uidMappings and gidMappings: it needs both"))),
    }
}

/// Nothing but procfs is mounted on /proc, and nothing but a few files over its files.
fn check_proc(target: &Path, source: &Source) -> Result<(), Error> {
    let Ok(below) = target.strip_prefix("/proc") else { return Ok(()) };
    let fine = match source {
        Source::Remount { .. } => below.as_os_str().is_empty() || over_proc(target),
        // A bind of another procfs is verified by the stage.
        Source::Bind { .. } => below.as_os_str().is_empty() || over_proc(target),
        Source::Fresh { kind, .. } => below.as_os_str().is_empty() && kind == "proc",
        Source::Cgroup { .. } => false,
    };
    if fine { Ok(()) } else { Err(Error::Invalid(format!("a mount on \"{}\" is not allowed: it is inside /proc", target.display()))) }
}

/// True for the few files of /proc over which others may be bound.
pub(in crate::runtime) fn over_proc(target: &Path) -> bool {
    target.strip_prefix("/proc").is_ok_and(|below| PROC_OVERLAYS.iter().any(|name| below == Path::new(name)))
}

/// Mounts that can be made at once, and those that need the process in its groups or come over or under such ones.
pub(super) fn split_cgroup(mounts: Vec<MountStep>) -> (Vec<MountStep>, Vec<MountStep>) {
    let mut late: Vec<PathBuf> = Vec::new();
    mounts.into_iter().partition(|mount| {
        let waits = matches!(mount.source, Source::Cgroup { .. })
            || late.iter().any(|group| mount.target.starts_with(group) || group.starts_with(&mount.target));
        if waits {
            late.push(mount.target.clone());
        }
        !waits
    })
}

pub(super) fn root_propagation(linux: Option<&Linux>) -> Result<Option<Propagation>, Error> {
    let text = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or("");
    if text.is_empty() {
        return Ok(None);
    }
    Propagation::parse(text).map(Some).ok_or_else(|| {
        Error::Invalid(format!(
            "unknown linux.rootfsPropagation \"{text}\": it is shared, slave, private or unbindable, with an \"r\" before it for all mounts"
        ))
    })
}
