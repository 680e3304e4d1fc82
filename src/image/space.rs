//! Room on the disk: asked for before a pull, explained after a write that found none.

use super::layer::free_of;
use super::{Error, content};
use crate::base::Roots;
use crate::base::fs::Context;
use crate::oci::{Descriptor, media};
use std::error::Error as StdError;
use std::path::Path;

/// Bytes that this process may still write below the data root.
fn free(roots: &Roots) -> Result<u64, Error> {
    Ok(free_of(&rustix::fs::statvfs(&roots.data).on("ask for the free space of", &roots.data)?))
}

/// Refuses to begin when so many bytes do not fit beneath a directory.
///
/// # Errors
/// [`Error::DiskFull`], or the file system cannot be asked.
pub fn require_bytes(directory: &Path, what: &str, needed: u64) -> Result<(), Error> {
    let free = free_of(&rustix::fs::statvfs(directory).on("ask for the free space of", directory)?);
    if needed <= free {
        return Ok(());
    }
    Err(Error::DiskFull { what: what.to_owned(), path: directory.to_owned(), needed: Some(needed), free, source: None })
}

/// The least that a layer takes once unpacked: its files are at least as large as they are compressed. Of a tar
/// that is not compressed nothing is certain: it may be all headers, or sparse.
fn unpacked(blob: &Descriptor) -> u64 {
    if media::layer(&blob.media_type) == Ok(media::Compression::None) { 0 } else { blob.size }
}

/// Refuses to begin when the layers (the blobs of those that are missing) certainly do not fit.
///
/// # Errors
/// [`Error::DiskFull`], or the file system cannot be asked.
pub fn require<'a>(roots: &Roots, what: &str, layers: impl Iterator<Item = &'a Descriptor>) -> Result<(), Error> {
    let mut needed = 0u64;
    for blob in layers {
        let here = content::fetched(roots, &blob.digest);
        needed = needed.saturating_add(blob.size.saturating_sub(here)).saturating_add(unpacked(blob));
    }
    let free = free(roots)?;
    if needed <= free {
        return Ok(());
    }
    Err(Error::DiskFull { what: what.to_owned(), path: roots.data.clone(), needed: Some(needed), free, source: None })
}

/// Puts a write that found the disk (or a quota) full in words: what all layers need, and what there is.
/// `layers` is empty where no manifest is known yet.
pub fn explain(roots: &Roots, what: &str, layers: &[Descriptor], error: Error) -> Error {
    if matches!(error, Error::DiskFull { .. }) || !is_full(&error) {
        return error;
    }
    let sum = layers.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size).saturating_add(unpacked(blob)));
    let needed = Some(sum).filter(|sum| *sum > 0);
    // What cannot be asked is told as nothing: the failed write itself says more.
    let free = free(roots).unwrap_or(0);
    Error::DiskFull { what: what.to_owned(), path: roots.data.clone(), needed, free, source: Some(Box::new(error)) }
}

/// Some cause of this failure is a full disk, a used-up quota, or no inode left.
pub fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        {
            return true;
        }
        if let Some(sqlite) = cause.downcast_ref::<rusqlite::Error>()
            && sqlite.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs::FsError;

    #[test]
    fn a_full_disk_is_seen_through_every_wrapping() {
        let io = |code| std::io::Error::from_raw_os_error(code);
        let wrapped = Error::Decompress { layer: "x".to_owned(), source: io(libc::ENOSPC) };
        assert!(is_full(&wrapped));
        assert!(is_full(&Error::Fs(FsError { operation: "create", path: "/x".into(), source: io(libc::EDQUOT) })));
        assert!(!is_full(&Error::Decompress { layer: "x".to_owned(), source: io(libc::EIO) }));
        let roots = Roots { data: "/".into(), run: "/".into() };
        let text = explain(&roots, "busybox", &[], wrapped).to_string();
        assert!(text.starts_with("not enough space for busybox: / has ") && text.ends_with(" free"), "{text}");
    }

    #[test]
    fn what_cannot_fit_is_refused_with_numbers() {
        let roots = Roots { data: "/".into(), run: "/".into() };
        let layer = |size| Descriptor {
            media_type: media::OCI_LAYER_GZIP.to_owned(),
            digest: crate::oci::Digest::of(b"a layer that nobody fetched"),
            size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        assert!(require(&roots, "x", [layer(1)].iter()).is_ok());
        match require(&roots, "x", [layer(1 << 60)].iter()) {
            Err(Error::DiskFull { needed, .. }) => assert_eq!(needed, Some(1 << 61)),
            other => panic!("{other:?}"),
        }
        assert!(require_bytes(Path::new("/"), "x", 1).is_ok());
        let text = require_bytes(Path::new("/"), "http://a/x", 1 << 60).unwrap_err().to_string();
        assert!(text.starts_with("not enough space for http://a/x: / has "), "{text}");
    }
}
