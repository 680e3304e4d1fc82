//! The output of the processes of a build's steps.

use super::progress::{Begun, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of output taken at once.
const PIECE: usize = 32 << 10;

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
