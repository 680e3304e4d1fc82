//! A group's path in every hierarchy of a layout: making the groups, applying limits, moving processes.
//!
//! Invariant: a v1 group of ours that is not marked as accounting-only limits something, so every process of the
//! container belongs in it; the mark is an attribute of the directory, so that any process can tell.

use super::files::Files;
use super::hierarchy::{Layout, Legacy, Mount};
use super::{Error, control, devices, limits, unified};
use crate::sys::bpf;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// On a v1 group that no limit is in: only statistics need it.
const ACCOUNTING_ONLY: &str = "trusted.rcon.accounting";

/// On a v1 group whose limits bound the sum of the groups right below it: those must be in the hierarchy too.
const BOUNDS: &str = "trusted.rcon.bounds";

/// v1 hierarchies that statistics are read from beside the v2 tree (which counts CPU time itself).
const ACCOUNTING: [&str; 3] = ["memory", "pids", "blkio"];

/// v2 controllers (by v1 name) that every group gets: for statistics, and for limits that are set later.
const ALWAYS_ENABLED: [&str; 5] = ["cpu", "cpuset", "blkio", "memory", "pids"];

/// No hierarchy has a path of its own.
static NOWHERE_ELSE: BTreeMap<PathBuf, String> = BTreeMap::new();

/// One path within the hierarchies of one host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) layout: &'a Layout,
    pub(super) path: &'a str,
    /// Where the group is called otherwise, by mount point.
    elsewhere: &'a BTreeMap<PathBuf, String>,
}

impl<'a> Place<'a> {
    pub(super) fn new(layout: &'a Layout, path: &'a str) -> Self {
        Place { layout, path, elsewhere: &NOWHERE_ELSE }
    }

    pub(super) fn with_exceptions(self, elsewhere: &'a BTreeMap<PathBuf, String>) -> Self {
        Place { elsewhere, ..self }
    }

