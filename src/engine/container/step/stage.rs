//! The hidden stage of one step: a single-threaded process that creates the container, waits for its end, and ends with
//! whoever asked for it.
//!
//! On the inherited stream socket it gets a length and the order as JSON, with the descriptors of the standard streams, of the
//! sandbox's lock (so that nothing is swept before this process has ended, too) and, if there is one, of the network
//! namespace; it answers with the outcome as JSON and ends. When the socket closes before,
//! it kills the step.

use super::super::super::{Error, Result};
use super::super::handover::{self, Refused, send_all};
use crate::base::ErrorKind;
use crate::runtime::cgroup::Group;
use crate::runtime::{self, BindSource, Root, Stdio, User};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

/// By this name `main` knows the stage; the short id follows.
const STAGE: &str = "rcon-step-";
/// Most bytes of an answer.
const LIMIT: u64 = 16 << 20;
/// How long processes that got SIGKILL may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the stage needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: crate::base::ContainerId,
    pub(super) spec: serde_json::Value,
    pub(super) root: Root,
    pub(super) sources: Vec<BindSource>,
    pub(super) user: User,
    pub(super) cgroup_path: String,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// As a shell tells it: 128 and more for a signal.
    pub code: i32,
    /// The kernel killed one of its processes for want of memory.
    pub oom: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Ended(StepEnd),
    Refused(Refused),
}

/// Starts the stage and waits for the end of the step.
///
/// # Errors
/// The stage cannot be started or was killed; what it could not do.
pub(super) fn run(
    order: &Order,
    streams: [OwnedFd; 3],
    lock: BorrowedFd<'_>,
    netns: Option<BorrowedFd<'_>>,
    started: &dyn Fn(OwnedFd),
) -> Result<StepEnd> {
    let failed = |operation: &str, source: Box<dyn std::error::Error + Send + Sync>| Error::Failed {
        operation: format!("{operation} the step"),
        kind: ErrorKind::Internal,
        source,
    };
    let ours = handover::start(&format!("{STAGE}{}", order.id.short()))?;
    started(ours.try_clone().map_err(|e| failed("hold the socket of", e.into()))?);
    let fds: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).chain([lock]).chain(netns).collect();
    handover::hand_over(&ours, order, &fds).map_err(|e| failed("hand over", e.into()))?;
    drop(fds);
    drop(streams);
    let mut answer = Vec::new();
    std::fs::File::from(ours).take(LIMIT).read_to_end(&mut answer).map_err(|e| failed("wait for", e.into()))?;
    match serde_json::from_slice(&answer) {
        Ok(Outcome::Ended(end)) => Ok(end),
        Ok(Outcome::Refused(refused)) => Err(refused.into_error("run the step")),
        Err(_) => Err(failed("wait for", "the process that ran it was killed".into())),
    }
}

/// The hidden stage; None when this process was not started as one. `main` asks before anything opens a descriptor.
pub(in crate::engine) fn stage() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if !name.as_bytes().starts_with(STAGE.as_bytes()) {
        return None;
    }
    let socket = crate::sys::peer::inherited_socket(3)?;
    let outcome = match serve(&socket) {
        Ok(end) => Outcome::Ended(end),
        Err(outcome) => outcome,
    };
    // Whoever asked may be gone: then nobody hears it.
    let json = serde_json::to_vec(&outcome).unwrap_or_default();
    Some(if send_all(&socket, &json).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn other(message: impl ToString) -> Outcome {
    Outcome::Refused(Refused::other(message))
}

fn refused(error: &runtime::Error) -> Outcome {
    Outcome::Refused(Refused::from(error))
}

fn serve(socket: &OwnedFd) -> std::result::Result<StepEnd, Outcome> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::thread::set_name(c"rcon-step").map_err(other)?;
    let Received { order, streams, netns, lock: _held } = receive(socket)?;
    let spec: Spec = serde_json::from_value(order.spec.clone()).map_err(other)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let group = Group::create(&order.cgroup_path, resources).map_err(other)?;
    let outcome = within(socket, &order, &spec, &group, streams, netns.as_ref());
    let oom = group.oom_kills() > 0;
    let cleared = group.kill_all(PATIENCE).and_then(|()| group.delete());
    let code = outcome?;
    cleared.map_err(other)?;
    Ok(StepEnd { code, oom })
}

fn within(
    socket: &OwnedFd,
    order: &Order,
    spec: &Spec,
    group: &Group,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    netns: Option<&OwnedFd>,
) -> std::result::Result<i32, Outcome> {
    let request = runtime::Create {
        sources: &order.sources,
        user: Some(&order.user),
        keyring: Some(order.id.as_str()),
        netns: netns.map(AsFd::as_fd),
        ..runtime::Create::new(spec, &order.root, Stdio::Pipes { stdin, stdout, stderr }, group)
    };
    let mut init = runtime::create(request).map_err(|error| refused(&error))?;
    if let Err(error) = init.start() {
        waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED).map_err(other)?;
        return Err(refused(&error));
    }
    loop {
        let mut fds = [PollFd::from_borrowed_fd(init.pidfd.as_fd(), PollFlags::IN), PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(other(error)),
        }
        let [ended, left] = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if left {
            // It has ended already, at worst.
            rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).ok();
        }
        if ended || left {
            let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED)).map_err(other)?;
            let code = status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)));
            return Ok(code.unwrap_or(255));
        }
    }
}

struct Received {
    order: Order,
    streams: [OwnedFd; 3],
    lock: OwnedFd,
    netns: Option<OwnedFd>,
}

fn receive(socket: &OwnedFd) -> std::result::Result<Received, Outcome> {
    let (order, descriptors) = handover::receive(socket).map_err(other)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| other("a stream is missing"));
    let streams = [next()?, next()?, next()?];
    Ok(Received { order, streams, lock: next()?, netns: descriptors.next() })
}
