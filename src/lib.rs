//! rcon: the whole container stack for Linux in one binary. This file is the map; each room's door
//! (`src/<room>.rs`) says what lives there, what always holds, and why it is built so.
//! A room imports only from rows beneath it (`tests/tidy.rs` enforces it).

/// Row 1: ids, sizes, clock, signals, `Undo`, files with paths in their errors.
mod base;
/// Row 5: Dockerfiles: from the text to the image, with a cache.
mod build;
/// Row 8: what the user types and sees: clap types, rendering, exit codes. No logic.
mod cli;
/// Row 4: the use cases: containers, pods, images, volumes. The only API that front doors call.
mod engine;
/// Row 3: registries, content, layers and archives.
mod image;
/// Row 3: stdio, logs, attach, exit and restart of one container.
mod monitor;
/// Row 3: netlink, bridge, addresses, firewall and published ports.
mod network;
/// Row 1: the standards' types: digest, reference, platform, image documents.
mod oci;
/// Row 2: OCI config → plan → init: namespaces, mounts, cgroups, capabilities, seccomp.
mod runtime;
/// Row 7: `rcon serve`: the Docker Engine API on a Unix socket.
mod server;
/// Row 2: durable records, leases and locks, in one SQLite database.
mod state;
/// Row 0: raw system calls and kernel file parsers; the only `unsafe`.
mod sys;

pub use cli::main;
pub use engine::stage;
