//! events: what the use cases write into the journal, and the journal read with Docker's filters.

use super::{Engine, Error, Filters, Result, filter};
use crate::base::{ContainerId, Timestamp};
use crate::state::events::{self, Event, Kind, Reader};
use crate::state::pod::Pod;
use crate::state::record::{Container, Image, MountKind, Network, Volume};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

/// The types that can be asked for. Some belong to a cluster: nothing here is of them.
const TYPES: &[&str] = &["container", "image", "volume", "network", "pod", "secret", "daemon", "config", "node", "plugin", "service", "builder"];
const KNOWN: &[&str] =
    &["config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "pod", "scope", "secret", "service", "type", "volume"];
/// Filters that name an object by id or name.
const OBJECTS: &[(&str, Kind)] = &[
    ("container", Kind::Container),
    ("daemon", Kind::Daemon),
    ("network", Kind::Network),
    ("pod", Kind::Pod),
    ("secret", Kind::Secret),
    ("volume", Kind::Volume),
];

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Without it: from now on, or with `follow` off from the oldest that is kept.
    pub since: Option<Timestamp>,
    /// With `follow` the call lasts until this moment.
    pub until: Option<Timestamp>,
    /// Wait for more at the end of what is there.
    pub follow: bool,
    pub filters: Vec<(String, String)>,
}

impl Engine {
    /// Writes events into the journal. Costs a few system calls; never fails the use case.
    pub(in crate::engine) fn emit(&self, events: impl IntoIterator<Item = Event>) {
        events::emit(&self.privilege.roots, events);
    }

    /// # Errors
    /// As [`Engine::events`], before anything is read.
    pub fn check_events(&self, query: &EventQuery) -> Result<()> {
        check(&query.filters)
    }

    /// Hands events to `each`, oldest first, until it returns false, `until` has passed, the engine is cancelled, or (without `follow`) all
    /// are read.
    ///
    /// # Errors
    /// `Invalid` names an unknown filter; the journal cannot be read.
    pub fn events(&self, query: &EventQuery, each: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        check(&query.filters)?;
        let begin = match query.since {
            Some(since) => since,
            None if query.follow => Timestamp::now(),
            None => Timestamp::NEVER,
        };
        let mut reader = Reader::open(&self.privilege.roots, begin)?;
        let mut over = false;
        let mut lost = false;
        let ended = self.cancel.ended().map_err(|source| Error::Failed {
            operation: "wait for events".to_owned(),
            kind: crate::base::ErrorKind::Internal,
            source: Box::new(source),
        })?;
        loop {
            let now = Timestamp::now();
            let wanted = reader.read(&mut |event| {
                over = query.until.is_some_and(|until| event.at > until);
                !over && (!matches(&query.filters, &event) || each(event))
            })?;
            if reader.lost() && !std::mem::replace(&mut lost, true) {
                tracing::warn!("events were removed before they could be read");
            }
            // `now` was taken before the reading: what was written up to it has been seen.
            if !wanted || over || !query.follow || self.cancel.is_cancelled() || query.until.is_some_and(|until| now > until) {
                return Ok(());
            }
            let patience = query.until.map(|until| until.since(now) + Duration::from_millis(1));
            reader.wait(patience, ended.as_fd())?;
        }
    }
}

fn check(filters: &Filters) -> Result<()> {
    filter::require_known(filters, KNOWN)?;
    match filter::values(filters, "type").find(|kind| !TYPES.contains(kind)) {
        None => Ok(()),
        Some(kind) => {
            Err(Error::Invalid { message: format!("invalid filter \"type={kind}\""), hint: Some(format!("types of events: {}", TYPES.join(", "))) })
        }
    }
}

fn matches(filters: &Filters, event: &Event) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    filter::any(filters, "type", |kind| event.kind.as_str() == kind)
        && filter::any(filters, "scope", |scope| scope == "local")
        // `exec_start: sh -c …` and `health_status: healthy` are found by the word too.
        && filter::any(filters, "event", |action| event.action == action || event.action.split(": ").next() == Some(action))
        && filter::any(filters, "image", |image| is_of_image(event, name, image))
        && OBJECTS.iter().all(|(key, kind)| {
            // As with Docker a beginning is enough, of the id or of the name.
            filter::any(filters, key, |wanted| {
                event.kind == *kind && (event.id.starts_with(wanted) || name.starts_with(wanted.strip_prefix('/').unwrap_or(wanted)))
            })
        })
        && ["config", "node", "plugin", "service"].iter().all(|key| filter::values(filters, key).next().is_none())
        && filter::labels_match(filters, &event.attributes)
}

/// The image of a container's event, or the image that the event is about; with or without its tag.
fn is_of_image(event: &Event, name: &str, wanted: &str) -> bool {
    let image = if event.kind == Kind::Image { name } else { event.attributes.get("image").map_or("", String::as_str) };
    let untagged = image.rsplit_once(':').map_or(image, |(repository, tag)| if tag.contains('/') { image } else { repository });
    (event.kind == Kind::Image && event.id == wanted) || image == wanted || untagged == wanted
}

