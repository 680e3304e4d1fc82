//! `commit`: an image from a container's changes.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::output;
use crate::engine::CommitOptions;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make an image from the changes of a container
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Author of the image
    #[arg(short = 'a', long, value_name = "NAME")]
    pub author: Option<String>,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, …
    #[arg(short = 'c', long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Message of the image's history
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Pause a running container meanwhile
    #[arg(short = 'p', long, default_value = "true")]
    pub pause: bool,
    /// Do not pause a running container
    #[arg(long)]
    pub no_pause: bool,
    /// Format of the manifest that save and push write: oci or docker
    #[arg(short = 'f', long, default_value = "oci", value_name = "FORMAT")]
    pub format: String,
    /// Make one layer of everything
    #[arg(short = 's', long)]
    pub squash: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    pub container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// # Errors
/// No such container, a malformed name or instruction, or the layer cannot be made.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let docker_format = match args.format.as_str() {
        "oci" => false,
        "docker" => true,
        other => return Err(Failure::invalid(format!("invalid value \"{other}\" for --format: expected oci or docker")).with_code(USAGE)),
    };
    let options = CommitOptions {
        name: args.name,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: args.pause && !args.no_pause,
        squash: args.squash,
        docker_format,
    };
    let id = context.engine()?.commit(&args.container, &options)?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, &id).map_err(|e| Failure::caused(format!("cannot write the image ID file {}", path.display()), &e).with_code(USAGE))?;
    }
    output::line(id)?;
    Ok(ExitCode::SUCCESS)
}
