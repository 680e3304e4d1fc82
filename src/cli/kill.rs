//! `kill`: sends a signal.

use super::context::Context;
use super::failure::Failure;
use super::targets::{Targets, alive};
use super::{output, stop};
use std::process::ExitCode;

/// Send a signal to running containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Signal: KILL, SIGHUP, 10, …
    #[arg(short = 's', long, default_value = "KILL")]
    pub signal: String,
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// An unknown signal.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let signal = stop::signal(&args.signal)?;
    let engine = context.engine()?;
    output::each(&args.targets.resolve(&engine, alive)?, |name| Ok(engine.kill(name, signal)?))
}
