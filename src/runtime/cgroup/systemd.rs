//! The systemd driver (`--systemd-cgroup`): the group is a transient unit that systemd makes, limits and removes on our word.
//!
//! systemd makes a scope for processes that exist, so the unit is made by [`join`], with the waiting init stage as its first
//! process. What systemd has no property for is written into the group's files, as systemd's delegation to us allows
//! (<https://systemd.io/CGROUP_DELEGATION>).
//!
//! Invariant: nothing here runs for a group without a unit, and no connection or thread is kept.

mod annotations;
mod bus;
mod manager;
mod names;
mod properties;
#[cfg(test)]
mod tests;
mod wire;

pub use bus::BusError;

use super::place::Place;
use super::{Confinement, Error, Group, devices, placement};
use manager::{Manager, Property};
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};
use std::path::Path;
use wire::Value;

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `prefix-name.scope`, or a slice.
    name: String,
    /// The slice it is in; for a slice, one that it wants.
    slice: String,
    /// Of the user's own manager instead of the system's.
    #[serde(default)]
    user: bool,
}

/// What a unit is made with once there is a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    resources: Option<LinuxResources>,
    /// From annotations.
    properties: Vec<Property>,
    owner: Option<u32>,
}

impl Unit {
    /// Whether the user's own manager has it: then processes are moved by that, too.
    pub fn is_of_user(&self) -> bool {
        self.user
    }

    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    fn manager(&self) -> Result<Manager, Error> {
        Manager::open(self.user).map_err(self.failed("reach the manager of"))
    }

    fn failed(&self, operation: &'static str) -> impl Fn(BusError) -> Error {
        let unit = self.name.clone();
        move |source| Error::Systemd { operation, unit: unit.clone(), source }
    }
}

/// The group of a `slice:prefix:name`.
///
/// # Errors
/// [`Error::Invalid`], [`Error::NoSystemd`].
pub(super) fn place(path: Option<&str>, id: &str) -> Result<Group, Error> {
    let parts = names::parse(path, id)?;
    // As sd_booted(3) finds out.
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::NoSystemd);
    }
    let user = placement::unprivileged();
    let default = if user { "user.slice" } else { "system.slice" };
    let unit = Unit { slice: parts.slice.unwrap_or_else(|| default.to_owned()), name: parts.unit, user };
    // A user's units are below the group of the user's manager, whose name only that knows.
    let above = match user {
        true => unit.manager()?.control_group().map_err(unit.failed("find the group of"))?,
        false => String::new(),
    };
    Ok(group(unit, &above))
}

/// The group of a unit whose manager is in the group `above`.
fn group(unit: Unit, above: &str) -> Group {
    let own = |slice: &str| names::expand(slice).expect("invariant: slices were checked when they were read");
    let path = if unit.is_slice() { own(&unit.name) } else { format!("{}/{}", own(&unit.slice), unit.name) };
    let mut group = Group::at(&format!("{}{path}", above.trim_end_matches('/')));
    group.unit = Some(unit);
    group
}

impl Group {
    /// Keeps what the unit will be made with.
    pub(super) fn described(mut self, spec: &Spec, resources: Option<&LinuxResources>, owner: Option<u32>) -> Result<Self, Error> {
        let properties = spec.annotations().as_ref().map(annotations::read).transpose()?.unwrap_or_default();
        self.pending = Some(Box::new(Pending { resources: resources.cloned(), properties, owner }));
        Ok(self)
    }
}

/// Moves a process into the unit's groups; the first one makes the unit.
///
/// # Errors
/// [`Error::Systemd`], and as for other groups.
pub(super) fn join(place: &Place<'_>, unit: &Unit, pending: Option<&Pending>, pid: i32, exact: bool) -> Result<(), Error> {
    if let Some(pending) = pending {
        start(&mut unit.manager()?, place, unit, pending, pid)?;
        // In the v2 tree and those of its v1 hierarchies that systemd uses the process is inside now.
        return place.join(pid, exact);
    }
    match place.join(pid, exact) {
        Err(Error::Join { source, .. }) if unit.user && source.kind() == std::io::ErrorKind::PermissionDenied => {
            let below = place.path.split_once(&format!("/{}", unit.name)).map_or("", |(_, below)| below);
            let pid = u32::try_from(pid).unwrap_or_default();
            unit.manager()?.attach(&unit.name, below, pid).map_err(unit.failed("move a process into"))
        }
        other => other,
    }
}

