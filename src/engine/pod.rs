//! The use cases of a pod, a file each. A pod of `rcon pod` and a CRI sandbox are the same thing.
//!
//! Invariant: who holds a pod's lock never waits for a member's lock or monitor, for members take the pod's lock while they
//! hold their own.

mod create;
mod down;
mod duplicate;
mod hold;
mod inspect;
mod join;
mod list;
mod logs;
mod members;
mod observe;
mod pause;
mod remove;
mod up;

use super::{Engine, Result, View};
use crate::base::Roots;
use crate::state::pod::Pod;
use crate::state::record::Container;
use std::os::fd::OwnedFd;

pub(super) use down::member_ended;
pub(super) use pause::stage as pause_stage;

/// A pod as seen now.
#[derive(Debug, Clone)]
pub struct PodView {
    pub pod: Pod,
    pub status: PodStatus,
    /// Oldest first.
    pub members: Vec<View>,
}

/// What a pod and its members amount to, in podman's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStatus {
    Created,
    Running,
    /// Some members run, others do not.
    Degraded,
    Paused,
    /// It is up, or has members that never ran, and nothing runs.
    Stopped,
    Exited,
    /// Its removal has begun.
    Dead,
}

impl PodStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            PodStatus::Created => "Created",
            PodStatus::Running => "Running",
            PodStatus::Degraded => "Degraded",
            PodStatus::Paused => "Paused",
            PodStatus::Stopped => "Stopped",
            PodStatus::Exited => "Exited",
            PodStatus::Dead => "Dead",
        }
    }
}

impl Engine {
    /// The record of a pod by full id, exact name or unique id prefix.
    ///
    /// # Errors
    /// There is no such pod, or the prefix is ambiguous.
    pub fn find_pod(&self, name: &str) -> Result<Pod> {
        self.db.find_pod(name)?.ok_or_else(|| self.no_such("pod", name))
    }
}

/// The network namespace of a member's pod.
///
/// # Errors
/// The pod does not hold it (any more).
pub(super) fn network_of(roots: &Roots, record: &Container) -> Result<OwnedFd> {
    let membership = record.spec.pod.as_ref().expect("invariant: only a member has its pod's network");
    hold::open(roots, &membership.pod, hold::NET)
}
