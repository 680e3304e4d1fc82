//! The errors of the use cases.

use crate::base::ErrorKind;

/// Why a use case failed. Display is lower case, names the object as the user typed it, and never repeats
/// its source; [`Error::hint`] is an action.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no such {what}: {name}")]
    NoSuch { what: &'static str, name: String, hint: Option<String> },
    #[error("{what} id prefix \"{name}\" is ambiguous")]
    Ambiguous { what: &'static str, name: String },
    /// The request is wrong.
    #[error("{message}")]
    Invalid { message: String, hint: Option<String> },
    /// The state of the object, or another holder, forbids it.
    #[error("{message}")]
    Conflict { message: String, hint: Option<String> },
    /// `operation` names verb and object: `start container "web"`.
    #[error("cannot {operation}")]
    Failed {
        operation: String,
        kind: ErrorKind,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Fs(#[from] crate::base::fs::FsError),
    #[error(transparent)]
    State(#[from] crate::state::Error),
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    #[error(transparent)]
    Cgroup(#[from] crate::runtime::cgroup::Error),
    #[error(transparent)]
    Monitor(#[from] crate::monitor::Error),
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: None }
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Error::Conflict { message: message.into(), hint: None }
    }

    pub fn no_such(what: &'static str, name: impl Into<String>) -> Self {
        Error::NoSuch { what, name: name.into(), hint: None }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoSuch { .. } => ErrorKind::NotFound,
            Error::Ambiguous { .. } | Error::Invalid { .. } => ErrorKind::Invalid,
            Error::Conflict { .. } => ErrorKind::Conflict,
            Error::Failed { kind, .. } => *kind,
            Error::Fs(_) => ErrorKind::Internal,
            Error::Cgroup(e) => e.kind(),
            Error::State(e) => e.kind(),
            Error::Image(e) => e.kind(),
            Error::Network(e) => e.kind(),
            Error::Runtime(e) => e.kind(),
            Error::Monitor(e) => e.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoSuch { hint, .. } | Error::Invalid { hint, .. } | Error::Conflict { hint, .. } => hint.clone(),
            Error::Image(e) => e.advice(),
            Error::State(crate::state::Error::Document { object, .. }) if object.starts_with("container") => {
                Some("remove what is left of it with `rcon rm -f`".to_owned())
            }
            Error::State(error) => error.hint(),
            _ => None,
        }
    }
}
