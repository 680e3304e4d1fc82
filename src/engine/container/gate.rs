//! A start in two halves: what a container is set up for and waits at its gate (`init`), and the gate.

use super::super::{AttachStreams, Attached, Engine, Error, Result, events};
use super::contact::{self, awaits};
use super::locks;
use super::reconcile::{self, Decider};
use super::remove::failpoint_at;
use crate::base::{ContainerId, ErrorKind};
use crate::monitor::{self, Client, Event, Live};
use crate::state::record::{Container, Phase};
use std::time::Duration;

/// How long a monitor whose program could not be started may take to write that down.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far a start goes, and for whom.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Aim {
    pub attach: AttachStreams,
    pub console: (u16, u16),
    /// It is left at its gate: set up, and not started.
    pub hold: bool,
}

impl Engine {
    /// Sets it up to where only its program is missing: namespaces, network, mounts and control groups are there, and its
    /// first process waits for [`Engine::start`]. One that waits already is fine.
    ///
    /// # Errors
    /// `Conflict` for one that runs; else those of [`Engine::start`].
    pub fn init(&self, id: &ContainerId) -> Result<()> {
        let roots = &self.privilege.roots;
        if let Some(record) = self.db.container(id)? {
            self.start_required(&record)?;
        }
        let lock = locks::lock(roots, id)?;
        let record = self.db.container(id)?.ok_or_else(|| Error::no_such("container", id.as_str()))?;
        let record = self.settle_locked(record)?.ok_or_else(|| Error::no_such("container", id.as_str()))?;
        match record.phase {
            Phase::Started if Live::read(&roots.live(id)).is_some_and(|live| live.waiting) => return Ok(()),
            Phase::Started => return Err(Error::conflict(format!("container {} is running", record.name))),
            Phase::Removing => return Err(Error::conflict(format!("container {} is being removed", record.name))),
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
        let record = Container { revival: None, ..record };
        let aim = Aim { hold: true, ..Aim::default() };
        self.start_locked(record, &lock, aim).map(drop)
    }

    /// Subscribes to the streams of one that was set up and waits: what its program says reaches the client from the first byte on.
    ///
    /// # Errors
    /// It has just ended.
    pub fn attach_ahead(&self, id: &ContainerId, streams: AttachStreams) -> Result<monitor::Client> {
        let record = self.find(id.as_str())?;
        let gone = || Error::conflict(format!("container {} has just ended", record.name));
        let mut client = contact::connect(&self.privilege.roots.live(id))?.ok_or_else(gone)?;
        client.attach(streams.stdout, streams.stderr, streams.stdin && record.spec.process.open_stdin)?;
        self.emit([events::of_container(&record, "attach")]);
        Ok(client)
    }

    /// Ends what a dead monitor has left of one whose lock is ours.
    fn settle_locked(&self, record: Container) -> Result<Option<Container>> {
        let roots = &self.privilege.roots;
        if record.phase == Phase::Started && !monitor::is_alive(&roots.live(&record.id)) {
            return reconcile::end_dead(&self.db, roots, record, Decider::User);
        }
        Ok(Some(record))
    }

    /// Starts one that was set up before and waits.
    pub(super) fn open_gate(&self, record: &Container, attach: AttachStreams) -> Result<Attached> {
        let live_dir = self.privilege.roots.live(&record.id);
        let gone = || Error::conflict(format!("container {} has just ended", record.name));
        let mut client = contact::connect(&live_dir)?.ok_or_else(gone)?;
        if attach != AttachStreams::default() {
            self.emit([events::of_container(record, "attach")]);
        }
        let opened = open(&mut client, record, attach).and_then(|opened| if opened { Ok(()) } else { Err(gone()) });
        if let Err(error) = opened {
            // Its monitor records why, and leaves.
            contact::await_gone(&mut client, &live_dir, Some(PATIENCE))?;
            return Err(error);
        }
        Ok(Attached { id: record.id.clone(), client, tty: record.spec.process.tty })
    }
}

/// The monitor was killed while it was told what to do: whoever starts the container is the only one that ends it in peace.
pub(super) fn untold(operation: &str) -> Error {
    Error::Failed { operation: operation.to_owned(), kind: ErrorKind::Unavailable, source: "its monitor was killed".into() }
}

/// Opens the gate; the client was subscribed before. False: the monitor has gone.
pub(super) fn open(client: &mut Client, record: &Container, attach: AttachStreams) -> Result<bool> {
    if attach != AttachStreams::default() {
        client.attach(attach.stdout, attach.stderr, attach.stdin && record.spec.process.open_stdin)?;
    }
    client.start()?;
    failpoint_at("engine.start.gate")?;
    awaits(client, &format!("start container \"{}\"", record.name), |event| matches!(event, Event::Started { .. }))
}
