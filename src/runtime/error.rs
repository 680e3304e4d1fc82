//! What can go wrong, in the caller's words ([`Error`]) and inside the stage ([`Failure`], which crosses a socket).

use super::{cgroup, seccomp};
use crate::base::ErrorKind;
use crate::base::fs::FsError;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong while building or entering a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed in the kernel; `step` names operation and object.
    #[error("cannot {step}")]
    Step {
        step: String,
        #[source]
        source: io::Error,
    },
    /// The request cannot work as it is.
    #[error("{0}")]
    Invalid(String),
    /// A feature that this kernel or build lacks.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The container's command does not exist (127).
    #[error("{0}")]
    CommandNotFound(String),
    /// The container's command exists and cannot be executed (126).
    #[error("{0}")]
    CommandNotExecutable(String),
    /// The calling process has more than one thread.
    #[error("cannot clone a container stage from a process with several threads")]
    Threads,
    /// The init stage died without a word; the text says how.
    #[error("the container's init stage {0}")]
    Lost(String),
    /// A hook of the config failed; the text names it and says how.
    #[error("{0}")]
    Hook(String),
    #[error("cannot compile the seccomp profile")]
    Seccomp(#[source] seccomp::Error),
    #[error("control group of the container")]
    Cgroup(#[source] cgroup::Error),
    /// Callers look for these words.
    #[error("container \"{0}\" does not exist")]
    NotFound(String),
    /// The container's state forbids it.
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    File(#[from] FsError),
    #[error("cannot read {}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// `CommandNotFound` (127) and `CommandNotExecutable` (126) are told apart here.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::Seccomp(error) => error.kind(),
            Error::Cgroup(error) => error.kind(),
            Error::Unsupported(_) => ErrorKind::Unsupported,
            Error::CommandNotFound(_) => ErrorKind::CommandNotFound,
            Error::CommandNotExecutable(_) => ErrorKind::CommandNotExecutable,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Conflict(_) => ErrorKind::Conflict,
            Error::Json { .. } => ErrorKind::Invalid,
            Error::File(_) | Error::Step { .. } | Error::Threads | Error::Lost(_) | Error::Hook(_) => ErrorKind::Internal,
        }
    }
}

/// Longest report a stage sends; longer texts are cut.
pub(super) const REPORT_LIMIT: usize = 4096;

/// The kinds of failure that a stage can report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    Step,
    Invalid,
    Unsupported,
    NotFound,
    NotExecutable,
    Hook,
}

const KINDS: [FailureKind; 6] =
    [FailureKind::Step, FailureKind::Invalid, FailureKind::Unsupported, FailureKind::NotFound, FailureKind::NotExecutable, FailureKind::Hook];

/// A failed step inside the stage: plain data that fits one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: FailureKind,
    /// Operation and object for [`FailureKind::Step`], the whole message otherwise.
    pub text: String,
    pub errno: i32,
}

impl Failure {
    pub fn step(step: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let errno = error.into().raw_os_error().unwrap_or(libc::EIO);
        Failure { kind: FailureKind::Step, text: step.into(), errno }
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Invalid, text: text.into(), errno: 0 }
    }

    /// A working directory that is a file, or would be below one, is a mistake of who named it, not of the host.
    pub fn of_working_directory(self, path: &Path) -> Self {
        match self.errno {
            libc::ENOTDIR | libc::EEXIST => {
                Failure::invalid(format!("the working directory \"{}\" is not a directory in the container", path.display()))
            }
            _ => self,
        }
    }

    pub fn unsupported(text: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Unsupported, text: text.into(), errno: 0 }
    }

    pub fn hook(text: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Hook, text: text.into(), errno: 0 }
    }

    /// Kind, errno, text.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![b'E', KINDS.iter().position(|kind| *kind == self.kind).unwrap_or(0) as u8];
        bytes.extend_from_slice(&self.errno.to_le_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        bytes.truncate(REPORT_LIMIT);
        bytes
    }

    /// None when it is not a failure report.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.strip_prefix(b"E")?.split_first()?;
        let (errno, text) = rest.split_first_chunk::<4>()?;
        Some(Failure { kind: *KINDS.get(usize::from(kind))?, text: String::from_utf8_lossy(text).into_owned(), errno: i32::from_le_bytes(*errno) })
    }
}

impl From<crate::base::fs::FsError> for Failure {
    fn from(error: crate::base::fs::FsError) -> Self {
        Failure::step(format!("{} {}", error.operation, error.path.display()), error.source)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = failure.text;
        match failure.kind {
            FailureKind::Step => Error::Step { step: text, source: io::Error::from_raw_os_error(failure.errno) },
            FailureKind::Invalid => Error::Invalid(text),
            FailureKind::Unsupported => Error::Unsupported(text),
            FailureKind::NotFound => Error::CommandNotFound(text),
            FailureKind::NotExecutable => Error::CommandNotExecutable(text),
            FailureKind::Hook => Error::Hook(text),
        }
    }
}

/// Names the step that failed.
pub(super) trait At<T> {
    fn at(self, step: &str) -> Result<T, Failure>;
    fn at_path(self, step: &str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::step(step, error))
    }

    fn at_path(self, step: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::step(format!("{step} {}", path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureKind};

    #[test]
    fn a_report_survives_the_socket() {
        let failure = Failure { kind: FailureKind::NotFound, text: "exec: \"é\"".into(), errno: 2 };
        assert_eq!(Failure::decode(&failure.encode()), Some(failure));
        for bad in [&b""[..], b"E", b"E\x09aaaa", b"R", b"E\x00abc"] {
            assert_eq!(Failure::decode(bad), None, "{bad:?}");
        }
    }
}
