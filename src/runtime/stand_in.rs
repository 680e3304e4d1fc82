//! A process that stands somewhere for a moment, so that others can look through it: no thread may enter a user namespace,
//! and on v2 no thread may be in a control group that its process is not in.
//!
//! Invariant: it holds nothing but its socket, cannot be traced from where it stands, and ends with whoever asked for it.

use super::error::Error;
use super::exe::protected_exe;
use crate::base::fs::{self, Context};
use crate::sys::namespace::unshare;
use crate::sys::spawn::detached;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The name of the process; `main` knows the stage by it.
const STAGE: &str = "rcon-stand-in";
/// How long an answer may take; far beyond any sane machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody's id: a map that reaches it is that of the whole machine.
const ALL: u32 = u32::MAX;

/// A range of ids: inside, on the host, how many.
pub type Range = (u32, u32, u32);

/// The maps (of users, of groups) of a user namespace, by its file: `/proc/PID/ns/user`, or where that is mounted.
///
/// # Errors
/// [`Error::Invalid`] for what is no user namespace, or the caller's own; what the kernel refuses.
pub fn user_maps(path: &Path) -> Result<(Vec<Range>, Vec<Range>), Error> {
    let inode = |path: &Path| std::fs::metadata(path).on("examine", path).map(|status| (status.dev(), status.ino()));
    if inode(path)? == inode(Path::new("/proc/self/ns/user"))? {
        return Err(Error::Invalid(format!("{} is the user namespace of this host, not another one", path.display())));
    }
    let (mut stand_in, pid) = match StandIn::start(path.as_os_str().as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(Error::Invalid(format!("{} is no user namespace", path.display()))),
        other => other.map_err(|source| Error::Step { step: format!("enter the user namespace {}", path.display()), source })?,
    };
    let read = |name: &str| {
        let file = PathBuf::from(format!("/proc/{pid}/{name}"));
        let text = fs::read_to_string(&file)?;
        parse(&text).ok_or_else(|| Error::Invalid(format!("the user namespace {} has no usable {name}", path.display())))
    };
    let maps = (read("uid_map")?, read("gid_map")?);
    // It still is there, so the number was its own.
    stand_in.ask().map_err(|source| Error::Step { step: format!("stay in the user namespace {}", path.display()), source })?;
    Ok(maps)
}

/// A cgroup namespace whose root are the groups that `place` puts a process into.
///
/// # Errors
/// Those of `place`; what the kernel refuses.
pub fn cgroup_namespace<E: From<Error>>(place: impl FnOnce(i32) -> Result<(), E>) -> Result<OwnedFd, E> {
    let failed = |source: std::io::Error| Error::Step { step: "make a cgroup namespace".to_owned(), source };
    let (mut stand_in, pid) = StandIn::start(b"").map_err(failed)?;
    place(pid)?;
    stand_in.ask().map_err(failed)?;
    let path = format!("/proc/{pid}/ns/cgroup");
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    stand_in.ask().map_err(failed)?;
    Ok(namespace)
}

/// Lines of `/proc/PID/uid_map`; None without one, and for the map of all ids to themselves.
fn parse(text: &str) -> Option<Vec<Range>> {
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split_ascii_whitespace().map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [inside, outside, size] = *numbers.as_slice() else { return None };
        (size != ALL && outside != ALL).then_some((inside, outside, size))
    };
    let ranges: Vec<Range> = text.lines().map(line).collect::<Option<_>>()?;
    (!ranges.is_empty()).then_some(ranges)
}

/// The asking side; dropping it ends the process.
struct StandIn(UnixStream);

impl StandIn {
    /// In the user namespace of this file; empty: where we are. With its pid, which is its own until it is dropped or an
    /// answer fails.
    fn start(user: &[u8]) -> std::io::Result<(Self, i32)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let name = CString::new(STAGE).expect("invariant: the name has no NUL");
        let path = CString::new(user)?;
        let executable = protected_exe().map_err(|error| match error {
            Error::Step { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        detached(executable.as_fd(), &[&name, &path], &[], null.as_fd(), theirs.as_fd())?;
        drop(theirs);
        let mut stand_in = StandIn(ours);
        let pid = stand_in.answer()?;
        Ok((stand_in, pid))
    }

    /// Its next act.
    fn ask(&mut self) -> std::io::Result<i32> {
        self.0.write_all(b"?")?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<i32> {
        let mut answer = [0u8; 4];
        self.0.read_exact(&mut answer)?;
        match i32::from_ne_bytes(answer) {
            number if number < 0 => Err(std::io::Error::from_raw_os_error(-number)),
            number => Ok(number),
        }
    }
}

/// The hidden stage: None when this process was not started as one.
pub fn stage() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()? != STAGE {
        return None;
    }
    let user = PathBuf::from(words.next()?);
    let mut socket = UnixStream::from(crate::sys::peer::inherited_socket(3)?);
    let mut say = |outcome: rustix::io::Result<i32>| socket.write_all(&outcome.unwrap_or_else(|errno| -errno.raw_os_error()).to_ne_bytes());
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut heard = say(stand(&user).map(|()| pid));
    let mut first = user.as_os_str().is_empty();
    while heard.is_ok() {
        if socket.read_exact(&mut [0u8]).is_err() {
            break;
        }
        let done = if std::mem::take(&mut first) { unshare(UnshareFlags::NEWCGROUP) } else { Ok(()) };
        heard = socket.write_all(&done.map_or_else(|errno| -errno.raw_os_error(), |()| 0).to_ne_bytes());
    }
    Some(ExitCode::SUCCESS)
}

fn stand(user: &Path) -> rustix::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if !user.as_os_str().is_empty() {
        let file = rustix::fs::open(user, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::User))?;
    }
    // A change of credentials resets it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(test)]
mod tests {
    use super::{parse, user_maps};
    use std::path::Path;

    #[test]
    fn maps_are_read() {
        assert_eq!(parse("         0     100000      65536\n 70000 5 1\n"), Some(vec![(0, 100_000, 65_536), (70_000, 5, 1)]));
        for bad in ["", "0 0 4294967295\n", "0 0\n", "a b c\n", "0 4294967295 1\n"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_hosts_own_namespace_is_refused() {
        assert!(user_maps(Path::new("/proc/self/ns/user")).unwrap_err().to_string().contains("of this host"));
        assert!(user_maps(Path::new("/nonexistent")).is_err());
    }
}
