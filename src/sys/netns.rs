//! Network namespaces: made and entered only by throw-away threads, so that no other thread is moved.
#![allow(unsafe_code)]

use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::BorrowedFd;

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
