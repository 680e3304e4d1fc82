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
//! - Logs are files in Docker's `json-file` format, whatever the driver keeps on disk, so that one reader serves all. Each file
//!   carries a rising number in its first record: a follower that rotation has overtaken says so instead of missing lines.
//! - A receiver of logs (journald, syslog) that is slow holds the container back for ten seconds, then lines are dropped and
//!   counted. Rejected: waiting for ever (Docker's default), and dropping without a word.
//! - Rotated files are compressed in slices between writes: a thread or a process for it would cost more than it saves.
//! - Spawned by two nested `CLONE_VM | CLONE_VFORK` and one `execveat`: nothing is copied, the caller has no
//!   child to reap. Rejected: `posix_spawn` (a long-lived caller would collect zombies).
//! - The time that a stop gives the container is the monitor's too, not only the waiting client's. Rejected: the signal as the
//!   monitor's work, too (one that hangs would not send it).
//! - A probe of the health is a fork of the monitor (`probe.rs`): it parses the config, compiles the filter, waits, writes the
//!   result and dies; the idle monitor holds a status and a time. Rejected: the exec in the monitor itself (a frozen
//!   container or a hung mount would stop the relay, and the parsed config would stay in its memory); a process that lives
//!   as long as the container; one exec of the binary more.
//! - What answers the container's name queries is driven by the same loop through the trait `Resolver`: this room does not know
//!   what it says, and its plan is passed on as it came (`network` lies on the same row, and a second type of it would be a copy).
//! - `poll` over a handful of descriptors rebuilt each turn, not epoll: no state to keep in step.

mod checks;
mod client;
mod error;
mod frame;
mod health;
mod life;
mod live;
mod log;
mod log_read;
mod peer;
mod ports;
mod probe;
mod readiness;
mod relay;
mod resolver;
mod run;
mod stage;
mod stdin;
mod stop;
#[cfg(test)]
mod tests;
mod warnings;

pub use client::Client;
pub use error::Error;
pub use health::{Health, HealthPlan, HealthStatus, ProbeResult};
pub use live::is_alive;
pub use log::{LOST as LOG_LOST, LogContext, check_options as check_log_options, path as log_path, unreadable as unreadable_log};
pub use log_read::{read_journal, read_log};
pub use readiness::{Notify, notify_path};
pub use resolver::Resolver;
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
    /// See [`runtime::Create::sources`].
    #[serde(default)]
    pub sources: Vec<runtime::BindSource>,
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
    #[serde(default)]
    pub log_context: LogContext,
    pub restart: crate::state::record::RestartPolicy,
    pub auto_remove: bool,
    /// When the record was marked as started for this monitor: a record marked at another time is another run's.
    pub reserved: Timestamp,
    /// What its events say.
    #[serde(default)]
    pub journal: Journal,
    /// The network namespace is made with init (it belongs to init's user namespace): [`Lifecycle::created`] connects
    /// it at each start.
    #[serde(default)]
    pub netns_of_init: bool,
    /// What its [`Resolver`] is told ([`Resolver::follow`]); none: nobody answers name queries within it.
    #[serde(default)]
    pub resolver: Option<serde_json::Value>,
    /// None: its health is not probed.
    #[serde(default)]
    pub health: Option<HealthPlan>,
    /// The pod it is a member of: [`Lifecycle::finished`] looks whether it was the last.
    #[serde(default)]
    pub pod: Option<crate::base::PodId>,
    /// How long each run may take: then it is killed.
    #[serde(default)]
    pub time_limit: Option<std::time::Duration>,
    /// Whom to tell that it is ready.
    #[serde(default)]
    pub notify: Option<Notify>,
}

/// What the lifecycle writes into the event journal besides its own verbs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Journal {
    /// Attributes of each event of the container: image, name, labels.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// At the first start: networks connected, volumes mounted.
    pub up: Vec<crate::state::events::Event>,
    /// At the end.
    pub down: Vec<crate::state::events::Event>,
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
    /// It waits at its gate: made, but not started.
    #[serde(default)]
    pub waiting: bool,
    /// When that run ended.
    #[serde(default)]
    pub last_end: Timestamp,
    /// Processes of the container that the OOM killer has killed since the container was started.
    #[serde(default)]
    pub oom_kills: u64,
    /// When the next run begins while `pid` is None.
    #[serde(default)]
    pub next_start: Option<Timestamp>,
    pub cgroup: runtime::cgroup::Group,
}

/// How a run of the container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0..=255, or 128+n for signal n.
    pub code: i32,
    /// The kernel's OOM killer killed processes of the container in this run.
    pub oom_killed: bool,
    pub at: Timestamp,
}

/// What made a run end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cause {
    /// The container itself, or a signal that nobody announced.
    #[default]
    Itself,
    /// The user, or the health check's action `stop`: the restart policy rests.
    Stop,
    /// The health check's action `restart`.
    Restart,
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
    /// A client gave the terminal another size.
    fn resized(&mut self, columns: u16, rows: u16);
    /// The OOM killer killed processes of the container: `kills` in all since it was started.
    fn oom(&mut self, kills: u64);
    /// Called in the process of a probe whose result has changed the health of the container.
    fn health_changed(&mut self, status: HealthStatus);
    /// The container's process ended; None: do not restart; Some: restart after this pause.
    fn exited(&mut self, exit: &Exit, ran_for: Duration, cause: Cause) -> Option<Duration>;
    /// A restart could not start the container; None: give up.
    fn restart_failed(&mut self, error: &str) -> Option<Duration>;
    /// Whoever waited for the end of this run, to stop or restart it, was gone before; `killed`: the monitor has killed it.
    fn forsaken(&mut self, killed: bool);
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
    /// What [`Client::probe`] asked for.
    Probed {
        well: bool,
    },
    /// What [`Client::resolve`] asked for is done.
    Resolving,
    /// What [`Client::hold`] asked for: it waits at its gate, whoever leaves.
    Held,
    /// What [`Client::reserve`] asked for is done.
    Reserved,
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
    /// Chosen labels, variables and tag, if asked for.
    pub details: Vec<(String, String)>,
    /// Something is missing before this place; then there is no data.
    pub gap: Option<Gap>,
}

impl LogLine {
    pub(crate) fn nothing() -> Self {
        LogLine { at: Timestamp::NEVER, stream: 2, data: Vec::new(), details: Vec::new(), gap: None }
    }
}

/// What a reader of a log does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// So many lines could not be written.
    Lines(u64),
    /// So many files were rotated away before they could be read.
    Files(u64),
    /// The same, of a log whose files have no numbers.
    Unknown,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Last n lines.
    pub tail: Option<usize>,
    pub follow: bool,
    /// Give the [`LogLine::details`].
    pub details: bool,
}
