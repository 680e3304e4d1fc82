//! The session of `exec`: this process is the parent of the container's new process and holds the other ends of
//! its terminal or pipes.

use super::terminal::{self, RawMode};
use super::{DetachKeys, End, Failure, write_all};
use crate::engine::request::ExecStdio;
use crate::runtime::Running;
use crate::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::sync::Arc;

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;

/// Our ends of the new process's streams, and the child's ends for the request.
pub struct ExecIo {
    /// Where our stdin goes; None when it is not attached (the process then reads an end of file).
    stdin: Option<OwnedFd>,
    /// What the process writes: stdout, stderr.
    outputs: [Option<OwnedFd>; 2],
    /// Keys that leave the process to itself; only with a terminal and stdin.
    detach: Option<DetachKeys>,
}

impl ExecIo {
    /// Pipes for an attached process without a terminal; stdin only when `interactive`.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pipes(interactive: bool) -> Result<(ExecIo, ExecStdio), Failure> {
        let make = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::caused("cannot make a pipe", &e));
        let (child_in, our_in) = if interactive {
            let (read, write) = make()?;
            (read, Some(write))
        } else {
            (null()?, None)
        };
        let ((out, child_out), (err, child_err)) = (make()?, make()?);
        let io = ExecIo { stdin: our_in, outputs: [Some(out), Some(err)], detach: None };
        Ok((io, ExecStdio::Pipes(Arc::new([child_in, child_out, child_err]))))
    }

    /// Nothing attached: the streams of `exec -d`.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn detached() -> Result<ExecStdio, Failure> {
        Ok(ExecStdio::Pipes(Arc::new([null()?, null()?, null()?])))
    }

    /// The streams of a process with a terminal: its console is ours to read and write, until `detach` is typed.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn console(console: OwnedFd, interactive: bool, detach: Option<DetachKeys>) -> Result<ExecIo, Failure> {
        let failed = |e: io::Error| Failure::caused("cannot use the terminal", &e);
        let stdin = if interactive { Some(console.try_clone().map_err(failed)?) } else { None };
        Ok(ExecIo { stdin, outputs: [Some(console), None], detach })
    }

    /// Nothing to relay: the process has our own streams.
    pub fn inherited() -> ExecIo {
        ExecIo { stdin: None, outputs: [None, None], detach: None }
    }
}

fn null() -> Result<OwnedFd, Failure> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).map_err(|e| Failure::caused("cannot open /dev/null", &e))
}

/// Relays until the process has ended and what it wrote was shown. Signals that would end us go to the process.
///
/// # Errors
/// Our own streams fail, or the process cannot be waited for.
pub fn relay(running: &Running, io: ExecIo, tty: bool) -> Result<End, Failure> {
    let mut list = super::ENDING_SIGNALS.to_vec();
    list.push(libc::SIGWINCH);
    let signals = SignalFd::block(&list).map_err(|e| Failure::caused("cannot catch signals", &e))?;
    relay_signals(running, io, tty, &signals, &|| {})
}

/// [`relay`] with signals that were blocked before the process was made. At SIGCHLD, if that is among them, `children` is
/// called, which must leave the process itself to us.
///
/// # Errors
/// As [`relay`].
pub fn relay_signals(running: &Running, mut io: ExecIo, tty: bool, signals: &SignalFd, children: &dyn Fn()) -> Result<End, Failure> {
    let raw = if tty && io.stdin.is_some() { RawMode::enter()? } else { None };
    let end = run(running, &mut io, tty, signals, children);
    drop(raw);
    end
}

fn run(running: &Running, io: &mut ExecIo, tty: bool, signals: &SignalFd, children: &dyn Fn()) -> Result<End, Failure> {
    let mut pending: Vec<u8> = Vec::new();
    let mut reading = io.stdin.is_some();
    loop {
        // Order: pidfd, signals, stdout, stderr, then our stdin or its sink.
        let mut ready = [false; 5];
        {
            let stdin = io::stdin();
            let mut fds = vec![(0, PollFd::new(&running.pidfd, PollFlags::IN)), (1, PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN))];
            for (i, output) in io.outputs.iter().enumerate() {
                fds.extend(output.as_ref().map(|fd| (2 + i, PollFd::new(fd, PollFlags::IN))));
            }
            match &io.stdin {
                Some(sink) if !pending.is_empty() => fds.push((4, PollFd::new(sink, PollFlags::OUT))),
                Some(_) if reading => fds.push((4, PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN))),
                _ => {}
            }
            let (slots, mut polled): (Vec<usize>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
            match poll(&mut polled, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Failure::caused("cannot wait for the process", &e)),
            }
            for (slot, fd) in slots.into_iter().zip(&polled) {
                ready[slot] = !fd.revents().is_empty();
            }
        }
        for stream in 0..2 {
            if ready[2 + stream] && !forward(&mut io.outputs, stream)? {
                return Ok(End::OutputClosed);
            }
        }
        // The ended needs no signal, and what it leaves behind is not ours much longer.
        if ready[1] && !ready[0] {
            take_signals(signals, running, io, tty, children)?;
        }
        if ready[0] {
            return finish(running, io);
        }
        if ready[4] && pump(io, &mut pending, &mut reading, tty) {
            if let Some(console) = &io.outputs[0] {
                super::hold(running, console)?;
            }
            return Ok(End::Detached);
        }
    }
}

