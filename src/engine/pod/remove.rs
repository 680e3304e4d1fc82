//! pod rm: `Removing` is recorded first (from then on nothing can join), then the members go, then what the pod holds, and
//! the row last. `reconcile` finishes what a crash interrupted.

use super::super::{Engine, Error, Filters, Result, container, events, filter};
use super::{PodStatus, down};
use crate::base::{ErrorKind, PodId, VolumeName};
use crate::state::pod::PodPhase;
use crate::state::record::{MountKind, Phase};

const KNOWN_PRUNE: &[&str] = &["until", "label", "label!"];

impl Engine {
    /// Removes a pod with its members and their anonymous volumes. `force`: running members are killed first; with a timeout
    /// they are stopped, and killed after so many seconds.
    ///
    /// # Errors
    /// There is no such pod, or a member runs and `force` is false.
    pub fn remove_pod(&self, name: &str, force: bool, timeout: Option<i64>) -> Result<PodId> {
        let pod = self.find_pod(name)?;
        self.settle_pod(pod.clone())?;
        if force && pod.phase == PodPhase::Started {
            self.stop_pod(pod.id.as_str(), timeout.or(Some(0)))?;
        }
        // The records of members whose monitors died are not in the way.
        self.member_views(&pod.id)?;
        {
            let _lock = container::lock(&self.privilege.roots, &pod.id)?;
            self.db.write(true, |tx| -> Result<()> {
                let Some(mut now) = tx.pod(&pod.id)? else { return Ok(()) };
                let running: Vec<String> = tx.started_members(&pod.id)?.iter().map(|member| member.name.to_string()).collect();
                if !force && !running.is_empty() {
                    return Err(Error::Conflict {
                        message: format!("pod {name} has running containers: {}", running.join(", ")),
                        hint: Some(format!("stop it first with `rcon pod stop {name}`, or use -f")),
                    });
                }
                now.phase = PodPhase::Removing;
                Ok(tx.update_pod(&now)?)
            })?;
        }
        container::failpoint_at("engine.pod.removing")?;
        self.finish_pod_removal(&pod.id)?;
        Ok(pod.id)
    }

    /// Removes members, what the pod holds, its directory, row and anonymous volumes. Idempotent.
    pub(super) fn finish_pod_removal(&self, id: &PodId) -> Result<()> {
        let roots = &self.privilege.roots;
        for member in self.db.pod_members(id)? {
            match self.remove(member.id.as_str(), true, true) {
                // Another command was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        container::failpoint_at("engine.pod.members_removed")?;
        let _lock = container::lock(roots, id)?;
        let Some(pod) = self.db.pod(id)? else { return Ok(()) };
        down::release(&self.db, roots, &pod)?;
        crate::base::fs::remove_tree(&roots.pod(id))?;
        container::failpoint_at("engine.pod.released")?;
        let gone = self.db.write(false, |tx| -> Result<Vec<VolumeName>> {
            tx.delete_pod(id)?;
            let mut gone = Vec::new();
            for mount in &pod.spec.mounts {
                let MountKind::Volume { name, anonymous: true, .. } = &mount.kind else { continue };
                // Refused while a container (`--volumes-from`) uses it: then it stays.
                match tx.delete_volume(name) {
                    Ok(()) => gone.push(name.clone()),
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(gone)
        })?;
        self.emit([events::of_pod(&pod, "remove")]);
        for name in gone {
            crate::base::fs::remove_tree(&roots.volumes().join(name.as_str()))?;
        }
        Ok(())
    }

    /// Removes every pod that has ended, with its containers.
    ///
    /// # Errors
    /// The first pod that could not be removed, after trying all.
    pub fn prune_pods(&self, filters: &Filters) -> Result<Vec<PodId>> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let until = filter::until(filters)?;
        let (mut removed, mut failure) = (Vec::new(), None);
        for view in self.list_pods(&[])? {
            let ended = matches!(view.status, PodStatus::Stopped | PodStatus::Exited)
                && view.members.iter().all(|m| !matches!(m.record.phase, Phase::Started | Phase::Restarting));
            let old = until.is_none_or(|until| view.pod.created < until);
            if !ended || !old || !filter::labels_match(filters, &view.pod.spec.labels) {
                continue;
            }
            match self.remove_pod(view.pod.id.as_str(), false, None) {
                Ok(id) => removed.push(id),
                // Another command removed it, or started a member in between.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }
}
