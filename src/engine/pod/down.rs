//! Taking a pod down: what it holds goes, then its leases; what was cut off is finished by the next command.

use super::super::{Engine, Result, container, events};
use super::{hold, up};
use crate::base::{PodId, Roots};
use crate::runtime::cgroup::Group;
use crate::state::Db;
use crate::state::pod::{ExitPolicy, Pod, PodPhase};
use std::time::Duration;

/// Processes that outlive SIGKILL for longer hang in the kernel; the next command tries again.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// In the pod's live directory: the user wants it down, and who asked for that may be gone before the last member has ended.
const WANTED_DOWN: &str = "wanted-down";

/// Has the end of the last member take the pod down, unless a member is started before.
pub(super) fn want_down(roots: &Roots, id: &PodId) -> Result<()> {
    match crate::base::fs::write(&roots.live_pod(id).join(WANTED_DOWN), b"") {
        // It is down.
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

/// A member is started: the pod stays up.
pub(super) fn want_up(roots: &Roots, id: &PodId) -> Result<()> {
    Ok(crate::base::fs::remove_file(&roots.live_pod(id).join(WANTED_DOWN))?)
}

/// Releases everything of a pod but its record: ports, link, processes, groups, namespaces. Idempotent.
///
/// # Errors
/// The first failure: its leases must stay then.
pub(super) fn release(db: &Db, roots: &Roots, pod: &Pod) -> Result<()> {
    super::super::cni::release(roots, &pod.id);
    container::unpublish(&pod.endpoints, &pod.published)?;
    // Not left to the end of the namespace: a forgotten mount of it would keep the address on the bridge.
    container::detach_all(db, &pod.id, &pod.endpoints)?;
    container::failpoint_at("engine.pod.unpublished")?;
    let group = Group::at(&up::group_path(pod));
    group.kill_all(KILL_PATIENCE)?;
    group.delete()?;
    container::failpoint_at("engine.pod.killed")?;
    hold::release(roots, &pod.id)
}

/// Ends a pod that is up or was cut off in between: it is stopped after that. The caller holds its lock.
///
/// # Errors
/// What could not be released; the pod stays as it was, and the next command tries again.
pub(super) fn end(db: &Db, roots: &Roots, mut pod: Pod) -> Result<Pod> {
    release(db, roots, &pod)?;
    let networks = container::networks_of(db, &pod.endpoints)?;
    pod.phase = PodPhase::Stopped;
    pod.endpoints.clear();
    pod.published.clear();
    db.write(false, |tx| -> Result<()> {
        tx.update_pod(&pod)?;
        Ok(tx.release_leases(&pod.id)?)
    })?;
    super::super::network::refresh_names(db, roots, &networks)?;
    crate::state::events::emit(roots, [events::of_pod(&pod, "stop")]);
    Ok(pod)
}

/// Stops a pod if none of its members is started; false: one is. Whoever starts one from now on brings the pod up again.
pub(super) fn stop_if_idle(db: &Db, roots: &Roots, id: &PodId) -> Result<bool> {
    let _lock = container::lock(roots, id)?;
    let stopping = db.write(false, |tx| -> Result<Option<Pod>> {
        let Some(mut pod) = tx.pod(id)? else { return Ok(None) };
        if !matches!(pod.phase, PodPhase::Started | PodPhase::Stopping) || !tx.started_members(id)?.is_empty() {
            return Ok(None);
        }
        pod.phase = PodPhase::Stopping;
        tx.update_pod(&pod)?;
        Ok(Some(pod))
    })?;
    container::failpoint_at("engine.pod.stopping")?;
    match stopping {
        Some(pod) => end(db, roots, pod).map(|_| true),
        None => Ok(!db.pod(id)?.is_some_and(|pod| pod.phase == PodPhase::Started)),
    }
}

/// What the end of a member means for its pod: with the exit policy `stop`, or when a stop of the pod was cut off, the last
/// one takes the pod down.
///
/// # Errors
/// The database's failure, or what could not be released.
pub(in crate::engine) fn member_ended(roots: &Roots, id: &PodId) -> Result<()> {
    let db = Db::open(roots)?;
    match db.pod(id)? {
        Some(pod) if pod.phase == PodPhase::Started => {
            let wanted = pod.spec.exit_policy == ExitPolicy::Stop || roots.live_pod(id).join(WANTED_DOWN).exists();
            if wanted { stop_if_idle(&db, roots, id).map(drop) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

impl Engine {
    /// Ends a pod that lost what it held (a reboot, a killed command, a killed pause process), and finishes what was begun.
    /// Whoever works on it right now holds its lock and brings that to an end.
    pub(in crate::engine) fn settle_pod(&self, pod: Pod) -> Result<()> {
        let roots = &self.privilege.roots;
        if pod.phase == PodPhase::Started && hold::observe(roots, &pod)? != hold::Held::Gone {
            return Ok(());
        }
        let removing = {
            let Some(_lock) = container::try_lock(roots, &pod.id)? else { return Ok(()) };
            let Some(pod) = self.db.pod(&pod.id)? else { return Ok(()) };
            let removing = pod.phase == PodPhase::Removing;
            let dead = match pod.phase {
                PodPhase::Started => hold::observe(roots, &pod)? == hold::Held::Gone,
                PodPhase::Stopping => true,
                PodPhase::Created | PodPhase::Stopped | PodPhase::Removing => false,
            };
            if dead {
                drop(end(&self.db, roots, pod)?);
            }
            removing
        };
        if removing { self.finish_pod_removal(&pod.id) } else { Ok(()) }
    }

    /// Removes the directories of pods that have no record and that nobody is making.
    pub(in crate::engine) fn sweep_pods(&self) -> Result<()> {
        let roots = &self.privilege.roots;
        for directory in [roots.data.join("pods"), roots.run.join("pods")] {
            for id in container::ids_in(&directory, "")? {
                if self.db.pod(&id)?.is_some() {
                    continue;
                }
                let Some(_lock) = container::try_lock(roots, &id)? else { continue };
                // Under the lock: its maker may have finished since.
                if self.db.pod(&id)?.is_none() {
                    hold::release(roots, &id)?;
                    crate::base::fs::remove_tree(&roots.pod(&id))?;
                }
            }
        }
        Ok(())
    }
}
