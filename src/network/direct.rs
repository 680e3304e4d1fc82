//! Frames from one container to another of the same bridge, past the bridge: a program at the ingress of each host side looks the
//! destination up in a table of the bridge (MAC address to host side) and hands the frame to the other end of that link. Only IPv4 and
//! IPv6 go that way; ARP and everything else passes the bridge.
//!
//! Invariants: what is not in the table passes the bridge as if there were no program, so an entry may be missing at any time. An
//! entry of a container that has gone leads nowhere, like its frames on the bridge, and is replaced with the next lease of
//! its address. The table is found by the program that is attached to the bridge itself, and goes with it.

use super::error::{Context, Error};
use super::link;
use super::message;
use super::namespace::{self, netfilter_socket};
use super::nftables;
use crate::state::record::Network;
use crate::sys::bpf::Instruction;
use crate::sys::bpf::ingress::{self, KEY, Key, Table};
use crate::sys::bpf::operation::{ADD_VALUE, CALL, EXIT, JUMP_EQUAL, JUMP_GREATER, JUMP_UNEQUAL, LOAD_HALF, LOAD_WORD, MOVE, MOVE_VALUE, STORE_WORD};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The program's name, by which its table is known for ours.
const NAME: &str = "rcon_direct";
/// Entries of a table: twice the ports that a bridge can have (`BR_MAX_PORTS`), so that those that have gone are seldom in the way.
const ENTRIES: u32 = 2048;
/// How often an attachment is tried anew because another one came between.
const RACES: u32 = 100;

/// Address family of bridges in nftables (`NFPROTO_BRIDGE`).
const BRIDGE_FAMILY: u8 = 7;

