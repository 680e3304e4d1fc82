//! Reconciliation: what a dead monitor, a killed command or a reboot left behind is ended here, by the next command.
//! Cheap when there is nothing to do: one look at the records and one lock probe for each started container.

use super::super::{Engine, Result};
use super::{locks, remove};
use crate::base::{ContainerId, Roots, Timestamp};
use crate::monitor;
use crate::network;
use crate::runtime::cgroup::Group;
use crate::state::Db;
use crate::state::record::{self, Phase};
use std::time::Duration;

/// Exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: i32 = 255;
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Ends what dead monitors left (kills cgroups, frees leases, writes exit records, finishes removals).
    ///
    /// # Errors
    /// The first failure, after trying all containers.
    pub fn reconcile(&self) -> Result<()> {
        let mut first = None;
        for record in self.db.containers()? {
            if matches!(record.phase, Phase::Started | Phase::Removing)
                && let Err(error) = self.settle(record)
            {
                first.get_or_insert(error);
            }
        }
        if let Err(error) = self.sweep() {
            first.get_or_insert(error);
        }
        first.map_or(Ok(()), Err)
    }

    /// Removes the directories of creates that died before their transaction: nothing else knows of them. A create
    /// holds the operation lock from before its directory is made until after its transaction.
    fn sweep(&self) -> Result<()> {
        let roots = &self.privilege.roots;
        // No directory yet: there has never been a container.
        let Ok(entries) = std::fs::read_dir(roots.containers()) else { return Ok(()) };
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<ContainerId>().ok()) else { continue };
            if self.reread(&id)?.is_some() {
                continue;
            }
            let Some(_lock) = locks::try_lock(roots, &id)? else { continue };
            // Under the lock: the create may have come to its end since.
            if self.reread(&id)?.is_none() {
                crate::base::fs::remove_tree(&roots.container(&id))?;
            }
        }
        Ok(())
    }

    /// Brings one record up to date; None when the container is gone after that.
    pub(in crate::engine) fn settle(&self, record: record::Container) -> Result<Option<record::Container>> {
        let roots = &self.privilege.roots;
        match record.phase {
            Phase::Created | Phase::Exited => return Ok(Some(record)),
            Phase::Started if monitor::is_alive(&roots.live(&record.id)) => return Ok(Some(record)),
            Phase::Started | Phase::Removing => {}
        }
        // Whoever starts or removes it right now holds the lock and brings it to an end.
        let Some(_lock) = locks::try_lock(roots, &record.id)? else { return self.reread(&record.id) };
        let Some(record) = self.reread(&record.id)? else { return Ok(None) };
        match record.phase {
            Phase::Started if !monitor::is_alive(&roots.live(&record.id)) => end_dead(&self.db, roots, record),
            Phase::Removing => remove::finish_removal(&self.db, roots, &record).map(|()| None),
            _ => Ok(Some(record)),
        }
    }

    fn reread(&self, id: &ContainerId) -> Result<Option<record::Container>> {
        Ok(self.db.container(id)?)
    }
}

/// Where the container's cgroups are.
pub(super) fn cgroup_path(record: &record::Container) -> String {
    let parent = match record.spec.host.cgroup_parent.trim_matches('/') {
        "" => "rcon",
        parent => parent,
    };
    format!("/{parent}/{}", record.id)
}

/// Takes down what the default network holds for a container. Idempotent.
pub(super) fn release_network(record: &record::Container) -> Result<()> {
    if let Some(address) = record.address {
        network::unpublish(address, &record.published)?;
    }
    Ok(())
}

/// Ends a started container without a monitor. The caller holds the operation lock. None: it was removed (`--rm`).
pub(super) fn end_dead(db: &Db, roots: &Roots, mut record: record::Container) -> Result<Option<record::Container>> {
    let group = Group { path: cgroup_path(&record) };
    group.kill_all(KILL_PATIENCE)?;
    group.delete()?;
    release_network(&record)?;
    remove::unmount_shm(&roots.live(&record.id));
    crate::base::fs::remove_tree(&roots.live(&record.id))?;
    if record.spec.host.auto_remove {
        remove::begin_removal(db, &mut record, true)?;
        remove::finish_removal(db, roots, &record)?;
        return Ok(None);
    }
    record.phase = Phase::Exited;
    record.address = None;
    record.published.clear();
    record.exit_code = UNKNOWN_EXIT;
    record.finished = Timestamp::now();
    "the container's monitor died, or the host was restarted".clone_into(&mut record.error);
    db.write(false, |tx| -> Result<()> {
        tx.update_container(&record)?;
        Ok(tx.release_leases(&record.id)?)
    })?;
    Ok(Some(record))
}
