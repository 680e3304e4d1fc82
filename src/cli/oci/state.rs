//! `state`.

use super::{Context, parse};
use crate::cli::failure::Failure;
use crate::cli::output;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Print the state of a container as JSON.
#[derive(Parser, Debug)]
struct State {
    id: String,
}

pub fn state(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: State = parse("state", args)?;
    let state = context.open(&flags.id)?.state()?;
    let text = serde_json::to_string_pretty(&state).map_err(|error| Failure::caused("cannot print the state", &error))?;
    output::line(text)?;
    Ok(ExitCode::SUCCESS)
}
