//! The key of a selection: what a copy of it would look like, times left out.

use super::{Entry, Error, Identity, Memo, Result, Selected, Source, shown};
use crate::base::{Cancel, rooted};
use crate::oci::{Algorithm, Digest, DigestHasher};
use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files hashed by each thread at once, and the least number for which a second thread is worth its start.
const BATCH: usize = 64;
const PIECE: usize = 128 << 10;
/// Changes with the form of what is hashed.
const FORM: &[u8] = b"rcon transfer 1\n";

impl Selected {
    /// The content key: path, mode, owner, size, type, link target, device numbers, attributes and data of every file; no times.
    ///
    /// # Errors
    /// A file cannot be read, or changed since it was selected.
    pub fn digest(&self, memo: &mut Memo) -> Result<Digest> {
        let files: Vec<(&Source, &Entry)> = self.sources.iter().flat_map(|source| source.entries.iter().map(move |entry| (source, entry))).collect();
        let data = contents(&files, memo, &self.cancel)?;
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(FORM);
        let mut data = data.into_iter();
        for source in &self.sources {
            // A directory stands for its contents: neither its name nor its mode is copied.
            field(&mut hasher, if source.is_directory { b"" } else { &source.name });
            hasher.update(&[u8::from(source.is_directory)]);
            hasher.update(&(source.entries.len() as u64).to_le_bytes());
            for entry in &source.entries {
                describe(&mut hasher, entry, data.next().flatten().as_ref());
            }
        }
        Ok(hasher.finish())
    }
}

fn field(hasher: &mut DigestHasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn describe(hasher: &mut DigestHasher, entry: &Entry, data: Option<&Digest>) {
    field(hasher, &entry.path);
    let mode = entry.mode | entry.kind.as_raw_mode();
    for number in [mode, entry.uid, entry.gid, entry.device.0, entry.device.1] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&entry.size.to_le_bytes());
    field(hasher, &entry.link);
    hasher.update(&(entry.attributes.len() as u64).to_le_bytes());
    for (name, value) in &entry.attributes {
        field(hasher, name);
        field(hasher, value);
    }
    field(hasher, data.map_or(b"", |digest| digest.as_str().as_bytes()));
}

/// The digest of each regular file, in the order of the files.
fn contents(files: &[(&Source, &Entry)], memo: &mut Memo, cancel: &Cancel) -> Result<Vec<Option<Digest>>> {
    let mut found: Vec<Option<Digest>> = Vec::with_capacity(files.len());
    let mut open = Vec::new();
    for (index, (source, entry)) in files.iter().enumerate() {
        let regular = entry.kind == FileType::RegularFile;
        let known = match &source.text {
            Some(text) => Some(Digest::of(text)),
            None if regular => memo.get(&entry.identity),
            None => None,
        };
        if regular && known.is_none() {
            open.push(index);
        }
        found.push(known);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; PIECE];
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = open.get(start..open.len().min(start.saturating_add(BATCH))).filter(|batch| !batch.is_empty()) else {
                return Ok(done);
            };
            for index in batch {
                let (source, entry) = files[*index];
                done.push((*index, hash(source, entry, &mut buffer, cancel)?));
            }
        }
    };
    let results: Vec<Result<Vec<(usize, Digest)>>> = if open.len() > BATCH {
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let own = work();
            vec![own, other.join().expect("invariant: a panic aborts the process")]
        })
    } else {
        vec![work()]
    };
    for result in results {
        for (index, digest) in result? {
            memo.set(&files[index].1.identity, &digest);
            found[index] = Some(digest);
        }
    }
    Ok(found)
}

fn hash(source: &Source, entry: &Entry, buffer: &mut [u8], cancel: &Cancel) -> Result<Digest> {
    let full = source.full(entry);
    let mut file = File::from(open_file(source, entry, &full)?);
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    loop {
        cancel.check().map_err(|e| Error::io("read", &full, e))?;
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", &full, e)),
        }
    }
    unchanged(file.as_fd(), entry, &full)?;
    Ok(hasher.finish())
}

/// Opens the regular file that was selected, or fails if something else is there now.
pub(super) fn open_file(source: &Source, entry: &Entry, full: &[u8]) -> Result<OwnedFd> {
    // NONBLOCK: should the name be a fifo by now, the open must not hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let root = source.root.as_ref().ok_or_else(|| Error::io("open", full, rustix::io::Errno::NOENT))?;
    let file = rooted::open_plain(root.as_fd(), Path::new(OsStr::from_bytes(full)), flags).map_err(|e| match e {
        rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => Error::Changed { path: shown(full) },
        e => Error::io("open", full, e),
    })?;
    unchanged(file.as_fd(), entry, full)?;
    Ok(file)
}

/// The open file is the one that was selected, not written to since.
pub(super) fn unchanged(file: std::os::fd::BorrowedFd<'_>, entry: &Entry, full: &[u8]) -> Result<()> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(|e| Error::io("examine", full, e))?;
    if Identity::of(&stat) == entry.identity { Ok(()) } else { Err(Error::Changed { path: shown(full) }) }
}
