//! Exec: made in one request, started in another. The process outlives this server.

use super::attached::{content_type, frame};
use super::reply::{Answer, Refusal, Reply};
use super::wire::{ExecBody, ExecStart};
use super::{Call, locked};
use crate::base::{ContainerId, DetachKeys, ErrorKind, random_hex};
use crate::engine::request::{ExecRequest, ExecStdio};
use crate::engine::{Apart, Engine, Status};
use hyper::StatusCode;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;
/// What a pipe that poll(2) calls writable takes without waiting (pipe(7): PIPE_BUF).
const PIECE: usize = 4096;
/// Ended ones that can still be asked for; the oldest are forgotten first.
const KEPT: usize = 512;

/// One exec, from its making on.
struct Exec {
    container: ContainerId,
    body: ExecBody,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    pid: i32,
    code: Option<i32>,
    console: Option<OwnedFd>,
}

/// Those of this server.
#[derive(Default)]
pub struct Execs(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Ids in the order of their making.
    order: Vec<String>,
    by_id: HashMap<String, Arc<Exec>>,
}

impl Execs {
    fn add(&self, exec: Exec) -> String {
        let id = random_hex(64);
        let mut known = locked(&self.0);
        known.order.push(id.clone());
        known.by_id.insert(id.clone(), Arc::new(exec));
        if known.order.len() > KEPT {
            let Known { order, by_id } = &mut *known;
            let is_over = |id: &String| by_id.get(id).is_none_or(|exec| locked(&exec.state).code.is_some());
            if let Some(at) = order.iter().position(is_over) {
                by_id.remove(&order.remove(at));
            }
        }
        id
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>, Refusal> {
        let known = locked(&self.0);
        let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("No such exec instance: {id}"));
        if let Some(exec) = known.by_id.get(id) {
            return Ok(Arc::clone(exec));
        }
        let mut matching = known.by_id.iter().filter(|(full, _)| id.len() >= 12 && full.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some((_, exec)), None) => Ok(Arc::clone(exec)),
            _ => Err(missing()),
        }
    }
}

pub fn create(mut call: Call, name: &str) -> Answer {
    let body: ExecBody = call.body.json()?;
    if body.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Refusal::invalid("No exec command specified"));
    }
    if !body.detach_keys.is_empty() {
        DetachKeys::parse(&body.detach_keys).map_err(|error| Refusal::invalid(format!("invalid detach keys: {error}")))?;
    }
    let view = call.engine(|engine| Ok(engine.view(name)?))?;
    match view.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("container {name} is paused, unpause the container before exec")));
        }
        _ => return Err(Refusal::new(StatusCode::CONFLICT, format!("container {name} is not running"))),
    }
    let id = call.api.execs.add(Exec { container: view.record.id, body, state: Mutex::default() });
    Ok(Reply::created(json!({"Id": id})))
}

pub fn inspect(call: Call, id: &str) -> Answer {
    let exec = call.api.execs.find(id)?;
    let state = locked(&exec.state);
    let words = exec.body.cmd.clone().unwrap_or_default();
    let process = json!({
        "tty": exec.body.tty, "entrypoint": words.first(), "arguments": words.get(1..).unwrap_or_default(),
        "privileged": exec.body.privileged, "user": exec.body.user,
    });
    Ok(Reply::ok(json!({
        "ID": id, "Running": state.started && state.code.is_none(), "ExitCode": state.code, "ProcessConfig": process,
        "OpenStdin": exec.body.attach_stdin, "OpenStdout": exec.body.attach_stdout, "OpenStderr": exec.body.attach_stderr,
        "CanRemove": state.code.is_some(), "ContainerID": exec.container.as_str(), "DetachKeys": exec.body.detach_keys, "Pid": state.pid,
    })))
}

pub fn resize(call: Call, id: &str) -> Answer {
    let exec = call.api.execs.find(id)?;
    let (columns, rows) = call.query.size()?;
    let state = locked(&exec.state);
    let Some(console) = &state.console else {
        return Err(Refusal::invalid(format!("exec {id} has no terminal, or does not run")));
    };
    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    // The console may just have hung up; then its size matters to nobody.
    rustix::termios::tcsetwinsize(console, size).ok();
    Ok(Reply::Empty(StatusCode::OK))
}

