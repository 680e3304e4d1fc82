//! What can go wrong with records and leases.

use super::record::PublishedPort;
use crate::base::{ContainerId, ErrorKind, PodId, VolumeName};
use std::path::{Path, PathBuf};

/// What went wrong with the database, or which lease or reference forbids the change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the container name \"{name}\" is already in use by container {}", holder.short())]
    NameTaken { name: String, holder: ContainerId },
    #[error("port {} is already published by container {}", port_text(port), holder.short())]
    PortTaken { port: PublishedPort, holder: ContainerId },
    #[error("every address of network \"{network}\" is in use")]
    NetworkFull { network: String },
    #[error("address {address} of network \"{network}\" is in use")]
    AddressTaken { address: std::net::IpAddr, network: String },
    #[error("network with name {name} already exists")]
    NetworkExists { name: String },
    #[error("network \"{name}\" has active endpoints: {}", containers_text(holders))]
    NetworkInUse { name: String, holders: Vec<ContainerId> },
    #[error("no {size} host ids in a row are left for another user namespace")]
    IdsExhausted { size: u32 },
    #[error("volume \"{name}\" is in use by {}", containers_text(holders))]
    VolumeInUse { name: VolumeName, holders: Vec<ContainerId> },
    #[error("volume \"{name}\" of container {} no longer exists", container.short())]
    VolumeMissing { name: String, container: ContainerId },
    /// Names and containers that refer to the image.
    #[error("image {id} is in use by {}", holders_text(names, containers))]
    ImageInUse { id: String, names: Vec<String>, containers: Vec<ContainerId> },
    #[error("image {id} no longer exists")]
    ImageMissing { id: String },
    #[error("layer {chain_id} does not exist")]
    LayerMissing { chain_id: String },
    #[error("container {} no longer exists", id.short())]
    ContainerMissing { id: ContainerId },
    #[error("pod {} no longer exists", id.short())]
    PodMissing { id: PodId },
    #[error("pod {} is not up any more", id.short())]
    PodDown { id: PodId },
    #[error("pod {} still has {}", id.short(), containers_text(members))]
    PodInUse { id: PodId, members: Vec<ContainerId> },
    #[error("the id prefix \"{prefix}\" is ambiguous: it fits {}", containers_text(fits))]
    Ambiguous { prefix: String, fits: Vec<ContainerId> },
    #[error(
        "{} was written by a newer rcon (schema {found}, this one knows up to {supported}); nothing was changed",
        path.display()
    )]
    TooNew { path: PathBuf, found: i64, supported: i64 },
    #[error("cannot {operation} in {}", path.display())]
    Sqlite {
        operation: String,
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite finds the file itself damaged, or not a database at all.
    #[error("cannot {operation}: the database {} is damaged", path.display())]
    Corrupt {
        operation: String,
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// The file has no content although it had some.
    #[error("the database {} is empty, but {} is not", path.display(), beside.display())]
    Emptied { path: PathBuf, beside: PathBuf },
    /// A stored document that this build cannot read.
    #[error("the record of {object} in {} is damaged", path.display())]
    Document {
        object: String,
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A stored key that is not what its column holds.
    #[error("{} holds an impossible {what}: \"{value}\"", path.display())]
    Damaged { what: &'static str, value: String, path: PathBuf },
    #[error(transparent)]
    Fs(#[from] crate::base::fs::FsError),
}

impl Error {
    /// What a front door tells apart.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NameTaken { .. } | Error::PortTaken { .. } | Error::VolumeInUse { .. } | Error::ImageInUse { .. } => ErrorKind::Conflict,
            Error::PodInUse { .. } | Error::PodDown { .. } | Error::AddressTaken { .. } => ErrorKind::Conflict,
            Error::NetworkExists { .. } | Error::NetworkInUse { .. } => ErrorKind::Conflict,
            Error::NetworkFull { .. } | Error::IdsExhausted { .. } => ErrorKind::Unavailable,
            Error::VolumeMissing { .. }
            | Error::ImageMissing { .. }
            | Error::LayerMissing { .. }
            | Error::ContainerMissing { .. }
            | Error::PodMissing { .. } => ErrorKind::NotFound,
            Error::Ambiguous { .. } => ErrorKind::Invalid,
            Error::TooNew { .. } => ErrorKind::Unsupported,
            Error::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => ErrorKind::Unavailable,
                Some(rusqlite::ErrorCode::PermissionDenied | rusqlite::ErrorCode::ReadOnly) => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            Error::Corrupt { .. } | Error::Emptied { .. } | Error::Document { .. } | Error::Damaged { .. } | Error::Fs(_) => ErrorKind::Internal,
        }
    }

    /// The way out, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::IdsExhausted { .. } => Some(
                "remove containers with --userns auto, ask for fewer ids (--userns auto:size=N), or give a larger pool ([userns] pool)".to_owned(),
            ),
            Error::TooNew { .. } => Some("use the rcon that wrote it, or a newer one".to_owned()),
            Error::Corrupt { path, .. } | Error::Emptied { path, .. } => Some(format!(
                "restore {0} (with {0}-wal) from a backup, or move both away to start anew: images and containers must then be made again, volumes stay on disk",
                path.display()
            )),
            Error::Sqlite { source, path, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                Some(format!("free some space on the file system of {}", path.display()))
            }
            _ => None,
        }
    }

    /// Wraps an SQLite failure with the operation (`read container "x"`) and the file.
    pub(super) fn sqlite(operation: impl Into<String>, path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
        let operation = operation.into();
        let path = path.to_path_buf();
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Error::Corrupt { operation, path, source },
            _ => Error::Sqlite { operation, path, source },
        }
    }
}

fn port_text(port: &PublishedPort) -> String {
    let protocol = port.protocol.name();
    match port.host_ip {
        Some(ip) => format!("{}/{protocol}", std::net::SocketAddr::new(ip, port.host_port)),
        None => format!("{}/{protocol}", port.host_port),
    }
}

fn containers_text(ids: &[ContainerId]) -> String {
    let shown: Vec<&str> = ids.iter().take(5).map(ContainerId::short).collect();
    let more = if ids.len() > shown.len() { format!(" and {} more", ids.len() - shown.len()) } else { String::new() };
    format!("container {}{more}", shown.join(", "))
}

fn holders_text(names: &[String], containers: &[ContainerId]) -> String {
    match (names.is_empty(), containers.is_empty()) {
        (_, true) => format!("the name {}", names.join(", ")),
        (true, false) => containers_text(containers),
        (false, false) => format!("the name {} and {}", names.join(", "), containers_text(containers)),
    }
}
