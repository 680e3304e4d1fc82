//! `create`: makes a container without starting it, and prints its id.

use super::context::Context;
use super::failure::Failure;
use super::options::Options;
use super::output;
use super::progress::Progress;
use super::run::CidFile;
use std::process::ExitCode;

/// Create a container without starting it
#[derive(clap::Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    pub options: Options,
    /// Image, command and arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    pub words: Vec<String>,
}

/// # Errors
/// A malformed flag (exit code 125), or the engine cannot create it (1).
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let streams = args.options.streams(false)?;
    let request = args.options.request(&args.words, streams, context)?;
    let cidfile = CidFile::create(args.options.cidfile.as_deref())?;
    let progress = Progress::new(args.options.quiet, true);
    let created = context.engine()?.create(&request, &|event| progress.show(event))?;
    progress.finish();
    output::warnings(&created.warnings);
    cidfile.keep(created.record.id.as_str())?;
    output::line(&created.record.id)?;
    Ok(ExitCode::SUCCESS)
}
