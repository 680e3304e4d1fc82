//! `port`: published ports of a container.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::{output, ports};
use crate::engine::request::port::name as protocol_name;
use crate::state::record::PublishedPort;
use std::process::ExitCode;

/// List the published ports of a container
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Those of all running containers
    #[arg(short = 'a', long)]
    pub all: bool,
    #[arg(required_unless_present = "all")]
    pub container: Option<String>,
    /// Only this port: 80 or 80/udp
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// # Errors
/// No such container, or the asked port is not published (exit code 1).
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let Some(container) = args.container.as_deref().filter(|_| !args.all) else {
        if args.container.is_some() {
            return Err(Failure::invalid("conflicting options: --all and the name of a container").with_code(USAGE));
        }
        for view in engine.list(false, &[])? {
            for line in list(&view.record.published) {
                output::line(format_args!("{}\t{line}", view.record.id.short()))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let view = engine.view(container)?;
    let published = &view.record.published;
    let Some(asked) = args.port else {
        for line in list(published) {
            output::line(line)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let key = if asked.contains('/') { asked.to_ascii_lowercase() } else { format!("{asked}/tcp") };
    if key.split('/').next().and_then(|port| port.parse::<u16>().ok()).is_none() {
        return Err(Failure::invalid(format!("invalid port \"{asked}\"")));
    }
    let found: Vec<String> = published.iter().filter(|port| container_side(port) == key).map(host_side).collect();
    if found.is_empty() {
        return Err(Failure::invalid(format!("no public port '{key}' published for {container}")));
    }
    for line in found {
        output::line(line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn container_side(port: &PublishedPort) -> String {
    format!("{}/{}", port.container_port, protocol_name(port.protocol))
}

fn host_side(port: &PublishedPort) -> String {
    format!("{}:{}", ports::address(port.host_ip), port.host_port)
}

/// `80/tcp -> 0.0.0.0:8080`, by container port.
fn list(published: &[PublishedPort]) -> Vec<String> {
    let mut sorted: Vec<&PublishedPort> = published.iter().collect();
    sorted.sort_by_key(|port| (port.container_port, port.protocol, port.host_ip, port.host_port));
    sorted.into_iter().map(|port| format!("{} -> {}", container_side(port), host_side(port))).collect()
}
