//! # engine
//! ## Lives here
//! The use cases: containers, exec, images, volumes, logs, stats, prune. The only API that front doors call.
//! ## Invariants
//! - Speaks domain types; prints nothing, never assumes a terminal; progress and events are values.
//! - Every multi-step use case keeps an `Undo` and has a failpoint at each step; cleanup is idempotent and is run again by
//!   the next command that meets the leftover (`Engine::reconcile`).
//! ## Not here
//! Flags and rendering (`cli`), wire formats (`server`, later).
//! ## Decisions
//! - A container whose monitor died ends with it (exit code 255, its cgroup is killed): no half-supervised state to explain.

pub mod request;
mod container;

use crate::base::{ErrorKind, Privilege, Signal, Timestamp};
use crate::image::{Progress, RegistryConfig};
use crate::monitor::{Client, LogLine, LogQuery};
use crate::oci::{Platform, Reference};
use crate::state::record;
use request::{CreateContainer, ExecRequest, PullPolicy, UpdateRequest};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// STUB errors. Display is lower case, names the object as the user typed it; `hint` is an action.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
    pub fn hint(&self) -> Option<String> {
        None
    }
}

type Result<T> = std::result::Result<T, Error>;

/// One engine on one pair of roots.
pub struct Engine {
    // privilege, db, registry config …
}

/// Observed state of a container (record + live facts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Removing,
    Dead,
}

/// A container as seen now.
#[derive(Debug, Clone)]
pub struct View {
    pub record: record::Container,
    pub status: Status,
    /// Init's pid while running or paused; 0 otherwise.
    pub pid: i32,
    /// Live restart count.
    pub restart_count: u32,
    /// Start of the present run (record.started otherwise).
    pub started: Timestamp,
}

/// A started (or created) container with a connection to its monitor.
pub struct Attached {
    pub id: crate::base::ContainerId,
    pub client: Client,
    pub tty: bool,
}

/// Wait conditions of `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    NotRunning,
    NextExit,
    Removed,
}

/// A filter of `ps`, `images`, …: (key, value) as typed; unknown keys are refused by the engine by name.
pub type Filters = [(String, String)];

#[derive(Debug, Clone)]
pub struct ImageView {
    pub image: record::Image,
    /// Full references (tags) and digests pointing to it.
    pub tags: Vec<Reference>,
    pub digests: Vec<Reference>,
    pub containers: usize,
}

pub struct RemovedImage {
    /// Lines in Docker's order: `Untagged: x`, `Deleted: sha256:…`.
    pub untagged: Vec<String>,
    pub deleted: Vec<String>,
}

pub struct StatsView {
    pub view: View,
    pub stats: crate::runtime::cgroup::Stats,
    /// Percent of one CPU.
    pub cpu_percent: f64,
    pub rx: u64,
    pub tx: u64,
}

pub struct Process {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Default)]
pub struct Pruned {
    pub deleted: Vec<String>,
    pub reclaimed: u64,
}

pub enum CopyPath<'a> {
    Host(&'a Path),
    Container { container: &'a str, path: &'a [u8] },
}

#[allow(unused_variables)]
impl Engine {
    pub fn open(privilege: Privilege, registry: RegistryConfig) -> Result<Self> { unimplemented!() }