/// Leads the frames of a new host side past the bridge, and those for it, if nobody looks at bridged frames.
///
/// # Errors
/// Only if the network asks for it by name: the kernel cannot.
pub(super) fn join(route: BorrowedFd<'_>, network: &Network, bridge: u32, host_side: &str, mac: [u8; 6]) -> Result<(), Error> {
    let asked = network.direct();
    if asked == Some(false) {
        return Ok(());
    }
    if asked.is_none() && is_filtered() {
        return Ok(());
    }
    match put(route, bridge, host_side, key(mac)) {
        Err(error) if asked == Some(true) => Err(Error::Direct { network: network.name.clone(), source: error }),
        Err(error) => {
            tracing::debug!("frames of {host_side} pass the bridge: {error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// All frames pass the bridge from now on if somebody has begun to look at them since containers joined.
pub(super) fn heed(network: &Network, bridge: u32) {
    let stands = || ours(&ingress::programs(bridge)?);
    match stands() {
        Ok(Some((_, table))) if network.direct().is_none() && is_filtered() => clear(&table),
        Ok(_) => {}
        // This kernel has no such programs, or not for us.
        Err(error) => tracing::debug!("what is at the ingress of {}: {error}", network.device),
    }
}

/// A host side comes to a bridge that was made anew: its program has the table of the old one, which nobody else finds any more.
pub(super) fn forget(host_side: u32) {
    match ingress::programs(host_side).and_then(|attached| ours(&attached)) {
        Ok(Some((_, table))) => clear(&table),
        Ok(None) => {}
        Err(error) => tracing::debug!("what is at the ingress of link {host_side}: {error}"),
    }
}

fn clear(table: &Table) {
    if let Err(error) = table.keys().and_then(|keys| keys.iter().try_for_each(|key| table.remove(key))) {
        tracing::warn!("frames cannot be led back to their bridge: {error}");
    }
}

/// Somebody on this host looks at bridged frames, or it cannot be told.
fn is_filtered() -> bool {
    let passes = |parameter: &str| match namespace::read(&format!("net/bridge/bridge-nf-call-{parameter}")) {
        Ok(value) => value != "0",
        Err(Error::Parameter(error)) => error.source.kind() != io::ErrorKind::NotFound,
        Err(_) => true,
    };
    // Only frames of these two families leave the bridge.
    ["iptables", "ip6tables"].into_iter().any(passes) || bridge_tables().unwrap_or(true)
}

/// There is an nftables table of the bridge family.
fn bridge_tables() -> Result<bool, Error> {
    let socket = netfilter_socket()?;
    let tables = message::dump(socket.as_fd(), nftables::kind(nftables::GET_TABLE), &[BRIDGE_FAMILY, 0, 0, 0], |_| ());
    Ok(!tables.on("list", "nftables tables of bridges")?.is_empty())
}

fn key(mac: [u8; 6]) -> Key {
    let mut key = [0; KEY];
    key[..mac.len()].copy_from_slice(&mac);
    key
}

fn put(route: BorrowedFd<'_>, bridge: u32, host_side: &str, key: Key) -> io::Result<()> {
    let (program, table) = standing(bridge)?;
    let missing = || io::Error::from_raw_os_error(libc::ENODEV);
    let index = link::find(route, host_side).map_err(io::Error::other)?.ok_or_else(missing)?.index;
    let put = match table.put(&key, index) {
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => sweep(route, &table).and_then(|()| table.put(&key, index)),
        other => other,
    };
    if let Err(error) = put {
        // Of whoever had the address before.
        table.remove(&key)?;
        return Err(error);
    }
    ingress::attach(index, program.as_fd(), None)
}

/// Takes the entries out whose links have gone.
fn sweep(route: BorrowedFd<'_>, table: &Table) -> io::Result<()> {
    let links = link::list(route).map_err(io::Error::other)?;
    for key in table.keys()? {
        if table.get(&key)?.is_some_and(|index| links.iter().all(|link| link.index != index)) {
            table.remove(&key)?;
        }
    }
    Ok(())
}

/// The program of a bridge with its table; made by whoever comes first.
fn standing(bridge: u32) -> io::Result<(OwnedFd, Table)> {
    let mut made = None;
    for _ in 0..RACES {
        let attached = ingress::programs(bridge)?;
        if let Some(found) = ours(&attached)? {
            return Ok(found);
        }
        let (program, table) = match made.take() {
            Some(made) => made,
            None => {
                let table = Table::new(ENTRIES)?;
                (ingress::load_program(NAME, &program(bridge, &table))?, table)
            }
        };
        match ingress::attach(bridge, program.as_fd(), Some(attached.revision)) {
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => made = Some((program, table)),
            other => return other.map(|()| (program, table)),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ESTALE))
}

fn ours(attached: &ingress::Attached) -> io::Result<Option<(OwnedFd, Table)>> {
    for program in &attached.programs {
        if let Some(table) = ingress::table_of(program.as_fd(), NAME)? {
            return Ok(Some((program.try_clone()?, table)));
        }
    }
    Ok(None)
}

/// Fields of `struct __sk_buff` (`linux/bpf.h`).
const SKB_PROTOCOL: i16 = 16;
const SKB_DEVICE: i16 = 40;
const SKB_DATA: i16 = 76;
const SKB_END: i16 = 80;
/// Bytes of an Ethernet header, whose first six are the destination.
const HEADER: i32 = 14;
/// Ethernet types, as they are in memory.
const IPV4: i32 = 0x0800_u16.to_be() as i32;
const IPV6: i32 = 0x86dd_u16.to_be() as i32;
/// Functions of the kernel by number.
const LOOK_UP: i32 = 1;
const REDIRECT_PEER: i32 = 155;
/// `TCX_NEXT`: as if there were no program.
const NEXT: i32 = -1;

/// The program of a bridge's host sides. On the bridge itself it only holds the table: what arrives there in promiscuous mode are
/// copies of frames that went their way.
fn program(bridge: u32, table: &Table) -> Vec<Instruction> {
    const RESULT: u8 = 0;
    const FIRST: u8 = 1;
    const SECOND: u8 = 2;
    const END: u8 = 3;
    const REACHED: u8 = 4;
    const PART: u8 = 5;
    const STACK: u8 = 10;
    /// Where on the stack the key is.
    const KEY_AT: i16 = -(KEY as i16);
    let op = Instruction::new;
    let value = |code, register, immediate| Instruction::new(code, register, 0, 0, immediate);
    let found = [op(LOAD_WORD, FIRST, RESULT, 0, 0), value(MOVE_VALUE, SECOND, 0), value(CALL, 0, REDIRECT_PEER), value(EXIT, 0, 0)];
    let [low, high] = table.load_into(FIRST);
    let look = [
        op(LOAD_WORD, PART, SECOND, 0, 0),
        op(STORE_WORD, STACK, PART, KEY_AT, 0),
        op(LOAD_HALF, PART, SECOND, 4, 0),
        op(STORE_WORD, STACK, PART, KEY_AT + 4, 0),
        low,
        high,
        op(MOVE, SECOND, STACK, 0, 0),
        value(ADD_VALUE, SECOND, KEY_AT.into()),
        value(CALL, 0, LOOK_UP),
        op(JUMP_EQUAL, RESULT, 0, found.len() as i16, 0),
    ];
    let behind = (look.len() + found.len()) as i16;
    let check = [
        op(LOAD_WORD, SECOND, FIRST, SKB_DATA, 0),
        op(LOAD_WORD, END, FIRST, SKB_END, 0),
        op(MOVE, REACHED, SECOND, 0, 0),
        value(ADD_VALUE, REACHED, HEADER),
        op(JUMP_GREATER, REACHED, END, behind, 0),
    ];
    let family = [
        op(LOAD_WORD, SECOND, FIRST, SKB_PROTOCOL, 0),
        op(JUMP_EQUAL, SECOND, 0, 1, IPV4),
        op(JUMP_UNEQUAL, SECOND, 0, behind + check.len() as i16, IPV6),
    ];
    let own =
        [op(LOAD_WORD, SECOND, FIRST, SKB_DEVICE, 0), op(JUMP_EQUAL, SECOND, 0, behind + (check.len() + family.len()) as i16, bridge.cast_signed())];
    let rest = [value(MOVE_VALUE, RESULT, NEXT), value(EXIT, 0, 0)];
    [&own[..], &family, &check, &look, &found, &rest].concat()
}
