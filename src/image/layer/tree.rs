//! Writes the entries of a layer into its directory, in overlayfs form.
//!
//! Directories are held open along the current path, so an entry costs few system calls, and a name is never
//! resolved through a link: each component is opened by itself with `O_NOFOLLOW`. Replacing a file by a
//! directory and back follows Docker: only a directory over a directory merges.

use super::tar::{Kind, Member, Reader};
use super::{NAME_LIMIT, UnpackError, Unpacked, follow, shown, xattr};
use crate::oci::whiteout::{self, Meaning};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most nested directories: removing a tree holds one descriptor a level, and a process may have 1024.
const DEPTH_LIMIT: usize = 500;
/// Levels of the current path that are held open, besides the last one: several layers are unpacked at once.
const HELD: usize = 48;
/// Mode and owner of a directory that no layer describes.
pub const IMPLICIT_MODE: u32 = 0o755;
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// Overlayfs' mark of a directory that hides what is beneath it.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

pub const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What is set on a directory when nothing will be created in it any more.
struct Finish {
    times: Timestamps,
    /// Its setgid bit and default ACL would be inherited by what we create.
    mode: Option<u32>,
    default_acl: Option<Vec<u8>>,
}

struct Tree {
    root: OwnedFd,
    /// The directories of the current path below the root; the first [`HELD`] and the last one are open.
    stack: Vec<(Vec<u8>, Option<OwnedFd>)>,
    umask: u32,
    /// What we make belongs to 0:0 by itself.
    as_root: bool,
    finish: BTreeMap<Vec<u8>, Finish>,
    out: Unpacked,
}

/// Unpacks a whole layer into the empty directory `diff`; reads the stream to its end.
///
/// # Errors
/// A malformed or hostile tar, or what the filesystem says. The directory is then worthless.
pub fn unpack<R: BufRead>(reader: &mut Reader<R>, diff: &Path) -> Result<Unpacked, UnpackError> {
    let root = rustix::fs::openat(CWD, diff, OPEN_DIRECTORY, Mode::empty());
    let root = root.map_err(|e| failed("open the directory", b"/", e))?;
    let mut tree = Tree {
        root,
        stack: Vec::new(),
        umask: umask(),
        as_root: rustix::process::geteuid().is_root(),
        finish: BTreeMap::new(),
        out: Unpacked::default(),
    };
    tree.out.fixups.implicit.insert(Vec::new());
    while let Some(member) = reader.next()? {
        tree.out.entries += 1;
        tree.write(reader, &member)?;
    }
    reader.drain()?;
    tree.finish_directories()?;
    Ok(tree.out)
}

