//! The names file of a network: written by whoever connects or disconnects, looked into by every monitor on the network.
//!
//! Invariant: a file is never changed, only replaced, so that what is mapped stays as it is. Whoever writes has computed the
//! list and writes it under one lock: the last writer wins.

use super::table::{self, Entry, Table};
use crate::base::fs::{self, Context, FsError};
use crate::network::Error;
use crate::sys::file_view::FileView;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Replaces the names file of a network (`<run>/networks/<network id>/names`); its directory is made if need be.
///
/// # Errors
/// A name that is not one word, and what the file system says.
pub fn write(path: &Path, entries: &[Entry]) -> Result<(), Error> {
    for entry in entries {
        for word in entry.aliases.iter().chain([&entry.container, &entry.name]) {
            if !table::is_word(word) {
                return Err(Error::Name(word.clone()));
            }
        }
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory, 0o700).map_err(Error::Names)?;
    }
    fs::replace(path, table::text(entries).as_bytes(), 0o600).map_err(Error::Names)
}

/// What was written last; nothing if there is no file.
///
/// # Errors
/// The file cannot be read.
#[cfg(test)]
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(Table(&other.on("read", path).map_err(Error::Names)?).entries()),
    }
}

/// Tells one content of a path from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(facts: &std::fs::Metadata) -> Self {
        Stamp { file: (facts.dev(), facts.ino()), size: facts.size(), modified: (facts.mtime(), facts.mtime_nsec()) }
    }
}

/// A names file as one reader sees it.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    seen: Option<(Stamp, FileView)>,
}

impl Names {
    pub(super) fn new(path: PathBuf) -> Self {
        Names { path, seen: None }
    }

    /// Looks whether the file was replaced. One that cannot be read keeps what it said: the container's names are better
    /// than none.
    pub(super) fn look(&mut self) {
        match std::fs::metadata(&self.path) {
            Ok(facts) if self.seen.as_ref().is_some_and(|(stamp, _)| *stamp == Stamp::of(&facts)) => {}
            Ok(_) => match self.open() {
                Ok(seen) => self.seen = Some(seen),
                Err(error) => tracing::warn!("{error}: {}", error.source),
            },
            // The network is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.seen = None,
            Err(error) => tracing::warn!("cannot look at {}: {error}", self.path.display()),
        }
    }

    fn open(&self) -> Result<(Stamp, FileView), FsError> {
        let file = File::open(&self.path).on("open", &self.path)?;
        let facts = file.metadata().on("stat", &self.path)?;
        let length = usize::try_from(facts.len()).unwrap_or(usize::MAX);
        Ok((Stamp::of(&facts), FileView::new(file.as_fd(), length).on("map", &self.path)?))
    }

    pub(super) fn table(&self) -> Table<'_> {
        Table(self.seen.as_ref().map_or(&[], |(_, view)| view.bytes()))
    }
}
