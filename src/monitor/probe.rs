//! One probe of a container's health, in a process of its own: a fork of the monitor that runs the exec, waits for it,
//! and writes the result down. So a probe that hangs, a frozen container, the parsing of the config and the compiling of
//! its filter cost the monitor neither time nor memory.

use super::health::{OUTPUT, ProbeResult, go_text};
use super::run::Failure;
use super::{Error, FailureKind, run};
use crate::base::Timestamp;
use crate::runtime::{Running, Stdio, cgroup::Group};
use crate::sys::clone::{Forked, SingleThreaded, fork};
use crate::sys::process as sys;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group, set_parent_process_death_signal, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a probe that got SIGKILL may take to die before it is left to itself.
const DYING: Duration = Duration::from_secs(1);
/// After its timeout the fork has this long to end by itself.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Exit status of the fork.
const WELL: i32 = 0;
const ILL: i32 = 1;
/// The container was paused meanwhile: the result says nothing.
const VOID: i32 = 2;

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    Ill,
    Void,
    /// The fork died without having written a result.
    Lost,
}

/// A probe on its way.
pub(super) struct Probe {
    pub(super) pidfd: OwnedFd,
    pub(super) began: Timestamp,
    /// When the fork itself is killed.
    pub(super) deadline: Instant,
    /// Asked of [`super::health::Checks::forgives`] at its begin.
    pub(super) forgiven: bool,
}

/// What the fork needs.
pub(super) struct Order<'a> {
    pub(super) timeout: Duration,
    /// Runs the command inside with these streams. Called in the fork.
    pub(super) exec: &'a dyn Fn(Stdio) -> Result<Running, Failure>,
    /// Writes the result down. Called in the fork.
    pub(super) report: &'a mut dyn FnMut(ProbeResult),
    pub(super) init: BorrowedFd<'a>,
    pub(super) group: &'a Group,
}

/// Forks. The caller reaps the process that the descriptor stands for, whose status [`verdict`] reads.
pub(super) fn begin(order: &mut Order<'_>) -> Result<OwnedFd, Failure> {
    let threads = || Failure { kind: FailureKind::Other, message: "a probe needs a single-threaded process".to_owned() };
    let proof = SingleThreaded::check().ok_or_else(threads)?;
    let monitor = rustix::process::getpid();
    match fork(proof, 0, None).map_err(Error::system("fork a process for the probe"))? {
        Forked::Parent { pidfd, .. } => Ok(pidfd),
        Forked::Child => {
            let alone = set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Some(monitor);
            // The monitor's lock, sockets and published ports must not live on here.
            if !alone || sys::close_others(3, &[order.init]).is_err() {
                sys::exit(ILL);
            }
            // Only seen in `ps`.
            rustix::thread::set_name(c"rcon-probe").ok();
            sys::exit(run(order));
        }
    }
}

/// Reads the status of a fork that has ended.
pub(super) fn verdict(pidfd: BorrowedFd<'_>) -> Verdict {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED));
    match status.ok().flatten().and_then(|status| status.exit_status()) {
        Some(WELL) => Verdict::Well,
        Some(ILL) => Verdict::Ill,
        Some(VOID) => Verdict::Void,
        _ => Verdict::Lost,
    }
}

fn run(order: &mut Order<'_>) -> i32 {
    let start = Timestamp::now();
    let (exit_code, output) = match attempt(order) {
        Ok(Some(ended)) => ended,
        Ok(None) => return VOID,
        Err(failure) => (-1, failure.message),
    };
    (order.report)(ProbeResult { start, end: Timestamp::now(), exit_code, output });
    if exit_code == 0 { WELL } else { ILL }
}

/// Exit code and output; None: the container was paused meanwhile.
fn attempt(order: &Order<'_>) -> Result<Option<(i32, String)>, Failure> {
    let deadline = Instant::now() + order.timeout;
    let null = || std::fs::File::open("/dev/null").map(OwnedFd::from).map_err(Error::system("open /dev/null"));
    let (reader, writer) = run::pipe()?;
    run::non_blocking(&reader)?;
    let stderr = writer.try_clone().map_err(Error::system("duplicate a pipe"))?;
    let running = (order.exec)(Stdio::Pipes { stdin: null()?, stdout: writer, stderr })?;
    let mut output = Vec::new();
    let code = await_end(&running, &reader, deadline, &mut output)?;
    if let Some(code) = code {
        return Ok(Some((code, text(&output))));
    }
    let frozen = order.group.is_frozen();
    kill(&running);
    if frozen {
        return Ok(None);
    }
    // Reaped, so that its pid namespace can end.
    await_end(&running, &reader, Instant::now() + DYING, &mut output)?;
    let exceeded = format!("Health check exceeded timeout ({})", go_text(order.timeout));
    Ok(Some((-1, if output.is_empty() { exceeded } else { format!("{exceeded}: {}", text(&output)) })))
}

/// All that is left of the probe's process group: it is a session of its own, and its number cannot be another's before it is
/// reaped.
fn kill(running: &Running) {
    let group = Pid::from_raw(running.pid).filter(|pid| !pid.is_init());
    if let Some(Err(error)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
        tracing::warn!("cannot kill a health check: {error}");
    }
}

/// Waits for the process, taking what it writes; None: the deadline has passed.
fn await_end(running: &Running, reader: &OwnedFd, deadline: Instant, output: &mut Vec<u8>) -> Result<Option<i32>, Failure> {
    let mut open = true;
    loop {
        let left = super::relay::timespec(deadline.saturating_duration_since(Instant::now()));
        let mut fds = vec![PollFd::new(&running.pidfd, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(reader, PollFlags::IN));
        }
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::system("wait for a health check")(error).into()),
        }
        let (ended, readable) = (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()));
        if readable {
            open = take(reader, output) != Taken::End;
        }
        if ended {
            // What others still hold open is not waited for.
            while take(reader, output) == Taken::Some {}
            let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED));
            let status = status.map_err(Error::system("reap a health check"))?;
            let code = status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)));
            return Ok(Some(code.unwrap_or(-1)));
        }
    }
}

#[derive(PartialEq)]
enum Taken {
    Some,
    /// Nothing now.
    Later,
    End,
}

fn take(reader: &OwnedFd, output: &mut Vec<u8>) -> Taken {
    let mut buffer = [0u8; 4096];
    match rustix::io::read(reader, &mut buffer[..]) {
        Ok(0) => Taken::End,
        Ok(count) => {
            // One more than is kept tells that there was more.
            let room = (OUTPUT + 1).saturating_sub(output.len());
            output.extend_from_slice(&buffer[..count.min(room)]);
            Taken::Some
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Taken::Later,
        Err(_) => Taken::End,
    }
}

fn text(output: &[u8]) -> String {
    let cut = &output[..output.len().min(OUTPUT)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    // Replacement characters are longer than what they stand for.
    text.truncate(text.floor_char_boundary(OUTPUT));
    if output.len() > OUTPUT {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_4096_bytes() {
        assert_eq!(text(b"fine"), "fine");
        let long = text(&vec![b'x'; OUTPUT + 1]);
        assert_eq!(long.len(), OUTPUT + 3);
        assert!(long.ends_with("x..."));
        assert!(text(&[0xff; 4096]).len() <= OUTPUT);
    }
}
