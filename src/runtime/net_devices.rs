//! `linux.netDevices`: devices of the runtime's network namespace move into the container's (config-linux.md, Network Devices).
//!
//! Invariant: a device arrives with its permanent addresses of global scope and is up; until [`Moved::keep`] every device
//! goes back to where it was, as it was, whatever fails. After that it is the kernel's: when the namespace ends, hardware
//! returns to the initial namespace and virtual devices are destroyed.

use super::error::{At, Error, Failure};
use crate::sys::netlink::message::{self, ACK, Batch, CREATE, EXCLUSIVE, attributes, family_header};
use crate::sys::netlink::{self, Family, NetlinkError};
use crate::sys::netns;
use oci_spec::runtime::Linux;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
/// Attributes of an address that go with it; its label names the old device.
const KEPT: [u16; 4] = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY];
/// Set by a user, not by autoconfiguration (RFC 3549, 2.3.3.2).
const IFA_F_PERMANENT: u32 = 0x80;
/// Flags of an address that its maker chose: nodad, homeaddress, noprefixroute, mcautojoin (linux/if_addr.h).
const CHOSEN: u32 = 0x02 | 0x10 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Sizes of the family headers.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
/// `LOOPBACK_IFINDEX` (include/linux/netdevice.h): the first device of every network namespace.
const LOOPBACK: u32 = 1;
/// `IFNAMSIZ` without the closing NUL.
const NAME_LIMIT: usize = 15;

/// One device: its name outside and inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub host: String,
    pub name: String,
}

/// The devices of a config, by their names on the host. `own`: the container has a network namespace that is not ours.
///
/// # Errors
/// `Invalid` names the device and what is wrong.
pub(super) fn compile(linux: Option<&Linux>, own: bool) -> Result<Vec<Device>, Error> {
    let listed = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut devices: Vec<Device> = Vec::new();
    for (host, device) in listed.into_iter().flatten() {
        let name = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        if !valid(host) || host.contains('%') {
            return Err(Error::Invalid(format!("linux.netDevices: \"{host}\" is no name of a network device")));
        }
        if !valid(&name) {
            return Err(Error::Invalid(format!("linux.netDevices: \"{name}\", the new name of \"{host}\", is no name of a network device")));
        }
        if let Some(other) = devices.iter().find(|other| other.name == name && !name.contains('%')) {
            return Err(Error::Invalid(format!("linux.netDevices: \"{}\" and \"{host}\" would both be named \"{name}\"", other.host)));
        }
        devices.push(Device { host: host.clone(), name });
    }
    if !devices.is_empty() && !own {
        return Err(Error::Invalid("linux.netDevices needs a network namespace of the container's own".to_owned()));
    }
    devices.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(devices)
}

/// Brings up the loopback of the network namespace that the caller is in, as the reference runtime does in a new one.
///
/// # Errors
/// What the kernel says.
pub(super) fn raise_loopback() -> Result<(), Failure> {
    let said = |error: NetlinkError| failure("bring up the loopback device", &error);
    let socket = netlink::open(Family::Route).map_err(said)?;
    match set_up(socket.as_fd(), LOOPBACK, true).map_err(said) {
        // Inside a container that may make namespaces but not configure networks. The config does not ask for it: it stays down.
        Err(failure) if failure.errno == libc::EPERM => Ok(()),
        other => other,
    }
}

