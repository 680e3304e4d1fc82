//! Finding the program: PATH lookup inside the root, with Docker's messages for what cannot be run.

use super::error::{Failure, FailureKind};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Used when the environment has no PATH (Docker's default).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds `name` as the shell would, seen from inside the root with the final uid and working directory.
/// The access test uses the real ids, as `execve` will.
pub(super) fn find(name: &str, env: &[String]) -> Result<CString, Failure> {
    if name.contains('/') {
        return match examine(Path::new(name)) {
            Ok(()) => program(Path::new(name)),
            Err(errno) => Err(refusal(name, errno)),
        };
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for directory in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = PathBuf::from(if directory.is_empty() { "." } else { directory }).join(name);
        match examine(&candidate) {
            Ok(()) => return program(&candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(refusal(name, Errno::ACCESS));
    }
    Err(Failure { kind: FailureKind::NotFound, text: format!("exec: \"{name}\": executable file not found in $PATH"), errno: libc::ENOENT })
}

fn program(path: &Path) -> Result<CString, Failure> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Failure::invalid("the command contains a NUL byte"))
}

fn examine(path: &Path) -> Result<(), Errno> {
    let status = stat(path)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile => accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        _ => Err(Errno::ACCESS),
    }
}

/// The failure of running `name`: 127 for what is not there, 126 for the rest.
pub(super) fn refusal(name: &str, errno: Errno) -> Failure {
    let (kind, why) = match errno {
        Errno::NOENT => (FailureKind::NotFound, "no such file or directory".to_owned()),
        Errno::NOTDIR => (FailureKind::NotFound, "not a directory".to_owned()),
        Errno::ACCESS => (FailureKind::NotExecutable, "permission denied".to_owned()),
        Errno::PERM => (FailureKind::NotExecutable, "operation not permitted".to_owned()),
        Errno::ISDIR => (FailureKind::NotExecutable, "is a directory".to_owned()),
        Errno::NOEXEC => (FailureKind::NotExecutable, "exec format error".to_owned()),
        Errno::TOOBIG => (FailureKind::NotExecutable, "argument list too long".to_owned()),
        other => (FailureKind::NotExecutable, std::io::Error::from(other).to_string()),
    };
    Failure { kind, text: format!("exec: \"{name}\": {why}"), errno: errno.raw_os_error() }
}
