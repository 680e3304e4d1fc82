//! `start`.

use super::notify::Notify;
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
    let container = context.open(&flags.id)?;
    let notify = Notify::bind(container.dir())?;
    container.start()?;
    if let Some(notify) = notify
        && let Some((pid, pidfd)) = container.init()?
    {
        notify.forward(pid, &pidfd)?;
    }
    Ok(ExitCode::SUCCESS)
}