pub fn start(mut call: Call, id: &str) -> Answer {
    let exec = call.api.execs.find(id)?;
    let given: ExecStart = call.body.json()?;
    if std::mem::replace(&mut locked(&exec.state).started, true) {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("exec {id} has already run")));
    }
    let engine = call.own_engine()?;
    let size = given.console_size.or(exec.body.console_size);
    if given.detach {
        let (apart, io) = begin(&engine, &exec, true, size)?;
        std::thread::spawn(move || finish(&exec, apart, io, None));
        return Ok(Reply::Empty(StatusCode::OK));
    }
    let content_type = content_type(exec.body.tty, call.version);
    // Clients expect the connection first; what goes wrong then is told on it.
    let serve = move |mut stream: UnixStream, read: bytes::Bytes| match begin(&engine, &exec, false, size) {
        Ok((apart, io)) => finish(&exec, apart, io, Some((stream, read.to_vec()))),
        Err(refusal) => drop(send(&mut stream, exec.body.tty, 0, format!("{}\r\n", refusal.message).as_bytes())),
    };
    Ok(Reply::Hijack { content_type, serve: Box::new(serve) })
}

/// Our ends of the process's streams.
struct Io {
    stdin: Option<OwnedFd>,
    /// stdout (or the console) and stderr.
    outputs: [Option<OwnedFd>; 2],
}

fn begin(engine: &Engine, exec: &Exec, detach: bool, size: Option<[u16; 2]>) -> Result<(Apart, Io), Refusal> {
    let body = &exec.body;
    let (mut io, stdio) = if body.tty { (Io { stdin: None, outputs: [None, None] }, ExecStdio::Terminal) } else { pipes(body, detach)? };
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let request = ExecRequest {
        command: body.cmd.clone().unwrap_or_default(),
        env: body.env.clone(),
        user: given(&body.user),
        workdir: given(&body.working_dir),
        tty: body.tty,
        privileged: body.privileged,
        console: size.map_or((0, 0), |[rows, columns]| (columns, rows)),
        stdio,
    };
    let started = engine.exec_apart(exec.container.as_str(), &request);
    // The child's ends must not stay open here, or the ends of its streams are never seen.
    drop(request);
    let mut state = locked(&exec.state);
    let mut apart = started.inspect_err(|error| {
        state.code = Some(if error.kind() == ErrorKind::CommandNotFound { 127 } else { 126 });
    })?;
    state.pid = apart.pid;
    if let Some(console) = apart.console.take() {
        state.console = Some(console.try_clone()?);
        if body.attach_stdin && !detach {
            io.stdin = Some(console.try_clone()?);
        }
        io.outputs[0] = Some(console);
    }
    Ok((apart, io))
}

fn pipes(body: &ExecBody, detach: bool) -> Result<(Io, ExecStdio), Refusal> {
    let make = || pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let (child_in, stdin) = if body.attach_stdin && !detach {
        let (read, write) = make()?;
        (read, Some(write))
    } else {
        (null()?, None)
    };
    let output = |wanted: bool| -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if !wanted || detach {
            return Ok((null()?, None));
        }
        let (read, write) = make()?;
        Ok((write, Some(read)))
    };
    let ((child_out, out), (child_err, err)) = (output(body.attach_stdout)?, output(body.attach_stderr)?);
    Ok((Io { stdin, outputs: [out, err] }, ExecStdio::Pipes(Arc::new([child_in, child_out, child_err]))))
}

