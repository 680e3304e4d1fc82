//! What a container is doing, asked of the kernel.

use super::{Container, GATE};
use crate::runtime::Error;
use crate::runtime::channel::Channel;
use crate::sys::proc_stat::ProcDir;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

/// `status` of the state document (runtime.md, State).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state document of `rcon-runtime state` (runtime.md, State) with what `runc` adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    /// 0 when there is no process.
    pub pid: i32,
    pub status: Status,
    pub bundle: String,
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who created it; the id where the host has no name for it.
    pub owner: String,
}

impl Container {
    /// The init process, if it lives (a zombie does not).
    ///
    /// # Errors
    /// The kernel refuses a descriptor for another reason than that it is gone.
    pub fn init(&self) -> Result<Option<(i32, OwnedFd)>, Error> {
        let Some(init) = self.record.init else { return Ok(None) };
        let Some(pid) = Pid::from_raw(init.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            other => other.map_err(|error| Error::Step { step: format!("open process {}", init.pid), source: error.into() })?,
        };
        // After the descriptor is held: what is read now is about the process that it names, or the process is gone.
        let alive = ProcDir::open(init.pid).and_then(|dir| dir.stat()).is_ok_and(|stat| stat.start_ticks == init.start_ticks && !stat.ended);
        Ok(alive.then_some((init.pid, pidfd)))
    }

    /// # Errors
    /// As [`Container::init`].
    pub fn status(&self) -> Result<Status, Error> {
        if self.record.init.is_none() {
            return Ok(if self.is_locked()? { Status::Creating } else { Status::Stopped });
        }
        if self.init()?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.record.group.as_ref().is_some_and(crate::runtime::cgroup::Group::is_frozen) {
            return Ok(Status::Paused);
        }
        // A stage at its gate lets a connection without a word go again.
        Ok(if Channel::connect(self.held.as_fd(), GATE)?.is_some() { Status::Created } else { Status::Running })
    }

    /// # Errors
    /// As [`Container::init`].
    pub fn state(&self) -> Result<State, Error> {
        let status = self.status()?;
        let record = &self.record;
        let pid = if status == Status::Stopped { None } else { record.init };
        Ok(State {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: pid.map_or(0, |init| init.pid),
            status,
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: crate::base::user_name(record.owner).unwrap_or_else(|| record.owner.to_string()),
        })
    }

    /// Whether another process holds the lock.
    fn is_locked(&self) -> Result<bool, Error> {
        use crate::base::fs::Context;
        use rustix::fs::{FlockOperation, Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&self.dir, flags, Mode::empty()).on("open", &self.dir)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            other => Ok(other.on("lock", &self.dir).map(|()| false)?),
        }
    }
}
