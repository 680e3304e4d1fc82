//! A file that takes its name when it is whole.
//!
//! Until then it has none (open(2), `O_TMPFILE`), so that nothing of it outlives a killed process. On a filesystem
//! without such files it is written under a name of its own beside the place, and a kill leaves that.

use super::fs::{Context, FsError};
use super::random_hex;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file being written; dropped before [`Staged::commit`], it is gone.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: PathBuf,
    /// Its name for now, where it must have one.
    beside: Option<PathBuf>,
}

impl Staged {
    /// # Errors
    /// The directory of `path` cannot be written to.
    pub fn new(path: &Path) -> Result<Self, FsError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = Mode::from_raw_mode(0o666);
        let nameless = rustix::fs::open(parent, OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, mode);
        let (file, beside) = match nameless {
            Ok(file) => (file.into(), None),
            // EISDIR: a kernel or filesystem that takes the flag for a directory's.
            Err(Errno::NOTSUP | Errno::ISDIR | Errno::INVAL) => {
                let beside = named_beside(path);
                (File::create_new(&beside).on("create", &beside)?, Some(beside))
            }
            Err(error) => return Err(error).on("create a file in", parent),
        };
        Ok(Staged { file, path: path.to_path_buf(), beside })
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name; what had that name is replaced at once.
    ///
    /// # Errors
    /// The name cannot be given.
    pub fn commit(mut self) -> Result<(), FsError> {
        let beside = match self.beside.take() {
            Some(beside) => beside,
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                match rustix::fs::linkat(CWD, own.as_str(), CWD, &self.path, AtFlags::SYMLINK_FOLLOW) {
                    Err(Errno::EXIST) => {}
                    other => return other.on("create", &self.path),
                }
                // linkat(2) replaces nothing, so the whole file has a name of its own for this moment.
                let beside = named_beside(&self.path);
                rustix::fs::linkat(CWD, own.as_str(), CWD, &beside, AtFlags::SYMLINK_FOLLOW).on("create", &beside)?;
                beside
            }
        };
        let renamed = std::fs::rename(&beside, &self.path).on("replace", &self.path);
        if renamed.is_err() {
            self.beside = Some(beside);
        }
        renamed
    }
}

fn named_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", random_hex(8)));
    PathBuf::from(name)
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // A stray file of our own name: nothing else is lost.
            drop(std::fs::remove_file(beside));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = std::env::temp_dir().join(format!("rcon-staged-{}", random_hex(8)));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("file");
        let names = || std::fs::read_dir(&directory).unwrap().count();
        let mut given_up = Staged::new(&path).unwrap();
        given_up.file().write_all(b"half").unwrap();
        drop(given_up);
        assert_eq!(names(), 0);
        for text in ["first", "second"] {
            let mut staged = Staged::new(&path).unwrap();
            staged.file().write_all(text.as_bytes()).unwrap();
            staged.commit().unwrap();
            assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names()), (text, 1));
        }
        std::fs::create_dir(directory.join("taken")).unwrap();
        assert!(Staged::new(&directory.join("taken")).unwrap().commit().is_err());
        assert_eq!(names(), 2);
        assert!(Staged::new(&directory.join("none/file")).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