impl Tree {
    fn top(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_ref().expect("invariant: the last level is open").as_fd())
    }

    /// Goes down into the directory `name`.
    fn push(&mut self, name: &[u8], fd: OwnedFd) {
        if self.stack.len() > HELD
            && let Some((_, last)) = self.stack.last_mut()
        {
            *last = None;
        }
        self.stack.push((name.to_vec(), Some(fd)));
    }

    /// Goes up until `depth` levels are left.
    fn truncate(&mut self, depth: usize) -> Result<(), Errno> {
        self.stack.truncate(depth);
        if self.stack.last().is_some_and(|(_, fd)| fd.is_none()) {
            let names: Vec<&[u8]> = self.stack[HELD..].iter().map(|(name, _)| name.as_slice()).collect();
            let (_, from) = &self.stack[HELD - 1];
            let from = from.as_ref().expect("invariant: the first levels are open");
            let fd = rustix::fs::openat2(from, names.join(&b'/'), OPEN_DIRECTORY, Mode::empty(), BENEATH)?;
            self.stack[depth - 1].1 = Some(fd);
        }
        Ok(())
    }

    fn write<R: BufRead>(&mut self, reader: &mut Reader<R>, member: &Member) -> Result<(), UnpackError> {
        let mut parts = components(&member.path)?;
        let Some((mut name, mut parents)) = parts.split_last() else {
            return self.write_root(member);
        };
        let real;
        if !self.enter(parents, &member.path)? {
            real = self.follow(parents, name, &member.path)?;
            parts = components(&real)?;
            (name, parents) = parts.split_last().expect("invariant: the last name is kept");
            if !self.enter(parents, &member.path)? {
                return Err(refused(&member.path, "it lies beneath a symbolic link that cannot be followed"));
            }
        }
        match whiteout::meaning(name) {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(()),
            Meaning::Invalid => return Err(refused(&member.path, "it is not the name of a whiteout")),
            Meaning::Opaque if parents.is_empty() => {
                self.out.fixups.opaque_root = true;
                return Ok(());
            }
            Meaning::Opaque => return self.set_opaque(self.top(), &member.path),
            Meaning::Removes(removed) => return self.whiteout(removed, &member.path),
        }
        match member.kind {
            Kind::File => self.file(reader, &parts, name, member),
            Kind::Directory => self.directory(reader, &parts, name, member),
            Kind::HardLink => self.hard_link(reader, &parts, member),
            Kind::Symlink => {
                self.create(reader, &parts, member, |dir| rustix::fs::symlinkat(member.link.as_slice(), dir, *name))?;
                self.describe_node(name, member)
            }
            Kind::Character | Kind::Block | Kind::Fifo => {
                let kind = match member.kind {
                    Kind::Character => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(member.device.0, member.device.1);
                let mode = Mode::from_raw_mode(member.mode & 0o777);
                self.create(reader, &parts, member, |dir| rustix::fs::mknodat(dir, *name, kind, mode, device))?;
                self.describe_node(name, member)
            }
        }
    }

    /// `./` describes the layer's root directory.
    fn write_root(&mut self, member: &Member) -> Result<(), UnpackError> {
        if member.kind != Kind::Directory {
            return Err(refused(&member.path, "the root of a layer is a directory"));
        }
        self.stack.clear();
        self.out.fixups.implicit.remove(&[][..]);
        let finish = self.describe_directory(self.root.as_fd(), member, true)?;
        self.finish.insert(Vec::new(), finish);
        Ok(())
    }

    /// `name` in the directory to which `parents` lead when the symbolic links of this layer are followed.
    fn follow(&self, parents: &[&[u8]], name: &[u8], path: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let link = |at: &[Vec<u8>]| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = match rustix::fs::openat2(&self.root, at.join(&b'/'), flags, Mode::empty(), BENEATH) {
                Ok(there) => there,
                // What is not there is made, or refused, by whoever enters it.
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(e),
            };
            let is_link = FileType::from_raw_mode(rustix::fs::fstat(&there)?.st_mode) == FileType::Symlink;
            Ok(if is_link { Some(rustix::fs::readlinkat(&there, "", Vec::new())?.into_bytes()) } else { None })
        };
        let real = follow::resolve(parents, link).map_err(|e| failed("follow a link to", path, e))?;
        let mut real = real.ok_or_else(|| refused(path, "it lies beneath too many symbolic links"))?;
        real.push(name.to_vec());
        Ok(real.join(&b'/'))
    }

    /// Makes `parents` the current path, creating what the tar does not describe. False: a symbolic link is on the way.
    fn enter(&mut self, parents: &[&[u8]], path: &[u8]) -> Result<bool, UnpackError> {
        if parents.len() > DEPTH_LIMIT {
            return Err(UnpackError::Limit { what: "the depth of a path", limit: DEPTH_LIMIT as u64 });
        }
        let common = self.stack.iter().zip(parents).take_while(|((held, _), wanted)| held.as_slice() == **wanted).count();
        self.truncate(common).map_err(|e| failed("open a parent of", path, e))?;
        for (depth, part) in parents.iter().enumerate().skip(common) {
            let fd = match rustix::fs::openat(self.top(), *part, OPEN_DIRECTORY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => self.implicit_directory(part, &parents[..=depth], path)?,
                // O_DIRECTORY with O_NOFOLLOW says so of a link, too.
                Err(Errno::LOOP | Errno::NOTDIR) if self.is_link(part) => return Ok(false),
                Err(Errno::LOOP | Errno::NOTDIR) => self.not_a_directory(part, &parents[..=depth], path)?,
                Err(e) => return Err(failed("open a parent of", path, e)),
            };
            self.push(part, fd);
        }
        Ok(true)
    }

    fn is_link(&self, name: &[u8]) -> bool {
        let stat = rustix::fs::statat(self.top(), name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    fn implicit_directory(&mut self, name: &[u8], parts: &[&[u8]], path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let open = || {
            rustix::fs::mkdirat(self.top(), name, Mode::from_raw_mode(IMPLICIT_MODE))?;
            let fd = rustix::fs::openat(self.top(), name, OPEN_DIRECTORY, Mode::empty())?;
            if IMPLICIT_MODE & self.umask != 0 {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(IMPLICIT_MODE))?;
            }
            Ok(fd)
        };
        let fd = open().map_err(|e| failed("create a parent of", path, e))?;
        self.out.fixups.implicit.insert(parts.join(&b'/'));
        Ok(fd)
    }

    /// A parent that is a whiteout of this layer becomes an opaque directory; anything else is refused.
    fn not_a_directory(&mut self, name: &[u8], parts: &[&[u8]], path: &[u8]) -> Result<OwnedFd, UnpackError> {
        if !is_whiteout(self.top(), name) {
            return Err(refused(path, "it lies beneath a file of the same layer"));
        }
        rustix::fs::unlinkat(self.top(), name, AtFlags::empty()).map_err(|e| failed("replace a parent of", path, e))?;
        let fd = self.implicit_directory(name, parts, path)?;
        self.set_opaque(fd.as_fd(), path)?;
        Ok(fd)
    }

    fn set_opaque(&self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
        rustix::fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(|e| failed("mark as opaque the directory of", path, e))
    }

    /// Hides `name` of the layers below. It says nothing about this layer's own `name`, whichever comes first.
    fn whiteout(&mut self, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        match rustix::fs::mknodat(self.top(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match rustix::fs::openat(self.top(), name, OPEN_DIRECTORY, Mode::empty()) {
                Ok(directory) => self.set_opaque(directory.as_fd(), path),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(e) => Err(failed("write the whiteout", path, e)),
            },
            Err(e) => Err(failed("write the whiteout", path, e)),
        }
    }

    /// Runs `make`, and once more after taking away what held the name.
    fn create<R: BufRead, T>(
        &self,
        reader: &mut Reader<R>,
        parts: &[&[u8]],
        member: &Member,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match make(self.top()) {
            Err(Errno::EXIST) => {
                self.replace(reader, parts, member)?;
                make(self.top()).map_err(|e| failed("create", &member.path, e))
            }
            other => other.map_err(|e| failed("create", &member.path, e)),
        }
    }

    /// Takes away what holds the last of `parts` in the current directory.
    fn replace<R: BufRead>(&self, reader: &mut Reader<R>, parts: &[&[u8]], member: &Member) -> Result<(), UnpackError> {
        let wrong = |e| failed("replace", &member.path, e);
        let name = parts.last().expect("invariant: the root is not replaced");
        let stat = rustix::fs::statat(self.top(), *name, AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)?;
        let holds_data = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => stat.st_size > 0,
            _ => false,
        };
        if holds_data && reader.set_aside(self.top(), name, &parts.join(&b'/'))? {
            return Ok(());
        }
        remove(self.top(), name).map_err(wrong)
    }

    fn file<R: BufRead>(&mut self, reader: &mut Reader<R>, parts: &[&[u8]], name: &[u8], member: &Member) -> Result<(), UnpackError> {
        let path = parts.join(&b'/');
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(member.mode & 0o777);
        let mut file = File::from(self.create(reader, parts, member, |dir| rustix::fs::openat(dir, name, flags, mode))?);
        let wrong = |source| UnpackError::File { operation: "write", path: shown(&member.path), source };
        if let Some(extents) = &member.extents {
            file.set_len(member.size).map_err(wrong)?;
            for (offset, length) in extents {
                let mut at = *offset;
                reader.payload(&path, *offset, *length, |piece| {
                    file.write_all_at(piece, at).map_err(wrong)?;
                    at += piece.len() as u64;
                    Ok(())
                })?;
            }
        } else {
            reader.payload(&path, 0, u64::MAX, |piece| file.write_all(piece).map_err(wrong))?;
        }
        self.out.size = self.out.size.saturating_add(member.size);
        self.owner_and_mode(file.as_fd(), member)?;
        set_xattrs(file.as_fd(), member, false)?;
        rustix::fs::futimens(&file, &times(member)).map_err(|e| failed("set the time of", &member.path, e))
    }

    fn owner_and_mode(&self, fd: BorrowedFd<'_>, member: &Member) -> Result<(), UnpackError> {
        let owned = member.uid != 0 || member.gid != 0 || !self.as_root;
        if owned {
            let owner = (rustix::fs::Uid::from_raw(member.uid), rustix::fs::Gid::from_raw(member.gid));
            rustix::fs::fchown(fd, Some(owner.0), Some(owner.1)).map_err(|e| failed("set the owner of", &member.path, e))?;
        }
        // After the owner: a change of owner clears setuid and setgid.
        if member.mode & 0o7000 != 0 || member.mode & self.umask != 0 {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(member.mode)).map_err(|e| failed("set the mode of", &member.path, e))?;
        }
        Ok(())
    }

    /// Owner, mode and time of a symbolic link or special file.
    fn describe_node(&self, name: &[u8], member: &Member) -> Result<(), UnpackError> {
        let path = &member.path;
        if member.uid != 0 || member.gid != 0 || !self.as_root {
            let owner = (rustix::fs::Uid::from_raw(member.uid), rustix::fs::Gid::from_raw(member.gid));
            rustix::fs::chownat(self.top(), name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("set the owner of", path, e))?;
        }
        if member.kind != Kind::Symlink && (member.mode & 0o7000 != 0 || member.mode & self.umask != 0) {
            // We made this node in a directory nobody else reaches, and it is no link.
            rustix::fs::chmodat(self.top(), name, Mode::from_raw_mode(member.mode), AtFlags::empty())
                .map_err(|e| failed("set the mode of", path, e))?;
        }
        if let Some((name, _)) = member.xattrs.iter().find(|(name, _)| xattr::allowed(name)) {
            tracing::warn!("attribute {} of \"{}\" is dropped: it is not a regular file or directory", shown(name), shown(path));
        }
        rustix::fs::utimensat(self.top(), name, &times(member), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed("set the time of", path, e))
    }

    fn directory<R: BufRead>(&mut self, reader: &mut Reader<R>, parts: &[&[u8]], name: &[u8], member: &Member) -> Result<(), UnpackError> {
        let wrong = |e| failed("create the directory", &member.path, e);
        let mode = Mode::from_raw_mode(member.mode & 0o777);
        let mut existed = false;
        let mut opaque = false;
        if let Err(e) = rustix::fs::mkdirat(self.top(), name, mode) {
            if e != Errno::EXIST {
                return Err(wrong(e));
            }
            let stat = rustix::fs::statat(self.top(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)?;
            existed = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !existed {
                opaque = is_whiteout(self.top(), name);
                self.replace(reader, parts, member)?;
                rustix::fs::mkdirat(self.top(), name, mode).map_err(wrong)?;
            }
        }
        let fd = rustix::fs::openat(self.top(), name, OPEN_DIRECTORY, Mode::empty()).map_err(wrong)?;
        if opaque {
            self.set_opaque(fd.as_fd(), &member.path)?;
        }
        let path = parts.join(&b'/');
        let finish = self.describe_directory(fd.as_fd(), member, existed)?;
        self.out.fixups.implicit.remove(&path);
        self.finish.insert(path, finish);
        self.push(name, fd);
        Ok(())
    }

    fn describe_directory(&self, fd: BorrowedFd<'_>, member: &Member, existed: bool) -> Result<Finish, UnpackError> {
        let path = &member.path;
        if existed || member.uid != 0 || member.gid != 0 || !self.as_root {
            let owner = (rustix::fs::Uid::from_raw(member.uid), rustix::fs::Gid::from_raw(member.gid));
            rustix::fs::fchown(fd, Some(owner.0), Some(owner.1)).map_err(|e| failed("set the owner of", path, e))?;
        }
        let now = member.mode & !0o2000;
        if existed || now & 0o7000 != 0 || now & self.umask != 0 {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(now)).map_err(|e| failed("set the mode of", path, e))?;
        }
        set_xattrs(fd, member, true)?;
        let default_acl = member.xattrs.iter().find(|(name, _)| name == ACL_DEFAULT).map(|(_, value)| value.clone());
        Ok(Finish { times: times(member), mode: (now != member.mode).then_some(member.mode), default_acl })
    }

    fn hard_link<R: BufRead>(&mut self, reader: &mut Reader<R>, parts: &[&[u8]], member: &Member) -> Result<(), UnpackError> {
        self.hard_link_to(reader, parts, member, &member.link, false)
    }

    /// `followed`: the links on the way to `target` were.
    fn hard_link_to<R: BufRead>(
        &mut self,
        reader: &mut Reader<R>,
        parts: &[&[u8]],
        member: &Member,
        target: &[u8],
        followed: bool,
    ) -> Result<(), UnpackError> {
        let name = parts[parts.len() - 1];
        let target = components(target)?;
        if target == parts {
            return Ok(());
        }
        if target.starts_with(parts) {
            return Err(refused(&member.path, "a hard link to what lies beneath it"));
        }
        let Some((target_name, target_parents)) = target.split_last() else {
            return Err(refused(&member.path, "a hard link to the root of the layer"));
        };
        let holder;
        let from = if target_parents.is_empty() {
            self.root.as_fd()
        } else if target_parents == &parts[..parts.len() - 1] {
            self.top()
        } else {
            match rustix::fs::openat2(&self.root, target_parents.join(&b'/'), OPEN_DIRECTORY, Mode::empty(), BENEATH) {
                Ok(fd) => {
                    holder = fd;
                    holder.as_fd()
                }
                // O_DIRECTORY with O_NOFOLLOW calls a link no directory.
                Err(Errno::LOOP | Errno::NOTDIR) if !followed => {
                    let real = self.follow(target_parents, target_name, &member.path)?;
                    return self.hard_link_to(reader, parts, member, &real, true);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return self.link_later(parts, &target),
                Err(e) => return Err(failed("link", &member.path, e)),
            }
        };
        match rustix::fs::statat(from, *target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(refused(&member.path, "a hard link to a directory"));
            }
            // A whiteout removes the file below: there is nothing to link to.
            Ok(_) if is_whiteout(from, target_name) => return Err(refused(&member.path, "a hard link to a removed file")),
            Ok(_) => {}
            Err(Errno::NOENT) => return self.link_later(parts, &target),
            Err(e) => return Err(failed("link", &member.path, e)),
        }
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is a second name of the link itself.
        self.create(reader, parts, member, |dir| rustix::fs::linkat(from, *target_name, dir, name, AtFlags::empty()))
    }

    /// The target may be a file of a layer below.
    fn link_later(&mut self, parts: &[&[u8]], target: &[&[u8]]) -> Result<(), UnpackError> {
        self.out.fixups.links.push((parts.join(&b'/'), target.join(&b'/')));
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        self.stack.clear();
        for (path, finish) in std::mem::take(&mut self.finish) {
            let wrong = |e| failed("finish the directory", &path, e);
            let name: &[u8] = if path.is_empty() { b"." } else { &path };
            let fd = match rustix::fs::openat2(&self.root, name, OPEN_DIRECTORY, Mode::empty(), BENEATH) {
                Ok(fd) => fd,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(wrong(e)),
            };
            if let Some(acl) = finish.default_acl {
                rustix::fs::fsetxattr(&fd, ACL_DEFAULT, &acl, XattrFlags::empty()).map_err(wrong)?;
            }
            if let Some(mode) = finish.mode {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(wrong)?;
            }
            rustix::fs::futimens(&fd, &finish.times).map_err(wrong)?;
        }
        Ok(())
    }
}

