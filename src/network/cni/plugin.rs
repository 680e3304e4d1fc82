//! Plugins: found in the configured directories and executed, one call of the protocol each.
//!
//! Invariants: no shell; a plugin gets the variables of the protocol, a fixed PATH and nothing else of our environment or
//! descriptors; what it answers is limited in time and size; it is reaped before a call returns. Its standard input is a
//! file that the caller may have locked: the lock then lasts until the plugin has ended, even if we are killed before.

use super::error::Error;
use crate::base::fs::{Context, FsError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Most bytes of an answer.
const LIMIT: usize = 1 << 20;
/// How much of a plugin's last words an error quotes.
const LAST_WORDS: usize = 1024;
/// Plugins look for helpers of their own (iptables, ethtool).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A program that an installer is writing right now becomes executable in a moment.
const BUSY_TRIES: usize = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What is asked of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }
}

/// Where plugins are, and how long they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugins {
    /// In the order of the search.
    pub directories: Vec<PathBuf>,
    pub timeout: Duration,
}

/// Who is attached, as a plugin gets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub container: &'a str,
    pub interface: &'a str,
    /// None: it is gone.
    pub netns: Option<&'a Path>,
    /// `KEY=VALUE;…`
    pub arguments: &'a str,
}

/// One execution.
pub(super) struct Call<'a> {
    pub network: &'a str,
    /// Name and program of the plugin.
    pub plugin: (&'a str, &'a Path),
    pub verb: Verb,
    pub subject: Option<Subject<'a>>,
    pub request: &'a Map<String, Value>,
}

/// What a plugin left when it ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    said: Vec<u8>,
}

/// Why there is no end to judge.
enum Lost {
    TooMuch,
    Late(Vec<u8>),
    Io(io::Error),
}

impl Plugins {
    /// These directories first.
    pub(super) fn after(&self, first: &[PathBuf]) -> Plugins {
        let others = self.directories.iter().filter(|directory| !first.contains(directory));
        Plugins { directories: first.iter().chain(others).cloned().collect(), timeout: self.timeout }
    }

    /// The program of a plugin.
    ///
    /// # Errors
    /// There is none, or one that others may write to.
    pub(super) fn program(&self, plugin: &str, network: &str) -> Result<PathBuf, Error> {
        for directory in &self.directories {
            let path = directory.join(plugin);
            let Ok(status) = path.metadata() else { continue };
            if !status.is_file() || status.mode() & 0o111 == 0 {
                continue;
            }
            let untrusted = |why| Err(Error::Untrusted { path: path.clone(), why });
            if ![0, rustix::process::geteuid().as_raw()].contains(&status.uid()) {
                return untrusted("it belongs neither to root nor to its user");
            }
            if status.mode() & 0o002 != 0 || (status.mode() & 0o020 != 0 && status.gid() != 0) {
                return untrusted("others may write to it");
            }
            return Ok(path);
        }
        Err(Error::NoPlugin { plugin: plugin.to_owned(), network: network.to_owned(), directories: self.directories.clone() })
    }

    /// Executes a plugin; `input` becomes its standard input. Returns what it answered, if anything.
    ///
    /// # Errors
    /// It cannot be executed, takes too long, answers too much, or fails.
    pub(super) fn call(&self, call: &Call<'_>, mut input: &File) -> Result<Option<Value>, Error> {
        let (plugin, program) = call.plugin;
        let command = call.verb.as_str();
        let (plugin_name, network) = (plugin.to_owned(), call.network.to_owned());
        let place = Path::new("the request to a CNI plugin");
        let request = serde_json::to_vec(call.request).expect("invariant: a JSON object can be written");
        input.set_len(0).and_then(|()| input.rewind()).and_then(|()| input.write_all(&request)).and_then(|()| input.rewind()).on("write", place)?;
        let stdin = input.try_clone().on("copy", place)?;
        let child = self.spawn(call, stdin).map_err(|source| Error::Execute { path: program.to_owned(), source })?;
        let ended = match follow(child, self.timeout) {
            Ok(ended) => ended,
            Err(Lost::Io(source)) => return Err(Error::Execute { path: program.to_owned(), source }),
            Err(Lost::TooMuch) => {
                return Err(Error::Answer { plugin: plugin_name, command, network, why: format!("it has more than {LIMIT} bytes") });
            }
            Err(Lost::Late(said)) => {
                let said = last_words(&said);
                let said = if said.is_empty() { said } else { format!(": {said}") };
                return Err(Error::Timeout { plugin: plugin_name, command, network, seconds: self.timeout.as_secs(), said });
            }
        };
        if !ended.status.success() {
            return Err(failure(plugin_name, command, network, &ended));
        }
        if !ended.said.is_empty() {
            tracing::debug!("CNI plugin {plugin} said at {command}: {}", last_words(&ended.said));
        }
        if ended.output.trim_ascii().is_empty() {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&ended.output);
        parsed.map(Some).map_err(|why| Error::Answer { plugin: plugin_name, command, network, why: why.to_string() })
    }

    fn spawn(&self, call: &Call<'_>, stdin: File) -> io::Result<Child> {
        let mut search = OsString::new();
        for (index, directory) in self.directories.iter().enumerate() {
            if index > 0 {
                search.push(":");
            }
            search.push(directory);
        }
        let mut command = Command::new(call.plugin.1);
        command.env_clear().env("PATH", PATH).env("CNI_COMMAND", call.verb.as_str()).env("CNI_PATH", search);
        if let Some(subject) = call.subject {
            command.env("CNI_CONTAINERID", subject.container).env("CNI_IFNAME", subject.interface).env("CNI_ARGS", subject.arguments);
            command.env("CNI_NETNS", subject.netns.unwrap_or(Path::new("")));
        }
        // A group of its own: a terminal's interrupt does not reach it half-way, and its helpers end with it.
        command.current_dir("/").process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::sys::process::with_own_signals(&mut command);
        let mut tries = 0;
        loop {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => std::thread::sleep(BUSY_PAUSE),
                other => return other,
            }
            tries += 1;
        }
    }
}

