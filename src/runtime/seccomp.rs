//! Seccomp: Docker-format and OCI profiles compiled to one classic BPF program.

use oci_spec::runtime::LinuxSeccomp;

/// STUB errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

/// The built-in default profile (Docker-equivalent), resolved for a capability set (names without `CAP_`).
#[allow(unused_variables)]
pub fn default_profile(caps: &[String]) -> LinuxSeccomp {
    unimplemented!()
}

/// A Docker-format profile (JSON with includes/excludes) resolved for a capability set and this kernel.
#[allow(unused_variables)]
pub fn docker_profile(json: &str, caps: &[String]) -> Result<LinuxSeccomp, Error> {
    unimplemented!()
}

/// One `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// The BPF program of an OCI seccomp section.
#[allow(unused_variables)]
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    unimplemented!()
}