/// Splits a name of the archive: a leading `/`, `.` and empty parts mean nothing, `..` is refused.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(path, "it contains \"..\"")),
            long if long.len() > NAME_LIMIT => return Err(UnpackError::Limit { what: "a file name of the tar", limit: NAME_LIMIT as u64 }),
            nul if nul.contains(&0) => return Err(refused(path, "it contains a zero byte")),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// A 0:0 character device: overlayfs' whiteout.
pub fn is_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// Removes a name with everything below it.
fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let inner = rustix::fs::openat(directory, name, OPEN_DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?;
        let entry = entry.file_name().to_bytes();
        if entry != b"." && entry != b".." {
            names.push(entry.to_vec());
        }
    }
    for entry in names {
        remove(inner.as_fd(), &entry)?;
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
}

fn set_xattrs(fd: BorrowedFd<'_>, member: &Member, default_acl_later: bool) -> Result<(), UnpackError> {
    for (name, value) in member.xattrs.iter().filter(|(name, _)| xattr::allowed(name)) {
        if default_acl_later && name == ACL_DEFAULT {
            continue;
        }
        if value.len() > xattr::VALUE_LIMIT {
            return Err(UnpackError::Limit { what: "an extended attribute", limit: xattr::VALUE_LIMIT as u64 });
        }
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Err(e) if xattr::optional(name, e) => tracing::warn!("attribute {} of \"{}\" is dropped: {e}", shown(name), shown(&member.path)),
            other => other.map_err(|e| failed("set an extended attribute of", &member.path, e))?,
        }
    }
    Ok(())
}

fn times(member: &Member) -> Timestamps {
    let time = Timespec { tv_sec: member.mtime.0, tv_nsec: i64::from(member.mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}

/// The mask of this process, without changing it; all ones if it cannot be read, so that modes are always set.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}

pub(super) fn failed(operation: &'static str, path: &[u8], error: Errno) -> UnpackError {
    UnpackError::File { operation, path: shown(path), source: error.into() }
}

fn refused(path: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Refused { path: shown(path), why }
}
