//! A mount namespace of our own, held by a throw-away thread, in which mounts can be assembled that nobody else sees.
//!
//! The thread keeps the namespace (and so the mounts in it) alive; other threads work on the tree through the
//! descriptor of its root. Everything is gone when the handle is dropped, also if the process is killed.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// The assembled tree; dropping it ends the namespace.
#[derive(Debug)]
pub struct PrivateMounts {
    root: OwnedFd,
    /// Dropping the sender wakes the thread.
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PrivateMounts {
    /// Starts the thread, gives it a private copy of the mount namespace in which nothing propagates back, and runs
    /// `assemble` there; what it returns is the root of the tree.
    ///
    /// # Errors
    /// The thread or the namespace cannot be made, or `assemble` failed.
    pub fn assemble<E>(assemble: impl FnOnce() -> Result<OwnedFd, E> + Send + 'static) -> Result<Self, E>
    where
        E: From<std::io::Error> + Send + 'static,
    {
        let (answer, result) = mpsc::sync_channel(1);
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
            let made = enter().map_err(E::from).and_then(|()| assemble());
            let good = made.is_ok();
            if answer.send(made).is_ok() && good {
                // An error is the expected end: the other side dropped its sender.
                released.recv().unwrap_or_default();
            }
        })?;
        match result.recv() {
            Ok(Ok(root)) => Ok(PrivateMounts { root, release: Some(release), thread: Some(thread) }),
            Ok(Err(error)) => {
                drop(thread.join());
                Err(error)
            }
            Err(_) => Err(E::from(std::io::Error::other("the thread that assembles mounts died"))),
        }
    }

    pub fn root(&self) -> &OwnedFd {
        &self.root
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic past its answer; there is nothing to report.
            drop(thread.join());
        }
    }
}

/// Gives the calling thread file-system attributes and a mount namespace of its own.
fn enter() -> std::io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: NEWNS and FS change only what this thread sees of paths; no file descriptor table is unshared, and the
    // thread was just made by us and ends without returning to code that relies on the old view.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}
