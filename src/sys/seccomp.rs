//! seccomp(2): loading a classic BPF program as the calling thread's system call filter.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One `struct sock_filter` (`include/uapi/linux/filter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: libc::c_ushort,
    instructions: *const Instruction,
}

const SET_MODE_FILTER: libc::c_ulong = 1;

/// Synchronise the filter to all threads.
pub const FLAG_TSYNC: u32 = 1;
/// Log every action but ALLOW.
pub const FLAG_LOG: u32 = 1 << 1;
/// Do not switch the speculative store bypass mitigation on.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Return a descriptor that receives `USER_NOTIF` events.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// Only fatal signals interrupt a call that waits for its notification (since Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Filters this thread (and what it clones and executes) from now on. Needs `no_new_privs` or CAP_SYS_ADMIN.
/// Returns the listener when [`FLAG_NEW_LISTENER`] is among the flags. Allocates nothing.
///
/// # Errors
/// `EINVAL` for a program or flag the kernel does not take, `EACCES` without the right to filter, `E2BIG` for more than
/// 65535 instructions, `ESRCH` when another thread cannot be synchronised.
pub fn load(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: `program` is a live `sock_fprog` whose pointer covers exactly `length` instructions of the layout the
    // kernel reads (repr(C), 8 bytes each); the kernel copies them before it returns and writes nothing through it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if result > 0 && flags & FLAG_NEW_LISTENER == 0 {
        // With TSYNC a positive result is the thread that could not be synchronised; nothing was loaded.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: with NEW_LISTENER a non-negative result is a fresh descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Makes a system call with small integer arguments and answers with its errno (0 on success), for tests of filters.
/// Only for calls that touch no memory of this process.
#[cfg(test)]
pub fn probe(number: i64, arguments: [u64; 3]) -> i32 {
    let [a, b, c] = arguments;
    // SAFETY: the tests pass calls (and pointers that are null) that the filter refuses or that read and write nothing.
    let result = unsafe { libc::syscall(number, a, b, c) };
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
}

/// An agent's part, for tests: waits for a notification and refuses its call with `errno`. Returns the call's number.
#[cfg(test)]
pub fn refuse_one(listener: std::os::fd::BorrowedFd<'_>, errno: i32) -> io::Result<i32> {
    use std::os::fd::AsRawFd;
    /// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    // id, pid and flags, number and architecture, …: `struct seccomp_notif` in words.
    let mut notification = [0u64; 10];
    // SAFETY: the buffer is zeroed, as the kernel demands, and has the 80 bytes that the command's number tells.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, notification.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // id, value, error and flags.
    let mut answer = [notification[0], 0, u64::from((-errno).cast_unsigned())];
    // SAFETY: a live buffer of the 24 bytes that the command's number tells.
    if unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, answer.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(notification[2] as u32 as i32)
}
