//! `ADD` of archives: what is one, by its content, and its files in the destination.
//!
//! Plain, gzip, bzip2, xz and also zstd: BuildKit's documentation leaves the last out, its code unpacks it. A damaged
//! file, or an archive without an entry, is copied as the file that it is, as BuildKit does.

use super::digest::open_file;
use super::{Error, Result, Selected, Source, Target, apply, shown};
use crate::base::Cancel;
use crate::image::{Limits, bounded, decompressor};
use rustix::fs::FileType;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

const PIECE: usize = 256 << 10;
/// A header of a tar.
const BLOCK: usize = 512;

/// Like [`super::apply`], but archives among the sources are unpacked into the destination (`ADD`).
///
/// # Errors
/// As [`super::apply`]; an archive that is malformed beyond its beginning or leads out of the destination.
pub fn add(selected: &Selected, target: &Target<'_>, limits: Limits) -> Result<()> {
    apply::place(selected, target, Some(limits))
}

pub(super) fn is_archive(source: &Source) -> Result<bool> {
    let Some(entry) = source.entries.first().filter(|entry| !source.is_directory && source.text.is_none() && entry.kind == FileType::RegularFile)
    else {
        return Ok(false);
    };
    let file = File::from(open_file(source, entry, &source.full(entry))?);
    Ok(begins_as_tar(BufReader::with_capacity(PIECE, file)))
}

/// The bytes begin with an entry of a tar, below whatever compression.
pub(in crate::build) fn begins_as_tar(bytes: impl std::io::BufRead) -> bool {
    let mut header = tar::Header::new_old();
    let Ok(mut input) = decompressor(bytes) else { return false };
    if input.read_exact(header.as_mut_bytes()).is_err() {
        return false;
    }
    let sum: u32 = header.as_bytes().iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    header.as_bytes() != &[0; BLOCK] && header.cksum().is_ok_and(|stored| stored == sum)
}

/// Unpacks a source that is an archive. Links in it lead within the destination at most.
pub(super) fn unpack(source: &Source, into: &OwnedFd, limits: Limits, cancel: &Cancel) -> Result<()> {
    let Some(entry) = source.entries.first() else { return Ok(()) };
    let full = source.full(entry);
    let file = File::from(open_file(source, entry, &full)?);
    let mut archive = bounded(BufReader::with_capacity(PIECE, file), limits).map_err(|e| Error::io("read", &full, e))?;
    crate::engine::unpack_archive(into.as_fd(), &mut cancel.checked(&mut archive), Some(limits))
        .map(drop)
        .map_err(|source| Error::Unpack { path: shown(&full), source: Box::new(source) })
}
