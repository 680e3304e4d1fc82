//! Where a monitor's warnings go: nobody sees its stderr, so they are appended to a file beside the container's log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file in the container's directory.
const NAME: &str = "monitor.log";
/// Beyond this the file begins anew: a warning that repeats for months must not fill a disk.
const LONGEST: u64 = 64 << 10;

/// Sends all warnings of this process to `<container>/monitor.log`. The file is made with the first one.
pub(super) fn keep_in(container_dir: &Path) {
    let path = container_dir.join(NAME);
    let writer = move || -> Box<dyn Write> { open(&path).unwrap_or_else(|_| Box::new(io::sink())) };
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::level_filters::LevelFilter::WARN).with_writer(writer).with_target(false).finish();
    // It fails only when one is set already; then that one serves.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Opened for each warning: an idle monitor holds no descriptor for what may never come.
fn open(path: &PathBuf) -> io::Result<Box<dyn Write>> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > LONGEST {
        file.set_len(0)?;
    }
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_appended_to_and_bounded() {
        let path = std::env::temp_dir().join(format!("rcon-warnings-{}", crate::base::random_hex(12)));
        let length = || std::fs::metadata(&path).unwrap().len();
        open(&path).unwrap().write_all(b"one\n").unwrap();
        open(&path).unwrap().write_all(&[b'x'; 65 << 10]).unwrap();
        assert_eq!(length(), 4 + (65 << 10));
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(length(), 4);
        std::fs::remove_file(&path).unwrap();
    }
}
