//! `kill`.

use super::{Context, parse};
use crate::base::Signal;
use crate::cli::failure::Failure;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Send a signal to a container's first process.
#[derive(Parser, Debug)]
struct Kill {
    /// Send it to every process of the container
    #[arg(short = 'a', long)]
    all: bool,
    id: String,
    /// Name or number; SIGTERM by default
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    signal: String,
}

pub fn kill(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Kill = parse("kill", args)?;
    let container = context.open(&flags.id)?;
    if flags.signal == "0" {
        // kill(2): no signal, but the answer whether there is somebody to get one.
        return match container.init()? {
            Some(_) => Ok(ExitCode::SUCCESS),
            None => Err(Failure::invalid("container not running")),
        };
    }
    let signal: Signal = flags.signal.parse().map_err(|error: String| Failure::invalid(error))?;
    container.kill(signal, flags.all)?;
    Ok(ExitCode::SUCCESS)
}
