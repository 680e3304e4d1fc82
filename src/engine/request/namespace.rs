//! `--pid`, `--ipc`, `--uts`, `--cgroupns`: which namespaces a container shares.

use super::FlagError;
use crate::state::record::{CgroupnsMode, IpcMode, PidMode};

/// The container of `container:NAME`; an empty name is an error.
fn joined(flag: &'static str, text: &str) -> Result<Option<String>, FlagError> {
    match text.strip_prefix("container:") {
        Some("") => Err(FlagError::new(flag, text, "the container is missing after \"container:\"")),
        other => Ok(other.map(str::to_owned)),
    }
}

/// # Errors
/// Not `private`, `host` or `container:NAME`.
pub fn parse_pid(text: &str) -> Result<PidMode, FlagError> {
    match text {
        "" | "private" => Ok(PidMode::Private),
        "host" => Ok(PidMode::Host),
        _ => joined("--pid", text)?.map(PidMode::Container).ok_or_else(|| FlagError::new("--pid", text, "expected host or container:NAME")),
    }
}

/// # Errors
/// Not `none`, `private`, `shareable`, `host` or `container:NAME`.
pub fn parse_ipc(text: &str) -> Result<IpcMode, FlagError> {
    match text {
        "" | "private" => Ok(IpcMode::Private),
        "none" => Ok(IpcMode::None),
        "shareable" => Ok(IpcMode::Shareable),
        "host" => Ok(IpcMode::Host),
        _ => joined("--ipc", text)?
            .map(IpcMode::Container)
            .ok_or_else(|| FlagError::new("--ipc", text, "expected none, private, shareable, host or container:NAME")),
    }
}

/// True for the host's UTS namespace.
///
/// # Errors
/// Not `host` (or empty for a private one).
pub fn parse_uts(text: &str) -> Result<bool, FlagError> {
    match text {
        "" | "private" => Ok(false),
        "host" => Ok(true),
        _ => Err(FlagError::new("--uts", text, "expected host")),
    }
}

/// # Errors
/// Not `private` or `host`.
pub fn parse_cgroupns(text: &str) -> Result<Option<CgroupnsMode>, FlagError> {
    match text {
        "" => Ok(None),
        "private" => Ok(Some(CgroupnsMode::Private)),
        "host" => Ok(Some(CgroupnsMode::Host)),
        _ => Err(FlagError::new("--cgroupns", text, "expected private or host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_modes() {
        assert_eq!(parse_pid("host"), Ok(PidMode::Host));
        assert_eq!(parse_pid("container:a"), Ok(PidMode::Container("a".into())));
        assert_eq!(parse_ipc("shareable"), Ok(IpcMode::Shareable));
        assert_eq!(parse_ipc("container:a"), Ok(IpcMode::Container("a".into())));
        assert_eq!((parse_uts("host"), parse_cgroupns("private")), (Ok(true), Ok(Some(CgroupnsMode::Private))));
        assert!(parse_pid("x").is_err() && parse_pid("container:").is_err() && parse_ipc("x").is_err());
        assert!(parse_uts("container:a").is_err() && parse_cgroupns("x").is_err());
    }
}
