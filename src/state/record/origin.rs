//! What a container starts from and with, where that is not an image's default: a directory as its root, a systemd as its
//! first process, somebody who waits for its readiness.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A directory of the host that is the container's root, in the place of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    pub directory: PathBuf,
    /// Changes go into the container's own layer; the directory stays as it is.
    #[serde(default)]
    pub overlay: bool,
}

/// Who tells systemd (`NOTIFY_SOCKET`) that the container is ready, and when (sd_notify(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// A process in the container, through a socket of its own.
    Container,
    /// The monitor, as soon as the process runs.
    Started,
    /// The monitor, when its health check has succeeded.
    Healthy,
}
