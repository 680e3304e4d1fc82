//! A container that lives in a namespace of another one is lost when that one is removed.

use super::super::{Engine, Error, Result};
use crate::state::record::{Container, IpcMode, NetworkMode, PidMode, UsernsMode};

impl Engine {
    /// Says which of the containers, whose namespaces it shares, is not there any more, before anything is done to it.
    ///
    /// # Errors
    /// One was removed; the database's failure.
    pub(super) fn require_joined(&self, record: &Container) -> Result<()> {
        let host = &record.spec.host;
        let network = if let NetworkMode::Container(id) = &host.network { Some((id, "network")) } else { None };
        let ipc = if let IpcMode::Container(id) = &host.ipc { Some((id, "IPC")) } else { None };
        let pid = if let PidMode::Container(id) = &host.pid { Some((id, "PID")) } else { None };
        let user = if let UsernsMode::Container { id, .. } = &host.userns { Some((id, "user")) } else { None };
        for (id, what) in [network, ipc, pid, user].into_iter().flatten() {
            self.find(id).map_err(|error| removed(error, id, what))?;
        }
        Ok(())
    }
}

impl Engine {
    /// Ids of the containers that need this one, each after those that need it in turn.
    ///
    /// # Errors
    /// `NoSuch`; the database's failure.
    pub fn dependents(&self, name: &str) -> Result<Vec<String>> {
        let id = self.find(name)?.id.to_string();
        let all = self.db.containers()?;
        let mut found = vec![id.clone()];
        // What is found is looked at in turn; a circle ends where it began.
        let mut next = 0;
        while let Some(needed) = found.get(next).cloned() {
            let more = all.iter().filter(|record| needs(record, &needed)).map(|record| record.id.to_string());
            for dependent in more.collect::<Vec<_>>() {
                if !found.contains(&dependent) {
                    found.push(dependent);
                }
            }
            next += 1;
        }
        found.reverse();
        found.pop();
        Ok(found)
    }
}

/// Whether a container cannot be without that one.
fn needs(record: &Container, id: &str) -> bool {
    let host = &record.spec.host;
    let joins = matches!(&host.network, NetworkMode::Container(other) if other == id)
        || matches!(&host.ipc, IpcMode::Container(other) if other == id)
        || matches!(&host.pid, PidMode::Container(other) if other == id)
        || matches!(&host.userns, UsernsMode::Container { id: other, .. } if other == id);
    joins || host.requires.iter().any(|other| other == id) || host.links.iter().any(|link| link.container == id)
}

/// `NoSuch` of a container whose namespace is to be joined: it was there when this one was created.
pub(super) fn removed(error: Error, id: &str, what: &str) -> Error {
    match error {
        Error::NoSuch { .. } => Error::Conflict {
            message: format!("cannot join the {what} namespace of container {}: it was removed", &id[..id.len().min(12)]),
            hint: Some("remove this container too, and create it anew with one that is there".to_owned()),
        },
        other => other,
    }
}
