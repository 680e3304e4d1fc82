//! One layer: a tar stream unpacked into one directory in overlayfs form.
//!
//! Invariant: nothing a layer says makes us touch anything outside its directory. Names are split into single
//! components, and every component is opened relative to a held directory with `O_NOFOLLOW`. Links of the layer itself
//! are followed on names (`follow`), not by the kernel.

mod changes;
pub mod fixup;
mod follow;
mod holes;
pub mod split;
pub mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod xattr;

pub use changes::describe;
pub use fixup::{Fixups, apply as apply_fixups};
pub use holes::{Holes, free_of};
pub use tree::unpack;

use crate::base::ByteSize;
use std::io;

/// Most entries of one layer.
pub const ENTRY_LIMIT: u64 = 10_000_000;
/// Most bytes of one path (`PATH_MAX` counts a zero byte too).
pub const PATH_LIMIT: usize = 4095;
/// Most bytes of one path component (`NAME_MAX`).
pub const NAME_LIMIT: usize = 255;
/// Most bytes of one PAX or GNU extension header (CVE-2017-14992).
pub const EXTENSION_LIMIT: u64 = 1 << 20;
/// Most data extents of one sparse file.
pub const EXTENT_LIMIT: usize = 1 << 20;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    #[error("the tar is malformed: {0}")]
    Malformed(String),
    #[error("{what} exceeds the limit of {limit}")]
    Limit { what: &'static str, limit: u64 },
    #[error("it expands to more than {limit} bytes ({key} in [image.limits] of the settings)")]
    Expansion { limit: u64, key: &'static str },
    /// All numbers are bytes.
    #[error(
        "\"{path}\" is {} long with {} of data, and a layer has the holes as zeros: {} of them are more than {}",
        ByteSize(*size).decimal(), ByteSize(*stored).decimal(), ByteSize(*holes).decimal(), most_holes(*most, *set)
    )]
    Sparse { path: String, size: u64, stored: u64, holes: u64, most: u64, set: bool },
    #[error("entry \"{path}\" is refused: {why}")]
    Refused { path: String, why: &'static str },
    #[error("cannot {operation} \"{path}\" of the layer")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// What an unpacked layer amounts to.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Bytes of regular files.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    pub entries: u64,
    /// What can be finished only when the layers below are there.
    pub fixups: Fixups,
}

fn most_holes(most: u64, set: bool) -> String {
    let most = ByteSize(most).decimal();
    if set {
        format!("the limit of {most} (image.limits.max_layer_holes in the settings)")
    } else {
        format!("the {most} that are free on this disk (image.limits.max_layer_holes in the settings allows more)")
    }
}

/// A path as it may be shown: control characters escaped.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
