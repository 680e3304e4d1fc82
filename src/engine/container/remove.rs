//! rm: `Removing` is recorded first (from then on only the removal can go on), then directories, volumes and the row
//! go. Every step is idempotent; `reconcile` finishes what a crash interrupted.

use super::super::{Engine, Error, Result, events};
use super::contact::connect;
use super::locks;
use super::reconcile::Decider;
use super::stop::kill_and_wait;
use crate::base::{Roots, failpoint};
use crate::monitor;
use crate::runtime::cgroup::Group;
use crate::state::Db;
use crate::state::events::{Event, Kind, emit};
use crate::state::record::{self, MountKind, Phase};
use std::path::Path;
use std::time::Duration;

/// How long the processes of a container without a readable record may take to die.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Removes it. `force`: SIGKILL first. `volumes`: its anonymous volumes too, unless others use them.
    ///
    /// # Errors
    /// There is no such container, or it runs and `force` is false.
    pub fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let record = match self.find(name) {
            Err(Error::State(crate::state::Error::Document { .. })) if force => return self.remove_damaged(name),
            other => other?,
        };
        let roots = &self.privilege.roots;
        let live_dir = roots.live(&record.id);
        if !force && record.phase == Phase::Restarting {
            return Err(conflict(name, "restarting"));
        }
        if !force && record.phase == Phase::Started && monitor::is_alive(&live_dir) {
            return Err(conflict(name, "running"));
        }
        let _lock = locks::lock(roots, &record.id)?;
        // Under the lock: another `rm`, or the container's own `--rm`, may have been faster.
        let Some(mut record) = self.db.container(&record.id)? else { return Ok(()) };
        let volumes = volumes || record.spec.host.auto_remove;
        if record.phase == Phase::Started && monitor::is_alive(&live_dir) {
            if !force {
                return Err(conflict(name, "running"));
            }
            if let Some(mut client) = connect(&live_dir)? {
                client.stop_requested(Some(Duration::ZERO))?;
                kill_and_wait(&mut client, &live_dir, name)?;
            }
            match self.db.container(&record.id)? {
                Some(now) => record = now,
                None => return Ok(()),
            }
        }
        if record.phase == Phase::Started {
            match super::reconcile::end_dead(&self.db, roots, record, Decider::User)? {
                Some(now) => record = now,
                None => return Ok(()),
            }
        }
        begin_removal(&self.db, &mut record, volumes)?;
        failpoint_at("engine.remove.begun")?;
        finish_removal(&self.db, roots, &record)
    }

    /// A container whose record nobody can read: whatever its id leads to goes. Its volumes stay, for nobody knows
    /// which of them were anonymous.
    fn remove_damaged(&self, name: &str) -> Result<()> {
        let roots = &self.privilege.roots;
        let id = self.db.find_id(name.strip_prefix('/').unwrap_or(name))?.ok_or_else(|| self.no_such("container", name))?;
        let _lock = locks::lock(roots, &id)?;
        let live_dir = roots.live(&id);
        // Its own cgroup, or the one it has by default when no monitor lives that could say.
        let group = monitor::Live::read(&live_dir).map_or_else(|| Group::at(&format!("/rcon/{id}")), |live| live.cgroup);
        if let Some(mut client) = connect(&live_dir)? {
            client.stop_requested(Some(Duration::ZERO))?;
            kill_and_wait(&mut client, &live_dir, name)?;
        }
        group.kill_all(KILL_PATIENCE)?;
        group.delete()?;
        super::connect::unpublish_leased(&self.db, &id)?;
        super::super::cni::release(roots, &id);
        unmount_shm(&live_dir);
        super::host_mount::take_down(&roots.container(&id))?;
        crate::base::fs::remove_tree(&roots.container(&id))?;
        crate::base::fs::remove_tree(&live_dir)?;
        self.db.write(true, |tx| tx.delete_container(&id))?;
        self.emit([Event::new(Kind::Container, "destroy", id.as_str())]);
        Ok(())
    }
}

fn conflict(name: &str, state: &str) -> Error {
    Error::Conflict { message: format!("container {name} is {state}"), hint: Some("stop it first or use -f".to_owned()) }
}

/// A failpoint whose failure is an engine error.
pub(in crate::engine) fn failpoint_at(name: &str) -> Result<()> {
    failpoint::hit(name).map_err(|source| Error::Failed {
        operation: format!("pass {name}"),
        kind: crate::base::ErrorKind::Internal,
        source: Box::new(source),
    })
}

/// Records that the removal has begun. With `volumes`, the anonymous volumes stay marked in the record (so that an
/// interrupted removal still knows); without, they are unmarked.
pub(super) fn begin_removal(db: &Db, record: &mut record::Container, volumes: bool) -> Result<()> {
    // A container that was to vanish anyway need not have its removal synced to disk.
    let durable = !record.spec.host.auto_remove;
    record.phase = Phase::Removing;
    record.endpoints.clear();
    record.published.clear();
    if !volumes {
        for mount in &mut record.spec.mounts {
            if let MountKind::Volume { anonymous, .. } = &mut mount.kind {
                *anonymous = false;
            }
        }
    }
    let record = &*record;
    db.write(durable, |tx| -> Result<()> {
        tx.update_container(record)?;
        Ok(tx.release_leases(&record.id)?)
    })
}

/// Deletes directories, row and anonymous volumes of a container that is being removed. Idempotent.
pub(super) fn finish_removal(db: &Db, roots: &Roots, record: &record::Container) -> Result<()> {
    unmount_shm(&roots.live(&record.id));
    super::host_mount::take_down(&roots.container(&record.id))?;
    crate::base::fs::remove_tree(&roots.container(&record.id))?;
    failpoint_at("engine.remove.directory")?;
    crate::base::fs::remove_tree(&roots.live(&record.id))?;
    let gone = db.write(false, |tx| -> Result<Vec<crate::base::VolumeName>> {
        tx.delete_container(&record.id)?;
        let mut gone = Vec::new();
        for mount in &record.spec.mounts {
            let MountKind::Volume { name, anonymous: true, .. } = &mount.kind else { continue };
            // Refused while another container (`--volumes-from`) uses it: then it stays.
            match tx.delete_volume(name) {
                Ok(()) => gone.push(name.clone()),
                Err(error) if matches!(error.kind(), crate::base::ErrorKind::Conflict | crate::base::ErrorKind::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(gone)
    })?;
    failpoint_at("engine.remove.row")?;
    if let Some(membership) = &record.spec.pod
        && let Some(pod) = db.pod(&membership.pod)?
    {
        // Its name was one of the pod's.
        super::super::network::refresh_names(db, roots, &super::reserve::networks_of(db, &pod.endpoints)?)?;
    }
    let destroyed = gone.iter().map(|name| Event::new(Kind::Volume, "destroy", name.as_str()).with("driver", "local"));
    emit(roots, [events::of_container(record, "destroy")].into_iter().chain(destroyed));
    for name in &gone {
        crate::base::fs::remove_tree(&roots.volumes().join(name.as_str()))?;
    }
    Ok(())
}

/// Takes down the shared `/dev/shm` of an `--ipc shareable` container, if there is one.
pub(super) fn unmount_shm(live_dir: &Path) {
    let shm = live_dir.join(super::start::SHM);
    match rustix::mount::unmount(&shm, rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW) {
        // Not mounted, or not there: nothing to take down.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!("cannot unmount {}: {error}", shm.display()),
    }
}
