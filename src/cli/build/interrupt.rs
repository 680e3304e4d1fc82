//! SIGINT and SIGTERM during a build: the first one cancels it, the second one ends the command at once.

use crate::base::Cancel;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals are kept from this process as long as this lives.
pub struct Interrupts {
    signals: SignalFd,
    /// The one that has come; 0: none.
    first: AtomicI32,
}

impl Interrupts {
    /// Before there is any other thread, which would take the signals instead.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn catch() -> Result<Self, Failure> {
        let signals = SignalFd::block(&[libc::SIGINT, libc::SIGTERM]).map_err(|e| Failure::caused("cannot catch signals", &e))?;
        Ok(Interrupts { signals, first: AtomicI32::new(0) })
    }

    /// Does the work; `told` is called when the first signal has come.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn during<T>(&self, cancel: &Cancel, told: &(dyn Fn() + Sync), work: impl FnOnce() -> T) -> Result<T, Failure> {
        let (over, done) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::caused("cannot make a pipe", &e))?;
        Ok(std::thread::scope(|scope| {
            scope.spawn(move || {
                loop {
                    let mut fds = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&over, PollFlags::IN)];
                    match poll(&mut fds, None) {
                        Ok(_) if fds[1].revents().is_empty() => {}
                        Err(rustix::io::Errno::INTR) => continue,
                        _ => return,
                    }
                    while let Ok(Some(signal)) = self.signals.next() {
                        if self.first.swap(signal, Ordering::AcqRel) != 0 {
                            output::talk("error: the build was ended before it was cancelled; what it leaves is removed by the next command");
                            crate::sys::process::exit(128 + signal);
                        }
                        told();
                        cancel.cancel();
                    }
                }
            });
            let outcome = work();
            drop(done);
            outcome
        }))
    }

    /// The failure of a build that a signal has cancelled, whatever it failed with.
    pub fn failure(&self) -> Option<Failure> {
        let signal = self.first.load(Ordering::Acquire);
        let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
        (signal != 0).then(|| Failure::invalid("the build was cancelled").with_code(code))
    }
}
