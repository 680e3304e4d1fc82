//! `pull`: fetches an image from a registry.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::progress::Progress;
use crate::oci::Reference;
use std::process::ExitCode;

/// Download an image from a registry
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Only print the image's name
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Platform of the image: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Ignored
    #[arg(long, hide = true)]
    pub disable_content_trust: bool,
    /// NAME[:TAG|@DIGEST]
    pub image: String,
}

/// # Errors
/// A malformed name, or the image cannot be fetched.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let reference: Reference = args.image.parse().map_err(|e| Failure::invalid(format!("invalid reference \"{}\": {e}", args.image)))?;
    if !args.quiet && reference.tag() == Some("latest") && !args.image.ends_with(":latest") {
        output::line("Using default tag: latest")?;
    }
    let platform = context.platform(args.platform);
    let progress = Progress::new(args.quiet, false);
    let pulled = context.engine()?.pull(&args.image, platform.as_deref(), &|event| progress.show(event))?;
    progress.finish();
    if !args.quiet {
        output::line(format_args!("Digest: {}", pulled.digest))?;
        let status = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
        output::line(format_args!("Status: {status} {}", reference.familiar()))?;
    }
    output::line(&reference)?;
    Ok(ExitCode::SUCCESS)
}
