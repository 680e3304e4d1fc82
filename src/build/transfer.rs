//! Files on their way into a stage: what COPY and ADD select, the key of what they selected, and how it is put in place.
//!
//! Both sides may be hostile and may change meanwhile. The source is walked by openat2(2) beneath a held root, without
//! following links but those that a source names itself; the target is entered the same way. What changed between the
//! selection and the copy is an error, never another file than the one that the key was made of.
//!
//! Rules where builders differ. Most were tried with buildah 1.28 or read in BuildKit's source; links in the way of a source
//! directory, `--parents` and `--exclude` follow the documentation alone:
//! - A directory source gives its contents. The destination itself, if it is made, is 0755 and never takes over the mode
//!   or time of the source; directories beneath it do, also if they existed.
//! - Missing parents are 0755, of the time of the copy, and belong to `--chown` if that is given.
//! - Hard links within one source stay hard links; between two sources they become copies.
//! - `--chmod` reaches every file and directory of the source, but neither links nor made parents.
//! - Files of a context belong to 0:0, whoever owns them on the host; `--from` keeps owners ([`Selection::keep_owner`]).
//! - A named source that is a link is followed inside of its root (to a file too); links beneath it stay links.
//! - A link at the end of the destination is followed inside of the root, also one that leads to nothing. (BuildKit
//!   writes the file it names; buildah makes a directory there.) A link in the way of a directory of the source is an error.
//! - A wildcard without a match is an error only if nothing else is copied.
//! - Sockets stay behind (a layer has no form for them); fifos and devices are made.
//! - `ADD` of an archive keeps the owners in it whatever `--chown` says; that owns the destination directory alone.

mod apply;
pub mod archive;
mod digest;
mod memo;
mod mode;
mod owner;
mod place;
mod select;
#[cfg(test)]
mod tests;

pub use apply::{Target, apply};
pub use archive::add;
pub use memo::Memo;
pub use mode::Change as ModeChange;
pub use place::make_directory;
pub use select::{Selection, select};

use crate::base::{Cancel, ErrorKind};
use crate::image::{Holes, Limits, UnpackError};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why files could not be selected or copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{instruction} {path}: not found in {place}{why}")]
    Missing { instruction: &'static str, path: String, place: String, why: String },
    #[error("{instruction} {path}: not a pattern")]
    Pattern {
        instruction: &'static str,
        path: String,
        #[source]
        source: crate::build::context::PatternError,
    },
    #[error("--exclude is no pattern")]
    Exclude(#[source] crate::build::context::IgnoreError),
    #[error("cannot {operation} \"{path}\"")]
    Io {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("\"{path}\" is nested too deep: a path has at most 4095 bytes")]
    TooDeep { path: String },
    #[error("\"{path}\" changed while it was copied: build again when nothing writes to it")]
    Changed { path: String },
    #[error("cannot copy several sources to \"{path}\": end the destination with a slash, so that it is a directory")]
    Several { path: String },
    #[error("cannot copy to \"{path}\": the existing \"{what}\" is not a directory")]
    NotDirectory { path: String, what: String },
    #[error("cannot replace the directory \"{path}\" by a file: remove it first, or end the destination with a slash")]
    IsDirectory { path: String },
    #[error("too many symbolic links at \"{path}\"")]
    Links { path: String },
    #[error("--chown={text}: {why}")]
    Owner { text: String, why: String },
    #[error("--chmod={text}: {why}")]
    Mode { text: String, why: &'static str },
    #[error("{instruction} takes more than {limit} files: leave some out (.dockerignore, --exclude), or name fewer sources")]
    Many { instruction: &'static str, limit: usize },
    #[error(
        "{instruction} takes files whose paths, links and attributes have more than {limit} bytes, at \"{path}\": leave some out (.dockerignore, --exclude), or name fewer sources"
    )]
    Heavy { instruction: &'static str, path: String, limit: usize },
    #[error("what is copied has more holes than a layer may have")]
    Sparse(#[source] UnpackError),
    #[error("cannot unpack \"{path}\"")]
    Unpack {
        path: String,
        #[source]
        source: Box<crate::engine::Error>,
    },
}

type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Missing { .. } => ErrorKind::NotFound,
            Error::Changed { .. } | Error::NotDirectory { .. } | Error::IsDirectory { .. } => ErrorKind::Conflict,
            Error::Io { .. } => ErrorKind::Internal,
            Error::Unpack { source, .. } => source.kind(),
            _ => ErrorKind::Invalid,
        }
    }

    fn io(operation: &'static str, path: &[u8], source: impl Into<std::io::Error>) -> Self {
        Error::Io { operation, path: shown(path), source: source.into() }
    }
}

