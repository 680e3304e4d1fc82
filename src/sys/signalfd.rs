//! Signals as a file descriptor: signalfd(2) over a blocked set.
//!
//! Invariant: while a [`SignalFd`] lives its signals are blocked in this thread; dropping it restores the former
//! mask. Only for single-threaded stages: other threads would still take the signals.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A readable descriptor that yields blocked signals. Non-blocking, close-on-exec.
pub struct SignalFd {
    fd: OwnedFd,
    former: libc::sigset_t,
}

impl SignalFd {
    /// Blocks `signals` and opens a descriptor for them.
    ///
    /// # Errors
    /// A number that is no signal, or no descriptor left.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let mut former = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is initialised, `former` is ours and large enough; on success the call fills it.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, former.as_mut_ptr()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: pthread_sigmask succeeded, so it wrote the former mask.
        let former = unsafe { former.assume_init() };
        // SAFETY: -1 asks for a new descriptor; `set` is a valid initialised set.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            restore(&former);
            return Err(error);
        }
        // SAFETY: signalfd just returned this descriptor to us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(SignalFd { fd, former })
    }

    /// The next pending signal; None when there is none.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut record)) {
            // ssi_signo is the first field (linux/signalfd.h).
            Ok(n) if n == record.len() => Ok(Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))),
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        restore(&self.former);
    }
}

fn restore(former: &libc::sigset_t) {
    // SAFETY: `former` is a mask that the kernel gave us. SIG_SETMASK with a valid set cannot fail, so the
    // result carries nothing.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, former, std::ptr::null_mut()) };
}

/// A set of these signals, 1..=64.
fn set_of(signals: &[i32]) -> Option<libc::sigset_t> {
    let mut bits = 0u64;
    for signal in signals {
        bits |= 1u64.checked_shl(u32::try_from(*signal).ok()?.checked_sub(1)?)?;
    }
    Some(set(bits))
}

/// The set whose lowest bit is signal 1. Not by sigaddset(3), which refuses numbers that a C library keeps for itself (musl: 34,
/// the first real-time signal of glibc, which a container may be sent all the same).
pub(super) fn set(bits: u64) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: in every C library of Linux a set begins with the kernel's 64 bits (asm-generic/signal.h) and is plain data, so
    // that zeros and these bits are a valid one.
    unsafe {
        set.as_mut_ptr().cast::<u64>().write_unaligned(bits);
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::SignalFd;

    #[test]
    fn yields_a_signal_sent_to_this_thread() {
        let signals = SignalFd::block(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: raise sends to the calling thread, in which the signal is blocked.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
        assert_eq!(signals.next().unwrap(), None);
    }
}
