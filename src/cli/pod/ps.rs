//! `pod ps`: lists pods.

use crate::base::Timestamp;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::ps::{filters, labels};
use crate::cli::template::{self, LABELS};
use crate::cli::{humanise, output};
use crate::engine::request::network;
use crate::engine::{PodView, View};
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.Id}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.InfraId}}";
const TITLES: &[(&str, &str)] = &[
    ("Id", "POD ID"),
    ("Name", "NAME"),
    ("Status", "STATUS"),
    ("Created", "CREATED"),
    ("InfraId", "INFRA ID"),
    ("NumberOfContainers", "# OF CONTAINERS"),
    ("ContainerIds", "IDS"),
    ("ContainerNames", "NAMES"),
    ("ContainerStatuses", "STATUS"),
    ("Namespaces", "NAMESPACES"),
    ("Cgroup", "CGROUP"),
    ("Labels", "LABELS"),
    ("Networks", "NETWORKS"),
    ("Restarts", "RESTARTS"),
];

/// List pods
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Filter: name=…, status=…, label=k=v, ctr-names=…, …
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show the names of the containers
    #[arg(long)]
    pub ctr_names: bool,
    /// Show the ids of the containers
    #[arg(long)]
    pub ctr_ids: bool,
    /// Show the states of the containers
    #[arg(long)]
    pub ctr_status: bool,
    /// Show which namespaces are shared
    #[arg(long)]
    pub ns: bool,
    /// Show the latest created pod
    #[arg(short = 'l', long)]
    pub latest: bool,
    /// Sort by: created, id, name, status or number
    #[arg(long, default_value = "created", value_name = "FIELD")]
    pub sort: String,
}

/// # Errors
/// An unknown filter or order, or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut views = context.engine()?.list_pods(&filters(&args.filter)?)?;
    if args.latest {
        views.truncate(1);
    }
    match args.sort.as_str() {
        "created" => views.sort_by_key(|view| view.pod.created),
        "id" => views.sort_by(|a, b| a.pod.id.cmp(&b.pod.id)),
        "name" => views.sort_by(|a, b| a.pod.name.cmp(&b.pod.name)),
        "status" => views.sort_by_key(|view| view.status.as_str()),
        "number" => views.sort_by_key(|view| view.members.len()),
        other => return Err(Failure::invalid(format!("--sort: \"{other}\" is not created, id, name, status or number")).with_code(USAGE)),
    }
    if args.quiet && args.format.is_none() {
        for view in &views {
            output::line(if args.no_trunc { view.pod.id.as_str() } else { view.pod.id.short() })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.format.as_deref() == Some("json") {
        let list: Vec<Value> = views.iter().map(document).collect();
        output::line(serde_json::to_string_pretty(&list).map_err(|error| Failure::caused("cannot write the list", &error))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows: Vec<Value> = views.iter().map(|view| row(view, !args.no_trunc, now)).collect();
    output::raw(&template::list(args.format.as_deref(), &table(&args), TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Podman's columns: what is asked for takes the place of the number of containers.
fn table(args: &Args) -> String {
    let mut table = TABLE.to_owned();
    for (wanted, column) in [
        (args.ctr_ids, "{{.ContainerIds}}"),
        (args.ctr_names, "{{.ContainerNames}}"),
        (args.ctr_status, "{{.ContainerStatuses}}"),
        (!(args.ctr_ids || args.ctr_names || args.ctr_status), "{{.NumberOfContainers}}"),
        (args.ns, "{{.Namespaces}}"),
    ] {
        if wanted {
            table.push('\t');
            table.push_str(column);
        }
    }
    table
}

fn networks(view: &PodView) -> Vec<String> {
    let host = &view.pod.spec.host;
    match (view.pod.spec.shares.net, host.is_networked()) {
        (true, true) => host.attachments().into_iter().map(|attachment| attachment.network).collect(),
        (true, false) => vec![network::name(&host.network)],
        (false, _) => Vec::new(),
    }
}

fn row(view: &PodView, trunc: bool, now: Timestamp) -> Value {
    let pod = &view.pod;
    let joined = |of: &dyn Fn(&View) -> String| view.members.iter().map(of).collect::<Vec<_>>().join(",");
    let shares = pod.spec.shares;
    let namespaces = [(shares.cgroup, "cgroup"), (shares.ipc, "ipc"), (shares.net, "net"), (shares.pid, "pid"), (shares.uts, "uts")];
    json!({
        "Id": if trunc { pod.id.short() } else { pod.id.as_str() },
        "Name": pod.name.as_str(),
        "Status": view.status.as_str(),
        "Created": humanise::ago(pod.created, now),
        "InfraId": "",
        "NumberOfContainers": view.members.len(),
        "ContainerIds": joined(&|member| if trunc { member.record.id.short() } else { member.record.id.as_str() }.to_owned()),
        "ContainerNames": joined(&|member| member.record.name.to_string()),
        "ContainerStatuses": joined(&|member| member.status.as_str().to_owned()),
        "Namespaces": namespaces.iter().filter_map(|(shared, name)| shared.then_some(*name)).collect::<Vec<_>>().join(","),
        "Cgroup": pod.spec.host.cgroup_parent,
        "Labels": labels(&pod.spec.labels),
        "Networks": networks(view).join(","),
        "Restarts": view.members.iter().map(|member| member.restart_count).sum::<u32>(),
        LABELS: pod.spec.labels,
    })
}

/// One element of podman's `--format json`.
fn document(view: &PodView) -> Value {
    let pod = &view.pod;
    let member = |member: &View| {
        json!({
            "Id": member.record.id.as_str(),
            "Names": member.record.name.as_str(),
            "Status": member.status.as_str(),
            "RestartCount": member.restart_count,
        })
    };
    json!({
        "Cgroup": pod.spec.host.cgroup_parent,
        "Containers": view.members.iter().map(member).collect::<Vec<_>>(),
        "Created": pod.created.to_string(),
        "Id": pod.id.as_str(),
        "InfraId": "",
        "Name": pod.name.as_str(),
        "Namespace": "",
        "Networks": networks(view),
        "Status": view.status.as_str(),
        "Labels": pod.spec.labels,
    })
}
