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

use crate::base::{ContainerId, ErrorKind, Timestamp};
use crate::runtime;
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// STUB errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

impl Error {
    /// `CommandNotFound`/`CommandNotExecutable` survive the trip over the socket.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

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
    pub cgroup: runtime::cgroup::Group,
}

impl Live {
    /// None when there are none or no monitor holds the lock.
    #[allow(unused_variables)]
    pub fn read(live_dir: &Path) -> Option<Live> {
        unimplemented!()
    }
}

/// True while a monitor holds the container's lock.
#[allow(unused_variables)]
pub fn is_alive(live_dir: &Path) -> bool {
    unimplemented!()
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
    Created { pid: i32 },
    Started { pid: i32, at: Timestamp },
    /// Creation or start failed.
    Failed { kind: FailureKind, message: String },
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The run ended; `restarting`: the policy will start it again.
    Exited { exit: Exit, restarting: bool },
    /// Everything is released and recorded (`finished` returned). Last message.
    Gone,
    /// Init's process list changed owner etc. — none yet.
    Paused(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    NotFound,
    NotExecutable,
    Invalid,
    Other,
}

/// A connection to a monitor.
pub struct Client {
    pub(crate) _socket: OwnedFd,
}

#[allow(unused_variables)]
impl Client {
    /// Starts a monitor process (one exec of our own binary from a read-only view) and hands it config, the
    /// container's network namespace and held port sockets. It creates the container at once (in parallel with the caller).
    pub fn spawn(config: &Config, netns: Option<BorrowedFd<'_>>, held: &[BorrowedFd<'_>]) -> Result<Client, Error> {
        unimplemented!()
    }
    /// Connects to a running container's monitor.
    pub fn connect(live_dir: &Path) -> Result<Client, Error> {
        unimplemented!()
    }
    /// Opens the gate. The monitor answers Started or Failed.
    pub fn start(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
    /// Abandons a created container: the monitor tears down without starting.
    pub fn abandon(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
    /// Subscribes to output (from now on) and, with `stdin`, becomes a writer of stdin.
    pub fn attach(&mut self, stdout: bool, stderr: bool, stdin: bool) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn write_stdin(&mut self, data: &[u8]) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn close_stdin(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        unimplemented!()
    }
    /// Tells the monitor that the user stops it: the restart policy rests; a pending restart is cancelled.
    pub fn stop_requested(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
    /// Next message; blocks up to `timeout` (None: for ever). Ok(None): timeout. A closed connection without Gone is `Err(Error::Lost)`.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        unimplemented!()
    }
    /// For poll(2) together with other fds; after it is readable call `next` with a zero timeout until None.
    pub fn fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
    /// Waits until the monitor process is gone (its lock is released) after `Gone`.
    pub fn wait_gone(&mut self, timeout: Duration) -> Result<bool, Error> {
        unimplemented!()
    }
}

/// The hidden stage: runs a monitor on the inherited socket. `lifecycle` is made from the config by `engine`.
#[allow(unused_variables)]
pub fn serve(socket: OwnedFd, lifecycle: &dyn Fn(&Config) -> Box<dyn Lifecycle>) -> std::process::ExitCode {
    unimplemented!()
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

/// Reads a container's log files (rotated ones too), calling `each`; with `follow` it goes on until `alive` says false and all is read, or `each` returns false.
#[allow(unused_variables)]
pub fn read_log(container_dir: &Path, query: &LogQuery, alive: &dyn Fn() -> bool, each: &mut dyn FnMut(LogLine) -> bool) -> Result<(), Error> {
    unimplemented!()
}
