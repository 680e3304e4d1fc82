//! Mount options of the OCI config → attributes, propagation and file system data.

use super::error::Error;

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// Name, attributes set, attributes cleared. With an `r` before the name: for the whole tree.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("noatime", NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("relatime", 0, ATIME),
    ("norelatime", 0, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
];

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    pub fn is_empty(self) -> bool {
        self == Change::default()
    }

    fn apply(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        // The access time modes are one field: setting one means clearing the field first.
        self.clear = self.clear & !(set & !ATIME) | clear;
    }
}

/// How a subtree shares later mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Propagation {
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
    pub flag: u64,
    pub recursive: bool,
}

impl Propagation {
    pub fn parse(text: &str) -> Option<Self> {
        let (name, recursive) = match text.strip_prefix('r') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let flag = match name {
            "private" => libc::MS_PRIVATE,
            "slave" => libc::MS_SLAVE,
            "shared" => libc::MS_SHARED,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return None,
        };
        Some(Propagation { flag, recursive })
    }
}

/// The options of one mount, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `bind` or `rbind`; the value says whether submounts come along.
    pub bind: Option<bool>,
    /// For the mount itself.
    pub top: Change,
    /// For the mount and all below it (`rro`, `rnosuid`, …).
    pub tree: Change,
    pub propagation: Option<Propagation>,
    /// `idmap` or `ridmap`: shown with the container's id maps; the value says whether submounts are too.
    pub idmap: Option<bool>,
    /// For the file system.
    pub data: Vec<String>,
}

/// # Errors
/// `Unsupported` names an option that would have been dropped silently otherwise.
pub(super) fn parse(options: &[String]) -> Result<Options, Error> {
    let mut parsed = Options::default();
    for option in options {
        let name = option.as_str();
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
        if let Some((_, set, clear)) = attribute(name) {
            parsed.top.apply(*set, *clear);
        } else if let Some(propagation) = Propagation::parse(name) {
            parsed.propagation = Some(propagation);
        } else if let Some((_, set, clear)) = name.strip_prefix('r').and_then(attribute) {
            parsed.tree.apply(*set, *clear);
        } else {
            match name {
                "bind" => parsed.bind = Some(false),
                "rbind" => parsed.bind = Some(true),
                "" | "defaults" | "async" | "nomand" | "nolazytime" | "loud" | "private_lock" => {}
                // Every devpts mount is its own instance since Linux 4.7.
                "newinstance" => {}
                "idmap" => parsed.idmap = Some(false),
                "ridmap" => parsed.idmap = Some(true),
                "tmpcopyup" | "remount" | "mand" => {
                    return Err(Error::Unsupported(format!("mount option \"{name}\"")));
                }
                _ => parsed.data.push(name.to_owned()),
            }
        }
    }
    // A read-only bind that leaves its submounts writable surprises everybody: where submounts come
    // along, they are read-only too.
    if parsed.bind == Some(true) && parsed.top.set & RDONLY != 0 && parsed.tree.clear & RDONLY == 0 {
        parsed.tree.set |= RDONLY;
        parsed.top.set &= !RDONLY;
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::{Change, NODEV, NOEXEC, NOSUID, RDONLY, parse};

    fn options(text: &str) -> super::Options {
        parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_are_sorted() {
        let tmpfs = options("nosuid,noexec,nodev,mode=1777,size=65536k");
        assert_eq!(tmpfs.top, Change { set: NOSUID | NOEXEC | NODEV, clear: 0 });
        assert_eq!(tmpfs.data, ["mode=1777", "size=65536k"]);
        let bind = options("rbind,ro,rslave");
        assert_eq!((bind.bind, bind.top.set, bind.tree.set), (Some(true), 0, RDONLY));
        assert_eq!(bind.propagation.map(|p| (p.flag, p.recursive)), Some((libc::MS_SLAVE, true)));
        assert_eq!(options("bind,ro").tree.set, 0);
        assert_eq!(options("ro,rw").top, Change { set: 0, clear: RDONLY });
        assert_eq!((options("bind,idmap").idmap, options("rbind,ridmap").idmap), (Some(false), Some(true)));
        assert!(parse(&["tmpcopyup".to_owned()]).is_err());
    }
}
