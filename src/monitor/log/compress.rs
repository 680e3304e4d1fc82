//! Compression of one rotated log file, a little at a time: the monitor has one thread, and the container's output must
//! not wait for a whole file.

use crate::base::fs::{self, Context, FsError};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much is compressed at once.
const SLICE: usize = 64 << 10;

/// A compression that is under way. What a crash leaves (`….tmp`) is overwritten by the next.
pub(super) struct Compressor {
    source: PathBuf,
    input: File,
    encoder: GzEncoder<File>,
}

/// The name of the compressed form.
pub(in crate::monitor) fn compressed(path: &Path) -> PathBuf {
    suffixed(path, ".gz")
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Compressor {
    pub(super) fn begin(source: &Path) -> Result<Self, FsError> {
        let input = File::open(source).on("open", source)?;
        let temporary = suffixed(source, ".gz.tmp");
        let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary).on("create", &temporary)?;
        Ok(Compressor { source: source.to_path_buf(), input, encoder: GzEncoder::new(output, Compression::fast()) })
    }

    /// Compresses at least `bytes` more; true: the compressed file has taken the place of the other.
    pub(super) fn go_on(&mut self, bytes: usize) -> Result<bool, FsError> {
        let mut buffer = vec![0; SLICE];
        let mut done = 0;
        while done <= bytes {
            let count = self.input.read(&mut buffer).on("read", &self.source)?;
            if count == 0 {
                return self.finish().map(|()| true);
            }
            self.encoder.write_all(&buffer[..count]).on("compress", &self.source)?;
            done += count;
        }
        Ok(false)
    }

    fn finish(&mut self) -> Result<(), FsError> {
        self.encoder.try_finish().on("compress", &self.source)?;
        let temporary = suffixed(&self.source, ".gz.tmp");
        std::fs::rename(&temporary, compressed(&self.source)).on("rename", &temporary)?;
        // In between both are there; readers take the plain one.
        fs::remove_file(&self.source)
    }

    /// Gives up, for want of space: the plain file stays.
    pub(super) fn abandon(self) {
        // Nothing hangs on it: the next compression overwrites it.
        drop(fs::remove_file(&suffixed(&self.source, ".gz.tmp")));
    }
}
