//! Volumes: create, list, inspect, remove, prune.
//!
//! A volume is its row. Its directory `<data>/volumes/<name>/_data` is made inside the transaction that inserts the row
//! and removed after the row was deleted; what a crash left there is cleared before the name is used again, so that a
//! new volume never shows the files of an old one.

use super::*;
use crate::base::ErrorKind;
use crate::base::fs::{self, Context};
use crate::base::{ContainerId, VolumeName, random_hex};
use crate::engine::filter;
use record::Volume;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const KNOWN: &[&str] = &["dangling", "name", "label", "driver"];
const KNOWN_PRUNE: &[&str] = &["all", "label", "label!"];
/// Others may pass through to a volume's data (which has its own owner and mode), not list its parent.
const PARENT_MODE: u32 = 0o701;
const DATA_MODE: u32 = 0o755;
/// Docker marks a volume made without a name by this label.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Engine {
    /// Makes a volume; without a name it is anonymous (64 hexadecimal digits). An existing volume of that name is success.
    ///
    /// # Errors
    /// `Invalid` for a malformed name; the file system's or database's failure.
    pub fn create_volume(&self, name: Option<&str>, labels: &[(String, String)]) -> Result<Volume> {
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
        let volume = Volume { name, created: Timestamp::now(), driver: "local".to_owned(), labels, options: BTreeMap::new(), anonymous };
        let inserted = self.db.write(true, |tx| {
            let inserted = tx.insert_volume(&volume)?;
            if inserted {
                self.make_volume_dir(&volume.name)?;
            }
            Ok::<_, Error>(inserted)
        })?;
        if inserted {
            return Ok(volume);
        }
        // Another command won the race for the name; its volume is as good.
        self.db.volume(&volume.name)?.ok_or_else(|| Error::no_such("volume", volume.name.as_str()))
    }

    /// Where a volume's files are.
    pub fn volume_mountpoint(&self, name: &VolumeName) -> PathBuf {
        self.privilege.roots.volumes().join(name.as_str()).join("_data")
    }

    /// By name; filters `dangling`, `name` (part of it), `label`, `driver`.
    ///
    /// # Errors
    /// `Invalid` names an unknown key or a malformed value.
    pub fn volumes(&self, filters: &Filters) -> Result<Vec<Volume>> {
        filter::require_known(filters, KNOWN)?;
        let dangling = filter::boolean(filters, "dangling")?;
        let used = if dangling.is_some() { self.volumes_in_use()? } else { HashSet::new() };
        let mut volumes = self.db.volumes()?;
        volumes.retain(|v| {
            dangling.is_none_or(|wanted| wanted != used.contains(&v.name))
                && filter::any(filters, "name", |n| v.name.as_str().contains(n))
                && filter::any(filters, "driver", |d| v.driver == d)
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
            return Err(in_use(&volume.name, &users));
        }
        self.delete_volume(&volume.name)
    }

    /// Removes unused anonymous volumes; with `all` (or the filter `all=1`) named ones too. Counts the freed bytes.
    ///
    /// # Errors
    /// The first volume that could not be removed, after all others were.
    pub fn prune_volumes(&self, all: bool, filters: &Filters) -> Result<Pruned> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let all = all || filter::boolean(filters, "all")?.unwrap_or(false);
        let used = self.volumes_in_use()?;
        let mut pruned = Pruned::default();
        let mut failure = None;
        for volume in self.db.volumes()? {
            let candidate = !used.contains(&volume.name) && (all || volume.anonymous) && filter::labels_match(filters, &volume.labels);
            if !candidate {
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
        failure.map_or(Ok(pruned), Err)
    }

    fn find_volume(&self, name: &str) -> Result<Volume> {
        let missing = || Error::no_such("volume", name);
        let parsed: VolumeName = name.parse().map_err(|_| missing())?;
        self.db.volume(&parsed)?.ok_or_else(missing)
    }

    /// Row first, in a transaction that checks the references again; then the files.
    fn delete_volume(&self, name: &VolumeName) -> Result<()> {
        self.db.write(true, |tx| tx.delete_volume(name).map_err(Error::from))?;
        fs::remove_tree(&self.privilege.roots.volumes().join(name.as_str()))?;
        Ok(())
    }

    fn make_volume_dir(&self, name: &VolumeName) -> Result<()> {
        let parent = self.privilege.roots.volumes().join(name.as_str());
        let data = parent.join("_data");
        fs::remove_tree(&parent)?;
        fs::create_dir_all(&parent, PARENT_MODE)?;
        fs::create_dir_all(&data, DATA_MODE)?;
        // mkdir's mode is cut by the umask.
        for (path, mode) in [(&parent, PARENT_MODE), (&data, DATA_MODE)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).on("set mode of", path)?;
        }
        Ok(())
    }

    fn volumes_in_use(&self) -> Result<HashSet<VolumeName>> {
        let mut used = HashSet::new();
        for container in self.db.containers()? {
            for mount in container.spec.mounts {
                if let record::MountKind::Volume { name, .. } = mount.kind {
                    used.insert(name);
                }
            }
        }
        Ok(used)
    }
}

fn in_use(name: &VolumeName, users: &[ContainerId]) -> Error {
    let ids: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
    Error::Conflict {
        message: format!("cannot remove volume \"{name}\": it is in use by {}", ids.join(", ")),
        hint: Some("remove the containers that use it first".to_owned()),
    }
}

/// RFC 3339 in UTC to the second, as Docker prints a volume's creation.
fn rfc3339_seconds(at: Timestamp) -> String {
    Timestamp::from_nanos(at.seconds().saturating_mul(1_000_000_000)).to_string()
}
