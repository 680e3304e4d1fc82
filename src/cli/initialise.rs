//! `init`: sets containers up without starting them.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::targets::Targets;
use crate::engine::Status;
use std::process::ExitCode;

/// Set containers up to where only their program is missing: start runs it
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// The engine cannot be opened; `--all` beside names.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let names = args.targets.resolve(&engine, |status| status == Status::Created)?;
    output::each(&names, |name| Ok(engine.init(&engine.view(name)?.record.id)?))
}
