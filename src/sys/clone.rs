//! `clone3(2)` with fork semantics.
//!
//! Invariant: nothing clones unless the process has one thread, proved by a [`SingleThreaded`] token:
//! only then may the child allocate and take locks, because no other thread can hold any.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Flags of clone3 above 32 bits, which libc's constants cut (include/uapi/linux/sched.h).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How often a thread count above one is looked at again: at once first, then after a pause.
const EXITING_CHECKS: u32 = 250;
const CHECKS_AT_ONCE: u32 = 200;

/// Proof that the process had one thread when it was made. The stages that hold one start no threads
/// that outlive the call which started them.
#[derive(Debug, Clone, Copy)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// None when there are other threads, or when `/proc` cannot tell.
    pub fn check() -> Option<Self> {
        for turn in 0..EXITING_CHECKS {
            // The link count of the task directory is 2 + threads (fs/proc/base.c, proc_task_getattr).
            match rustix::fs::stat("/proc/self/task").ok()?.st_nlink {
                3 => return Some(SingleThreaded(())),
                // A thread that was joined may still be on its way out: pthread_join(3) waits for less than that.
                _ if turn < CHECKS_AT_ONCE => std::thread::yield_now(),
                _ => std::thread::sleep(std::time::Duration::from_micros(100)),
            }
        }
        None
    }
}

/// Which side of a clone this is.
pub enum Forked {
    Child,
    /// `pid` is counted in the caller's pid namespace.
    Parent {
        pid: i32,
        pidfd: OwnedFd,
    },
}

/// `clone3` without a new stack: both sides return. `flags` are `CLONE_NEW*` flags and perhaps `CLONE_PARENT` (the
/// child is then the caller's sibling); the child is born in the v2 cgroup `cgroup`, if given, and sends SIGCHLD at
/// its end. Signal handlers are reset to default.
///
/// The child must leave by `execve` or [`super::process::exit`], never by returning into its caller's frames.
///
/// # Errors
/// What clone3(2) says.
pub fn fork(_proof: SingleThreaded, flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling takes over the caller's own; naming one is EINVAL (clone(2)).
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `arguments` is a valid clone_args of the size given and `pidfd` outlives the call. Neither
    // CLONE_VM nor CLONE_THREAD is ever passed by our callers (they pass CLONE_NEW* and CLONE_PARENT), so the child
    // works on its own copy of memory; the token proves that no other thread held a lock at that moment.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel stored a fresh descriptor, owned by nobody else, in `pidfd`.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Runs `body` in a forked copy of this process, which has one thread; true when it did not panic.
/// For tests, whose harness has several: other threads must be at rest (blocked, holding no lock).
#[cfg(test)]
pub fn run_alone(body: fn()) -> bool {
    // SAFETY: libc's fork leaves the allocator usable in the child; by the caller's word no other lock is held.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => super::process::exit(i32::from(std::panic::catch_unwind(body).is_err())),
        child => {
            let mut status = 0;
            // SAFETY: `status` outlives the call; the child is ours.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            waited == child && status == 0
        }
    }
}
