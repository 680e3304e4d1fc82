//! `network create`.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, USAGE};
use crate::cli::output;
use crate::engine::request::env;
use crate::engine::{CreateNetwork, Subnet};
use crate::state::record::Driver;
use std::net::IpAddr;
use std::process::ExitCode;

/// Create a network
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Driver: bridge, macvlan or ipvlan
    #[arg(short = 'd', long, default_value = "bridge")]
    pub driver: String,
    /// Subnet (a free one without), one for each family
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// Gateway of the subnet (its first address without)
    #[arg(long, value_name = "IP")]
    pub gateway: Vec<String>,
    /// Give out addresses of this part of the subnet
    #[arg(long, value_name = "CIDR")]
    pub ip_range: Vec<String>,
    /// An address in the subnet that is somebody else's: name=ip
    #[arg(long, value_name = "NAME=IP")]
    pub aux_address: Vec<String>,
    /// No way out of the network, and none in
    #[arg(long)]
    pub internal: bool,
    /// With IPv6 (without the flag: where the host has it)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv6: Option<bool>,
    /// With IPv4
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv4: Option<bool>,
    /// Containers may be connected by hand (it is so with every network here)
    #[arg(long)]
    pub attachable: bool,
    /// Containers do not find each other by name
    #[arg(long)]
    pub disable_dns: bool,
    /// Set a label
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Option of the driver: com.docker.network.driver.mtu=1400, com.docker.network.bridge.name=br9, rcon.direct=false, parent=eth0
    #[arg(short = 'o', long = "opt", value_name = "K=V")]
    pub opt: Vec<String>,
    /// Name of the bridge, or for macvlan and ipvlan the host's device
    #[arg(long, value_name = "NAME")]
    pub interface_name: Option<String>,
    /// Say nothing when a network of that name exists
    #[arg(long)]
    pub ignore: bool,
    /// Address management: default
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    pub ipam_driver: String,
    #[arg(value_name = "NETWORK")]
    pub name: String,
}

/// # Errors
/// A malformed value or unknown driver; what the engine refuses.
pub fn create(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let usage = |text: String| Failure::invalid(text).with_code(USAGE);
    let driver = match args.driver.as_str() {
        "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan,
        "host" | "none" | "null" => return Err(Failure::invalid(format!("only one instance of \"{}\" network is allowed", args.driver))),
        other => return Err(usage(format!("--driver: \"{other}\" is not supported; bridge, macvlan and ipvlan are"))),
    };
    if args.ipam_driver != "default" {
        return Err(usage(format!("--ipam-driver: \"{}\" is not supported; only default is", args.ipam_driver)));
    }
    let address = |flag: &str, text: &str| text.parse::<IpAddr>().map_err(|_| usage(format!("{flag}: \"{text}\" is not an IP address")));
    let mut auxiliary = Vec::new();
    for text in &args.aux_address {
        let Some((name, ip)) = text.split_once('=') else { return Err(usage(format!("--aux-address: \"{text}\" is not name=ip"))) };
        auxiliary.push((name.to_owned(), address("--aux-address", ip)?));
    }
    let option = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let of_interface = args.interface_name.map(|name| {
        let key = if driver == Driver::Bridge { "com.docker.network.bridge.name" } else { "parent" };
        (key.to_owned(), name)
    });
    let request = CreateNetwork {
        name: args.name,
        driver: Some(driver),
        subnets: args
            .subnet
            .iter()
            .map(|text| Subnet::parse(text, true).map_err(|why| usage(format!("--subnet: {why}"))))
            .collect::<Result<_, _>>()?,
        gateways: args.gateway.iter().map(|text| address("--gateway", text)).collect::<Result<_, _>>()?,
        ranges: args
            .ip_range
            .iter()
            .map(|text| Subnet::parse(text, false).map_err(|why| usage(format!("--ip-range: {why}"))))
            .collect::<Result<_, _>>()?,
        auxiliary,
        internal: args.internal,
        no_ipv4: args.ipv4 == Some(false),
        ipv6: args.ipv6,
        attachable: args.attachable,
        no_dns: args.disable_dns,
        labels: args.label.iter().map(|text| env::key_value("--label", text)).collect::<Result<Vec<_>, _>>()?,
        options: args.opt.iter().map(option).chain(of_interface).collect(),
    };
    let engine = context.engine()?;
    let network = match engine.create_network(&request) {
        Err(_) if args.ignore && engine.inspect_network(&request.name).is_ok() => engine.find_network(&request.name)?,
        other => other?,
    };
    output::line(network.id)?;
    Ok(ExitCode::SUCCESS)
}
