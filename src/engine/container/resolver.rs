//! Joins the name server of `network` to the loop of `monitor`, which do not know each other.

use crate::monitor::Resolver;
use crate::network;
use crate::network::dns::{Plan, Server};
use rustix::event::PollFlags;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

struct Joined(Server);

/// The resolver of a monitor, from a serialised [`Plan`].
pub(super) fn make(plan: &[u8]) -> Result<Box<dyn Resolver>, String> {
    Ok(Box::new(Joined(Server::new(parse(plan)?))))
}

fn parse(plan: &[u8]) -> Result<Plan, String> {
    serde_json::from_slice(plan).map_err(|error| format!("the plan for name queries cannot be understood: {error}"))
}

impl Resolver for Joined {
    fn follow(&mut self, plan: &[u8]) -> Result<(), String> {
        self.0.follow(parse(plan)?);
        Ok(())
    }

    fn enter(&mut self, pid: i32) -> Result<(), String> {
        let opened = network::netns_of(pid).and_then(|namespace| self.0.open(namespace.as_fd()));
        opened.map_err(|error| format!("cannot answer name queries: {}", super::start::describe(&error.into())))
    }

    fn leave(&mut self) {
        self.0.close();
    }

    fn sources<'a>(&'a self, add: &mut dyn FnMut(u64, BorrowedFd<'a>, PollFlags)) {
        self.0.sources(add);
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }

    fn ready(&mut self, token: u64) {
        self.0.ready(token);
    }

    fn expire(&mut self) {
        self.0.expire();
    }
}
