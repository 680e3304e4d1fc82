//! `serve`: the Docker Engine API on a Unix socket.

use super::context::Context;
use super::failure::{Failure, USAGE};
use super::{info, output, version};
use crate::engine::Engine;
use crate::server::{self, Address, Info};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Who may connect besides root, if the group exists.
const GROUP: &str = "rcon";

/// Serve the Docker Engine API on a Unix socket
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Where to listen: unix://PATH, or fd:// for the socket of a systemd unit; can be repeated
    #[arg(long = "listen", value_name = "ADDRESS", default_value = "unix:///run/rcon/rcon.sock")]
    pub listen: Vec<String>,
    /// Group that may connect; whoever may connect is root on this host
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

/// # Errors
/// A socket cannot be made, or is another server's.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    // The stages of execs are copies of this process, and a container with CAP_SYS_PTRACE can open what it runs from.
    crate::runtime::run_protected().map_err(|e| Failure::caused("cannot protect the binary", &e))?;
    let addresses = args.listen.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
    let group = match &args.group {
        Some(name) => Some(group(name).ok_or_else(|| Failure::invalid(format!("--group: there is no group \"{name}\"")).with_code(USAGE))?),
        None => group(GROUP),
    };
    let engine = context.engine()?;
    let facts = info::Facts::of(context)?;
    let documents = Info { version: version::server(), info: Arc::new(move |engine: &Engine| info::document(engine, &facts)) };
    let mut ready = || {
        if let Err(error) = crate::sys::notify::ready() {
            output::talk(format_args!("warning: cannot tell systemd that the socket is there: {error}"));
        }
    };
    server::serve(engine, documents, &addresses, group, &mut ready).map_err(|error| Failure::caused("cannot serve", &error))?;
    Ok(ExitCode::SUCCESS)
}

fn address(text: &str) -> Result<Address, Failure> {
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(PathBuf::from(path))),
        Some(("fd", _)) => Ok(Address::Activation),
        Some(("tcp" | "http" | "https", _)) => {
            let refused =
                Failure::invalid(format!("--listen: \"{text}\" is not supported: whoever can connect is root on this host")).with_code(USAGE);
            Err(refused.with_hint("listen on a Unix socket, and reach it from elsewhere by ssh"))
        }
        _ => Err(Failure::invalid(format!("--listen: \"{text}\" is neither unix:///PATH nor fd://")).with_code(USAGE)),
    }
}

/// The number of a group, by the system's file.
fn group(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&name)).and_then(|fields| fields.get(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(address("fd://").unwrap(), Address::Activation);
        for bad in ["tcp://127.0.0.1:2375", "unix://x", "/run/x", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
