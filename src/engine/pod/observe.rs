//! Looking at the members of pods: processes and resource use.

use super::super::{Engine, Error, Process, Result, StatsView, Status};
use crate::base::PodId;
use std::time::Duration;

impl Engine {
    /// The processes of all running members, as [`Engine::top`] shows them.
    ///
    /// # Errors
    /// There is no such pod, or nothing of it runs.
    pub fn pod_top(&self, name: &str, ps_args: &[String]) -> Result<Process> {
        let pod = self.find_pod(name)?;
        let mut all: Option<Process> = None;
        for view in self.member_views(&pod.id)? {
            if !matches!(view.status, Status::Running | Status::Paused) {
                continue;
            }
            let of_member = self.top(view.record.id.as_str(), ps_args)?;
            match &mut all {
                None => all = Some(of_member),
                Some(all) => all.rows.extend(of_member.rows),
            }
        }
        all.ok_or_else(|| Error::conflict(format!("no container of pod {name} is running")))
    }

    /// Resource use of the members of these pods (none: of all pods), with their pods; see [`Engine::stats`].
    ///
    /// # Errors
    /// There is no such pod, or a group cannot be read.
    pub fn pod_stats(&self, names: &[String], interval: Duration) -> Result<Vec<(PodId, StatsView)>> {
        let pods = if names.is_empty() { self.db.pods()? } else { names.iter().map(|name| self.find_pod(name)).collect::<Result<_>>()? };
        let mut members = Vec::new();
        for pod in &pods {
            for view in self.member_views(&pod.id)? {
                members.push(view.record.id.to_string());
            }
        }
        if members.is_empty() {
            // Without names all containers would be shown.
            std::thread::sleep(interval);
            return Ok(Vec::new());
        }
        let stats = self.stats(&members, true, interval)?;
        let pod_of = |mut view: StatsView| {
            let id = &view.view.record.spec.pod.as_ref()?.pod;
            let pod = pods.iter().find(|pod| pod.id == *id)?;
            // The narrower of the two limits is the one that a member meets.
            if let Some(limit) = pod.spec.host.resources.memory {
                view.stats.memory_limit = view.stats.memory_limit.min(limit);
            }
            Some((pod.id.clone(), view))
        };
        Ok(stats.into_iter().filter_map(pod_of).collect())
    }
}