/// Makes the unit with the process in it, then sets what systemd could not.
fn start(manager: &mut Manager, place: &Place<'_>, unit: &Unit, pending: &Pending, pid: i32) -> Result<(), Error> {
    let pid = u32::try_from(pid).unwrap_or_default();
    let properties = properties(manager, place, unit, pending, pid)?;
    manager.start(&unit.name, &properties).map_err(unit.failed("start"))?;
    let resources = pending.resources.as_ref();
    let confinement = Confinement::of(resources, false, placement::unprivileged());
    let made = place.prepare(resources).and_then(|()| placement::finish(place, Some(&confinement), pending.owner));
    if made.is_err()
        && let Err(leftover) = manager.stop(&unit.name)
    {
        tracing::warn!(%leftover, unit = unit.name, "cannot stop a unit after a failed creation");
    }
    made
}

fn properties(manager: &mut Manager, place: &Place<'_>, unit: &Unit, pending: &Pending, pid: u32) -> Result<Vec<Property>, Error> {
    let unified = place.layout.legacy.is_empty();
    let text = |text: &str| Value::Text(text.to_owned());
    let mut all: Vec<(&str, Value)> = vec![("Description", text(&format!("rcon container {}", unit.name)))];
    if unit.is_slice() {
        all.push(("Wants", Value::Texts(vec![unit.slice.clone()])));
    } else {
        all.push(("Slice", text(&unit.slice)));
        all.push(("Delegate", Value::Bool(true)));
        all.push(("PIDs", Value::Uints(vec![pid])));
    }
    let accounting = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", if unified { "IOAccounting" } else { "BlockIOAccounting" }];
    all.extend(accounting.map(|name| (name, Value::Bool(true))));
    all.push(("DefaultDependencies", Value::Bool(false)));
    let mut all: Vec<Property> = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let none = Vec::new();
    let given = pending.resources.as_ref().and_then(|resources| resources.devices().as_ref()).unwrap_or(&none);
    all.extend(properties::of_devices(&devices::rules(given)?));
    if let Some(resources) = &pending.resources {
        let version = manager.version().map_err(unit.failed("ask for the systemd version for"))?;
        all.extend(properties::of(resources, properties::Host { unified, version })?);
        // What the kernel does when one process is killed for memory, systemd would overrule.
        match resources.unified().as_ref().and_then(|unified| unified.get("memory.oom.group")).map(|value| value.trim()) {
            Some("0") => all.push(("OOMPolicy".to_owned(), text("continue"))),
            Some("1") => all.push(("OOMPolicy".to_owned(), text("kill"))),
            _ => {}
        }
    }
    // The annotations have the last word.
    all.retain(|(name, _)| !pending.properties.iter().any(|(other, _)| other == name));
    all.extend(pending.properties.iter().cloned());
    Ok(all)
}

/// Tells systemd of new limits, lest it set them back; the files are written by the caller.
///
/// # Errors
/// [`Error::Systemd`], [`Error::BelowUsage`].
pub(super) fn update(place: &Place<'_>, unit: &Unit, resources: &LinuxResources) -> Result<(), Error> {
    change(&mut unit.manager()?, place, unit, resources)
}

fn change(manager: &mut Manager, place: &Place<'_>, unit: &Unit, resources: &LinuxResources) -> Result<(), Error> {
    place.check(resources)?;
    let version = manager.version().map_err(unit.failed("ask for the systemd version for"))?;
    let mut properties = properties::of(resources, properties::Host { unified: place.layout.legacy.is_empty(), version })?;
    if let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) {
        properties.extend(properties::of_devices(&devices::rules(rules)?));
    }
    if properties.is_empty() {
        return Ok(());
    }
    manager.set(&unit.name, &properties).map_err(unit.failed("set properties of"))
}

/// Stops the unit and lets systemd forget it. One that is gone with its last process is fine.
///
/// # Errors
/// [`Error::Systemd`]
pub(super) fn stop(unit: &Unit) -> Result<(), Error> {
    unit.manager()?.stop(&unit.name).map_err(unit.failed("stop"))
}
