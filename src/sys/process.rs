//! Turning a forked stage into a program: signals, descriptors, `execve`, exit.
#![allow(unsafe_code)]

use super::signalfd::set;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

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
    // The kernel's own structure (asm-generic/signal.h): SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is live, and 8 the size of the kernel's set; for SIGKILL and SIGSTOP the call fails without
        // effect. Not signal(2) of the C library, which keeps some numbers for itself.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
    set_mask(false);
}

/// Has the program start with [`reset_signals`], whatever this process blocks to read it from a signalfd(2).
pub fn with_own_signals(command: &mut Command) -> &mut Command {
    let reset = || {
        reset_signals();
        Ok(())
    };
    // SAFETY: in the forked child only system calls on live locals are made: nothing is allocated, no lock is taken.
    unsafe { command.pre_exec(reset) }
}

/// Blocks every signal that can be blocked.
pub fn block_signals() {
    set_mask(true);
}

fn set_mask(full: bool) {
    let set = set(if full { u64::MAX } else { 0 });
    // SAFETY: a live, initialised set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for any (blocked) signal and returns its number.
pub fn wait_signal() -> i32 {
    let set = set(u64::MAX);
    let mut signal = 0;
    loop {
        // SAFETY: live, initialised locals.
        let result = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_block_a_program_does_not() {
        let program = || {
            let mut command = Command::new("grep");
            command.args(["^SigBlk", "/proc/self/status"]);
            command
        };
        // The mask is this thread's alone.
        let (inherited, own) = std::thread::spawn(move || {
            let _signals = crate::sys::signalfd::SignalFd::block(&[libc::SIGINT, libc::SIGTERM]).unwrap();
            (program().output().unwrap(), with_own_signals(&mut program()).output().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(String::from_utf8(inherited.stdout).unwrap(), "SigBlk:\t0000000000004002\n");
        assert_eq!(String::from_utf8(own.stdout).unwrap(), "SigBlk:\t0000000000000000\n");
    }
}
