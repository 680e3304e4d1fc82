//! A file's content as the page cache holds it: many processes that look into one file share its pages.
#![allow(unsafe_code)]

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// The bytes of a file that is never written to or cut again once it has its name (it may be replaced by a rename).
#[derive(Debug)]
pub struct FileView {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and nobody else knows of this one.
unsafe impl Send for FileView {}

impl FileView {
    /// The first `length` bytes, which the file must have.
    ///
    /// # Errors
    /// The kernel maps no such file, or has no room.
    pub fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<FileView> {
        if length == 0 {
            return Ok(FileView { start: NonNull::dangling(), length });
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that anything else knows.
        let start = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        NonNull::new(start.cast()).map(|start| FileView { start, length }).ok_or_else(|| io::Error::other("a mapping at address zero"))
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `length` bytes long, readable, and lives as long as `self`; an empty one points nowhere, which a
        // slice of no bytes may. Nobody changes or cuts the file (the promise of whoever makes the view), so that the bytes stay
        // as they are and are all there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for FileView {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: made by `new` with this length; every slice of it has borrowed `self` and is gone.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
            debug_assert!(unmapped.is_ok(), "invariant: the mapping is ours");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_replaced_file_stays_as_it_was() {
        let path = std::env::temp_dir().join(format!("rcon-view-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let view = FileView::new(std::fs::File::open(&path).unwrap().as_fd(), 3).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(view.bytes(), b"one");
        let empty = FileView::new(std::fs::File::open(&path).unwrap().as_fd(), 0).unwrap();
        assert_eq!(empty.bytes(), b"");
        std::fs::remove_file(&path).unwrap();
    }
}
