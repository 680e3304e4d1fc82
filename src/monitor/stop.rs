//! A stop that a client has asked for. The time that the container gets is kept here too, so that it ends in time, and a
//! restart is brought to its end, even if the client is killed while it waits.

use super::life::Monitor;
use super::run::Run;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How much longer than the client the monitor waits: as long as the client lives it kills itself, and tells.
const MARGIN: Duration = Duration::from_millis(500);

/// What a client that waits for the end wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stop,
    /// It starts the container again itself.
    Restart,
}

/// What is known of a stop that is under way.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// A client wants the container down: the restart policy rests.
    pub(super) requested: bool,
    /// SIGKILL then; None: never, or it was sent.
    kill_at: Option<Instant>,
    /// The client is gone, and this is what it wanted.
    forsaken: Option<Wish>,
    killed: bool,
    /// The present run has taken all the time it may take; None: it may take any, or was killed.
    expires: Option<Instant>,
}

impl Stop {
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.kill_at, self.expires].into_iter().flatten().min()
    }

    /// A run begins.
    pub(super) fn begin(&mut self, limit: Option<Duration>) {
        self.expires = limit.and_then(|limit| Instant::now().checked_add(limit));
    }

    /// The client is gone that wanted the end (and whether its time had run out).
    pub(super) fn forsaken(&self) -> Option<bool> {
        self.forsaken.map(|_| self.killed)
    }
}

impl Monitor<'_> {
    /// A client asks for the end: at once if it comes between two runs, else it sends the signal itself and waits for `grace`.
    pub(super) fn stop_asked(&mut self, index: usize, grace: Option<Duration>, again: bool) {
        if !again {
            self.stop.requested = true;
        }
        let peer = &mut self.peers[index];
        peer.wish = match (again, grace) {
            (true, _) => Some(Wish::Restart),
            (false, Some(_)) => Some(Wish::Stop),
            // It waits for nothing.
            (false, None) => None,
        };
        let kill_at = grace.and_then(|grace| Instant::now().checked_add(grace.saturating_add(MARGIN)));
        // Of several the most impatient.
        self.stop.kill_at = [self.stop.kill_at, kill_at].into_iter().flatten().min();
    }

    /// Forgets the peers that are gone, but not what they wanted.
    pub(super) fn drop_closed(&mut self) {
        for wish in self.peers.iter().filter(|peer| peer.closed).filter_map(|peer| peer.wish) {
            self.stop.forsaken = Some(if self.stop.forsaken == Some(Wish::Restart) { Wish::Restart } else { wish });
        }
        self.peers.retain(|peer| !peer.closed);
    }

    /// The container is to stay down after this run, or somebody lives who will start it again.
    pub(super) fn stays_down(&self) -> bool {
        self.stop.requested || self.peers.iter().any(|peer| peer.wish == Some(Wish::Restart) && !peer.closed)
    }

    /// Whoever wanted to start it again is gone: that is left to the monitor. One that is removed at its end cannot be.
    pub(super) fn restarts_for_another(&self) -> bool {
        self.stop.forsaken == Some(Wish::Restart) && !self.stays_down() && !self.config.auto_remove
    }

    /// Kills what had its time.
    pub(super) fn check_stop(&mut self, run: &dyn Run) {
        let now = Instant::now();
        if self.stop.expires.is_some_and(|at| at <= now) {
            self.stop.expires = None;
            tracing::warn!("container {} has run for as long as --timeout lets it: it is killed", self.config.id.short());
            self.kill(run);
        }
        if self.stop.kill_at.is_some_and(|at| at <= now) {
            self.stop.kill_at = None;
            self.stop.killed = true;
            tracing::warn!("container {} does not end in the time it was given to stop: it is killed", self.config.id.short());
            self.kill(run);
        }
    }

    fn kill(&mut self, run: &dyn Run) {
        self.signal(run, Signal::KILL.as_raw());
        let group = run.group();
        // On cgroup v1 not even SIGKILL reaches a frozen process.
        if group.is_frozen()
            && let Err(error) = group.thaw()
        {
            tracing::warn!("container {}: {error}", self.config.id.short());
        }
    }
}
