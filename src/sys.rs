//! # sys
//! ## Lives here
//! Raw system calls that the safe crates lack and parsers of kernel files, one family a file.
//! ## Invariants
//! APIs take and give owned or borrowed descriptors; each `unsafe` block argues its case.
//! ## Not here
//! Policy.
//! ## Decisions
//! - `rustix` is the safe system call layer and is used directly by every room; only what it lacks is here.
//!   Rejected: wrapping all of it once more, which adds names and no safety; `nix` beside it, a second set of types.
//! - A detached process is started by hand (two nested vfork-like clones). Rejected: `std::process::Command`, which leaves
//!   the caller a child to reap and cannot execute a descriptor.
//! - The executable begins in `early`, not in the C library (`build.rs` names the entry point): commands that execute
//!   themselves anew do so before anything is set up. Rejected: doing it in `main`, which costs 0.4 ms more.
//! - There, too, a container's network namespace is begun, on another processor, from a glance at the config: it takes as long
//!   as the start of the C library. Rejected: a thread of ours alone, which begins a millisecond later.
//! - The release is linked with musl where it can be (`packaging/target.sh`): glibc's start asks `cpuid` some 90 times, each a
//!   trip to the hypervisor on a virtual machine; `rcon --version` takes 0.7 ms instead of 1.8, and an OCI `run` 0.54 x crun
//!   instead of 0.62. Pulls are as fast (1.85 s for the 600 MB Debian image with both). glibc stays supported: nothing but the
//!   heap's settings asks which it is.

pub mod activation;
pub mod bpf;
pub mod clone;
pub mod dependent;
#[cfg(all(target_arch = "x86_64", target_feature = "crt-static"))]
pub mod early;
pub mod file_owner;
pub mod file_view;
pub mod heap;
pub mod keyring;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod netns;
pub mod notify;
pub mod own_strings;
pub mod peer;
pub mod pidfd_signal;
pub mod private_mounts;
pub mod proc_stat;
pub mod process;
pub mod quota;
pub mod rights;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod signal_state;
pub mod signalfd;
pub mod spawn;
