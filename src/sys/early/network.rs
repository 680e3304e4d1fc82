//! The container's network namespace, begun before the C library starts: a process that shares our memory and descriptors
//! makes it on another processor, while this one is busy with the start of the C library and all that comes after.
//!
//! Invariants: as in `early`, a shortcut and no decision. Whether a namespace is wanted is guessed from the text of the
//! config; who reads the config properly takes it ([`Early::take`]) or leaves it. The process shares memory, but touches only
//! its own stack and the statics here, and has ended when the namespace is taken.

use super::super::netns::here;
use super::{NAME, call, is, last_part, starts_with};
use std::arch::asm;
use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Bytes of a config that are looked at.
const TEXT: usize = 32 << 10;
const STACK: usize = 8 << 10;
/// Bytes of a set of processors, for up to 1024.
const PROCESSORS: usize = 128;

/// The helper's process id; 0: there is none, or it is taken.
static HELPER: AtomicI32 = AtomicI32::new(0);
/// What the helper has made: a descriptor, or that there is none.
static MADE: AtomicI32 = AtomicI32::new(UNFINISHED);
const UNFINISHED: i32 = -2;
const FAILED: i32 = -1;

/// Memory that only the code here uses, and never two processes at once.
#[repr(C, align(16))]
struct Own<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: the text and the sets are used by the first process before the helper is made, and after it has ended; the stack and
// the answer by the helper alone.
unsafe impl<const SIZE: usize> Sync for Own<SIZE> {}

impl<const SIZE: usize> Own<SIZE> {
    const fn new() -> Self {
        Own(UnsafeCell::new([0; SIZE]))
    }

