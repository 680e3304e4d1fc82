//! # base
//! ## Lives here
//! Small domain values that every room shares (ids, names, sizes, times, durations, signals), the `Undo` stack,
//! file operations whose errors carry the path, copies of trees, opening beneath a hostile root, headers of tars, failpoints,
//! tables of processes, settings files, the wish to end early,
//! and where this process keeps its data.
//! ## Invariants
//! A value that parsed is valid: no bare `String` id, size or signal crosses a door.
//! ## Not here
//! System calls (`sys`), the standards' types (`oci`), anything that knows what a container is.
//! ## Decisions
//! - jiff for calendar time (maintained, RFC 3339 and zones) rather than chrono or our own.
//! - Failpoints are our own 40 lines instead of the `fail` crate: we need "kill -9 yourself here",
//!   named from the environment of a child process.
//! - Settings are read from the `toml` crate's own tables instead of through serde: each value keeps its place in
//!   the file, so that every error names the line, and a room reads its own section without a type that knows all.

pub mod address;
mod cancel;
pub mod chown_tree;
mod clock;
pub mod copy_tree;
pub mod csv;
mod detach_keys;
mod duration;
mod error;
pub mod failpoint;
pub mod fs;
pub mod held;
mod id;
mod marks;
mod nearest;
mod process_table;
pub mod rooted;
mod roots;
pub mod settings;
mod signal;
mod size;
mod staged;
pub mod tar_entry;
mod undo;
pub mod xattr;

pub use cancel::{Cancel, Watch, Writer};
pub use clock::Timestamp;
pub use detach_keys::DetachKeys;
pub use duration::go_duration;
pub use error::ErrorKind;
pub use id::{ContainerId, ContainerName, IdError, PodId, PodName, VolumeName, random_hex};
pub use nearest::nearest;
pub use process_table::{ContainerNames, ProcessTable, PsError, descriptors, user_name};
pub use roots::{Privilege, Roots};
pub use signal::Signal;
pub use size::{ByteSize, Space};
pub use staged::Staged;
pub use undo::Undo;
