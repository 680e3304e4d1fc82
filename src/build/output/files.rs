//! The files of the result: in a directory, or as a tar.
//!
//! A tar is there when it is whole. Files in a directory are written in place, one after the other: a build that is
//! killed then leaves some of them, and the next one replaces them.

use super::Delivery;
use super::spec::{Destination, LocalOutput};
use crate::base::fs::Context as _;
use crate::base::{Cancel, Staged, fs};
use crate::build::epoch::Epoch;
use crate::build::error::{Error, Result};
use crate::engine::{pack_trees, unpack_archive};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{CStr, CString, OsStr};
use std::io::{BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Links followed one after another (as many as the kernel follows).
const LINK_LIMIT: usize = 40;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Delivery<'_> {
    /// Into a directory, which is made if it is not there, or one beneath it for each platform.
    pub(super) fn local(&self, output: &LocalOutput) -> Result<()> {
        let trees = self.trees(output.split)?;
        let directory = &output.directory;
        std::fs::create_dir_all(directory).on("create", directory)?;
        if output.delete {
            spare(directory)?;
            remove_others(&trees, directory)?;
        }
        for (below, tree) in trees {
            let directory = directory.join(below);
            self.begun.say(&format!("copying files to {}", directory.display()));
            copy(tree, &directory, self.epoch.map(Epoch::seconds), &self.engine.cancel)?;
        }
        Ok(())
    }

    /// As one tar.
    pub(super) fn tar(&self, to: &Destination, split: Option<bool>, out: &mut (dyn Write + Send)) -> Result<()> {
        let trees = self.trees(split)?;
        to_destination((to, &self.engine.cancel), out, &mut |out| Ok(pack_trees(&trees, self.epoch.map(Epoch::seconds), out)?))
    }
}

fn copy(tree: OwnedFd, directory: &Path, time: Option<i64>, cancel: &Cancel) -> Result<()> {
    std::fs::create_dir_all(directory).on("create", directory)?;
    let target = rustix::fs::open(directory, DIRECTORY, Mode::empty()).on("open", directory)?;
    let (mut sender, receiver) = UnixStream::pair().on("make", Path::new("a socket"))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack_trees(&[(String::new(), tree)], time, &mut sender));
        let unpacked = unpack_archive(target.as_fd(), &mut cancel.checked(BufReader::with_capacity(PIECE, &receiver)), None);
        drop(receiver);
        // Whoever unpacks knows the cause if it goes away first.
        unpacked?;
        packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })
}

