//! What can go wrong between a monitor and those who talk to it.

use crate::base::ErrorKind;
use crate::base::fs::FsError;
use std::io;
use std::path::PathBuf;

/// A failure of the monitor's client side, its stage, or a container's log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} the monitor process")]
    Spawn {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot open our own binary for the monitor process")]
    Binary(#[source] Box<crate::runtime::Error>),
    #[error("cannot {operation} the monitor")]
    Talk {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot connect to the monitor of {}", live_dir.display())]
    Connect {
        live_dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The monitor went away without saying that it finished.
    #[error("the monitor closed the connection before it was done")]
    Lost,
    #[error("the monitor connection carried a malformed message: {0}")]
    Malformed(&'static str),
    #[error("the monitor's configuration cannot be {operation}")]
    Config {
        operation: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("invalid log option {key}={value}: {reason}")]
    LogOption { key: String, value: String, reason: &'static str },
    #[error("cannot reach the receiver of the log at {address}")]
    LogReceiver {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {operation}")]
    System {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::LogOption { .. } => ErrorKind::Invalid,
            Error::Connect { .. } | Error::LogReceiver { .. } | Error::Lost | Error::Talk { .. } => ErrorKind::Unavailable,
            Error::Fs(error) if error.source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        }
    }

    pub(super) fn spawn<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Spawn { operation, source: source.into() }
    }

    pub(super) fn talk<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Talk { operation, source: source.into() }
    }

    pub(super) fn system<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::System { operation, source: source.into() }
    }
}
