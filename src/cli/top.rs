//! `top`: the processes of a container.

use super::context::Context;
use super::failure::Failure;
use super::{output, table};
use std::process::ExitCode;

/// Show the processes of a container
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Container, and options for ps or columns: user, pid, hpid, comm, args, …
    #[arg(trailing_var_arg = true, required = true, value_name = "CONTAINER [PS OPTIONS]")]
    pub words: Vec<String>,
}

/// # Errors
/// The container does not run.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let (name, options) = args.words.split_first().ok_or_else(|| Failure::invalid("the container is missing"))?;
    let process = context.engine()?.top(name, options)?;
    let mut lines = vec![process.titles.join("\t")];
    // A tab inside a cell would shift the columns.
    lines.extend(process.rows.iter().map(|row| row.iter().map(|cell| cell.replace('\t', " ")).collect::<Vec<_>>().join("\t")));
    output::raw(&table::layout(&lines, 20))?;
    Ok(ExitCode::SUCCESS)
}
