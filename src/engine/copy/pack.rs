//! A file tree written as a tar stream: types, modes, owners, nanosecond times, links, devices, extended attributes.
//!
//! The tree may belong to a hostile container that changes it meanwhile. Nothing is opened by name twice: every
//! entry is opened once, path-only and without following links, and looked at and read through that descriptor; so no
//! FIFO blocks, no device is opened, and no link leads out.

use super::CopyError;
use crate::base::tar_entry::{self, Record};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Directories deeper than this are refused (each level holds a descriptor).
const DEPTH_LIMIT: usize = 400;
/// In place of a depth: the entry alone is meant.
const SINGLE: usize = usize::MAX;
/// More extended attributes than this on one file are refused by their total size (a file system's own limit is 64 KiB each).
const XATTR_LIMIT: usize = 1 << 20;

/// File systems that show the kernel's or a device's state rather than files: never descended into.
const KERNEL_FILE_SYSTEMS: &[u64] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
];

/// Writes trees into one tar stream.
pub(super) struct Packer<'a, W: Write> {
    out: W,
    /// First name of each file with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// A directory entry that is left empty: the container's /dev (device and inode of its parent is the root).
    root: Option<(u64, u64)>,
    /// Owner ids as they are written (host side → as the container sees them, when ids are mapped).
    owner: &'a dyn Fn(u32, u32) -> (u32, u32),
    /// Time of all files (seconds since 1970) instead of their own.
    time: Option<i64>,
}

impl<'a, W: Write> Packer<'a, W> {
    /// `root`: the root of a running container, whose `/dev` is not a part of the tree.
    pub(super) fn new(out: W, root: Option<BorrowedFd<'_>>, owner: &'a dyn Fn(u32, u32) -> (u32, u32)) -> Result<Self, CopyError> {
        let root = match root {
            Some(fd) => {
                let stat = rustix::fs::fstat(fd).map_err(|e| CopyError::io("stat", b"/", e))?;
                Some((stat.st_dev, stat.st_ino))
            }
            None => None,
        };
        Ok(Packer { out, links: HashMap::new(), root, owner, time: None })
    }

    /// Gives all files that are added from now on this time (seconds since 1970).
    pub(super) fn set_time(&mut self, time: Option<i64>) {
        self.time = time;
    }

    /// Adds `node` (opened path-only) under `name`, with everything beneath it.
    pub(super) fn add(&mut self, node: &OwnedFd, name: &[u8]) -> Result<(), CopyError> {
        let stat = stat(node, name)?;
        if is_kernel_file_system(node) {
            return Err(CopyError::KernelFiles { path: lossy(name) });
        }
        self.entry(node, &stat, name.to_vec(), 0)
    }

    /// Adds what is beneath the directory `node`, not itself, named from there (`bin/sh`).
    pub(super) fn add_contents(&mut self, node: &OwnedFd) -> Result<(), CopyError> {
        let stat = stat(node, b"/")?;
        self.directory(node, &stat, b"", 0)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<(), CopyError> {
        self.out.write_all(&[0; 2 * tar_entry::BLOCK]).and_then(|()| self.out.flush()).map_err(write)
    }

    /// Adds `node` alone under `name`: of a directory nothing beneath it.
    pub(super) fn add_single(&mut self, node: &OwnedFd, name: &[u8]) -> Result<(), CopyError> {
        let stat = stat(node, name)?;
        self.entry(node, &stat, name.to_vec(), SINGLE)
    }

    /// Adds an empty file of mode 0, owned by root: a whiteout of a layer.
    pub(super) fn add_mark(&mut self, name: &[u8]) -> Result<(), CopyError> {
        self.put(tar_entry::mark(), Vec::new(), name, None)
    }

    fn entry(&mut self, node: &OwnedFd, stat: &Stat, name: Vec<u8>, depth: usize) -> Result<(), CopyError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        // A socket means nothing without its process.
        let Some(mut header) = self.header(stat) else { return Ok(()) };
        let mut pax = attributes(node, kind, &name)?;
        if self.time.is_none() {
            pax.extend(tar_entry::precise_time(stat));
        }
        match kind {
            FileType::Directory => {
                self.put(header, pax, &[&name, b"/".as_slice()].concat(), None)?;
                if depth == SINGLE { Ok(()) } else { self.directory(node, stat, &name, depth) }
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                        header.set_entry_type(tar::EntryType::Link);
                        let first = first.clone();
                        return self.put(header, pax, &name, Some(&first));
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), name.clone());
                }
                self.file(node, stat, header, pax, &name)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(node, c"", Vec::new()).map_err(|e| CopyError::io("read link", &name, e))?;
                self.put(header, pax, &name, Some(target.to_bytes()))
            }
            _ => self.put(header, pax, &name, None),
        }
    }

    fn directory(&mut self, node: &OwnedFd, stat: &Stat, name: &[u8], depth: usize) -> Result<(), CopyError> {
        if depth >= DEPTH_LIMIT {
            return Err(CopyError::TooDeep { path: lossy(name) });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(node, c".", flags, Mode::empty()).map_err(|e| CopyError::io("open", name, e))?;
        let is_root = self.root == Some((stat.st_dev, stat.st_ino));
        for child in sorted_names(&dir, name)? {
            let fd = match rustix::fs::openat(&dir, child.as_c_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => fd,
                // Deleted meanwhile: it is no longer a part of the tree.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(CopyError::io("open", &join(name, child.to_bytes()), e)),
            };
            let path = join(name, child.to_bytes());
            let child_stat = self::stat(&fd, &path)?;
            let crossed = child_stat.st_dev != stat.st_dev;
            if crossed && (is_kernel_file_system(&fd) || (is_root && child.to_bytes() == b"dev")) {
                self.empty_directory(&child_stat, &path)?;
                continue;
            }
            self.entry(&fd, &child_stat, path, depth + 1)?;
        }
        Ok(())
    }

    /// A mount point whose content is not a part of the tree.
    fn empty_directory(&mut self, stat: &Stat, path: &[u8]) -> Result<(), CopyError> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let Some(header) = self.header(stat) else { return Ok(()) };
        self.put(header, Vec::new(), &[path, b"/"].concat(), None)
    }

    fn file(&mut self, node: &OwnedFd, stat: &Stat, mut header: tar::Header, pax: Vec<Record>, name: &[u8]) -> Result<(), CopyError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        header.set_size(size);
        let fd = rustix::fs::open(self_path(node), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(|e| CopyError::io("open", name, e))?;
        self.put(header, pax, name, None)?;
        std::io::copy(&mut Exactly { file: std::fs::File::from(fd), left: size }, &mut self.out).map_err(write)?;
        self.out.write_all(&[0; tar_entry::BLOCK][..tar_entry::padding(size)]).map_err(write)
    }

    fn header(&self, stat: &Stat) -> Option<tar::Header> {
        let mut header = tar_entry::header(stat, (self.owner)(stat.st_uid, stat.st_gid))?;
        if let Some(time) = self.time {
            header.set_mtime(u64::try_from(time).unwrap_or(0));
        }
        Some(header)
    }

    /// Writes one entry; what the header has no room for goes before it as extended (PAX) records.
    fn put(&mut self, header: tar::Header, pax: Vec<Record>, name: &[u8], link: Option<&[u8]>) -> Result<(), CopyError> {
        let bytes = tar_entry::head(header, pax, name, link);
        self.out.write_all(&bytes).map_err(write)
    }
}

