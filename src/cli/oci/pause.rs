//! `pause` and `resume`.

use super::{Context, parse};
use crate::cli::failure::Failure;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Suspend every process of a container.
#[derive(Parser, Debug)]
struct Pause {
    id: String,
}

/// Let the processes of a paused container run again.
#[derive(Parser, Debug)]
struct Resume {
    id: String,
}

pub fn pause(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Pause = parse("pause", args)?;
    context.open(&flags.id)?.pause()?;
    Ok(ExitCode::SUCCESS)
}

pub fn resume(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Resume = parse("resume", args)?;
    context.open(&flags.id)?.resume()?;
    Ok(ExitCode::SUCCESS)
}
