//! The files of one group in one hierarchy.

use super::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A group's directory, with the name that errors show.
#[derive(Debug, Clone)]
pub(super) struct Files<'a> {
    pub(super) dir: PathBuf,
    pub(super) group: &'a str,
}

impl Files<'_> {
    /// Writes one value in one write(2), as cgroup files demand. Never creates a file.
    ///
    /// # Errors
    /// [`Error::Set`]
    pub(super) fn set(&self, file: &str, value: &str) -> Result<(), Error> {
        self.try_set(file, value).map_err(|source| self.failed(file, value, source))
    }

    /// [`Files::set`] for callers that look at the errno.
    ///
    /// # Errors
    /// As the kernel says; `NotFound` when this kernel or group has no such file.
    pub(super) fn try_set(&self, file: &str, value: &str) -> io::Result<()> {
        write(&self.dir.join(file), value)
    }

    pub(super) fn failed(&self, file: &str, value: &str, source: io::Error) -> Error {
        Error::Set { file: file.to_owned(), value: value.to_owned(), group: self.group.to_owned(), source }
    }

    /// # Errors
    /// [`Error::Read`]
    pub(super) fn get(&self, file: &str) -> Result<String, Error> {
        let failed = |source| Error::Read { file: file.to_owned(), group: self.group.to_owned(), source };
        // Files of the kernel are text.
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
        crate::base::fs::read_short(&self.dir, file).map(text).map_err(failed)
    }

    /// The first number of a file; None when it is missing or says `max`.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.get(file).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// The value of a `key value` line.
    pub(super) fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        keyed(&self.get(file).ok()?, key)
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.dir.join(file).exists()
    }
}

/// One write(2) into an existing file.
///
/// # Errors
/// As the kernel says.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(value.as_bytes())
}

/// The value of a `key value` line (`memory.stat`, `cpu.stat`, `cgroup.events`).
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
