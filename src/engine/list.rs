//! `ps`: listing and filtering, and `container prune` that uses it.
//!
//! One read of all records, one look at the live facts of the started ones; images are only read when
//! `ancestor` asks for them.

use super::*;
use crate::base::ErrorKind;
use crate::engine::{events, filter};
use record::{MountKind, NetworkMode};
use regex_lite::Regex;
use std::collections::HashMap;

const KNOWN: &[&str] = &[
    "id",
    "name",
    "label",
    "label!",
    "status",
    "exited",
    "health",
    "ancestor",
    "before",
    "since",
    "until",
    "volume",
    "network",
    "publish",
    "expose",
    "restart-policy",
    "command",
    "is-task",
    "pod",
];
const KNOWN_PRUNE: &[&str] = &["until", "label", "label!"];

impl Engine {
    /// Newest first; filters of cli.md `ps filters` (T1). `all`: also those not running (`status=` implies it).
    ///
    /// # Errors
    /// `Invalid` names an unknown key or a malformed value; otherwise the database's failure.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<View>> {
        filter::require_known(filters, KNOWN)?;
        let matcher = Matcher::new(self, filters)?;
        let all = all || filters.iter().any(|(key, _)| key == "status");
        self.finish_restarts()?;
        let (mut views, failure) = self.settle_all(if all { self.db.containers()? } else { self.db.active_containers()? });
        self.revive_seen(&mut views)?;
        if let Some(error) = failure {
            // One container that cannot be ended (a process that hangs in the kernel) must not hide the others.
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::warn!("not everything that was left behind could be cleaned up: {error}{cause}");
        }
        views.retain(|view| {
            let shown = all || matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
            shown && matcher.matches(view)
        });
        views.sort_by_key(|v| std::cmp::Reverse(v.record.created));
        Ok(views)
    }

    /// Removes every container that does not run. Anonymous volumes stay (as with Docker).
    ///
    /// # Errors
    /// The first container that could not be removed, after all others were.
    pub fn prune_containers(&self, filters: &Filters) -> Result<Pruned> {
        filter::require_known(filters, KNOWN_PRUNE)?;
        let until = filter::until(filters)?;
        let mut pruned = Pruned::default();
        // Debris of creates that a reboot or a kill cut off.
        let mut failure = self.sweep_containers().err();
        for view in self.list(true, &[])? {
            let stopped = matches!(view.status, Status::Created | Status::Exited | Status::Dead);
            let old = until.is_none_or(|until| view.record.created < until);
            if !stopped || !old || !filter::labels_match(filters, &view.record.spec.labels) {
                continue;
            }
            let id = view.record.id.as_str();
            let size = self.container_size(&view).map_or(0, |(writable, _)| writable);
            match self.remove(id, false, false) {
                Ok(()) => {
                    pruned.deleted.push(id.to_owned());
                    pruned.reclaimed += size;
                }
                // Another command removed it or started it in between.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {}
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        self.emit([events::of_prune(EventKind::Container, pruned.reclaimed)]);
        failure.map_or(Ok(pruned), Err)
    }
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "removing",
            Status::Dead => "dead",
        }
    }
}

/// The filters, parsed; every value was checked.
struct Matcher<'a> {
    filters: &'a Filters,
    patterns: Vec<(&'a str, Regex)>,
    exited: Vec<i32>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Ids of every image that is, or is built on, one of the ancestors.
    ancestors: Option<Vec<String>>,
    /// Names as typed: a container created from a name that has moved on since still matches it.
    ancestor_names: Vec<&'a str>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
    /// Ids of the container that `network=container:NAME` means.
    networks: HashMap<&'a str, String>,
    until: Option<Timestamp>,
    /// Tasks of services are asked for: no container is one.
    tasks_only: bool,
    pods: Vec<crate::base::PodId>,
}

/// `80`, `80-90`, `80/udp`; no protocol is tcp, as Docker has it.
#[derive(Debug, PartialEq)]
struct PortRange {
    first: u16,
    last: u16,
    protocol: String,
}

impl PortRange {
    fn parse(key: &str, text: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("invalid filter \"{key}={text}\": expected PORT[-PORT][/PROTOCOL]"));
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(wrong());
        }
        Ok(PortRange { first, last, protocol: protocol.to_owned() })
    }

    fn contains(&self, port: u16, protocol: &str) -> bool {
        (self.first..=self.last).contains(&port) && self.protocol == protocol
    }
}

