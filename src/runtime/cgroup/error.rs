//! What can go wrong with a group.

pub use super::systemd::BusError;
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
    #[error("invalid cgroup path \"{0}\": it must name a group below the root, without \"..\"")]
    Path(String),
    #[error("cannot create cgroup {}", dir.display())]
    Create {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cgroup {0} already has processes: end them, or choose another cgroups path")]
    NotEmpty(String),
    #[error("cgroup {0} is frozen: thaw it and those above it, or choose another cgroups path")]
    Frozen(String),
    #[error("the container has no cgroup: the runtime was not permitted to make one")]
    Absent,
    #[error("cannot give {} to user {owner}", path.display())]
    Own {
        path: PathBuf,
        owner: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot {operation} systemd unit {unit}")]
    Systemd {
        operation: &'static str,
        unit: String,
        #[source]
        source: BusError,
    },
    #[error("systemd does not run here (there is no /run/systemd/system): --systemd-cgroup needs it")]
    NoSystemd,
    #[error("invalid annotation {key}=\"{value}\": {why}")]
    Annotation { key: String, value: String, why: String },
    #[error("no cgroup {path} below the container's group")]
    NoSubgroup { path: String },
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
    #[error("cannot set unified resources of {controller} for {group}: that controller is not on cgroup v2 here")]
    NotUnified { controller: String, group: String },
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
    #[error("cannot send signal {signal} to process {pid} of {group}")]
    Kill {
        pid: i32,
        signal: i32,
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
            Error::Path(_) | Error::Invalid { .. } | Error::BelowUsage { .. } | Error::NoSubgroup { .. } | Error::Annotation { .. } => {
                ErrorKind::Invalid
            }
            Error::NotEmpty(_) | Error::Frozen(_) => ErrorKind::Conflict,
            Error::NoHierarchy
            | Error::Controller { .. }
            | Error::NotUnified { .. }
            | Error::Unsupported { .. }
            | Error::Absent
            | Error::NoSystemd => ErrorKind::Unsupported,
            Error::Set { source, .. } => match source.raw_os_error() {
                Some(libc::ENOENT | libc::EOPNOTSUPP) => ErrorKind::Unsupported,
                Some(libc::EINVAL | libc::ERANGE | libc::ENODEV) => ErrorKind::Invalid,
                Some(libc::EBUSY) => ErrorKind::Conflict,
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            Error::Create { source, .. }
            | Error::Enable { source, .. }
            | Error::DeviceProgram { source, .. }
            | Error::Join { source, .. }
            | Error::Own { source, .. } => match source.raw_os_error() {
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::Internal,
        }
    }
}
