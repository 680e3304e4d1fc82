//! Holes of files: they take no room where they are made, but a tar has them as zeros.
//!
//! Whoever makes a layer reads and hashes every byte of them, and whoever unpacks it elsewhere writes them; so there may be as
//! many as this disk could hold.

use super::{UnpackError, shown};
use rustix::fs::StatVfs;
use std::os::fd::AsFd;

/// What a file may lack before it counts as one with holes: file systems keep the least files within their own records, and
/// those that compress take less than was written.
const SMALL: u64 = 1 << 20;

/// Counts the holes of the files of one layer.
#[derive(Debug)]
pub struct Holes {
    found: u64,
    most: u64,
    /// The settings say how many, not the disk.
    set: bool,
}

impl Holes {
    /// For files that are, or will be, on the file system of `directory`; `limit` is the number that the settings give.
    ///
    /// # Errors
    /// It cannot be asked for its free space.
    pub fn new(directory: impl AsFd, limit: Option<u64>) -> rustix::io::Result<Self> {
        let most = match limit {
            Some(most) => most,
            None => free_of(&rustix::fs::fstatvfs(directory)?),
        };
        Ok(Holes { found: 0, most, set: limit.is_some() })
    }

    /// One more file, which is `size` bytes long and takes `stored`.
    ///
    /// # Errors
    /// [`UnpackError::Sparse`]: these are too many.
    pub fn add(&mut self, path: &[u8], size: u64, stored: u64) -> Result<(), UnpackError> {
        let holes = size.saturating_sub(stored);
        if holes < SMALL {
            return Ok(());
        }
        self.found = self.found.saturating_add(holes);
        if self.found <= self.most {
            return Ok(());
        }
        Err(UnpackError::Sparse { path: shown(path), size, stored, holes: self.found, most: self.most, set: self.set })
    }
}

/// Bytes of it that this process may still write.
pub fn free_of(stat: &StatVfs) -> u64 {
    // The reserve of the file system is root's to use (mke2fs -m).
    let blocks = if rustix::process::geteuid().is_root() { stat.f_bfree } else { stat.f_bavail };
    blocks.saturating_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_of_all_files_count_together_and_small_ones_not() {
        let mut holes = Holes::new(std::fs::File::open("/").unwrap(), Some(3 << 20)).unwrap();
        (0..100).for_each(|_| holes.add(b"small", SMALL - 1, 0).unwrap());
        holes.add(b"a", 2 << 20, 0).unwrap();
        holes.add(b"whole", 1 << 40, 1 << 40).unwrap();
        holes.add(b"b", 5 << 20, 4 << 20).unwrap();
        let error = holes.add(b"dir/c", 4 << 20, 3 << 20).unwrap_err().to_string();
        assert!(error.starts_with("\"dir/c\" is 4.194MB long with 3.146MB of data") && error.contains("image.limits.max_layer_holes"), "{error}");
    }

    #[test]
    fn the_disk_itself_is_the_limit() {
        let mut holes = Holes::new(std::fs::File::open("/").unwrap(), None).unwrap();
        holes.add(b"a", 2 << 20, 0).unwrap();
        let error = holes.add(b"b", u64::MAX, 0).unwrap_err().to_string();
        assert!(error.contains("free on this disk"), "{error}");
    }
}
