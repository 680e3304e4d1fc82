//! `list`.

use super::{Context, Format, parse};
use crate::cli::failure::Failure;
use crate::cli::{output, table};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Least width of a column.
const WIDTH: usize = 12;

/// List the containers of --root.
#[derive(Parser, Debug)]
struct List {
    /// table or json
    #[arg(short = 'f', long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Show ids only
    #[arg(short = 'q', long)]
    quiet: bool,
}

pub fn list(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: List = parse("list", args)?;
    let containers = context.store.list()?;
    if flags.quiet {
        for container in containers {
            output::line(&container.record().id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut states = Vec::with_capacity(containers.len());
    for container in containers {
        match container.state() {
            Ok(state) => states.push(state),
            Err(error) => tracing::warn!("container {}: {}", container.id(), Failure::from(error).one_line()),
        }
    }
    match flags.format {
        Format::Json => output::line(serde_json::to_string(&states).map_err(|error| Failure::caused("cannot print the list", &error))?)?,
        Format::Table => {
            let mut lines = vec!["ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER".to_owned()];
            for state in &states {
                let bundle = output::cell(&state.bundle);
                let line = format!("{}\t{}\t{}\t{bundle}\t{}\t{}", state.id, state.pid, state.status, state.created, output::cell(&state.owner));
                lines.push(line);
            }
            output::raw(&table::layout(&lines, WIDTH))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
