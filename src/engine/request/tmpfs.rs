//! `--tmpfs path[:options]`. The options stay as typed; `noexec,nosuid,nodev` are defaults that they override.

use super::volume::destination;
use super::{FlagError, MountRequest, MountSource};
use crate::state::record::MountOptions;

const FLAG: &str = "--tmpfs";

/// Options without a value that tmpfs or the mount flags know.
const WORDS: &[&str] = &[
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "tmpcopyup",
    "notmpcopyup",
    "noswap",
];
/// Options with a value.
const KEYS: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];

/// Parses one `--tmpfs` value.
///
/// # Errors
/// A relative destination or an unknown option.
pub fn parse(text: &str) -> Result<MountRequest, FlagError> {
    let wrong = |reason: String| FlagError::new(FLAG, text, reason);
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let destination = destination(target).map_err(wrong)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, value)) => KEYS.contains(&key) && !value.is_empty(),
            None => WORDS.contains(&option),
        };
        if !known {
            return Err(wrong(format!("invalid tmpfs option \"{option}\"")));
        }
    }
    let read_only = options.split(',').any(|option| option == "ro");
    let source = MountSource::Tmpfs { options: options.to_owned(), from_flag: true };
    Ok(MountRequest {
        destination,
        source,
        read_only,
        mode: String::new(),
        propagation: String::new(),
        bind_text: None,
        options: MountOptions::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_grammar() {
        let mount = parse("/run:size=64m,mode=1777,exec,uid=5").unwrap();
        assert_eq!(mount.source, MountSource::Tmpfs { options: "size=64m,mode=1777,exec,uid=5".into(), from_flag: true });
        assert!(!mount.read_only && parse("/run:ro").unwrap().read_only && parse("/run").is_ok());
        for bad in ["run", "/", "/a:size", "/a:bogus", "/a:size=", "/a:foo=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
