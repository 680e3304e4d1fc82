//! Tables of processes by podman's descriptors: `user pid hpid comm …`.

use super::{ProcessTable, clock, host_users, parse_users, share};
use crate::sys::proc_stat::{self, ProcDir};
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// Descriptor and title.
const DESCRIPTORS: &[(&str, &str)] = &[
    ("args", "COMMAND"),
    ("comm", "COMMAND"),
    ("command", "COMMAND"),
    ("etime", "ELAPSED"),
    ("group", "GROUP"),
    ("hgroup", "HGROUP"),
    ("hpid", "HPID"),
    ("huser", "HUSER"),
    ("nice", "NI"),
    ("pcpu", "%CPU"),
    ("pgid", "PGID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("rgroup", "RGROUP"),
    ("rss", "RSS"),
    ("ruser", "RUSER"),
    ("seccomp", "SECCOMP"),
    ("state", "STATE"),
    ("time", "TIME"),
    ("tty", "TTY"),
    ("user", "USER"),
    ("vsz", "VSZ"),
];

/// What the container's own files say about ids.
#[derive(Debug, Default)]
pub struct ContainerNames {
    /// `/etc/passwd` and `/etc/group` of the container.
    pub passwd: String,
    pub group: String,
    /// Host id, container id, number of ids: users, then groups. Empty: the same.
    pub maps: [Vec<(u32, u32, u32)>; 2],
}

impl ContainerNames {
    fn inside(&self, which: usize, id: u32) -> u32 {
        let maps = &self.maps[which];
        let found = maps.iter().find_map(|(host, own, size)| id.checked_sub(*host).filter(|at| at < size).map(|at| own + at));
        found.unwrap_or(id)
    }
}

/// The words as descriptors (`pid,comm` counts as two), if every one of them is.
pub fn descriptors(words: &[String]) -> Option<Vec<String>> {
    let list: Vec<String> = words.iter().flat_map(|word| word.split(',')).map(str::to_ascii_lowercase).collect();
    let known = |word: &String| DESCRIPTORS.iter().any(|(name, _)| name == word);
    (!list.is_empty() && list.iter().all(known)).then_some(list)
}

impl ProcessTable {
    /// The processes of `pids` that live, a column for each descriptor.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn described(pids: &[i32], wanted: &[String], names: &ContainerNames) -> io::Result<Self> {
        let uptime = proc_stat::uptime()?;
        let title = |word: &String| DESCRIPTORS.iter().find(|(name, _)| name == word).map_or("", |(_, title)| title).to_owned();
        let tables = Tables { uptime, users: host_users(), own_users: parse_users(&names.passwd), own_groups: parse_users(&names.group), names };
        let processes: Vec<Process> = pids.iter().filter_map(|pid| Process::read(*pid)).collect();
        let own: HashMap<i32, String> = processes.iter().map(|process| (process.pid, process.own_pid())).collect();
        let rows = processes.iter().map(|process| wanted.iter().map(|word| process.show(word, &tables, &own)).collect()).collect();
        Ok(ProcessTable { titles: wanted.iter().map(title).collect(), rows })
    }
}

struct Tables<'a> {
    uptime: Duration,
    users: HashMap<u32, String>,
    own_users: HashMap<u32, String>,
    own_groups: HashMap<u32, String>,
    names: &'a ContainerNames,
}

struct Process {
    pid: i32,
    stat: proc_stat::Stat,
    /// Fields of `/proc/PID/stat` by their number in proc_pid_stat(5).
    fields: Vec<String>,
    status: HashMap<String, String>,
    command: String,
}

impl Process {
    /// None if it is gone.
    fn read(pid: i32) -> Option<Self> {
        let dir = ProcDir::open(pid).ok()?;
        let (stat, fields) = dir.stat_fields().ok()?;
        Some(Process { pid, stat, fields, status: dir.status_fields().ok()?, command: dir.command_line().ok()? })
    }

    fn status(&self, key: &str) -> &str {
        self.status.get(key).map_or("", String::as_str)
    }

    /// Its pid in its own (the innermost) PID namespace.
    fn own_pid(&self) -> String {
        self.status("NSpid").split_ascii_whitespace().next_back().unwrap_or("0").to_owned()
    }

    /// Real or effective id.
    fn id(&self, key: &str, effective: bool) -> u32 {
        self.status(key).split_ascii_whitespace().nth(usize::from(effective)).and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    fn show(&self, word: &str, tables: &Tables<'_>, own: &HashMap<i32, String>) -> String {
        let field = |number: usize| self.fields.get(number - 3).cloned().unwrap_or_default();
        let named = |names: &HashMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        let user = |effective| named(&tables.own_users, tables.names.inside(0, self.id("Uid", effective)));
        let group = |effective| named(&tables.own_groups, tables.names.inside(1, self.id("Gid", effective)));
        let hertz = rustix::param::clock_ticks_per_second().max(1);
        let ticks = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / hertz);
        let age = tables.uptime.saturating_sub(ticks(self.stat.start_ticks));
        let used = ticks(self.stat.user_ticks + self.stat.system_ticks);
        match word {
            "args" if !self.command.is_empty() => self.command.clone(),
            "args" => format!("[{}]", self.stat.name),
            "comm" | "command" => self.stat.name.clone(),
            "etime" => clock(age),
            "user" => user(true),
            "ruser" => user(false),
            "group" => group(true),
            "rgroup" => group(false),
            "huser" => named(&tables.users, self.id("Uid", true)),
            "hgroup" => self.id("Gid", true).to_string(),
            "hpid" => self.pid.to_string(),
            "pid" => self.own_pid(),
            // A parent outside of the container has no number inside.
            "ppid" => own.get(&self.stat.parent).cloned().unwrap_or_else(|| "0".to_owned()),
            "nice" => field(19),
            "pgid" => field(5),
            "pcpu" => share(used, age).to_string(),
            "rss" => self.status("VmRSS").split(' ').next().unwrap_or_default().to_owned(),
            "vsz" => self.status("VmSize").split(' ').next().unwrap_or_default().to_owned(),
            "seccomp" => match self.status("Seccomp") {
                "0" => "disabled",
                "1" => "strict",
                "2" => "filter",
                _ => "?",
            }
            .to_owned(),
            "state" => field(3),
            "time" => clock(used),
            "tty" => proc_stat::terminal_name(self.stat.terminal),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_described() {
        let words: Vec<String> = ["user,hpid", "COMM", "state", "nice", "seccomp", "rss"].map(str::to_owned).to_vec();
        let wanted = descriptors(&words).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let names = ContainerNames {
            passwd: "me:x:7:7::/:/bin/sh\n".to_owned(),
            maps: [vec![(rustix::process::geteuid().as_raw(), 7, 1)], vec![]],
            ..Default::default()
        };
        let table = ProcessTable::described(&[pid], &wanted, &names).unwrap();
        assert_eq!(table.titles, ["USER", "HPID", "COMMAND", "STATE", "NI", "SECCOMP", "RSS"]);
        assert_eq!((table.rows[0][0].as_str(), table.rows[0][1].parse().ok()), ("me", Some(pid)));
        assert!(table.rows[0][6].parse::<u64>().unwrap() > 0);
        assert!(
            descriptors(&["aux".to_owned()]).is_none() && descriptors(&[]).is_none() && descriptors(&["-o".to_owned(), "pid".to_owned()]).is_none()
        );
    }
}
