//! `pause` and `unpause`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::targets::Targets;
use crate::engine::Status;
use std::process::ExitCode;

/// Pause all processes of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    pub targets: Targets,
}

/// Resume all processes of containers
#[derive(clap::Parser, Debug)]
pub struct UnpauseArgs {
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// The engine cannot be opened; `--all` beside names.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.targets.resolve(&engine, |status| status == Status::Running)?, |name| Ok(engine.pause(name)?))
}

/// # Errors
/// The engine cannot be opened; `--all` beside names.
pub fn unpause(args: UnpauseArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.targets.resolve(&engine, |status| status == Status::Paused)?, |name| Ok(engine.unpause(name)?))
}
