//! `version` and `--version`.

use super::context::Context;
use super::failure::Failure;
use super::{output, template};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show the version
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `rcon --version`.
///
/// # Errors
/// stdout cannot be written.
pub fn short() -> Result<ExitCode, Failure> {
    output::line(format_args!("rcon version {VERSION}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Go's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// # Errors
/// A malformed template.
pub fn run(args: Args, _context: &Context) -> Result<ExitCode, Failure> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    // Client and server are one program here; scripts ask for either.
    let part = json!({"Version": VERSION, "Os": "linux", "Arch": architecture(), "KernelVersion": kernel});
    let document: Value = json!({"Client": part, "Server": part});
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::raw(&template::one(format, &document)?)?,
        None => {
            output::raw(&format!("Client and engine: rcon\n Version:    {VERSION}\n OS/Arch:    linux/{}\n Kernel:     {kernel}\n", architecture()))?
        }
    }
    Ok(ExitCode::SUCCESS)
}
