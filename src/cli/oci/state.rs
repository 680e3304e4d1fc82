//! `state`.

use super::{Context, parse, quick};
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
    let id = quick::only_id(args).map_or_else(|| parse("state", args).map(|flags: State| flags.id), Ok)?;
    let state = context.open(&id)?.state()?;
    let text = serde_json::to_string_pretty(&state).map_err(|error| Failure::caused("cannot print the state", &error))?;
    output::line(text)?;
    Ok(ExitCode::SUCCESS)
}