/// A file in memory, as input of a call that needs no lock.
pub(super) fn memory() -> Result<File, FsError> {
    rustix::fs::memfd_create("cni", MemfdFlags::CLOEXEC).map(File::from).on("create", Path::new("a file in memory"))
}

/// Waits for the end of a plugin, collecting what it writes.
fn follow(mut child: Child, timeout: Duration) -> Result<Ended, Lost> {
    let outcome = collect(&mut child, Instant::now() + timeout);
    if outcome.is_err() {
        // Not reaped yet, so the number is still the group's.
        if let Some(group) = pid_of(&child)
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!("cannot kill the group of a CNI plugin: {error}");
        }
        drop(child.wait());
    }
    outcome
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn collect(child: &mut Child, deadline: Instant) -> Result<Ended, Lost> {
    let pid = pid_of(child).ok_or_else(|| Lost::Io(io::Error::other("the plugin has no pid")))?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| Lost::Io(errno.into()))?;
    let mut streams = [
        Stream::new(child.stdout.take().map(OwnedFd::from)).map_err(Lost::Io)?,
        Stream::new(child.stderr.take().map(OwnedFd::from)).map_err(Lost::Io)?,
    ];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::Late(std::mem::take(&mut streams[1].bytes)));
        }
        let ended = {
            let mut ready = vec![PollFd::new(&process, PollFlags::IN)];
            ready.extend(streams.iter().filter_map(|stream| stream.file.as_ref()).map(|file| PollFd::new(file, PollFlags::IN)));
            let patience = Timespec::try_from(left).map_err(|_| Lost::Io(io::Error::from(Errno::INVAL)))?;
            match poll(&mut ready, Some(&patience)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Lost::Io(errno.into())),
            }
            !ready[0].revents().is_empty()
        };
        for stream in &mut streams {
            stream.drain().map_err(Lost::Io)?;
        }
        if streams[0].bytes.len() > LIMIT {
            return Err(Lost::TooMuch);
        }
        let kept = streams[1].bytes.len().saturating_sub(LAST_WORDS * 4);
        streams[1].bytes.drain(..kept);
        if ended {
            // A helper of the plugin that outlives it may keep the pipes open: what is there by now is all.
            let status = child.wait().map_err(Lost::Io)?;
            let [output, said] = streams.map(|stream| stream.bytes);
            return Ok(Ended { status, output, said });
        }
    }
}

/// One of the pipes, read without waiting.
struct Stream {
    /// None: at its end.
    file: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            let flags = rustix::fs::fcntl_getfl(pipe.as_fd())?;
            rustix::fs::fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK)?;
        }
        Ok(Stream { file: pipe.map(File::from), bytes: Vec::new() })
    }

    /// Takes what is there, up to a little more than the limit.
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while let Some(file) = self.file.as_mut().filter(|_| self.bytes.len() <= LIMIT) {
            match file.read(&mut chunk) {
                Ok(0) => self.file = None,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The end of a text as one line without control characters.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let surplus = text.chars().count().saturating_sub(LAST_WORDS);
    if surplus == 0 { text } else { format!("…{}", text.chars().skip(surplus).collect::<String>()) }
}

/// Turns a failure into an error: the specification wants a document, on standard output by the reference plugins and on
/// standard error by its text.
fn failure(plugin: String, command: &'static str, network: String, ended: &Ended) -> Error {
    let document = [&ended.output, &ended.said].into_iter().find_map(|bytes| {
        let object: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let code = object.get("code")?.as_u64()?;
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(|text| last_words(text.as_bytes())).filter(|text| !text.is_empty());
        Some((code, text("msg"), text("details")))
    });
    let said = last_words(&ended.said);
    if let Some((code, msg, details)) = document {
        let mut parts: Vec<String> = msg.into_iter().chain(details).collect();
        if parts.is_empty() {
            parts.push(meaning(code).to_owned());
        }
        if !said.is_empty() && !said.starts_with('{') {
            parts.push(said);
        }
        return Error::Plugin { plugin, command, network, code, message: parts.join(": ") };
    }
    let ending = match (ended.status.code(), ended.status.signal()) {
        (_, Some(signal)) => format!("it was killed by signal {signal}"),
        (code, None) => format!("it ended with exit code {}", code.unwrap_or_default()),
    };
    let output = last_words(&ended.output);
    let words: Vec<String> = [ending, output, said].into_iter().filter(|text| !text.is_empty()).collect();
    Error::Failed { plugin, command, network, how: words.join(": ") }
}

/// The codes of the specification, for plugins that leave it at the number.
fn meaning(code: u64) -> &'static str {
    match code {
        1 => "it does not speak this CNI version",
        2 => "the configuration has a key that it does not support",
        3 => "it does not know the container",
        4 => "an environment variable is wrong",
        5 => "input or output failed",
        6 => "it cannot decode its input",
        7 => "the network configuration is not valid",
        11 => "try again later",
        50 => "it is not available",
        51 => "it is not available, and existing containers may have limited connectivity",
        _ => "no message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_short_line() {
        assert_eq!(last_words(b" a\nb\x1b[0m "), "a b [0m");
        let long = last_words("é".repeat(5000).as_bytes());
        assert_eq!((long.chars().count(), long.starts_with('…')), (LAST_WORDS + 1, true));
    }
}
