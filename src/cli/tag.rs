//! `tag`.

use super::context::Context;
use super::failure::Failure;
use std::process::ExitCode;

/// Give an image a further name
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    pub source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    pub target: String,
}

/// # Errors
/// The source does not exist, or the target is malformed.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.tag(&args.source, &args.target)?;
    Ok(ExitCode::SUCCESS)
}
