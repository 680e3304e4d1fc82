//! The processes of a build's steps: their output, and their end when another step fails.

use super::progress::{Begun, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of output taken at once.
const PIECE: usize = 32 << 10;

/// Ends everything that a build does.
#[derive(Debug, Default)]
pub struct Cancel {
    cancelled: AtomicBool,
    /// Sockets of the stages that run.
    running: Mutex<Vec<(u64, OwnedFd)>>,
    next: AtomicU64,
}

impl Cancel {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Steps that run are killed, and none is begun any more.
    pub fn cancel(&self) {
        let running = self.running();
        self.cancelled.store(true, Ordering::Release);
        for (_, socket) in running.iter() {
            // Its step has ended by itself: nothing to end.
            shutdown(socket, Shutdown::Both).ok();
        }
    }

    /// For one step that is about to run.
    pub fn watch(&self) -> Watch<'_> {
        Watch { cancel: self, id: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    fn running(&self) -> MutexGuard<'_, Vec<(u64, OwnedFd)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step that ends with its build, as long as this lives.
pub struct Watch<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Watch<'_> {
    /// The step ends when this socket is shut down.
    pub fn add(&self, socket: OwnedFd) {
        let mut running = self.cancel.running();
        if self.cancel.is_cancelled() {
            shutdown(&socket, Shutdown::Both).ok();
        }
        running.push((self.id, socket));
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.cancel.running().retain(|(id, _)| *id != self.id);
    }
}

/// Passes on what comes out of both streams until both are closed.
pub fn relay(begun: &Begun<'_>, stdout: OwnedFd, stderr: OwnedFd) {
    let mut streams = vec![(Stream::Out, File::from(stdout)), (Stream::Err, File::from(stderr))];
    let mut buffer = vec![0; PIECE];
    while !streams.is_empty() {
        let mut fds: Vec<PollFd<'_>> = streams.iter().map(|(_, file)| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut index = 0;
        streams.retain_mut(|(stream, file)| {
            let is_ready = ready.get(index).copied().unwrap_or(false);
            index += 1;
            if !is_ready {
                return true;
            }
            match file.read(&mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    begun.output(*stream, &buffer[..count]);
                    true
                }
                Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
            }
        });
    }
}
