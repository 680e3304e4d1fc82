//! The writing side of a container's stdin: bounded, and never waiting for the container.

use std::os::fd::OwnedFd;

/// Bytes that may wait for the container; beyond that its clients are not read.
const BUFFER: usize = 256 << 10;

pub(super) struct Stdin {
    pub(super) pipe: OwnedFd,
    pending: Vec<u8>,
    written: usize,
    closing: bool,
}

impl Stdin {
    /// `pipe` must be non-blocking.
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Stdin { pipe, pending: Vec::new(), written: 0, closing: false }
    }

    pub(super) fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() - self.written >= BUFFER
    }

    /// Nothing is accepted after [`Stdin::end`].
    pub(super) fn push(&mut self, data: &[u8]) {
        if !self.closing {
            self.pending.extend_from_slice(data);
        }
    }

    /// Closes the pipe once all is written.
    pub(super) fn end(&mut self) {
        self.closing = true;
    }

    /// Writes what the pipe takes; false: it is finished (ended, or the container closed its end).
    pub(super) fn flush(&mut self) -> bool {
        while self.has_pending() {
            match rustix::io::write(&self.pipe, &self.pending[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        self.pending = Vec::new();
        self.written = 0;
        !self.closing
    }
}
