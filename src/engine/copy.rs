//! `cp`: tar streams in and out of a container, and Docker's path rules around them.
//!
//! Both sides speak tar, also from file to file: one thread packs the source, this one unpacks it at the destination;
//! so the rules about owners, links and hostile names are in one place (`copy/pack.rs`, `copy/unpack.rs`).

mod export;
mod layer;
mod pack;
mod stat;
mod tree;
mod unpack;
mod volumes;

use super::*;
use crate::base::ErrorKind;
use crate::image::{Limits, UnpackError};
use crate::sys::file_owner::FileOwner;
use pack::{Packer, lossy};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
pub use stat::PathStat;
use std::io::{BufReader, BufWriter};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use tree::{Ids, Tree};
use unpack::{Owner, Scope, Unpacker, open_in_root};
pub(in crate::engine) use volumes::sweep as sweep_unfinished_volumes;

/// Links followed one after another at a destination (as many as the kernel follows).
const LINK_LIMIT: usize = 40;
const BUFFER: usize = 256 << 10;

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("cannot {operation} \"{path}\"")]
    Io {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {operation} the archive")]
    Stream {
        operation: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start the thread that holds the container's mounts")]
    Thread(#[from] std::io::Error),
    #[error("the archive names \"{path}\", which leads out of the destination")]
    Escapes { path: String },
    #[error("cannot replace directory \"{path}\" by something else")]
    IsDirectory { path: String },
    #[error("\"{path}\" is not a directory")]
    NotDirectory { path: String },
    #[error("the archive is refused {place} entry \"{path}\"")]
    Archive {
        place: &'static str,
        path: String,
        #[source]
        source: UnpackError,
    },
    #[error("\"{path}\" is too deep")]
    TooDeep { path: String },
    #[error("\"{path}\" is on a file system of the kernel, which holds no files to copy")]
    KernelFiles { path: String },
    #[error("\"{path}\" cannot be in a layer: names that begin with .wh. mark deleted files there")]
    Reserved { path: String },
    #[error("everything else was copied, but devices of a container are not made on the host: {paths}")]
    Devices { paths: String },
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
}

impl CopyError {
    fn io(operation: &'static str, path: &[u8], source: impl Into<std::io::Error>) -> Self {
        CopyError::Io { operation, path: lossy(path), source: source.into() }
    }

    /// What the reader of an archive says, `place` ("after") the entry `path`.
    fn archive(error: UnpackError, place: &'static str, path: &[u8]) -> Self {
        match error {
            UnpackError::File { operation, path, source } => CopyError::Io { operation, path, source },
            // A bound of the bytes comes as an error of the stream.
            UnpackError::Read(source) => match source.downcast::<UnpackError>() {
                Ok(source) => CopyError::Archive { place, path: lossy(path), source },
                Err(source) => CopyError::Stream { operation: "read", source },
            },
            source => CopyError::Archive { place, path: lossy(path), source },
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            CopyError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            CopyError::Stream { .. } | CopyError::Thread(_) => ErrorKind::Internal,
            CopyError::Archive { .. } | CopyError::Escapes { .. } | CopyError::TooDeep { .. } => ErrorKind::Invalid,
            CopyError::IsDirectory { .. } | CopyError::NotDirectory { .. } => ErrorKind::Conflict,
            CopyError::KernelFiles { .. } | CopyError::Devices { .. } | CopyError::Reserved { .. } => ErrorKind::Unsupported,
            CopyError::Runtime(e) => e.kind(),
        }
    }

    fn about(self, operation: &str) -> Error {
        let operation = if operation == "cp" { "reach the container's files" } else { operation };
        Error::Failed { operation: operation.to_owned(), kind: self.kind(), source: Box::new(self) }
    }
}

/// The extended attributes of a file that make sense elsewhere, sorted. `node` is opened path-only.
pub(super) fn portable_attributes(node: &OwnedFd, kind: FileType, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = pack::attributes(node, kind, path.as_os_str().as_bytes()).map_err(|e| e.about("compare extended attributes"))?;
    found.sort();
    Ok(found)
}

/// A path split as Docker's rules need it.
#[derive(Debug, PartialEq)]
struct Typed<'a> {
    /// Without trailing slashes and `/.`.
    path: &'a [u8],
    /// Last component; None for a root, `.` or `..`, which have no name of their own.
    name: Option<&'a [u8]>,
    /// Ends with `/` or `/.`: must be a directory.
    directory: bool,
    /// Ends with `/.` (or has no name): its contents are meant.
    contents: bool,
}

fn typed(text: &[u8]) -> Typed<'_> {
    let mut path = text;
    let (mut directory, mut contents) = (false, false);
    loop {
        if path.len() > 1 && path.ends_with(b"/") {
            directory = true;
            path = &path[..path.len() - 1];
        } else if path.ends_with(b"/.") {
            (directory, contents) = (true, true);
            path = &path[..path.len() - 1];
        } else {
            break;
        }
    }
    let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let name = (!matches!(last, b"" | b"." | b"..")).then_some(last);
    Typed { path, name, directory: directory || name.is_none(), contents: contents || name.is_none() }
}