/// Moves a chunk from the process to our stream; an end closes it. False: nobody reads ours any more.
fn forward(outputs: &mut [Option<OwnedFd>; 2], stream: usize) -> Result<bool, Failure> {
    let Some(fd) = &outputs[stream] else { return Ok(true) };
    let mut buffer = vec![0u8; CHUNK];
    match rustix::io::read(fd, &mut buffer) {
        // EIO: the last holder of the terminal's other side is gone.
        Ok(0) | Err(Errno::IO) => outputs[stream] = None,
        Ok(count) => {
            let written = if stream == 0 { write_all(&mut io::stdout(), &buffer[..count]) } else { write_all(&mut io::stderr(), &buffer[..count]) };
            match written {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                Err(e) => return Err(Failure::caused("cannot write the output", &e)),
            }
        }
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(e) => return Err(Failure::caused("cannot read the output", &e)),
    }
    Ok(true)
}

fn take_signals(signals: &SignalFd, running: &Running, io: &ExecIo, tty: bool, children: &dyn Fn()) -> Result<(), Failure> {
    while let Some(number) = signals.next().map_err(|e| Failure::caused("cannot read signals", &e))? {
        match number {
            libc::SIGCHLD => children(),
            libc::SIGWINCH if tty => {
                if let (Some(console), Some((columns, rows))) = (&io.outputs[0], terminal::size()) {
                    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
                    // The console may just have hung up; then its size matters to nobody.
                    rustix::termios::tcsetwinsize(console, size).ok();
                }
            }
            libc::SIGWINCH => {}
            // A process that has just ended needs no signal; the next turn sees its end.
            number => drop(crate::sys::pidfd_signal::send(running.pidfd.as_fd(), number)),
        }
    }
    Ok(())
}

/// Moves stdin towards the process by one step: reads a chunk, or writes what is left of it. True: the detach keys were typed.
fn pump(io: &mut ExecIo, pending: &mut Vec<u8>, reading: &mut bool, tty: bool) -> bool {
    if !pending.is_empty() {
        let Some(sink) = &io.stdin else { return false };
        // POLLOUT promises room for PIPE_BUF bytes without blocking (pipe(7)).
        let part = pending.len().min(4096);
        match rustix::io::write(sink, &pending[..part]) {
            Ok(count) => drop(pending.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads there any more: our stdin is of no use.
            Err(_) => {
                pending.clear();
                io.stdin = None;
                *reading = false;
            }
        }
    } else if *reading {
        let mut buffer = vec![0u8; CHUNK];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                *reading = false;
                pending.extend(io.detach.as_mut().map(DetachKeys::flush).unwrap_or_default());
            }
            Ok(count) => match &mut io.detach {
                None => pending.extend_from_slice(&buffer[..count]),
                Some(keys) => {
                    let (bytes, detached) = keys.feed(&buffer[..count]);
                    if detached {
                        // What was typed before the keys is the process's; a terminal that does not take it is full.
                        if let Some(sink) = io.stdin.as_ref().filter(|_| !bytes.is_empty()) {
                            rustix::io::write(sink, &bytes[..bytes.len().min(4096)]).ok();
                        }
                        return true;
                    }
                    pending.extend(bytes);
                }
            },
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => *reading = false,
        }
    }
    if !*reading && pending.is_empty() && !tty {
        io.stdin = None;
    }
    false
}

/// Shows what the ended process left in its pipes and takes its exit code. Pipes that its own children still
/// hold are not waited for.
fn finish(running: &Running, io: &mut ExecIo) -> Result<End, Failure> {
    // Bounded: a pipe holds at most 1 MiB, and a writer that lives on must not keep us.
    for _ in 0..64 {
        let mut progress = false;
        for stream in 0..2 {
            let Some(fd) = &io.outputs[stream] else { continue };
            let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0) {
                progress = true;
                if !forward(&mut io.outputs, stream)? {
                    return Ok(End::OutputClosed);
                }
            }
        }
        if !progress {
            break;
        }
    }
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED));
    match status.map_err(|e| Failure::caused("cannot wait for the process", &e))? {
        Some(status) => Ok(End::Exited(status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)))),
        None => Err(Failure::invalid("the process ended without an exit code")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::zombie_processes)]
    use super::*;

    /// A child of ours whose streams are the ends that an exec request would carry.
    fn spawn(script: &str, stdio: &ExecStdio) -> Running {
        let ExecStdio::Pipes(ends) = stdio else { panic!("pipes expected") };
        let fd = |i: usize| ends[i].try_clone().unwrap();
        let child = std::process::Command::new("/bin/sh").args(["-c", script]).stdin(fd(0)).stdout(fd(1)).stderr(fd(2)).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::PidfdFlags::empty()).unwrap();
        Running { pid: 0, pidfd, console: None }
    }

    #[test]
    fn exit_codes_come_from_the_process() {
        for (script, code) in [("exit 44", 44), ("kill -TERM $$", 143), ("true", 0)] {
            let (io, stdio) = ExecIo::pipes(false).unwrap();
            let running = spawn(script, &stdio);
            drop(stdio);
            assert_eq!(relay(&running, io, false).unwrap(), End::Exited(code), "{script}");
        }
    }
}