impl<'a> Matcher<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let mut matcher = Matcher {
            filters,
            patterns: Vec::new(),
            exited: Vec::new(),
            before: None,
            since: None,
            ancestors: None,
            ancestor_names: Vec::new(),
            publish: Vec::new(),
            expose: Vec::new(),
            networks: HashMap::new(),
            until: filter::until(filters)?,
            tasks_only: filter::boolean(filters, "is-task")? == Some(true),
            pods: Vec::new(),
        };
        for (key, value) in filters {
            matcher.take(engine, key, value)?;
        }
        if !matcher.ancestor_names.is_empty() {
            matcher.ancestors = Some(engine.descendants(&matcher.ancestor_names)?);
        }
        Ok(matcher)
    }

    fn take(&mut self, engine: &Engine, key: &'a str, value: &'a str) -> Result<()> {
        let wrong = |expected: &str| Error::invalid(format!("invalid filter \"{key}={value}\": expected {expected}"));
        match key {
            "id" | "name" => {
                let regex = Regex::new(value).map_err(|_| wrong("a regular expression"))?;
                self.patterns.push((key, regex));
            }
            "status" if !matches!(value, "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead") => {
                return Err(wrong("created, restarting, running, removing, paused, exited or dead"));
            }
            "health" if !matches!(value, "starting" | "healthy" | "unhealthy" | "none") => {
                return Err(wrong("starting, healthy, unhealthy or none"));
            }
            "restart-policy" if !matches!(value, "no" | "on-failure" | "always" | "unless-stopped") => {
                return Err(wrong("no, on-failure, always or unless-stopped"));
            }
            "exited" => self.exited.push(value.parse().map_err(|_| wrong("an exit code"))?),
            "before" | "since" => {
                let other = engine.db.find_container(value)?.ok_or_else(|| engine.no_such("container", value))?;
                if key == "before" {
                    self.before = Some(self.before.map_or(other.created, |t| t.min(other.created)));
                } else {
                    self.since = Some(self.since.map_or(other.created, |t| t.max(other.created)));
                }
            }
            "ancestor" => self.ancestor_names.push(value),
            "pod" => self.pods.push(engine.find_pod(value)?.id),
            "publish" => self.publish.push(PortRange::parse(key, value)?),
            "expose" => self.expose.push(PortRange::parse(key, value)?),
            "network" => {
                if let Some(name) = value.strip_prefix("container:")
                    && let Some(other) = engine.db.find_container(name)?
                {
                    self.networks.insert(value, other.id.as_str().to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn matches(&self, view: &View) -> bool {
        let record = &view.record;
        let spec = &record.spec;
        self.matches_identity(record)
            && filter::labels_match(self.filters, &spec.labels)
            && filter::any(self.filters, "status", |s| s == view.status.as_str())
            && filter::any(self.filters, "health", |h| h == health(view))
            && (self.exited.is_empty() || (view.status == Status::Exited && !record.started.is_never() && self.exited.contains(&record.exit_code)))
            && self.before.is_none_or(|t| record.created < t)
            && self.since.is_none_or(|t| record.created > t)
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&spec.image_id) || self.ancestor_names.contains(&spec.image.as_str()))
            && filter::any(self.filters, "volume", |v| spec.mounts.iter().any(|m| is_mount(m, v)))
            && filter::any(self.filters, "network", |n| self.on_network(&view.record, n))
            && filter::any(self.filters, "restart-policy", |p| p == policy(&spec.host.restart))
            && filter::any(self.filters, "command", |c| argv(spec).next().is_some_and(|first| first == c))
            && self.until.is_none_or(|t| record.created < t)
            && !self.tasks_only
            && (self.pods.is_empty() || spec.pod.as_ref().is_some_and(|membership| self.pods.contains(&membership.pod)))
            && self.matches_ports(&view.record)
    }

    /// Unanchored regular expressions; a name matches with or without Docker's leading slash.
    fn matches_identity(&self, record: &record::Container) -> bool {
        let of = |wanted: &str, test: &dyn Fn(&Regex) -> bool| {
            let mut given = self.patterns.iter().filter(|(key, _)| *key == wanted).peekable();
            given.peek().is_none() || given.any(|(_, regex)| test(regex))
        };
        let name = record.name.as_str();
        let slashed = format!("/{name}");
        of("id", &|r| r.is_match(record.id.as_str())) && of("name", &|r| r.is_match(name) || r.is_match(&slashed))
    }

    fn on_network(&self, record: &record::Container, wanted: &str) -> bool {
        let by_name = |name: &str| name == wanted || (wanted == "default" && name == record::DEFAULT_NETWORK);
        match &record.spec.host.network {
            NetworkMode::Bridge | NetworkMode::Named(_) => {
                let by_id = |endpoint: &record::Endpoint| wanted.len() >= 12 && endpoint.network_id.starts_with(wanted);
                record.spec.host.attachments().iter().any(|attachment| by_name(&attachment.network)) || record.endpoints.iter().any(by_id)
            }
            NetworkMode::Host => wanted == "host",
            NetworkMode::None => wanted == "none",
            NetworkMode::Pod => wanted == "pod" || record.endpoints.iter().any(|endpoint| by_name(&endpoint.network)),
            NetworkMode::Container(other) => wanted == format!("container:{other}") || self.networks.get(wanted).is_some_and(|id| id == other),
        }
    }

    fn matches_ports(&self, record: &record::Container) -> bool {
        let spec = &record.spec;
        let exposed = || {
            spec.exposed.iter().filter_map(|text| {
                let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                Some((port.parse::<u16>().ok()?, protocol))
            })
        };
        let published = || spec.host.ports.iter().map(|p| (p.container_port, protocol_name(p.protocol)));
        let within = |ranges: &[PortRange], (port, protocol): (u16, &str)| ranges.iter().any(|r| r.contains(port, protocol));
        // The port on the host, as it is now; that of a container which does not run is the one it will ask for.
        let publish =
            self.publish.is_empty()
                || record.published.iter().any(|p| within(&self.publish, (p.host_port, protocol_name(p.protocol))))
                || spec.host.ports.iter().any(|p| {
                    p.host_ports.is_some_and(|(low, high)| (low..=high).any(|port| within(&self.publish, (port, protocol_name(p.protocol)))))
                });
        let expose = self.expose.is_empty() || exposed().chain(published()).any(|p| within(&self.expose, p));
        publish && expose
    }
}

/// The flag's word for a restart policy.
fn policy(policy: &record::RestartPolicy) -> &'static str {
    match policy {
        record::RestartPolicy::No => "no",
        record::RestartPolicy::OnFailure(_) => "on-failure",
        record::RestartPolicy::Always => "always",
        record::RestartPolicy::UnlessStopped => "unless-stopped",
    }
}

fn argv(spec: &record::ContainerSpec) -> impl Iterator<Item = &String> {
    spec.process.entrypoint.iter().chain(&spec.process.cmd).flatten()
}

/// A volume by its name, or any mount by its destination.
fn is_mount(mount: &record::Mount, wanted: &str) -> bool {
    let by_name = match &mount.kind {
        MountKind::Volume { name, .. } => name.as_str() == wanted,
        MountKind::Bind { source, .. } => source == Path::new(wanted),
        MountKind::Image { reference, .. } => reference == wanted,
        MountKind::Tmpfs { .. } => false,
    };
    by_name || mount.destination == Path::new(wanted)
}

/// The lower-case name of a protocol.
pub(super) fn protocol_name(protocol: record::Protocol) -> &'static str {
    protocol.name()
}

/// Docker's word for a container whose health is not probed is `none`.
fn health(view: &View) -> &'static str {
    view.health.as_ref().map_or("none", |health| health.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_parsed() {
        let range = PortRange::parse("publish", "80-90/udp").unwrap();
        assert!(range.contains(85, "udp") && !range.contains(85, "tcp") && !range.contains(91, "udp"));
        assert!(PortRange::parse("publish", "80").unwrap().contains(80, "tcp"));
        for bad in ["", "x", "90-80", "80/icmp", "70000"] {
            assert!(PortRange::parse("expose", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_match_by_name_source_and_destination() {
        let mount = record::Mount {
            destination: "/data".into(),
            kind: MountKind::Volume { name: "vol".parse().unwrap(), anonymous: false, no_copy: false, subpath: None },
            read_only: false,
            mode: String::new(),
            propagation: String::new(),
            options: record::MountOptions::default(),
        };
        assert!(is_mount(&mount, "vol") && is_mount(&mount, "/data") && is_mount(&mount, "/data/") && !is_mount(&mount, "data"));
    }
}
