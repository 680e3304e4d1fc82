//! `delete`.

use super::{Context, parse};
use crate::cli::failure::Failure;
use crate::runtime::Error;
use crate::runtime::container::Id;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Remove a stopped container and all that was made for it.
#[derive(Parser, Debug)]
struct Delete {
    /// Kill it first if it runs; one that does not exist is fine
    #[arg(short = 'f', long)]
    force: bool,
    id: String,
}

pub fn delete(args: &[OsString], context: &Context) -> Result<ExitCode, Failure> {
    let flags: Delete = parse("delete", args)?;
    let opened = context.store.open(&Id::parse(&flags.id)?);
    match opened.and_then(|container| container.delete(flags.force)) {
        Err(Error::NotFound(_)) if flags.force => {}
        other => other?,
    }
    Ok(ExitCode::SUCCESS)
}
