//! The strings that the kernel put on our stack at `execve`: arguments and environment, as `/proc/PID/cmdline` and
//! `/proc/PID/environ` show them for as long as the process lives.
#![allow(unsafe_code)]

use super::clone::SingleThreaded;
use std::io;
use std::ops::Range;

/// Where they are. The addresses hold for forked copies of this process too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStrings {
    arguments: Range<usize>,
    environment: Range<usize>,
}

impl OwnStrings {
    /// Asks the `/proc` at hand, which must be the trusted one: the answer is what [`OwnStrings::replace`] writes to.
    ///
    /// # Errors
    /// `/proc` cannot be read, or answers no such ranges.
    pub fn find() -> io::Result<Self> {
        parse(&std::fs::read_to_string("/proc/self/stat")?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Erases them: the arguments become `title` (cut to their room), the environment nothing. For a forked child that
    /// neither reads nor passes on its environment any more.
    pub fn replace(&self, title: &str, _proof: SingleThreaded) {
        erase(&self.environment);
        erase(&self.arguments);
        let room = self.arguments.len().saturating_sub(1);
        let text = &title.as_bytes()[..title.len().min(room)];
        // SAFETY: the range is our own writable stack (see `erase`) and longer than `text`.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.arguments.start as *mut u8, text.len()) };
    }
}

fn erase(range: &Range<usize>) {
    // SAFETY: the kernel reported the range for this program image: it is at the bottom of the stack, mapped readable and
    // writable until the next execve. The token proves that no other thread reads it; the strings' readers in std and
    // libc look for a NUL, which is all they find now.
    unsafe { std::ptr::write_bytes(range.start as *mut u8, 0, range.len()) };
}

/// Fields 48 to 51 of proc_pid_stat(5), counted after the program's name, which may hold anything.
fn parse(stat: &str) -> Option<OwnStrings> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(48 - 3).map(|field| field.parse::<usize>().ok());
    let mut next = || fields.next().flatten().filter(|address| *address != 0);
    let (arguments, environment) = (next()?..next()?, next()?..next()?);
    let sound = |range: &Range<usize>| range.start <= range.end && range.len() <= 16 << 20;
    (sound(&arguments) && sound(&environment)).then_some(OwnStrings { arguments, environment })
}

#[cfg(test)]
mod tests {
    use super::{OwnStrings, parse};
    use crate::sys::clone::{SingleThreaded, run_alone};

    #[test]
    fn ranges_are_read_past_any_name() {
        let head = format!("7 (a) b)) S{}", " 0".repeat(44));
        let found = parse(&format!("{head} 100 110 120 150 0\n")).unwrap();
        assert_eq!((found.arguments, found.environment), (100..110, 120..150));
        assert_eq!(parse(&format!("{head} 0 0 0 0 0\n")), None);
        assert_eq!(parse(&format!("{head} 110 100 120 150 0\n")), None);
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn nothing_is_left_to_be_read() {
        if std::env::args().any(|argument| argument == "--test-threads=1") {
            assert!(run_alone(|| {
                let proof = SingleThreaded::check().unwrap();
                OwnStrings::find().unwrap().replace("new title", proof);
                assert!(std::fs::read("/proc/self/environ").unwrap().iter().all(|byte| *byte == 0));
                assert!(std::fs::read("/proc/self/cmdline").unwrap().starts_with(b"new title\0\0"));
                assert_eq!(std::env::var_os("PATH"), None);
            }));
            return;
        }
        let name = "sys::own_strings::tests::nothing_is_left_to_be_read";
        let test = std::env::current_exe().unwrap();
        let done = std::process::Command::new(test).args(["--exact", name, "--test-threads=1"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}
