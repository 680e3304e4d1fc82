//! Device nodes and links below the container's /dev, each made in a directory held by descriptor.

use super::error::{At, Failure};
use super::plan::{DeviceKind, DeviceStep};
use super::{root, tree};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, statat, symlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The directory that last held a device, kept open: most are in /dev itself.
#[derive(Default)]
pub(super) struct Directory(Option<(std::path::PathBuf, OwnedFd)>);

impl Directory {
    fn of<'a, 'p>(&'a mut self, root: BorrowedFd<'_>, path: &'p Path) -> Result<(BorrowedFd<'a>, &'p OsStr), Failure> {
        let wrong = || Failure::invalid(format!("\"{}\" names no device", path.display()));
        let (parent, name) = (path.parent().ok_or_else(wrong)?, path.file_name().ok_or_else(wrong)?);
        if self.0.as_ref().is_none_or(|(held, _)| held != parent) {
            self.0 = Some((parent.to_path_buf(), tree::make(root, parent, tree::Leaf::Directory)?));
        }
        let (_, fd) = self.0.as_ref().expect("invariant: set above");
        Ok((fd.as_fd(), name))
    }

    /// Makes a node; where that is not permitted (a user namespace) the host's node is bound over a file.
    pub fn node(&mut self, root: BorrowedFd<'_>, device: &DeviceStep) -> Result<(), Failure> {
        let path = &device.path;
        let (directory, name) = self.of(root, path)?;
        let kind = match device.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        let number = makedev(device.major, device.minor);
        match mknodat(directory, name, kind, Mode::from_raw_mode(device.mode), number) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).at_path("examine", path)?;
                let same = FileType::from_raw_mode(status.st_mode) == kind && (kind == FileType::Fifo || status.st_rdev == number);
                if !same {
                    return Err(Failure::step(format!("make device {}", path.display()), Errno::EXIST));
                }
            }
            Err(Errno::PERM) => return bind_host_node(root, device, kind, number),
            Err(errno) => return Err(Failure::step(format!("make device {}", path.display()), errno)),
        }
        if (device.uid, device.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at_path("change owner of", path)?;
        }
        Ok(())
    }

    /// A symbolic link; what is already there stays.
    pub fn link(&mut self, root: BorrowedFd<'_>, path: &Path, target: &str) -> Result<(), Failure> {
        let (directory, name) = self.of(root, path)?;
        tree::ignore_exist(symlinkat(target, directory, name)).at_path("make link", path)
    }
}

fn bind_host_node(at: BorrowedFd<'_>, device: &DeviceStep, kind: FileType, number: u64) -> Result<(), Failure> {
    let source = root::clone_tree(&device.path, false).at_path("bind host device", &device.path)?;
    let status = fstat(&source).at_path("examine host device", &device.path)?;
    if FileType::from_raw_mode(status.st_mode) != kind || status.st_rdev != number {
        return Err(Failure::step(format!("bind host device {}", device.path.display()), Errno::NODEV));
    }
    let target = tree::make(at, &device.path, tree::Leaf::File)?;
    root::attach(source.as_fd(), target.as_fd()).at_path("bind host device", &device.path)
}

/// The host's /dev/null as a mount source, verified to be the null device.
pub(super) fn host_null() -> Result<OwnedFd, Failure> {
    let fd = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).at("open /dev/null")?;
    let status = fstat(&fd).at("examine /dev/null")?;
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice || status.st_rdev != makedev(1, 3) {
        return Err(Failure::step("mask with /dev/null (it is another file)", Errno::NODEV));
    }
    Ok(fd)
}
