//! Volumes: create, list, inspect, remove, prune.
//!
//! A volume is its row. Its directory `<data>/volumes/<name>/_data` is made inside the transaction that inserts the row
//! and removed after the row was deleted; what a crash left there is cleared before the name is used again, so that a
//! new volume never shows the files of an old one.

mod by_hand;
pub(in crate::engine) mod driver;
pub(in crate::engine) mod memory;
mod quota;
mod rename;

use super::*;
use crate::base::ErrorKind;
use crate::base::fs::{self, Context};
use crate::base::{ContainerId, VolumeName, random_hex};
use crate::engine::{events, filter};
use crate::runtime::Base;
use driver::{Driver, Place};
use record::Volume;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const KNOWN: &[&str] = &["dangling", "name", "label", "label!", "driver", "opt", "until"];
const KNOWN_PRUNE: &[&str] = &["all", "label", "label!", "until", "unused-for"];
/// Others may pass through to a volume's data (which has its own owner and mode), not list its parent.
const PARENT_MODE: u32 = 0o701;
const DATA_MODE: u32 = 0o755;
/// Docker marks a volume made without a name by this label.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Engine {
    /// Makes a volume; without a name it is anonymous (64 hexadecimal digits). An existing volume of that name is
    /// success: then it is returned as it is.
    ///
    /// # Errors
    /// `Invalid` for a malformed name or option; the file system's or database's failure.
    pub fn create_volume(&self, name: Option<&str>, labels: &[(String, String)], options: &[(String, String)]) -> Result<Volume> {
        let (name, anonymous) = match name {
            Some(name) => (name.parse::<VolumeName>().map_err(|e| Error::invalid(e.to_string()))?, false),
            None => (random_hex(64).parse().expect("invariant: 64 hexadecimal digits are a volume name"), true),
        };
        if let Some(existing) = self.db.volume(&name)? {
            return Ok(existing);
        }
        let mut labels: BTreeMap<String, String> = labels.iter().cloned().collect();
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let options: BTreeMap<String, String> = options.iter().cloned().collect();
        let driver = Driver::parse(&options).map_err(Error::invalid)?;
        let volume = Volume { name, created: Timestamp::now(), driver: "local".to_owned(), labels, options, anonymous };
        let inserted = self.db.write(true, |tx| {
            let inserted = tx.insert_volume(&volume)?;
            if inserted {
                self.make_volume_dir(&volume.name, &driver.place)?;
            }
            Ok::<_, Error>(inserted)
        })?;
        if inserted {
            self.emit([events::of_volume(&volume, "create")]);
            return Ok(volume);
        }
        // Another command won the race for the name; its volume is as good.
        self.db.volume(&volume.name)?.ok_or_else(|| Error::no_such("volume", volume.name.as_str()))
    }

    /// Where a volume's files are.
    pub fn volume_mountpoint(&self, name: &VolumeName) -> PathBuf {
        self.privilege.roots.volumes().join(name.as_str()).join("_data")
    }

    /// By name; filters `dangling`, `name` (part of it), `label`, `label!`, `driver`, `opt` (`key` or `key=value`), `until`.
    ///
    /// # Errors
    /// `Invalid` names an unknown key or a malformed value.
    pub fn volumes(&self, filters: &Filters) -> Result<Vec<Volume>> {
        filter::require_known(filters, KNOWN)?;
        let dangling = filter::boolean(filters, "dangling")?;
        let used = if dangling.is_some() { self.volumes_in_use()? } else { HashSet::new() };
        let until = filter::until(filters)?;
        let mut volumes = self.db.volumes()?;
        volumes.retain(|v| {
            dangling.is_none_or(|wanted| wanted != used.contains(&v.name))
                && filter::any(filters, "name", |n| v.name.as_str().contains(n))
                && filter::any(filters, "driver", |d| v.driver == d)
                && filter::any(filters, "opt", |wanted| has_option(v, wanted))
                && until.is_none_or(|until| v.created <= until)
                && filter::labels_match(filters, &v.labels)
        });
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Docker's document of a volume.
    ///
    /// # Errors
    /// `NoSuch` if there is none of that name.
    pub fn inspect_volume(&self, name: &str) -> Result<serde_json::Value> {
        let volume = self.find_volume(name)?;
        let nullable = |map: &BTreeMap<String, String>| if map.is_empty() { serde_json::Value::Null } else { serde_json::json!(map) };
        Ok(serde_json::json!({
            "CreatedAt": rfc3339_seconds(volume.created),
            "Driver": volume.driver,
            "Labels": nullable(&volume.labels),
            "Mountpoint": self.volume_mountpoint(&volume.name).to_string_lossy(),
            "Name": volume.name.as_str(),
            "Options": nullable(&volume.options),
            "Scope": "local",
        }))
    }

    /// Removes a volume that no container refers to. `force`: a missing one is fine.
    ///
    /// # Errors
    /// `Conflict` names the containers that use it; `NoSuch`.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let volume = match self.find_volume(name) {
            Err(Error::NoSuch { .. }) if force => return Ok(()),
            other => other?,
        };
        let users = self.db.volume_users(&volume.name)?;
        if !users.is_empty() {
            return Err(in_use(&volume.name, &self.names_of(&users)?));
        }
        self.delete_volume(&volume.name)
    }

    /// Removes unused anonymous volumes; with `all` (or the filter `all=1`) named ones too. Counts the freed bytes.
    /// `unused-for`: only those that no container used for that long.
    ///
    /// # Errors
    /// The first volume that could not be removed, after all others were.
    pub fn prune_volumes(&self, all: bool, filters: &Filters) -> Result<Pruned> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let all = all || filter::boolean(filters, "all")?.unwrap_or(false);
        let (until, idle_since) = (filter::until(filters)?, filter::unused_since(filters)?);
        super::copy::sweep_unfinished_volumes(&self.privilege.roots.volumes())?;
        let used = self.volumes_in_use()?;
        let mut pruned = Pruned::default();
        let mut failure = None;
        for volume in self.db.volumes()? {
            let candidate = !used.contains(&volume.name) && (all || volume.anonymous) && filter::labels_match(filters, &volume.labels);
            let old = until.is_none_or(|until| volume.created <= until);
            let idle = idle_since.is_none_or(|since| self.last_used(&volume) <= since);
            if !candidate || !old || !idle {
                continue;
            }
            let size = super::observe::tree_size(&self.volume_mountpoint(&volume.name)).unwrap_or(0);
            match self.delete_volume(&volume.name) {
                Ok(()) => {
                    pruned.deleted.push(volume.name.as_str().to_owned());
                    pruned.reclaimed += size;
                }
                // A container took it in between.
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        pruned.deleted.sort();
        self.emit([events::of_prune(EventKind::Volume, pruned.reclaimed)]);
        failure.map_or(Ok(pruned), Err)
    }

    pub(in crate::engine) fn find_volume(&self, name: &str) -> Result<Volume> {
        let missing = || self.no_such("volume", name);
        let parsed: VolumeName = name.parse().map_err(|_| missing())?;
        let volume = self.db.volume(&parsed)?.ok_or_else(missing)?;
        self.finish_rename(&volume.name)?;
        Ok(volume)
    }

    /// When a container that used it ended last, or when it was made: the time of the directory around its data, which
    /// nothing else changes.
    fn last_used(&self, volume: &Volume) -> Timestamp {
        let directory = self.privilege.roots.volumes().join(volume.name.as_str());
        let touched = std::fs::metadata(directory).and_then(|status| status.modified()).ok();
        let nanos = touched.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).and_then(|since| i64::try_from(since.as_nanos()).ok());
        nanos.map_or(volume.created, |nanos| volume.created.max(Timestamp::from_nanos(nanos)))
    }

    /// Row first, in a transaction that checks the references again; then the files.
    fn delete_volume(&self, name: &VolumeName) -> Result<()> {
        if let Some(place) = self.db.volume(name)?.and_then(|volume| self.place_by_hand(&volume)) {
            return Err(Error::Conflict {
                message: format!("cannot remove volume \"{name}\": it is mounted at {}", place.display()),
                hint: Some(format!("rcon volume unmount {name}")),
            });
        }
        let driver = self.db.volume(name)?.and_then(|volume| Driver::of(&volume).ok());
        self.db.write(true, |tx| tx.delete_volume(name).map_err(Error::from))?;
        if let Some(driver) = driver {
            quota::release(&driver.place, &self.volume_mountpoint(name));
        }
        memory::take_down(&memory::place(&self.privilege.roots, name))?;
        fs::remove_tree(&self.privilege.roots.volumes().join(name.as_str()))?;
        self.emit([Event::new(EventKind::Volume, "destroy", name.as_str()).with("driver", "local")]);
        Ok(())
    }

    /// What is mounted to reach a volume's files, and whether it is read-only; None for one in memory that nobody uses.
    ///
    /// # Errors
    /// `NoSuch`; its options are not understood.
    pub(in crate::engine) fn volume_base(&self, name: &VolumeName) -> Result<Option<(Base, bool)>> {
        let volume = self.db.volume(name)?.ok_or_else(|| Error::no_such("volume", name.as_str()))?;
        self.finish_rename(name)?;
        Ok(match Driver::of(&volume)?.place {
            Place::Directory { .. } => Some((Base::Directory(self.volume_mountpoint(name)), false)),
            Place::Tmpfs { .. } => {
                let place = memory::place(&self.privilege.roots, name);
                place.exists().then_some((Base::Directory(place), false))
            }
            Place::FileSystem { kind, device, options } => Some((driver::base(&kind, &device, &options)?, driver::is_read_only(&options))),
        })
    }

    /// Where a volume's files are while it is used.
    ///
    /// # Errors
    /// `NoSuch`; `Unsupported` for one that each container mounts for itself.
    pub(in crate::engine) fn volume_place(&self, name: &VolumeName) -> Result<PathBuf> {
        let volume = self.db.volume(name)?.ok_or_else(|| Error::no_such("volume", name.as_str()))?;
        match Driver::of(&volume)?.place {
            Place::Directory { .. } => Ok(self.volume_mountpoint(name)),
            Place::Tmpfs { .. } => Ok(memory::place(&self.privilege.roots, name)),
            Place::FileSystem { .. } => Err(Error::Failed {
                operation: format!("find the files of volume \"{name}\""),
                kind: ErrorKind::Unsupported,
                source: "its file system is mounted only while a container uses it".into(),
            }),
        }
    }

    fn make_volume_dir(&self, name: &VolumeName, place: &Place) -> Result<()> {
        let parent = self.privilege.roots.volumes().join(name.as_str());
        let data = parent.join("_data");
        self.finish_rename_from(name)?;
        fs::remove_tree(&parent)?;
        fs::create_dir_all(&parent, PARENT_MODE)?;
        fs::create_dir_all(&data, DATA_MODE)?;
        // mkdir's mode is cut by the umask.
        for (path, mode) in [(&parent, PARENT_MODE), (&data, DATA_MODE)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("set mode of", path)?;
        }
        driver::set_up(place, name, &data).inspect_err(|_| forget(&parent))
    }

    /// Containers and pods as a message names them: `"web" (0123456789ab)`.
    pub(in crate::engine) fn names_of(&self, ids: &[ContainerId]) -> Result<Vec<String>> {
        let name = |id: &ContainerId| {
            Ok(match self.db.container(id)? {
                Some(record) => format!("container \"{}\" ({id})", record.name),
                None => match self.db.pod(id)? {
                    Some(pod) => format!("pod \"{}\" ({id})", pod.name),
                    None => id.to_string(),
                },
            })
        };
        ids.iter().map(name).collect()
    }

    fn volumes_in_use(&self) -> Result<HashSet<VolumeName>> {
        let mut used = HashSet::new();
        let containers = self.db.containers()?.into_iter().map(|container| container.spec.mounts);
        for mounts in containers.chain(self.db.pods()?.into_iter().map(|pod| pod.spec.mounts)) {
            for mount in mounts {
                if let record::MountKind::Volume { name, .. } = mount.kind {
                    used.insert(name);
                }
            }
        }
        Ok(used)
    }
}

/// Nothing was made: what could not be finished goes.
fn forget(directory: &std::path::Path) {
    if let Err(error) = fs::remove_tree(directory) {
        tracing::debug!("{error}");
    }
}

fn in_use(name: &VolumeName, users: &[String]) -> Error {
    Error::Conflict {
        message: format!("cannot remove volume \"{name}\": it is in use by {}", users.join(", ")),
        hint: Some("remove the containers that use it first".to_owned()),
    }
}

fn has_option(volume: &Volume, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => volume.options.get(key).is_some_and(|found| found == value),
        None => volume.options.contains_key(wanted),
    }
}

/// RFC 3339 in UTC to the second, as Docker prints a volume's creation.
fn rfc3339_seconds(at: Timestamp) -> String {
    Timestamp::from_nanos(at.seconds().saturating_mul(1_000_000_000)).to_string()
}
