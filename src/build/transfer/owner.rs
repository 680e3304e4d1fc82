//! `--chown`: `user[:group]` to numbers, by the passwd and group files of the root that is built.
//!
//! Digits alone are a number and need no entry. A name that is in no file is an error: BuildKit takes it for 0, and a
//! file that was to be somebody's silently is root's. The group of a user named by number is the same number (tried with
//! buildah), of a user named by name that of its entry.

use super::{Error, Result};
use crate::base::rooted;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Larger files are refused: an image may hold anything.
const FILE_LIMIT: u64 = 10 << 20;

/// Resolves the text of `--chown` beneath a root.
pub(super) fn resolve(text: &str, root: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let wrong = |why: String| Error::Owner { text: text.to_owned(), why };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group).filter(|group| !group.is_empty())));
    let mut named = None;
    let uid = match number(user).map_err(wrong)? {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => {
            let passwd = read(root, "etc/passwd").map_err(wrong)?;
            let (uid, gid) = entry(&passwd, user).ok_or_else(|| wrong(unknown("user", user, "passwd")))?;
            named = gid;
            uid
        }
    };
    let gid = match group {
        None => named.unwrap_or(uid),
        Some(group) => match number(group).map_err(wrong)? {
            Some(gid) => gid,
            None => entry(&read(root, "etc/group").map_err(wrong)?, group).ok_or_else(|| wrong(unknown("group", group, "group")))?.0,
        },
    };
    Ok((uid, gid))
}

fn unknown(what: &str, name: &str, file: &str) -> String {
    format!("there is no {what} \"{name}\" in /etc/{file} of the image: add it before, or name it by number")
}

/// Some for digits only; an error if no id is so large.
fn number(text: &str) -> std::result::Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // The last number means "nobody" to the kernel.
    text.parse::<u32>().ok().filter(|id| *id != u32::MAX).map(Some).ok_or_else(|| format!("{text} is out of range: the largest id is 4294967294"))
}

/// The third and the fourth field of the line of a name, the latter if it is a number.
fn entry(file: &[u8], name: &str) -> Option<(u32, Option<u32>)> {
    let field = |field: Option<&[u8]>| std::str::from_utf8(field?).ok().and_then(|text| number(text).ok().flatten());
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let found = fields.next() == Some(name.as_bytes());
        let id = field(fields.nth(1));
        let next = field(fields.next());
        id.filter(|_| found).map(|id| (id, next))
    })
}

/// Empty if it is absent.
fn read(root: BorrowedFd<'_>, name: &str) -> std::result::Result<Vec<u8>, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rooted::open(root, Path::new(name), flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(e) => return Err(format!("/{name} of the image cannot be opened: {e}")),
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| format!("/{name} of the image cannot be examined: {e}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("/{name} of the image is not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(FILE_LIMIT + 1).read_to_end(&mut text).map_err(|e| format!("/{name} of the image cannot be read: {e}"))?;
    if text.len() as u64 > FILE_LIMIT { Err(format!("/{name} of the image is larger than 10 MiB")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_come_from_the_root_and_unknown_ones_are_refused() {
        let root = std::env::temp_dir().join(format!("rcon-owner-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:34::/:\nbad:x:y:1::/:\n12:x:5:6::/:\n").unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nadm:x:99:\n").unwrap();
        let fd = std::fs::File::open(&root).unwrap();
        for (text, expected) in [
            ("web", (33, 34)),
            ("web:", (33, 34)),
            ("web:adm", (33, 99)),
            ("7", (7, 7)),
            ("12", (12, 12)),
            ("7:8", (7, 8)),
            ("0:adm", (0, 99)),
            (":9", (0, 9)),
        ] {
            assert_eq!(resolve(text, fd.as_fd()).unwrap(), expected, "{text}");
        }
        for bad in ["nobody", "web:none", "bad", "4294967295", "99999999999", "-1", "web:adm:x"] {
            assert!(resolve(bad, fd.as_fd()).is_err(), "{bad}");
        }
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.join("etc/passwd")).unwrap();
        assert!(resolve("web", fd.as_fd()).unwrap_err().to_string().contains("no user \"web\""), "the link leads nowhere inside of the root");
        std::fs::remove_dir_all(root).unwrap();
    }
}
