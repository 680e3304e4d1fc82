//! Descriptors that the caller hands through to the container's process: sockets of systemd, then `--preserve-fds`.

use crate::cli::failure::Failure;

/// The flag of descriptors that close at `execve` (fcntl.h): none that we inherited has it.
const O_CLOEXEC: u32 = 0o2_000_000;

/// How many descriptors from 3 on the process inherits, and the variables that tell it of sockets among them.
#[derive(Debug, PartialEq, Eq)]
pub struct Inherited {
    pub count: u32,
    pub variables: Vec<String>,
}

impl Inherited {
    /// For a container's first process: sockets that systemd passed to us (sd_listen_fds(3)) come first.
    ///
    /// # Errors
    /// A descriptor is not open; it is named.
    pub fn with_sockets(preserved: u32) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let ours = variable("LISTEN_PID") == Some(std::process::id());
        let sockets = variable("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
        check(3, sockets, "LISTEN_FDS")?;
        let first = 3u32.saturating_add(sockets);
        check(first, preserved, "--preserve-fds")?;
        // The process is the first of its pid namespace.
        let variables = if sockets > 0 { vec![format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".to_owned()] } else { Vec::new() };
        Ok(Inherited { count: sockets + preserved, variables })
    }

    /// For a further process.
    ///
    /// # Errors
    /// As [`Inherited::with_sockets`].
    pub fn only(preserved: u32) -> Result<Self, Failure> {
        check(3, preserved, "--preserve-fds")?;
        Ok(Inherited { count: preserved, variables: Vec::new() })
    }
}

fn check(first: u32, count: u32, flag: &str) -> Result<(), Failure> {
    for fd in first..first.saturating_add(count) {
        if !is_inherited(fd) {
            return Err(Failure::invalid(format!("{flag} {count}: file descriptor {fd} is not open")));
        }
    }
    Ok(())
}

/// Whether it is open, and not one of our own.
fn is_inherited(fd: u32) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else { return false };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    flags.is_some_and(|flags| flags & O_CLOEXEC == 0)
}

#[cfg(test)]
mod tests {
    use super::{Inherited, check, is_inherited};
    use std::os::fd::AsRawFd;

    #[test]
    fn only_foreign_descriptors_are_passed_on() {
        let own = std::fs::File::open("/dev/null").unwrap();
        assert!(is_inherited(1) && !is_inherited(u32::try_from(own.as_raw_fd()).unwrap()) && !is_inherited(900_000));
        let error = check(900_000, 1, "--preserve-fds").unwrap_err();
        assert_eq!(error.one_line(), "--preserve-fds 1: file descriptor 900000 is not open");
        assert_eq!(Inherited::only(0).unwrap(), Inherited { count: 0, variables: Vec::new() });
    }
}
