//! Network namespaces: made and entered only by throw-away threads, so that no other thread is moved.
#![allow(unsafe_code)]

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

/// Stack of the thread that makes a namespace ahead.
const STACK: usize = 128 << 10;

/// A fresh network namespace that is made on a throw-away thread while the caller goes on: making one is the longest part
/// of a clone with `CLONE_NEWNET`. Dropped, it is gone with its thread.
pub struct Ahead {
    thread: Option<JoinHandle<io::Result<OwnedFd>>>,
}

impl Ahead {
    /// `prepare` runs inside it.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn begin(prepare: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let make = move || {
            // SAFETY: as in `in_new`.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)?;
            prepare()?;
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let namespace = rustix::fs::open("/proc/thread-self/ns/net", flags, rustix::fs::Mode::empty());
            namespace.map_err(io::Error::from)
        };
        let thread = std::thread::Builder::new().name("netns".to_owned()).stack_size(STACK).spawn(make)?;
        Ok(Ahead { thread: Some(thread) })
    }

    /// Waits for it; its thread is gone then.
    ///
    /// # Errors
    /// It cannot be made, or what `prepare` said.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        let made = self.thread.take().map(JoinHandle::join);
        made.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("the thread that makes a network namespace died")))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Whoever clones next must be alone. What it has made is closed.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Runs `work` on a throw-away thread in a fresh network namespace.
///
/// # Errors
/// No thread or no namespace can be made.
pub fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(
        || {
            // SAFETY: only the network namespace of this new thread changes; memory, descriptors and
            // credentials stay shared as every other thread expects.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
        },
        work,
    )
}

/// Runs `work` on a throw-away thread inside the given network namespace.
///
/// # Errors
/// No thread can be made, or the fd is no network namespace that may be entered.
pub fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from), work)
}

fn on_thread<T: Send>(enter: impl FnOnce() -> io::Result<()> + Send, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || enter().map(|()| work()))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
