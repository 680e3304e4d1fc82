//! Starting a detached process: not our child, not in our session, nothing of ours open.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Stack of each of the two short-lived children; they call a dozen system calls.
const STACK: usize = 32 << 10;

/// What the children need, prepared before the first clone (they must not allocate).
struct Plan {
    executable: i32,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    null: i32,
    socket: i32,
    inner_stack: *mut c_void,
    mask: libc::sigset_t,
    error: AtomicI32,
}

/// Executes `executable` with `socket` as descriptor 3 and `null` as standard streams, in a new session,
/// with `/` as working directory. The process is a grandchild whose parent has ended already: whoever
/// adopts orphans reaps it, so a long-lived caller collects no zombie and needs no SIGCHLD handling.
/// Both clones share memory and suspend the caller (`CLONE_VM | CLONE_VFORK`): nothing is copied,
/// however big the caller is.
///
/// # Errors
/// What clone(2), dup3(2), setsid(2) or execveat(2) said; then no process is left.
pub fn detached(
    executable: BorrowedFd<'_>,
    arguments: &[&CStr],
    environment: &[&CStr],
    null: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    let pointers = |list: &[&CStr]| -> Vec<*const c_char> { list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect() };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // Above the numbers that the child overwrites.
    let executable = rustix::io::fcntl_dupfd_cloexec(executable, 10)?;
    let null = rustix::io::fcntl_dupfd_cloexec(null, 10)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(socket, 10)?;
    let mut outer_stack = vec![0u128; STACK / 16];
    let mut inner_stack = vec![0u128; STACK / 16];
    // SAFETY: sigset_t is plain data; both sets are initialised by the calls below before use.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: live locals. No handler of ours may run in a child that shares our memory.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: as above.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a live local.
    unsafe { libc::sigemptyset(&raw mut none) };
    let plan = Plan {
        executable: executable.as_raw_fd(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        null: null.as_raw_fd(),
        socket: socket.as_raw_fd(),
        inner_stack: inner_stack.as_mut_ptr_range().end.cast(),
        mask: none,
        error: AtomicI32::new(0),
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is ours, 16-aligned and outlives the child (CLONE_VFORK: we go on only after it
    // ended); `outer` only reads the plan and makes system calls.
    let child = unsafe { libc::clone(outer, outer_stack.as_mut_ptr_range().end.cast(), flags, (&raw const plan).cast_mut().cast()) };
    let cloned = if child < 0 { Err(io::Error::last_os_error()) } else { Ok(child) };
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    reap(cloned?)?;
    match plan.error.load(Ordering::Acquire) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn reap(child: i32) -> io::Result<()> {
    loop {
        // SAFETY: a null status pointer is allowed (waitpid(2)).
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // The caller ignores SIGCHLD: reaped by the kernel.
            Some(libc::ECHILD) => return Ok(()),
            _ => return Err(error),
        }
    }
}

fn last_error() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

extern "C" fn outer(plan: *mut c_void) -> i32 {
    // SAFETY: `detached` passes a pointer to its live plan and waits for us.
    let shared = unsafe { &*plan.cast::<Plan>() };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the inner stack is separate, and we go on only after the grandchild executed or ended.
    let child = unsafe { libc::clone(inner, shared.inner_stack, flags, plan) };
    if child < 0 {
        shared.error.store(last_error(), Ordering::Release);
    }
    // SAFETY: _exit runs no handlers of the process whose memory we share.
    unsafe { libc::_exit(0) }
}

extern "C" fn inner(plan: *mut c_void) -> i32 {
    // SAFETY: as in `outer`; `detached` is still suspended.
    let shared = unsafe { &*plan.cast::<Plan>() };
    shared.error.store(become_detached(shared), Ordering::Release);
    // SAFETY: as in `outer`.
    unsafe { libc::_exit(127) }
}

/// Does not return if all goes well; otherwise the errno.
fn become_detached(plan: &Plan) -> i32 {
    // SAFETY: only async-signal-safe system calls, on descriptors and arrays that the plan keeps alive. The
    // descriptor table is our own copy (no CLONE_FILES), and so are the signal handlers.
    unsafe {
        let root = c"/".as_ptr();
        let prepared = libc::setsid() >= 0
            && libc::chdir(root) == 0
            && (0..3).all(|stream| libc::dup3(plan.null, stream, 0) >= 0)
            && libc::dup3(plan.socket, 3, 0) >= 0
            && libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0;
        if !prepared {
            return last_error();
        }
        for signal in 1..32 {
            // Caught ones would be reset by execve(2), ignored ones not. KILL and STOP refuse, rightly.
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.mask, std::ptr::null_mut());
        libc::syscall(libc::SYS_execveat, plan.executable, c"".as_ptr(), plan.arguments, plan.environment, libc::AT_EMPTY_PATH);
        last_error()
    }
}

#[cfg(test)]
mod tests {
    use super::detached;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_process_is_detached_and_leaves_no_zombie() {
        let shell = std::fs::File::open("/bin/sh").unwrap();
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let script = c"echo \"$(pwd) $A $(cut -d' ' -f6 /proc/$$/stat) $$\" >&3";
        detached(shell.as_fd(), &[c"sh", c"-c", script], &[c"A=b", c"PATH=/usr/bin:/bin"], null.as_fd(), theirs.as_fd()).unwrap();
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words[..2], ["/", "b"]);
        assert_eq!(words[2], words[3], "a session of its own");
    }

    #[test]
    fn a_failing_exec_is_told() {
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let error = detached(file.as_fd(), &[c"x"], &[], null.as_fd(), theirs.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
