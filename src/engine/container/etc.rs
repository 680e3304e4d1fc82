//! The generated files of a container's `/etc`: hosts, hostname, resolv.conf, in its durable directory.

use super::super::{Error, Result};
use super::links::Linked;
use crate::base::fs::Context;
use crate::network::{self, Servers};
use crate::state::record::{Container, Endpoint, HostSpec, Network, NetworkMode};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes all three. The host's own hosts file is the base with `--network host`.
pub(in crate::engine) fn write_all(
    host: &HostSpec,
    domainname: &str,
    endpoints: &[Endpoint],
    directory: &Path,
    hostname: &str,
    networks: &[Network],
    links: &[Linked],
) -> Result<()> {
    let host_network = host.network == NetworkMode::Host;
    let linked = links.iter().flat_map(|link| link.names.iter().map(|name| (name.clone(), IpAddr::from(link.address))));
    let extra: Vec<(String, IpAddr)> = extra_hosts(host, networks)?.into_iter().chain(linked).collect();
    let hosts = if host_network {
        let mut text = optional("/etc/hosts")?.unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for (name, address) in &extra {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        text
    } else {
        let own: Vec<IpAddr> =
            endpoints.iter().flat_map(|endpoint| endpoint.ipv4.map(IpAddr::V4).into_iter().chain(endpoint.ipv6.map(IpAddr::V6))).collect();
        network::hosts(hostname, domainname, &own, &extra)
    };
    let resolv = resolv_text(host, networks)?;
    write(&directory.join("hosts"), &hosts)?;
    write(&directory.join("hostname"), &format!("{hostname}\n"))?;
    write(&directory.join("resolv.conf"), &resolv)
}

/// The files of a running container follow its networks: lines of its own addresses come and go in hosts, and resolv.conf
/// changes if it is as we wrote it.
pub(in crate::engine) fn follow(directory: &Path, before: &Container, now: &Container, networks: &[Network]) -> Result<()> {
    let (spec, path) = (&now.spec, directory.join("hosts"));
    let addresses = |endpoints: &[Endpoint]| -> Vec<IpAddr> {
        endpoints.iter().flat_map(|endpoint| endpoint.ipv4.map(IpAddr::V4).into_iter().chain(endpoint.ipv6.map(IpAddr::V6))).collect()
    };
    let (former, current) = (addresses(&before.endpoints), addresses(&now.endpoints));
    let text = std::fs::read_to_string(&path).on("read", &path)?;
    let is_gone = |line: &&str| {
        let address = line.split_ascii_whitespace().next().and_then(|word| word.parse::<IpAddr>().ok());
        address.is_some_and(|address| former.contains(&address) && !current.contains(&address))
    };
    let mut hosts: String = text.lines().filter(|line| !is_gone(line)).flat_map(|line| [line, "\n"]).collect();
    for address in current.iter().filter(|address| !former.contains(address)) {
        let line = network::own_host_line(*address, &spec.hostname, &spec.domainname);
        // There already, if a command was killed right after this.
        if !hosts.contains(&line) {
            hosts.push_str(&line);
        }
    }
    write(&path, &hosts)?;
    let path = directory.join("resolv.conf");
    let known = |record: &Container| networks.iter().filter(|network| record.endpoints.iter().any(|e| e.network == network.name)).cloned().collect();
    let (was, is): (Vec<Network>, Vec<Network>) = (known(before), known(now));
    if std::fs::read_to_string(&path).on("read", &path)? == resolv_text(&spec.host, &was)? {
        write(&path, &resolv_text(&spec.host, &is)?)?;
    }
    Ok(())
}

/// Takes the lines out of hosts that give these names to an address.
pub(super) fn forget(directory: &Path, address: IpAddr, names: &[String]) -> Result<()> {
    let path = directory.join("hosts");
    let text = std::fs::read_to_string(&path).on("read", &path)?;
    let is_gone = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        words.next().and_then(|word| word.parse().ok()) == Some(address) && words.all(|word| names.iter().any(|name| name == word))
    };
    let kept: String = text.lines().filter(|line| !is_gone(line)).flat_map(|line| [line, "\n"]).collect();
    write(&path, &kept)
}

fn resolv_text(host: &HostSpec, networks: &[Network]) -> Result<String> {
    let systemd = optional("/run/systemd/resolve/resolv.conf")?;
    let text = optional("/etc/resolv.conf")?.unwrap_or_default();
    let servers = match &host.network {
        NetworkMode::Host => Servers::Host,
        _ if networks.iter().any(|network| network.dns) => Servers::Own,
        _ => Servers::Reachable,
    };
    Ok(network::resolv_conf(&text, systemd.as_deref(), servers, &host.dns, &host.dns_search, &host.dns_options))
}

fn extra_hosts(host: &HostSpec, networks: &[Network]) -> Result<Vec<(String, IpAddr)>> {
    let gateway: IpAddr = networks.iter().find_map(Network::gateway4).unwrap_or(Ipv4Addr::LOCALHOST).into();
    host.extra_hosts
        .iter()
        .map(|(name, address)| match address.as_str() {
            "host-gateway" => Ok((name.clone(), gateway)),
            text => {
                let parsed = text.trim_matches(|c| c == '[' || c == ']').parse();
                parsed.map(|ip| (name.clone(), ip)).map_err(|_| Error::invalid(format!("invalid IP address in --add-host: \"{text}\"")))
            }
        })
        .collect()
}

/// Checks the addresses of `--add-host` at create.
pub(in crate::engine) fn check(host: &HostSpec) -> Result<()> {
    extra_hosts(host, &[]).map(drop)
}

fn optional(path: &str) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(crate::base::fs::FsError { operation: "read", path: path.into(), source }.into()),
    }
}

/// Readable for every user of the container whatever our umask is.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path).on("create", path)?;
    file.write_all(text.as_bytes()).on("write", path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).on("change the mode of", path)?;
    Ok(())
}
