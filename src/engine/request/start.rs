//! `--rootfs`, `--systemd`, `--sdnotify`: what a container starts from, as what, and who waits for it.

use super::FlagError;
use crate::state::record::{Readiness, Rootfs};
use std::path::Path;

/// `--systemd`: whether the container is set up for a systemd as its first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Systemd {
    #[default]
    Never,
    /// Where the command is one.
    Detect,
    Always,
}

/// Programs that are a systemd, or what calls itself init.
const INITS: [&str; 4] = ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init", "/init"];

impl Systemd {
    /// # Errors
    /// Not `true`, `false` or `always`.
    pub fn parse(text: &str) -> Result<Self, FlagError> {
        match (text, super::parse_bool(text)) {
            ("always", _) => Ok(Systemd::Always),
            (_, Ok(true)) => Ok(Systemd::Detect),
            (_, Ok(false)) => Ok(Systemd::Never),
            _ => Err(FlagError::new("--systemd", text, "expected true, false or always")),
        }
    }

    /// Whether a container with this command gets it.
    pub fn applies(self, program: &str) -> bool {
        let named = Path::new(program).file_name().is_some_and(|name| name == "systemd");
        match self {
            Systemd::Never => false,
            Systemd::Detect => named || INITS.contains(&program),
            Systemd::Always => true,
        }
    }
}

/// `--sdnotify`; None: nobody is told.
///
/// # Errors
/// Not `container`, `conmon`, `healthy` or `ignore`.
pub fn parse_readiness(text: &str) -> Result<Option<Readiness>, FlagError> {
    match text {
        "container" => Ok(Some(Readiness::Container)),
        "conmon" => Ok(Some(Readiness::Started)),
        "healthy" => Ok(Some(Readiness::Healthy)),
        "ignore" => Ok(None),
        _ => Err(FlagError::new("--sdnotify", text, "expected container, conmon, healthy or ignore")),
    }
}

/// `DIR` or `DIR:O`; a relative one is below `base`.
///
/// # Errors
/// Another option behind the colon.
pub fn parse_rootfs(text: &str, base: &Path) -> Result<Rootfs, FlagError> {
    let (directory, overlay) = match text.rsplit_once(':') {
        Some((directory, "O")) => (directory, true),
        Some((_, option)) if !option.contains('/') && !Path::new(text).exists() => {
            return Err(FlagError::new("--rootfs", text, format!("unknown option \"{option}\": expected DIR or DIR:O")));
        }
        _ => (text, false),
    };
    // Components: no dots and doubled slashes, but `..` as it is, since it may follow a link.
    let directory = base.join(directory).components().collect();
    Ok(Rootfs { directory, overlay })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_is_known_by_its_name() {
        for (mode, program, expected) in [
            ("true", "/usr/lib/systemd/systemd", true),
            ("1", "/sbin/init", true),
            ("true", "sh", false),
            ("always", "sh", true),
            ("false", "/sbin/init", false),
        ] {
            assert_eq!(Systemd::parse(mode).unwrap().applies(program), expected, "{mode} {program}");
        }
        assert!(Systemd::parse("maybe").is_err());
        assert_eq!((parse_readiness("conmon"), parse_readiness("ignore")), (Ok(Some(Readiness::Started)), Ok(None)));
        assert!(parse_readiness("x").is_err());
    }

    #[test]
    fn a_root_is_a_directory_and_perhaps_an_overlay() {
        let of = |text: &str| parse_rootfs(text, Path::new("/home")).map(|root| (root.directory.to_string_lossy().into_owned(), root.overlay));
        assert_eq!(of("/srv/root"), Ok(("/srv/root".to_owned(), false)));
        assert_eq!(of("./root/:O"), Ok(("/home/root".to_owned(), true)));
        assert_eq!(of("../a:b/c"), Ok(("/home/../a:b/c".to_owned(), false)));
        assert!(of("/srv/root:idmap").unwrap_err().reason.contains("DIR:O"));
    }
}