/// What the kernel takes (`dev_valid_name`, net/core/dev.c); a template has one `%d`, for which it finds a number.
fn valid(name: &str) -> bool {
    let plain = name.replacen("%d", "", 1);
    let bytes = !name.is_empty() && name.len() <= NAME_LIMIT && !matches!(name, "." | "..");
    bytes && !plain.contains(['%', '/', ':']) && !plain.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// A link as it was found.
struct Link {
    index: u32,
    up: bool,
}

/// One address as the kernel gave it.
struct Address {
    /// Family, prefix length, flags, scope.
    header: [u8; 4],
    attributes: Vec<(u16, Vec<u8>)>,
    flags: u32,
}

/// A device on its way.
struct Gone {
    host: String,
    /// Where it is inside; None while it is still outside, but down.
    index: Option<u32>,
    up: bool,
    addresses: Vec<Address>,
}

/// Devices that have been moved, until they are [kept](Moved::keep).
pub(super) struct Moved {
    /// The sockets keep both namespaces alive.
    here: OwnedFd,
    there: OwnedFd,
    home: OwnedFd,
    gone: Vec<Gone>,
}

/// Moves the devices into the namespace, renames them, gives them their addresses, and brings them up.
///
/// # Errors
/// The device and what could not be done with it; all are back then.
pub(super) fn enter(devices: &[Device], namespace: BorrowedFd<'_>) -> Result<Moved, Failure> {
    let route = || netlink::open(Family::Route).map_err(|error| failure("open a netlink socket", &error));
    let home = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open our network namespace")?;
    let there = netns::inside(namespace, route).at("enter the container's network namespace")??;
    let mut moved = Moved { here: route()?, there, home, gone: Vec::new() };
    for device in devices {
        moved.one(device, namespace)?;
    }
    Ok(moved)
}

impl Moved {
    /// They stay inside.
    pub fn keep(mut self) {
        self.gone.clear();
    }

    fn one(&mut self, device: &Device, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
        let (host, name) = (&device.host, &device.name);
        let of = |what: &str| format!("{what} network device \"{host}\"");
        let at = |what: &'static str| move |error: NetlinkError| failure(&format!("{what} network device \"{host}\""), &error);
        let Some(link) = find(self.here.as_fd(), host).map_err(at("find"))? else {
            return Err(Failure::invalid(format!("network device \"{host}\" of linux.netDevices does not exist")));
        };
        let template = name.contains('%');
        if !template && find(self.there.as_fd(), name).map_err(at("look for a namesake of"))?.is_some() {
            return Err(Failure::invalid(format!("linux.netDevices: the container already has a network device \"{name}\"")));
        }
        // Before it is set down, when addresses of IPv6 go.
        let addresses = addresses(self.here.as_fd(), link.index).map_err(at("read the addresses of"))?;
        let before = if template { indexes(self.there.as_fd()).map_err(at("look for a name for"))? } else { Vec::new() };
        self.gone.push(Gone { host: host.clone(), index: None, up: link.up, addresses });
        set_up(self.here.as_fd(), link.index, false).map_err(at("set down"))?;
        pass(self.here.as_fd(), link.index, namespace, name).map_err(|error| failure(&format!("{} to the container", of("move")), &error))?;
        let index = if template {
            indexes(self.there.as_fd()).map_err(at("find"))?.into_iter().find(|index| !before.contains(index))
        } else {
            find(self.there.as_fd(), name).map_err(at("find"))?.map(|link| link.index)
        };
        let index = index.ok_or_else(|| Failure::step(of("find in the container the"), Errno::NODEV))?;
        let gone = self.gone.last_mut().expect("invariant: pushed above");
        gone.index = Some(index);
        give(self.there.as_fd(), index, &gone.addresses).map_err(at("give its addresses back to"))?;
        set_up(self.there.as_fd(), index, true).map_err(at("set up"))
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        while let Some(gone) = self.gone.pop() {
            if let Err(error) = take_back(self, &gone) {
                tracing::warn!("cannot give network device \"{}\" back: {error}", gone.host);
            }
        }
    }
}

fn take_back(moved: &Moved, gone: &Gone) -> Result<(), NetlinkError> {
    if let Some(index) = gone.index {
        set_up(moved.there.as_fd(), index, false)?;
        pass(moved.there.as_fd(), index, moved.home.as_fd(), &gone.host)?;
    }
    let Some(link) = find(moved.here.as_fd(), &gone.host)? else { return Ok(()) };
    give(moved.here.as_fd(), link.index, &gone.addresses)?;
    if gone.up { set_up(moved.here.as_fd(), link.index, true) } else { Ok(()) }
}

fn failure(step: &str, error: &NetlinkError) -> Failure {
    let text = match error {
        NetlinkError::Refused { text, .. } if !text.is_empty() => format!("{step} ({text})"),
        _ => step.to_owned(),
    };
    Failure::step(text, error.errno().unwrap_or(Errno::PROTO))
}

fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut header = [0; IFINFOMSG];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn link_of(reply: &[u8]) -> Option<Link> {
    let header = family_header(reply).get(..IFINFOMSG)?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Link { index: word(4), up: word(8) & IFF_UP != 0 })
}

fn find(socket: BorrowedFd<'_>, name: &str) -> Result<Option<Link>, NetlinkError> {
    match message::request(socket, RTM_GETLINK, &ifinfomsg(0, 0, 0), |a| a.text(IFLA_IFNAME, name)) {
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        other => Ok(other?.first().and_then(|reply| link_of(reply))),
    }
}

fn indexes(socket: BorrowedFd<'_>) -> Result<Vec<u32>, NetlinkError> {
    let replies = message::dump(socket, RTM_GETLINK, &ifinfomsg(0, 0, 0), |_| ())?;
    Ok(replies.iter().filter_map(|reply| link_of(reply)).map(|link| link.index).collect())
}

