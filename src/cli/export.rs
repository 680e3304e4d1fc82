//! `export`: a container's files as a tar.

use super::context::Context;
use super::failure::{self, Failure};
use super::{save, session};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the files of a container to a tar archive
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Write to this file instead of stdout
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    pub container: String,
}

/// # Errors
/// stdout is a terminal, the container does not exist, or the archive cannot be written.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = match (&args.output, session::stdout_is_tty()) {
        (None, true) => {
            return Err(Failure::invalid("cowardly refusing to write a tar to a terminal").with_hint("use -o FILE, or redirect stdout"));
        }
        _ => context.engine()?,
    };
    let export = |out: &mut dyn Write| engine.export(&args.container, out).map_err(Failure::from);
    match &args.output {
        Some(path) => save::to_file(path, export)?,
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            export(&mut out)?;
            out.flush().map_err(|e| failure::output(&e))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
