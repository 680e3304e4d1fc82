//! # cni
//! ## Lives here
//! Networks of the Container Network Interface, versions 0.3.0 to 1.1.0: configuration files, the protocol with plugins
//! (ADD, DEL, CHECK, GC, STATUS, VERSION), their results and errors, and the durable record of what is attached.
//! ## Invariants
//! - What was added is deleted: the record of an attachment is on disk before the first plugin runs and goes after the last
//!   one released it, with the configuration that was used then, whatever the files say by now.
//! - One operation at a time on a container, none beside a GC. The lock is held by the plugin that is at work too (it is
//!   its standard input), so that an ADD which outlives us is waited for before its DEL.
//! - Plugins run in the network namespace of the calling thread.
//! ## Not here
//! Which container is on which network, its network namespace, files in its `/etc` (`engine`).
//! ## Decisions
//! - The network namespace reaches plugins as a bind mount of its file, which the caller makes under the run root: its path
//!   means the same to every process (daemons behind plugins too), to CHECK and DEL as to ADD, and it keeps the namespace
//!   until DEL, which the reference plugins need to take their masquerading rules down. Rejected: `/proc/PID/fd/N`, which
//!   leaves no mount but another path, and no namespace, to the command that follows a kill.
//! - Records are files, not rows: they hold documents of others as they are, and the room takes a directory.
//! - A choice of `cniVersions` is settled by asking the plugins. Rejected: the newest that we speak, which plugins of
//!   distributions refuse.
//! - A wish that no plugin declares to obey is refused, name servers excepted (resolv.conf obeys them). Rejected: dropping it
//!   in silence as other runtimes do.

mod attach;
mod capability;
mod config;
mod error;
mod plugin;
mod record;
mod result;
#[cfg(test)]
mod tests;
mod upkeep;
mod version;

pub use attach::{Attached, Attachment, Driver, InterfaceName};
pub use capability::{Dns, Wishes};
use config::PluginConfig;
pub use config::{Configs, NetworkConfig};
pub use error::Error;
pub use plugin::Plugins;
pub use result::{AddResult, Ip};
pub use version::Version;
