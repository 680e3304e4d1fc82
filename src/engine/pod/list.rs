//! pod ps: pods as seen now, their status, and the filters.

use super::super::request::network;
use super::super::{Engine, Error, Filters, Result, Status, filter};
use super::members::is_init;
use super::{PodStatus, PodView};
use crate::state::pod::{Pod, PodPhase};
use regex_lite::Regex;

const KNOWN: &[&str] = &["ctr-ids", "ctr-names", "ctr-number", "ctr-status", "id", "label", "label!", "name", "network", "status", "until"];
const STATUSES: &[&str] = &["created", "running", "stopped", "exited", "degraded", "paused", "dead"];

/// Podman's rule over the members and the pod itself, which counts like a container that runs while the pod is up (pure).
fn status(phase: PodPhase, members: &[Status]) -> PodStatus {
    if phase == PodPhase::Removing {
        return PodStatus::Dead;
    }
    let count = |wanted: &[Status]| members.iter().filter(|status| wanted.contains(status)).count();
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let created = count(&[Status::Created]);
    let up = phase == PodPhase::Started;
    match members.len() {
        0 if up => PodStatus::Running,
        0 if phase == PodPhase::Created => PodStatus::Created,
        0 => PodStatus::Exited,
        all if running == all && up => PodStatus::Running,
        all if paused == all => PodStatus::Paused,
        _ if running > 0 || paused > 0 || up => PodStatus::Degraded,
        all if created == all && phase == PodPhase::Created => PodStatus::Created,
        _ if created > 0 => PodStatus::Stopped,
        _ => PodStatus::Exited,
    }
}

impl Engine {
    /// The pod by full id, exact name or unique id prefix, as seen now.
    ///
    /// # Errors
    /// There is no such pod, or the prefix is ambiguous.
    pub fn pod(&self, name: &str) -> Result<PodView> {
        let pod = self.find_pod(name)?;
        self.settle_pod(pod.clone())?;
        let pod = self.db.pod(&pod.id)?.ok_or_else(|| Error::no_such("pod", name))?;
        self.view_of_pod(pod)
    }

    fn view_of_pod(&self, pod: Pod) -> Result<PodView> {
        let members = self.member_views(&pod.id)?;
        // Init containers come to an end: that is no fault of the pod.
        let statuses: Vec<Status> = members.iter().filter(|view| !is_init(&view.record)).map(|view| view.status).collect();
        Ok(PodView { status: status(pod.phase, &statuses), pod, members })
    }

    /// Newest first; filters of podman's `pod ps`.
    ///
    /// # Errors
    /// `Invalid` names an unknown key or a malformed value; otherwise the database's failure.
    pub fn list_pods(&self, filters: &Filters) -> Result<Vec<PodView>> {
        filter::require_known(filters, KNOWN)?;
        let matcher = Matcher::new(filters)?;
        if let Err(error) = self.reconcile() {
            tracing::warn!("not everything that was left behind could be cleaned up: {error}");
        }
        let mut views = Vec::new();
        for pod in self.db.pods()? {
            let view = self.view_of_pod(pod)?;
            if matcher.matches(&view) {
                views.push(view);
            }
        }
        Ok(views)
    }
}

/// The filters, parsed; every value was checked.
struct Matcher<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    containers: Vec<Regex>,
    numbers: Vec<usize>,
    until: Option<crate::base::Timestamp>,
}

impl<'a> Matcher<'a> {
    fn new(filters: &'a Filters) -> Result<Self> {
        let mut matcher = Matcher { filters, names: Vec::new(), containers: Vec::new(), numbers: Vec::new(), until: filter::until(filters)? };
        for (key, value) in filters {
            let wrong = |expected: &str| Error::invalid(format!("invalid filter \"{key}={value}\": expected {expected}"));
            let regex = || Regex::new(value).map_err(|_| wrong("a regular expression"));
            match key.as_str() {
                "name" => matcher.names.push(regex()?),
                "ctr-names" => matcher.containers.push(regex()?),
                "ctr-number" => matcher.numbers.push(value.parse().map_err(|_| wrong("a number"))?),
                "status" if !STATUSES.contains(&value.to_ascii_lowercase().as_str()) => return Err(wrong(&STATUSES.join(", "))),
                "ctr-status" if !matches!(value.as_str(), "created" | "running" | "paused" | "restarting" | "exited") => {
                    return Err(wrong("created, running, paused, restarting or exited"));
                }
                _ => {}
            }
        }
        Ok(matcher)
    }

    fn matches(&self, view: &PodView) -> bool {
        let PodView { pod, status, members } = view;
        let any = |key: &str, test: &dyn Fn(&str) -> bool| filter::any(self.filters, key, test);
        filter::labels_match(self.filters, &pod.spec.labels)
            && (self.names.is_empty() || self.names.iter().any(|name| name.is_match(pod.name.as_str())))
            && (self.containers.is_empty() || self.containers.iter().any(|name| members.iter().any(|m| name.is_match(m.record.name.as_str()))))
            && (self.numbers.is_empty() || self.numbers.contains(&members.len()))
            && self.until.is_none_or(|until| pod.created < until)
            && any("id", &|id| pod.id.as_str().starts_with(id))
            && any("status", &|wanted| status.as_str().eq_ignore_ascii_case(wanted))
            && any("ctr-ids", &|id| members.iter().any(|m| m.record.id.as_str().starts_with(id)))
            && any("ctr-status", &|wanted| members.iter().any(|m| m.status.as_str() == wanted))
            && any("network", &|wanted| pod.spec.shares.net && network::name(&pod.spec.host.network) == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_status_follows_its_members_and_itself() {
        use Status::{Created, Exited, Paused, Running};
        for (phase, members, expected) in [
            (PodPhase::Created, &[][..], PodStatus::Created),
            (PodPhase::Started, &[], PodStatus::Running),
            (PodPhase::Stopped, &[], PodStatus::Exited),
            (PodPhase::Created, &[Created, Created], PodStatus::Created),
            (PodPhase::Started, &[Running, Running], PodStatus::Running),
            (PodPhase::Started, &[Running, Exited], PodStatus::Degraded),
            (PodPhase::Started, &[Exited, Exited], PodStatus::Degraded),
            (PodPhase::Started, &[Paused, Paused], PodStatus::Paused),
            (PodPhase::Started, &[Paused, Running], PodStatus::Degraded),
            (PodPhase::Stopped, &[Exited, Exited], PodStatus::Exited),
            (PodPhase::Stopped, &[Exited, Created], PodStatus::Stopped),
            (PodPhase::Removing, &[Running], PodStatus::Dead),
        ] {
            assert_eq!(status(phase, members), expected, "{phase:?} {members:?}");
        }
    }

    #[test]
    fn unknown_filters_and_values_are_refused() {
        let of = |key: &str, value: &str| Matcher::new(&[(key.to_owned(), value.to_owned())]).map(drop);
        assert!(of("status", "Running").is_ok() && of("status", "x").is_err() && of("ctr-number", "x").is_err() && of("ctr-status", "x").is_err());
        assert!(of("name", "(").is_err());
    }
}
