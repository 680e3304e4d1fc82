//! Turning a forked stage into a program: signals, descriptors, `execve`, exit.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Executes `path`; returns only on failure.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> { list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect() };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: all strings are NUL-terminated and outlive the call, both vectors end in a null pointer.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once: no destructors, no flushing of buffers copied from the parent.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default disposition (Rust ignores SIGPIPE, and an ignored signal stays ignored
/// through `execve`) and unblocks all.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; for numbers that may not be changed (SIGKILL, SIGSTOP,
        // and those glibc keeps) the call fails without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(false);
}

/// Blocks every signal that can be blocked.
pub fn block_signals() {
    set_mask(true);
}

fn set_mask(full: bool) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by sigfillset/sigemptyset before sigprocmask reads it.
    unsafe {
        if full {
            libc::sigfillset(set.as_mut_ptr())
        } else {
            libc::sigemptyset(set.as_mut_ptr())
        };
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Waits for any (blocked) signal and returns its number.
pub fn wait_signal() -> i32 {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut signal = 0;
    loop {
        // SAFETY: the set is initialised by sigfillset before sigwait reads it; `signal` outlives the call.
        let result = unsafe {
            libc::sigfillset(set.as_mut_ptr());
            libc::sigwait(set.as_ptr(), &raw mut signal)
        };
        if result == 0 {
            return signal;
        }
    }
}

/// Sends signal `number` (real-time ones too) to process `pid`, which must be positive.
///
/// # Errors
/// What kill(2) says; EINVAL for a process group.
pub fn kill(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, number) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` (at least 3) on that is not in `keep`.
///
/// For a freshly forked child only: the owners of the closed descriptors are in frames that never run again.
///
/// # Errors
/// What close_range(2) says.
pub fn close_others(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut first = first.max(3);
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX, 0)
}

/// Closes descriptors 0, 1 and 2, for a process that has no use for them.
///
/// # Errors
/// What close_range(2) says.
pub fn close_standard() -> io::Result<()> {
    close_range(0, 2, 0)
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// What close_range(2) says.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: memory is not touched; that the descriptors have no live owner is the callers' documented duty.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
