//! `secret create`, `ls`, `inspect`, `rm`, `exists`.

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::ps::{filters, labels};
use super::template::{self, LABELS};
use super::{humanise, inspect, output, session};
use crate::base::Timestamp;
use crate::engine::SECRET_LIMIT;
use crate::engine::request::env;
use serde_json::{Value, json};
use std::io::Read;
use std::process::ExitCode;

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";
const TITLES: &[(&str, &str)] =
    &[("ID", "ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED"), ("Labels", "LABELS")];

/// Store a secret from a file, a variable or stdin (-)
#[derive(clap::Parser, Debug)]
pub struct CreateArgs {
    /// Set a label
    #[arg(short = 'l', long, value_name = "K=V")]
    pub label: Vec<String>,
    /// The second argument is the name of a variable
    #[arg(long)]
    pub env: bool,
    /// Replace a secret of the same name
    #[arg(long)]
    pub replace: bool,
    pub name: String,
    #[arg(value_name = "FILE|-")]
    pub source: String,
}

/// List secrets
#[derive(clap::Parser, Debug)]
pub struct ListArgs {
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Filter: id=…, name=…, label=k=v
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// Show everything about secrets but what they hold
#[derive(clap::Parser, Debug)]
pub struct InspectArgs {
    /// Format: json, or a Go template
    #[arg(short = 'f', long)]
    pub format: Option<String>,
    /// Show what they hold, too
    #[arg(long)]
    pub showsecret: bool,
    #[arg(required = true, value_name = "SECRET")]
    pub names: Vec<String>,
}

/// Remove secrets
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    /// Remove all
    #[arg(short = 'a', long)]
    pub all: bool,
    /// A missing secret is no failure
    #[arg(short = 'i', long)]
    pub ignore: bool,
    #[arg(required_unless_present = "all", value_name = "SECRET")]
    pub names: Vec<String>,
}

/// Say by the exit code whether a secret exists: 0, or 1
#[derive(clap::Parser, Debug)]
pub struct ExistsArgs {
    pub name: String,
}

/// # Errors
/// The source cannot be read; a malformed or taken name.
pub fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, Failure> {
    let labels = args.label.iter().map(|text| env::key_value("--label", text)).collect::<Result<_, _>>()?;
    let data = match args.source.as_str() {
        variable if args.env => {
            let value =
                std::env::var_os(variable).ok_or_else(|| Failure::invalid(format!("--env: the variable {variable} is not set")).with_code(USAGE))?;
            std::os::unix::ffi::OsStringExt::into_vec(value)
        }
        "-" if session::stdin_is_tty() => return Err(Failure::invalid("the secret is to come from stdin, but stdin is a terminal").with_code(USAGE)),
        "-" => bounded(&mut std::io::stdin().lock(), "stdin")?,
        path => {
            let mut file = std::fs::File::open(path).map_err(|e| Failure::caused(format!("cannot open {path}"), &e))?;
            bounded(&mut file, path)?
        }
    };
    output::line(context.engine()?.create_secret(&args.name, &data, labels, args.replace)?)?;
    Ok(ExitCode::SUCCESS)
}

/// No more than a byte beyond what a secret may hold.
fn bounded(from: &mut dyn Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    from.take(SECRET_LIMIT as u64 + 1).read_to_end(&mut data).map_err(|e| Failure::caused(format!("cannot read {name}"), &e))?;
    Ok(data)
}

/// # Errors
/// An unknown filter or a malformed template.
pub fn list(args: ListArgs, context: &Context) -> Result<ExitCode, Failure> {
    let secrets = context.engine()?.secrets(&filters(&args.filter)?)?;
    if args.quiet && args.format.is_none() {
        for secret in &secrets {
            output::line(&secret.id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let row = |secret: &crate::state::secret::Secret| -> Value {
        json!({
            "ID": secret.id,
            "Name": secret.name,
            "Driver": secret.driver,
            "CreatedAt": humanise::ago(secret.created, now),
            "UpdatedAt": humanise::ago(secret.updated, now),
            "Labels": labels(&secret.labels),
            LABELS: secret.labels,
        })
    };
    let rows: Vec<Value> = secrets.iter().map(row).collect();
    let format = args.format.as_deref().or_else(|| context.setting("secretFormat"));
    output::raw(&template::list(format, TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// A malformed template.
pub fn inspect(args: InspectArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    inspect::show(&args.names, args.format.as_deref(), |name| Ok(engine.inspect_secret(name, args.showsecret)?))
}

/// # Errors
/// The engine cannot be opened.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let names = if args.all { engine.secrets(&[])?.into_iter().map(|secret| secret.name).collect() } else { args.names };
    output::each(&names, |name| match engine.remove_secret(name).map_err(Failure::from) {
        Err(failure) if args.ignore && is_missing(&failure) => Ok(()),
        other => other,
    })
}

/// # Errors
/// It cannot be found out.
pub fn exists(args: ExistsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.secret(&args.name) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == crate::base::ErrorKind::NotFound => Ok(ExitCode::from(1)),
        Err(error) => Err(error.into()),
    }
}
