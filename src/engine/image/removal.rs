//! `rmi` and the deletion under `image prune`.
//!
//! Docker's rules: by tag untags, and deletes the image with its last tag; the last tag of an image that a container
//! uses is refused, with force only the name goes; by id a second repository or a container needs force, and a
//! running container forbids it even then.

use super::{parse_reference, same_repository};
use crate::engine::{Engine, Error, ImageView, Reference, RemovedImage, Result, Status, View, events};

/// What [`decide`] says is to be done.
#[derive(Debug, PartialEq)]
struct Removal {
    /// Names to take away (tags and digests), full form.
    names: Vec<Reference>,
    /// Whether the image itself goes.
    delete: bool,
}

/// The container that stands in the way: short id and whether it runs.
#[derive(Debug, Clone, PartialEq)]
struct User {
    id: String,
    running: bool,
}

impl Engine {
    /// `rmi`: untags and deletes by Docker's rules.
    ///
    /// # Errors
    /// `Conflict` names the container or the number of repositories in the way; `NoSuch`; `Ambiguous`.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> {
        let view = self.image(name)?;
        let users = self.image_users(&view.image.id)?;
        let removal = decide(&view, name, force, &users)?;
        let removed = self.apply(&view, &removal)?;
        if !removed.deleted.is_empty() {
            crate::image::collect_garbage(&self.privilege.roots, &self.db, false)?;
        }
        Ok(removed)
    }

    /// Deletes an image with all its names unless a container uses it by now. The caller collects the garbage.
    pub(in crate::engine) fn delete_if_unused(&self, view: &ImageView) -> Result<Option<RemovedImage>> {
        if !self.image_users(&view.image.id)?.is_empty() {
            return Ok(None);
        }
        let names = view.tags.iter().chain(&view.digests).cloned().collect();
        self.apply(view, &Removal { names, delete: true }).map(Some)
    }

    /// One transaction: the database refuses the image's row while a container refers to it.
    fn apply(&self, view: &ImageView, removal: &Removal) -> Result<RemovedImage> {
        let others = self.other_members(&removal.names, &view.image.id)?;
        self.db.write(true, |tx| {
            for name in &removal.names {
                tx.delete_name(&name.to_string())?;
            }
            if removal.delete {
                tx.delete_image(&view.image.id)?;
            }
            Ok::<_, Error>(())
        })?;
        let image = |action, name: &str| events::of_image(&view.image, action, &view.image.id, name);
        let deleted = removal.delete.then(|| image("delete", &view.image.id));
        self.emit(removal.names.iter().map(|name| image("untag", &name.familiar())).chain(deleted));
        let untagged = removal.names.iter().map(|n| format!("Untagged: {}", n.familiar())).collect();
        let mut deleted = if removal.delete { vec![format!("Deleted: {}", view.image.id)] } else { Vec::new() };
        for id in others {
            if self.remove_orphan(&id)? {
                deleted.push(format!("Deleted: {id}"));
            }
        }
        Ok(RemovedImage { untagged, deleted })
    }

    fn image_users(&self, id: &str) -> Result<Vec<User>> {
        let mut users: Vec<User> = Vec::new();
        for record in self.db.containers()? {
            if record.spec.uses_image(id) {
                let View { record, status, .. } = self.view_of(record);
                let running = matches!(status, Status::Running | Status::Paused | Status::Restarting);
                users.push(User { id: record.id.short().to_owned(), running });
            }
        }
        // The one that forbids most is the one to name.
        users.sort_by_key(|u| !u.running);
        Ok(users)
    }
}

/// The pure decision.
fn decide(view: &ImageView, typed: &str, force: bool, users: &[User]) -> Result<Removal> {
    let named = typed.parse::<Reference>().ok().filter(|r| view.tags.contains(r) || view.digests.contains(r));
    match named {
        Some(name) => decide_by_name(view, typed, &name, force, users),
        None => decide_by_id(view, typed, force, users),
    }
}

fn decide_by_name(view: &ImageView, typed: &str, name: &Reference, force: bool, users: &[User]) -> Result<Removal> {
    parse_reference(typed)?;
    let others: Vec<&Reference> = view.tags.iter().filter(|t| *t != name).collect();
    let by_digest = name.digest().is_some();
    let mut names = vec![name.clone()];
    if !others.is_empty() {
        // The repository's digests go with its last tag.
        if !by_digest && !others.iter().any(|t| same_repository(t, name)) {
            names.extend(view.digests.iter().filter(|d| same_repository(d, name)).cloned());
        }
        return Ok(Removal { names, delete: false });
    }
    if by_digest && view.digests.len() > 1 && view.tags.is_empty() {
        return Ok(Removal { names, delete: false });
    }
    if let Some(user) = users.first() {
        if !force {
            return Err(Error::Conflict {
                message: format!(
                    "conflict: unable to remove repository reference \"{typed}\" (must force) - container {} is using its referenced image {}",
                    user.id,
                    short(&view.image.id)
                ),
                hint: Some(format!("remove the container first, or add -f to only untag \"{typed}\"")),
            });
        }
        // It stays as a dangling image, for the sake of its containers.
        names.extend(view.digests.iter().filter(|d| *d != name).cloned());
        return Ok(Removal { names, delete: false });
    }
    names.extend(view.digests.iter().filter(|d| *d != name).cloned());
    Ok(Removal { names, delete: true })
}

fn decide_by_id(view: &ImageView, typed: &str, force: bool, users: &[User]) -> Result<Removal> {
    let id = short(&view.image.id);
    let refuse = |how: &str, why: String, hint: Option<String>| {
        Err(Error::Conflict { message: format!("conflict: unable to delete {id} ({how}) - {why}"), hint })
    };
    if let Some(user) = users.iter().find(|u| u.running) {
        let hint = Some(format!("stop container {} first", user.id));
        return refuse("cannot be forced", format!("image is being used by running container {}", user.id), hint);
    }
    let mut repositories: Vec<&Reference> = Vec::new();
    for tag in &view.tags {
        if !repositories.iter().any(|r| same_repository(r, tag)) {
            repositories.push(tag);
        }
    }
    if repositories.len() > 1 && !force {
        let hint = Some(format!("add -f, or remove the names of \"{typed}\" one by one"));
        return refuse("must be forced", "image is referenced in multiple repositories".to_owned(), hint);
    }
    if let Some(user) = users.first() {
        if !force {
            let hint = Some(format!("remove container {} first, or add -f to only untag it", user.id));
            return refuse("must be forced", format!("image is being used by stopped container {}", user.id), hint);
        }
        let names: Vec<Reference> = view.tags.iter().chain(&view.digests).cloned().collect();
        return Ok(Removal { names, delete: false });
    }
    Ok(Removal { names: view.tags.iter().chain(&view.digests).cloned().collect(), delete: true })
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
