//! `logout`: forgets the credentials of a registry.

use super::context::Context;
use super::failure::Failure;
use super::{login, output};
use std::process::ExitCode;

/// Log out of a registry
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// HOST[:PORT] of the registry; Docker Hub by default
    pub server: Option<String>,
}

/// # Errors
/// The docker config file or the credential helper cannot be changed.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let server = args.server.unwrap_or_default();
    let known = context.engine()?.logout(&server)?;
    let words = if known { "Removing login credentials for" } else { "Not logged in to" };
    output::line(format_args!("{words} {}", login::shown(&server)))?;
    Ok(ExitCode::SUCCESS)
}
