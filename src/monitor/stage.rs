//! The hidden stage: from `main` to the monitor's loop.

use super::client::{BATCH, STAGE};
use super::frame::{CONFIG_LIMIT, Decoder, Request};
use super::life::Monitor;
use super::peer::Peer;
use super::readiness::Herald;
use super::relay;
use super::resolver::MakeResolver;
use super::run::{Containers, Failure};
use super::{Config, Error, Event, Lifecycle, live, log};
use crate::base::fs::Context;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// Makes a lifecycle from the config.
pub type MakeLifecycle = dyn Fn(&Config) -> Box<dyn Lifecycle>;

/// The kernel's OOM killer spares the monitor: it is small, and the container's end must be recorded.
const OOM_SCORE_ADJ: &str = "-999";

/// The socket that [`Client::spawn`](super::Client::spawn) gave this process, if it is a monitor stage: known by
/// its name, and descriptor 3 is a socket. `main` asks first, before anything opens a descriptor.
pub fn requested() -> Option<OwnedFd> {
    let name = std::env::args_os().next()?;
    if !name.as_bytes().starts_with(STAGE.as_bytes()) {
        return None;
    }
    crate::sys::peer::inherited_socket(3)
}

/// The hidden stage: runs a monitor on the inherited socket. `lifecycle` is made from the config by `engine`
/// (its `spec` is null: the monitor does not keep the OCI config in memory), and so is the resolver, if the config or a later
/// request has a plan for one.
pub fn serve(socket: OwnedFd, lifecycle: &MakeLifecycle, resolver: &MakeResolver) -> ExitCode {
    let mut creator = Peer::new(socket, true);
    crate::base::failpoint::hit("monitor.stage.begun").ok();
    match prepare(&mut creator) {
        Ok((config, held, make)) => {
            super::warnings::keep_in(&config.container_dir);
            supervise(config, held, make, creator, (lifecycle, resolver))
        }
        Err(error) => refuse(creator, error.into()),
    }
}

/// What came with the configuration.
pub(super) struct Received {
    pub(super) json: Vec<u8>,
    pub(super) netns: Option<OwnedFd>,
    /// Bound sockets of published ports: held for the monitor's life, so that no other process takes them. The last one is the
    /// creator's operation lock, which is let go as soon as the monitor has its own.
    pub(super) held: Vec<OwnedFd>,
}

fn prepare(creator: &mut Peer) -> Result<(Config, Vec<OwnedFd>, Containers), Error> {
    let oom_score_adj = become_monitor()?;
    let Received { json, netns, held } = receive(creator)?;
    let mut config: Config = serde_json::from_slice(&json).map_err(|source| Error::Config { operation: "understood", source })?;
    let spec = config.spec.take();
    let whole = Config { spec, ..config.clone() };
    let make = Containers::new(whole, &json, netns, oom_score_adj)?;
    Ok((config, held, make))
}

fn supervise(
    config: Config,
    mut held: Vec<OwnedFd>,
    mut make: Containers,
    creator: Peer,
    (lifecycle, resolver): (&MakeLifecycle, &MakeResolver),
) -> ExitCode {
    let opened = live::take_lock(&config.live_dir).and_then(|lock| {
        let listener = relay::listen(&config.live_dir)?;
        let log = log::Writer::open(&config.container_dir, &config.live_dir, &config.log, &config.log_context)?;
        let herald = config.notify.clone().map(|notify| Herald::new(notify, &config.live_dir)).transpose()?;
        Ok((lock, listener, log, herald))
    });
    let (lock, listener, log, herald) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(creator, error.into()),
    };
    // Ours is held: from here on everybody sees that the container has a monitor. See `Client::spawn`.
    drop(held.pop());
    let engine = lifecycle(&config);
    let mut monitor = Monitor::new(config, lock, listener, log, engine, resolver, creator);
    monitor.held = Some(held);
    monitor.herald = herald;
    monitor.run(&mut || make.make());
    ExitCode::SUCCESS
}

/// Nothing was made yet: says why and ends.
fn refuse(mut creator: Peer, failure: Failure) -> ExitCode {
    creator.tell(&Event::Failed { kind: failure.kind, message: failure.message });
    creator.tell(&Event::Gone);
    ExitCode::FAILURE
}

/// Makes this process a monitor: a name, deaf to what terminals and shutdowns send, spared by the OOM killer.
/// Returns the oom score adjustment it had.
fn become_monitor() -> Result<i32, Error> {
    // Its only threads enter a network namespace and are gone: a heap of theirs would stay.
    crate::sys::heap::share();
    // Files are made with the modes that are asked for.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::thread::set_name(c"rcon-monitor").map_err(Error::system("name the monitor"))?;
    let deaf = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];
    crate::sys::signal::disregard(&deaf).map_err(Error::system("handle signals in the monitor"))?;
    let path = Path::new("/proc/self/oom_score_adj");
    let before = std::fs::read_to_string(path).on("read", path)?;
    match std::fs::write(path, OOM_SCORE_ADJ) {
        // Without CAP_SYS_RESOURCE the score cannot be lowered.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        other => other.on("write", path)?,
    }
    Ok(before.trim().parse().unwrap_or(0))
}

/// Receives descriptors and configuration. Requests that were sent right behind it stay in the decoder.
pub(super) fn receive(creator: &mut Peer) -> Result<Received, Error> {
    let mut descriptors = Vec::new();
    let mut decoder = Decoder::new(CONFIG_LIMIT);
    // Not on the stack: the pages that a stack has once touched stay this process's for days.
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = match recvmsg(&creator.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::talk("receive the configuration of")(error)),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if count == 0 {
            return Err(Error::Lost);
        }
        decoder.push(&buffer[..count]);
        while let Some(frame) = decoder.next().map_err(|malformed| Error::Malformed(malformed.0))? {
            match Request::decode(frame).map_err(|malformed| Error::Malformed(malformed.0))? {
                Request::Descriptors => {}
                Request::Config { netns, json } => {
                    creator.decoder.push(decoder.rest());
                    let mut held = descriptors.into_iter();
                    let netns = netns.then(|| held.next().ok_or(Error::Malformed("no network namespace where one was announced"))).transpose()?;
                    return Ok(Received { json, netns, held: held.collect() });
                }
                _ => return Err(Error::Malformed("a request before the configuration")),
            }
        }
    }
}
