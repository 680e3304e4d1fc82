//! Reconciliation: what a dead monitor, a killed command or a reboot left behind is ended here, by the next command.
//! Cheap when there is nothing to do: an indexed look at the active records, one lock probe for each of them, and one
//! listing of the run root.

use super::super::{Engine, Result};
use super::{lifecycle, locks, remove};
use crate::base::{ContainerId, Roots, Timestamp};
use crate::monitor;
use crate::network;
use crate::runtime::cgroup::Group;
use crate::state::Db;
use crate::state::record::{self, Phase};
use std::time::Duration;

/// Exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: i32 = 255;
/// Processes that outlive SIGKILL for longer hang in the kernel; the next command tries again.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Ends what dead monitors left (kills cgroups, frees leases, writes exit records, finishes removals).
    ///
    /// # Errors
    /// The first failure, after trying all containers.
    pub fn reconcile(&self) -> Result<()> {
        let mut first = None;
        for record in self.db.active_containers()? {
            if let Err(error) = self.settle(record) {
                first.get_or_insert(error);
            }
        }
        if let Err(error) = self.sweep_if_killed() {
            first.get_or_insert(error);
        }
        first.map_or(Ok(()), Err)
    }

    /// Brings one record up to date; None when the container is gone after that.
    pub(in crate::engine) fn settle(&self, record: record::Container) -> Result<Option<record::Container>> {
        let roots = &self.privilege.roots;
        match record.phase {
            Phase::Created | Phase::Exited => return Ok(Some(record)),
            // The monitor of a `--rm` container removes it at its end.
            Phase::Started | Phase::Removing if monitor::is_alive(&roots.live(&record.id)) => return Ok(Some(record)),
            Phase::Started | Phase::Removing => {}
        }
        // Whoever starts or removes it right now holds the lock and brings it to an end.
        let Some(_lock) = locks::try_lock(roots, &record.id)? else { return self.reread(&record.id) };
        let Some(record) = self.reread(&record.id)? else { return Ok(None) };
        match record.phase {
            Phase::Started if !monitor::is_alive(&roots.live(&record.id)) => end_dead(&self.db, roots, record),
            Phase::Removing if !monitor::is_alive(&roots.live(&record.id)) => remove::finish_removal(&self.db, roots, &record).map(|()| None),
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
    let group = Group::at(&cgroup_path(&record));
    group.kill_all(KILL_PATIENCE)?;
    group.delete()?;
    release_network(&record)?;
    let live_dir = roots.live(&record.id);
    let seen = std::fs::read(live_dir.join(lifecycle::EXIT)).ok().and_then(|text| serde_json::from_slice::<monitor::Exit>(&text).ok());
    remove::unmount_shm(&live_dir);
    if record.spec.host.auto_remove {
        remove::begin_removal(db, &mut record, true)?;
        remove::finish_removal(db, roots, &record)?;
        return Ok(None);
    }
    write_end(&mut record, seen);
    db.write(false, |tx| -> Result<()> {
        tx.update_container(&record)?;
        Ok(tx.release_leases(&record.id)?)
    })?;
    // Last: what it tells of the end is recorded now.
    crate::base::fs::remove_tree(&live_dir)?;
    Ok(Some(record))
}

/// `seen`: what the monitor left when it could not record the end itself.
fn write_end(record: &mut record::Container, seen: Option<monitor::Exit>) {
    record.phase = Phase::Exited;
    record.address = None;
    record.published.clear();
    match seen {
        Some(exit) => (record.exit_code, record.finished, record.oom_killed) = (exit.code, exit.at, exit.oom_killed),
        None => {
            record.exit_code = UNKNOWN_EXIT;
            record.finished = Timestamp::now();
            "the container's monitor died, or the host was restarted".clone_into(&mut record.error);
        }
    }
}
