//! `linux.intelRdt`: a share of cache and memory bandwidth, as groups of a mounted resctrl file system (config-linux.md,
//! IntelRdt; Documentation/filesystems/resctrl.rst).
//!
//! Invariants: without the field no resctrl is looked at; only directories that were made for the container are removed.

use super::error::{At, Error, Failure};
use crate::sys::mountinfo;
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names that the kernel itself uses in a resctrl directory.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// What the config asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    /// Directory beneath the mount; empty is the mount itself, the default class.
    class: String,
    /// It has to be there already: the config names it and says nothing about its content.
    expected: bool,
    /// What is written to `schemata`, one write each.
    schemata: Vec<String>,
    /// Name of a monitoring group of the container's own.
    monitor: Option<String>,
    /// Field and the features of the monitor of which one must be there.
    features: Vec<(&'static str, &'static [&'static str])>,
}

/// Where a container's processes are; serialisable, so that `delete` finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    class: PathBuf,
    /// Made for the container.
    made: bool,
    /// Made for the container.
    monitor: Option<PathBuf>,
    #[serde(skip)]
    schemata: Vec<String>,
}

impl Group {
    /// The groups that the config asks for; None when it asks for nothing. Nothing is made yet.
    ///
    /// # Errors
    /// `Unsupported` without a resctrl file system or the monitoring that is asked for; `Invalid` names the field.
    pub fn of(spec: &Spec, id: &str) -> Result<Option<Self>, Error> {
        let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else { return Ok(None) };
        let wish = Wish::compile(asked, id)?;
        let table = mountinfo::read().at_path("read", Path::new(mountinfo::PATH))?;
        let mount = find(&table).ok_or_else(|| Error::Unsupported("linux.intelRdt without a mounted resctrl file system".to_owned()))?;
        wish.examine(&mount).map(Some)
    }

    /// Makes what is missing, and fills it. What was made before a failure is left to [`Group::remove`].
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn make(&self) -> Result<(), Error> {
        if self.made {
            let step = "make the class of service (linux.intelRdt)";
            match std::fs::create_dir(&self.class) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    return Err(Failure::step(format!("{step}: this machine has no more of them"), Errno::NOSPC).into());
                }
                other => other.at_path(step, &self.class)?,
            }
            for text in &self.schemata {
                self.write(&self.class.join("schemata"), text)?;
            }
        }
        if let Some(monitor) = &self.monitor {
            std::fs::create_dir(monitor).at_path("make the monitoring group (linux.intelRdt.enableMonitoring)", monitor)?;
        }
        Ok(())
    }

    /// Changes the shares of the class, which other containers may be in, too; what is not given stays.
    ///
    /// # Errors
    /// `Invalid` names the schema; what the kernel refuses.
    pub fn update(&self, asked: &LinuxIntelRdt, id: &str) -> Result<(), Error> {
        let schemata = Wish::compile(asked, id)?.schemata;
        schemata.iter().try_for_each(|text| self.write(&self.class.join("schemata"), text))
    }

    /// Moves a process into the groups; what it clones is born there.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn join(&self, pid: i32) -> Result<(), Error> {
        // The monitoring group takes only members of its class.
        for directory in std::iter::once(&self.class).chain(&self.monitor) {
            self.write(&directory.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes what was made for the container; idempotent.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self) -> Result<(), Error> {
        for directory in self.monitor.iter().chain(self.made.then_some(&self.class)) {
            match std::fs::remove_dir(directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.at_path("remove", directory)?,
            }
        }
        Ok(())
    }

    /// One write, with the kernel's own words when it refuses.
    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        std::fs::write(path, format!("{text}\n")).map_err(|source| {
            let depth = self.class.ancestors().find(|directory| directory.join("info").is_dir());
            let why = depth.and_then(|mount| std::fs::read_to_string(mount.join("info/last_cmd_status")).ok());
            let why = why.map(|why| why.trim().to_owned()).filter(|why| !why.is_empty() && why != "ok");
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            Error::Step { step: format!("write \"{}\" to {}{why}", text.escape_debug(), path.display()), source }
        })
    }
}

