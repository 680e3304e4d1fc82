//! The first instructions of the binary, before the C library starts: a command that makes containers executes itself anew
//! from a read-only view (CVE-2019-5736) right here, so that the C library and the language start once, not twice. The
//! start of both costs more than this whole step: on virtual machines glibc's `cpuid` instructions alone leave for the
//! hypervisor some hundred times.
//!
//! Invariants: this is a shortcut only. Whatever fails or looks unusual goes on with the normal start, and
//! `runtime::run_protected` checks there, and does it the long way. No code here may touch thread-local storage or call a
//! function of the C library: neither is set up (`memcpy` and its like are reached through relocations that are still to
//! be applied). Bytes are therefore read as volatile, which no compiler turns into such a call.
#![allow(unsafe_code)]

pub mod network;

use super::mount::MountAttr;
use std::arch::{asm, naked_asm};

/// `AT_EXECFN`: the name that was given to execve(2).
const EXECFN: usize = 31;
const NAME: &[u8] = b"rcon-runtime";
/// The verbs of `rcon-runtime` that clone a stage, and the one of `rcon`.
const VERBS: [&[u8]; 3] = [b"create", b"exec", b"run"];
const EXEC: &[u8] = b"exec";
/// How a binary is named that was executed by descriptor: the view itself.
const BY_DESCRIPTOR: [&[u8]; 2] = [b"/dev/fd/", b"/proc/self/fd/"];
const OWN: &[u8; 15] = b"/proc/self/exe\0";

/// The entry point of the executable (`build.rs`): [`begin`], then the C library's own.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn rcon_start() {
    // The kernel's stack is aligned to 16 (System V ABI, x86-64, 3.4.1); rdx belongs to `_start`.
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "push rdx", "sub rsp, 8", "call {begin}", "add rsp, 8", "pop rdx", "jmp _start", begin = sym begin)
}

/// `stack` is what the kernel left: argc, the arguments, null, the environment, null, the auxiliary vector.
///
/// # Safety
/// Called by `rcon_start` alone.
unsafe extern "C" fn begin(stack: *const usize) {
    // SAFETY: the layout is the kernel's (fs/binfmt_elf.c, create_elf_tables); every list ends as it says.
    unsafe {
        let arguments = stack.add(1).cast::<*const u8>();
        if !clones(arguments) {
            return;
        }
        let environment = arguments.add(*stack + 1);
        let mut auxiliary = environment;
        while !(*auxiliary).is_null() {
            auxiliary = auxiliary.add(1);
        }
        let mut pair = auxiliary.add(1).cast::<usize>();
        while *pair != 0 {
            if *pair == EXECFN && BY_DESCRIPTOR.iter().any(|prefix| starts_with(*pair.add(1) as *const u8, prefix)) {
                network::begin(arguments);
                return;
            }
            pair = pair.add(2);
        }
        execute_view(arguments, environment);
    }
}

/// Whether the arguments are those of a command that clones a stage.
///
/// # Safety
/// As an argument vector of execve(2).
unsafe fn clones(arguments: *const *const u8) -> bool {
    // SAFETY: up to the null pointer that ends the vector.
    unsafe {
        if (*arguments).is_null() || (*arguments.add(1)).is_null() {
            return false;
        }
        if !is(last_part(*arguments), NAME) {
            return is(*arguments.add(1), EXEC);
        }
        let mut next = arguments.add(1);
        while !(*next).is_null() {
            if VERBS.iter().any(|verb| is(*next, verb)) {
                return true;
            }
            next = next.add(1);
        }
        false
    }
}

/// # Safety
/// A string that ends with NUL.
unsafe fn last_part(text: *const u8) -> *const u8 {
    // SAFETY: up to the NUL.
    unsafe {
        let (mut part, mut at) = (text, text);
        loop {
            match at.read_volatile() {
                0 => return part,
                b'/' => part = at.add(1),
                _ => {}
            }
            at = at.add(1);
        }
    }
}

/// # Safety
/// A string that ends with NUL.
unsafe fn starts_with(text: *const u8, prefix: &[u8]) -> bool {
    // SAFETY: a NUL is in no prefix, so nothing behind it is read.
    prefix.iter().enumerate().all(|(index, byte)| unsafe { text.add(index).read_volatile() } == *byte)
}

/// # Safety
/// A string that ends with NUL.
unsafe fn is(text: *const u8, word: &[u8]) -> bool {
    // SAFETY: the byte behind an equal start is in the string, or its NUL.
    unsafe { starts_with(text, word) && text.add(word.len()).read_volatile() == 0 }
}

/// Returns when it could not be done.
///
/// # Safety
/// Vectors as execve(2) takes them.
unsafe fn execute_view(arguments: *const *const u8, environment: *const *const u8) {
    let empty = c"".as_ptr() as usize;
    // Not `Default`, which might be a call.
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the pointers lead to constants, to a live local and to the kernel's own vectors.
    unsafe {
        let flags = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
        let view = call(libc::SYS_open_tree, libc::AT_FDCWD as usize, OWN.as_ptr() as usize, flags, 0, 0);
        if view < 0 {
            return;
        }
        let by_descriptor = libc::AT_EMPTY_PATH as usize;
        let view = view as usize;
        let attributes = &raw const read_only as usize;
        if call(libc::SYS_mount_setattr, view, empty, by_descriptor, attributes, size_of::<MountAttr>()) == 0 {
            call(libc::SYS_execveat, view, empty, arguments as usize, environment as usize, by_descriptor);
        }
        call(libc::SYS_close, view, 0, 0, 0, 0);
    }
}

/// A system call; its result, or a negative errno.
///
/// # Safety
/// As the call demands.
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the kernel's x86-64 interface (syscall(2)); it keeps all others.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::clones;
    use std::ffi::CString;

    #[test]
    fn only_commands_that_clone_stages_are_meant() {
        let asked = |words: &[&str]| {
            let words: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
            let pointers: Vec<*const u8> = words.iter().map(|word| word.as_ptr().cast()).chain([std::ptr::null()]).collect();
            // SAFETY: an argument vector.
            unsafe { clones(pointers.as_ptr()) }
        };
        for words in [&["rcon-runtime", "run", "x"][..], &["/usr/bin/rcon-runtime", "--root", "/r", "create", "x"], &["rcon", "exec", "x", "ls"]] {
            assert!(asked(words), "{words:?}");
        }
        for words in [
            &[][..],
            &["rcon-runtime"],
            &["rcon-runtime", "runs"],
            &["rcon-runtime", "ru"],
            &["rcon", "run"],
            &["x-rcon-runtime", "run"],
            &["rcon", "ps", "exec"],
        ] {
            assert!(!asked(words), "{words:?}");
        }
    }
}
