//! # base
//! ## Lives here
//! Small domain values that every room shares (ids, names, sizes, times, signals), the `Undo` stack,
//! file operations whose errors carry the path, copies of trees, opening beneath a hostile root, failpoints, tables of processes, and where
//! this process keeps its data.
//! ## Invariants
//! A value that parsed is valid: no bare `String` id, size or signal crosses a door.
//! ## Not here
//! System calls (`sys`), the standards' types (`oci`), anything that knows what a container is.
//! ## Decisions
//! - jiff for calendar time (maintained, RFC 3339 and zones) rather than chrono or our own.
//! - Failpoints are our own 40 lines instead of the `fail` crate: we need "kill -9 yourself here",
//!   named from the environment of a child process.

mod clock;
pub mod copy_tree;
mod error;
pub mod failpoint;
pub mod fs;
mod id;
mod process_table;
pub mod rooted;
mod roots;
mod signal;
mod size;
mod undo;
pub mod xattr;

pub use clock::Timestamp;
pub use error::ErrorKind;
pub use id::{ContainerId, ContainerName, IdError, VolumeName, random_hex};
pub use process_table::{ProcessTable, PsError, user_name};
pub use roots::{Privilege, Roots};
pub use signal::Signal;
pub use size::ByteSize;
pub use undo::Undo;