    // --- container lifecycle (engine/container/*.rs) ---
    /// Resolves or pulls the image, merges, reserves name, writes the record, does copy-up. Warnings are values.
    pub fn create(&self, request: &CreateContainer, progress: &(dyn Fn(Progress) + Sync)) -> Result<Created> { unimplemented!() }
    /// Starts it: leases, monitor, network, gate. With `attach` the returned client was subscribed before the gate opened. The caller may drop the client to detach.
    pub fn start(&self, id: &crate::base::ContainerId, attach: AttachStreams, console: (u16, u16)) -> Result<Attached> { unimplemented!() }
    /// `create` + `start` in one transaction where possible: the hot path of `run`.
    pub fn run(&self, request: &CreateContainer, attach: AttachStreams, console: (u16, u16), progress: &(dyn Fn(Progress) + Sync)) -> Result<(Created, Result<Attached>)> { unimplemented!() }
    pub fn attach(&self, name: &str, streams: AttachStreams) -> Result<Attached> { unimplemented!() }
    pub fn stop(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> { unimplemented!() }
    pub fn restart(&self, name: &str, signal: Option<Signal>, timeout: Option<i64>) -> Result<()> { unimplemented!() }
    pub fn kill(&self, name: &str, signal: Signal) -> Result<()> { unimplemented!() }
    pub fn pause(&self, name: &str) -> Result<()> { unimplemented!() }
    pub fn unpause(&self, name: &str) -> Result<()> { unimplemented!() }
    /// `force`: SIGKILL first. `volumes`: its anonymous volumes too.
    pub fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> { unimplemented!() }
    pub fn rename(&self, name: &str, new: &str) -> Result<()> { unimplemented!() }
    pub fn wait(&self, name: &str, condition: WaitFor) -> Result<i32> { unimplemented!() }
    pub fn update(&self, name: &str, update: &UpdateRequest) -> Result<Vec<String>> { unimplemented!() }
    /// The container by full id, exact name or unique id prefix, as seen now (reconciled).
    pub fn view(&self, name: &str) -> Result<View> { unimplemented!() }
    /// Newest first; filters of cli.md `ps filters` (T1). `all`: also those not running.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<View>> { unimplemented!() }
    /// Ends what dead monitors left (kills cgroups, frees leases, writes exit records, finishes removals).
    pub fn reconcile(&self) -> Result<()> { unimplemented!() }
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<crate::runtime::Running> { unimplemented!() }
    pub fn logs(&self, name: &str, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<()> { unimplemented!() }
    pub fn top(&self, name: &str, ps_args: &[String]) -> Result<Process> { unimplemented!() }
    /// Two samples `interval` apart for the CPU rate; empty names: all running.
    pub fn stats(&self, names: &[String], all: bool, interval: Duration) -> Result<Vec<StatsView>> { unimplemented!() }
    /// Docker-compatible document.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<serde_json::Value> { unimplemented!() }
    /// (size of the writable layer, virtual size).
    pub fn container_size(&self, view: &View) -> Result<(u64, u64)> { unimplemented!() }
    /// Copies out of a container: a tar stream of `path` (like `docker cp C:path -`). `follow`: a final symlink is resolved.
    pub fn copy_out(&self, name: &str, path: &[u8], follow: bool, out: &mut dyn Write) -> Result<()> { unimplemented!() }
    /// Copies a tar stream into directory `path` of a container.
    pub fn copy_in(&self, name: &str, path: &[u8], archive: &mut dyn Read, keep_ids: bool) -> Result<()> { unimplemented!() }
    /// `cp` with Docker's path rules between host and container.
    pub fn copy(&self, from: CopyPath<'_>, to: CopyPath<'_>, keep_ids: bool, follow: bool) -> Result<()> { unimplemented!() }
    pub fn prune_containers(&self, filters: &Filters) -> Result<Pruned> { unimplemented!() }

    // --- images (engine/image.rs) ---
    pub fn pull(&self, reference: &str, platform: Option<&str>, progress: &(dyn Fn(Progress) + Sync)) -> Result<crate::image::Pulled> { unimplemented!() }
    pub fn load(&self, archive: &mut (dyn Read + Send), progress: &(dyn Fn(Progress) + Sync)) -> Result<Vec<String>> { unimplemented!() }
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()> { unimplemented!() }
    pub fn images(&self, filters: &Filters) -> Result<Vec<ImageView>> { unimplemented!() }
    pub fn image(&self, name: &str) -> Result<ImageView> { unimplemented!() }
    pub fn inspect_image(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
    pub fn tag(&self, source: &str, target: &str) -> Result<()> { unimplemented!() }
    pub fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> { unimplemented!() }
    pub fn prune_images(&self, all: bool, filters: &Filters) -> Result<Pruned> { unimplemented!() }

    // --- volumes (engine/volume.rs) ---
    pub fn create_volume(&self, name: Option<&str>, labels: &[(String, String)]) -> Result<record::Volume> { unimplemented!() }
    pub fn volumes(&self, filters: &Filters) -> Result<Vec<record::Volume>> { unimplemented!() }
    pub fn inspect_volume(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> { unimplemented!() }
    pub fn prune_volumes(&self, all: bool, filters: &Filters) -> Result<Pruned> { unimplemented!() }
    /// Inspect whatever has that name: container, image, volume, network.
    pub fn inspect_any(&self, name: &str) -> Result<serde_json::Value> { unimplemented!() }
}

pub struct Created {
    pub record: record::Container,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The hidden monitor stage (`main` calls it before anything else). Wires `monitor::serve` to the engine's lifecycle.
pub fn monitor_stage() -> std::process::ExitCode { unimplemented!() }

#[allow(unused)]
fn _unused(_: PullPolicy, _: &Platform) {}
