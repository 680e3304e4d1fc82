//! `system boot`, `system supervise` and `system shutdown`: what the systemd units of the package call.

use super::context::Context;
use super::failure::Failure;
use super::output;
use crate::engine::Revived;
use std::process::ExitCode;

/// Start what its restart policy wants after a boot, and try again until it runs
#[derive(clap::Parser, Debug)]
pub struct Args {}

/// Bring back containers whose monitor died, and try again until they run
#[derive(clap::Parser, Debug)]
pub struct SuperviseArgs {}

/// Stop all containers, each with its signal and time; the next boot starts them again
#[derive(clap::Parser, Debug)]
pub struct ShutdownArgs {}

/// # Errors
/// The database cannot be read or written.
pub fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut ready = || {
        if let Err(error) = crate::sys::notify::ready() {
            output::talk(format_args!("warning: cannot tell systemd that the containers were started: {error}"));
        }
    };
    context.engine()?.boot(&mut ready, &mut say)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The database cannot be read or written.
pub fn supervise(_args: SuperviseArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.supervise(&mut say)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// A container cannot be stopped.
pub fn shutdown(_args: ShutdownArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

/// One line for the journal.
fn say(revived: Revived) {
    let name = revived.name;
    match revived.failure {
        None => output::talk(format_args!("container \"{name}\" started")),
        Some((why, Some(next))) => output::talk(format_args!("container \"{name}\" does not start, next try at {next}: {why}")),
        Some((why, None)) => output::talk(format_args!("container \"{name}\" does not start and is given up: {why}")),
    }
}
