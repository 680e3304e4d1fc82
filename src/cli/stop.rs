//! `stop` and `restart`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::targets::{self, Targets, alive};
use crate::base::Signal;
use crate::engine::Status;
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
    #[command(flatten)]
    pub targets: Targets,
}

/// Restart containers
#[derive(clap::Parser, Debug)]
#[command(mut_arg("containers", |arg| arg.required_unless_present_any(["all", "cidfile", "filter", "running"])))]
pub struct RestartArgs {
    #[command(flatten)]
    pub args: Args,
    /// Only those that run; without names all of them
    #[arg(long)]
    pub running: bool,
}

/// Reads a `--signal` value.
///
/// # Errors
/// No such signal.
pub fn signal(text: &str) -> Result<Signal, Failure> {
    text.parse().map_err(|e: String| Failure::invalid(e))
}

/// # Errors
/// An unknown signal.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let signal = args.signal.as_deref().map(signal).transpose()?;
    let engine = context.engine()?;
    output::each(&args.targets.resolve(&engine, alive)?, |name| Ok(engine.stop(name, signal, args.timeout)?))
}

/// # Errors
/// An unknown signal.
pub fn restart(args: RestartArgs, context: &Context) -> Result<ExitCode, Failure> {
    let (running, args) = (args.running, args.args);
    let signal = args.signal.as_deref().map(signal).transpose()?;
    let engine = context.engine()?;
    let mut names = args.targets.resolve(&engine, alive)?;
    if running {
        if names.is_empty() && !args.targets.all {
            names = targets::matching(&engine, &args.targets.filter, alive)?;
        }
        names.retain(|name| engine.view(name).is_ok_and(|view| view.status == Status::Running));
    }
    output::each(&names, |name| Ok(engine.restart(name, signal, args.timeout)?))
}