/// Relays until the process has ended, then writes down how.
fn finish(exec: &Exec, apart: Apart, io: Io, client: Option<(UnixStream, Vec<u8>)>) {
    let (stream, pending) = client.map_or((None, Vec::new()), |(stream, read)| (Some(stream), read));
    let keys = DetachKeys::parse(&exec.body.detach_keys).unwrap_or_default();
    let mut relay = Relay { stream, io, tty: exec.body.tty, keys, pending, reading: true };
    relay.run(&apart);
    let code = apart.wait();
    {
        let mut state = locked(&exec.state);
        state.code = Some(code);
        state.console = None;
    }
    // Only now the client sees the end: what it asks next is answered right.
    drop(relay);
}

struct Relay {
    /// None: nobody listens (any more).
    stream: Option<UnixStream>,
    io: Io,
    tty: bool,
    keys: DetachKeys,
    /// The client's input that the process has not taken yet.
    pending: Vec<u8>,
    reading: bool,
}

impl Relay {
    /// Until the process has ended and what it wrote is sent.
    fn run(&mut self, apart: &Apart) {
        loop {
            if self.stream.is_none() {
                self.reading = false;
            }
            if !self.reading && self.pending.is_empty() && !self.tty {
                self.io.stdin = None;
            }
            let mut ready = [false; 4];
            {
                let mut fds = vec![(0, PollFd::from_borrowed_fd(apart.fd(), PollFlags::IN))];
                for (at, output) in self.io.outputs.iter().enumerate() {
                    fds.extend(output.as_ref().map(|fd| (1 + at, PollFd::new(fd, PollFlags::IN))));
                }
                match (&self.io.stdin, &self.stream) {
                    (Some(sink), _) if !self.pending.is_empty() => fds.push((3, PollFd::new(sink, PollFlags::OUT))),
                    (_, Some(stream)) if self.reading => fds.push((3, PollFd::new(stream, PollFlags::IN))),
                    _ => {}
                }
                let (slots, mut polled): (Vec<usize>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
                match poll(&mut polled, None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(_) => return,
                }
                for (slot, fd) in slots.into_iter().zip(&polled) {
                    ready[slot] = !fd.revents().is_empty();
                }
            }
            for at in 0..2 {
                if ready[1 + at] {
                    self.forward(at);
                }
            }
            if ready[0] && !ready[1] && !ready[2] {
                return;
            }
            if ready[3] && self.pump() {
                // The client has left the process to itself; its console stays open until it ends.
                self.stream = None;
            }
        }
    }

    /// Moves a chunk from the process to the client; an end closes it.
    fn forward(&mut self, at: usize) {
        let Some(fd) = &self.io.outputs[at] else { return };
        let mut buffer = vec![0u8; CHUNK];
        match rustix::io::read(fd, &mut buffer) {
            // EIO: the last holder of the terminal's other side is gone.
            Ok(0) | Err(Errno::IO) => self.io.outputs[at] = None,
            Ok(count) => {
                if let Some(stream) = &mut self.stream
                    && send(stream, self.tty, at, &buffer[..count]).is_err()
                {
                    self.stream = None;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.io.outputs[at] = None,
        }
    }

    /// Moves input by one step: reads a chunk, or writes what is left of it. True: the detach keys were typed.
    fn pump(&mut self) -> bool {
        if !self.pending.is_empty() {
            let Some(sink) = &self.io.stdin else { return false };
            let part = self.pending.len().min(PIECE);
            match rustix::io::write(sink, &self.pending[..part]) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Nobody reads there any more.
                Err(_) => {
                    self.pending.clear();
                    self.io.stdin = None;
                }
            }
            return false;
        }
        let Some(stream) = &mut self.stream else { return false };
        let mut buffer = vec![0u8; CHUNK];
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if self.io.stdin.is_none() {
                    return false;
                }
                let (bytes, detached) = if self.tty { self.keys.feed(&buffer[..count]) } else { (buffer[..count].to_vec(), false) };
                self.pending = bytes;
                return detached;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.reading = false;
                self.pending.extend(self.keys.flush());
            }
        }
        false
    }
}

fn send(stream: &mut UnixStream, tty: bool, at: usize, data: &[u8]) -> io::Result<()> {
    if !tty {
        stream.write_all(&frame(if at == 0 { 1 } else { 2 }, data.len()))?;
    }
    stream.write_all(data)
}
