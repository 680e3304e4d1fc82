//! `unshare(2)` without the descriptor table.
#![allow(unsafe_code)]

use rustix::io;
use rustix::thread::UnshareFlags;

/// Leaves the shared objects named by `flags`. CLONE_FILES is refused (EINVAL): descriptors would then
/// mean different files on different threads, which the types of this crate cannot express.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::Errno::INVAL);
    }
    // SAFETY: the only unsound flag, FILES, was refused above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
