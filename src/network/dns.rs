//! Names on user networks: who answers at 127.0.0.11 within a container, without a daemon.
//!
//! ## Lives here
//! Messages (`message`), the names files (`table`, `names`), what is answered (`answer`), what is passed on (`upstreams`,
//! `exchange`, `stream`), the server (`server`) and how its queries come to it (`redirect`).
//! ## Invariants
//! - The server blocks nowhere and starts nothing; it tells its descriptors and its next deadline, and takes one step.
//! - Whatever a client or a server sends, what is kept for it is bounded, and no name is decompressed.
//! - A name of a container is never asked for elsewhere, also not with a type that containers do not have.
//! ## Not here
//! Which container is on which network (`engine` writes the names files and makes the plan), and the loop (`monitor`).
//! ## Decisions
//! - Each container's monitor answers for it. Rejected: a process per network or host (a daemon that everything hangs on, and
//!   that must enter every namespace); hosts files (no aliases with several holders, no change that a running libc sees).
//! - One names file per network on the run root, mapped and searched where it lies: one copy in memory for all monitors,
//!   and a rename is the whole notice. Rejected: messages to every monitor (100 of them for each start).
//! - Ports are rewritten without connection tracking on the way over the loopback device (`redirect`), so that port 53 stays the
//!   container's. Rejected: DNAT as Docker does (connection tracking for every packet of the container), sk_lookup (an answer
//!   over UDP would come from the wrong port).
//! - Own messages instead of hickory-proto: only a question is read and only records about it are written. Measured with
//!   hickory-proto 0.25: 80 crates, 650 KiB more of binary, 1.5 µs for reading a query and writing its answer.
//! - Answers live for 10 s (Docker: 600 s): names follow containers, and asking again is cheap.
//! - SERVFAIL for foreign names where all networks are internal, as Docker says since version 26: nothing else would be true.
//! - What it costs: 16 KiB of an idle monitor's own memory and the pages of the names files, which all monitors share; 3 to 5 µs
//!   of processor for a query over UDP (200 000 a second and more, 13 µs for a client that asks one at a time), 15 µs for
//!   one that is passed on; two sockets, and one per question on its way.
//! - A flood of queries costs the monitor's processor time, not the container's, as it costs dockerd's with Docker.

mod answer;
mod exchange;
mod message;
pub mod names;
mod redirect;
mod server;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod upstreams;

pub use server::Server;
pub use table::Entry;

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Where it answers within each container.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What a container's server has to know. As JSON it is the resolver of a monitor's configuration, and what a monitor is told
/// when the container was connected to a network or disconnected; the names files are written before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its networks; the first that knows a name answers.
    pub networks: Vec<PlannedNetwork>,
    /// `--dns`: addresses; empty: those of the host's resolv.conf, which is read again when it changes.
    pub servers: Vec<String>,
    /// Whether foreign questions are passed on: one of its networks is not internal.
    pub forward: bool,
}

/// A network of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNetwork {
    /// As it stands behind a container's name.
    pub name: String,
    /// See [`names::write`].
    pub names: PathBuf,
}
