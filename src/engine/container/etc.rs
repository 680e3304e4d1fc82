//! The generated files of a container's `/etc`: hosts, hostname, resolv.conf, in its durable directory.

use super::super::{Error, Result};
use crate::base::fs::Context;
use crate::network;
use crate::state::record::{Container, Network, NetworkMode};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes all three. The host's own hosts file is the base with `--network host`.
pub(super) fn write_all(container: &Container, directory: &Path, hostname: &str, bridge: Option<&Network>) -> Result<()> {
    let host = &container.spec.host;
    let host_network = host.network == NetworkMode::Host;
    let extra = extra_hosts(container, bridge)?;
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
        network::hosts(hostname, &container.spec.domainname, container.address, &extra)
    };
    let systemd = optional("/run/systemd/resolve/resolv.conf")?;
    let text = optional("/etc/resolv.conf")?.unwrap_or_default();
    let resolv = network::resolv_conf(&text, systemd.as_deref(), host_network, &host.dns, &host.dns_search, &host.dns_options);
    write(&directory.join("hosts"), &hosts)?;
    write(&directory.join("hostname"), &format!("{hostname}\n"))?;
    write(&directory.join("resolv.conf"), &resolv)
}

fn extra_hosts(container: &Container, bridge: Option<&Network>) -> Result<Vec<(String, IpAddr)>> {
    let gateway: IpAddr = bridge.map_or(Ipv4Addr::LOCALHOST, |b| b.gateway).into();
    container
        .spec
        .host
        .extra_hosts
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
pub(super) fn check(container: &Container) -> Result<()> {
    extra_hosts(container, None).map(drop)
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
