//! `import`: an image from a tar of files.

use super::context::Context;
use super::failure::Failure;
use super::{output, session};
use crate::engine::ImportOptions;
use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

/// Make an image from a tar of files
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, …
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Message of the image's history
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Platform of the image: os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// File, http(s) URL, or - for stdin
    #[arg(value_name = "FILE|URL|-")]
    pub source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// # Errors
/// The source cannot be read, or it is no tar.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut input: Box<dyn Read + Send> = match args.source.as_str() {
        "-" if session::stdin_is_tty() => {
            return Err(Failure::invalid("requested import from stdin, but stdin is a terminal").with_hint("name a file, or redirect stdin"));
        }
        "-" => Box::new(io::stdin()),
        url if url.starts_with("http://") || url.starts_with("https://") => Box::new(engine.open_url(url)?),
        path => Box::new(File::open(path).map_err(|e| Failure::caused(format!("cannot open {path}"), &e))?),
    };
    let options = ImportOptions {
        source: args.source,
        changes: args.change,
        message: args.message,
        platform: context.platform(args.platform),
        name: args.name,
    };
    output::line(engine.import(&mut *input, &options)?)?;
    Ok(ExitCode::SUCCESS)
}
