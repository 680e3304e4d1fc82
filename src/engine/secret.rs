//! Secrets: create, list, inspect, remove; and the copy that a container gets of them.
//!
//! A container's copies are files in its durable directory, written at create and shown to it read-only (or as variables) at
//! each start: neither `inspect` nor an image made by `commit` holds them.

use super::*;
use crate::base::fs::Context;
use crate::engine::filter;
use crate::state::record::SecretTarget;
use crate::state::secret::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};

/// Docker's limit: what is larger belongs into a volume.
pub const SECRET_LIMIT: usize = 500 * 1024;
/// In a container's durable directory.
const DIRECTORY: &str = "secrets";
const KNOWN: &[&str] = &["id", "name", "label"];

impl Engine {
    /// Stores a secret and returns its id. With `replace`, one of that name is replaced.
    ///
    /// # Errors
    /// `Invalid` for a malformed name or too much data; `Conflict` if the name is taken.
    pub fn create_secret(&self, name: &str, data: &[u8], labels: BTreeMap<String, String>, replace: bool) -> Result<String> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 253 || !name.chars().all(fine) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Error::invalid(format!("invalid secret name \"{name}\": up to 253 of [a-zA-Z0-9._-], the first a letter or digit")));
        }
        if data.is_empty() || data.len() > SECRET_LIMIT {
            return Err(Error::invalid(format!("a secret holds 1 to {SECRET_LIMIT} bytes, not {}", data.len())));
        }
        let now = Timestamp::now();
        let mut secret = Secret { id: crate::base::random_hex(25), name: name.to_owned(), created: now, updated: now, labels, ..Secret::default() };
        let old = if replace { self.db.secrets()?.into_iter().find(|known| known.name == name) } else { None };
        if let Some(old) = &old {
            secret.created = old.created;
        }
        let inserted = self.db.write(true, |tx| {
            if let Some(old) = &old {
                tx.delete_secret(&old.id)?;
            }
            tx.insert_secret(&secret, data).map_err(Error::from)
        })?;
        if !inserted {
            return Err(Error::Conflict {
                message: format!("secret \"{name}\" already exists"),
                hint: Some(format!("remove it with `rcon secret rm {name}`, or use --replace")),
            });
        }
        Ok(secret.id)
    }

    /// By name; filters `id` (prefix), `name` (part of it), `label`.
    ///
    /// # Errors
    /// `Invalid` names an unknown key.
    pub fn secrets(&self, filters: &Filters) -> Result<Vec<Secret>> {
        filter::require_known(filters, KNOWN)?;
        let mut secrets = self.db.secrets()?;
        secrets.retain(|secret| {
            filter::any(filters, "id", |id| secret.id.starts_with(id))
                && filter::any(filters, "name", |name| secret.name.contains(name))
                && filter::labels_match(filters, &secret.labels)
        });
        Ok(secrets)
    }

    /// One secret by full id, name or unique id prefix.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`.
    pub fn secret(&self, name: &str) -> Result<Secret> {
        let mut secrets = self.db.secrets()?;
        if let Some(at) = secrets.iter().position(|secret| secret.id == name).or_else(|| secrets.iter().position(|secret| secret.name == name)) {
            return Ok(secrets.swap_remove(at));
        }
        secrets.retain(|secret| !name.is_empty() && secret.id.starts_with(name));
        match secrets.len() {
            0 => Err(Error::no_such("secret", name)),
            1 => Ok(secrets.swap_remove(0)),
            _ => Err(Error::Ambiguous { what: "secret", name: name.to_owned() }),
        }
    }

    /// Docker's document of a secret; `show`: with its bytes.
    ///
    /// # Errors
    /// As [`Engine::secret`].
    pub fn inspect_secret(&self, name: &str, show: bool) -> Result<Value> {
        let secret = self.secret(name)?;
        let mut document = json!({
            "ID": secret.id,
            "CreatedAt": secret.created.to_string(),
            "UpdatedAt": secret.updated.to_string(),
            "Spec": { "Name": secret.name, "Driver": { "Name": secret.driver, "Options": {} }, "Labels": secret.labels },
        });
        if show {
            let data = self.db.secret_data(&secret.id)?.unwrap_or_default();
            document["SecretData"] = json!(String::from_utf8_lossy(&data));
        }
        Ok(document)
    }

    /// Removes a secret. Containers that got it keep their copy.
    ///
    /// # Errors
    /// As [`Engine::secret`].
    pub fn remove_secret(&self, name: &str) -> Result<()> {
        let secret = self.secret(name)?;
        // Of several at once one removes it.
        if self.db.write(true, |tx| tx.delete_secret(&secret.id))? { Ok(()) } else { Err(Error::no_such("secret", name)) }
    }

    /// Writes a new container's copies into its directory.
    pub(super) fn copy_secrets(&self, container: &record::Container) -> Result<()> {
        let uses = &container.spec.host.secrets;
        if uses.is_empty() {
            return Ok(());
        }
        let directory = self.privilege.roots.container(&container.id).join(DIRECTORY);
        crate::base::fs::create_dir_all(&directory, 0o755)?;
        for (index, wanted) in uses.iter().enumerate() {
            let secret = self.secret(&wanted.secret)?;
            let data = self.db.secret_data(&secret.id)?.ok_or_else(|| Error::no_such("secret", wanted.secret.as_str()))?;
            let path = directory.join(index.to_string());
            let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).on("create", &path)?;
            file.write_all(&data).on("write", &path)?;
            match &wanted.target {
                SecretTarget::Mount { uid, gid, mode, .. } => {
                    fchown(&file, Some(*uid), Some(*gid)).on("change the owner of", &path)?;
                    file.set_permissions(std::fs::Permissions::from_mode(*mode)).on("change the mode of", &path)?;
                }
                SecretTarget::Env { variable } if std::str::from_utf8(&data).is_err() || data.contains(&0) => {
                    return Err(Error::Invalid {
                        message: format!("secret \"{}\" cannot be the variable {variable}: it is not text", wanted.secret),
                        hint: Some("use it as a file: type=mount".to_owned()),
                    });
                }
                SecretTarget::Env { .. } => {}
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Copies the secrets that another container got: the store may not have them any more.
    pub(super) fn take_secrets(&self, from: &crate::base::ContainerId, container: &record::Container) -> Result<()> {
        if container.spec.host.secrets.is_empty() {
            return Ok(());
        }
        let roots = &self.privilege.roots;
        let (from, to) = (roots.container(from), roots.container(&container.id));
        crate::base::fs::create_dir_all(&to.join(DIRECTORY), 0o755)?;
        for index in 0..container.spec.host.secrets.len() {
            let (from, to) = (copy_of(&from, index), copy_of(&to, index));
            std::fs::copy(&from, &to).on("copy", &from)?;
            let stat = std::fs::metadata(&from).on("examine", &from)?;
            std::os::unix::fs::chown(&to, Some(stat.uid()), Some(stat.gid())).on("change the owner of", &to)?;
            std::fs::set_permissions(&to, stat.permissions()).on("change the mode of", &to)?;
        }
        Ok(())
    }
}

/// The file of a container's `index`-th secret.
pub(super) fn copy_of(container_dir: &Path, index: usize) -> std::path::PathBuf {
    container_dir.join(DIRECTORY).join(index.to_string())
}
