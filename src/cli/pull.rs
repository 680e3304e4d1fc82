//! `pull`: fetches an image from a registry.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::progress::Progress;
use crate::engine::Engine;
use crate::oci::Reference;
use std::process::ExitCode;

/// Download an image from a registry
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Pull every tag of the repository
    #[arg(short = 'a', long)]
    pub all_tags: bool,
    /// Only print the image's name
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Platform of the image: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Only true: there is no other content trust than the trust policy
    #[arg(long, hide = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = crate::cli::flags::no_content_trust)]
    pub disable_content_trust: bool,
    /// NAME[:TAG|@DIGEST]
    pub image: String,
}

/// # Errors
/// A malformed name, or the image cannot be fetched.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let reference: Reference = args.image.parse().map_err(|e: String| Failure::invalid(e))?;
    let platform = context.platform(args.platform);
    let engine = context.engine()?;
    if args.all_tags {
        let references = engine.remote_tags(&args.image)?;
        for reference in &references {
            one(&engine, reference, platform.as_deref(), args.quiet)?;
        }
        // As docker does, which names the repository where it pulled all of it.
        output::line(reference.name())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.quiet && reference.tag() == Some("latest") && !args.image.ends_with(":latest") {
        output::line("Using default tag: latest")?;
    }
    one(&engine, &reference, platform.as_deref(), args.quiet)?;
    output::line(&reference)?;
    Ok(ExitCode::SUCCESS)
}

/// Pulls one reference and says what came of it.
fn one(engine: &Engine, reference: &Reference, platform: Option<&str>, quiet: bool) -> Result<(), Failure> {
    let progress = Progress::new(quiet, false);
    let pulled = engine.pull(&reference.to_string(), platform, &|event| progress.show(event))?;
    progress.finish();
    if !quiet {
        output::line(format_args!("Digest: {}", pulled.digest))?;
        let status = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
        output::line(format_args!("Status: {status} {}", reference.familiar()))?;
    }
    Ok(())
}
