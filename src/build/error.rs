//! Why a build failed.

use super::dockerfile::Fault;
use super::{context, remote, transfer};
use crate::base::ErrorKind;
use crate::base::fs::FsError;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is wrong; it points to the place.
    #[error("{0}")]
    Dockerfile(Box<Fault>),
    /// A process of a `RUN` failed. The place in the Dockerfile and the end of its output are told apart.
    #[error("process \"{command}\" did not complete successfully: exit code: {code}{}", if *.oom { " (out of memory)" } else { "" })]
    Process { command: String, code: i32, oom: bool },
    /// Another step failed first, or the user ended the build.
    #[error("the build was cancelled")]
    Cancelled,
    #[error("{message}")]
    Invalid { message: String, hint: Option<String> },
    /// What an instruction does failed; `excerpt` shows it in the Dockerfile.
    #[error("{source}")]
    Located { excerpt: String, source: Box<Error> },
    #[error("cannot export the cache to {place}")]
    Cache { place: String, source: Box<Error> },
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    #[error(transparent)]
    Remote(Box<remote::Error>),
    #[error(transparent)]
    Engine(Box<crate::engine::Error>),
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    #[error(transparent)]
    State(#[from] crate::state::Error),
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Dockerfile(Box::new(fault))
    }
}

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        Error::Remote(Box::new(error))
    }
}

impl From<crate::engine::Error> for Error {
    fn from(error: crate::engine::Error) -> Self {
        Error::Engine(Box::new(error))
    }
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: None }
    }

    /// Nothing has failed: somebody wished that it ends.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Error::Cancelled => true,
            Error::Located { source, .. } | Error::Cache { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }

    /// The process of a `RUN` that failed, and its code.
    pub fn process(&self) -> Option<(&str, i32)> {
        match self {
            Error::Process { command, code, .. } => Some((command, *code)),
            Error::Located { source, .. } => source.process(),
            _ => None,
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Dockerfile(_) | Error::Invalid { .. } => ErrorKind::Invalid,
            Error::Process { .. } | Error::Cancelled | Error::Fs(_) => ErrorKind::Internal,
            Error::Located { source, .. } | Error::Cache { source, .. } => source.kind(),
            Error::Context(error) => error.kind(),
            Error::Transfer(error) => error.kind(),
            Error::Remote(error) => error.kind(),
            Error::Engine(error) => error.kind(),
            Error::Image(error) => error.kind(),
            Error::Runtime(error) => error.kind(),
            Error::State(error) => error.kind(),
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Invalid { hint, .. } => hint.clone(),
            Error::Dockerfile(fault) => fault.suggestion().map(str::to_owned),
            Error::Located { source, .. } => source.hint(),
            Error::Cache { source, .. } => {
                let way_out = || Some("ignore-error=true of --cache-to lets the build succeed without it".to_owned());
                source.hint().or_else(way_out)
            }
            Error::Engine(error) => error.hint(),
            Error::Image(error) => error.advice(),
            _ => None,
        }
    }

    /// Where in the Dockerfile, if that is known.
    pub fn excerpt(&self) -> Option<String> {
        match self {
            Error::Dockerfile(fault) => Some(fault.excerpt().to_owned()),
            Error::Located { excerpt, .. } => Some(excerpt.clone()),
            _ => None,
        }
    }
}
