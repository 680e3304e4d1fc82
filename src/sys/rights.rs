//! Descriptors in a message (SCM_RIGHTS, unix(7)).

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// Most descriptors in one message (`SCM_MAX_FD`, include/net/scm.h).
pub const MOST: usize = 253;

/// Sends `bytes` with the descriptors, if there are any; how many bytes went (on a stream that may be some of them only, the
/// descriptors go with the first). A receiver that is gone raises no SIGPIPE.
///
/// # Errors
/// `EPIPE` when the receiver is gone, `ENOBUFS` for more than [`MOST`] descriptors, and what else sendmsg(2) says.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The space is rounded up: it may hold one more than the kernel takes.
    if !fds.is_empty() && (fds.len() > MOST || !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Errno::NOBUFS);
    }
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))
}

#[cfg(test)]
mod tests {
    use super::{MOST, send};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn as_many_as_the_kernel_takes_are_sent_and_no_more() {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let fds = vec![a.as_fd(); MOST + 1];
        assert_eq!(send(&a, b"all", &fds[..MOST]), Ok(3));
        assert_eq!(send(&a, b"too many", &fds), Err(Errno::NOBUFS));
        assert_eq!(send(&a, b"none", &[]), Ok(4));
        drop(b);
        // What was never read is reported once (unix(7)).
        assert_eq!(send(&a, b"unread", &[]), Err(Errno::CONNRESET));
        assert_eq!(send(&a, b"nobody", &[]), Err(Errno::PIPE));
    }
}
