//! Mount options of the OCI config → attributes, propagation and file system data.

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

    pub fn apply(&mut self, set: u64, clear: u64) {
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

/// One call of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub set: u64,
    pub clear: u64,
    /// `MS_PRIVATE` and so on, or 0.
    pub propagation: u64,
    pub recursive: bool,
}

/// The fewest calls that make these changes, in the order tree, mount itself, propagation. `single`: there is nothing
/// below the mount, so that recursion makes no difference.
pub(super) fn settings(tree: Change, top: Change, propagation: &[Propagation], single: bool) -> Vec<Setting> {
    let mut calls: Vec<Setting> = Vec::new();
    for (change, recursive) in [(tree, !single), (top, false)] {
        if change.is_empty() {
            continue;
        }
        match calls.last_mut().filter(|last| last.recursive == recursive) {
            Some(last) => {
                let mut both = Change { set: last.set, clear: last.clear };
                both.apply(change.set, change.clear);
                (last.set, last.clear) = (both.set, both.clear);
            }
            None => calls.push(Setting { set: change.set, clear: change.clear, propagation: 0, recursive }),
        }
    }
    for Propagation { flag, recursive } in propagation {
        let recursive = *recursive && !single;
        match calls.last_mut().filter(|last| last.recursive == recursive && last.propagation == 0) {
            Some(last) => last.propagation = *flag,
            None => calls.push(Setting { propagation: *flag, recursive, ..Setting::default() }),
        }
    }
    calls
}

/// The options of one mount, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `bind` or `rbind`; the value says whether submounts come along.
    pub bind: Option<bool>,
    /// Changes what is mounted on the destination already.
    pub remount: bool,
    /// For the mount itself.
    pub top: Change,
    /// For the mount and all below it (`rro`, `rnosuid`, …).
    pub tree: Change,
    /// In the order given: `slave` and then `shared` makes a mount that is both.
    pub propagation: Vec<Propagation>,
    /// `idmap` or `ridmap`: shown with other ids; the value says whether submounts are too.
    pub idmap: Option<bool>,
    /// `tmpcopyup`: a tmpfs begins with what the directory under it holds.
    pub copy_up: bool,
    /// `iversion`, which only mount(2) can ask for.
    pub iversion: bool,
    /// Flags of the super block, of each pair at most one.
    pub superblock: Vec<&'static str>,
    /// For the file system.
    pub data: Vec<String>,
}

/// Flags of the super block that every file system takes (fs/fs_context.c), each with its opposite; dirsync has none.
const SUPERBLOCK: [(&str, &str); 4] = [("sync", "async"), ("dirsync", "dirsync"), ("lazytime", "nolazytime"), ("mand", "nomand")];

impl Options {
    /// Superblock flags that are not what a new file system has anyway.
    pub fn superblock_set(&self) -> impl Iterator<Item = String> + '_ {
        self.superblock.iter().filter(|flag| SUPERBLOCK.iter().any(|(on, _)| on == *flag)).map(|flag| (*flag).to_owned())
    }

    /// True if it was one of the pairs; the last one given of each counts.
    fn superblock(&mut self, name: &str) -> bool {
        let Some((on, off)) = SUPERBLOCK.into_iter().find(|(on, off)| name == *on || name == *off) else { return false };
        self.superblock.retain(|flag| *flag != on && *flag != off);
        self.superblock.push(if name == on { on } else { off });
        true
    }
}

