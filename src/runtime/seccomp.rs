//! Seccomp: Docker-format and OCI profiles compiled to one classic BPF program.
//!
//! Invariants: the filter checks the architecture first and kills the process on one that the profile does not name;
//! no system call number reaches `ALLOW` without a rule (or default action) that says so.

mod abi;
mod names;
mod profile;
mod program;
#[cfg(test)]
mod tests;

pub use crate::sys::seccomp::Instruction;
pub use profile::{default_profile, docker_profile};
pub use program::compile;

use crate::base::ErrorKind;
use crate::sys::seccomp as call;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use std::os::fd::OwnedFd;

/// What is wrong with a profile, or why it cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read seccomp profile")]
    Parse(#[source] serde_json::Error),
    #[error("seccomp profile names both \"architectures\" and \"archMap\"")]
    TwoArchitectureLists,
    #[error("invalid kernel version \"{0}\" in seccomp profile: expected MAJOR.MINOR")]
    KernelVersion(String),
    #[error("seccomp error number {0} is above 65535")]
    Errno(u32),
    #[error("seccomp action {action:?} takes no error number, but {number} is given")]
    ErrnoOfAction { action: LinuxSeccompAction, number: u32 },
    #[error("a seccomp rule has no \"names\"")]
    NoNames,
    #[error("seccomp listenerMetadata is given without listenerPath")]
    MetadataAlone,
    #[error("seccomp rule for \"{syscall}\" tests argument {index}: there are 0 to 5")]
    Argument { syscall: String, index: usize },
    #[error("seccomp rule for \"{syscall}\" tests {count} arguments: at most 6 are possible")]
    Conditions { syscall: String, count: usize },
    #[error("seccomp filters cannot be built for this machine's architecture")]
    Architecture,
    #[error("seccomp profile needs {0} instructions: the kernel takes 4096")]
    TooLong(usize),
    #[error("cannot load seccomp filter")]
    Load(#[source] std::io::Error),
}

impl Error {
    /// All but loading is the profile's fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Load(_) => ErrorKind::Forbidden,
            Error::Architecture => ErrorKind::Unsupported,
            _ => ErrorKind::Invalid,
        }
    }
}

/// The flags of seccomp(2) for a profile: its own, or `SPEC_ALLOW` when it names none (as runc), plus `NEW_LISTENER`
/// when it notifies ([`needs_listener`]).
pub fn flags(seccomp: &LinuxSeccomp) -> u32 {
    let own = match seccomp.flags() {
        None => call::FLAG_SPEC_ALLOW,
        Some(list) => list.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    LinuxSeccompFilterFlag::SeccompFilterFlagLog => call::FLAG_LOG,
                    LinuxSeccompFilterFlag::SeccompFilterFlagTsync => call::FLAG_TSYNC,
                    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => call::FLAG_SPEC_ALLOW,
                    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => call::FLAG_WAIT_KILLABLE_RECV,
                }
        }),
    };
    // The kernel takes TSYNC beside NEW_LISTENER only with another flag; the stage that loads has one thread anyway.
    if needs_listener(seccomp) { own & !call::FLAG_TSYNC | call::FLAG_NEW_LISTENER } else { own }
}

/// Whether some rule sends its calls to the agent at `listenerPath`.
pub fn needs_listener(seccomp: &LinuxSeccomp) -> bool {
    let notify = LinuxSeccompAction::ScmpActNotify;
    seccomp.default_action() == notify || seccomp.syscalls().iter().flatten().any(|rule| rule.action() == notify)
}

/// Loads a compiled program into the calling thread; see [`flags`]. Allocates nothing.
///
/// # Errors
/// [`Error::Load`]: the caller must not go on to execute the container's program.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>, Error> {
    call::load(program, flags).map_err(Error::Load)
}
