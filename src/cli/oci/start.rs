//! `start`.

use super::{Context, parse};
use crate::cli::failure::Failure;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Start a created container.
#[derive(Parser, Debug)]
struct Start {
    id: String,
}

pub fn start(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Start = parse("start", args)?;
    context.open(&flags.id)?.start()?;
    Ok(ExitCode::SUCCESS)
}