/// Refuses to empty what is more likely meant to stay: the root, and the directory that the user is in.
fn spare(directory: &Path) -> Result<()> {
    let real = std::fs::canonicalize(directory).on("find", directory)?;
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    if real == Path::new("/") || here.starts_with(&real) {
        let message = format!("mode=delete would empty {}: name a directory that is for the result alone", directory.display());
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// Removes from a directory what none of the trees has, or has as something else. All trees are put into the directory
/// itself, or each into one beneath it.
fn remove_others(trees: &[(String, OwnedFd)], directory: &Path) -> Result<()> {
    let target = rustix::fs::open(directory, DIRECTORY, Mode::empty()).on("open", directory)?;
    if trees.iter().all(|(below, _)| below.is_empty()) {
        let ours: Vec<BorrowedFd<'_>> = trees.iter().map(|(_, tree)| tree.as_fd()).collect();
        return remove_beneath(&ours, target.as_fd(), directory);
    }
    for name in names(target.as_fd(), directory)? {
        let path = directory.join(OsStr::from_bytes(name.to_bytes()));
        match trees.iter().find(|(below, _)| below.as_bytes() == name.to_bytes()) {
            Some((_, tree)) if is_directory(target.as_fd(), &name) == Some(true) => {
                let below = rustix::fs::openat(&target, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).on("open", &path)?;
                remove_beneath(&[tree.as_fd()], below.as_fd(), &path)?;
            }
            _ if is_directory(target.as_fd(), &name) == Some(true) => fs::remove_tree(&path)?,
            _ => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).on("list", path)? {
        let entry = entry.on("list", path)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Whether what has that name is a directory; None: there is nothing.
fn is_directory(root: BorrowedFd<'_>, name: &CStr) -> Option<bool> {
    let stat = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Removes from `target` (at `path`) what none of these directories has, or has as something else.
fn remove_beneath(ours: &[BorrowedFd<'_>], target: BorrowedFd<'_>, path: &Path) -> Result<()> {
    for name in names(target, path)? {
        let below = path.join(OsStr::from_bytes(name.to_bytes()));
        let open = |root: BorrowedFd<'_>| rustix::fs::openat(root, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).on("open", &below);
        let (with, files): (Vec<BorrowedFd<'_>>, Vec<BorrowedFd<'_>>) =
            ours.iter().copied().filter(|root| is_directory(*root, &name).is_some()).partition(|root| is_directory(*root, &name) == Some(true));
        match is_directory(target, &name) {
            Some(true) if !with.is_empty() => {
                let with = with.into_iter().map(open).collect::<std::result::Result<Vec<OwnedFd>, _>>()?;
                let with: Vec<BorrowedFd<'_>> = with.iter().map(AsFd::as_fd).collect();
                remove_beneath(&with, open(target)?.as_fd(), &below)?;
            }
            Some(false) if !files.is_empty() => {}
            Some(true) => fs::remove_tree(&below)?,
            Some(false) => fs::remove_file(&below)?,
            None => {}
        }
    }
    Ok(())
}

/// A file is there when it is whole, or not at all: what is cancelled before it has its name has none.
///
/// # Errors
/// What `write` says; the file cannot be made; it was cancelled.
pub fn to_destination(
    (to, cancel): (&Destination, &Cancel),
    out: &mut (dyn Write + Send),
    write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let Destination::File(path) = to else { return write(&mut cancel.checked(out)) };
    // Devices and pipes are written to.
    let path = followed(path)?;
    if std::fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return write(&mut cancel.open_node(&path).on("open", &path)?);
    }
    let mut staged = Staged::new(&path)?;
    write(&mut cancel.checked(staged.file()))?;
    crate::base::failpoint::hit("build.output.before_name").on("name", &path)?;
    cancel.check().on("name", &path)?;
    Ok(staged.commit()?)
}

/// Where the user's own links lead, also one that leads to no file yet: docker writes through them (os.Create), so a link is
/// not replaced, but the file that it names is made as a whole beside its place.
fn followed(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINK_LIMIT {
        let Ok(target) = std::fs::read_link(&path) else { return Ok(path) };
        path = path.parent().unwrap_or(Path::new(".")).join(target);
    }
    Err(rustix::io::Errno::LOOP).on("follow the link", &path).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_result_has_not_is_removed() {
        let base = std::env::temp_dir().join(format!("rcon-delete-{}", crate::base::random_hex(8)));
        let (tree, target) = (base.join("tree"), base.join("target"));
        for (root, files) in [(&tree, ["a/kept", "file"].as_slice()), (&target, ["a/kept", "a/gone", "b/c/gone", "file/was/a/directory"].as_slice())]
        {
            for file in files {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "x").unwrap();
            }
        }
        // A link is removed, and nothing that it leads to.
        std::fs::write(base.join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../outside", target.join("link")).unwrap();
        std::os::unix::fs::symlink("..", target.join("up")).unwrap();
        let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap();
        remove_others(&[(String::new(), open(&tree))], &target).unwrap();
        let names = |path: &Path| {
            let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!((names(&target).as_str(), names(&target.join("a")).as_str(), base.join("outside").exists()), ("a", "kept", true));
        // Beneath a directory for each platform.
        std::fs::create_dir_all(base.join("split/linux_amd64/a/gone")).unwrap();
        std::fs::create_dir_all(base.join("split/linux_arm64")).unwrap();
        remove_others(&[("linux_amd64".to_owned(), open(&tree))], &base.join("split")).unwrap();
        assert_eq!((names(&base.join("split")).as_str(), names(&base.join("split/linux_amd64/a")).as_str()), ("linux_amd64", ""));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_is_cancelled_has_no_name() {
        let base = std::env::temp_dir().join(format!("rcon-cancelled-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(&base).unwrap();
        let (to, cancel) = (Destination::File(base.join("archive")), Cancel::default());
        let written = to_destination((&to, &cancel), &mut Vec::new(), &mut |out| {
            out.write_all(b"whole").on("write", &base)?;
            cancel.cancel();
            Ok(())
        });
        assert!(written.is_err() && std::fs::read_dir(&base).unwrap().next().is_none());
        let written = to_destination((&Destination::Stdout, &cancel), &mut Vec::new(), &mut |out| Ok(out.write_all(b"x").on("write", &base)?));
        assert!(written.is_err());
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn links_of_the_user_are_written_through() {
        let base = std::env::temp_dir().join(format!("rcon-dest-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(base.join("far")).unwrap();
        std::fs::write(base.join("far/old"), "old").unwrap();
        for (name, target) in [("there", "far/old"), ("dangling", "far/new"), ("twice", "dangling"), ("lost", "none/x"), ("circle", "circle")] {
            std::os::unix::fs::symlink(target, base.join(name)).unwrap();
        }
        let write = |name: &str| {
            let to = Destination::File(base.join(name));
            to_destination((&to, &Cancel::default()), &mut Vec::new(), &mut |out| Ok(out.write_all(name.as_bytes()).on("write", Path::new(name))?))
        };
        for (name, file) in [("there", "far/old"), ("dangling", "far/new"), ("twice", "far/new")] {
            write(name).unwrap();
            assert_eq!(std::fs::read_to_string(base.join(file)).unwrap(), name);
        }
        assert!(write("lost").is_err() && write("circle").is_err());
        for name in ["there", "dangling", "twice", "lost", "circle"] {
            assert!(std::fs::symlink_metadata(base.join(name)).unwrap().is_symlink(), "{name}");
        }
        assert_eq!(std::fs::read_dir(base.join("far")).unwrap().count(), 2);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn the_root_and_where_one_is_are_not_emptied() {
        assert!(spare(Path::new("/")).is_err() && spare(Path::new(".")).is_err() && spare(Path::new("..")).is_err());
        assert!(spare(&std::env::temp_dir()).is_ok());
    }
}
