//! Why a CNI network cannot be used.

use super::version::UnknownVersion;
use crate::base::ErrorKind;
use crate::base::fs::FsError;
use std::io;
use std::path::PathBuf;

/// Failures of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration cannot be understood.
    #[error("cannot use the CNI configuration {}: {why}", path.display())]
    Config { path: PathBuf, why: String },
    #[error("cannot use the CNI configuration {}", path.display())]
    Version {
        path: PathBuf,
        #[source]
        source: UnknownVersion,
    },
    #[error("no CNI network \"{name}\" in {}{}", directory.display(), faulty(faults))]
    NoNetwork { name: String, directory: PathBuf, faults: Vec<String> },
    #[error("CNI network \"{network}\" cannot take {what}: no plugin of {} has the capability \"{capability}\"", path.display())]
    Incapable { network: String, what: &'static str, capability: &'static str, path: PathBuf },
    #[error("\"{0}\" is not a name for a network interface: 1 to 15 characters without /, : and blanks")]
    InterfaceName(String),
    #[error("\"{0}\" cannot be an argument for CNI plugins: KEY=VALUE without semicolons")]
    Argument(String),
    #[error("CNI plugin \"{plugin}\" of network \"{network}\" is not in {}", shown(directories))]
    NoPlugin { plugin: String, network: String, directories: Vec<PathBuf> },
    #[error("CNI plugin {} will not be executed: {why}", path.display())]
    Untrusted { path: PathBuf, why: &'static str },
    #[error("the CNI plugins of network \"{network}\" have no version in common with its configuration ({wanted}): {offers}")]
    NoCommonVersion { network: String, wanted: String, offers: String },
    #[error("cannot execute CNI plugin {}", path.display())]
    Execute {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("CNI plugin \"{plugin}\" did not finish {command} for network \"{network}\" in {seconds} seconds{said}")]
    Timeout { plugin: String, command: &'static str, network: String, seconds: u64, said: String },
    /// What a plugin answered in the form of the specification.
    #[error("CNI plugin \"{plugin}\" failed at {command} for network \"{network}\": {message} (code {code})")]
    Plugin { plugin: String, command: &'static str, network: String, code: u64, message: String },
    /// It failed without an answer in that form.
    #[error("CNI plugin \"{plugin}\" failed at {command} for network \"{network}\": {how}")]
    Failed { plugin: String, command: &'static str, network: String, how: String },
    #[error("CNI plugin \"{plugin}\" answered {command} for network \"{network}\" with something else than a result: {why}")]
    Answer { plugin: String, command: &'static str, network: String, why: String },
    #[error("{interface} of {container} is attached to CNI network \"{network}\" already")]
    Attached { container: String, interface: String, network: String },
    #[error("{interface} of {container} is not attached to a CNI network")]
    NotAttached { container: String, interface: String },
    #[error("another operation on {0} is still running")]
    Busy(String),
    #[error("the record {} cannot be understood: {why}", path.display())]
    Record { path: PathBuf, why: String },
    #[error(transparent)]
    File(#[from] FsError),
    #[error("interrupted at a failpoint")]
    Failpoint(#[source] io::Error),
}

/// Code of the specification: a transient condition.
const TRY_AGAIN: u64 = 11;
/// Not ready for ADD; and the same with existing containers affected.
const NOT_AVAILABLE: [u64; 2] = [50, 51];

impl Error {
    /// With what caused it, in one line.
    pub fn in_full(&self) -> String {
        use std::error::Error as _;
        self.source().map_or_else(|| self.to_string(), |source| format!("{self}: {source}"))
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Config { .. } | Error::InterfaceName(_) | Error::Argument(_) => ErrorKind::Invalid,
            Error::Version { .. } | Error::Incapable { .. } | Error::NoCommonVersion { .. } => ErrorKind::Unsupported,
            Error::NoNetwork { .. } | Error::NoPlugin { .. } | Error::NotAttached { .. } => ErrorKind::NotFound,
            Error::Untrusted { .. } => ErrorKind::Forbidden,
            Error::Attached { .. } | Error::Busy(_) => ErrorKind::Conflict,
            Error::Timeout { .. } => ErrorKind::Unavailable,
            Error::Plugin { code, .. } => match *code {
                1 | 2 => ErrorKind::Unsupported,
                3 => ErrorKind::NotFound,
                7 => ErrorKind::Invalid,
                TRY_AGAIN => ErrorKind::Unavailable,
                code if NOT_AVAILABLE.contains(&code) => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Error::File(error) if error.source.kind() == io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            Error::Execute { .. } | Error::Failed { .. } | Error::Answer { .. } | Error::Record { .. } | Error::File(_) | Error::Failpoint(_) => {
                ErrorKind::Internal
            }
        }
    }
}

fn faulty(faults: &[String]) -> String {
    if faults.is_empty() { String::new() } else { format!(" ({})", faults.join("; ")) }
}

fn shown(directories: &[PathBuf]) -> String {
    let names: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
    if names.is_empty() { "any directory: none is configured".to_owned() } else { names.join(", ") }
}
