//! `ps`.

use super::{Context, Format, parse_in_order};
use crate::base::ProcessTable;
use crate::cli::failure::Failure;
use crate::cli::{output, table};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Show the processes of a container.
#[derive(Parser, Debug)]
struct Ps {
    /// table, or json for the bare pids
    #[arg(short = 'f', long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container, then options for the host's ps; without any, as ps -ef
    #[arg(trailing_var_arg = true, required = true, value_name = "CONTAINER [PS OPTIONS]")]
    words: Vec<String>,
}

pub fn ps(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Ps = parse_in_order("ps", args)?;
    let (id, options) = flags.words.split_first().ok_or_else(|| Failure::invalid("container id cannot be empty"))?;
    let mut pids = context.open(id)?.pids()?;
    pids.sort_unstable();
    if flags.format == Format::Json {
        output::line(serde_json::to_string(&pids).map_err(|error| Failure::caused("cannot print the list", &error))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let processes = if options.is_empty() {
        ProcessTable::of(&pids).map_err(|error| Failure::caused("cannot read the process table", &error))?
    } else {
        ProcessTable::of_host(options, &pids).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => Failure::caused(error.to_string(), source),
            None => Failure::invalid(error.to_string()),
        })?
    };
    let line = |cells: &[String]| cells.iter().map(|cell| output::cell(cell).into_owned()).collect::<Vec<_>>().join("\t");
    let mut lines = vec![line(&processes.titles)];
    lines.extend(processes.rows.iter().map(|row| line(row)));
    output::raw(&table::layout(&lines, 0))?;
    Ok(ExitCode::SUCCESS)
}
