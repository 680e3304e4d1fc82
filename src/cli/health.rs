//! `healthcheck run`: probes the health of a container now.

use super::context::Context;
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Check the health of a running container now
#[derive(clap::Parser, Debug)]
pub struct Args {
    pub container: String,
}

/// # Errors
/// It has no health check or does not run (exit code 125, as with podman); unhealthy is exit code 1.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if context.engine()?.probe(&args.container).map_err(|error| Failure::from(error).with_code(super::failure::USAGE))? {
        return Ok(ExitCode::SUCCESS);
    }
    output::line("unhealthy")?;
    Ok(ExitCode::from(1))
}
