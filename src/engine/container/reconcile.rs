//! Reconciliation: what a dead monitor, a killed command or a reboot left behind is ended here, by the next command.
//! Cheap when there is nothing to do: an indexed look at the active records, one lock probe for each of them, and one
//! listing of the run root.

use super::super::volume::memory;
use super::super::{Engine, Error, Result, Status, View, cni, events, pod};
use super::{lifecycle, locks, remove, revive};
use crate::base::{ContainerId, Roots, Timestamp};
use crate::monitor;
use crate::runtime::cgroup::Group;
use crate::state::Db;
use crate::state::record::{self, Phase};
use std::time::Duration;

/// Exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: i32 = 255;
/// Processes that outlive SIGKILL for longer hang in the kernel; the next command tries again. One that only looks around is
/// not kept for long.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// The same for whoever wants just this container to end.
const USER_KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Ends what dead monitors left (kills cgroups, frees leases, writes exit records, finishes removals), and starts again what
    /// its restart policy wants back.
    ///
    /// # Errors
    /// The first failure, after trying all containers.
    pub fn reconcile(&self) -> Result<()> {
        self.finish_restarts()?;
        let ended = self.reconcile_all();
        ended.and(self.revive_or_warn())
    }

    fn revive_or_warn(&self) -> Result<()> {
        let revived = self.revive(&mut |outcome| {
            if let Some((why, _)) = outcome.failure {
                tracing::warn!("container \"{}\" should run by its restart policy and does not start: {why}", outcome.name);
            }
        });
        revived.map(drop)
    }

    /// Starts what is due of these, and looks at them again.
    ///
    /// # Errors
    /// The database's failure.
    pub(in crate::engine) fn revive_seen(&self, views: &mut [View]) -> Result<()> {
        if views.iter().all(|view| view.record.phase != Phase::Restarting) {
            return Ok(());
        }
        self.revive_or_warn()?;
        for view in views.iter_mut().filter(|view| view.record.phase == Phase::Restarting) {
            if let Some(record) = self.db.container(&view.record.id)? {
                *view = self.view_of(record);
            }
        }
        Ok(())
    }

    /// [`Engine::reconcile`] without starting anything.
    pub(super) fn reconcile_all(&self) -> Result<()> {
        self.settle_all(self.db.active_containers()?).1.map_or(Ok(()), Err)
    }

    /// These records as they are now, after ending what dead monitors left of them, and the first failure of that. One look
    /// at a container whose monitor lives is enough: it tells that, and what the view shows.
    pub(in crate::engine) fn settle_all(&self, records: Vec<record::Container>) -> (Vec<View>, Option<Error>) {
        let mut first = None;
        let mut views = Vec::with_capacity(records.len());
        for view in self.views_of(records) {
            let alive = matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
            if (alive && view.record.moving.is_none()) || matches!(view.record.phase, Phase::Created | Phase::Exited) {
                views.push(view);
                continue;
            }
            match self.settle(view.record.clone()) {
                Ok(None) => {}
                Ok(Some(record)) => views.push(self.view_of(record)),
                Err(error) => {
                    first.get_or_insert(error);
                    views.push(view);
                }
            }
        }
        let pods = self.db.active_pods().unwrap_or_else(|error| {
            first.get_or_insert(error.into());
            Vec::new()
        });
        for pod in pods {
            if let Err(error) = self.settle_pod(pod) {
                first.get_or_insert(error);
            }
        }
        if let Err(error) = self.sweep_if_killed() {
            first.get_or_insert(error);
        }
        (views, first)
    }

    /// Brings one record up to date; None when the container is gone after that.
    pub(in crate::engine) fn settle(&self, record: record::Container) -> Result<Option<record::Container>> {
        let roots = &self.privilege.roots;
        match record.phase {
            Phase::Created | Phase::Exited | Phase::Restarting => return Ok(Some(record)),
            Phase::Started if record.moving.is_some() => {}
            // The monitor of a `--rm` container removes it at its end.
            Phase::Started | Phase::Removing if monitor::is_alive(&roots.live(&record.id)) => return Ok(Some(record)),
            Phase::Started | Phase::Removing => {}
        }
        // Whoever starts or removes it right now holds the lock and brings it to an end.
        let Some(_lock) = locks::try_lock(roots, &record.id)? else { return self.reread(&record.id) };
        let Some(record) = self.reread(&record.id)? else { return Ok(None) };
        match record.phase {
            Phase::Started if !monitor::is_alive(&roots.live(&record.id)) => {
                let membership = record.spec.pod.clone().filter(|membership| membership.init.is_none());
                let ended = end_dead(&self.db, roots, record, Decider::Policy)?;
                // One that comes back is no end for its pod.
                let back = ended.as_ref().is_some_and(|record| record.phase == Phase::Restarting);
                if let Some(membership) = membership.filter(|_| !back) {
                    pod::member_ended(roots, &membership.pod)?;
                }
                Ok(ended)
            }
            Phase::Started if record.moving.is_some() => {
                let (id, name) = (record.id.clone(), record.name.clone());
                // What cannot be changed hides nothing; the end of the container takes all of it.
                if let Err(error) = self.finish_move(record) {
                    tracing::warn!("the last change of the networks of container \"{name}\" is not complete: {}", super::start::describe(&error));
                }
                self.reread(&id)
            }
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

/// Takes down what networks hold for a container. Idempotent.
pub(super) fn release_network(roots: &Roots, record: &record::Container) -> Result<()> {
    cni::release(roots, &record.id);
    if let Some(former) = &record.moving {
        super::connect::unpublish(&former.endpoints, &former.published)?;
    }
    super::connect::unpublish(&record.endpoints, &record.published)
}

/// Who says what follows the end of a container whose monitor is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decider {
    /// Its restart policy.
    Policy,
    /// The user, who is stopping, starting or removing it.
    User,
}

/// Ends a started container without a monitor. The caller holds the operation lock. None: it was removed (`--rm`).
pub(super) fn end_dead(db: &Db, roots: &Roots, mut record: record::Container, decider: Decider) -> Result<Option<record::Container>> {
    let group = Group::at(&cgroup_path(&record));
    group.kill_all(if decider == Decider::User { USER_KILL_PATIENCE } else { KILL_PATIENCE })?;
    group.delete()?;
    release_network(roots, &record)?;
    let live_dir = roots.live(&record.id);
    let seen = std::fs::read(live_dir.join(lifecycle::EXIT)).ok().and_then(|text| serde_json::from_slice::<monitor::Exit>(&text).ok());
    remove::unmount_shm(&live_dir);
    memory::release(db, roots, &record)?;
    let networks = super::reserve::networks_of(db, &record.all_endpoints())?;
    let down = events::going_down(&record, &networks);
    if record.spec.host.auto_remove {
        let (code, at) = seen.map_or((UNKNOWN_EXIT, Timestamp::now()), |exit| (exit.code, exit.at));
        crate::state::events::emit(roots, [died(&record, code, at)].into_iter().chain(down));
        remove::begin_removal(db, &mut record, true)?;
        super::super::network::refresh_names(db, roots, &networks)?;
        remove::finish_removal(db, roots, &record)?;
        return Ok(None);
    }
    // A monitor that could say how it ended has asked the policy itself.
    // One that was set up and never started: its policy has nothing to bring back.
    let (waited, before) = (monitor::Live::was_waiting(&live_dir), record.finished);
    let revival = if seen.is_none() && decider == Decider::Policy && !waited { revive::after_death(&record, Timestamp::now()) } else { None };
    write_end(&mut record, seen);
    if waited {
        (record.exit_code, record.finished) = (0, before);
        record.error.clear();
        if before.is_never() {
            (record.phase, record.started) = (Phase::Created, Timestamp::NEVER);
        }
    }
    record.revival = revival;
    if revival.is_some() {
        record.phase = Phase::Restarting;
    }
    db.write(false, |tx| -> Result<()> {
        tx.update_container(&record)?;
        Ok(tx.release_leases(&record.id)?)
    })?;
    super::super::network::refresh_names(db, roots, &networks)?;
    let died = (!waited).then(|| died(&record, record.exit_code, record.finished));
    crate::state::events::emit(roots, died.into_iter().chain(down));
    // Last: what it tells of the end is recorded now.
    crate::base::fs::remove_tree(&live_dir)?;
    Ok(Some(record))
}

fn died(record: &record::Container, code: i32, at: Timestamp) -> crate::state::events::Event {
    events::of_container(record, "die").with("exitCode", code).with("execDuration", at.since(record.started).as_secs())
}

/// `seen`: what the monitor left when it could not record the end itself.
fn write_end(record: &mut record::Container, seen: Option<monitor::Exit>) {
    record.phase = Phase::Exited;
    record.endpoints.clear();
    record.published.clear();
    record.moving = None;
    match seen {
        Some(exit) => (record.exit_code, record.finished, record.oom_killed) = (exit.code, exit.at, exit.oom_killed),
        None => {
            record.exit_code = UNKNOWN_EXIT;
            record.finished = Timestamp::now();
            "the container's monitor died, or the host was restarted".clone_into(&mut record.error);
        }
    }
}
