//! `network create`, `ls`, `rm`, `prune`, `exists`, `connect`, `disconnect` and `reload`.

mod create;

pub use create::{Args as CreateArgs, create};

use super::context::{Context, is_missing};
use super::failure::Failure;
use super::output;
use super::ps::{filters, labels};
use super::template::{self, LABELS};
use crate::engine::{builtin_id, builtin_matches, request};
use crate::state::record::Attachment;
use request::network;
use serde_json::{Value, json};
use std::process::ExitCode;

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const TITLES: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("IPv4", "IPV4"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];
/// Digits of an id in a list.
const SHORT: usize = 12;

/// List networks
#[derive(clap::Parser, Debug)]
pub struct ListArgs {
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Filter: driver=, id=, name=, label=k=v, label!=k, scope=local, type=custom, dangling=true, until=24h
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// Remove networks
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    /// A missing network is no failure
    #[arg(short = 'f', long)]
    pub force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    pub networks: Vec<String>,
}

/// Remove all networks that no container is on
#[derive(clap::Parser, Debug)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub force: bool,
    /// Filter: until=24h, label=k=v, label!=k
    #[arg(long, value_name = "K=V")]
    pub filter: Vec<String>,
}

/// Say by the exit code whether a network exists: 0, or 1
#[derive(clap::Parser, Debug)]
pub struct ExistsArgs {
    pub network: String,
}

/// Bring a container to a network
#[derive(clap::Parser, Debug)]
pub struct ConnectArgs {
    /// IPv4 address
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "IP")]
    pub ip6: Option<String>,
    /// Another name in the network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Option of the endpoint
    #[arg(long, value_name = "K=V")]
    pub driver_opt: Vec<String>,
    /// The network with the highest has the default route
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gw_priority: i32,
    pub network: String,
    pub container: String,
}

/// Take a container off a network
#[derive(clap::Parser, Debug)]
pub struct DisconnectArgs {
    /// Go on if the container's link cannot be taken off, or the container not be told
    #[arg(short = 'f', long)]
    pub force: bool,
    pub network: String,
    pub container: String,
}

/// Make devices, rules and published ports anew where something else removed them (after a reload of the firewall)
#[derive(clap::Parser, Debug)]
pub struct ReloadArgs {}

/// # Errors
/// An unknown filter or a malformed template.
pub fn list(args: ListArgs, context: &Context) -> Result<ExitCode, Failure> {
    let given = filters(&args.filter)?;
    let id = |id: &str| if args.no_trunc { id.to_owned() } else { id[..SHORT.min(id.len())].to_owned() };
    let mut rows: Vec<(String, Value)> = Vec::new();
    for network in context.engine()?.networks(&given)? {
        let row = json!({
            "CreatedAt": super::humanise::local(network.created),
            "Driver": network.driver.name(),
            "ID": id(&network.id),
            "IPv4": network.pool4().is_some().to_string(),
            "IPv6": network.has_ipv6().to_string(),
            "Internal": network.internal.to_string(),
            "Labels": labels(&network.labels),
            "Name": network.name,
            "Scope": "local",
            LABELS: network.labels,
        });
        rows.push((network.name, row));
    }
    for (name, driver) in [("host", "host"), ("none", "null")] {
        if builtin_matches(&given, name, driver) {
            let row = json!({
                "CreatedAt": "", "Driver": driver, "ID": id(&builtin_id(name)), "IPv4": "true", "IPv6": "false", "Internal": "false", "Labels": "",
                "Name": name, "Scope": "local", LABELS: {},
            });
            rows.push((name.to_owned(), row));
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    if args.quiet && args.format.is_none() {
        for row in &rows {
            output::line(row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let format = args.format.as_deref().or_else(|| context.setting("networksFormat"));
    output::raw(&template::list(format, TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.networks, |name| match engine.remove_network(name).map(drop).map_err(Failure::from) {
        Err(failure) if args.force && is_missing(&failure) => Ok(()),
        other => other,
    })
}

/// # Errors
/// An unknown filter, or a removal fails.
pub fn prune(args: PruneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter)?;
    if !args.force && !output::confirm("WARNING! This will remove all custom networks not used by at least one container.")? {
        return Ok(ExitCode::SUCCESS);
    }
    let removed = context.engine()?.prune_networks(&filters)?;
    if !removed.is_empty() {
        output::line(format_args!("Deleted Networks:\n{}\n", removed.join("\n")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// It cannot be found out.
pub fn exists(args: ExistsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.inspect_network(&args.network).map_err(Failure::from) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(failure) if is_missing(&failure) => Ok(ExitCode::from(1)),
        Err(failure) => Err(failure),
    }
}

/// # Errors
/// A malformed value; what the engine refuses.
pub fn connect(args: ConnectArgs, context: &Context) -> Result<ExitCode, Failure> {
    let option = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let attachment = Attachment {
        network: args.network.clone(),
        aliases: args.alias.iter().map(|text| network::parse_alias(text)).collect::<Result<_, _>>()?,
        ipv4: args.ip.as_deref().map(network::parse_ip).transpose()?,
        ipv6: args.ip6.as_deref().map(network::parse_ip6).transpose()?,
        mac: args.mac_address.as_deref().map(network::parse_mac).transpose()?,
        options: args.driver_opt.iter().map(option).collect(),
        priority: args.gw_priority,
    };
    context.engine()?.connect_network(&args.network, &args.container, &attachment)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// What the engine refuses.
pub fn disconnect(args: DisconnectArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.disconnect_network(&args.network, &args.container, args.force)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The kernel refuses.
pub fn reload(_args: ReloadArgs, context: &Context) -> Result<ExitCode, Failure> {
    for name in context.engine()?.reload_networks()? {
        output::line(name)?;
    }
    Ok(ExitCode::SUCCESS)
}
