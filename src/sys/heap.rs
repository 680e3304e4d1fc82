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

/// Has all threads share one heap, for a process whose others are short-lived: to make and to release a second one takes
/// longer than what they do, and interrupts every thread that runs meanwhile.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes no pointer (mallopt(3)); the caller has one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Lets go of the pages of the program's own code and constants: what is needed again is mapped again from the page cache.
pub fn release_text() {
    // SAFETY: the kernel leaves the program headers of this program in its memory and says where (getauxval(3), elf(5)). Only
    // segments that nobody may write are let go of: a page that is dropped comes back from the file with the same content.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        let count = usize::try_from(libc::getauxval(libc::AT_PHNUM)).unwrap_or(0);
        if headers.is_null() || !headers.is_aligned() {
            return;
        }
        let headers = std::slice::from_raw_parts(headers, count);
        let own = headers.iter().find(|header| header.p_type == libc::PT_PHDR).map_or(headers.as_ptr() as usize, |own| own.p_vaddr as usize);
        // Where a program that may be loaded anywhere was loaded; 0 for others.
        let base = headers.as_ptr() as usize - own;
        let page = rustix::param::page_size();
        for segment in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
            let start = (base + segment.p_vaddr as usize).next_multiple_of(page);
            let end = (base + segment.p_vaddr as usize + segment.p_memsz as usize) / page * page;
            if end > start {
                // A large page of the page cache, as a linker leaves it, would come back whole.
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_NOHUGEPAGE);
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
    }
}
