//! # sys
//! ## Lives here
//! Raw system calls that the safe crates lack, one family a file.
//! ## Invariants
//! APIs take and give owned or borrowed descriptors; each `unsafe` block argues its case.
//! ## Not here
//! Policy.
//! ## Decisions
//! - `rustix` is used directly by every room; only what it lacks is here.

pub mod clone;
pub mod mount;
pub mod namespace;
pub mod prctl;
pub mod process;
pub mod pidfd_signal;
pub mod bpf;
pub mod seccomp;
pub mod proc_stat;
pub mod private_mounts;
