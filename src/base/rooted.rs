//! Opening paths beneath a directory whose content somebody else writes, as a process rooted there would.
//!
//! Invariant: no path leaves the root and no magic link is followed, whatever is renamed meanwhile.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// How often a `..` that raced with a rename is resolved again: enough for an accident, an end for an attack.
const RACE_TRIES: usize = 64;

/// Opens an existing path, close-on-exec; symbolic links are resolved as if `root` were `/`. Empty is the root.
///
/// # Errors
/// As openat2(2); EAGAIN if renames raced with every attempt.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    resolve(root, path, flags, IN_ROOT)
}

/// Like [`open`], refusing symbolic links anywhere.
///
/// # Errors
/// As [`open`]; ELOOP for a symbolic link.
pub fn open_plain(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    resolve(root, path, flags, IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    for _ in 0..RACE_TRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // openat2(2): a rename raced with `..`; the caller is asked to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_and_plain_refuses_them() {
        let base = std::env::temp_dir().join(format!("rcon-rooted-{}", crate::base::random_hex(8)));
        let inside = base.join("root");
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        std::fs::write(base.join("secret"), "outside").unwrap();
        std::fs::write(inside.join("secret"), "inside").unwrap();
        symlink("/secret", inside.join("etc/absolute")).unwrap();
        symlink("../../../secret", inside.join("etc/climbing")).unwrap();
        symlink("/proc/self/root", inside.join("etc/magic")).unwrap();
        let root = rustix::fs::open(&inside, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for path in ["secret", "/secret", "../secret", "etc/../../secret", "etc/absolute", "etc/climbing"] {
            let mut text = String::new();
            std::fs::File::from(open(root.as_fd(), Path::new(path), OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        assert_eq!(open_plain(root.as_fd(), Path::new("etc/absolute"), OFlags::PATH).unwrap_err(), Errno::LOOP);
        assert!(open_plain(root.as_fd(), Path::new("etc"), OFlags::PATH).is_ok());
        assert!(open(root.as_fd(), Path::new(""), OFlags::PATH | OFlags::DIRECTORY).is_ok());
        assert_eq!(open(root.as_fd(), Path::new("etc/magic/secret"), OFlags::PATH).unwrap_err(), Errno::NOENT, "there is no /proc in the root");
        let proc = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(open(proc.as_fd(), Path::new("root/etc"), OFlags::PATH).unwrap_err(), Errno::LOOP, "a magic link");
        std::fs::remove_dir_all(base).unwrap();
    }
}
