//! Signals by name or number.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A signal number of this kernel, 1..=64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(i32);

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// First and last real-time signal as glibc and Docker name them (`RTMIN`, `RTMIN+n`, `RTMAX-n`).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    pub const TERM: Signal = Signal(libc::SIGTERM);
    pub const INT: Signal = Signal(libc::SIGINT);
    pub const KILL: Signal = Signal(libc::SIGKILL);

    pub fn from_number(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Signal(number))
    }

    pub fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = String;
    /// Accepts `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid signal \"{text}\"");
        if let Ok(number) = text.parse::<i32>() {
            return Signal::from_number(number).ok_or_else(wrong);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Signal(*number));
        }
        let realtime = if let Some(rest) = name.strip_prefix("RTMIN") {
            if rest.is_empty() { Some(RTMIN) } else { rest.strip_prefix('+').and_then(|n| n.parse::<i32>().ok()).map(|n| RTMIN.saturating_add(n)) }
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            if rest.is_empty() { Some(RTMAX) } else { rest.strip_prefix('-').and_then(|n| n.parse::<i32>().ok()).map(|n| RTMAX.saturating_sub(n)) }
        } else {
            None
        };
        realtime.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Signal).ok_or_else(wrong)
    }
}

/// `SIGTERM`, or the bare number where there is no name.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("1", 1), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)] {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
        for bad in ["", "0", "65", "FOO", "RTMIN+31", "-1"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }
}
