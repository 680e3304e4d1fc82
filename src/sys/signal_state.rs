//! Which signals a process takes: `/proc/PID/task/TID/{status,syscall}`, proc_pid_status(5), proc_pid_syscall(5).

use std::io;
use std::path::Path;
use std::time::Duration;

/// How often, and how far apart, a process is looked at: one that waits in sigwait(3) shows no mask while it waits, and may just
/// be between two waits.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(2);

/// What a process has said about signals; bit n-1 is signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalState {
    /// By any thread.
    blocked: u64,
    ignored: u64,
    caught: u64,
    /// A thread is in rt_sigtimedwait(2), whose set nobody can see: while it waits the kernel takes the set out of the mask.
    awaits: bool,
    /// A debugger is told of every signal.
    traced: bool,
    /// It is PID 1 of its own PID namespace, and that is not ours.
    is_namespace_init: bool,
}

/// Whether the kernel drops this signal for that process: PID 1 of a PID namespace that has said nothing about it
/// (pid_namespaces(7)). False in doubt.
pub fn is_dropped(pid: i32, signal: i32) -> bool {
    (0..LOOKS).all(|look| {
        if look > 0 {
            std::thread::sleep(BETWEEN);
        }
        is_dropped_now(pid, signal)
    })
}

/// [`is_dropped`] by one look: enough for a process of which it was true just before, to see whether it still is.
pub fn is_dropped_now(pid: i32, signal: i32) -> bool {
    SignalState::of(pid).is_ok_and(|state| state.is_namespace_init && !state.knows(signal))
}

impl SignalState {
    fn of(pid: i32) -> io::Result<Self> {
        let mut all = SignalState::default();
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let thread = Self::parse(&std::fs::read_to_string(task.join("status"))?).ok_or(io::ErrorKind::InvalidData)?;
            all.blocked |= thread.blocked;
            all.ignored |= thread.ignored;
            all.caught |= thread.caught;
            all.traced |= thread.traced;
            all.awaits |= awaits(&task)?;
            all.is_namespace_init |= thread.is_namespace_init;
        }
        Ok(all)
    }

    /// A handler is called, it is kept for signalfd(2) or sigwait(3), or it is ignored on purpose.
    fn knows(&self, signal: i32) -> bool {
        let bit = 1u64.checked_shl(signal.unsigned_abs().wrapping_sub(1)).unwrap_or(0);
        self.awaits || self.traced || (self.caught | self.blocked | self.ignored) & bit != 0
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the command, which may hold anything but a line feed, is on a line of its own.
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let mask = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        // From our namespace to its own.
        let numbers: Vec<&str> = field("NSpid")?.split_whitespace().collect();
        Some(SignalState {
            blocked: mask("SigBlk")?,
            ignored: mask("SigIgn")?,
            caught: mask("SigCgt")?,
            awaits: false,
            traced: field("TracerPid")? != "0",
            is_namespace_init: numbers.len() > 1 && numbers.last() == Some(&"1"),
        })
    }
}

/// The file begins with the number of the system call that the thread is in, or with `running`.
fn awaits(task: &Path) -> io::Result<bool> {
    let text = std::fs::read_to_string(task.join("syscall"))?;
    Ok(text.split_whitespace().next() == Some(libc::SYS_rt_sigtimedwait.to_string().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_namespaces_are_read() {
        let text = "Name:\tSigCgt: ff\nUmask:\t0022\nTracerPid:\t0\nNSpid:\t4711\t1\nSigQ:\t0/1\nSigPnd:\t0000000000000000\n\
                    SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004000\n";
        let state = SignalState::parse(text).unwrap();
        assert!(state.is_namespace_init);
        for (signal, known) in [(1, true), (15, true), (2, false), (13, true), (3, false), (64, false)] {
            assert_eq!(state.knows(signal), known, "{signal}");
        }
        assert!(SignalState { awaits: true, ..state }.knows(2), "it may be what is waited for");
        assert!(!SignalState::parse(&text.replace("4711\t1", "4711")).unwrap().is_namespace_init);
        assert!(SignalState::parse(&text.replace("TracerPid:\t0", "TracerPid:\t7")).unwrap().traced);
        assert_eq!(SignalState::parse("Name: x\n"), None);
    }

    #[test]
    fn a_thread_that_waits_for_signals_is_seen() {
        // Alone: a thread that waits for every signal would take those of the other tests.
        let body = || {
            super::super::process::block_signals();
            std::thread::spawn(super::super::process::wait_signal);
            let own = i32::try_from(std::process::id()).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while !SignalState::of(own).is_ok_and(|state| state.awaits) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            assert!(!is_dropped(own, libc::SIGTERM), "we are no init");
        };
        assert!(super::super::clone::run_alone(body));
    }
}