/// What each event of a container says about it: image, name and labels.
pub(in crate::engine) fn attributes(record: &Container) -> BTreeMap<String, String> {
    let mut attributes = record.spec.labels.clone();
    attributes.insert("image".to_owned(), record.spec.image.clone());
    attributes.insert("name".to_owned(), record.name.to_string());
    attributes
}

pub(in crate::engine) fn of_container(record: &Container, action: impl Into<String>) -> Event {
    Event { attributes: attributes(record), ..Event::new(Kind::Container, action, record.id.as_str()) }
}

/// `name`: what it was called in the operation.
pub(in crate::engine) fn of_image(image: &Image, action: &str, id: &str, name: &str) -> Event {
    // What was done is told also of an image that cannot be read.
    let document = super::image::described(image).inspect_err(|error| tracing::warn!("{error}: its labels are not told")).unwrap_or_default();
    let attributes = document.config.and_then(|config| config.labels).unwrap_or_default();
    Event { attributes, ..Event::new(Kind::Image, action, id) }.with("name", name)
}

pub(in crate::engine) fn of_volume(volume: &Volume, action: &str) -> Event {
    Event::new(Kind::Volume, action, volume.name.as_str()).with("driver", &volume.driver)
}

/// Podman's words: create, start, stop, kill, pause, unpause, restart, remove.
pub(in crate::engine) fn of_pod(pod: &Pod, action: &str) -> Event {
    Event { attributes: pod.spec.labels.clone(), ..Event::new(Kind::Pod, action, pod.id.as_str()) }.with("name", &pod.name)
}

/// End of a `prune`, with the freed bytes.
pub(in crate::engine) fn of_prune(kind: Kind, reclaimed: u64) -> Event {
    Event::new(kind, "prune", "").with("reclaimed", reclaimed)
}

/// What begins with a run of the container: its network is connected, its volumes are mounted.
pub(in crate::engine) fn going_up(record: &Container, networks: &[Network]) -> Vec<Event> {
    let mounts = volumes_of(record, "mount").map(|(event, mount)| {
        let event = event.with("destination", mount.destination.display()).with("driver", "local");
        event.with("propagation", &mount.propagation).with("read/write", !mount.read_only)
    });
    of_networks(record, networks, "connect").into_iter().chain(mounts).collect()
}

/// What ends with it.
pub(in crate::engine) fn going_down(record: &Container, networks: &[Network]) -> Vec<Event> {
    let unmounts = volumes_of(record, "unmount").map(|(event, _)| event.with("driver", "local"));
    of_networks(record, networks, "disconnect").into_iter().chain(unmounts).collect()
}

fn of_networks(record: &Container, networks: &[Network], action: &str) -> Vec<Event> {
    networks.iter().map(|network| of_network(&record.id, network, action)).collect()
}

/// What happened to a network itself.
pub(in crate::engine) fn network(network: &Network, action: &str) -> Event {
    Event::new(Kind::Network, action, &network.id).with("name", &network.name).with("type", network.driver.name())
}

/// A container or pod came to a network, or left it.
pub(in crate::engine) fn of_network(id: &ContainerId, network: &Network, action: &str) -> Event {
    let event = Event::new(Kind::Network, action, &network.id);
    event.with("container", id).with("name", &network.name).with("type", network.driver.name())
}

fn volumes_of<'a>(record: &'a Container, action: &'a str) -> impl Iterator<Item = (Event, &'a crate::state::record::Mount)> {
    record.spec.mounts.iter().filter_map(move |mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some((Event::new(Kind::Volume, action, name.as_str()).with("container", &record.id), mount)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn filters_follow_docker() {
        let start = Event::new(Kind::Container, "start", "abcdef").with("name", "web1").with("image", "reg:5000/nginx:1.2").with("role", "db");
        let exec = Event { action: "exec_start: sh -c x".to_owned(), ..start.clone() };
        let pull = Event::new(Kind::Image, "pull", "nginx:1.2").with("name", "nginx");
        for (given, event, expected) in [
            (&[][..], &start, true),
            (&[("type", "container")], &start, true),
            (&[("type", "image"), ("type", "container")], &start, true),
            (&[("type", "image")], &start, false),
            (&[("event", "start")], &start, true),
            (&[("event", "exec_start")], &exec, true),
            (&[("event", "exec_start: sh -c x")], &exec, true),
            (&[("event", "exec")], &exec, false),
            (&[("container", "web")], &start, true),
            (&[("container", "abc")], &start, true),
            (&[("container", "eb1")], &start, false),
            (&[("container", "web1")], &pull, false),
            (&[("image", "reg:5000/nginx")], &start, true),
            (&[("image", "reg:5000/nginx:1.2")], &start, true),
            (&[("image", "nginx")], &start, false),
            (&[("image", "nginx")], &pull, true),
            (&[("image", "nginx:1.2")], &pull, true),
            (&[("label", "role")], &start, true),
            (&[("label", "role=db"), ("label", "role=web")], &start, false),
            (&[("scope", "local")], &start, true),
            (&[("scope", "swarm")], &start, false),
            (&[("service", "web")], &start, false),
        ] {
            assert_eq!(matches(&filters(given), event), expected, "{given:?} {}", event.action);
        }
        assert!(check(&filters(&[("colour", "red")])).is_err());
        assert!(check(&filters(&[("type", "bogus")])).unwrap_err().to_string().contains("type=bogus"));
    }
}
