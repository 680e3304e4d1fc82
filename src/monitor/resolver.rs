//! What answers the container's name queries, as the monitor's loop sees it.

use super::life::Monitor;
use super::{Event, FailureKind};
use rustix::event::PollFlags;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Driven by the loop, one step at a time; none of its steps may block.
pub trait Resolver {
    /// From now on by this plan; it was made by whoever made the resolver.
    ///
    /// # Errors
    /// Why it is no plan. The old one stays.
    fn follow(&mut self, plan: &[u8]) -> Result<(), String>;
    /// Has its sockets in the network namespace of this process, where they may be already.
    ///
    /// # Errors
    /// Why queries cannot be answered there.
    fn enter(&mut self, pid: i32) -> Result<(), String>;
    /// Lets go of the namespace.
    fn leave(&mut self);
    /// Its descriptors and what to wait for, each with a token for [`Resolver::ready`].
    fn sources<'a>(&'a self, add: &mut dyn FnMut(u64, BorrowedFd<'a>, PollFlags));
    /// When [`Resolver::expire`] is due.
    fn deadline(&self) -> Option<Instant>;
    /// One of its descriptors is ready (or was, if the token is gone).
    fn ready(&mut self, token: u64);
    /// Does what is due.
    fn expire(&mut self);
}

/// Makes one from its first plan.
///
/// # Errors
/// Why it is no plan.
pub type MakeResolver = dyn Fn(&[u8]) -> Result<Box<dyn Resolver>, String>;

impl Monitor<'_> {
    /// A run was made and waits at its gate.
    pub(super) fn begin_resolver(&mut self, pid: i32) -> Result<(), String> {
        self.pid = Some(pid);
        if let Some(plan) = self.config.resolver.take() {
            self.plan_resolver(plan.to_string().as_bytes())?;
        }
        self.resolver.as_mut().map_or(Ok(()), |resolver| resolver.enter(pid))
    }

    fn plan_resolver(&mut self, plan: &[u8]) -> Result<(), String> {
        match &mut self.resolver {
            Some(resolver) => resolver.follow(plan),
            None => {
                self.resolver = Some((self.make_resolver)(plan)?);
                Ok(())
            }
        }
    }

    /// A run is over. A network namespace that it had for itself must not be kept by us.
    pub(super) fn end_resolver(&mut self) {
        self.pid = None;
        if self.config.netns_of_init
            && let Some(resolver) = &mut self.resolver
        {
            resolver.leave();
        }
    }

    /// A client has a plan. Between two runs it is for the next.
    pub(super) fn resolve(&mut self, index: usize, plan: &[u8]) {
        let planned = self.plan_resolver(plan);
        let done = planned.and_then(|()| match (&mut self.resolver, self.pid) {
            (Some(resolver), Some(pid)) => resolver.enter(pid),
            _ => Ok(()),
        });
        let event = match done {
            Ok(()) => Event::Resolving,
            Err(message) => Event::Failed { kind: FailureKind::Other, message },
        };
        self.peers[index].tell(&event);
        crate::sys::heap::trim();
    }

    pub(super) fn resolver_ready(&mut self, token: u64) {
        if let Some(resolver) = &mut self.resolver {
            resolver.ready(token);
        }
    }

    pub(super) fn resolver_due(&mut self) {
        if let Some(resolver) = &mut self.resolver
            && resolver.deadline().is_some_and(|at| at <= Instant::now())
        {
            resolver.expire();
        }
    }
}
