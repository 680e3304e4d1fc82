//! `stop` and `restart`.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::output;
use crate::base::Signal;
use std::process::ExitCode;

/// Stop running containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Seconds to wait before killing (-1: for ever, 0: at once)
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    pub timeout: Option<i64>,
    /// Signal to send first
    #[arg(short = 's', long)]
    pub signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Restart containers
#[derive(clap::Parser, Debug)]
pub struct RestartArgs {
    #[command(flatten)]
    pub args: Args,
}

/// Reads a `--signal` value.
///
/// # Errors
/// No such signal.
pub fn signal(text: &str) -> Result<Signal, Failure> {
    text.parse().map_err(|e: String| Failure::invalid(e).with_code(USAGE))
}

/// # Errors
/// An unknown signal.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let signal = args.signal.as_deref().map(signal).transpose()?;
    let engine = context.engine()?;
    output::each(&args.containers, |name| Ok(engine.stop(name, signal, args.timeout)?))
}

/// # Errors
/// An unknown signal.
pub fn restart(args: RestartArgs, context: &Context) -> Result<ExitCode, Failure> {
    let args = args.args;
    let signal = args.signal.as_deref().map(signal).transpose()?;
    let engine = context.engine()?;
    output::each(&args.containers, |name| Ok(engine.restart(name, signal, args.timeout)?))
}
