//! The client side of a monitor's socket, and starting a monitor.

use super::frame::{Decoder, LIMIT, Request};
use super::{Config, Error, Event, live};
use crate::sys::rights;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with, socketpair};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Descriptors in one message; the kernel allows 253 (`SCM_MAX_FD`).
pub(super) const BATCH: usize = 200;

/// What the name of a monitor process starts with; `main` knows the stage by it.
pub(super) const STAGE: &str = "rcon-monitor: ";

/// A connection to a monitor, which may end or be killed at any moment. A request that it does not take any more is no
/// error: what it said before, and that it is gone, is for [`Client::next`] to tell.
pub struct Client {
    socket: OwnedFd,
    decoder: Decoder,
    /// Requests that wait for the monitor to take them: see [`Client::flush`].
    unsent: Vec<u8>,
}

impl Client {
    /// Starts a monitor process (one exec of our own binary from a read-only view) and hands it config, the
    /// container's network namespace and held port sockets. It creates the container at once (in parallel with the caller).
    /// `lock` is what the caller holds against other operations on the container: a copy goes along until the monitor
    /// has its own lock. Else, if the caller dies in between, the container would look dead and could be removed under
    /// a monitor that is about to make it.
    ///
    /// # Errors
    /// The process cannot be started or does not take its configuration.
    pub fn spawn(config: &Config, netns: Option<BorrowedFd<'_>>, held: &[BorrowedFd<'_>], lock: BorrowedFd<'_>) -> Result<Client, Error> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(Error::spawn("make a socket for"))?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(Error::spawn("open /dev/null for"))?;
        let name = CString::new(format!("{STAGE}{}", config.id.short())).expect("invariant: an id has no NUL");
        // Nothing of the caller's environment lives on for days in another process, but failpoints do.
        let environment: Vec<CString> = std::env::vars_os()
            .filter(|(key, _)| key.as_bytes().starts_with(b"RCON_"))
            .filter_map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok())
            .collect();
        let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
        let executable = crate::runtime::protected_exe().map_err(|error| Error::Binary(Box::new(error)))?;
        crate::sys::spawn::detached(executable.as_fd(), &[&name], &environment, null.as_fd(), theirs.as_fd()).map_err(Error::spawn("start"))?;
        drop(theirs);
        // The last of them: the stage takes it off again.
        let held: Vec<BorrowedFd<'_>> = held.iter().copied().chain([lock]).collect();
        Client::configure(ours, config, netns, &held)
    }

    /// Sends the first messages over the socket that the stage was given.
    pub(super) fn configure(socket: OwnedFd, config: &Config, netns: Option<BorrowedFd<'_>>, held: &[BorrowedFd<'_>]) -> Result<Client, Error> {
        let mut client = Client::on(socket);
        let descriptors: Vec<BorrowedFd<'_>> = netns.iter().copied().chain(held.iter().copied()).collect();
        client.hand_over_all(&descriptors)?;
        let json = serde_json::to_vec(config).map_err(|source| Error::Config { operation: "written", source })?;
        client.send(&Request::Config { netns: netns.is_some(), json })?;
        Ok(client)
    }

    fn hand_over_all(&mut self, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        descriptors.chunks(BATCH).try_for_each(|batch| self.hand_over(batch))
    }

    fn hand_over(&mut self, batch: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let frame = Request::Descriptors.encode();
        match rights::send(&self.socket, &frame, batch) {
            Ok(sent) => self.send_bytes(&frame[sent..]).or_else(untaken),
            Err(error) if has_left(error) => Ok(()),
            Err(error) => Err(Error::talk("hand descriptors to")(error)),
        }
    }

    /// Connects to a running container's monitor.
    ///
    /// # Errors
    /// [`Error::Connect`]: no monitor listens there.
    pub fn connect(live_dir: &Path) -> Result<Client, Error> {
        let failed = |source: io::Error| Error::Connect { live_dir: live_dir.to_path_buf(), source };
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(|e| failed(e.into()))?;
        let (_directory, address) = address(live_dir).map_err(failed)?;
        connect(&socket, &address).map_err(|e| failed(e.into()))?;
        Ok(Client::on(socket))
    }

    /// A client on a connected socket.
    pub(super) fn on(socket: OwnedFd) -> Self {
        Client { socket, decoder: Decoder::new(LIMIT), unsent: Vec::new() }
    }

    /// Opens the gate. The monitor answers Started or Failed.
    ///
    /// # Errors
    /// [`Error::Talk`]: the kernel refuses (so for every request below).
    pub fn start(&mut self) -> Result<(), Error> {
        self.send(&Request::Start)
    }

    /// Leaves a created container waiting at its gate: any other client may start it. The monitor answers Held.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn hold(&mut self) -> Result<(), Error> {
        self.send(&Request::Hold)
    }

    /// Abandons a created container: the monitor tears down without starting.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn abandon(&mut self) -> Result<(), Error> {
        self.send(&Request::Abandon)
    }

    /// Subscribes to output (from now on) and, with `stdin`, becomes a writer of stdin.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn attach(&mut self, stdout: bool, stderr: bool, stdin: bool) -> Result<(), Error> {
        self.send(&Request::Attach { stdout, stderr, stdin })
    }

    /// Blocks while the container does not read and the buffers on the way are full; events that arrive
    /// meanwhile are kept for [`Client::next`].
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn write_stdin(&mut self, data: &[u8]) -> Result<(), Error> {
        data.chunks(64 << 10).try_for_each(|chunk| self.send(&Request::Stdin(chunk.to_vec())))
    }

    /// This client writes no more (closes the container's stdin if it is the first and `stdin_once`).
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn close_stdin(&mut self) -> Result<(), Error> {
        self.send(&Request::StdinEnd)
    }

    /// [`Client::write_stdin`] for one that must not wait, because nothing that the container writes is taken meanwhile: the
    /// data is sent by [`Client::flush`]. To be called again once that has said that all is sent.
    pub fn queue_stdin(&mut self, data: &[u8]) {
        for chunk in data.chunks(64 << 10) {
            self.unsent.extend(Request::Stdin(chunk.to_vec()).encode());
        }
    }

    /// [`Client::close_stdin`], likewise.
    pub fn queue_stdin_end(&mut self) {
        self.unsent.extend(Request::StdinEnd.encode());
    }

    /// Sends what is queued, as far as the monitor takes it now. True: nothing waits; else it can go on once [`Client::fd`] can be
    /// written to.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn flush(&mut self) -> Result<bool, Error> {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                // What it said before, and that it is gone, is for `next` to tell.
                Err(error) if has_left(error) => self.unsent.clear(),
                Err(error) => return Err(Error::talk("send a request to")(error)),
            }
        }
        Ok(true)
    }

    /// Sets the size of the container's terminal; without effect if it has none.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        self.send(&Request::Resize { columns, rows })
    }

    /// Tells the monitor that the user stops it: the restart policy rests; a pending restart is cancelled. `grace`: when the
    /// container is to be killed, which the monitor does if this client is gone by then.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn stop_requested(&mut self, grace: Option<Duration>) -> Result<(), Error> {
        self.send(&Request::StopRequested { grace, again: false })
    }

    /// [`Client::stop_requested`] by one that will start it again; the monitor does if this client is gone by then.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn restart_requested(&mut self, grace: Option<Duration>) -> Result<(), Error> {
        self.send(&Request::StopRequested { grace, again: true })
    }

    /// Asks for a probe of the container's health, whose result comes as `Probed`.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn probe(&mut self) -> Result<(), Error> {
        self.send(&Request::Probe)
    }

    /// Has name queries within the container answered by this plan (what [`Config::resolver`](super::Config) holds) from now
    /// on, also after a restart. `Resolving` comes when it is done, `Failed` if it cannot be.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn resolve(&mut self, plan: &serde_json::Value) -> Result<(), Error> {
        self.send(&Request::Resolve(plan.to_string().into_bytes()))
    }

    /// Has it hold these sockets of published ports from now on, instead of those that it held: also after a restart, and none
    /// any more when the container has ended. `Reserved` comes when it is done, `Failed` if it cannot be.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn reserve(&mut self, sockets: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.hand_over_all(sockets)?;
        self.send(&Request::Ports(u32::try_from(sockets.len()).unwrap_or(u32::MAX)))
    }

    /// The process that listens at the other end.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn monitor_pid(&self) -> Result<i32, Error> {
        crate::sys::peer::process_id(self.socket.as_fd()).map_err(Error::system("tell who is the monitor"))
    }

    fn send(&mut self, request: &Request) -> Result<(), Error> {
        let mut bytes = std::mem::take(&mut self.unsent);
        bytes.extend(request.encode());
        self.send_bytes(&bytes).or_else(untaken)
    }

    /// Reads while it cannot write: the monitor may be waiting for us to take output before it takes more.
    fn send_bytes(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            match send(&self.socket, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => data = &data[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if self.ready(PollFlags::IN | PollFlags::OUT, None)?.contains(PollFlags::IN) {
                        self.receive()?;
                    }
                }
                Err(error) if has_left(error) => return Err(Error::Lost),
                Err(error) => return Err(Error::talk("send a request to")(error)),
            }
        }
        Ok(())
    }

    /// Takes what has arrived.
    fn receive(&mut self) -> Result<(), Error> {
        let mut buffer = [0u8; 32 << 10];
        match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => Err(Error::Lost),
            Ok((count, _)) => {
                self.decoder.push(&buffer[..count]);
                Ok(())
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(Error::talk("read from")(error)),
        }
    }

    /// Next message; blocks up to `timeout` (None: for ever). Ok(None): timeout.
    ///
    /// # Errors
    /// [`Error::Lost`] for a connection that was closed (also after `Gone`); a broken or malformed stream.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let frame = self.decoder.next().map_err(|malformed| Error::Malformed(malformed.0))?;
            if let Some(frame) = frame {
                let event = Event::decode(frame).map_err(|malformed| Error::Malformed(malformed.0))?;
                return Ok(Some(event));
            }
            if self.ready(PollFlags::IN, deadline)?.is_empty() {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    /// Waits until the socket is ready in one of these ways, or broken, or the deadline (then: empty).
    fn ready(&self, wanted: PollFlags, deadline: Option<Instant>) -> Result<PollFlags, Error> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut fds = [PollFd::new(&self.socket, wanted)];
            let timeout = left.map(super::relay::timespec);
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => return Ok(fds[0].revents()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::talk("wait for")(error)),
            }
        }
    }

    /// For poll(2) together with other fds; after it is readable call `next` with a zero timeout until None.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until the monitor says that it has released everything, or has gone without a word; false: timeout.
    /// Output that still arrives is thrown away.
    pub fn wait_gone(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            match self.next(Some(deadline.saturating_duration_since(Instant::now()))) {
                Ok(Some(Event::Gone)) | Err(_) => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
            }
        }
    }
}

/// See [`Client`].
fn untaken(error: Error) -> Result<(), Error> {
    if matches!(error, Error::Lost) { Ok(()) } else { Err(error) }
}

/// The socket has no other end any more.
fn has_left(error: rustix::io::Errno) -> bool {
    matches!(error, rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET)
}

/// The socket's address by way of a descriptor of its directory: `sun_path` holds 108 bytes only, and
/// roots may be longer. The descriptor must live until the address was used.
pub(super) fn address(live_dir: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    use rustix::fs::{Mode, OFlags, open};
    let directory = open(live_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), live::SOCKET))?;
    Ok((directory, address))
}
