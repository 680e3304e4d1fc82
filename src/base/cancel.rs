//! The wish that something ends before it is done: one value for all that works for one user.
//!
//! Invariant: what waits does so under a [`Watch`], in [`Cancel::pause`] or through [`Cancel::reader`] and [`Cancel::writer`],
//! so that it ends at once; what copies much does so through [`Cancel::checked`]. What is done to end it owns all it needs: it may run after its watch is gone.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a pipe that poll(2) calls writable takes without waiting (pipe(7): PIPE_BUF).
const PIECE: usize = 4096;
/// Between two looks whether somebody reads a named pipe.
const READER_PAUSE: Duration = Duration::from_millis(20);

/// Ends everything that watches it. Clones are the same wish.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    watchers: Mutex<Watchers>,
    changed: Condvar,
}

#[derive(Default)]
struct Watchers {
    next: u64,
    all: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// For work that waits for nothing, between two pieces of it.
    ///
    /// # Errors
    /// ECANCELED when it is cancelled.
    pub fn check(&self) -> rustix::io::Result<()> {
        if self.is_cancelled() { Err(Errno::CANCELED) } else { Ok(()) }
    }

    /// Whatever waits is ended, and what asks later is told at once.
    pub fn cancel(&self) {
        let all = {
            let mut watchers = self.watchers();
            self.0.cancelled.store(true, Ordering::Release);
            std::mem::take(&mut watchers.all)
        };
        self.0.changed.notify_all();
        for (_, end) in all {
            end();
        }
    }

    /// Does `end` when it is cancelled (at once if it is already), as long as the watch lives.
    pub fn watch(&self, end: impl FnOnce() + Send + 'static) -> Watch {
        let mut watchers = self.watchers();
        let id = watchers.next;
        watchers.next += 1;
        if self.is_cancelled() {
            drop(watchers);
            end();
        } else {
            watchers.all.push((id, Box::new(end)));
        }
        Watch { cancel: self.clone(), id }
    }

    /// Lets the time pass. True: it is cancelled, and the time may not have passed.
    pub fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut watchers = self.watchers();
        while !self.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            watchers = self.0.changed.wait_timeout(watchers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Something to poll beside what is waited for: it is readable, or hung up, once this is cancelled.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn ended(&self) -> io::Result<Ended> {
        let (ended, end) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Ended { ended, _watch: self.watch(move || drop(end)) })
    }

