//! Signal dispositions.
#![allow(unsafe_code)]

use std::io;

extern "C" fn nothing(_signal: libc::c_int) {}

/// Makes this process survive these signals by handlers that do nothing. Not `SIG_IGN`: an ignored signal
/// stays ignored over `execve`, so the container's process would start with it; a handled one is reset.
///
/// # Errors
/// What sigaction(2) says (a signal number that cannot be handled).
pub fn disregard(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: sigaction is plain data; zero is an empty mask and no flags.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is a live local with a valid handler that touches nothing.
        if unsafe { libc::sigaction(*signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
