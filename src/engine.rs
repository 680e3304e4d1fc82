//! # engine
//! ## Lives here
//! The use cases: containers, exec, pods, images, volumes, logs, stats, prune. The only API that front doors call.
//! ## Invariants
//! - Speaks domain types; prints nothing, never assumes a terminal; progress and events are values.
//! - Every multi-step use case keeps an `Undo` and has a failpoint at each step; cleanup is idempotent and is run again by
//!   the next command that meets the leftover (`Engine::settle_all`).
//! ## Not here
//! Flags and rendering (`cli`), wire formats (`server`, later).
//! ## Decisions
//! - Every use case writes what it did into the event journal (`Engine::emit`, the words in `events.rs`), after it is done; what
//!   happens in a monitor (start, die, disconnect, destroy) the monitor writes itself. Losing an event fails nothing.
//! - A container whose monitor died ends with it (exit code 255, its cgroup is killed): no half-supervised state to explain.
//!   Rejected: a new monitor that adopts it: nobody could reap its init or learn its exit code.
//! - Where the restart policy of a container without a monitor wants it back (a killed monitor, a reboot, a failed start at boot),
//!   the record says so, and whoever comes next starts it: each command that lists containers, and `system boot` and
//!   `system supervise`, which the shipped systemd units run and which live only while something is left to retry.
//!   Rejected: one process that watches all monitors (the daemon again), monitors that watch each other (n² of them).
//! - A stop whose signal the kernel would drop (PID 1 of a PID namespace without a handler, pid_namespaces(7)) goes to the children
//!   of PID 1 too, which mostly are the program proper behind a shell; without children it is SIGKILL at once, unless somebody
//!   named a time to wait (`-t`, `--stop-timeout`). The end is Docker's (exit code 137, or the program's own), only earlier. A
//!   signal that is blocked counts as taken (signalfd(2) and sigwait(3) read it), one that is ignored on purpose is waited
//!   out. Rejected: Docker's ten seconds of waiting for what cannot happen.
//! - Leftovers are ended by the next command (one lock probe for each started container). Rejected: a janitor process,
//!   which would be the daemon that this design does without.
//! - `cp` speaks tar on both sides, also from file to file, so that the rules about owners, links and hostile names stand
//!   in one place. Rejected: copying trees directly where no tar is asked for.
//! - `commit` packs exactly what `diff` tells, read through a read-only overlay of its own. Rejected: the upper directory as
//!   it is (Docker's way), which carries what overlayfs copied up although nobody changed it.
//! - `container mount` keeps no record: the mount is found by looking, and a start uses it as its root, for two overlays must
//!   not share an upper directory.
//! - A container has copies of its secrets, made at create: a start never depends on the store. Rejected: reading the store
//!   at each start.
//! - `system reset` removes object by object through their own removals and the database last, so that it can be killed at any
//!   moment without a record of its own. Rejected: a marker that later commands would have to look for.
//! - A list reads the records once and looks once at each container; only one whose monitor does not live is settled.
//! - An exec is the child of the command that asked for it, not of the monitor: its streams need no relay.
//! - User namespaces are per container and only on request (`--userns auto`, `--uidmap`, `--gidmap`); `--userns host` is the
//!   default spelled out. What `auto` lends is a row that goes with the container's. Rejected: one remapping for the whole engine (Docker's `userns-remap`), which splits the store by mapping. On disk
//!   volumes and uppers keep the container's ids, so a volume can be shared with and without mappings; binds of host
//!   paths are shown unmapped, as with Docker.
//! - Volumes with a file system of their own (`type=`, `device=`) are mounted by each container's monitor, detached, and
//!   attached in the container alone: nothing can leak, whoever is killed. Rejected: one mount below the data root as Docker
//!   has it, which somebody has to take down. Only a tmpfs is mounted below the run root, since its users are to share it.
//! - `O` on a bind is an overlay whose upper is dropped at the end of the container, at the latest with its next start or
//!   removal. `U` writes only what has another owner, through descriptors, and refuses directories of the system.
//! - `size=` of a plain volume is a quota of the file system (a project on ext4 and XFS, a subvolume on btrfs), or an error that names
//!   what the file system lacks. Rejected: a loop device for each (an image to grow, a mount to keep), and counting ourselves.
//! - The network namespace of such a container belongs to its user namespace: it is cloned with init and the monitor
//!   connects it at every start. So are its PID, IPC and UTS namespaces, and joining those of others is refused, where its
//!   root would have no rights, unless they share the user namespace (`--userns container:`).
//! - A pod's namespaces are held by bind mounts of their files under the run root: they live without a process and without a
//!   member, which a CRI sandbox needs, and a reboot clears them with the run root. A bind mount can be left by a killed
//!   command: whoever makes one has recorded the pod as started before, so the next command finds a started pod without the
//!   marker that is written last, and unmounts. Its link leaves the bridge by name and not with the namespace, so that a copy
//!   of the mount in some other mount namespace keeps no address alive. Rejected: a pause process for each pod (memory, a
//!   process to supervise, and killing it ends the pod); descriptors in the members' monitors (a pod without a running
//!   member would lose its network, and System V memory would not outlive a restart of its only member).
//! - Only a shared PID namespace needs a process, for it lives as long as its PID 1: a stage of our own binary in an empty
//!   root without rights, since members may look into it. Killed, it takes the members along, and the pod is down.
//! - A pod's address and ports are leased to the pod: a member has none. The sockets that hold the host ports go to the
//!   monitors of the members that start, as copies of those of the members that run (pidfd_getfd(2)); without a running
//!   member another program, but no container, could take a port.
//! - A pod that was started in a mount namespace that does not reach ours is left alone, not taken for dead.
//! - Members take the pod's lock while they hold their own; so whoever holds a pod's lock never waits for a member. `pod rm`
//!   therefore records `Removing` first, and lets go of the lock before it removes members.

