//! `stats`: resource use of containers, once or as a live table.

use super::context::Context;
use super::failure::Failure;
use super::{output, session, template};
use crate::base::ByteSize;
use crate::engine::{StatsView, Status};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show resource use of containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show all containers, not only running ones
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Show one sample and quit
    #[arg(long)]
    pub no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// # Errors
/// No such container, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let format = args.format.as_deref().or_else(|| context.setting("statsFormat"));
    loop {
        let views = engine.stats(&args.containers, args.all, INTERVAL)?;
        let rows: Vec<Value> = views.iter().enumerate().map(|(i, view)| row(view, args.containers.get(i), !args.no_trunc)).collect();
        let text = template::list(format, TABLE, TITLES, &rows)?;
        let is_table = format.is_none_or(|format| format.starts_with("table"));
        if !args.no_stream && is_table && session::stdout_is_tty() {
            output::raw(CLEAR)?;
        }
        output::raw(&text)?;
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn row(view: &StatsView, typed: Option<&String>, trunc: bool) -> Value {
    let record = &view.view.record;
    let stats = &view.stats;
    let id = if trunc { record.id.short() } else { record.id.as_str() };
    let container = typed.map_or(id, String::as_str);
    if !matches!(view.view.status, Status::Running | Status::Paused) {
        return json!({
            "BlockIO": "--", "CPUPerc": "--", "Container": container, "ID": id, "MemPerc": "--", "MemUsage": "-- / --", "Name": record.name.as_str(),
            "NetIO": "--", "PIDs": "--",
        });
    }
    let percent = if stats.memory_limit == 0 { 0.0 } else { stats.memory_usage as f64 / stats.memory_limit as f64 * 100.0 };
    json!({
        "BlockIO": format!("{} / {}", short(stats.block_read), short(stats.block_write)),
        "CPUPerc": format!("{:.2}%", view.cpu_percent),
        "Container": container,
        "ID": id,
        "MemPerc": format!("{percent:.2}%"),
        "MemUsage": format!("{} / {}", ByteSize(stats.memory_usage).binary(), ByteSize(stats.memory_limit).binary()),
        "Name": record.name.as_str(),
        "NetIO": format!("{} / {}", short(view.rx), short(view.tx)),
        "PIDs": stats.pids.to_string(),
    })
}

fn short(bytes: u64) -> String {
    ByteSize(bytes).decimal()
}