fn write(source: std::io::Error) -> CopyError {
    CopyError::Stream { operation: "write", source }
}

/// Exactly as many bytes as the header promised: a file that shrank meanwhile is filled with zeroes, one that grew is cut.
struct Exactly {
    file: std::fs::File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let mut count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            buffer[..most].fill(0);
            count = most;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

pub(super) fn stat(node: &OwnedFd, name: &[u8]) -> Result<Stat, CopyError> {
    rustix::fs::fstat(node).map_err(|e| CopyError::io("stat", name, e))
}

/// The descriptor by name, for calls that take none: only for our own held path-only descriptors.
pub(super) fn self_path(node: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd()))
}

fn is_kernel_file_system(node: &OwnedFd) -> bool {
    rustix::fs::fstatfs(node).is_ok_and(|s| KERNEL_FILE_SYSTEMS.contains(&(s.f_type as u64 & 0xffff_ffff)))
}

fn sorted_names(dir: &OwnedFd, name: &[u8]) -> Result<Vec<std::ffi::CString>, CopyError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir.as_fd()).map_err(|e| CopyError::io("list", name, e))? {
        let entry = entry.map_err(|e| CopyError::io("list", name, e))?;
        let child: &CStr = entry.file_name();
        if !matches!(child.to_bytes(), b"." | b"..") {
            names.push(child.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The attributes that make sense elsewhere: capabilities and the user's own.
pub(super) fn is_portable_attribute(name: &[u8]) -> bool {
    // Of `user.` those that a rootless overlayfs obeys are none of a file's own.
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

pub(super) fn attributes(node: &OwnedFd, kind: FileType, name: &[u8]) -> Result<Vec<Record>, CopyError> {
    // Links and special files cannot have the attributes we carry.
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(Vec::new());
    }
    let path = self_path(node);
    let mut list = vec![0u8; 64 << 10];
    let count = match rustix::fs::listxattr(&path, &mut list[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => return Ok(Vec::new()),
        Err(e) => return Err(CopyError::io("list attributes of", name, e)),
    };
    let mut found = Vec::new();
    let mut total = 0;
    for attribute in list[..count].split(|b| *b == 0).filter(|a| is_portable_attribute(a)) {
        let mut value = vec![0u8; 64 << 10];
        let length = match rustix::fs::getxattr(&path, attribute, &mut value[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::NODATA) => continue,
            Err(e) => return Err(CopyError::io("read attributes of", name, e)),
        };
        total += length;
        if total > XATTR_LIMIT {
            return Err(CopyError::io("read attributes of", name, rustix::io::Errno::TOOBIG));
        }
        value.truncate(length);
        found.push(([b"SCHILY.xattr.", attribute].concat(), value));
    }
    Ok(found)
}

fn join(parent: &[u8], child: &[u8]) -> Vec<u8> {
    if parent.is_empty() { child.to_vec() } else { [parent, b"/", child].concat() }
}

pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrunken_files_are_filled() {
        let path = std::env::temp_dir().join(format!("rcon-exact-{}", crate::base::random_hex(8)));
        std::fs::write(&path, b"abc").expect("write");
        let mut reader = Exactly { file: std::fs::File::open(&path).expect("open"), left: 5 };
        let mut got = Vec::new();
        reader.read_to_end(&mut got).expect("read");
        assert_eq!(got, b"abc\0\0");
        std::fs::remove_file(&path).expect("remove");
    }
}