/// One side of a copy.
enum Side<'a> {
    Host,
    Container { name: &'a str, tree: Tree },
}

impl Side<'_> {
    fn open(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        match self {
            Side::Host => rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()),
            Side::Container { tree, .. } => open_in_root(tree.root(), path, flags),
        }
    }

    fn show(&self, path: &[u8]) -> String {
        match self {
            Side::Host => lossy(path),
            Side::Container { name, .. } => format!("{name}:{}", lossy(path)),
        }
    }

    fn root(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Side::Host => None,
            Side::Container { tree, .. } => Some(tree.root()),
        }
    }

    fn ids(&self) -> Ids {
        match self {
            Side::Host => Ids::default(),
            Side::Container { tree, .. } => tree.ids().clone(),
        }
    }
}

/// What is copied: opened, its name in the archive not yet chosen.
struct Source {
    node: OwnedFd,
    is_dir: bool,
    contents: bool,
    name: Vec<u8>,
}

/// Where an archive goes and how its top entry is called there.
#[derive(Debug, PartialEq)]
struct Target {
    into: Vec<u8>,
    name: Vec<u8>,
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Existing {
    Directory,
    Other,
    Nothing,
}

impl Engine {
    /// Copies out of a container: a tar stream of `path` (like `docker cp C:path -`). `follow`: a final symlink is resolved.
    ///
    /// # Errors
    /// `NoSuch` for container or path; what cannot be read.
    pub fn copy_out(&self, name: &str, path: &[u8], follow: bool, out: &mut dyn Write) -> Result<()> {
        let side = Side::Container { name, tree: self.open_tree(name)? };
        let source = source(&side, path, follow)?;
        let top = if source.contents { b".".to_vec() } else { source.name.clone() };
        let ids = side.ids();
        let owner = |uid, gid| ids.to_container(uid, gid);
        pack(&source, &top, side.root(), &owner, out).map_err(|e| e.about(&format!("copy \"{}\"", side.show(path))))?;
        self.tell_copied(name, "archive-path", path)
    }

    /// Copies a tar stream into directory `path` of a container.
    ///
    /// # Errors
    /// `NoSuch` for container or path; `Conflict` where an entry would replace a directory; what cannot be written.
    pub fn copy_in(&self, name: &str, path: &[u8], archive: &mut dyn Read, keep_ids: bool) -> Result<()> {
        let side = Side::Container { name, tree: self.open_tree(name)? };
        match existing(&side, path)? {
            Existing::Directory => {}
            Existing::Other => return Err(Error::conflict(format!("destination \"{}\" must be a directory", side.show(path)))),
            Existing::Nothing => return Err(Error::no_such("directory", side.show(path))),
        }
        unpack(&side, path, archive, keep_ids).map_err(|e| e.about(&format!("copy to \"{}\"", side.show(path))))?;
        self.tell_copied(name, "extract-to-dir", path)
    }

