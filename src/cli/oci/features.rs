//! `features`.

use super::{Context, parse};
use crate::cli::failure::Failure;
use crate::cli::output;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Print what this runtime supports, as the document of the runtime-spec.
#[derive(Parser, Debug)]
struct Features {}

pub fn features(args: &[OsString], _: &Context) -> Result<ExitCode, Failure> {
    let _: Features = parse("features", args)?;
    let document = crate::runtime::features::document(super::SPEC_VERSION);
    output::line(serde_json::to_string_pretty(&document).map_err(|error| Failure::caused("cannot print the features", &error))?)?;
    Ok(ExitCode::SUCCESS)
}
