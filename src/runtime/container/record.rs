//! `state.json`: what is known of a container, from before anything of it is made. One line of JSON, followed by a newer
//! one when the container has a process; the last whole line counts.

use super::Id;
use crate::base::fs;
use crate::runtime::listener::Listener;
use crate::runtime::{Error, cgroup, resctrl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The format of the file; a reader refuses what is newer.
const VERSION: u32 = 1;

/// The durable part of a container's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// The config's.
    pub oci_version: String,
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// User id of whoever created it.
    pub owner: u32,
    pub annotations: BTreeMap<String, String>,
    /// None: the container has no group (rootless without delegation).
    pub group: Option<cgroup::Group>,
    /// The init process; None until it is cloned.
    pub init: Option<Init>,
    /// Its processes keep the session keyring of whoever makes them (`--no-new-keyring`).
    #[serde(default)]
    pub keep_keyring: bool,
    /// Where the notifications of its filter go.
    #[serde(default)]
    pub listener: Option<Listener>,
    /// Its groups of a resctrl file system.
    #[serde(default)]
    pub resctrl: Option<resctrl::Group>,
    /// Whether it is the first process of a pid namespace of its own: its end ends all others.
    pub own_pid_namespace: bool,
    /// Whether the config has poststart or poststop hooks.
    #[serde(default)]
    pub later_hooks: bool,
}

/// A process: the number may be given to another one, both together not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Init {
    pub pid: i32,
    /// Clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

impl Record {
    pub(super) fn new(id: &Id, oci_version: &str, bundle: PathBuf, rootfs: PathBuf) -> Self {
        Record {
            version: VERSION,
            oci_version: oci_version.to_owned(),
            id: id.as_str().to_owned(),
            bundle,
            rootfs,
            created: crate::base::Timestamp::now().to_string(),
            owner: rustix::process::getuid().as_raw(),
            annotations: BTreeMap::new(),
            group: None,
            init: None,
            keep_keyring: false,
            resctrl: None,
            listener: None,
            own_pid_namespace: false,
            later_hooks: false,
        }
    }

    /// A directory without a record is a container of which nothing has been made yet.
    pub(super) fn read(path: &Path, id: &Id) -> Result<Self, Error> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::new(id, "", PathBuf::new(), PathBuf::new())),
            other => fs::Context::on(other, "read", path)?,
        };
        let record: Record = serde_json::from_slice(last_line(&text)).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        if record.version > VERSION {
            return Err(Error::Unsupported(format!("version {} of {}", record.version, path.display())));
        }
        // 0 and negative numbers mean groups of processes to kill(2).
        if let Some(pid) = record.init.map(|init| init.pid).filter(|pid| *pid <= 0) {
            return Err(Error::Invalid(format!("{} names {pid} as its init process", path.display())));
        }
        Ok(record)
    }

    /// Writes it as the only line.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(fs::replace(path, &self.line(path)?, 0o600)?)
    }

    /// Writes it behind what the file has: from then on this line counts. A rename would first have to give the old text's
    /// memory back, which takes longer than all else between the stage's word and its program.
    pub(super) fn append(&self, path: &Path) -> Result<(), Error> {
        Ok(fs::append(path, &self.line(path)?)?)
    }

    fn line(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let mut line = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The last line that was written to its end.
fn last_line(text: &[u8]) -> &[u8] {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(text, |end| &text[..end]);
    whole.iter().rposition(|byte| *byte == b'\n').map_or(whole, |before| &whole[before + 1..])
}

#[cfg(test)]
mod tests {
    use super::{Id, Init, Record};

    #[test]
    fn a_record_of_no_process_is_refused() {
        let path = std::env::temp_dir().join(format!("rcon-record-{}", crate::base::random_hex(8)));
        let id = Id::parse("a").unwrap();
        let mut record = Record::new(&id, "1.2.0", "/b".into(), "/r".into());
        for (pid, good) in [(7, true), (0, false), (-1, false), (i32::MIN, false)] {
            record.init = Some(Init { pid, start_ticks: 1 });
            record.write(&path).unwrap();
            let read = Record::read(&path, &id);
            assert_eq!(read.is_ok(), good, "{pid}");
        }
        record.init = None;
        record.write(&path).unwrap();
        record.init = Some(Init { pid: 9, start_ticks: 2 });
        record.append(&path).unwrap();
        assert_eq!(Record::read(&path, &id).unwrap(), record);
        // Cut off while it was written.
        crate::base::fs::append(&path, b"{\"version\":1,").unwrap();
        assert_eq!(Record::read(&path, &id).unwrap(), record);
        for text in ["", "{", "[]", "null", &"[".repeat(100_000)] {
            std::fs::write(&path, text).unwrap();
            assert!(Record::read(&path, &id).is_err(), "{text:.20}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
