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
