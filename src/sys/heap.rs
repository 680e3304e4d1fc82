//! What an idle process holds: free heap pages, and pages of its own program that it has touched.
#![allow(unsafe_code)]

/// Gives free heap pages back to the kernel: a process that will idle for days keeps what it uses.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes no pointer and is safe to call at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// First byte of the program and first byte after its text, by every linker's default layout (ld(1), end(3)).
    static __executable_start: u8;
    static etext: u8;
}

/// Lets go of the pages of the program's own text: what is needed again is mapped again from the page cache.
pub fn release_text() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only addresses are taken. Between the two symbols lie headers, constants and code of the program, mapped
    // read-only from its file and never written: a page that is dropped comes back with the same content.
    unsafe {
        let page = rustix::param::page_size();
        let start = (&raw const __executable_start as usize).next_multiple_of(page);
        let end = (&raw const etext as usize) / page * page;
        if end > start {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
}