    /// The group's path in one hierarchy.
    pub(super) fn path_in(&self, mount: &Mount) -> &'a str {
        self.elsewhere.get(&mount.base).map_or(self.path, String::as_str)
    }

    /// The group's directory in one hierarchy, whether it exists or not.
    pub(super) fn dir_in(&self, mount: &Mount) -> PathBuf {
        mount.dir(self.path_in(mount))
    }

    fn files(&self, mount: &Mount) -> Files<'a> {
        Files { dir: self.dir_in(mount), group: self.path_in(mount) }
    }

    /// The v2 group, where there is a v2 tree.
    pub(super) fn unified(&self) -> Option<Files<'a>> {
        self.layout.v2.as_ref().map(|mount| self.files(mount))
    }

    /// The group that tracks the processes.
    pub(super) fn tracking(&self) -> Result<Files<'a>, Error> {
        self.layout.tracking().map(|mount| self.files(mount))
    }

    /// The files of a controller (by its v1 name) and whether they are v2's; None when neither hierarchy has it here.
    pub(super) fn home(&self, controller: &str) -> Option<(Files<'a>, bool)> {
        if let Some(legacy) = self.layout.legacy(controller) {
            return Some((self.files(&legacy.mount), false));
        }
        let files = self.unified()?;
        let available = files.get("cgroup.controllers").ok()?;
        available.split_whitespace().any(|known| known == unified_name(controller)).then_some((files, true))
    }

    /// Makes the groups and writes the limits (not the device rules).
    ///
    /// # Errors
    /// What could not be made or set; the groups made so far stay for the caller to remove.
    pub(super) fn prepare(&self, resources: Option<&LinuxResources>) -> Result<(), Error> {
        if let Some(mount) = &self.layout.v2 {
            make(&mount.base, self.path_in(mount), false)?;
            self.enable(resources, false)?;
            for legacy in self.layout.legacy.iter().filter(|legacy| self.is_bounded(legacy)) {
                make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))?;
            }
        } else {
            for legacy in &self.layout.legacy {
                make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))?;
            }
        }
        resources.map_or(Ok(()), |resources| self.limit(resources, false))
    }

    /// Whether the group above, in this hierarchy, limits the sum of those below it.
    fn is_bounded(&self, legacy: &Legacy) -> bool {
        self.dir_in(&legacy.mount).parent().is_some_and(|above| has_mark(above, BOUNDS))
    }

    /// Marks the v1 groups that limit something: what is made below them is bound by that.
    ///
    /// # Errors
    /// [`Error::Create`]
    pub(super) fn mark_bounds(&self) -> Result<(), Error> {
        for legacy in self.limiting() {
            let dir = self.dir_in(&legacy.mount);
            rustix::fs::setxattr(&dir, BOUNDS, b"1", XattrFlags::empty()).map_err(|error| Error::Create { dir, source: error.into() })?;
        }
        Ok(())
    }

    /// Clears the way: an empty leftover is removed, since its old limits would bind what is put there; one in which something
    /// runs (a container of the same name, or someone else's) is refused.
    ///
    /// # Errors
    /// [`Error::NotEmpty`]
    pub(super) fn clear(&self) -> Result<(), Error> {
        if !control::pids(&self.tracking()?)?.is_empty() {
            return Err(Error::NotEmpty(self.path.to_owned()));
        }
        for dir in self.dirs() {
            control::remove_once(&dir).map_err(|(dir, source)| match source.raw_os_error() {
                Some(libc::EBUSY) => Error::NotEmpty(self.path.to_owned()),
                _ => Error::Remove { dir, source },
            })?;
        }
        Ok(())
    }

    /// Hands the v2 controllers that exist and that `resources` needs down to the group, from the root on.
    fn enable(&self, resources: Option<&LinuxResources>, live: bool) -> Result<(), Error> {
        let Some(mount) = &self.layout.v2 else { return Ok(()) };
        let demanded = resources.map(|resources| limits::demanded(resources, live)).unwrap_or_default();
        let named = resources.map(unified::controllers).unwrap_or_default();
        let wanted = ALWAYS_ENABLED.iter().chain(&demanded).filter(|name| self.layout.legacy(name).is_none());
        let mut wanted: Vec<_> = wanted.map(|name| unified_name(name)).chain(named.iter().copied()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut dir = mount.base.clone();
        let necessary = |controller: &str| named.contains(controller) || demanded.iter().any(|name| unified_name(name) == controller);
        for component in self.path_in(mount).trim_start_matches('/').split('/') {
            let mut refused = hand_down(&dir, &wanted);
            let busy = |(controller, error): &(&str, io::Error)| necessary(controller) && error.raw_os_error() == Some(libc::EBUSY);
            if dir == mount.base && refused.iter().any(busy) {
                evacuate(&dir)?;
                refused = hand_down(&dir, &wanted);
            }
            for (controller, source) in refused {
                // Only a limit makes a controller necessary.
                if necessary(controller) {
                    return Err(Error::Enable { controller: controller.to_owned(), dir, source });
                }
                tracing::debug!(controller, dir = %dir.display(), error = %source, "cgroup controller stays off");
            }
            dir.push(component);
        }
        Ok(())
    }

    /// Writes limits. `live`: into groups that have processes, which follow into groups that are new.
    ///
    /// # Errors
    /// The file and value that were refused.
    pub(super) fn limit(&self, resources: &LinuxResources, live: bool) -> Result<(), Error> {
        if live {
            self.enable(Some(resources), live)?;
        }
        limits::bytes_or_unlimited(resources)?;
        limits::disregard_kernel(self.path, resources);
        for controller in limits::demanded(resources, live) {
            let missing = || Error::Controller { controller: controller.to_owned(), group: self.path.to_owned() };
            let (files, unified) = self.home(controller).ok_or_else(missing)?;
            match self.layout.legacy(controller) {
                Some(legacy) if !unified => self.limit_legacy(legacy, &files, controller, resources, live)?,
                _ => limits::apply(&files, controller, resources, unified)?,
            }
        }
        if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            let unsupported = Error::Unsupported { option: "unified resources", why: "this host has no cgroup v2" };
            unified::apply(&self.unified().ok_or(unsupported)?, resources)?;
        }
        Ok(())
    }

    /// Refuses a memory limit below what is in use, if the caller asks for that.
    ///
    /// # Errors
    /// [`Error::BelowUsage`]
    pub(super) fn check(&self, resources: &LinuxResources) -> Result<(), Error> {
        match (resources.memory(), self.home("memory")) {
            (Some(memory), Some((files, unified))) => limits::check_usage(&files, memory, unified),
            _ => Ok(()),
        }
    }

    fn limit_legacy(&self, legacy: &Legacy, files: &Files<'_>, controller: &str, resources: &LinuxResources, live: bool) -> Result<(), Error> {
        let fresh = make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))?;
        limits::apply(files, controller, resources, false)?;
        let marked = is_accounting_only(&files.dir);
        if marked {
            let failed = |error: rustix::io::Errno| Error::Create { dir: files.dir.clone(), source: error.into() };
            rustix::fs::removexattr(&files.dir, ACCOUNTING_ONLY).map_err(failed)?;
        }
        if live && (fresh || marked) { self.gather(&[legacy]) } else { Ok(()) }
    }

    /// Puts device rules in force: on the v2 group, or in the v1 hierarchy where there is no v2 tree or no eBPF.
    ///
    /// # Errors
    /// [`Error::DeviceProgram`]; the container must not start then.
    pub(super) fn restrict(&self, given: &[LinuxDeviceCgroup], live: bool) -> Result<(), Error> {
        let rules = devices::rules(given)?;
        if !live && devices::allows_all(&rules) {
            return Ok(());
        }
        let legacy = self.layout.legacy("devices");
        let Some(files) = self.unified() else {
            let legacy = legacy.ok_or(Error::Controller { controller: "devices".to_owned(), group: self.path.to_owned() })?;
            return self.restrict_legacy(legacy, &rules, live);
        };
        match (self.attach(&files.dir, &rules), legacy) {
            (Err(Error::DeviceProgram { operation: "load", .. }), Some(legacy)) => self.restrict_legacy(legacy, &rules, live),
            (result, _) => result,
        }
    }

    fn attach(&self, dir: &Path, rules: &[devices::Rule]) -> Result<(), Error> {
        let failed = |operation| move |source| Error::DeviceProgram { operation, group: self.path.to_owned(), source };
        let program = bpf::load_device_program(&devices::program(rules)).map_err(failed("load"))?;
        let group = File::open(dir).map_err(failed("open the group of"))?;
        let old = bpf::device_programs(group.as_fd()).map_err(failed("find the"))?;
        let mut old = old.iter();
        bpf::attach_device_program(group.as_fd(), program.as_fd(), old.next().map(AsFd::as_fd)).map_err(failed("attach"))?;
        // More than one is left only by a run that died between two steps.
        old.try_for_each(|program| bpf::detach_device_program(group.as_fd(), program.as_fd())).map_err(failed("detach old"))
    }

    fn restrict_legacy(&self, legacy: &Legacy, rules: &[devices::Rule], live: bool) -> Result<(), Error> {
        let fresh = make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))?;
        let files = self.files(&legacy.mount);
        for (allow, line) in devices::lines(rules) {
            files.set(if allow { "devices.allow" } else { "devices.deny" }, &line)?;
        }
        if live && fresh { self.gather(&[legacy]) } else { Ok(()) }
    }

    /// The v1 hierarchies in which the group limits something.
    fn limiting(&self) -> impl Iterator<Item = &'a Legacy> {
        let place = *self;
        self.layout.legacy.iter().filter(move |legacy| {
            let dir = place.dir_in(&legacy.mount);
            dir.exists() && !is_accounting_only(&dir)
        })
    }

    /// Moves one process into every hierarchy where it belongs and is not yet. `exact`: into the v2 group itself, never one
    /// below it.
    ///
    /// # Errors
    /// [`Error::Join`]
    pub(super) fn join(&self, pid: i32, exact: bool) -> Result<(), Error> {
        let tracking = self.tracking()?.dir;
        let membership = self.membership(pid).map_err(|source| Error::Join { pid, dir: tracking, source })?;
        let outside = |mount: &Mount| !membership.contains(&mount.base);
        if self.layout.v2.as_ref().is_some_and(outside) {
            let entry = if exact { self.unified().map(|files| files.dir) } else { self.entry() };
            control::join(&entry.ok_or(Error::NoHierarchy)?, pid, false)?;
        }
        let legacy = self.limiting().map(|legacy| &legacy.mount).filter(|mount| outside(mount));
        for mount in legacy {
            control::join(&self.dir_in(mount), pid, false)?;
        }
        Ok(())
    }

    /// Makes the group in every v1 hierarchy where it is not, and moves one process there.
    ///
    /// # Errors
    /// [`Error::Create`], [`Error::Join`]
    pub(super) fn join_rest(&self, pid: i32) -> Result<(), Error> {
        // Without a v2 tree every hierarchy was made at the start.
        if self.layout.v2.is_none() {
            return Ok(());
        }
        for legacy in &self.layout.legacy {
            if make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))? {
                control::join(&self.dir_in(&legacy.mount), pid, false)?;
            }
        }
        Ok(())
    }

    /// The v2 group that a further process may enter: the group itself; or, when the container has handed controllers down to
    /// groups of its own (an init system does), the first of those with processes, for a group with children that have
    /// controllers can hold none (`Documentation/admin-guide/cgroup-v2.rst`, No Internal Process Constraint).
    pub(super) fn entry(&self) -> Option<PathBuf> {
        let files = self.unified()?;
        let hands_down = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|list| !list.trim().is_empty());
        let occupied = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|list| !list.is_empty());
        if !hands_down(&files.dir) {
            return Some(files.dir);
        }
        let below = control::tree(&files.dir).unwrap_or_default();
        Some(below.into_iter().skip(1).find(|dir| !hands_down(dir) && occupied(dir)).unwrap_or(files.dir))
    }

    /// The base directories of the hierarchies in which a process is in this group or below it.
    fn membership(&self, pid: i32) -> io::Result<Vec<PathBuf>> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mut found = Vec::new();
        // `man 7 cgroups`: hierarchy-ID:controller-list:cgroup-path, with `0::` for v2.
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let mount = match controllers {
                "" => self.layout.v2.as_ref(),
                list => list.split(',').find_map(|name| self.layout.legacy(name)).map(|legacy| &legacy.mount),
            };
            let Some(mount) = mount else { continue };
            let inside = path.strip_prefix(mount.name(self.path_in(mount)).as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if inside {
                found.push(mount.base.clone());
            }
        }
        Ok(found)
    }

    /// Moves every process of the group into v1 hierarchies, until none is found outside. What they make afterwards is
    /// born inside.
    fn gather(&self, hierarchies: &[&Legacy]) -> Result<(), Error> {
        let tracking = self.tracking()?;
        // Each pass catches what was born during the one before; a fork bomb must not hold us for ever.
        for _ in 0..200 {
            let mut moved = false;
            for pid in control::pids(&tracking)? {
                let membership = match self.membership(pid) {
                    Ok(membership) => membership,
                    Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => continue,
                    Err(source) => return Err(Error::Join { pid, dir: tracking.dir, source }),
                };
                for legacy in hierarchies.iter().filter(|legacy| !membership.contains(&legacy.mount.base)) {
                    control::join(&self.dir_in(&legacy.mount), pid, true)?;
                    moved = true;
                }
            }
            if !moved {
                return Ok(());
            }
        }
        Err(Error::Restless(self.path.to_owned()))
    }

    /// Makes the v1 groups that only statistics need and moves the container's processes there.
    ///
    /// # Errors
    /// [`Error::Create`], [`Error::Join`]
    pub(super) fn account(&self) -> Result<(), Error> {
        // Without a v2 tree every hierarchy was joined at the start.
        if self.layout.v2.is_none() {
            return Ok(());
        }
        let wanted = |legacy: &&Legacy| ACCOUNTING.iter().any(|name| legacy.has(name));
        let hierarchies: Vec<&Legacy> = self.layout.legacy.iter().filter(wanted).collect();
        for legacy in &hierarchies {
            if make(&legacy.mount.base, self.path_in(&legacy.mount), legacy.has("cpuset"))? {
                // Where the mark cannot be set, later processes of the container join at once, only slower.
                let dir = self.dir_in(&legacy.mount);
                if let Err(error) = rustix::fs::setxattr(&dir, ACCOUNTING_ONLY, b"1", XattrFlags::empty()) {
                    tracing::debug!(dir = %dir.display(), %error, "cannot mark cgroup as accounting-only");
                }
            }
        }
        self.gather(&hierarchies)
    }

    /// The group's directory in every hierarchy, whether it exists or not.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let legacy = self.layout.legacy.iter().map(|legacy| &legacy.mount);
        self.layout.v2.iter().chain(legacy).map(|mount| self.dir_in(mount)).collect()
    }
}

