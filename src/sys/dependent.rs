//! A program that ends with whoever started it, and takes all that it started with it.
//!
//! Between us and the program stands a process that ends when the thread that started it does (prctl(2),
//! `PR_SET_PDEATHSIG`); with it ends the program, which is the first of a PID namespace of its own, so that the kernel kills
//! every process in there. A program alone could follow its parent's death, but not what it starts itself.
#![allow(unsafe_code)]

use super::process::{exit, reset_signals};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the program, once it is started, end with this thread; killing the child (SIGKILL) ends it as well. It has a session
/// of its own: what is typed at the terminal does not reach it, nor can it ask anything there. Without the right to make a
/// PID namespace the program itself still ends, but what it has started may go on.
pub fn follow(command: &mut Command) -> &mut Command {
    // SAFETY: `getpid` touches no memory.
    let parent = unsafe { libc::getpid() };
    // SAFETY: in the forked child `begin` only makes system calls on live locals: it neither allocates nor takes locks.
    unsafe { command.pre_exec(move || begin(parent)) }
}

/// Returns in the program's process; the one in between never does.
fn begin(parent: i32) -> io::Result<()> {
    reset_signals();
    // SAFETY: system calls without memory.
    unsafe {
        libc::setsid();
        die_with_parent()?;
        if libc::getppid() != parent {
            exit(1);
        }
    }
    let mut ends = [0; 2];
    // SAFETY: two descriptors fit.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let mut child = fork(libc::CLONE_NEWPID);
    if child < 0 {
        child = fork(0);
    }
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            die_with_parent()?;
            let mut end = libc::pollfd { fd: ends[0], events: 0, revents: 0 };
            // SAFETY: the descriptors are this process's own copies, and `end` is live.
            let gone = unsafe { libc::close(ends[1]) != 0 || libc::poll(&raw mut end, 1, 0) != 0 };
            // In a PID namespace nobody can tell a parent that is gone from one outside: its end of the pipe can.
            if gone { exit(1) } else { Ok(()) }
        }
        child => attend(child, ends[1]),
    }
}

/// Ends as the program does. `end`: held, so that the program sees that this process lives.
fn attend(child: i32, end: i32) -> ! {
    // The streams, and the pipe on which the program's own start is told, are the program's alone.
    for (first, last) in [(0, end.cast_unsigned().wrapping_sub(1)), (end.cast_unsigned() + 1, u32::MAX)] {
        // SAFETY: no owner of these descriptors runs in this process any more.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
    let mut status = 0;
    loop {
        // SAFETY: `status` is live.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) });
        }
        if waited < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            exit(1);
        }
    }
}

fn fork(flags: i32) -> i32 {
    // SAFETY: no stack, no pointers: both sides go on with a copy of this process's memory (clone(2)). All arguments behind
    // the flags are zero, so that their order, which differs between architectures, is of no matter.
    unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) as i32 }
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: this option of prctl takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    #[test]
    fn what_the_program_started_ends_with_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo on; wait"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = follow(&mut command).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "on\n");
        child.kill().unwrap();
        child.wait().unwrap();
        // Both the shell and what it started hold the pipe open as long as they live.
        assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn its_end_and_a_failed_start_are_told() {
        let mut command = Command::new("sh");
        let output = follow(command.args(["-c", "echo out; echo err >&2; exit 7"])).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()), (Some(7), &b"out\n"[..], &b"err\n"[..]));
        let error = follow(&mut Command::new("/nowhere/program")).spawn().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
