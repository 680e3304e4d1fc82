//! # monitor
//! ## Lives here
//! One small single-threaded process per container: stdio relay, log, attach clients, exit, restart.
//! And the client side of its socket, and the live facts it publishes.
//! ## Invariants
//! - The lock `<live>/lock` is held exactly while the monitor lives; liveness is that lock, never a pid number.
//! - Container output never waits for a slow client beyond its bounded buffer; the log is written first.
//! - No reactor, no thread, no database connection while idle.
//! ## Not here
//! What to do at exit (records, network, removal): the `Lifecycle` that `engine` passes in.
//! ## Decisions
//! - The client that created the container and attached to it holds the container back when it does not
//!   read (its output is the point of the command); any other client is dropped with a notice when 1 MiB
//!   waits for it. Rejected: Docker's way (every attached client blocks the container).
//! - Spawned by two nested `CLONE_VM | CLONE_VFORK` and one `execveat`: nothing is copied, the caller has no
//!   child to reap. Rejected: `posix_spawn` (a long-lived caller would collect zombies).
//! - `poll` over a handful of descriptors rebuilt each turn, not epoll: no state to keep in step.

mod client;
mod error;
mod frame;
mod live;
mod log;
mod log_read;
mod peer;
mod relay;
mod run;
mod stage;
mod stdin;
#[cfg(test)]
mod tests;
mod warnings;

pub use client::Client;
pub use error::Error;
pub use live::is_alive;
pub use log::check_options as check_log_options;
pub use log_read::read_log;
pub use stage::{requested as stage_requested, serve};

use crate::base::{ContainerId, Timestamp};
use crate::runtime;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Everything a monitor needs, sent to it as its first message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub id: ContainerId,
    /// Data and run roots (the lifecycle opens the database with them).
    pub data_root: PathBuf,
    pub run_root: PathBuf,
    /// `<run>/containers/<id>`.
    pub live_dir: PathBuf,
    /// `<data>/containers/<id>`.
    pub container_dir: PathBuf,
    /// The OCI config (serialised oci_spec::runtime::Spec).
    pub spec: serde_json::Value,
    pub root: runtime::Root,
    pub user: runtime::User,
    pub cgroup_path: String,
    pub reaper: bool,
    pub tty: bool,
    pub console_size: (u16, u16),
    /// Keep a stdin pipe open for attachers.
    pub open_stdin: bool,
    /// Close stdin when the first attached client's stdin ends.
    pub stdin_once: bool,
    pub log: crate::state::record::LogSpec,
    pub restart: crate::state::record::RestartPolicy,
    pub auto_remove: bool,
    /// When the record was marked as started for this monitor: a record marked at another time is another run's.
    pub reserved: Timestamp,
    /// The network namespace is made with init (it belongs to init's user namespace): [`Lifecycle::created`] connects
    /// it at each start.
    #[serde(default)]
    pub netns_of_init: bool,
}

/// Live facts, `<live>/live.json` (replaced by rename).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    pub monitor_pid: i32,
    /// Init's pid while running; None while waiting to restart.
    pub pid: Option<i32>,
    /// Start time of init in clock ticks since boot (`/proc/PID/stat` field 22): with the pid its identity.
    pub start_ticks: u64,
    pub started: Timestamp,
    pub restart_count: u32,
    /// Exit code of the previous run while `pid` is None.
    pub last_exit: i32,
    /// When that run ended.
    #[serde(default)]
    pub last_end: Timestamp,
    pub cgroup: runtime::cgroup::Group,
}

/// How a run of the container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0..=255, or 128+n for signal n.
    pub code: i32,
    pub oom_killed: bool,
    pub at: Timestamp,
}

/// What the engine decides in the monitor process.
pub trait Lifecycle {
    /// The plan of this run is applied; init waits at the gate. `pid` is a child of this process, not yet reaped.
    ///
    /// # Errors
    /// Why the container cannot be started.
    fn created(&mut self, pid: i32) -> Result<(), String>;
    /// Called right after `execve` succeeded (first start and each restart).
    fn started(&mut self, pid: i32, at: Timestamp, restart_count: u32);
    /// The container's process ended; None: do not restart; Some: restart after this pause.
    fn exited(&mut self, exit: &Exit, ran_for: Duration, stop_requested: bool) -> Option<Duration>;
    /// A restart could not start the container; None: give up.
    fn restart_failed(&mut self, error: &str) -> Option<Duration>;
    /// The end: release network, leases, cgroup is already gone; write the exit record or remove the container.
    /// Called after clients were told the exit code. Must be idempotent with the engine's reconciliation.
    fn finished(&mut self, exit: &Exit, error: Option<&str>);
}

/// A message from the monitor.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plan is applied; init waits at the gate.
    Created {
        pid: i32,
    },
    Started {
        pid: i32,
        at: Timestamp,
    },
    /// Creation or start failed.
    Failed {
        kind: FailureKind,
        message: String,
    },
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The run ended; `restarting`: the policy will start it again.
    Exited {
        exit: Exit,
        restarting: bool,
    },
    /// Everything is released and recorded (`finished` returned). Last message.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    NotFound,
    NotExecutable,
    Invalid,
    Other,
}

/// One record of a container's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    pub at: Timestamp,
    /// 1 stdout, 2 stderr.
    pub stream: u8,
    /// Bytes incl. the trailing newline; a partial line has none.
    pub data: Vec<u8>,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Last n lines.
    pub tail: Option<usize>,
    pub follow: bool,
}