fn set_up(socket: BorrowedFd<'_>, index: u32, up: bool) -> Result<(), NetlinkError> {
    message::request(socket, RTM_NEWLINK, &ifinfomsg(index, if up { IFF_UP } else { 0 }, IFF_UP), |_| ()).map(drop)
}

/// Move and new name in one: a name that is free only over there is no obstacle.
fn pass(socket: BorrowedFd<'_>, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Result<(), NetlinkError> {
    let fd = namespace.as_raw_fd().cast_unsigned();
    let body = |a: &mut message::Attributes<'_>| {
        a.text(IFLA_IFNAME, name);
        a.number(IFLA_NET_NS_FD, fd);
    };
    message::request(socket, RTM_NEWLINK, &ifinfomsg(index, 0, 0), body).map(drop)
}

/// The permanent addresses of global scope: others belong to the place where the device was.
fn addresses(socket: BorrowedFd<'_>, index: u32) -> Result<Vec<Address>, NetlinkError> {
    let replies = message::dump(socket, RTM_GETADDR, &[0; IFADDRMSG], |_| ())?;
    Ok(replies.iter().filter_map(|reply| address_of(reply, index)).collect())
}

fn address_of(reply: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, a, b, c, d] = *family_header(reply).first_chunk::<IFADDRMSG>()?;
    let found = attributes(reply, IFADDRMSG);
    let flags = found.find_number(IFA_FLAGS).unwrap_or_else(|| u32::from(flags));
    if u32::from_ne_bytes([a, b, c, d]) != index || scope != RT_SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
        return None;
    }
    let attributes = found.filter(|(kind, _)| KEPT.contains(kind)).map(|(kind, value)| (kind, value.to_vec())).collect();
    Some(Address { header: [family, prefix, 0, scope], attributes, flags: flags & CHOSEN })
}

/// Adds what is missing of the addresses.
fn give(socket: BorrowedFd<'_>, index: u32, addresses: &[Address]) -> Result<(), NetlinkError> {
    for address in addresses {
        let mut header = [0; IFADDRMSG];
        header[..4].copy_from_slice(&address.header);
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let mut batch = Batch::new();
        batch.message(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &header, |a| {
            for (kind, value) in &address.attributes {
                a.put(*kind, value);
            }
            a.number(IFA_FLAGS, address.flags);
        });
        match batch.run(socket) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Device, compile, valid};
    use serde_json::{Value, json};

    fn devices(value: Value, own: bool) -> Result<Vec<Device>, String> {
        let linux = serde_json::from_value(json!({"netDevices": value})).unwrap();
        compile(Some(&linux), own).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_those_the_kernel_takes() {
        for good in ["eth0", "a", "a-b.c_d", "fifteen-letters", "wlan%d", "%d", "ä"] {
            assert!(valid(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:1", "a b", "a\tb", "sixteen--letters", "a%", "a%s", "%d%d", "a%%d"] {
            assert!(!valid(bad), "{bad}");
        }
    }

    #[test]
    fn devices_are_checked_before_anything_is_made() {
        let found =
            devices(json!({"eth1": {"name": "lan"}, "eth0": {}, "eth2": {"name": ""}, "x": {"name": "p%d"}, "y": {"name": "p%d"}}), true).unwrap();
        let names: Vec<(&str, &str)> = found.iter().map(|device| (device.host.as_str(), device.name.as_str())).collect();
        assert_eq!(names, [("eth0", "eth0"), ("eth1", "lan"), ("eth2", "eth2"), ("x", "p%d"), ("y", "p%d")]);
        assert_eq!(devices(json!({}), false).unwrap(), []);
        for (value, own, message) in [
            (json!({"eth0": {}}), false, "linux.netDevices needs a network namespace of the container's own"),
            (json!({"e/h": {}}), true, "linux.netDevices: \"e/h\" is no name of a network device"),
            (json!({"eth%d": {}}), true, "linux.netDevices: \"eth%d\" is no name of a network device"),
            (json!({"eth0": {"name": "a:b"}}), true, "linux.netDevices: \"a:b\", the new name of \"eth0\", is no name of a network device"),
        ] {
            assert_eq!(devices(value, own).unwrap_err(), message);
        }
        let both = devices(json!({"eth0": {"name": "lan"}, "eth1": {"name": "lan"}}), true).unwrap_err();
        assert!(both.ends_with("would both be named \"lan\""), "{both}");
    }
}
