//! Namespaces of the config: made, joined, mapped.

use super::{Error, Idmap};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use std::collections::HashMap;
use std::path::PathBuf;

/// Namespaces to make and to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Namespaces {
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

impl Namespaces {
    /// True if the container has a namespace of this kind that is not the caller's: made for it or joined.
    pub fn has(&self, kind: i32) -> bool {
        self.new & kind as u64 != 0 || self.joins(kind)
    }

    pub fn joins(&self, kind: i32) -> bool {
        self.join.iter().any(|(joined, _)| *joined == kind as u64)
    }

    /// True if the parent opens this bind and hands it over: the stage could not open or map it.
    pub fn handed(&self, idmap: Option<&Idmap>) -> bool {
        self.foreign() || idmap.is_some()
    }

    /// True if the container is in a user namespace that is not the caller's.
    pub fn foreign(&self) -> bool {
        self.has(libc::CLONE_NEWUSER)
    }
}

/// Setting the host's own name would be a change to the host.
pub(super) fn require_own_uts(namespaces: &Namespaces) -> Result<(), Error> {
    let uts = libc::CLONE_NEWUTS as u64;
    if namespaces.new & uts != 0 || namespaces.join.iter().any(|(kind, _)| *kind == uts) {
        return Ok(());
    }
    Err(Error::Invalid("a hostname or domainname needs a UTS namespace of the container's own".to_owned()))
}

pub(super) fn namespaces(linux: Option<&Linux>, netns: bool) -> Result<Namespaces, Error> {
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
            (_, Some(path)) => result.join.push((kind, path.clone())),
            (LinuxNamespaceType::Cgroup, None) => result.cgroup = true,
            (LinuxNamespaceType::Time, None) => {
                result.time = Some(time_offsets(linux.and_then(|linux| linux.time_offsets().as_ref())));
            }
            (_, None) => result.new |= kind,
        }
    }
    // A joined user namespace owns the others: it comes first. A mount namespace changes what paths mean: it comes last.
    result.join.sort_by_key(|(kind, _)| match *kind as i32 {
        libc::CLONE_NEWUSER => 0,
        libc::CLONE_NEWNS => 2,
        _ => 1,
    });
    result.uid_map = map_lines(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    result.gid_map = map_lines(linux.and_then(|linux| linux.gid_mappings().as_ref()));
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

/// `inside outside count` lines.
pub(super) fn map_lines(list: Option<&Vec<LinuxIdMapping>>) -> String {
    list.into_iter().flatten().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
}

/// The host's ids of what is root inside; None without id maps.
pub(in crate::runtime) fn owner(linux: Option<&Linux>) -> Option<(u32, u32)> {
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
