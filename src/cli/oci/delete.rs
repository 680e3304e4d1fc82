//! `delete`.

use super::{Context, parse, quick};
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
    let flags = match args {
        [flag, id] if flag == "--force" => quick::only_id(std::slice::from_ref(id)).map(|id| Delete { force: true, id }),
        _ => quick::only_id(args).map(|id| Delete { force: false, id }),
    };
    let flags = flags.map_or_else(|| parse("delete", args), Ok)?;
    let opened = context.store.open(&Id::parse(&flags.id)?);
    match opened.and_then(|container| container.delete(flags.force)) {
        Err(Error::NotFound(_)) if flags.force => {}
        other => other?,
    }
    Ok(ExitCode::SUCCESS)
}