/// v2's name of a controller.
fn unified_name(controller: &str) -> &str {
    match controller {
        "blkio" => "io",
        "cpuacct" => "cpu",
        other => other,
    }
}

fn is_accounting_only(dir: &Path) -> bool {
    has_mark(dir, ACCOUNTING_ONLY)
}

fn has_mark(dir: &Path, name: &str) -> bool {
    let mut value = [0u8; 4];
    rustix::fs::getxattr(dir, name, &mut value).is_ok()
}

/// Makes a group with its parents beneath `base`; whether the group itself is new. New v1 cpuset groups copy their parent's
/// processors and memory nodes, without which no process can enter.
fn make(base: &Path, path: &str, cpuset: bool) -> Result<bool, Error> {
    let leaf = base.join(path.trim_start_matches('/'));
    let failed = |dir: &Path| {
        let dir = dir.to_path_buf();
        move |source| Error::Create { dir, source }
    };
    // Almost always only the last component is missing.
    if !cpuset {
        match make_readable(&leaf) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&leaf)(error)),
        }
    }
    let mut dir = base.to_path_buf();
    let mut fresh = false;
    for component in path.trim_start_matches('/').split('/') {
        let parent = dir.clone();
        dir.push(component);
        fresh = match make_readable(&dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(&dir)(error)),
        };
        if cpuset {
            inherit_cpuset(&parent, &dir)?;
        }
    }
    Ok(fresh)
}

