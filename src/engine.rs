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
//!   Rejected: a new monitor that adopts it: nobody could reap its init or learn its exit code.
//! - Leftovers are ended by the next command (one lock probe for each started container). Rejected: a janitor process,
//!   which would be the daemon that this design does without.
//! - `cp` speaks tar on both sides, also from file to file, so that the rules about owners, links and hostile names stand
//!   in one place. Rejected: copying trees directly where no tar is asked for.
//! - An exec is the child of the command that asked for it, not of the monitor: its streams need no relay.
//! - User namespaces are per container and only on request (`--uidmap`, `--gidmap`); `--userns host` is the default spelled
//!   out. Rejected: one remapping for the whole engine (Docker's `userns-remap`), which splits the store by mapping. On disk
//!   volumes and uppers keep the container's ids, so a volume can be shared with and without mappings; binds of host
//!   paths are shown unmapped, as with Docker.
//! - The network namespace of such a container belongs to its user namespace: it is cloned with init and the monitor
//!   connects it at every start. So are its PID, IPC and UTS namespaces, and joining those of others is refused: its root
//!   would have no rights there.

mod check;
mod container;
mod copy;
mod diff;
mod distribute;
mod error;
mod filter;
mod image;
mod inspect;
mod list;
mod login;
mod observe;
pub mod request;
mod settings;
#[cfg(test)]
mod tests;
mod usage;
mod volume;

use crate::base::{Privilege, Timestamp};
use crate::image::{Progress, RegistryConfig};
use crate::monitor::{Client, LogLine, LogQuery};
use crate::oci::Reference;
use crate::state::record;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

pub use container::monitor_stage;
pub use diff::ChangeKind;
pub use distribute::{ArtifactRequest, ListAnnotation, ManifestView};
pub use error::Error;
pub use filter::parse_time;
pub use image::{ImportOptions, Step};
pub use settings::Settings;
pub use usage::{ContainerUsage, Sum, Usage, VolumeUsage};
type Result<T> = std::result::Result<T, Error>;

/// One engine on one pair of roots.
pub struct Engine {
    pub(crate) privilege: Privilege,
    pub(crate) db: crate::state::Db,
    pub(crate) registry: RegistryConfig,
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

// The methods are in the files: container/*.rs, copy.rs, image.rs, inspect.rs, list.rs, login.rs, observe.rs, volume.rs.
impl Engine {
    /// Opens the engine's database (made and migrated when needed).
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn open(privilege: Privilege, registry: RegistryConfig) -> Result<Self> {
        let db = crate::state::Db::open(&privilege.roots)?;
        Ok(Engine { privilege, db, registry })
    }
}

/// The outcome of `create`.
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
