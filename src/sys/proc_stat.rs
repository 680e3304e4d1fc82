//! `/proc/PID/{stat,status,cmdline}` of one process, read through a held directory so that the three belong together
//! and a recycled pid is never read.

use rustix::fs::{Mode, OFlags, openat};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A process's `/proc` directory, held open. Reads fail with `ESRCH` once the process is gone.
#[derive(Debug)]
pub struct ProcDir {
    fd: OwnedFd,
    pid: i32,
}

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    /// Name of the executable, at most 15 bytes; may hold anything.
    pub name: String,
    pub parent: i32,
    /// Device number of the controlling terminal; 0 without one.
    pub terminal: i32,
    /// CPU time in clock ticks, user and system.
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Start in clock ticks since boot (field 22): with the pid the identity of the process.
    pub start_ticks: u64,
    /// A zombie: it has ended and waits for its parent.
    pub ended: bool,
    /// A signal has stopped it.
    pub stopped: bool,
}

impl ProcDir {
    /// # Errors
    /// `ENOENT` if there is no such process.
    pub fn open(pid: i32) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(ProcDir { fd, pid })
    }

    fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let fd = openat(self.fd.as_fd(), name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = Vec::new();
        // A process chooses how long its command line is; what a table shows is bounded.
        std::fs::File::from(fd).take(128 << 10).read_to_end(&mut text)?;
        Ok(text)
    }

    /// # Errors
    /// The process is gone, or the kernel's text is not understood.
    pub fn stat(&self) -> std::io::Result<Stat> {
        let text = self.read("stat")?;
        parse_stat(&text).ok_or_else(|| std::io::Error::other(format!("/proc/{}/stat has an unknown form", self.pid)))
    }

    /// [`ProcDir::stat`], and all fields from the third on as the kernel writes them.
    ///
    /// # Errors
    /// As [`ProcDir::stat`].
    pub fn stat_fields(&self) -> std::io::Result<(Stat, Vec<String>)> {
        let text = self.read("stat")?;
        let stat = parse_stat(&text).ok_or_else(|| std::io::Error::other(format!("/proc/{}/stat has an unknown form", self.pid)))?;
        let close = text.iter().rposition(|b| *b == b')').unwrap_or(0);
        let rest = String::from_utf8_lossy(&text[close + 1..]);
        Ok((stat, rest.split_ascii_whitespace().map(str::to_owned).collect()))
    }

    /// `/proc/PID/status` (proc_pid_status(5)) by its keys.
    ///
    /// # Errors
    /// The process is gone.
    pub fn status_fields(&self) -> std::io::Result<std::collections::HashMap<String, String>> {
        let text = self.read("status")?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    /// Effective user id.
    ///
    /// # Errors
    /// The process is gone, or the kernel's text is not understood.
    pub fn effective_uid(&self) -> std::io::Result<u32> {
        let text = self.read("status")?;
        parse_effective_uid(&text).ok_or_else(|| std::io::Error::other(format!("/proc/{}/status has an unknown form", self.pid)))
    }

    /// The command line with blanks between the arguments; empty for kernel threads and zombies.
    ///
    /// # Errors
    /// The process is gone.
    pub fn command_line(&self) -> std::io::Result<String> {
        let text = self.read("cmdline")?;
        let arguments: Vec<_> = text.strip_suffix(b"\0").unwrap_or(&text).split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        Ok(arguments.join(" "))
    }

    /// The root directory of the process, as a path-only descriptor into its mount namespace.
    ///
    /// # Errors
    /// The process is gone, or this process may not trace it.
    pub fn root(&self) -> std::io::Result<OwnedFd> {
        Ok(openat(self.fd.as_fd(), "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// The name is between the first `(` and the last `)`, for it may contain both.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let pid = std::str::from_utf8(text.get(..open)?).ok()?.trim().parse().ok()?;
    let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // The first of these is field 3 of the manual.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        pid,
        name,
        parent: field(4)?.parse().ok()?,
        terminal: field(7)?.parse().ok()?,
        user_ticks: field(14)?.parse().ok()?,
        system_ticks: field(15)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
        ended: matches!(field(3)?, "Z" | "X" | "x"),
        stopped: field(3)? == "T",
    })
}

/// `Uid: real effective saved file-system`.
fn parse_effective_uid(text: &[u8]) -> Option<u32> {
    let line = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Time since boot from `/proc/uptime`.
///
/// # Errors
/// `/proc` is not readable or not understood.
pub fn uptime() -> std::io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_ascii_whitespace().next().and_then(|s| s.parse::<f64>().ok());
    let seconds = seconds.filter(|s| s.is_finite() && *s >= 0.0).ok_or_else(|| std::io::Error::other("/proc/uptime has an unknown form"))?;
    Ok(Duration::from_secs_f64(seconds))
}

/// `ps`'s name of a controlling terminal: `pts/3`, `tty1`, `?`.
pub fn terminal_name(device: i32) -> String {
    let device = device as u32;
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
    match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * (1 << 20) + minor),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_names() {
        let line = b"42 (a) b (c) S 7 42 42 34816 42 4194304 1 2 3 4 11 12 0 0 20 0 1 0 9876 1 2\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                pid: 42,
                name: "a) b (c".to_owned(),
                parent: 7,
                terminal: 34816,
                user_ticks: 11,
                system_ticks: 12,
                start_ticks: 9876,
                ended: false,
                stopped: false
            }
        );
        assert_eq!(parse_stat(b"42 (short) S 1"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn own_process_is_read() {
        let pid = std::process::id() as i32;
        let dir = ProcDir::open(pid).unwrap();
        assert_eq!(dir.stat().unwrap().pid, pid);
        assert_eq!(dir.effective_uid().unwrap(), rustix::process::geteuid().as_raw());
        assert!(!dir.command_line().unwrap().is_empty());
        assert!(uptime().unwrap() > Duration::ZERO);
    }

    #[test]
    fn terminals_are_named() {
        assert_eq!(terminal_name(0), "?");
        assert_eq!(terminal_name(34816), "pts/0");
        assert_eq!(terminal_name(34819), "pts/3");
        assert_eq!(terminal_name(1025), "tty1");
    }
}
