//! The nftables table within a container's network namespace that leads its queries to the monitor's sockets.
//!
//! Port 53 stays free for the container's own programs: the sockets are at another port of 127.0.0.11, and the table
//! rewrites the port on the way there and back. It does so without connection tracking, which would cost every packet of the
//! container: two numbers in headers on the loopback device, whose checksums nobody computes there. All other packets meet
//! one comparison.
//!
//! Invariant: only our own table is touched, as a whole.

use super::ADDRESS;
use crate::sys::netlink::message::{self, APPEND, Attributes, Batch, CREATE, EXCLUSIVE};
use crate::sys::netlink::{self, Family, NetlinkError};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Port of the sockets: above the ports that the kernel gives away by itself.
pub(super) const PORT: u16 = 61053;
const DNS: u16 = 53;
const NAME: &str = "rcon_dns";
const CHAIN: &str = "output";

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// IPv4, version 0, no resource.
const HEADER: [u8; 4] = [2, 0, 0, 0];
/// The same of a batch's markers: the resource is the subsystem.
const MARKER: [u8; 4] = [0, 0, 0, 10];
const HOOK_OUTPUT: u32 = 3;
/// Before connection tracking, if the container has one (`NF_IP_PRI_RAW`).
const PRIORITY: i32 = -300;

const REGISTER: u32 = 1;
const META_OUTPUT: u32 = 5;
const META_PROTOCOL: u32 = 16;
/// The loopback device has this number in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE_ADDRESS: u32 = 12;
const DESTINATION_ADDRESS: u32 = 16;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// Protocol number, and where its checksum is.
const PROTOCOLS: [(u8, u32); 2] = [(17, 6), (6, 16)];

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// Makes the table in the network namespace of the calling thread; one that is there is made anew.
pub(super) fn make() -> Result<(), NetlinkError> {
    let socket = netlink::open(Family::Netfilter)?;
    let fd = socket.as_fd();
    let standing = match message::request(fd, kind(GET_TABLE), &HEADER, |a| a.text(1, NAME)) {
        Ok(_) => true,
        Err(error) if error.errno() == Some(Errno::NOENT) => false,
        Err(error) => return Err(error),
    };
    match replace(fd, standing) {
        // Another member of the pod was faster.
        Err(error) if !standing && error.errno() == Some(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn replace(fd: BorrowedFd<'_>, standing: bool) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.message(BATCH_BEGIN, 0, &MARKER, |_| ());
    if standing {
        // Whether it still stands or not, it is gone then.
        batch.message(kind(NEW_TABLE), CREATE, &HEADER, |a| a.text(1, NAME));
        batch.message(kind(DELETE_TABLE), 0, &HEADER, |a| a.text(1, NAME));
    }
    batch.message(kind(NEW_TABLE), CREATE | EXCLUSIVE, &HEADER, |a| a.text(1, NAME));
    batch.message(kind(NEW_CHAIN), CREATE, &HEADER, |a| {
        a.text(1, NAME);
        a.text(3, CHAIN);
        a.text(7, "filter");
        a.nest(4, |a| {
            a.network_number(1, HOOK_OUTPUT);
            a.put(2, &PRIORITY.to_be_bytes());
        });
    });
    rule(&mut batch, |r| {
        r.meta(META_OUTPUT);
        r.compare(false, &LOOPBACK.to_ne_bytes());
        r.accept();
    });
    for (protocol, checksum) in PROTOCOLS {
        rule(&mut batch, |r| r.rewrite(protocol, checksum, DESTINATION_ADDRESS, DESTINATION_PORT, (DNS, PORT)));
        rule(&mut batch, |r| r.rewrite(protocol, checksum, SOURCE_ADDRESS, SOURCE_PORT, (PORT, DNS)));
    }
    batch.acknowledge_last();
    batch.message(BATCH_END, 0, &MARKER, |_| ());
    batch.run_transaction(fd)
}

fn rule(batch: &mut Batch, body: impl FnOnce(&mut Rule<'_, '_>)) {
    batch.message(kind(NEW_RULE), CREATE | APPEND, &HEADER, |a| {
        a.text(1, NAME);
        a.text(2, CHAIN);
        a.nest(4, |a| body(&mut Rule(a)));
    });
}

/// Expressions in order of evaluation (`linux/netfilter/nf_tables.h`).
struct Rule<'a, 'b>(&'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(1, |a| {
            a.text(1, name);
            a.nest(2, body);
        });
    }

    fn meta(&mut self, key: u32) {
        self.expression("meta", |a| {
            a.network_number(2, key);
            a.network_number(1, REGISTER);
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expression("cmp", |a| {
            a.network_number(1, REGISTER);
            a.network_number(2, u32::from(!equal));
            a.nest(3, |a| a.put(1, value));
        });
    }

    fn load(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |a| {
            a.network_number(1, REGISTER);
            a.network_number(2, base);
            a.network_number(3, offset);
            a.network_number(4, length);
        });
    }

    /// Another port at `port` of packets of the protocol that have our address at `address`.
    fn rewrite(&mut self, protocol: u8, checksum: u32, address: u32, port: u32, (from, to): (u16, u16)) {
        self.load(NETWORK_HEADER, address, 4);
        self.compare(true, &ADDRESS.octets());
        self.meta(META_PROTOCOL);
        self.compare(true, &[protocol]);
        self.load(TRANSPORT_HEADER, port, 2);
        self.compare(true, &from.to_be_bytes());
        self.expression("immediate", |a| {
            a.network_number(1, REGISTER);
            a.nest(2, |a| a.put(1, &to.to_be_bytes()));
        });
        self.expression("payload", |a| {
            a.network_number(5, REGISTER);
            a.network_number(2, TRANSPORT_HEADER);
            a.network_number(3, port);
            a.network_number(4, 2);
            // The internet checksum of the transport header.
            a.network_number(6, 1);
            a.network_number(7, checksum);
            a.network_number(8, 0);
        });
    }

    fn accept(&mut self) {
        self.expression("immediate", |a| {
            a.network_number(1, 0);
            a.nest(2, |a| a.nest(2, |a| a.network_number(1, 1)));
        });
    }
}
