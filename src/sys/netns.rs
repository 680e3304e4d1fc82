//! Network namespaces: made and entered only by throw-away threads, so that no other thread is moved.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", target_feature = "crt-static"))]
use super::early::network::Early;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Stack of the thread that makes a namespace ahead.
const STACK: usize = 128 << 10;

/// A fresh network namespace that is made elsewhere while the caller goes on: making one is the longest part of a clone with
/// `CLONE_NEWNET`. Dropped, it is gone with its maker.
pub struct Ahead(Maker);

enum Maker {
    /// None only after it was waited for.
    Thread(Option<JoinHandle<io::Result<OwnedFd>>>),
    Process(Early),
}

impl Ahead {
    /// The one that was begun before the C library started, if there is one: its loopback device is up.
    pub fn early() -> Option<Self> {
        Early::take().map(|early| Ahead(Maker::Process(early)))
    }

    /// One that a throw-away thread makes; `prepare` runs inside it.
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
        // A scheduler that packs leaves it behind its maker, on the same processor, until the maker waits for it.
        place(&thread, others());
        Ok(Ahead(Maker::Thread(Some(thread))))
    }

    /// Whether [`Ahead::finish`] would wait for nothing.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Maker::Thread(thread) => thread.as_ref().is_none_or(JoinHandle::is_finished),
            Maker::Process(early) => early.is_finished(),
        }
    }

    /// Waits for it; its maker is gone then.
    ///
    /// # Errors
    /// It cannot be made, or what `prepare` said.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        let thread = match &mut self.0 {
            Maker::Process(early) => return early.finish(),
            Maker::Thread(thread) => thread.take(),
        };
        if let Some(thread) = thread.as_ref().filter(|thread| !thread.is_finished()) {
            place(thread, here());
        }
        let made = thread.map(JoinHandle::join);
        made.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("the thread that makes a network namespace died")))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Whoever clones next must be alone. What it has made is closed.
        if let Maker::Thread(thread) = &mut self.0 {
            drop(thread.take().map(JoinHandle::join));
        }
    }
}

/// Where the program does not begin before the C library does, nothing is begun there.
#[cfg(not(all(target_arch = "x86_64", target_feature = "crt-static")))]
enum Early {}

#[cfg(not(all(target_arch = "x86_64", target_feature = "crt-static")))]
impl Early {
    fn take() -> Option<Self> {
        None
    }

    fn is_finished(&self) -> bool {
        match *self {}
    }

    fn finish(&self) -> io::Result<OwnedFd> {
        match *self {}
    }
}

/// The processors that the caller may run on, but for the one that it runs on. None: there is no other, or they are not known.
fn others() -> Option<libc::cpu_set_t> {
    let here = current()?;
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel writes at most the size that is named; all zeros are an empty set. The macros touch the set alone, at a
    // number that it has room for.
    unsafe {
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) != 0 {
            return None;
        }
        let mut set = set.assume_init();
        libc::CPU_CLR(here, &mut set);
        (libc::CPU_COUNT(&set) > 0).then_some(set)
    }
}

/// The processor that the caller runs on, for a helper that it waits for from now on: one that waits for a busy processor would
/// not be moved before ours has been idle for a while.
pub(super) fn here() -> Option<libc::cpu_set_t> {
    let here = current()?;
    // SAFETY: all zeros are an empty set, and the number has room in it.
    unsafe {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init();
        libc::CPU_SET(here, &mut set);
        Some(set)
    }
}

fn current() -> Option<usize> {
    // SAFETY: touches no memory.
    let number = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
    (number < size_of::<libc::cpu_set_t>() * 8).then_some(number)
}

/// Says where a thread may run. A hint: one that is not taken leaves it to the scheduler.
fn place<T>(thread: &JoinHandle<T>, set: Option<libc::cpu_set_t>) {
    if let Some(set) = set {
        // SAFETY: the set is initialised and has the size that is named; the thread is not joined yet, so that its handle is valid
        // (pthreads(7)).
        unsafe { libc::pthread_setaffinity_np(thread.as_pthread_t() as libc::pthread_t, size_of::<libc::cpu_set_t>(), &raw const set) };
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
