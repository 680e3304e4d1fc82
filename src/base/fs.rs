//! File operations whose errors name the path and the operation.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An I/O error with the operation and the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FsError {
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Attaches operation and path to an I/O result.
pub trait Context<T> {
    /// # Errors
    /// The same failure, as [`FsError`].
    fn on(self, operation: &'static str, path: &Path) -> Result<T, FsError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn on(self, operation: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(|source| FsError { operation, path: path.to_path_buf(), source: source.into() })
    }
}

/// # Errors
/// The path and why it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FsError> {
    fs::read(path).on("read", path)
}

/// # Errors
/// The path and why it cannot be read as UTF-8 text.
pub fn read_to_string(path: &Path) -> Result<String, FsError> {
    fs::read_to_string(path).on("read", path)
}

/// Opens a file of a directory for reading, with no memory from the heap for its path: one command looks at four files of each of
/// many containers, and musl's heap asks the kernel, and gives back, for one path after the other.
///
/// # Errors
/// As the kernel says.
pub fn open_in(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    /// What the system call layer keeps on its stack, with a NUL.
    const ROOM: usize = 255;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let start = directory.as_os_str().as_bytes();
    let length = start.len() + 1 + name.len();
    if length > ROOM {
        return Ok(rustix::fs::open(directory.join(name), flags, rustix::fs::Mode::empty())?);
    }
    let mut path = [b'/'; ROOM];
    path[..start.len()].copy_from_slice(start);
    path[start.len() + 1..length].copy_from_slice(name.as_bytes());
    Ok(rustix::fs::open(&path[..length], flags, rustix::fs::Mode::empty())?)
}

/// A file of a directory that is short as a rule, in three system calls: `std::fs::read` takes twice as many, which is seen where one
/// command looks at many containers.
///
/// # Errors
/// As the kernel says.
pub fn read_short(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
    /// More than any of them has.
    const ROOM: usize = 2048;
    let file = open_in(directory, name)?;
    let mut buffer = [0u8; ROOM];
    let length = rustix::io::read(&file, &mut buffer)?;
    let mut bytes = buffer[..length].to_vec();
    if length == ROOM {
        io::Read::read_to_end(&mut fs::File::from(file), &mut bytes)?;
    }
    Ok(bytes)
}

/// Writes a file in place (not atomic; for files only we read after a complete write).
///
/// # Errors
/// The path and why it cannot be written.
pub fn write(path: &Path, data: &[u8]) -> Result<(), FsError> {
    fs::write(path, data).on("write", path)
}

/// Replaces a file by rename, so that a reader or a crash sees the old or the new text, never a part.
///
/// # Errors
/// The path and why it cannot be replaced.
pub fn replace(path: &Path, data: &[u8], mode: u32) -> Result<(), FsError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", super::random_hex(8)));
    let temporary = PathBuf::from(name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).on("create", &temporary)?;
    let written = file.write_all(data).on("write", &temporary).and_then(|()| fs::rename(&temporary, path).on("replace", path));
    if written.is_err() {
        // The temporary name is ours alone; a failure to unlink it changes nothing for the caller.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Adds to the end of a file that exists, with one write.
///
/// # Errors
/// The path and why it cannot be written.
pub fn append(path: &Path, data: &[u8]) -> Result<(), FsError> {
    fs::OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(data)).on("append to", path)
}

/// `mkdir -p` with a mode for the directories it makes.
///
/// # Errors
/// The path and why it cannot be made.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<(), FsError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).on("create directory", path)
}

/// Removes a tree that only we own, also what chattr(1) has marked in it; a missing one is fine.
///
/// # Errors
/// The path and why it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), FsError> {
    let removed = match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && super::marks::clear(path) => fs::remove_dir_all(path),
        other => other,
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.on("remove", path),
    }
}

/// Removes a file; a missing one is fine.
///
/// # Errors
/// The path and why it cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), FsError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.on("remove", path),
    }
}
