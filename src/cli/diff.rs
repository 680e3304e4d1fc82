//! `diff`: what a container changed.

use super::context::Context;
use super::failure::Failure;
use super::output;
use crate::engine::ChangeKind;
use serde_json::json;
use std::process::ExitCode;

/// Show the files that a container added (A), changed (C) and deleted (D)
#[derive(clap::Parser, Debug)]
pub struct Args {
    pub container: String,
    /// json for one document with the lists "added", "changed" and "deleted"
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// # Errors
/// The container does not exist, or another format than json.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if let Some(format) = args.format.as_deref().filter(|format| *format != "json") {
        return Err(Failure::invalid(format!("the only --format is json, not \"{format}\"")));
    }
    let changes = context.engine()?.diff(&args.container)?;
    if args.format.is_some() {
        let of = |kind| -> Vec<_> { changes.iter().filter(|change| change.kind == kind).map(|change| change.path.display().to_string()).collect() };
        let document = json!({"added": of(ChangeKind::Added), "changed": of(ChangeKind::Changed), "deleted": of(ChangeKind::Deleted)});
        output::line(document)?;
        return Ok(ExitCode::SUCCESS);
    }
    for change in changes {
        let letter = match change.kind {
            ChangeKind::Changed => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        output::line(format_args!("{letter} {}", output::cell(&change.path.to_string_lossy())))?;
    }
    Ok(ExitCode::SUCCESS)
}