    fn start(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

/// One more than is read: the text ends with NUL.
static CONFIG: Own<{ TEXT + 16 }> = Own::new();
static HELPERS_STACK: Own<STACK> = Own::new();
static ANSWER: Own<64> = Own::new();
static ALLOWED: Own<PROCESSORS> = Own::new();
static OTHERS: Own<PROCESSORS> = Own::new();

/// `RTM_NEWLINK` for the loopback device (rtnetlink(7)): up.
#[repr(C)]
struct RaiseLoopback {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    padding: u8,
    device: u16,
    index: i32,
    state: u32,
    change: u32,
}

static RAISE_LOOPBACK: RaiseLoopback = RaiseLoopback {
    length: 32,
    kind: libc::RTM_NEWLINK,
    flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
    sequence: 1,
    port: 0,
    family: libc::AF_UNSPEC as u8,
    padding: 0,
    device: 0,
    index: 1,
    state: libc::IFF_UP as u32,
    change: libc::IFF_UP as u32,
};

/// Begins it, if the command makes a container whose config seems to ask for one.
///
/// # Safety
/// Before the C library starts; `arguments` as execve(2) takes them, with one at least.
pub(super) unsafe fn begin(arguments: *const *const u8) {
    // SAFETY: the vector ends with a null pointer, its strings with NUL; the memory is ours.
    unsafe {
        let mut bundle = c".".as_ptr().cast::<u8>();
        let mut makes = false;
        if !is(last_part(*arguments), NAME) {
            return;
        }
        let mut next = arguments.add(1);
        while !(*next).is_null() {
            makes = makes || is(*next, b"run") || is(*next, b"create");
            if (is(*next, b"--bundle") || is(*next, b"-b")) && !(*next.add(1)).is_null() {
                next = next.add(1);
                bundle = *next;
            }
            next = next.add(1);
        }
        if makes && has_streams() && reads_config(bundle) && asks(CONFIG.start()) {
            start_helper();
        }
    }
}

/// Without one of them, a descriptor of ours would take its place.
unsafe fn has_streams() -> bool {
    let open = |fd: usize| {
        // SAFETY: touches no memory.
        unsafe { call(libc::SYS_fcntl, fd, libc::F_GETFD as usize, 0, 0, 0) >= 0 }
    };
    open(0) && open(1) && open(2)
}

/// # Safety
/// `bundle` ends with NUL; nobody else uses the text.
unsafe fn reads_config(bundle: *const u8) -> bool {
    // SAFETY: the pointers lead to strings, and to memory of the length given.
    unsafe {
        let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
        let directory = call(libc::SYS_openat, libc::AT_FDCWD as usize, bundle as usize, flags, 0, 0);
        if directory < 0 {
            return false;
        }
        let flags = (libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC) as usize;
        let file = call(libc::SYS_openat, directory as usize, c"config.json".as_ptr() as usize, flags, 0, 0);
        call(libc::SYS_close, directory as usize, 0, 0, 0, 0);
        if file < 0 {
            return false;
        }
        let length = call(libc::SYS_read, file as usize, CONFIG.start() as usize, TEXT, 0, 0);
        call(libc::SYS_close, file as usize, 0, 0, 0, 0);
        length > 0
    }
}

/// Whether the text of a config lists a new network namespace and no user namespace, which would have to own it.
///
/// # Safety
/// A text that ends with NUL.
unsafe fn asks(text: *const u8) -> bool {
    // SAFETY: nothing is read behind a NUL: no prefix has one, and each step is over a byte that is none.
    unsafe {
        let mut at = text;
        while !starts_with(at, b"\"namespaces\"") {
            if at.read_volatile() == 0 {
                return false;
            }
            at = at.add(1);
        }
        let (mut found, mut network, mut path) = (false, false, false);
        loop {
            match at.read_volatile() {
                0 => return false,
                b']' => return found,
                b'{' => (network, path) = (false, false),
                b'}' => found = found || (network && !path),
                b'"' => {
                    network = network || starts_with(at, b"\"network\"");
                    path = path || starts_with(at, b"\"path\"");
                    if starts_with(at, b"\"user\"") {
                        return false;
                    }
                    at = string_end(at);
                    if at.read_volatile() == 0 {
                        return false;
                    }
                }
                _ => {}
            }
            at = at.add(1);
        }
    }
}

/// The quote that ends the string whose first one is at `at`; or the NUL.
///
/// # Safety
/// As [`asks`].
unsafe fn string_end(at: *const u8) -> *const u8 {
    // SAFETY: as in `asks`.
    unsafe {
        let mut at = at.add(1);
        loop {
            match at.read_volatile() {
                0 | b'"' => return at,
                b'\\' if at.add(1).read_volatile() != 0 => at = at.add(2),
                _ => at = at.add(1),
            }
        }
    }
}

/// # Safety
/// Once, before the C library starts.
unsafe fn start_helper() {
    let flags = (libc::CLONE_VM | libc::CLONE_FILES) as usize;
    let mut pid = libc::SYS_clone as isize;
    // SAFETY: the helper begins on a stack of its own, aligned as a call demands, and never comes back; the parent goes on
    // behind the block, with all registers that the system call keeps.
    unsafe {
        let stack = HELPERS_STACK.start().add(STACK) as usize;
        asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "call {make}", "ud2", "2:",
            make = sym make, inlateout("rax") pid, in("rdi") flags, in("rsi") stack, in("rdx") 0, in("r10") 0, in("r8") 0,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if pid > 0 {
        HELPER.store(pid as i32, Ordering::Relaxed);
        // SAFETY: the sets have the size that is named; nobody else uses them.
        unsafe { send_elsewhere(pid as usize) }
    }
}

/// A scheduler that packs leaves the helper behind its maker, on the same processor, until the maker waits for it.
///
/// # Safety
/// As [`start_helper`].
unsafe fn send_elsewhere(pid: usize) {
    // SAFETY: as said; the processor's number is checked against the size of the set.
    unsafe {
        let allowed = ALLOWED.start();
        let size = call(libc::SYS_sched_getaffinity, 0, PROCESSORS, allowed as usize, 0, 0);
        let here = OTHERS.start();
        if size <= 0 || size as usize > PROCESSORS || call(libc::SYS_getcpu, here as usize, 0, 0, 0, 0) < 0 {
            return;
        }
        let number = here.cast::<u32>().read_volatile() as usize;
        if number >= size as usize * 8 {
            return;
        }
        let mut left = 0;
        let mut index = 0;
        while index < size as usize {
            let own = if index == number / 8 { 1 << (number % 8) } else { 0u8 };
            let byte = allowed.add(index).read_volatile() & !own;
            here.add(index).write_volatile(byte);
            left |= byte;
            index += 1;
        }
        if left != 0 {
            call(libc::SYS_sched_setaffinity, pid, size as usize, here as usize, 0, 0);
        }
    }
}

/// The helper: makes the namespace, with its loopback device up, and ends.
unsafe extern "C" fn make() -> ! {
    // SAFETY: system calls on constants and on memory of the helper's own.
    unsafe {
        let mut made = -1;
        if call(libc::SYS_unshare, libc::CLONE_NEWNET as usize, 0, 0, 0, 0) == 0 && raises_loopback() {
            let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
            made = call(libc::SYS_openat, libc::AT_FDCWD as usize, c"/proc/self/ns/net".as_ptr() as usize, flags, 0, 0);
        }
        MADE.store(if made < 0 { FAILED } else { made as i32 }, Ordering::Release);
        loop {
            call(libc::SYS_exit, 0, 0, 0, 0, 0);
        }
    }
}

/// # Safety
/// By the helper alone.
unsafe fn raises_loopback() -> bool {
    // SAFETY: the message and the answer have the lengths that are named.
    unsafe {
        let socket = call(libc::SYS_socket, libc::AF_NETLINK as usize, (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as usize, 0, 0, 0);
        if socket < 0 {
            return false;
        }
        let answer = ANSWER.start();
        let said = call(libc::SYS_write, socket as usize, &raw const RAISE_LOOPBACK as usize, size_of::<RaiseLoopback>(), 0, 0);
        let heard = if said < 0 { said } else { call(libc::SYS_read, socket as usize, answer as usize, 64, 0, 0) };
        call(libc::SYS_close, socket as usize, 0, 0, 0, 0);
        // `struct nlmsgerr` behind the header of 16 bytes.
        heard >= 20 && answer.add(4).cast::<u16>().read_volatile() == libc::NLMSG_ERROR as u16 && answer.add(16).cast::<i32>().read_volatile() == 0
    }
}

/// A namespace that was begun early. Dropped, it is gone with its helper.
pub struct Early(libc::pid_t);

impl Early {
    /// None: none was begun, or it is taken.
    pub fn take() -> Option<Self> {
        let pid = HELPER.swap(0, Ordering::Relaxed);
        (pid > 0).then_some(Early(pid))
    }

    pub fn is_finished(&self) -> bool {
        MADE.load(Ordering::Acquire) != UNFINISHED
    }

    /// Waits for it; the helper is gone then.
    ///
    /// # Errors
    /// It could not be made.
    pub fn finish(&self) -> io::Result<OwnedFd> {
        self.wait().ok_or_else(|| io::Error::other("no network namespace was made early"))
    }

    fn wait(&self) -> Option<OwnedFd> {
        if let (false, Some(here)) = (self.is_finished(), here()) {
            // SAFETY: the set is initialised and has the size that is named.
            unsafe { libc::sched_setaffinity(self.0, size_of::<libc::cpu_set_t>(), &raw const here) };
        }
        // SAFETY: no memory is touched. A child without a signal for its end is waited for by __WALL (waitpid(2)).
        while unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) } < 0 {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
        let made = MADE.swap(FAILED, Ordering::Acquire);
        // SAFETY: the helper opened it in the descriptors that it shares with us and is gone; the swap gives it to one only.
        (made > 2).then(|| unsafe { OwnedFd::from_raw_fd(made) })
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        drop(self.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::asks;
    use std::ffi::CString;

    #[test]
    fn a_new_network_namespace_is_seen_in_the_text() {
        let asked = |list: &str| {
            let text = CString::new(format!(r#"{{"linux": {{"x": "\"namespaces", "namespaces" : [{list}], "y": "{{"}}}}"#)).unwrap();
            // SAFETY: it ends with NUL.
            unsafe { asks(text.as_ptr().cast()) }
        };
        for list in [r#"{"type":"network"}"#, r#"{"type":"pid"}, { "type" : "network" },{"type":"mount","path":"/x\"]"}"#] {
            assert!(asked(list), "{list}");
        }
        for list in [
            "",
            r#"{"type":"pid"}"#,
            r#"{"type":"network","path":"/n"}"#,
            r#"{"path":"/n]","type":"network"}"#,
            r#"{"type":"network"},{"type":"user"}"#,
            r#"{"type":"network"#,
        ] {
            assert!(!asked(list), "{list}");
        }
        for text in [c"", c"{}", c"\"namespaces\"", c"\"namespaces\":[{\"type\":\"network\"}", c"\"namespaces\":[\"\\"] {
            // SAFETY: it ends with NUL.
            assert!(unsafe { !asks(text.as_ptr().cast()) });
        }
    }
}
