//! # sys

pub mod bpf;
pub mod seccomp;