mod build_cache;
mod check;
mod cni;
mod commit;
mod container;
mod copy;
mod defaults;
mod diff;
mod distribute;
mod error;
mod events;
mod filter;
mod host;
mod image;
mod inspect;
mod list;
mod login;
mod logs;
mod migrate;
mod missing;
mod network;
mod observe;
mod pod;
pub mod request;
mod reset;
mod secret;
mod settings;
mod stats;
pub mod status_text;
#[cfg(test)]
mod tests;
mod usage;
mod volume;

use crate::base::{Cancel, Privilege, Timestamp};
use crate::image::{Progress, RegistryConfig};
use crate::monitor::{Client, LogLine, LogQuery};
use crate::oci::Reference;
use crate::state::record;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

pub use crate::runtime::cgroup::Pressure;
pub use crate::state::events::{Event, Kind as EventKind};
pub use build_cache::{CacheFilters, CacheLimits, CachePolicy, CacheUsage, DIGESTS, DOWNLOADS, MAKING, digits as cache_digits};
pub use cni::CniSettings;
pub use commit::CommitOptions;
pub use container::Revived;
pub use container::{Apart, CloneContainer, Condition, Sandbox, Step as BuildStep, StepMount, StepSource};
pub use copy::{PathStat, pack_trees, unpack_archive};
pub use defaults::Defaults;
pub use diff::ChangeKind;
pub use distribute::{ArtifactRequest, ListAnnotation, ManifestView};
pub use error::Error;
pub use events::EventQuery;
pub use filter::{parse_interval, parse_time};
pub use host::{Host, LOG_DRIVERS, NETWORKS};
pub use image::{ImportOptions, Step};
pub use inspect::{builtin_id, builtin_matches};
pub use migrate::Migration;
pub use network::{CreateNetwork, Subnet};
pub use pod::PodView;
pub use reset::reset_unreadable;
pub use secret::SECRET_LIMIT;
pub use settings::Settings;
pub use usage::{ContainerUsage, Sum, Usage, VolumeUsage};
type Result<T> = std::result::Result<T, Error>;

