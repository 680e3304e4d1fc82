//! `volume create`, `volume ls`, `volume rm`.

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::output;
use super::ps::{filters, labels};
use super::template::{self, LABELS};
use crate::engine::request::env;
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.Driver}}\t{{.Name}}";
const TITLES: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Size", "SIZE"),
    ("Links", "LINKS"),
];

/// Create a volume
#[derive(clap::Parser, Debug)]
pub struct CreateArgs {
    /// Driver: local
    #[arg(short = 'd', long, default_value = "local")]
    pub driver: String,
    /// Set a label
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Name (a random one without)
    #[arg(value_name = "VOLUME")]
    pub name: Option<String>,
}

/// List volumes
#[derive(clap::Parser, Debug)]
pub struct ListArgs {
    /// Only show names
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Filter: dangling=true, name=…, driver=…, label=k=v
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// Remove volumes
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    /// A missing volume is no failure
    #[arg(short = 'f', long)]
    pub force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// # Errors
/// A malformed name or label, or another driver than local.
pub fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, Failure> {
    if args.driver != "local" {
        return Err(Failure::invalid(format!("--driver: \"{}\" is not supported; only local is", args.driver)).with_code(USAGE));
    }
    let labels = args.label.iter().map(|text| env::key_value("--label", text)).collect::<Result<Vec<_>, _>>()?;
    output::line(context.engine()?.create_volume(args.name.as_deref(), &labels)?.name)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// An unknown filter or a malformed template.
pub fn list(args: ListArgs, context: &Context) -> Result<ExitCode, Failure> {
    let volumes = context.engine()?.volumes(&filters(&args.filter)?)?;
    if args.quiet && args.format.is_none() {
        for volume in &volumes {
            output::line(&volume.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let root = context.privilege.roots.volumes();
    let rows: Vec<Value> = volumes
        .iter()
        .map(|volume| {
            json!({
                "Driver": volume.driver,
                "Labels": labels(&volume.labels),
                "Links": "N/A",
                "Mountpoint": root.join(volume.name.as_str()).join("_data").display().to_string(),
                "Name": volume.name.as_str(),
                "Scope": "local",
                "Size": "N/A",
                LABELS: volume.labels,
            })
        })
        .collect();
    let format = args.format.as_deref().or_else(|| context.setting("volumesFormat"));
    output::raw(&template::list(format, TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.volumes, |name| match engine.remove_volume(name, args.force).map_err(Failure::from) {
        Err(failure) if args.force && is_missing(&failure) => Ok(()),
        other => other,
    })
}
