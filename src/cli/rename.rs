//! `rename`.

use super::context::Context;
use super::failure::Failure;
use std::process::ExitCode;

/// Rename a container
#[derive(clap::Parser, Debug)]
pub struct Args {
    pub container: String,
    pub new_name: String,
}

/// # Errors
/// The container does not exist, or the name is malformed or taken.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.rename(&args.container, args.new_name.trim_start_matches('/'))?;
    Ok(ExitCode::SUCCESS)
}
