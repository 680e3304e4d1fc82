//! # server
//! ## Lives here
//! `rcon serve`: the Docker Engine API on a Unix socket, as one more front door on the engine.
//! ## Invariants
//! - No state of containers is here: the server can be killed and started again at any moment, and what it served goes on.
//! - Wire types and status codes stay here; the engine hears domain types.
//! - A request that nobody waits for any more ends: each has a `Cancel` that the lost connection pulls.
//! ## Not here
//! Decisions about containers (`engine`), flags (`cli`).
//! ## Decisions
//! - hyper moves bytes on a small reactor; each handler is a blocking function on a thread of its own, since all that it calls
//!   (`engine`) blocks. Rejected: axum, whose router knows no names with slashes in the middle of a path (`/images/a/b/json`), where
//!   a `match` on the parts of a path does; a reactor all the way down, which the engine does not have.
//! - Requests are read into our own types with the fields that we act on. Rejected: bollard-stubs, whose closed lists of words refuse
//!   what clients of another version send.
//! - An attach to a container that does not run yet waits here until a start by this server: then the container is set up to its
//!   gate, the streams are connected, and the gate opens, so that no byte is lost.
//! - Only Unix sockets: whoever may connect is root on this host. Rejected: TCP without TLS, at any address.

pub mod docker;
mod listen;

pub use listen::{Address, serve};

use serde_json::Value;
use std::sync::Arc;

/// Makes the document of `info`.
pub type MakeInfo = dyn Fn(&crate::engine::Engine) -> Result<Value, crate::engine::Error> + Send + Sync;

/// The documents of `version` and `info`, which the command line prints, too.
#[derive(Clone)]
pub struct Info {
    pub version: Value,
    pub info: Arc<MakeInfo>,
}
