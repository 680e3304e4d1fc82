//! The allocator's hold on memory.
#![allow(unsafe_code)]

/// Gives free heap pages back to the kernel: a process that will idle for days keeps what it uses.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes no pointer and is safe to call at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
