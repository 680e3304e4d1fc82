//! `checkpoint` and `restore`: refused by name.

use super::Context;
use crate::cli::failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

pub fn checkpoint(_: &[OsString], _: &Context) -> Result<ExitCode, Failure> {
    Err(refused("checkpoint"))
}

pub fn restore(_: &[OsString], _: &Context) -> Result<ExitCode, Failure> {
    Err(refused("restore"))
}

fn refused(verb: &str) -> Failure {
    Failure::invalid(format!("{verb} is not supported: {} cannot save the state of running processes", super::NAME))
}