/// The hidden stages: None when this process was not started as one. `main` calls it before anything else.
pub fn stage() -> Option<std::process::ExitCode> {
    container::monitor_stage()
        .or_else(container::step_stage)
        .or_else(container::exec_stage)
        .or_else(pod::pause_stage)
        .or_else(crate::runtime::stand_in_stage)
        .or_else(crate::image::sync_stage)
}

/// One engine on one pair of roots.
pub struct Engine {
    pub(crate) privilege: Privilege,
    pub(crate) db: crate::state::Db,
    pub(crate) registry: RegistryConfig,
    /// What new containers get that say nothing else.
    pub(crate) defaults: Defaults,
    /// See [`Settings::id_pool`].
    pub(crate) id_pool: Vec<(u32, u32)>,
    pub(crate) cni: CniSettings,
    /// systemd's `NOTIFY_SOCKET`, for containers that are to tell when they are ready.
    pub(crate) notify_socket: Option<std::path::PathBuf>,
    /// Ends pulls, pushes, downloads and builds of this engine.
    pub(crate) cancel: Cancel,
    /// What the cache of builds may take.
    pub(crate) cache_policy: CachePolicy,
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
    /// When a restarting container is started again, if that is known.
    pub next_start: Option<Timestamp>,
    /// None: its health is not probed, or it was never started.
    pub health: Option<crate::monitor::Health>,
}

/// A started (or created) container with a connection to its monitor.
pub struct Attached {
    pub id: crate::base::ContainerId,
    pub client: Client,
    pub tty: bool,
}

/// A running exec, and what is to be said at its end.
pub struct Execution {
    pub running: crate::runtime::Running,
    pub ended: ExecEnd,
}

/// Outlives the engine that started the exec: whoever waits for it needs no database.
pub struct ExecEnd {
    roots: crate::base::Roots,
    event: Event,
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
        Ok(Engine {
            privilege,
            db,
            registry,
            defaults: Defaults::default(),
            id_pool: Vec::new(),
            cni: CniSettings::default(),
            notify_socket: None,
            cancel: Cancel::default(),
            cache_policy: CachePolicy::default(),
        })
    }

    /// Another one on the same roots with the same settings: for another thread.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn again(&self) -> Result<Self> {
        Ok(Engine {
            privilege: self.privilege.clone(),
            db: crate::state::Db::open(&self.privilege.roots)?,
            registry: self.registry.clone(),
            defaults: self.defaults.clone(),
            id_pool: self.id_pool.clone(),
            cni: self.cni.clone(),
            notify_socket: self.notify_socket.clone(),
            cancel: self.cancel.clone(),
            cache_policy: self.cache_policy,
        })
    }

    /// With the settings' defaults for new containers.
    pub fn with_defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Prunes the cache of builds as the settings say.
    #[must_use]
    pub fn with_cache_policy(self, cache_policy: CachePolicy) -> Self {
        Engine { cache_policy, ..self }
    }

    /// What takes long ends with `cancel`.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Engine { cancel, ..self }
    }

    /// Lends host ids to user namespaces from these ranges (first id and size) instead of the system's.
    #[must_use]
    pub fn with_id_pool(self, id_pool: Vec<(u32, u32)>) -> Self {
        Engine { id_pool, ..self }
    }

    /// Finds CNI networks and plugins as the settings say.
    #[must_use]
    pub fn with_cni(self, cni: CniSettings) -> Self {
        Engine { cni, ..self }
    }

    /// Where what is started from now on tells that it is ready, if it is to.
    #[must_use]
    pub fn with_notify_socket(self, notify_socket: Option<std::path::PathBuf>) -> Self {
        Engine { notify_socket, ..self }
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