    /// Reads from a file that may stay silent (a pipe, a terminal); fails once it is cancelled.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn reader(&self, file: File) -> io::Result<Reader> {
        Ok(Reader { file, ended: self.ended()? })
    }

    /// Writes to a file that may take nothing for long (a pipe that nobody reads); fails once it is cancelled. Its description may be
    /// shared with others and stays as it is.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn writer(&self, file: File) -> io::Result<Writer> {
        let kind = file.metadata()?.file_type();
        let piece = if kind.is_fifo() || kind.is_socket() || kind.is_char_device() { PIECE } else { usize::MAX };
        Ok(Writer { file, piece, ended: self.ended()? })
    }

    /// Opens a named pipe for writing, once somebody reads it, or another node.
    ///
    /// # Errors
    /// It cannot be opened; it was cancelled.
    pub fn open_node(&self, path: &Path) -> io::Result<Writer> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            self.check()?;
            match rustix::fs::open(path, flags, Mode::empty()) {
                // fifo(7): nobody reads it. Nothing tells when somebody does, but an open that nothing ends.
                Err(Errno::NXIO) if is_fifo(path) => drop(self.pause(READER_PAUSE)),
                opened => return self.writer(opened?.into()),
            }
        }
    }

    /// A stream that never stays silent for long (a file, a tar of files): it fails, between two pieces, once this is cancelled.
    pub fn checked<T>(&self, stream: T) -> Checked<T> {
        Checked { stream, cancel: self.clone() }
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Cancel::ended`].
#[derive(Debug)]
pub struct Ended {
    /// Its other end is closed then.
    ended: OwnedFd,
    _watch: Watch,
}

impl std::os::fd::AsFd for Ended {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Something that ends with its [`Cancel`], as long as this lives.
#[derive(Debug)]
pub struct Watch {
    cancel: Cancel,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.cancel.watchers();
        let own = watchers.all.iter().position(|(id, _)| *id == self.id).map(|at| watchers.all.swap_remove(at));
        // What it holds may be anything: it goes when nothing is locked.
        drop(watchers);
        drop(own);
    }
}

/// See [`Cancel::reader`].
pub struct Reader {
    file: File,
    ended: Ended,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if ready(&self.file, PollFlags::IN, &self.ended)? { self.file.read(buffer) } else { Err(io::Error::other("it was cancelled")) }
    }
}

/// Waits until the file can be read or written; false: it was cancelled before.
fn ready(file: &File, way: PollFlags, ended: &Ended) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(file, way), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => drop(other?),
        }
        if !fds[1].revents().is_empty() {
            return Ok(false);
        }
        if !fds[0].revents().is_empty() {
            return Ok(true);
        }
    }
}

/// See [`Cancel::writer`].
pub struct Writer {
    file: File,
    /// Bytes that are written at once.
    piece: usize,
    ended: Ended,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(self.piece)];
        while ready(&self.file, PollFlags::OUT, &self.ended)? {
            match self.file.write(piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
        Err(Errno::CANCELED.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
}

/// See [`Cancel::checked`].
pub struct Checked<T> {
    stream: T,
    cancel: Cancel,
}

impl<T: Read> Read for Checked<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.stream.read(buffer)
    }
}

impl<T: Write> Write for Checked<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.cancel.check()?;
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn watchers_are_told_once_and_only_while_they_live() {
        let cancel = Cancel::default();
        let (told, heard) = channel();
        let tell = |name: &'static str| {
            let told = told.clone();
            move || told.send(name).unwrap()
        };
        drop(cancel.watch(tell("gone")));
        let _lives = cancel.watch(tell("lives"));
        assert!(!cancel.pause(Duration::ZERO) && heard.try_recv().is_err());
        cancel.clone().cancel();
        cancel.cancel();
        let _late = cancel.watch(tell("late"));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["lives", "late"]);
        assert!(cancel.is_cancelled() && cancel.pause(Duration::from_secs(3600)));
    }

    #[test]
    fn what_copies_ends_between_two_pieces() {
        let cancel = Cancel::default();
        let (mut from, mut to) = (cancel.checked(io::repeat(7)), cancel.checked(Vec::new()));
        let mut piece = [0; 4];
        from.read_exact(&mut piece).unwrap();
        to.write_all(&piece).unwrap();
        cancel.cancel();
        let ended = Some(Errno::CANCELED.raw_os_error());
        assert_eq!(from.read_exact(&mut piece).unwrap_err().raw_os_error(), ended);
        assert_eq!((to.write_all(&piece).unwrap_err().raw_os_error(), to.flush().unwrap_err().raw_os_error()), (ended, ended));
        assert_eq!(to.stream, [7; 4]);
    }

    #[test]
    fn what_waits_is_woken() {
        let cancel = Cancel::default();
        let (silent, mut speaks) = pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (File::from(read), File::from(write))).unwrap();
        let mut reader = cancel.reader(silent).unwrap();
        speaks.write_all(b"x").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 1);
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| reader.read(&mut buffer).unwrap_err().to_string());
            let pauses = scope.spawn(|| cancel.pause(Duration::from_secs(3600)));
            cancel.cancel();
            assert_eq!((reads.join().unwrap().as_str(), pauses.join().unwrap()), ("it was cancelled", true));
        });
        drop(speaks);
    }

    #[test]
    fn what_nobody_reads_is_given_up() {
        let cancel = Cancel::default();
        let (mut reads, writes) = pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (File::from(read), File::from(write))).unwrap();
        let mut writer = cancel.writer(writes).unwrap();
        writer.write_all(&[7; 3 * PIECE]).unwrap();
        let mut buffer = [0; 3 * PIECE];
        reads.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, [7; 3 * PIECE]);
        let (full, waits) = channel();
        std::thread::scope(|scope| {
            let writes = scope.spawn(move || {
                loop {
                    if let Err(error) = writer.write(&buffer) {
                        return error.raw_os_error();
                    }
                    full.send(()).unwrap();
                }
            });
            // As many pieces as the pipe takes: the next one waits, or is about to.
            let pieces = rustix::pipe::fcntl_getpipe_size(&reads).unwrap() / PIECE;
            (0..pieces).for_each(|_| waits.recv().unwrap());
            cancel.cancel();
            assert_eq!(writes.join().unwrap(), Some(Errno::CANCELED.raw_os_error()));
        });
    }

    #[test]
    fn a_named_pipe_waits_for_its_reader() {
        let (cancel, path) = (Cancel::default(), std::env::temp_dir().join(format!("rcon-fifo-{}", crate::base::random_hex(8))));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| cancel.open_node(&path).and_then(|mut node| node.write_all(b"said")));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "said");
            writes.join().unwrap().unwrap();
            let waits = scope.spawn(|| cancel.open_node(&path).map(drop).unwrap_err().raw_os_error());
            cancel.cancel();
            assert_eq!(waits.join().unwrap(), Some(Errno::CANCELED.raw_os_error()));
        });
        std::fs::remove_file(path).unwrap();
    }
}