/// Sorts the options of one mount (OCI config.md, "Linux mount options"). What is none of the runtime's is the file
/// system's, which refuses what it does not know.
pub(super) fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        let name = option.as_str();
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
        if let Some((_, set, clear)) = attribute(name) {
            parsed.top.apply(*set, *clear);
        } else if let Some(propagation) = Propagation::parse(name) {
            parsed.propagation.push(propagation);
        } else if let Some((_, set, clear)) = name.strip_prefix('r').and_then(attribute) {
            parsed.tree.apply(*set, *clear);
        } else if !parsed.superblock(name) {
            match name {
                "bind" => parsed.bind = Some(false),
                "rbind" => parsed.bind = Some(true),
                "remount" => parsed.remount = true,
                "idmap" => parsed.idmap = Some(false),
                "ridmap" => parsed.idmap = Some(true),
                "tmpcopyup" => parsed.copy_up = true,
                "iversion" | "noiversion" => parsed.iversion = name == "iversion",
                // Of what the kernel logs while mounting; the new mount interface has no word for it.
                "silent" | "loud" => {}
                // Every devpts mount is its own instance since Linux 4.7.
                "" | "defaults" | "newinstance" => {}
                _ => parsed.data.push(name.to_owned()),
            }
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::{ATIME, Change, NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME, Setting, parse, settings};

    fn options(text: &str) -> super::Options {
        parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_sorted() {
        let tmpfs = options("nosuid,noexec,nodev,mode=1777,size=65536k");
        assert_eq!(tmpfs.top, Change { set: NOSUID | NOEXEC | NODEV, clear: 0 });
        assert_eq!(tmpfs.data, ["mode=1777", "size=65536k"]);
        let bind = options("rbind,ro,rslave,shared");
        assert_eq!((bind.bind, bind.top.set, bind.tree.set), (Some(true), RDONLY, 0));
        let kinds: Vec<_> = bind.propagation.iter().map(|p| (p.flag, p.recursive)).collect();
        assert_eq!(kinds, [(libc::MS_SLAVE, true), (libc::MS_SHARED, false)]);
        assert_eq!(options("ro,rw").top, Change { set: 0, clear: RDONLY });
        assert_eq!((options("bind,idmap").idmap, options("rbind,ridmap").idmap), (Some(false), Some(true)));
        assert_eq!(options("sync,mand,async,lazytime,nomand").superblock, ["async", "lazytime", "nomand"]);
        assert_eq!(options("sync,mand,async,lazytime,nomand").superblock_set().collect::<Vec<_>>(), ["lazytime"]);
        let flags = options("remount,tmpcopyup,iversion,silent,loud,defaults");
        assert!(flags.remount && flags.copy_up && flags.iversion && flags.data.is_empty());
        assert!(!options("iversion,noiversion").iversion);
    }

    /// Every name of config.md's table is the runtime's and not handed to a file system.
    #[test]
    fn the_whole_table_is_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion \
            nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime \
            rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave \
            rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
        for name in table.split_whitespace() {
            assert!(options(name).data.is_empty(), "{name}");
        }
    }

    #[test]
    fn one_call_takes_what_it_can() {
        let call = |text: &str, single: bool| {
            let parsed = options(text);
            settings(parsed.tree, parsed.top, &parsed.propagation, single)
        };
        let private = |set, clear, recursive| Setting { set, clear, propagation: libc::MS_PRIVATE, recursive };
        assert_eq!(call("bind,ro,rprivate", true), [private(RDONLY, 0, false)]);
        assert_eq!(call("rbind,rro,rprivate", false), [private(RDONLY, 0, true)]);
        assert_eq!(call("rbind,ro,private", false), [private(RDONLY, 0, false)]);
        let apart = call("rbind,ro,rprivate", false);
        assert_eq!(apart, [Setting { set: RDONLY, ..Setting::default() }, private(0, 0, true)]);
        // What is said of the mount itself comes after what is said of the tree.
        assert_eq!(call("rro,rw,noatime,rstrictatime", true), [Setting { set: super::NOATIME, clear: RDONLY | ATIME, ..Setting::default() }]);
        let two = call("slave,shared", true);
        assert_eq!(two.iter().map(|s| s.propagation).collect::<Vec<_>>(), [libc::MS_SLAVE, libc::MS_SHARED]);
        assert_eq!(call("strictatime", false)[0], Setting { set: STRICTATIME, clear: ATIME, ..Setting::default() });
        assert!(call("sync", false).is_empty());
    }
}
