//! The layer of a commit: the changes of a container as the tar that the OCI image spec calls a layer filesystem changeset.
//!
//! Nothing but the changes is in it: what overlayfs copied up and nobody changed stays out, and so do mount points.

use super::pack::Packer;
use super::{BUFFER, CopyError};
use crate::base::{ErrorKind, rooted};
use crate::engine::diff::{Change, ChangeKind};
use crate::engine::{Engine, Error, Result, View};
use crate::oci::whiteout;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

impl Engine {
    /// Writes the changes (sorted, as [`Engine::layer_changes`] gives them); None: the whole tree without its volumes.
    /// The container may run: what disappears meanwhile is left out.
    pub(in crate::engine) fn pack_layer(&self, name: &str, view: &View, changes: Option<&[Change]>, out: &mut dyn Write) -> Result<()> {
        let mounts = self.bare_root(view)?;
        let same = |uid, gid| (uid, gid);
        let pack = || {
            let mut packer = Packer::new(BufWriter::with_capacity(BUFFER, out), Some(mounts.root().as_fd()), &same)?;
            match changes {
                None => packer.add_contents(mounts.root())?,
                Some(changes) => {
                    for change in changes {
                        add(&mut packer, mounts.root().as_fd(), change)?;
                    }
                }
            }
            packer.finish()
        };
        pack().map_err(|e: CopyError| match e {
            CopyError::Reserved { .. } => {
                Error::Failed { operation: format!("commit container \"{name}\""), kind: ErrorKind::Unsupported, source: Box::new(e) }
            }
            e => e.about(&format!("read the files of container \"{name}\"")),
        })
    }
}

fn add<W: Write>(packer: &mut Packer<'_, W>, root: std::os::fd::BorrowedFd<'_>, change: &Change) -> std::result::Result<(), CopyError> {
    let path = change.path.as_os_str().as_bytes();
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let (parent, last) = match relative.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&relative[..=slash], &relative[slash + 1..]),
        None => (&relative[..0], relative),
    };
    if last.starts_with(whiteout::PREFIX) {
        return Err(CopyError::Reserved { path: super::lossy(path) });
    }
    if change.kind == ChangeKind::Deleted {
        return packer.add_mark(&[parent, whiteout::PREFIX, last].concat());
    }
    match rooted::open_plain(root, &change.path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(node) => packer.add_single(&node, relative),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(e) => Err(CopyError::io("open", path, e)),
    }
}
