//! Mounts of the config, in the order of the config.

use super::Error;
use crate::runtime::options::{self, Change, Propagation};
use oci_spec::runtime::{Linux, Mount, Spec};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files of procfs over which a config may bind another (what LXCFS and CRI-U need); everything else
/// below /proc would let a container be lied to about, or write through, kernel files.
const PROC_OVERLAYS: [&str; 10] =
    ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"];

#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) struct MountStep {
    pub target: PathBuf,
    pub source: Source,
    pub top: Change,
    pub tree: Change,
    pub propagation: Option<Propagation>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::runtime) enum Source {
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

pub(super) fn mounts(spec: &Spec) -> Result<Vec<MountStep>, Error> {
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
pub(super) fn split_cgroup(mounts: Vec<MountStep>) -> (Vec<MountStep>, Vec<MountStep>) {
    let groups: Vec<PathBuf> = mounts.iter().filter(|m| m.source == Source::Cgroup).map(|m| m.target.clone()).collect();
    mounts.into_iter().partition(|mount| !groups.iter().any(|group| mount.target.starts_with(group)))
}

pub(super) fn root_propagation(linux: Option<&Linux>) -> Result<Option<Propagation>, Error> {
    let text = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or("");
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = Propagation::parse(text).ok_or_else(|| Error::Invalid(format!("unknown rootfsPropagation \"{text}\"")))?;
    // The root is private from the start.
    Ok((parsed.flag != libc::MS_PRIVATE).then_some(parsed))
}
