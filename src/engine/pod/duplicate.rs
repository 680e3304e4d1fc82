//! `pod clone`: a new pod with the settings of another one, and a clone of each of its members.
//!
//! Volumes are shared as `container clone` shares them; what only one can have (addresses) is chosen anew.

use super::super::container::Moved;
use super::super::{CloneContainer, Engine, Error, Result, container, events};
use super::up;
use crate::base::{PodId, PodName, Timestamp, Undo};
use crate::image::Progress;
use crate::state::pod::{Pod, PodPhase};
use std::collections::BTreeMap;

/// Names tried before the user is asked for one.
const NAME_TRIES: u32 = 1000;

impl Engine {
    /// Makes it; nothing of it runs yet. The source is only looked at.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` if the name is taken; a member that cannot be cloned (then nothing is left of the new pod).
    pub fn clone_pod(&self, source: &str, name: Option<&PodName>, progress: &(dyn Fn(Progress) + Sync)) -> Result<Pod> {
        let old = self.find_pod(source)?;
        if old.phase == PodPhase::Removing {
            return Err(Error::conflict(format!("pod {source} is being removed")));
        }
        let mut pod = Pod {
            id: PodId::random(),
            name: name.map_or_else(|| self.free_pod_name(&old), |name| Ok(name.clone()))?,
            created: Timestamp::now(),
            phase: PodPhase::Created,
            started: Timestamp::NEVER,
            endpoints: Vec::new(),
            published: Vec::new(),
            spec: old.spec.clone(),
        };
        let own_hostname = old.spec.hostname != default_hostname(&old.name);
        if !own_hostname {
            pod.spec.hostname = default_hostname(&pod.name);
        }
        forget_addresses(&mut pod);
        let lock = container::lock(&self.privilege.roots, &pod.id)?;
        match self.db.write(true, |tx| -> Result<()> { Ok(tx.insert_pod(&pod)?) }) {
            Err(Error::State(crate::state::Error::NameTaken { .. })) => return Err(self.pod_name_conflict(&pod.name)?),
            other => other?,
        }
        drop(lock);
        let mut undo = Undo::new();
        self.undo_new_pod(&pod.id, &mut undo);
        self.emit([events::of_pod(&pod, "create")]);
        container::failpoint_at("engine.pod.clone.recorded")?;
        self.clone_members(&old, &pod, progress)?;
        undo.commit();
        Ok(pod)
    }

    fn clone_members(&self, old: &Pod, pod: &Pod, progress: &(dyn Fn(Progress) + Sync)) -> Result<()> {
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        // Oldest first: what a member refers to was made before it.
        for member in self.db.pod_members(&old.id)? {
            let moved = Moved {
                pod: pod.id.clone(),
                hostname: pod.spec.hostname.clone(),
                cgroup_parent: pod.spec.share_parent.then(|| up::group_path(pod)),
                ids: ids.clone(),
            };
            let request = CloneContainer { moved: Some(moved), ..CloneContainer::default() };
            let created = self.clone_container(member.id.as_str(), &request, progress)?;
            for warning in created.warnings {
                tracing::warn!("{warning}");
            }
            ids.insert(member.id.as_str().to_owned(), created.record.id.as_str().to_owned());
        }
        Ok(())
    }

    fn free_pod_name(&self, old: &Pod) -> Result<PodName> {
        for number in 0..NAME_TRIES {
            let suffix = if number == 0 { String::new() } else { number.to_string() };
            let name = format!("{}-clone{suffix}", old.name);
            let parsed: PodName = name.parse().map_err(|e: crate::base::IdError| Error::invalid(e.to_string()))?;
            if self.db.find_pod(&name)?.is_none_or(|found| found.name != parsed) {
                return Ok(parsed);
            }
        }
        Err(Error::conflict(format!("there are too many clones of {}: choose a name", old.name)))
    }
}

/// The name of the pod is its host name, unless another was given.
pub(super) fn default_hostname(name: &PodName) -> String {
    name.as_str().chars().take(64).collect()
}

/// One address cannot be in one network twice.
fn forget_addresses(pod: &mut Pod) {
    let host = &mut pod.spec.host;
    host.mac_address = None;
    for attachment in host.attachments.iter_mut().flatten() {
        attachment.mac = None;
        attachment.ipv4 = None;
        attachment.ipv6 = None;
    }
}
