//! Control groups of one container on v1, hybrid and v2 hosts.
//!
//! On hybrid hosts the (controller-less) v2 tree still tracks, kills and freezes; v1 hierarchies are joined
//! only where a limit or accounting needs them. Device rules are eBPF on the v2 group wherever a v2 tree exists.
//!
//! Which hierarchy serves a controller is decided controller by controller: the v1 hierarchy that has it, else the v2 tree.
//! The first move of a process into a v1 hierarchy after some 20 ms of quiet waits for an RCU grace period (about 10 ms), so
//! limits are joined once, overlapped with mounting ([`Group::join`]), and what only statistics need is joined after the start
//! ([`Group::join_accounting`]).
//!
//! A pod's group bounds the sum of its members', which are right below it. On v1 a bound needs the members in the same
//! hierarchy: the pod's groups there carry a mark, and whoever makes a group below a marked one makes it in that hierarchy.

mod control;
mod convert;
mod devices;
mod error;
mod files;
mod full_stats;
mod hierarchy;
mod limits;
mod oom;
mod place;
mod placement;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod unified;

pub use error::Error;
pub use full_stats::{FullStats, NetworkInterface};
pub use oom::{OomEvent, OomWatch};
pub use stats::{Pressure, Stats};

use hierarchy::Layout;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use place::Place;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// Where a container's groups are: serialisable, so that any later process can open them again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Path below each hierarchy's root: `/rcon/<id>`. Empty: there is no group (see [`Group::absent`]).
    pub path: String,
    /// Hierarchies, by mount point, in which the path is another one: below a runtime that is in different groups itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    elsewhere: BTreeMap<PathBuf, String>,
    /// The systemd unit that the group belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<systemd::Unit>,
    /// A unit that is made with its first process.
    #[serde(skip)]
    pending: Option<Box<systemd::Pending>>,
    /// Processes enter this very group, whatever the container has made below it.
    #[serde(skip)]
    exact: bool,
    /// Device rules that the first process brings into force by joining.
    #[serde(skip)]
    confinement: Option<Confinement>,
}

/// Device rules of a new group. Loading their program takes as long as half of the mounts: it is done while the stage mounts,
/// before the stage hears that it has joined and goes on.
#[derive(Debug, Clone, PartialEq)]
struct Confinement {
    rules: Vec<LinuxDeviceCgroup>,
    /// The group was there before and may carry older rules.
    reused: bool,
    unprivileged: bool,
    /// Done, or overtaken by an update.
    enforced: Cell<bool>,
}

impl Confinement {
    fn of(resources: Option<&LinuxResources>, reused: bool, unprivileged: bool) -> Self {
        let rules = resources.and_then(|resources| resources.devices().clone()).unwrap_or_default();
        Confinement { rules, reused, unprivileged, enforced: Cell::new(false) }
    }

    /// # Errors
    /// [`Error::DeviceProgram`]; the container must not start then.
    fn enforce(&self, place: &Place<'_>) -> Result<(), Error> {
        if self.enforced.get() {
            return Ok(());
        }
        match place.restrict(&self.rules, self.reused) {
            // Who is nobody on the host can neither make device nodes, nor use those that file permissions do not open, nor load
            // the program: rules that only take everything away first are then as good as kept. One that names a device is not.
            Err(error @ (Error::DeviceProgram { .. } | Error::Set { .. })) if self.unprivileged && !devices::refuses_by_name(&self.rules) => {
                tracing::debug!(%error, "device rules are left to file permissions");
            }
            other => other?,
        }
        self.enforced.set(true);
        Ok(())
    }
}

impl Group {
    /// The group of that path in every hierarchy; nothing is made or checked.
    pub fn at(path: &str) -> Self {
        Group { path: path.to_owned(), elsewhere: BTreeMap::new(), unit: None, pending: None, exact: false, confinement: None }
    }

    /// No group: processes stay in the caller's. What needs a group answers [`Error::Absent`]; joining and deleting do nothing.
    pub fn absent() -> Self {
        Group::at("")
    }

    /// Whether this is [`Group::absent`].
    pub fn is_absent(&self) -> bool {
        self.path.is_empty()
    }

    /// Makes the groups and applies limits; device rules come into force with [`Group::join`]. The container's init then starts inside
    /// ([`Group::clone_fd`]) and joins the v1 hierarchies ([`Group::join`]).
    ///
    /// Without device rules only the default devices may be used. A leftover group of that path is replaced when nothing runs in it.
    ///
    /// # Errors
    /// What could not be made or set; nothing is left behind then.
    pub fn create(path: &str, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        let mut group = Group::at(path);
        let place = group.place()?;
        place.clear()?;
        let confinement = Confinement::of(resources, false, false);
        let made = place.prepare(resources).and_then(|()| if place.layout.v2.is_some() { Ok(()) } else { confinement.enforce(&place) });
        if let Err(error) = made {
            if let Err(leftover) = group.delete() {
                tracing::warn!(%leftover, "cannot remove a cgroup after a failed creation");
            }
            return Err(error);
        }
        group.confinement = place.layout.v2.is_some().then_some(confinement);
        Ok(group)
    }

