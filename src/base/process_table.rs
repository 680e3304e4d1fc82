//! Tables of processes as `ps` prints them, from `/proc` or from the host's `ps`.

mod described;

pub use described::{ContainerNames, descriptors};

use super::Timestamp;
use crate::sys::proc_stat::{self, ProcDir};
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// The columns without options: those of `ps -ef`.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// Titles and rows of a table; every row has at most as many cells as there are titles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTable {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Why the host's `ps` could not serve.
#[derive(Debug, thiserror::Error)]
pub enum PsError {
    #[error("cannot run the host's \"ps {arguments}\"")]
    Run {
        arguments: String,
        #[source]
        source: io::Error,
    },
    /// It refused its options.
    #[error("ps {arguments}: {talk}")]
    Refused { arguments: String, talk: String },
    #[error("ps {arguments} shows no PID column: choose a format that does")]
    NoPid { arguments: String },
}

impl ProcessTable {
    /// The processes of `pids` that live, in their order, as `ps -ef` shows them.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(pids: &[i32]) -> io::Result<Self> {
        let uptime = proc_stat::uptime()?;
        let now = Timestamp::now();
        let users = host_users();
        let rows = pids.iter().filter_map(|pid| row(*pid, now, uptime, &users)).collect();
        Ok(ProcessTable { titles: TITLES.map(str::to_owned).to_vec(), rows })
    }

    /// The rows of the host's `ps` with these options whose PID column names one of `pids`. As Docker does, it is asked for
    /// just these first (`-q`: without it, `-o` alone shows those of the caller's terminal), then, if it will not
    /// combine that with the options, for what they say.
    ///
    /// # Errors
    /// See [`PsError`].
    pub fn of_host(arguments: &[String], pids: &[i32]) -> Result<Self, PsError> {
        let typed = || arguments.join(" ");
        let just = format!("-q{}", pids.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
        let run = |more: &[String]| {
            let output = std::process::Command::new("ps").args(arguments).args(more).stdin(std::process::Stdio::null()).output();
            output.map_err(|source| PsError::Run { arguments: typed(), source })
        };
        let mut output = run(&[just])?;
        if !output.status.success() {
            output = run(&[])?;
        }
        if !output.status.success() {
            let talk = String::from_utf8_lossy(&output.stderr);
            return Err(PsError::Refused { arguments: typed(), talk: talk.lines().next().unwrap_or("failed").to_owned() });
        }
        select(&String::from_utf8_lossy(&output.stdout), pids).ok_or_else(|| PsError::NoPid { arguments: typed() })
    }
}

/// The name of a user of this host by `/etc/passwd`; name services are never asked, for they run foreign code.
pub fn user_name(uid: u32) -> Option<String> {
    host_users().remove(&uid)
}

/// One row of the default table; None if the process is gone.
fn row(pid: i32, now: Timestamp, uptime: Duration, users: &HashMap<u32, String>) -> Option<Vec<String>> {
    let dir = ProcDir::open(pid).ok()?;
    let stat = dir.stat().ok()?;
    let uid = dir.effective_uid().ok()?;
    let command = dir.command_line().ok()?;
    let command = if command.is_empty() { format!("[{}]", stat.name) } else { command };
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    let started = Duration::from_millis(stat.start_ticks.saturating_mul(1000) / hertz);
    let age = uptime.saturating_sub(started);
    let used = Duration::from_millis((stat.user_ticks + stat.system_ticks).saturating_mul(1000) / hertz);
    Some(vec![
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid.to_string(),
        stat.parent.to_string(),
        share(used, age).to_string(),
        start_time(now, age),
        proc_stat::terminal_name(stat.terminal),
        clock(used),
        command,
    ])
}

/// `ps`'s C: whole percents of one processor, 99 at most.
fn share(used: Duration, age: Duration) -> u128 {
    used.as_nanos().saturating_mul(100).checked_div(age.as_nanos()).unwrap_or(0).min(99)
}

/// `ps`'s STIME: the time of day within the last day, the date before.
fn start_time(now: Timestamp, age: Duration) -> String {
    let at = now.nanos().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
    let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(at)) else { return "?".to_owned() };
    let local = at.to_zoned(jiff::tz::TimeZone::system());
    let format = if age < Duration::from_secs(86_400) { "%H:%M" } else { "%b%d" };
    local.strftime(format).to_string()
}

/// `[d-]hh:mm:ss`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let days = if days > 0 { format!("{days}-") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{seconds:02}")
}

/// Names of the host's users; ids alone where the file cannot be read.
fn host_users() -> HashMap<u32, String> {
    parse_users(&std::fs::read_to_string("/etc/passwd").unwrap_or_default())
}

/// Names by id of a text in the form of `/etc/passwd` or `/etc/group`.
fn parse_users(text: &str) -> HashMap<u32, String> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    // The first of several names of one id counts, as in getpwuid(3).
    text.lines().rev().filter_map(user).collect()
}

/// Splits the table of `ps` into the header's columns (the last takes the rest of a line) and keeps the rows of `pids`.
fn select(table: &str, pids: &[i32]) -> Option<ProcessTable> {
    let mut lines = table.lines();
    let titles: Vec<String> = lines.next()?.split_ascii_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|t| t == "PID")?;
    let mut rows = Vec::new();
    let mut kept = false;
    for line in lines {
        let fields = split_fields(line, titles.len());
        match fields.get(column).map(String::as_str) {
            // A row without a process id goes on with the row before it (threads, as `ps -m` shows them).
            Some("-") if kept => rows.push(fields),
            Some(pid) => {
                kept = pid.parse::<i32>().is_ok_and(|pid| pids.contains(&pid));
                if kept {
                    rows.push(fields);
                }
            }
            None => {}
        }
    }
    Some(ProcessTable { titles, rows })
}

fn split_fields(line: &str, count: usize) -> Vec<String> {
    let mut fields = Vec::with_capacity(count);
    let mut rest = line.trim_start();
    while fields.len() + 1 < count && !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        fields.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        fields.push(rest.trim_end().to_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_rows_are_selected_by_pid() {
        let table = "UID        PID  PPID CMD\nroot         1     0 /sbin/init a b\nroot        42     1 sleep 10\nroot       420     1 x\n";
        let process = select(table, &[42]).unwrap();
        assert_eq!(process.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(process.rows, [["root", "42", "1", "sleep 10"]]);
        assert!(select("USER CMD\n", &[1]).is_none());
    }

    #[test]
    fn times_print_like_ps() {
        assert_eq!(clock(Duration::from_secs(3_725)), "01:02:05");
        assert_eq!(clock(Duration::from_secs(90_061)), "1-01:01:01");
        assert_eq!((share(Duration::from_secs(1), Duration::from_secs(3)), share(Duration::from_secs(1), Duration::ZERO)), (33, 0));
    }

    #[test]
    fn own_process_makes_a_row() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let table = ProcessTable::of(&[pid]).unwrap();
        assert_eq!((table.rows.len(), table.rows[0].len()), (1, TITLES.len()));
        assert_eq!(table.rows[0][1], pid.to_string());
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(u32::MAX - 7), None);
    }
}
