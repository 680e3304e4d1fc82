//! Loading a seccomp filter.
#![allow(unsafe_code)]

use std::io;

/// One classic BPF instruction, `struct sock_filter`.
pub type SockFilter = libc::sock_filter;

pub const SECCOMP_FLAG_TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
pub const SECCOMP_FLAG_LOG: u64 = libc::SECCOMP_FILTER_FLAG_LOG;
pub const SECCOMP_FLAG_SPEC_ALLOW: u64 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;

/// Installs `program` for the calling thread and all that it executes. Needs `no_new_privs` or
/// CAP_SYS_ADMIN.
///
/// # Errors
/// What seccomp(2) says; EINVAL for more than 4096 instructions or an invalid program.
pub fn load_filter(program: &mut [SockFilter], flags: u64) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points to `length` initialised instructions that live through the call; the
    // kernel copies and validates them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