    /// Makes groups whose limits bound the sum of what is made below them (a pod's). No process enters them themselves, and
    /// device rules are those of the groups below.
    ///
    /// # Errors
    /// What could not be made or set; nothing is left behind then.
    pub fn create_above(path: &str, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        let group = Group::at(path);
        let place = group.place()?;
        place.clear()?;
        if let Err(error) = place.prepare(resources).and_then(|()| place.mark_bounds()) {
            if let Err(leftover) = group.delete() {
                tracing::warn!(%leftover, "cannot remove a cgroup after a failed creation");
            }
            return Err(error);
        }
        Ok(group)
    }

    /// Directory fd of the v2 group for CLONE_INTO_CGROUP (of a group below it, when the container has groups of its own
    /// and a further process cannot enter above); None where there is no v2 tree: [`Group::join`] does it all then.
    pub fn clone_fd(&self) -> Option<OwnedFd> {
        let place = self.place().ok()?;
        // A user's own manager moves processes for us where we may not.
        if self.unit.as_ref().is_some_and(systemd::Unit::is_of_user) {
            return None;
        }
        let dir = if self.exact { place.unified()?.dir } else { place.entry()? };
        rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Moves a process into every hierarchy with a limit that it is not born into (nothing to do on v2 after
    /// [`Group::clone_fd`]). Slow on v1 (an RCU grace period): call it once, overlapped.
    ///
    /// # Errors
    /// [`Error::Join`]; the process must not go on to run the container's program.
    pub fn join(&self, pid: i32) -> Result<(), Error> {
        self.enter(pid, false)
    }

    /// Brings the device rules of a new group into force ahead of [`Group::join`], for a caller that has to wait anyway. A
    /// systemd unit has no group yet.
    ///
    /// # Errors
    /// [`Error::DeviceProgram`]; the container must not start then.
    pub fn confine(&self) -> Result<(), Error> {
        match (&self.confinement, &self.unit) {
            (Some(confinement), None) => confinement.enforce(&self.place()?),
            _ => Ok(()),
        }
    }

    /// Moves every process of the group into the v1 hierarchies that only statistics need; does nothing on v2. To be called
    /// after the container has started and after each exec, off the user's path.
    ///
    /// # Errors
    /// [`Error::Create`], [`Error::Join`]: statistics will be incomplete.
    pub fn join_accounting(&self) -> Result<(), Error> {
        if self.is_absent() { Ok(()) } else { self.place()?.account() }
    }

    /// As [`Group::join`], and into every other v1 hierarchy too, as `runc` does: for a caller that ends before
    /// [`Group::join_accounting`] could be called, and for readers who find statistics by `/proc/PID/cgroup`.
    ///
    /// # Errors
    /// [`Error::Create`], [`Error::Join`]
    pub fn join_all(&self, pid: i32) -> Result<(), Error> {
        self.enter(pid, true)
    }

    fn enter(&self, pid: i32, all: bool) -> Result<(), Error> {
        if self.is_absent() {
            return Ok(());
        }
        let place = self.place()?;
        if let Some(confinement) = &self.confinement {
            confinement.enforce(&place)?;
        }
        match &self.unit {
            Some(unit) => systemd::join(&place, unit, self.pending.as_deref(), pid, self.exact)?,
            None => place.join(pid, self.exact)?,
        }
        if all { place.join_rest(pid) } else { Ok(()) }
    }

    /// Changes limits of a running container; what `resources` leaves unset stays. Device rules, when given, replace all.
    ///
    /// # Errors
    /// The file and value that were refused; limits before it are in force.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let place = self.place()?;
        if let Some(unit) = &self.unit {
            systemd::update(&place, unit, resources)?;
        }
        place.limit(resources, true)?;
        match resources.devices().as_deref() {
            Some(rules) if !rules.is_empty() => {
                place.restrict(rules, true)?;
                if let Some(confinement) = &self.confinement {
                    confinement.enforced.set(true);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Stops all processes; returns when all have stopped. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] after ten seconds, with the group thawed again.
    pub fn freeze(&self) -> Result<(), Error> {
        let place = self.place()?;
        control::freeze(&place.tracking()?, place.layout.v2.is_some())
    }

    /// # Errors
    /// [`Error::Set`]
    pub fn thaw(&self) -> Result<(), Error> {
        let place = self.place()?;
        control::thaw(&place.tracking()?, place.layout.v2.is_some())
    }

    /// Whether all processes are stopped by [`Group::freeze`]; false when that cannot be read.
    pub fn is_frozen(&self) -> bool {
        let frozen = |place: Place<'_>| Ok::<_, Error>(control::is_frozen(&place.tracking()?, place.layout.v2.is_some()));
        self.place().and_then(frozen).unwrap_or(false)
    }

    /// Every process in the group and below it.
    ///
    /// # Errors
    /// [`Error::Read`]; a group that does not exist has none.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        control::pids(&self.place()?.tracking()?)
    }

    /// SIGKILL to all, thawing first; returns when none is left or after the deadline with an error.
    ///
    /// # Errors
    /// [`Error::StillRunning`]
    pub fn kill_all(&self, deadline: Duration) -> Result<(), Error> {
        let place = self.place()?;
        control::kill_all(&place.tracking()?, place.layout.v2.is_some(), deadline)
    }

    /// Sends a signal to every process of the group and below it, held still meanwhile so that none is missed. A group that
    /// was frozen before stays so: its processes get the signal when thawed, SIGKILL at once where the kernel can (v2).
    ///
    /// # Errors
    /// [`Error::Kill`]; [`Error::Absent`].
    pub fn signal_all(&self, signal: crate::base::Signal) -> Result<(), Error> {
        let place = self.place()?;
        control::signal_all(&place.tracking()?, place.layout.v2.is_some(), signal.number())
    }

    /// A group below this one for one more process to join (`exec --cgroup`): a path, on v1 hierarchies also
    /// `controller[,controller]:path` to name them apart; several are taken together. It must exist. "/" is the group itself,
    /// even when the container has handed its controllers down.
    ///
    /// # Errors
    /// [`Error::NoSubgroup`], [`Error::Path`], [`Error::Controller`].
    pub fn sub(&self, paths: &[impl AsRef<str>]) -> Result<Self, Error> {
        placement::below(self, &self.place()?, paths)
    }

    /// Removes the groups; a missing one is fine; EBUSY is retried with back-off for ten seconds. Kills nothing, unless
    /// systemd has to stop a unit to do it.
    ///
    /// # Errors
    /// [`Error::Remove`]
    pub fn delete(&self) -> Result<(), Error> {
        if self.is_absent() {
            return Ok(());
        }
        if let Some(unit) = &self.unit {
            systemd::stop(unit)?;
        }
        control::remove(&self.place()?.dirs())
    }

    /// Removes the groups if nothing runs in them, in one step less than a kill of nobody takes; false: something may.
    /// A systemd unit is left to [`Group::delete`].
    ///
    /// # Errors
    /// [`Error::Remove`]
    pub fn delete_unused(&self) -> Result<bool, Error> {
        if self.is_absent() || self.unit.is_some() {
            return Ok(self.is_absent());
        }
        let place = self.place()?;
        // The kernel removes no group that has a process; whoever is in another hierarchy's is in this one's too.
        match control::remove_once(&place.tracking()?.dir) {
            Ok(()) => control::remove(&place.dirs()).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn place(&self) -> Result<Place<'_>, Error> {
        if self.is_absent() {
            return Err(Error::Absent);
        }
        hierarchy::validate(&self.path)?;
        self.elsewhere.values().try_for_each(|path| hierarchy::validate(path))?;
        Ok(Place::new(Layout::host()?, &self.path).with_exceptions(&self.elsewhere))
    }
}

/// Whether this host has cgroup v2 alone.
pub fn is_unified() -> bool {
    Layout::host().is_ok_and(|layout| layout.v2.is_some() && layout.legacy.is_empty())
}

/// What `info` knows of: the limit, the controller and a file that has it on v1, and on v2.
const LIMITS: &[(&str, &str, &str, &str)] = &[
    ("memory limit", "memory", "memory.limit_in_bytes", "memory.max"),
    ("swap limit", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    ("cpu cfs quota", "cpu", "cpu.cfs_quota_us", "cpu.max"),
    ("cpu shares", "cpu", "cpu.shares", "cpu.weight"),
    ("cpuset", "cpuset", "cpuset.cpus", "cpuset.cpus"),
    // v1's root has no file of limits: where the controller is, they are.
    ("pids limit", "pids", "tasks", "pids.max"),
];

/// The limits that the control groups of this host lack, in the words of `info`'s warnings ("No swap limit support").
pub fn missing_limits() -> Vec<&'static str> {
    LIMITS.iter().filter(|(_, controller, v1, v2)| !supports(controller, &[*v1], &[*v2])).map(|(name, ..)| *name).collect()
}

/// Whether a controller has one of the files. v2's root has no limits, so a group beneath it is asked; with no group there
/// to ask the answer is yes, and setting the limit tells.
fn supports(controller: &str, v1: &[&str], v2: &[&str]) -> bool {
    let Ok(layout) = Layout::host() else { return false };
    if let Some(legacy) = layout.legacy(controller) {
        return v1.iter().any(|file| legacy.mount.base.join(file).exists());
    }
    let Some(mount) = &layout.v2 else { return false };
    let groups = std::fs::read_dir(&mount.base).into_iter().flatten().flatten().map(|entry| entry.path());
    let current = v2[0].split('.').next().unwrap_or_default();
    let asked = groups.filter(|dir| dir.join(format!("{current}.stat")).exists()).collect::<Vec<_>>();
    asked.is_empty() || asked.iter().any(|dir| v2.iter().any(|file| dir.join(file).exists()))
}
