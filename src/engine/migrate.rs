//! `system migrate`: what an upgrade leaves to do. The schema is migrated by whichever command comes first; here the stored
//! documents are written anew in today's form, and containers are found whose monitor is an older binary.

use super::*;
use crate::monitor::Live;
use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;

/// What a migration found and did.
#[derive(Debug, Clone, Default)]
pub struct Migration {
    /// Version of the schema before this command, and now.
    pub schema: (i64, i64),
    /// Stored documents, and those that were written anew.
    pub records: (usize, usize),
    /// Containers that run.
    pub running: usize,
    /// Names of those whose monitor is another binary than this.
    pub outdated: Vec<String>,
}

impl Engine {
    /// Brings stored documents to today's form, and tells which containers run under another version of rcon.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn migrate(&self) -> Result<Migration> {
        let mut migration =
            Migration { schema: self.db.schema(), records: self.db.write(true, |tx| tx.rewrite_documents())?, ..Migration::default() };
        let mut known: HashMap<(u64, u64), bool> = HashMap::new();
        for view in self.list(false, &[])? {
            let Some(live) = Live::read(&self.privilege.roots.live(&view.record.id)) else { continue };
            migration.running += 1;
            let Ok(binary) = std::fs::File::open(format!("/proc/{}/exe", live.monitor_pid)) else { continue };
            let Ok(meta) = binary.metadata() else { continue };
            let same = *known.entry((meta.dev(), meta.ino())).or_insert_with(|| is_this_binary(binary));
            if !same {
                migration.outdated.push(view.record.name.as_str().to_owned());
            }
        }
        Ok(migration)
    }
}

/// Whether a file has the content of the running program. What cannot be read counts as another.
fn is_this_binary(other: std::fs::File) -> bool {
    let Ok(own) = std::fs::File::open("/proc/self/exe") else { return false };
    let (Ok(a), Ok(b)) = (own.metadata(), other.metadata()) else { return false };
    if a.len() != b.len() {
        return false;
    }
    let (mut a, mut b) = (BufReader::with_capacity(1 << 16, own), BufReader::with_capacity(1 << 16, other));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        match (a.read(&mut left), b.read(&mut right)) {
            (Ok(0), Ok(0)) => return true,
            (Ok(n), Ok(m)) if n == m && left[..n] == right[..n] => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_by_its_content() {
        assert!(is_this_binary(std::fs::File::open("/proc/self/exe").unwrap()));
        assert!(!is_this_binary(std::fs::File::open("/etc/passwd").unwrap()));
    }
}