    /// `cp` with Docker's path rules between host and container, or between containers.
    ///
    /// # Errors
    /// `Invalid` if both paths are on the host or contradict the rules; otherwise as [`Engine::copy_out`] and [`Engine::copy_in`].
    pub fn copy(&self, from: CopyPath<'_>, to: CopyPath<'_>, keep_ids: bool, follow: bool) -> Result<()> {
        if let (CopyPath::Host(_), CopyPath::Host(_)) = (&from, &to) {
            return Err(Error::invalid("one of source and destination must be a container's path: CONTAINER:PATH"));
        }
        let (from_side, from_path) = self.side(&from)?;
        let (to_side, to_path) = self.side(&to)?;
        let source = source(&from_side, &from_path, follow)?;
        let to_path = follow_links(&to_side, &to_path)?;
        let target = plan(&to_side, &source, &to_path, existing(&to_side, &to_path)?)?;
        let (sender, receiver) = UnixStream::pair().map_err(|e| CopyError::from(e).about("copy"))?;
        let (packed, unpacked) = std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let ids = from_side.ids();
                let owner = move |uid, gid| ids.to_container(uid, gid);
                pack(&source, &target.name, from_side.root(), &owner, sender)
            });
            let unpacked = unpack(&to_side, &target.into, &mut BufReader::with_capacity(BUFFER, &receiver), keep_ids);
            drop(receiver);
            (packing.join().unwrap_or_else(|_| Err(CopyError::from(std::io::Error::other("the packing thread panicked")))), unpacked)
        });
        let operation = format!("copy \"{}\" to \"{}\"", from_side.show(&from_path), to_side.show(&to_path));
        match (packed, unpacked) {
            (Ok(()), Ok(())) => {
                for (side, action, path) in [(&from, "archive-path", &from_path), (&to, "extract-to-dir", &to_path)] {
                    if let CopyPath::Container { container, .. } = side {
                        self.tell_copied(container, action, path)?;
                    }
                }
                Ok(())
            }
            // The reader went away first: its own error is the cause.
            (Err(CopyError::Stream { .. }) | Ok(()), Err(e)) | (Err(e), _) => Err(e.about(&operation)),
        }
    }

    fn tell_copied(&self, name: &str, action: &str, path: &[u8]) -> Result<()> {
        self.emit([events::of_container(&self.find(name)?, action).with("path", String::from_utf8_lossy(path))]);
        Ok(())
    }

    fn side<'a>(&self, path: &CopyPath<'a>) -> Result<(Side<'a>, Vec<u8>)> {
        match path {
            CopyPath::Host(path) => Ok((Side::Host, path.as_os_str().as_bytes().to_vec())),
            CopyPath::Container { container, path } => {
                // A container's path is taken from its root.
                let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", *path].concat() };
                Ok((Side::Container { name: container, tree: self.open_tree(container)? }, path))
            }
        }
    }
}

fn pack<W: Write>(
    source: &Source,
    top: &[u8],
    root: Option<BorrowedFd<'_>>,
    owner: &dyn Fn(u32, u32) -> (u32, u32),
    out: W,
) -> std::result::Result<(), CopyError> {
    let mut packer = Packer::new(BufWriter::with_capacity(BUFFER, out), root, owner)?;
    packer.add(&source.node, top)?;
    packer.finish()
}

/// Writes all that is beneath directories as one tar, with the owners that the files have; what has a name is put there. With
/// a `time` (seconds since 1970) all files have that.
///
/// # Errors
/// What cannot be read or written.
pub fn pack_trees(roots: &[(String, OwnedFd)], time: Option<i64>, out: &mut dyn Write) -> Result<()> {
    let same = |uid, gid| (uid, gid);
    let pack = || {
        let mut packer = Packer::new(BufWriter::with_capacity(BUFFER, out), None, &same)?;
        packer.set_time(time);
        for (name, root) in roots {
            match name.as_bytes() {
                b"" => packer.add_contents(root)?,
                name => packer.add(root, name)?,
            }
        }
        packer.finish()
    };
    pack().map_err(|e: CopyError| e.about("write the files"))
}

/// Unpacks a tar beneath a directory (`ADD` of an archive): owners are kept, links lead within the directory at most.
/// `limits` are those of an archive that is a stranger's. The latest time of an entry, in seconds since 1970; None: it has none.
///
/// # Errors
/// A malformed or hostile archive; what cannot be written.
pub fn unpack_archive(directory: BorrowedFd<'_>, archive: &mut dyn Read, limits: Option<Limits>) -> Result<Option<i64>> {
    let keep = |uid, gid| (uid, gid);
    let scope = Scope::InRoot { root: directory, base: Vec::new() };
    let unpacker = Unpacker::new(scope, Owner::Keep(&keep));
    let unpacker = match limits {
        Some(limits) => unpacker.bounded(limits),
        None => unpacker,
    };
    unpacker.unpack(archive).map_err(|e| e.about("unpack the archive"))
}

