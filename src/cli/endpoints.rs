//! `context`: Docker's list of engines. There is one, this host, under Docker's own name for it: `default`.

use super::context::Context;
use super::failure::Failure;
use super::inspect::show;
use super::{output, template};
use serde_json::{Value, json};
use std::process::ExitCode;

const NAME: &str = "default";
const DESCRIPTION: &str = "This host, without a daemon";
const TABLE: &str = "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
const TITLES: &[(&str, &str)] =
    &[("Name", "NAME"), ("Current", "CURRENT"), ("Description", "DESCRIPTION"), ("DockerEndpoint", "DOCKER ENDPOINT"), ("Error", "ERROR")];

/// List contexts: only "default", this host
#[derive(clap::Parser, Debug)]
pub struct ListArgs {
    /// Only show names
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// Print the name of the context in use
#[derive(clap::Parser, Debug)]
pub struct ShowArgs {}

/// Use a context: only "default" exists
#[derive(clap::Parser, Debug)]
pub struct UseArgs {
    #[arg(value_name = "CONTEXT")]
    pub name: String,
}

/// Show everything about contexts
#[derive(clap::Parser, Debug)]
pub struct InspectArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    #[arg(value_name = "CONTEXT")]
    pub names: Vec<String>,
}

fn missing(name: &str) -> Failure {
    Failure::invalid(format!("no such context: {name}: only \"{NAME}\", this host, exists")).with_code(1)
}

/// # Errors
/// A malformed template.
pub fn list(args: ListArgs, _context: &Context) -> Result<ExitCode, Failure> {
    if args.quiet {
        output::line(NAME)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = json!({ "Current": true, "Description": DESCRIPTION, "DockerEndpoint": "", "Error": "", "Name": NAME });
    output::raw(&template::list(args.format.as_deref(), TABLE, TITLES, &[row])?)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// stdout cannot be written.
pub fn current(_args: ShowArgs, _context: &Context) -> Result<ExitCode, Failure> {
    output::line(NAME)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// Another one than the one that exists.
pub fn choose(args: UseArgs, _context: &Context) -> Result<ExitCode, Failure> {
    if args.name != NAME {
        return Err(missing(&args.name));
    }
    output::line(NAME)?;
    output::talk(format_args!("Current context is now \"{NAME}\""));
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// Another one than the one that exists, or a malformed template.
pub fn inspect(args: InspectArgs, _context: &Context) -> Result<ExitCode, Failure> {
    let names = if args.names.is_empty() { vec![NAME.to_owned()] } else { args.names };
    show(&names, args.format.as_deref(), |name| if name == NAME { Ok(document()) } else { Err(missing(name)) })
}

fn document() -> Value {
    json!({
        "Name": NAME,
        "Metadata": { "Description": DESCRIPTION },
        "Endpoints": { "docker": { "Host": "", "SkipTLSVerify": false } },
        "TLSMaterial": {},
        "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
    })
}
