//! Digests of files that were read before, by what the kernel says about them: an unchanged context is not read again.
//!
//! Invariant: a digest is kept only of a file that was last changed some time before it was read, so that a change
//! within the clock's resolution cannot hide behind the same times. The memo may be lost at any moment.

use super::Identity;
use crate::base::fs::{self, FsError};
use crate::oci::Digest;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes with the form of a record.
const MAGIC: &[u8; 16] = b"rcon digests 1\n\0";
/// Two device numbers, inode, size, twice seconds and nanoseconds, digest.
const RECORD: usize = 4 + 4 + 8 + 8 + 12 + 12 + 32;
/// Most records kept, about 80 MB.
const LIMIT: usize = 1 << 20;
/// A change in the last seconds may be followed by another with the same time (coarse clocks, foreign file servers).
const SETTLED: i64 = 2;

/// Known digests; written back by [`Memo::save`].
#[derive(Debug, Default)]
pub struct Memo {
    path: Option<PathBuf>,
    known: HashMap<Identity, [u8; 32]>,
    /// Asked for or found by this process: these survive when there are too many.
    used: HashMap<Identity, [u8; 32]>,
    fresh: bool,
}

impl Memo {
    /// Reads what is known. A file that is missing, damaged or of another version counts as empty.
    pub fn open(path: &Path) -> Self {
        let mut memo = Memo { path: Some(path.to_path_buf()), ..Memo::default() };
        let Ok(bytes) = std::fs::read(path) else { return memo };
        if let Some(records) = bytes.strip_prefix(MAGIC) {
            memo.known = records.chunks_exact(RECORD).map(decode).collect();
        }
        memo
    }

    #[cfg(test)]
    /// Knows nothing and keeps nothing on disk.
    pub fn forgetful() -> Self {
        Memo::default()
    }

    pub(super) fn get(&mut self, identity: &Identity) -> Option<Digest> {
        let digest = *self.known.get(identity).or_else(|| self.used.get(identity))?;
        if self.path.is_some() {
            self.used.insert(*identity, digest);
        }
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}").parse().ok()
    }

    pub(super) fn set(&mut self, identity: &Identity, digest: &Digest) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
        if identity.changed.0 > now - SETTLED || identity.modified.0 > now - SETTLED {
            return;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digest.hex().as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0);
        }
        self.used.insert(*identity, bytes);
        self.fresh = true;
    }

    /// Writes down what is new, if anything is. Of two builds that write at once one wins, and nothing is wrong.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&mut self) -> Result<(), FsError> {
        let Some(path) = self.path.as_ref().filter(|_| self.fresh) else { return Ok(()) };
        let mut bytes = MAGIC.to_vec();
        let old = self.known.iter().filter(|(identity, _)| !self.used.contains_key(identity));
        for (identity, digest) in self.used.iter().chain(old).take(LIMIT) {
            encode(&mut bytes, identity, digest);
        }
        fs::replace(path, &bytes, 0o600)?;
        self.fresh = false;
        Ok(())
    }
}

fn encode(out: &mut Vec<u8>, identity: &Identity, digest: &[u8; 32]) {
    out.extend(identity.device.0.to_le_bytes());
    out.extend(identity.device.1.to_le_bytes());
    out.extend(identity.inode.to_le_bytes());
    out.extend(identity.size.to_le_bytes());
    for (seconds, nanos) in [identity.modified, identity.changed] {
        out.extend(seconds.to_le_bytes());
        out.extend(nanos.to_le_bytes());
    }
    out.extend(digest);
}

fn decode(record: &[u8]) -> (Identity, [u8; 32]) {
    let mut at = 0;
    let mut take = |count: usize| {
        let mut bytes = [0u8; 8];
        bytes[..count].copy_from_slice(&record[at..at + count]);
        at += count;
        u64::from_le_bytes(bytes)
    };
    let short = |take: &mut dyn FnMut(usize) -> u64| u32::try_from(take(4)).unwrap_or(0);
    let device = (short(&mut take), short(&mut take));
    let (inode, size) = (take(8), take(8));
    let modified = (take(8).cast_signed(), short(&mut take));
    let changed = (take(8).cast_signed(), short(&mut take));
    let mut digest = [0; 32];
    digest.copy_from_slice(&record[RECORD - 32..]);
    (Identity { device, inode, size, modified, changed }, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_back_and_recent_changes_do_not_count() {
        let path = std::env::temp_dir().join(format!("rcon-memo-{}", crate::base::random_hex(8)));
        let old = Identity { device: (1, 2), inode: 3, size: u64::MAX, modified: (-5, 999_999_999), changed: (7, 8) };
        let recent = Identity { changed: (i64::MAX / 2, 0), ..old };
        let mut memo = Memo::open(&path);
        memo.set(&old, &Digest::of(b"a"));
        memo.set(&recent, &Digest::of(b"b"));
        memo.save().unwrap();
        let mut memo = Memo::open(&path);
        assert_eq!(memo.get(&old), Some(Digest::of(b"a")));
        assert_eq!(memo.get(&recent), None);
        assert_eq!(memo.get(&Identity { inode: 4, ..old }), None);
        std::fs::write(&path, b"damaged").unwrap();
        assert_eq!(Memo::open(&path).get(&old), None);
        std::fs::remove_file(path).unwrap();
    }
}
