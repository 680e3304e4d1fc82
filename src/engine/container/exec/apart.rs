//! An exec whose parent is a process of its own: for callers with threads, which must not clone, and that may end before it does.
//!
//! The stage gets the order and the descriptors of init and of the streams on its socket; it answers with the process (and its
//! console), and at its end with the exit code. When the socket closes before, it stays until the process has ended, and reads
//! what that writes to its console, so that nobody hangs.

use super::super::handover::{self, Refused, receive, send_all};
use super::{Error, ExecEnd, Plan, Result};
use crate::runtime::cgroup::Group;
use crate::runtime::{self, Exec, Running, Stdio, User, hooks};
use oci_spec::runtime::{Process, Spec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// By this name `main` knows the stage; the container's short id follows.
const STAGE: &str = "rcon-exec-";

#[derive(Serialize, Deserialize)]
struct Order {
    id: String,
    spec: Spec,
    process: Process,
    user: User,
    group: Group,
    state: hooks::State,
    /// Size of the terminal; None: the streams are handed over.
    terminal: Option<(u16, u16)>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Started { pid: i32 },
    Refused(Refused),
}

/// A process that runs, as the child of another one.
pub struct Apart {
    pub pid: i32,
    pub console: Option<OwnedFd>,
    socket: OwnedFd,
    ended: ExecEnd,
}

impl Apart {
    /// Readable once the process has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for the end and tells the journal; the exit code.
    pub fn wait(self) -> i32 {
        let mut code = [0u8; size_of::<i32>()];
        // Whoever waits for the process was killed: nobody knows it.
        let code = File::from(self.socket).read_exact(&mut code).map_or(255, |()| i32::from_le_bytes(code));
        self.ended.tell(code);
        code
    }
}

/// Starts the stage, and with it the process.
///
/// # Errors
/// As [`runtime::exec`]; the stage cannot be started or was killed.
pub(super) fn run(plan: &Plan, stdio: Stdio, ended: ExecEnd) -> Result<Apart> {
    let operation = format!("run a command in container \"{}\"", plan.record.name);
    let failed = |source: io::Error| Error::Failed { operation: operation.clone(), kind: crate::base::ErrorKind::Internal, source: Box::new(source) };
    let (terminal, streams) = match stdio {
        Stdio::Terminal { columns, rows } => (Some((columns, rows)), Vec::new()),
        Stdio::Pipes { stdin, stdout, stderr } => (None, vec![stdin, stdout, stderr]),
        Stdio::Inherit => return Err(Error::invalid("the streams of an exec are a terminal or pipes")),
    };
    let order = Order {
        id: plan.record.id.as_str().to_owned(),
        spec: plan.spec.clone(),
        process: plan.process.clone(),
        user: plan.user.clone(),
        group: plan.live.cgroup.clone(),
        state: plan.state.clone(),
        terminal,
    };
    let socket = handover::start(&format!("{STAGE}{}", plan.record.id.short()))?;
    let descriptors: Vec<BorrowedFd<'_>> = [plan.pidfd.as_fd()].into_iter().chain(streams.iter().map(AsFd::as_fd)).collect();
    handover::hand_over(&socket, &order, &descriptors).map_err(failed)?;
    drop(descriptors);
    drop(streams);
    let (answer, console) = receive::<Answer>(&socket).map_err(failed)?;
    match answer {
        Answer::Started { pid } => Ok(Apart { pid, console: console.into_iter().next(), socket, ended }),
        Answer::Refused(refused) => Err(refused.into_error(&operation)),
    }
}

/// The hidden stage; None when this process was not started as one.
pub(in crate::engine) fn stage() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if !name.as_bytes().starts_with(STAGE.as_bytes()) {
        return None;
    }
    let socket = crate::sys::peer::inherited_socket(3)?;
    Some(match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            // Whoever asked may be gone: then nobody hears it.
            drop(handover::hand_over(&socket, &Answer::Refused(refused), &[]));
            ExitCode::FAILURE
        }
    })
}

fn serve(socket: &OwnedFd) -> std::result::Result<(), Refused> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::thread::set_name(c"rcon-exec").map_err(Refused::other)?;
    let (order, descriptors) = receive::<Order>(socket).map_err(Refused::other)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| Refused::other("a descriptor is missing"));
    let init = next()?;
    let stdio = match order.terminal {
        Some((columns, rows)) => Stdio::Terminal { columns, rows },
        None => Stdio::Pipes { stdin: next()?, stdout: next()?, stderr: next()? },
    };
    let running = runtime::exec(Exec {
        init_pidfd: init.as_fd(),
        process: &order.process,
        user: Some(&order.user),
        keyring: Some(&order.id),
        spec: &order.spec,
        stdio,
        cgroup: &order.group,
        resctrl: None,
        preserve_fds: 0,
        state: Some(&order.state),
    });
    let running = running.map_err(|error| Refused::from(&error))?;
    let console: Vec<BorrowedFd<'_>> = running.console.iter().map(AsFd::as_fd).collect();
    // Whoever asked may be gone: the process has begun, and is waited for.
    drop(handover::hand_over(socket, &Answer::Started { pid: running.pid }, &console));
    drop(console);
    let code = await_end(&running, socket);
    drop(send_all(socket, &code.to_le_bytes()));
    Ok(())
}

fn await_end(running: &Running, socket: &OwnedFd) -> i32 {
    let mut left = false;
    loop {
        let mut fds = vec![PollFd::new(&running.pidfd, PollFlags::IN)];
        match &running.console {
            Some(console) if left => fds.push(PollFd::new(console, PollFlags::IN)),
            _ if !left => fds.push(PollFd::new(socket, PollFlags::RDHUP)),
            _ => {}
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        if !fds[0].revents().is_empty() {
            break;
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            match &running.console {
                // Nobody reads what it writes any more.
                Some(console) if left => drop(rustix::io::read(console, &mut [0u8; 4096][..])),
                _ => left = true,
            }
        }
    }
    match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED)) {
        Ok(Some(status)) => status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)),
        Ok(None) | Err(_) => 255,
    }
}
