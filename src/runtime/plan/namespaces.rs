//! Namespaces of the config: made, joined, mapped.

use super::{Error, Idmap};
use crate::runtime::userns::Rights;
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
    /// `CLONE_NEW*` flag and path; the order is the business of `runtime::enter`.
    pub join: Vec<(u64, PathBuf)>,
    /// `inside outside count` lines.
    pub uid_map: String,
    pub gid_map: String,
    /// Host ids of the new user namespace's root, or of the first ids that it has.
    pub owner: Option<(u32, u32)>,
    /// The caller may write no map but that of its own id.
    pub rootless: bool,
    /// The stage cannot hide before its map is written: the parent has to reach its files below `/proc`.
    pub shown: bool,
    /// The parent opens root and sources of binds, where the user namespace's root may have no way to them.
    pub handed_over: bool,
}

impl Namespaces {
    /// True if the container has a namespace of this kind that is not the caller's: made for it or joined.
    pub fn has(&self, kind: i32) -> bool {
        self.new & kind as u64 != 0 || self.joins(kind)
    }

    pub fn joins(&self, kind: i32) -> bool {
        self.join.iter().any(|(joined, _)| *joined == kind as u64)
    }

    /// What the caller's rights decide, where there is a user namespace.
    pub fn adapt(&mut self, rights: Rights) {
        let new = self.new & libc::CLONE_NEWUSER as u64 != 0;
        self.rootless = new && rights.rootless;
        self.shown = new && !rights.hidden;
        self.handed_over = rights.mounts;
    }

    /// True if the parent opens this bind and hands it over: the stage could not open, make or map it.
    pub fn handed(&self, idmap: Option<&Idmap>, made: bool) -> bool {
        self.handed_over || made || idmap.is_some()
    }
}

/// Setting the host's own name would be a change to the host.
pub(super) fn require_own_uts(namespaces: &Namespaces) -> Result<(), Error> {
    if namespaces.has(libc::CLONE_NEWUTS) {
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
        if let Some(path) = path.filter(|path| !path.is_absolute()) {
            return Err(Error::Invalid(format!("path \"{}\" of namespace \"{}\" must be absolute", path.display(), namespace.typ())));
        }
        match (namespace.typ(), path) {
            (LinuxNamespaceType::Network, _) if netns => {}
            (_, Some(path)) => result.join.push((kind, path.clone())),
            (LinuxNamespaceType::Cgroup, None) => result.cgroup = true,
            (LinuxNamespaceType::Time, None) => {
                result.time = Some(time_offsets(linux.and_then(|linux| linux.time_offsets().as_ref()))?);
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
    check_maps(linux)?;
    result.uid_map = map_lines(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    result.gid_map = map_lines(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    let new_user = result.new & libc::CLONE_NEWUSER as u64 != 0;
    if new_user && (result.uid_map.is_empty() || result.gid_map.is_empty()) {
        return Err(Error::Invalid("a new user namespace needs uidMappings and gidMappings".to_owned()));
    }
    result.owner = owner(linux);
    if result.time.is_none() && linux.and_then(|linux| linux.time_offsets().as_ref()).is_some_and(|offsets| !offsets.is_empty()) {
        return Err(Error::Invalid("linux.timeOffsets needs a new time namespace".to_owned()));
    }
    if !new_user && seen & libc::CLONE_NEWUSER as u64 == 0 && !(result.uid_map.is_empty() && result.gid_map.is_empty()) {
        return Err(Error::Invalid("uidMappings and gidMappings need a user namespace".to_owned()));
    }
    Ok(result)
}

/// The last id that a map may name is the one before -1, which is nobody's.
fn check_maps(linux: Option<&Linux>) -> Result<(), Error> {
    let Some(linux) = linux else { return Ok(()) };
    for (field, list) in [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())] {
        let beyond = |first: u32, size: u32| u64::from(first) + u64::from(size) > u64::from(u32::MAX);
        let wrong = |map: &&LinuxIdMapping| beyond(map.container_id(), map.size()) || beyond(map.host_id(), map.size()) || map.size() == 0;
        if let Some(map) = list.iter().flatten().find(wrong) {
            let (inside, outside, size) = (map.container_id(), map.host_id(), map.size());
            return Err(Error::Invalid(format!("linux.{field}: containerID {inside}, hostID {outside}, size {size} is no range of ids")));
        }
    }
    Ok(())
}

/// `inside outside count` lines.
pub(super) fn map_lines(list: Option<&Vec<LinuxIdMapping>>) -> String {
    list.into_iter().flatten().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
}

/// The host's ids of what is root inside, or of the first ids where there is no root (as `enter::become_owner`); None without id maps.
pub(in crate::runtime) fn owner(linux: Option<&Linux>) -> Option<(u32, u32)> {
    let root = |list: &Option<Vec<LinuxIdMapping>>| {
        let list = list.as_deref().unwrap_or_default();
        list.iter().find(|m| m.container_id() == 0).or(list.first()).map(LinuxIdMapping::host_id)
    };
    Some((root(linux?.uid_mappings())?, root(linux?.gid_mappings())?))
}

/// As `/proc/PID/timens_offsets` takes them (time_namespaces(7)).
fn time_offsets(offsets: Option<&HashMap<String, oci_spec::runtime::LinuxTimeOffset>>) -> Result<String, Error> {
    let mut lines = Vec::new();
    for (clock, offset) in offsets.into_iter().flatten() {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(Error::Invalid(format!("linux.timeOffsets has the clock \"{clock}\": only monotonic and boottime can be set")));
        }
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if nanosecs >= 1_000_000_000 {
            return Err(Error::Invalid(format!("linux.timeOffsets: {nanosecs} nanosecs of \"{clock}\" are a second or more")));
        }
        lines.push(format!("{clock} {} {nanosecs}\n", offset.secs().unwrap_or(0)));
    }
    lines.sort();
    Ok(lines.concat())
}
