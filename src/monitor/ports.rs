//! The sockets of published ports, which come with the configuration, or from a client when a running container is connected to
//! its first network.

use super::life::Monitor;
use super::{Event, FailureKind};

impl Monitor<'_> {
    /// A client has sent these sockets: they replace those of before. At the end of the container they are of no use any more.
    pub(super) fn reserve(&mut self, index: usize, count: u32) {
        let peer = &mut self.peers[index];
        let sockets = std::mem::take(&mut peer.descriptors);
        // Short of descriptors, the kernel leaves some out.
        let event = if usize::try_from(count) == Ok(sockets.len()) {
            if let Some(held) = &mut self.held {
                *held = sockets;
            }
            Event::Reserved
        } else {
            let message = format!("the monitor has got {} of {count} sockets of published ports", sockets.len());
            Event::Failed { kind: FailureKind::Other, message }
        };
        peer.tell(&event);
    }
}
