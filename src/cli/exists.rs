//! `container exists`.

use super::context::Context;
use super::failure::Failure;
use crate::base::ErrorKind;
use std::process::ExitCode;

/// Say by the exit code whether a container exists: 0, or 1
#[derive(clap::Parser, Debug)]
pub struct Args {
    pub container: String,
}

/// # Errors
/// It cannot be found out.
pub fn container(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.view(&args.container) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(ExitCode::from(1)),
        Err(error) => Err(error.into()),
    }
}
