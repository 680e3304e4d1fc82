//! What can go wrong with a group.

use crate::base::ErrorKind;
use std::io;
use std::path::PathBuf;

/// What went wrong while making, reading or changing a group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", file.display())]
    Host {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no cgroup hierarchy is mounted on this host")]
    NoHierarchy,
    #[error("invalid cgroup path \"{0}\": expected an absolute path without \".\" and \"..\"")]
    Path(String),
    #[error("cannot create cgroup {}", dir.display())]
    Create {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cgroup {0} already has processes")]
    NotEmpty(String),
    #[error("cannot set {file} to {value} for {group}")]
    Set {
        file: String,
        value: String,
        group: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {file} of {group}")]
    Read {
        file: String,
        group: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot limit {controller} for {group}: this host has no {controller} cgroup controller")]
    Controller { controller: String, group: String },
    #[error("cannot enable the {controller} cgroup controller in {}", dir.display())]
    Enable {
        controller: String,
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot apply {option}: {why}")]
    Unsupported { option: &'static str, why: &'static str },
    #[error("invalid {option} \"{value}\": {why}")]
    Invalid { option: &'static str, value: String, why: &'static str },
    #[error("cannot set the memory limit to {limit} for {group}: {usage} bytes are in use")]
    BelowUsage { limit: i64, usage: u64, group: String },
    #[error("cannot {operation} device rules for {group}")]
    DeviceProgram {
        operation: &'static str,
        group: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot move process {pid} into cgroup {}", dir.display())]
    Join {
        pid: i32,
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot move the processes of {0}: new ones keep appearing")]
    Restless(String),
    #[error("cannot kill process {pid} of {group}")]
    Kill {
        pid: i32,
        group: String,
        #[source]
        source: io::Error,
    },
    #[error("{left} processes of {group} are still there after SIGKILL")]
    StillRunning { left: usize, group: String },
    #[error("processes of {0} did not freeze in time")]
    NotFrozen(String),
    #[error("cannot remove cgroup {}", dir.display())]
    Remove {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Path(_) | Error::Invalid { .. } | Error::BelowUsage { .. } => ErrorKind::Invalid,
            Error::NotEmpty(_) => ErrorKind::Conflict,
            Error::NoHierarchy | Error::Controller { .. } | Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Set { source, .. } => match source.raw_os_error() {
                Some(libc::ENOENT | libc::EOPNOTSUPP) => ErrorKind::Unsupported,
                Some(libc::EINVAL | libc::ERANGE | libc::ENODEV) => ErrorKind::Invalid,
                Some(libc::EBUSY) => ErrorKind::Conflict,
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            Error::Create { source, .. } | Error::Enable { source, .. } | Error::DeviceProgram { source, .. } => match source.raw_os_error() {
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::Internal,
        }
    }
}
