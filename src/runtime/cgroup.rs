//! Control groups of one container on v1, hybrid and v2 hosts.
//!
//! On hybrid hosts the (controller-less) v2 tree still tracks, kills and freezes; v1 hierarchies are joined
//! only where a limit or accounting needs them. Device rules are eBPF on the v2 group wherever a v2 tree exists.

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// STUB errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

/// Where a container's groups are: serialisable, so that any later process can open them again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Path below each hierarchy's root: `/rcon/<id>` (fs driver).
    pub path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds of CPU used since the start.
    pub cpu_total: u64,
    pub cpu_user: u64,
    pub cpu_system: u64,
    pub throttled_periods: u64,
    /// Bytes, as Docker counts: usage minus inactive file cache.
    pub memory_usage: u64,
    /// Bytes; the host's memory when unlimited.
    pub memory_limit: u64,
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub block_read: u64,
    pub block_write: u64,
    /// Processes killed by the OOM killer in this group since its creation.
    pub oom_kills: u64,
}

#[allow(unused_variables)]
impl Group {
    /// Makes the groups and applies limits and device rules. The container's init then starts inside
    /// ([`Group::clone_fd`]) and joins the v1 hierarchies ([`Group::join`]).
    pub fn create(path: &str, resources: Option<&LinuxResources>) -> Result<Self, Error> {
        unimplemented!()
    }
    /// Directory fd of the v2 group for CLONE_INTO_CGROUP; None where there is no v2 tree.
    pub fn clone_fd(&self) -> Option<OwnedFd> {
        unimplemented!()
    }
    /// Moves a process into every hierarchy that it is not born into. Slow on v1 (an RCU grace period): call it once, overlapped.
    pub fn join(&self, pid: i32) -> Result<(), Error> {
        unimplemented!()
    }
    /// STUB (the cgroup room's owner fills it): joins hierarchies that are only needed for accounting.
    pub fn join_accounting(&self) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn freeze(&self) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn thaw(&self) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn is_frozen(&self) -> bool {
        unimplemented!()
    }
    /// Every process in the group and below it.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        unimplemented!()
    }
    /// SIGKILL to all, thawing first; returns when none is left or after the deadline with an error.
    pub fn kill_all(&self, deadline: std::time::Duration) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn stats(&self) -> Result<Stats, Error> {
        unimplemented!()
    }
    /// OOM kills so far (cheap; used at exit).
    pub fn oom_kills(&self) -> u64 {
        unimplemented!()
    }
    /// Removes the groups; a missing one is fine; EBUSY is retried with back-off.
    pub fn delete(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
