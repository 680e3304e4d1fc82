//! Why a network operation failed.

use crate::base::ErrorKind;
use crate::base::fs::FsError;
use crate::sys::netlink::NetlinkError;
use rustix::io::Errno;
use std::io;
use std::net::IpAddr;

/// Failures of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a link, address, route or rule.
    #[error("cannot {operation} {object}")]
    Netlink {
        operation: &'static str,
        object: String,
        #[source]
        source: NetlinkError,
    },
    #[error("cannot {operation} network namespace")]
    Namespace {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("no network namespace of process {pid}")]
    NoProcess {
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("cannot set kernel parameter")]
    Parameter(#[source] FsError),
    #[error("{0} is missing from the network namespace")]
    MissingLink(String),
    #[error("network device {0} exists and is not a bridge")]
    NotABridge(String),
    #[error("every private address range overlaps a route of this host")]
    NoFreeSubnet,
    #[error("the firewall table keeps changing under us")]
    Unstable,
    #[error("port {port}/{protocol} is already in use{holder}")]
    PortTaken { port: String, protocol: &'static str, holder: String },
    #[error("cannot bind port {port}/{protocol}")]
    Bind {
        port: String,
        protocol: &'static str,
        #[source]
        source: Errno,
    },
    #[error("publishing on the IPv6 address {0} is not supported")]
    Ipv6Publication(IpAddr),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::PortTaken { .. } | Error::NotABridge(_) => ErrorKind::Conflict,
            Error::NoProcess { .. } => ErrorKind::NotFound,
            Error::Ipv6Publication(_) => ErrorKind::Unsupported,
            Error::Netlink { source, .. } => errno_kind(source.errno()),
            Error::Bind { source, .. } if *source == Errno::ADDRNOTAVAIL => ErrorKind::Invalid,
            Error::Bind { source, .. } => errno_kind(Some(*source)),
            Error::Namespace { source, .. } => errno_kind(Errno::from_io_error(source)),
            Error::Parameter(error) => errno_kind(Errno::from_io_error(&error.source)),
            Error::MissingLink(_) | Error::NoFreeSubnet | Error::Unstable => ErrorKind::Internal,
        }
    }
}

fn errno_kind(errno: Option<Errno>) -> ErrorKind {
    match errno {
        Some(Errno::PERM | Errno::ACCESS) => ErrorKind::Forbidden,
        Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    }
}

/// Attaches operation and object to a netlink result.
pub(super) trait Context<T> {
    fn on(self, operation: &'static str, object: &str) -> Result<T, Error>;
}

impl<T> Context<T> for Result<T, NetlinkError> {
    fn on(self, operation: &'static str, object: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Netlink { operation, object: object.to_owned(), source })
    }
}
