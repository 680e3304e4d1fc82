//! `pod stats`: resource use of the containers of pods.

use super::Targets;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::stats::{CLEAR, INTERVAL, row};
use crate::cli::{output, session, template};
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.Pod}}\t{{.CID}}\t{{.Name}}\t{{.CPU}}\t{{.MemUsage}}\t{{.Mem}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}";
const TITLES: &[(&str, &str)] = &[
    ("Pod", "POD"),
    ("CID", "CID"),
    ("Name", "NAME"),
    ("CPU", "CPU %"),
    ("MemUsage", "MEM USAGE/ LIMIT"),
    ("Mem", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("PIDS", "PIDS"),
];

/// Show resource use of the containers of pods
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show one sample and quit
    #[arg(long)]
    pub no_stream: bool,
    /// Do not clear the terminal between samples
    #[arg(long)]
    pub no_reset: bool,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    #[command(flatten)]
    pub targets: Targets,
}

/// # Errors
/// No such pod, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    if args.targets.all && !args.targets.pods.is_empty() {
        return Err(Failure::invalid("conflicting options: --all and names of pods").with_code(USAGE));
    }
    let engine = context.engine()?;
    loop {
        let views = engine.pod_stats(&args.targets.pods, INTERVAL)?;
        let rows: Vec<Value> = views.iter().map(|(pod, view)| rename(pod.short(), &row(view, None, true))).collect();
        let text = match args.format.as_deref() {
            Some("json") => {
                let text = serde_json::to_string_pretty(&rows).map_err(|error| Failure::caused("cannot write the statistics", &error))?;
                format!("{text}\n")
            }
            format => template::list(format, TABLE, TITLES, &rows)?,
        };
        let is_table = args.format.as_deref().is_none_or(|format| format.starts_with("table"));
        if !args.no_stream && !args.no_reset && is_table && session::stdout_is_tty() {
            output::raw(CLEAR)?;
        }
        output::raw(&text)?;
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Podman's names of the columns of `stats`.
fn rename(pod: &str, row: &Value) -> Value {
    json!({
        "CPU": row["CPUPerc"],
        "MemUsage": row["MemUsage"],
        "Mem": row["MemPerc"],
        "NetIO": row["NetIO"],
        "BlockIO": row["BlockIO"],
        "PIDS": row["PIDs"],
        "Pod": pod,
        "CID": row["ID"],
        "Name": row["Name"],
    })
}
