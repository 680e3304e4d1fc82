//! What the linked files need of `src/image.rs`.
pub mod layer;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
