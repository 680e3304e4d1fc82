//! `pause` and `unpause`.

use super::context::Context;
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Pause all processes of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Resume all processes of containers
#[derive(clap::Parser, Debug)]
pub struct UnpauseArgs {
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// The engine cannot be opened.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.containers, |name| Ok(engine.pause(name)?))
}

/// # Errors
/// The engine cannot be opened.
pub fn unpause(args: UnpauseArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.containers, |name| Ok(engine.unpause(name)?))
}
