//! `ps`: lists containers.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::template::{self, LABELS};
use super::{humanise, output, ports};
use crate::base::{ByteSize, Timestamp};
use crate::engine::request::network;
use crate::engine::{Engine, Status, View};
use crate::state::record::{Mount, MountKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const SIZE_COLUMN: &str = "\t{{.Size}}";
/// Widest image or command shown without `--no-trunc`.
const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

/// List containers
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show all containers, not only running ones
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Filter: status=exited, name=…, label=k=v, …
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Show the last N created containers
    #[arg(short = 'n', long, value_name = "N")]
    pub last: Option<i64>,
    /// Show the latest created container
    #[arg(short = 'l', long)]
    pub latest: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Show sizes
    #[arg(short = 's', long)]
    pub size: bool,
}

/// `key=value` pairs of `--filter`.
///
/// # Errors
/// One without `=` (exit code 1, as Docker).
pub fn filters(list: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned())),
        _ => Err(Failure::invalid(format!("invalid filter \"{text}\": expected key=value")).with_code(USAGE)),
    };
    list.iter().map(pair).collect()
}

/// # Errors
/// An unknown filter or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    let limit = match (args.latest, args.last) {
        (true, _) => Some(1),
        (false, Some(n)) => usize::try_from(n).ok().filter(|n| *n > 0),
        (false, None) => None,
    };
    let engine = context.engine()?;
    let all = args.all || limit.is_some() || filters.iter().any(|(key, _)| key == "status");
    let mut views = engine.list(all, &filters)?;
    views.truncate(limit.unwrap_or(usize::MAX));
    if args.quiet && args.format.is_none() {
        for view in &views {
            let id = &view.record.id;
            output::line(if args.no_trunc { id.as_str() } else { id.short() })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let format = args.format.as_deref().or_else(|| context.setting("psFormat"));
    let with_size = args.size || format.is_some_and(|format| format.contains(".Size"));
    let now = Timestamp::now();
    let rows = views.iter().map(|view| row(&engine, view, with_size, !args.no_trunc, now)).collect::<Result<Vec<_>, _>>()?;
    let table = if args.size { format!("{TABLE}{SIZE_COLUMN}") } else { TABLE.to_owned() };
    output::raw(&template::list(format, &table, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(engine: &Engine, view: &View, with_size: bool, trunc: bool, now: Timestamp) -> Result<Value, Failure> {
    let record = &view.record;
    let spec = &record.spec;
    let live = matches!(view.status, Status::Running | Status::Paused);
    let size = if with_size {
        let (own, total) = engine.container_size(view)?;
        format!("{} (virtual {})", ByteSize(own).decimal(), ByteSize(total).decimal())
    } else {
        "0B".to_owned()
    };
    let image = match spec.image.strip_prefix("sha256:").filter(|hex| trunc && hex.len() == 64) {
        Some(hex) => hex[..12].to_owned(),
        None => spec.image.clone(),
    };
    let mounts: Vec<String> =
        spec.mounts.iter().filter_map(mount_name).map(|name| if trunc { humanise::ellipsis(&name, MOUNT_WIDTH) } else { name }).collect();
    let volumes = spec.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume { .. })).count();
    Ok(json!({
        "Command": command(spec.process.entrypoint.as_deref(), spec.process.cmd.as_deref(), trunc),
        "CreatedAt": humanise::local(record.created),
        "ID": if trunc { record.id.short() } else { record.id.as_str() },
        "Image": image,
        "Labels": labels(&spec.labels),
        "LocalVolumes": volumes.to_string(),
        "Mounts": mounts.join(","),
        "Names": record.name.as_str(),
        "Networks": network::name(&spec.host.network),
        "Platform": spec.platform,
        "Ports": if live { ports::column(&record.published, &spec.exposed) } else { String::new() },
        "RunningFor": humanise::ago(record.created, now),
        "Size": size,
        "State": view.status.as_str(),
        "Status": humanise::status(view, now),
        LABELS: spec.labels,
    }))
}

/// `k=v,k2=v2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn mount_name(mount: &Mount) -> Option<String> {
    match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.display().to_string()),
        MountKind::Volume { name, .. } => Some(name.as_str().to_owned()),
        MountKind::Tmpfs { .. } => None,
    }
}

/// Path and arguments in quotes, shortened to Docker's width.
fn command(entrypoint: Option<&[String]>, cmd: Option<&[String]>, trunc: bool) -> String {
    let words = entrypoint.unwrap_or_default().iter().chain(cmd.unwrap_or_default());
    let line = words.map(|word| if word.contains(' ') { format!("'{word}'") } else { word.clone() }).collect::<Vec<_>>().join(" ");
    let line = if trunc { humanise::ellipsis(&line, COMMAND_WIDTH) } else { line };
    // One row is one line, whatever the arguments hold.
    format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_cut() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(command(None, Some(&words(&["sh", "-c", "exit 1"])), true), "\"sh -c 'exit 1'\"");
        assert_eq!(command(Some(&words(&["/docker-entrypoint.sh"])), Some(&words(&["nginx"])), true), "\"/docker-entrypoint.…\"");
        assert_eq!(command(Some(&words(&["a\nb"])), None, false), "\"a\\nb\"");
    }

    #[test]
    fn filter_pairs() {
        assert_eq!(filters(&["Label=a=b".to_owned(), "status=exited".to_owned()]).unwrap()[0], ("label".to_owned(), "a=b".to_owned()));
        assert!(filters(&["x".to_owned()]).is_err() && filters(&["=x".to_owned()]).is_err());
    }
}
