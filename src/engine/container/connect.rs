//! Joining a container's network namespace to the default bridge: by the starting command, or, where the namespace
//! belongs to the user namespace of init and is new with each start, by the monitor.

use super::super::{Error, Result};
use super::start::BRIDGE;
use crate::base::{ContainerId, Roots};
use crate::network::{self, Endpoint, Netns};
use crate::state::Db;
use crate::state::record::{Container, Network, NetworkMode};

/// Bridge, endpoint and published ports, as leased in the record.
///
/// # Errors
/// What the kernel refuses; the endpoint is taken back.
pub(super) fn connect(db: &Db, record: &Container, netns: &Netns, bridge: &Network, address: std::net::Ipv4Addr) -> Result<()> {
    // Asked only when the table had to be made anew.
    let mut failed = None;
    network::ensure(bridge, &mut || match db.published() {
        Ok(all) => all.into_iter().map(|(_, address, port)| (address, port)).collect(),
        Err(error) => {
            failed = Some(error);
            Vec::new()
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mac = record.spec.host.mac_address.as_deref().map(parse_mac).transpose()?;
    network::attach(bridge, netns, &Endpoint { container: record.id.clone(), address, mac })?;
    if !record.published.is_empty() {
        network::publish(address, &record.published)?;
    }
    Ok(())
}

/// The same from the monitor, whose child `pid` waits at its gate; with `--network none` only loopback comes up.
///
/// # Errors
/// As [`connect`]; the database's failure.
pub(super) fn connect_init(roots: &Roots, id: &ContainerId, pid: i32) -> Result<()> {
    let netns = network::open_netns(pid)?;
    let db = Db::open(roots)?;
    let record = db.container(id)?.ok_or_else(|| Error::no_such("container", id.as_str()))?;
    if record.spec.host.network != NetworkMode::Bridge {
        return Ok(());
    }
    match (db.network(BRIDGE)?, record.address) {
        (Some(bridge), Some(address)) => connect(&db, &record, &netns, &bridge, address),
        _ => Err(Error::conflict(format!("container {} has no address any more", record.name))),
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let parts: Vec<Option<u8>> = text.split([':', '-']).map(|p| if p.len() == 2 { u8::from_str_radix(p, 16).ok() } else { None }).collect();
    match parts.as_slice() {
        // The lowest bit of the first byte marks a group address.
        [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f)] if a & 1 == 0 => Ok([*a, *b, *c, *d, *e, *f]),
        _ => Err(Error::invalid(format!("invalid MAC address \"{text}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_unicast() {
        assert_eq!(parse_mac("02:42:ac:11:00:02").unwrap(), [2, 0x42, 0xac, 0x11, 0, 2]);
        for bad in ["", "02:42:ac:11:00", "01:00:5e:00:00:01", "02:42:ac:11:00:zz", "2:42:ac:11:0:2"] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
