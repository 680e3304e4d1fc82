//! `start`.

use super::notify::Notify;
use super::{Context, parse, quick};
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
    let id = quick::only_id(args).map_or_else(|| parse("start", args).map(|flags: Start| flags.id), Ok)?;
    let container = context.open(&id)?;
    let notify = Notify::bind(container.dir())?;
    container.start()?;
    if let Some(notify) = notify
        && let Some((pid, pidfd)) = container.init()?
    {
        notify.forward(pid, &pidfd)?;
    }
    Ok(ExitCode::SUCCESS)
}
