//! `ps`: lists containers.

mod namespaces;
mod sort;

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::template::{self, LABELS};
use super::{humanise, output, ports};
use crate::base::{ByteSize, Timestamp};
use crate::engine::request::network;
use crate::engine::{Engine, Status, View};
use crate::state::record::{Container, Mount, MountKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const POD_COLUMNS: &str = "\t{{.Pod}}\t{{.PodName}}";
const SIZE_COLUMN: &str = "\t{{.Size}}";
/// Widest image or command shown without `--no-trunc`.
const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

/// In the order of JSON.
const FIELDS: [&str; 18] = [
    "Command",
    "CreatedAt",
    "HealthStatus",
    "ID",
    "Image",
    "Labels",
    "LocalVolumes",
    "Mounts",
    "Names",
    "Networks",
    "Platform",
    "Pod",
    "PodName",
    "Ports",
    "RunningFor",
    "Size",
    "State",
    "Status",
];
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
    ("HealthStatus", "HEALTH STATUS"),
    ("Pod", "POD ID"),
    ("PodName", "PODNAME"),
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
    /// Order: command, created, id, image, names, runningfor, size or status
    #[arg(long, value_name = "FIELD")]
    pub sort: Option<String>,
    /// Show the namespaces of the containers
    #[arg(long, visible_alias = "namespace")]
    pub ns: bool,
    /// Show it again every N seconds
    #[arg(short = 'w', long, value_name = "SECONDS")]
    pub watch: Option<u64>,
    /// Show the pods
    #[arg(short = 'p', long)]
    pub pod: bool,
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
    let Some(seconds) = args.watch else {
        output::raw(&text(&args, context)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    if seconds == 0 {
        return Err(Failure::invalid("--watch: at least one second").with_code(USAGE));
    }
    loop {
        // Once is asked before the screen is touched: an error must stay readable.
        let text = text(&args, context)?;
        if super::session::stdout_is_tty() {
            // ECMA-48: cursor home, erase to the end of the screen.
            output::raw("\x1b[H\x1b[J")?;
        }
        output::raw(&text)?;
        std::thread::sleep(std::time::Duration::from_secs(seconds));
    }
}

/// What is shown at one time.
fn text(args: &Args, context: &Context) -> Result<String, Failure> {
    let filters = filters(&args.filter)?;
    let order = args.sort.as_deref().map(str::parse::<sort::Order>).transpose().map_err(|e| Failure::invalid(e).with_code(USAGE))?;
    let limit = match (args.latest, args.last) {
        (true, _) => Some(1),
        (false, Some(n)) => usize::try_from(n).ok().filter(|n| *n > 0),
        (false, None) => None,
    };
    let engine = context.engine()?;
    let all = args.all || limit.is_some() || filters.iter().any(|(key, _)| key == "status");
    let mut views = engine.list(all, &filters)?;
    views.truncate(limit.unwrap_or(usize::MAX));
    if let Some(order) = order {
        sort::sort(&mut views, order, &engine)?;
    }
    if args.quiet && args.format.is_none() {
        let shown = |view: &View| if args.no_trunc { view.record.id.as_str().to_owned() } else { view.record.id.short().to_owned() };
        return Ok(views.iter().map(|view| shown(view) + "\n").collect());
    }
    if args.ns {
        return namespaces::table(&views, args.format.as_deref(), !args.no_trunc);
    }
    let format = args.format.as_deref().or_else(|| context.setting("psFormat"));
    let with_size = args.size || format.is_some_and(|format| format.contains(".Size"));
    let now = Timestamp::now();
    let table = format!("{TABLE}{}{}", if args.size { SIZE_COLUMN } else { "" }, if args.pod { POD_COLUMNS } else { "" });
    let shown = Shown { with_size, trunc: !args.no_trunc, now, fields: template::fields(format, &table, &FIELDS) };
    let rows = views.iter().map(|view| row(&engine, view, &shown)).collect::<Result<Vec<_>, _>>()?;
    template::list(format, &table, TITLES, &rows)
}

/// How rows are made.
struct Shown {
    with_size: bool,
    trunc: bool,
    now: Timestamp,
    /// Those that the format names; None: it may ask for any.
    fields: Option<Vec<String>>,
}

fn row(engine: &Engine, view: &View, shown: &Shown) -> Result<Value, Failure> {
    let all = || FIELDS.iter().copied().chain([LABELS]).collect();
    let fields: Vec<&str> = shown.fields.as_ref().map_or_else(all, |fields| fields.iter().map(String::as_str).collect());
    let cell = |name: &&str| Ok(((*name).to_owned(), field(engine, view, shown, name)?));
    fields.iter().map(cell).collect::<Result<_, Failure>>().map(Value::Object)
}

fn field(engine: &Engine, view: &View, shown: &Shown, name: &str) -> Result<Value, Failure> {
    let record = &view.record;
    let (spec, trunc, now) = (&record.spec, shown.trunc, shown.now);
    let pod = spec.pod.as_ref().map(|membership| &membership.pod);
    let live = matches!(view.status, Status::Running | Status::Paused);
    let text: String = match name {
        "Command" => command(spec.process.entrypoint.as_deref(), spec.process.cmd.as_deref(), trunc),
        "CreatedAt" => humanise::local(record.created),
        "HealthStatus" => view.health.as_ref().map_or("none", |health| health.status.as_str()).to_owned(),
        "ID" => (if trunc { record.id.short() } else { record.id.as_str() }).to_owned(),
        "Image" => match spec.image.strip_prefix("sha256:").filter(|hex| trunc && hex.len() == 64) {
            Some(hex) => hex[..12].to_owned(),
            None => spec.image.clone(),
        },
        "Labels" => labels(&spec.labels),
        "LocalVolumes" => spec.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume { .. })).count().to_string(),
        "Mounts" => {
            let names = spec.mounts.iter().filter_map(mount_name);
            names.map(|name| if trunc { humanise::ellipsis(&name, MOUNT_WIDTH) } else { name }).collect::<Vec<_>>().join(",")
        }
        "Names" => record.name.as_str().to_owned(),
        "Networks" => networks(record),
        "Platform" => spec.platform.clone(),
        "Pod" => pod.map_or("", |pod| if trunc { pod.short() } else { pod.as_str() }).to_owned(),
        "PodName" => pod.map(|pod| engine.find_pod(pod.as_str())).transpose()?.map_or_else(String::new, |pod| pod.name.to_string()),
        "Ports" if live => ports::column(&record.published, &spec.exposed),
        "RunningFor" => humanise::ago(record.created, now),
        "Size" if shown.with_size => {
            let (own, total) = engine.container_size(view)?;
            format!("{} (virtual {})", ByteSize(own).decimal(), ByteSize(total).decimal())
        }
        "Size" => "0B".to_owned(),
        "State" => view.status.as_str().to_owned(),
        "Status" => humanise::status(view, now),
        LABELS => return Ok(json!(spec.labels)),
        _ => String::new(),
    };
    Ok(text.into())
}

/// The names of its networks, or its mode.
fn networks(record: &Container) -> String {
    let host = &record.spec.host;
    let names: Vec<String> = host.attachments().into_iter().map(|attachment| attachment.network).collect();
    if host.is_networked() { names.join(",") } else { network::name(&host.network) }
}

/// `k=v,k2=v2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn mount_name(mount: &Mount) -> Option<String> {
    match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.display().to_string()),
        MountKind::Volume { name, .. } => Some(name.as_str().to_owned()),
        MountKind::Image { reference, .. } => Some(reference.clone()),
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