impl Wish {
    fn compile(asked: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let invalid = |text: String| Err(Error::Invalid(text));
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let named = given(asked.clos_id());
        // "/" is the default class of service.
        let class = named.as_deref().map_or(id, |name| if name == "/" { "" } else { name }).to_owned();
        if RESERVED.contains(&class.as_str()) || class.contains(['/', '\n']) {
            return invalid(format!("linux.intelRdt.closID \"{}\" cannot be the name of a class of service", class.escape_debug()));
        }
        let bandwidth = given(asked.mem_bw_schema());
        if let Some(text) = bandwidth.as_deref().filter(|text| !text.starts_with("MB:") || text.contains('\n')) {
            return invalid(format!("linux.intelRdt.memBwSchema \"{}\" must be one line that begins with \"MB:\"", text.escape_debug()));
        }
        let cache = given(asked.l3_cache_schema()).unwrap_or_default();
        // The bandwidth has a field of its own.
        let lines = cache.lines().filter(|line| !line.trim_start().starts_with("MB:")).map(str::to_owned).chain(bandwidth);
        let first = lines.filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n");
        let last = asked.schemata().iter().flatten().filter(|line| !line.trim().is_empty()).cloned().collect::<Vec<_>>().join("\n");
        // "schemata" comes last and wins.
        let schemata: Vec<String> = [first, last].into_iter().filter(|text| !text.is_empty()).collect();
        #[allow(deprecated)]
        let (cache_monitor, bandwidth_monitor) = (asked.enable_cmt().unwrap_or(false), asked.enable_mbm().unwrap_or(false));
        let monitor = asked.enable_monitoring().unwrap_or(false);
        let all: [(bool, &'static str, &'static [&'static str]); 3] = [
            (cache_monitor, "linux.intelRdt.enableCMT", &["llc_occupancy"]),
            (bandwidth_monitor, "linux.intelRdt.enableMBM", &["mbm_total_bytes", "mbm_local_bytes"]),
            (monitor, "linux.intelRdt.enableMonitoring", &["llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"]),
        ];
        let features = all.into_iter().filter(|(asked, ..)| *asked).map(|(_, field, features)| (field, features)).collect();
        let expected = named.is_some() && schemata.is_empty();
        Ok(Wish { class, expected, schemata, monitor: monitor.then(|| id.to_owned()), features })
    }

    /// The wish beneath a mount: checks what is there.
    fn examine(self, mount: &Path) -> Result<Group, Error> {
        let known = std::fs::read_to_string(mount.join("info/L3_MON/mon_features")).unwrap_or_default();
        if let Some((field, _)) = self.features.iter().find(|(_, features)| !known.lines().any(|line| features.contains(&line.trim()))) {
            return Err(Error::Unsupported(format!("{field} on this machine")));
        }
        let class = if self.class.is_empty() { mount.to_owned() } else { mount.join(&self.class) };
        let exists = class.is_dir();
        if !exists && self.expected {
            let text = format!("linux.intelRdt.closID \"{}\": there is no class of service {}", self.class, class.display());
            return Err(Error::Invalid(format!("{text}, and no schema to make it with")));
        }
        if exists && !self.schemata.is_empty() {
            let path = class.join("schemata");
            let present = std::fs::read_to_string(&path).at_path("read", &path)?;
            let (present, wanted) = (parse(&present), parse(&self.schemata.join("\n")));
            if let Some((resource, _)) = wanted.iter().find(|(resource, shares)| present.get(*resource) != Some(shares)) {
                let text = format!("linux.intelRdt: the class of service {} exists with another share of {resource}", class.display());
                return Err(Error::Invalid(text));
            }
        }
        let monitor = self.monitor.map(|name| class.join("mon_groups").join(name));
        Ok(Group { class, made: !exists, monitor, schemata: self.schemata })
    }
}

/// Shares by resource and domain, in one spelling.
fn parse(schemata: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (resource, shares) in schemata.lines().filter_map(|line| line.trim().split_once(':')) {
        let share = |share: &str| {
            let (domain, value) = share.split_once('=')?;
            let value = value.trim();
            // Bit masks are hexadecimal, bandwidth is decimal.
            let plain = if resource.starts_with("MB") { value.parse().ok() } else { u64::from_str_radix(value, 16).ok() };
            Some((domain.trim().to_owned(), plain.map_or_else(|| value.to_owned(), |plain| plain.to_string())))
        };
        all.insert(resource.to_owned(), shares.split(';').filter_map(share).collect());
    }
    all
}

/// The mount point of the resctrl file system.
fn find(table: &[u8]) -> Option<PathBuf> {
    mountinfo::parse(table).find(|mount| mount.kind == b"resctrl").map(|mount| mount.point())
}

#[cfg(test)]
mod tests {
    use super::{Group, Wish, find, parse};
    use crate::runtime::Error;
    use serde_json::{Value, json};
    use std::path::{Path, PathBuf};

    /// A directory that looks like a resctrl of one cache.
    struct Fake(PathBuf);

    impl Fake {
        fn new() -> Self {
            let base = std::env::temp_dir().join(format!("rcon-resctrl-{}", crate::base::random_hex(8)));
            std::fs::create_dir_all(base.join("info/L3_MON")).unwrap();
            std::fs::create_dir_all(base.join("there/mon_groups")).unwrap();
            std::fs::write(base.join("info/L3_MON/mon_features"), "llc_occupancy\n").unwrap();
            std::fs::write(base.join("there/schemata"), "    L3:0=00f0\n    MB:0=20\n").unwrap();
            Fake(base)
        }

        fn examine(&self, asked: &Value) -> Result<Group, Error> {
            Wish::compile(&serde_json::from_value(asked.clone()).unwrap(), "web")?.examine(&self.0)
        }

        fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.0.join(path)).unwrap()
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn shares_are_changed() {
        let fake = Fake::new();
        let group = fake.examine(&json!({"closID": "there"})).unwrap();
        let update = |asked: Value| group.update(&serde_json::from_value(asked).unwrap(), "web");
        update(json!({"l3CacheSchema": "L3:0=ff"})).unwrap();
        assert_eq!(fake.read("there/schemata"), "L3:0=ff\n");
        update(json!({"memBwSchema": "MB:0=50"})).unwrap();
        assert_eq!(fake.read("there/schemata"), "MB:0=50\n");
        assert!(update(json!({"memBwSchema": "L3:0=50"})).is_err());
    }

    #[test]
    fn a_class_is_made_and_removed() {
        let fake = Fake::new();
        let asked = json!({"l3CacheSchema": "L3:0=f\nMB:0=90", "memBwSchema": "MB:0=30", "schemata": ["L2:0=1", "L3:0=ff"]});
        let group = fake.examine(&asked).unwrap();
        assert!(group.made && group.class == fake.0.join("web"));
        assert_eq!(group.schemata, ["L3:0=f\nMB:0=30", "L2:0=1\nL3:0=ff"]);
        group.make().unwrap();
        // The last write; the kernel keeps both.
        assert_eq!(fake.read("web/schemata"), "L2:0=1\nL3:0=ff\n");
        group.join(42).unwrap();
        assert_eq!(fake.read("web/tasks"), "42\n");
        // A kernel's directory is removed with its files.
        std::fs::remove_file(fake.0.join("web/schemata")).unwrap();
        std::fs::remove_file(fake.0.join("web/tasks")).unwrap();
        let kept: Group = serde_json::from_value(serde_json::to_value(&group).unwrap()).unwrap();
        kept.remove().unwrap();
        kept.remove().unwrap();
        assert!(!group.class.exists());
    }

    #[test]
    fn what_is_there_is_joined_and_stays() {
        let fake = Fake::new();
        for asked in [
            json!({"closID": "there", "enableMonitoring": true}),
            json!({"closID": "there", "l3CacheSchema": "L3:0=f0", "enableMonitoring": true, "enableCmt": true}),
        ] {
            let group = fake.examine(&asked).unwrap();
            group.make().unwrap();
            group.join(42).unwrap();
            assert_eq!((fake.read("there/tasks"), fake.read("there/mon_groups/web/tasks")), ("42\n".to_owned(), "42\n".to_owned()));
            std::fs::remove_file(fake.0.join("there/mon_groups/web/tasks")).unwrap();
            group.remove().unwrap();
            assert!(fake.0.join("there/schemata").exists() && !fake.0.join("there/mon_groups/web").exists());
        }
        let group = fake.examine(&json!({"closID": "/"})).unwrap();
        assert_eq!((group.class.as_path(), group.made), (fake.0.as_path(), false));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let fake = Fake::new();
        for (message, asked) in [
            ("closID \"absent\"", json!({"closID": "absent"})),
            ("closID \"..\"", json!({"closID": ".."})),
            ("closID \"a/b\"", json!({"closID": "a/b"})),
            ("closID \"info\"", json!({"closID": "info", "l3CacheSchema": "L3:0=1"})),
            ("memBwSchema", json!({"memBwSchema": "L3:0=f"})),
            ("memBwSchema", json!({"memBwSchema": "MB:0=1\nL3:0=f"})),
            ("another share of L3", json!({"closID": "there", "l3CacheSchema": "L3:0=f"})),
            ("another share of MB", json!({"closID": "there", "schemata": ["L3:0=f0", "MB:0=30"]})),
            ("enableMBM on this machine", json!({"enableMbm": true})),
        ] {
            let error = fake.examine(&asked).unwrap_err().to_string();
            assert!(error.contains(message), "{message}: {error}");
        }
    }

    #[test]
    fn refusals_have_the_kernels_words() {
        let fake = Fake::new();
        std::fs::write(fake.0.join("info/last_cmd_status"), "Mask out of range\n").unwrap();
        let group = fake.examine(&json!({"closID": "new", "l3CacheSchema": "L3:0=fffff"})).unwrap();
        std::fs::create_dir_all(fake.0.join("new/schemata")).unwrap();
        let error = group.write(&group.class.join("schemata"), "L3:0=fffff").unwrap_err().to_string();
        assert!(error.starts_with("cannot write \"L3:0=fffff\" to ") && error.ends_with("/new/schemata (Mask out of range)"), "{error}");
    }

    #[test]
    fn spellings_and_mounts_are_read() {
        assert_eq!(parse("  L3:0=00f; 1=f\nMB:0= 20"), parse("L3:1=0f;0=f\nMB:0=20"));
        assert_ne!(parse("L3:0=f"), parse("L3:0=f;1=f"));
        let table = b"30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n31 25 0:27 / /sys/fs/res\\040ctrl rw shared:1 - resctrl resctrl rw\n";
        assert_eq!(find(table).as_deref(), Some(Path::new("/sys/fs/res ctrl")));
        assert_eq!(find(b"30 25 0:26 / /resctrl rw - tmpfs tmpfs rw\n"), None);
    }
}
