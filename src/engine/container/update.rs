//! update: limits and restart policy, live and for the next start.

use super::super::request::UpdateRequest;
use super::super::{Engine, Error, Result, events};
use super::resources::{self, HostFacts};
use super::{lifecycle, locks, validate};
use crate::monitor::Live;
use crate::state::record::{Phase, Resources, RestartPolicy};
use oci_spec::runtime::LinuxPids;

impl Engine {
    /// Changes limits and restart policy; returns warnings.
    ///
    /// # Errors
    /// A limit is invalid or the kernel refuses it (then nothing is recorded).
    pub fn update(&self, name: &str, update: &UpdateRequest) -> Result<Vec<String>> {
        let id = self.find(name)?.id;
        let _lock = locks::lock(&self.privilege.roots, &id)?;
        let mut record = self.db.container(&id)?.ok_or_else(|| Error::no_such("container", name))?;
        if record.phase == Phase::Removing {
            return Err(Error::conflict(format!("container {name} is being removed")));
        }
        let host = &mut record.spec.host;
        merge(&mut host.resources, update);
        let facts = HostFacts::read();
        validate::resources(&host.resources, &facts)?;
        if let Some(policy) = &update.restart {
            if host.auto_remove && *policy != RestartPolicy::No {
                return Err(Error::Conflict {
                    message: format!("the restart policy of {name} cannot be changed: it is removed at its end (--rm)"),
                    hint: Some("create it without --rm".to_owned()),
                });
            }
            host.restart = policy.clone();
        }
        let live_dir = self.privilege.roots.live(&id);
        if let Some(live) = Live::read(&live_dir) {
            let mut section = resources::section(&host.resources, &facts)?;
            if update.pids_limit.is_some_and(|limit| limit <= 0) {
                let mut pids = LinuxPids::default();
                pids.set_limit(-1);
                section.set_pids(Some(pids));
            }
            if changes_limits(update) {
                live.cgroup.update(&section)?;
            }
            if let Some(policy) = &update.restart {
                let text = serde_json::to_vec(policy).expect("invariant: a restart policy is plain data");
                crate::base::fs::replace(&live_dir.join(lifecycle::POLICY), &text, 0o600)?;
            }
        }
        self.db.write(true, |tx| -> Result<()> {
            // Read again: the container may have ended meanwhile, which its monitor records without our lock.
            let mut now = tx.container(&id)?.ok_or_else(|| Error::no_such("container", name))?;
            now.spec.host = record.spec.host.clone();
            Ok(tx.update_container(&now)?)
        })?;
        self.emit([events::of_container(&record, "update")]);
        Ok(Vec::new())
    }
}

pub(super) fn merge(r: &mut Resources, update: &UpdateRequest) {
    macro_rules! take {
        ($($field:ident),*) => { $( if update.$field.is_some() { r.$field = update.$field; } )* };
    }
    take!(memory, memory_swap, memory_reservation, nano_cpus, cpu_shares, cpu_period, cpu_quota, pids_limit, blkio_weight);
    if let Some(cpus) = &update.cpuset_cpus {
        r.cpuset_cpus.clone_from(cpus);
    }
    if let Some(mems) = &update.cpuset_mems {
        r.cpuset_mems.clone_from(mems);
    }
}

fn changes_limits(u: &UpdateRequest) -> bool {
    u.memory.is_some()
        || u.memory_swap.is_some()
        || u.memory_reservation.is_some()
        || u.nano_cpus.is_some()
        || u.cpu_shares.is_some()
        || u.cpu_period.is_some()
        || u.cpu_quota.is_some()
        || u.cpuset_cpus.is_some()
        || u.cpuset_mems.is_some()
        || u.pids_limit.is_some()
        || u.blkio_weight.is_some()
}
