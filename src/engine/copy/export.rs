//! `export`: the file system of a container as one flat tar, without its volumes.

use super::pack::Packer;
use super::{BUFFER, CopyError};
use crate::engine::{Engine, Error, Result, Status, View, events};
use crate::sys::private_mounts::PrivateMounts;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

impl Engine {
    /// Writes the files of a container (image and its own changes; of volumes and binds only the mount points) as a
    /// tar with the container's own owner ids. The container may run.
    ///
    /// # Errors
    /// `NoSuch`; `Conflict` while it is being removed; what cannot be read or written.
    pub fn export(&self, name: &str, out: &mut dyn Write) -> Result<()> {
        let view = self.view(name)?;
        if view.status == Status::Removing {
            return Err(Error::conflict(format!("container \"{name}\" is being removed")));
        }
        let operation = format!("export container \"{name}\"");
        let mounts = self.bare_root(&view)?;
        let same = |uid, gid| (uid, gid);
        let pack = || {
            let mut packer = Packer::new(BufWriter::with_capacity(BUFFER, out), Some(mounts.root().as_fd()), &same)?;
            packer.add_contents(mounts.root())?;
            packer.finish()
        };
        pack().map_err(|e: CopyError| e.about(&operation))?;
        self.emit([events::of_container(&view.record, "export")]);
        Ok(())
    }

    /// The container's overlay, read only and without any mount in it. Its upper is the topmost *lower* here: it may
    /// be the upper of the running container's own overlay, and the kernel leaves two writers of one upper undefined
    /// (Documentation/filesystems/overlayfs.rst, "Sharing and copying layers"). On disk all ids are the container's.
    pub(super) fn bare_root(&self, view: &View) -> Result<PrivateMounts> {
        let record = &view.record;
        let dir = self.privilege.roots.container(&record.id);
        let beneath = self.beneath(record)?.for_reading(&dir);
        let mount = move || {
            let root = beneath.open()?;
            move_mount(root.as_fd(), c"", CWD, &dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(|e| CopyError::io("mount the container's files on", dir.as_os_str().as_bytes(), e))?;
            Ok(root)
        };
        PrivateMounts::assemble(mount).map_err(|e: CopyError| e.about("export"))
    }
}