/// What a COPY or ADD takes: sources in their order, each a file or the contents of a directory.
#[derive(Debug, Default)]
pub struct Selected {
    sources: Vec<Source>,
    /// Ends what reads them.
    cancel: Cancel,
}

#[derive(Debug)]
struct Source {
    /// None: a heredoc.
    root: Option<Arc<OwnedFd>>,
    /// Where it is beneath the root, without links.
    real: Vec<u8>,
    /// Its name in the destination directory, if it is a file.
    name: Vec<u8>,
    is_directory: bool,
    /// The data of a heredoc, which is no file.
    text: Option<Vec<u8>>,
    /// Of a file itself (with an empty path); of a directory what is beneath it, parents before children.
    entries: Vec<Entry>,
}

/// One file, as it was when it was selected.
#[derive(Debug, Clone)]
struct Entry {
    /// Beneath the source.
    path: Vec<u8>,
    kind: FileType,
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    /// Bytes on the disk.
    stored: u64,
    modified: (i64, u32),
    device: (u32, u32),
    /// Of a symbolic link.
    link: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    links: u32,
    identity: Identity,
}

/// What tells a file from another, and from itself after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Identity {
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Identity {
    fn of(stat: &rustix::fs::Statx) -> Self {
        Identity {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

impl Selected {
    /// What reads them ends with `cancel`.
    #[must_use]
    pub fn until(self, cancel: &Cancel) -> Self {
        Selected { cancel: cancel.clone(), ..self }
    }

    /// These sources and then those (files and heredocs of one instruction).
    #[must_use]
    pub fn and(mut self, other: Selected) -> Self {
        self.sources.extend(other.sources);
        self
    }

    /// A heredoc: a file of root's with mode 0644 (and the time of the build).
    pub fn document(name: &str, body: &[u8]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            path: Vec::new(),
            kind: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: body.len() as u64,
            stored: body.len() as u64,
            modified: (i64::try_from(now.as_secs()).unwrap_or(0), now.subsec_nanos()),
            device: (0, 0),
            link: Vec::new(),
            attributes: Vec::new(),
            links: 1,
            identity: Identity::default(),
        };
        let (root, real, name) = (None, Vec::new(), name.as_bytes().to_vec());
        Selected {
            sources: vec![Source { root, real, name, is_directory: false, text: Some(body.to_vec()), entries: vec![entry] }],
            ..Selected::default()
        }
    }

    /// Refuses files with more holes than a layer may have, before they are read. `store` is where they are copied to.
    ///
    /// # Errors
    /// [`Error::Sparse`]; the file system cannot be asked for its free space.
    pub fn check_holes(&self, store: &Path, limits: &Limits) -> Result<()> {
        let failed = |e| Error::io("ask for the free space of", store.as_os_str().as_bytes(), e);
        let at = rustix::fs::open(store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let mut holes = Holes::new(at, limits.holes).map_err(failed)?;
        let mut linked = HashSet::new();
        for source in &self.sources {
            for entry in &source.entries {
                if entry.size > entry.stored && (entry.links < 2 || linked.insert(entry.identity)) {
                    holes.add(&source.full(entry), entry.size, entry.stored).map_err(Error::Sparse)?;
                }
            }
        }
        Ok(())
    }

    /// The contents of one directory are meant, not a file or several sources.
    pub fn is_directory(&self) -> bool {
        matches!(self.sources.as_slice(), [source] if source.is_directory)
    }

    #[cfg(test)]
    /// Files, directories and links, without the directories that are sources themselves.
    pub fn count(&self) -> usize {
        self.sources.iter().map(|source| source.entries.len()).sum()
    }

    /// Bytes of the regular files.
    pub fn size(&self) -> u64 {
        self.sources.iter().flat_map(|source| &source.entries).filter(|entry| entry.kind == FileType::RegularFile).map(|entry| entry.size).sum()
    }
}

impl Source {
    fn full(&self, entry: &Entry) -> Vec<u8> {
        join(&self.real, &entry.path)
    }
}

fn join(parent: &[u8], child: &[u8]) -> Vec<u8> {
    match (parent.is_empty(), child.is_empty()) {
        (true, _) => child.to_vec(),
        (_, true) => parent.to_vec(),
        _ => [parent, b"/", child].concat(),
    }
}

/// Directory (empty at the top) and last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|byte| *byte == b'/').map_or((&[][..], path), |slash| (&path[..slash], &path[slash + 1..]))
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).escape_debug().collect() }
}
