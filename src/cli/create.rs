//! `create`: makes a container without starting it, and prints its id.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::options::Options;
use super::output;
use super::progress::Progress;
use super::run::{self, CidFile};
use crate::engine::request::pod;
use std::process::ExitCode;

/// Create a container without starting it
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// In a pod: run to the end before the others start, once or always
    #[arg(long, value_name = "WHEN")]
    pub init_ctr: Option<String>,
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
    let mut request = args.options.request(&args.words, streams, context)?;
    if let Some(text) = &args.init_ctr {
        let init = pod::parse_init(text)?;
        let join = request.pod.as_mut().ok_or_else(|| Failure::invalid("--init-ctr needs --pod").with_code(USAGE))?;
        join.init = Some(init);
    }
    let cidfile = CidFile::create(args.options.cidfile.as_deref())?;
    if args.options.extras.rmi {
        return Err(Failure::invalid("--rmi is only possible with run").with_code(USAGE));
    }
    let engine = context.engine()?;
    run::replace(&engine, &args.options)?;
    let progress = Progress::new(args.options.quiet, true);
    let created = engine.create(&request, &|event| progress.show(event))?;
    progress.finish();
    output::warnings(&created.warnings);
    cidfile.keep(created.record.id.as_str())?;
    output::line(&created.record.id)?;
    Ok(ExitCode::SUCCESS)
}