/// Programs of the container look up their own limits, also under other users and in other user namespaces: whatever our
/// umask is, a group can be read by everybody, as those of every other manager can.
fn make_readable(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755))
}

fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), Error> {
    let group = dir.display().to_string();
    let (own, above) = (Files { dir: dir.to_path_buf(), group: &group }, Files { dir: parent.to_path_buf(), group: &group });
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if own.get(file)?.is_empty() {
            own.set(file, &above.get(file)?)?;
        }
    }
    Ok(())
}

/// Moves the processes out of a v2 root that is itself a group (we run in a container): with processes of its own it could
/// hand down no controller. The real root may have processes and is left alone.
fn evacuate(root: &Path) -> Result<(), Error> {
    if !root.join("cgroup.type").exists() {
        return Ok(());
    }
    make(root, "/rcon-host", false)?;
    for _ in 0..200 {
        let file = root.join("cgroup.procs");
        let list = fs::read_to_string(&file).map_err(|source| Error::Host { file, source })?;
        if list.is_empty() {
            return Ok(());
        }
        for pid in list.lines().filter_map(|line| line.parse().ok()) {
            control::join(&root.join("rcon-host"), pid, true)?;
        }
    }
    Err(Error::Restless("/".to_owned()))
}

/// Enables controllers for the children of one v2 group; answers with those that could not be. A controller that this group
/// itself lacks is left out.
fn hand_down<'c>(dir: &Path, wanted: &[&'c str]) -> Vec<(&'c str, io::Error)> {
    let list = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (available, enabled) = (list("cgroup.controllers"), list("cgroup.subtree_control"));
    let contains = |list: &str, name: &str| list.split_whitespace().any(|known| known == name);
    let missing: Vec<&'c str> = wanted.iter().copied().filter(|name| contains(&available, name) && !contains(&enabled, name)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    // A group with processes (the real root apart, which has no type) refuses domain controllers, but takes threaded ones, by
    // which its children become invalid domains that nothing can enter (cgroup-v2.rst, Threads).
    if dir.join("cgroup.type").exists() && !list("cgroup.procs").is_empty() {
        return missing.into_iter().map(|name| (name, io::Error::from_raw_os_error(libc::EBUSY))).collect();
    }
    let control = dir.join("cgroup.subtree_control");
    let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    if super::files::write(&control, &all.join(" ")).is_ok() {
        return Vec::new();
    }
    // One refusal refuses the whole line, so each is tried alone.
    let each = missing.into_iter().zip(all);
    each.filter_map(|(name, line)| super::files::write(&control, &line).err().map(|error| (name, error))).collect()
}
