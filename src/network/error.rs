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
    #[error("network device {device} exists and does not belong to network {network}")]
    ForeignBridge { device: String, network: String },
    #[error("address {address} is in no subnet of network {network}")]
    OutsideOfPools { address: IpAddr, network: String },
    #[error("containers join network {0} by CNI plugins")]
    NotOurs(String),
    #[error("this kernel has no IPv6")]
    NoIpv6,
    #[error("this kernel has no {kind} network devices")]
    NoSuchKind {
        kind: &'static str,
        #[source]
        source: NetlinkError,
    },
    #[error("parent {device} of network {network} does not exist")]
    NoParent { network: String, device: String },
    #[error("{device} cannot be the parent of network {network}: {reason}")]
    UnfitParent { network: String, device: String, reason: &'static str },
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
    /// No address of the container has the family of the publication.
    #[error("cannot publish port {port}/{protocol}: the container has no {family} address on its networks")]
    NoTarget { port: String, protocol: &'static str, family: &'static str },
    #[error("cannot publish port {port}/{protocol}: the kernel does not redirect the IPv6 loopback address")]
    Ipv6Loopback { port: String, protocol: &'static str },
    #[error("cannot publish port {port}/sctp: this kernel has no SCTP")]
    NoSctp { port: String },
    #[error("\"{0}\" cannot be a name on a network: it is not one word")]
    Name(String),
    #[error("cannot lead frames past the bridge of network {network} (its option rcon.direct)")]
    Direct {
        network: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep the names on a network")]
    Names(#[source] FsError),
    #[error(transparent)]
    Cni(#[from] super::cni::Error),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::PortTaken { .. } | Error::NotABridge(_) | Error::ForeignBridge { .. } | Error::UnfitParent { .. } => ErrorKind::Conflict,
            Error::NoProcess { .. } | Error::NoParent { .. } => ErrorKind::NotFound,
            Error::NoIpv6 | Error::NoSuchKind { .. } | Error::Ipv6Loopback { .. } | Error::NoSctp { .. } => ErrorKind::Unsupported,
            Error::NoTarget { .. } | Error::OutsideOfPools { .. } => ErrorKind::Invalid,
            Error::Cni(error) => error.kind(),
            Error::Netlink { source, .. } => errno_kind(source.errno()),
            Error::Bind { source, .. } if *source == Errno::ADDRNOTAVAIL => ErrorKind::Invalid,
            Error::Bind { source, .. } => errno_kind(Some(*source)),
            Error::Namespace { source, .. } => errno_kind(Errno::from_io_error(source)),
            Error::Parameter(error) | Error::Names(error) => errno_kind(Errno::from_io_error(&error.source)),
            // Before Linux 6.6 there is no such attachment.
            Error::Direct { source, .. } if source.kind() == io::ErrorKind::InvalidInput => ErrorKind::Unsupported,
            Error::Direct { source, .. } => errno_kind(Errno::from_io_error(source)),
            Error::Name(_) => ErrorKind::Invalid,
            Error::MissingLink(_) | Error::NotOurs(_) | Error::NoFreeSubnet | Error::Unstable => ErrorKind::Internal,
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