fn unpack(side: &Side<'_>, into: &[u8], archive: &mut dyn Read, keep_ids: bool) -> std::result::Result<(), CopyError> {
    let ids = side.ids();
    let keep = |uid, gid| ids.to_host(uid, gid);
    let scope = match side {
        Side::Container { tree, .. } => Scope::InRoot { root: tree.root(), base: into.to_vec() },
        Side::Host => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Scope::Beneath { dir: rustix::fs::open(into, flags, Mode::empty()).map_err(|e| CopyError::io("open", into, e))? }
        }
    };
    // Files can be made in id-mapped mounts only by ids that they have a place for.
    let (uid, gid) = ids.to_host(0, 0);
    let mapped = (uid, gid) != (0, 0);
    let _maker = mapped.then(|| FileOwner::assume(uid, gid)).transpose().map_err(|e| CopyError::io("make files as root of", b"the container", e))?;
    let owner = match side {
        _ if keep_ids => Owner::Keep(&keep),
        Side::Container { .. } => Owner::Fixed(uid, gid),
        Side::Host => Owner::Fixed(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    Unpacker::new(scope, owner).unpack(archive).map(drop)
}

/// Opens what is to be copied.
fn source(side: &Side<'_>, path: &[u8], follow: bool) -> Result<Source> {
    let wanted = typed(path);
    let mut flags = OFlags::PATH;
    if wanted.directory {
        flags |= OFlags::DIRECTORY;
    } else if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let node = side.open(wanted.path, flags).map_err(|e| match e {
        Errno::NOENT => Error::no_such("file", side.show(path)),
        Errno::NOTDIR => Error::invalid(format!("\"{}\" is not a directory", side.show(path))),
        e => CopyError::io("open", path, e).about(&format!("copy \"{}\"", side.show(path))),
    })?;
    let stat = pack::stat(&node, path).map_err(|e| e.about("copy"))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let mut contents = wanted.contents;
    let mut name = wanted.name.unwrap_or_default().to_vec();
    // `..` of the host has a name, found by resolving it; `.` means its contents.
    if let (Side::Host, None) = (side, wanted.name)
        && wanted.path.ends_with(b"..")
        && let Some(found) = host_name(wanted.path)
    {
        contents = path.ends_with(b"/.");
        name = found;
    }
    Ok(Source { node, is_dir, contents, name })
}

fn host_name(path: &[u8]) -> Option<Vec<u8>> {
    let full = std::fs::canonicalize(PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))).ok()?;
    full.file_name().map(|n| n.as_bytes().to_vec())
}

fn existing(side: &Side<'_>, path: &[u8]) -> Result<Existing> {
    let failed = |e: CopyError| e.about(&format!("copy to \"{}\"", side.show(path)));
    match side.open(typed(path).path, OFlags::PATH) {
        Ok(node) => {
            let stat = pack::stat(&node, path).map_err(failed)?;
            Ok(if FileType::from_raw_mode(stat.st_mode) == FileType::Directory { Existing::Directory } else { Existing::Other })
        }
        Err(Errno::NOENT) => Ok(Existing::Nothing),
        Err(e) => Err(failed(CopyError::io("open", path, e))),
    }
}

/// The destination behind the links that end the path: a link to a file means that file, one to nothing the file to be made.
fn follow_links(side: &Side<'_>, path: &[u8]) -> Result<Vec<u8>> {
    let mut current = path.to_vec();
    for _ in 0..LINK_LIMIT {
        let wanted = typed(&current);
        if wanted.directory {
            return Ok(current);
        }
        let Ok(node) = side.open(wanted.path, OFlags::PATH | OFlags::NOFOLLOW) else { return Ok(current) };
        let Ok(target) = rustix::fs::readlinkat(&node, c"", Vec::new()) else { return Ok(current) };
        let target = target.to_bytes();
        current = if target.starts_with(b"/") {
            target.to_vec()
        } else {
            let (parent, _) = split(wanted.path);
            [parent, b"/", target].concat()
        };
    }
    Err(Error::invalid(format!("too many symbolic links at \"{}\"", side.show(path))))
}

/// Parent directory (`.` if none is named, `/` for the root) and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

/// Docker's rules: which directory receives the archive, and under which name.
fn plan(side: &Side<'_>, source: &Source, path: &[u8], existing: Existing) -> Result<Target> {
    let wanted = typed(path);
    if source.contents && !source.is_dir {
        return Err(Error::invalid("the source is not a directory"));
    }
    let renamed = || {
        let (into, name) = split(wanted.path);
        Target { into: into.to_vec(), name: name.to_vec() }
    };
    match existing {
        Existing::Directory => {
            let name = if source.contents { b".".to_vec() } else { source.name.clone() };
            Ok(Target { into: wanted.path.to_vec(), name })
        }
        Existing::Other if wanted.directory => Err(Error::invalid(format!("\"{}\" is not a directory", side.show(path)))),
        Existing::Other if source.is_dir => Err(Error::conflict(format!("cannot copy a directory onto the file \"{}\"", side.show(path)))),
        Existing::Other => Ok(renamed()),
        Existing::Nothing if wanted.directory && !source.is_dir => Err(Error::no_such("directory", side.show(path))),
        Existing::Nothing => {
            let target = renamed();
            match side.open(&target.into, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => Ok(target),
                Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::no_such("directory", side.show(&target.into))),
                Err(e) => Err(CopyError::io("open", &target.into, e).about(&format!("copy to \"{}\"", side.show(path)))),
            }
        }
    }
}

#[cfg(test)]
#[path = "copy/tests.rs"]
mod tests;
