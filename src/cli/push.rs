//! `push`: sends images to a registry.

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::progress::Progress;
use crate::image::{CompressionFormat, PushOptions};
use crate::oci::Reference;
use std::path::PathBuf;
use std::process::ExitCode;

/// Upload an image to a registry
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Push every tag of the repository
    #[arg(short = 'a', long)]
    pub all_tags: bool,
    /// Only print the image's name
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Fail unless the image is for this platform: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// Compress layers as gzip or zstd (default: as they came, else gzip)
    #[arg(long, value_name = "FORMAT")]
    pub compression_format: Option<CompressionFormat>,
    /// Compress layers anew with this level: 1 to 9 for gzip, 1 to 20 for zstd
    #[arg(long, value_name = "LEVEL")]
    pub compression_level: Option<i32>,
    /// Write the manifest's digest to this file
    #[arg(long, value_name = "FILE")]
    pub digestfile: Option<PathBuf>,
    /// Only true: there is no other content trust than the trust policy
    #[arg(long, hide = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = crate::cli::flags::no_content_trust)]
    pub disable_content_trust: bool,
    /// NAME[:TAG]
    pub image: String,
}

/// # Errors
/// There is no such image, or the registry does not take it.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let references = engine.push_references(&args.image, args.all_tags)?;
    let options = PushOptions { format: args.compression_format, level: args.compression_level, ..PushOptions::default() };
    let Some(first) = references.first() else { return Ok(ExitCode::SUCCESS) };
    if !args.quiet {
        if !args.all_tags && default_tag(&args.image, first) {
            output::line("Using default tag: latest")?;
        }
        output::line(format_args!("The push refers to repository [{}]", first.name()))?;
    }
    let mut digests = String::new();
    for reference in &references {
        let progress = Progress::new(args.quiet, false);
        let pushed = engine.push(reference, args.platform.as_deref(), &options, &|event| progress.show(event))?;
        progress.finish();
        digests.push_str(&format!("{}\n", pushed.digest));
        if !args.quiet {
            let tag = reference.tag().unwrap_or_default();
            output::line(format_args!("{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
        }
    }
    if let Some(path) = &args.digestfile {
        let written = std::fs::write(path, digests.trim_end());
        written.map_err(|e| Failure::caused(format!("cannot write {}", path.display()), &e))?;
    }
    if args.quiet {
        output::line(if args.all_tags { first.name() } else { first.to_string() })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The user left the tag out.
fn default_tag(typed: &str, reference: &Reference) -> bool {
    reference.tag() == Some("latest") && !typed.ends_with(":latest")
}
