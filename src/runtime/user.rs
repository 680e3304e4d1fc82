//! `name|uid[:group|gid]` → numbers, by the passwd and group files inside the root.
//!
//! Invariant: digits only is a number, never a name, and a number that does not fit is an error, never 0.

use super::error::{At, Failure};
use super::process::Identity;
use super::{User, tree};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Largest passwd or group file that is read (an image may hold anything).
const FILE_LIMIT: u64 = 10 << 20;
/// The kernel's "no id" (-1) can be nobody's.
const NO_ID: u32 = u32::MAX;

/// Who the process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// The exact supplementary groups.
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

/// Resolves an identity beneath `root`.
pub(super) fn resolve(root: BorrowedFd<'_>, identity: &Identity, home_wanted: bool) -> Result<Account, Failure> {
    match identity {
        Identity::Numeric { uid, gid, groups } => {
            let home = if home_wanted {
                let passwd = read(root, "etc/passwd")?;
                entries(&passwd).find(|entry| entry.number(2) == Some(*uid)).and_then(|entry| entry.text(5))
            } else {
                None
            };
            Ok(Account { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        Identity::Named { user, groups } => {
            let (passwd, group) = (read(root, "etc/passwd")?, read(root, "etc/group")?);
            named(user, groups, &passwd, &group)
        }
    }
}

/// The pure part: texts in, account out.
fn named(user: &User, added: &[u32], passwd: &[u8], group: &[u8]) -> Result<Account, Failure> {
    let (who, of) = match user.name.split_once(':') {
        Some((who, of)) => (who, Some(of).filter(|of| !of.is_empty())),
        None => (user.name.as_str(), None),
    };
    let mut account = Account::default();
    let wanted = if who.is_empty() { Some(0) } else { number(who)? };
    let entry = entries(passwd).find(|entry| match wanted {
        Some(uid) => entry.number(2) == Some(uid),
        None => entry.field(0) == who.as_bytes(),
    });
    let mut login = None;
    match (entry, wanted) {
        (Some(entry), _) => {
            account.uid = entry.number(2).ok_or_else(|| unknown("user", who))?;
            account.gid = entry.number(3).ok_or_else(|| unknown("user", who))?;
            account.home = entry.text(5);
            login = entry.text(0);
        }
        (None, Some(uid)) => account.uid = uid,
        (None, None) => return Err(unknown("user", who)),
    }
    match (of, &login) {
        (Some(of), _) => account.gid = group_number(of, group)?,
        // The user's own groups count only when none was named.
        (None, Some(login)) => {
            let member = |entry: &Entry<'_>| entry.field(3).split(|b| *b == b',').any(|name| name == login.as_bytes());
            account.groups = entries(group).filter(member).filter_map(|entry| entry.number(2)).collect();
        }
        (None, None) => {}
    }
    account.groups.insert(0, account.gid);
    account.groups.extend_from_slice(added);
    for name in &user.groups {
        account.groups.push(group_number(name, group)?);
    }
    let mut seen = std::collections::HashSet::new();
    account.groups.retain(|gid| seen.insert(*gid));
    Ok(account)
}

fn group_number(text: &str, group: &[u8]) -> Result<u32, Failure> {
    if let Some(gid) = number(text)? {
        return Ok(gid);
    }
    let entry = entries(group).find(|entry| entry.field(0) == text.as_bytes());
    entry.and_then(|entry| entry.number(2)).ok_or_else(|| unknown("group", text))
}

fn unknown(what: &str, name: &str) -> Failure {
    Failure::invalid(format!("unable to find {what} {name}: no matching entries in {} file", if what == "user" { "passwd" } else { "group" }))
}

/// Some for digits only; an error when the number is no valid id.
fn number(text: &str) -> Result<Option<u32>, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != NO_ID => Ok(Some(id)),
        _ => Err(Failure::invalid(format!("id {text} is out of range: the largest is {}", NO_ID - 1))),
    }
}

/// A line of colon-separated fields.
struct Entry<'a>(&'a [u8]);

impl<'a> Entry<'a> {
    fn field(&self, index: usize) -> &'a [u8] {
        self.0.split(|byte| *byte == b':').nth(index).unwrap_or_default()
    }

    fn number(&self, index: usize) -> Option<u32> {
        number(std::str::from_utf8(self.field(index)).ok()?).ok().flatten()
    }

    fn text(&self, index: usize) -> Option<String> {
        let text = String::from_utf8(self.field(index).to_vec()).ok()?;
        (!text.is_empty() && !text.contains('\0')).then_some(text)
    }
}

fn entries(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#').map(Entry)
}

/// A regular file beneath the root; empty when absent.
fn read(root: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>, Failure> {
    let path = Path::new(name);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match tree::open(root, path, flags) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.at_path("open the container's", path)?,
    };
    let status = fstat(&fd).at_path("examine the container's", path)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Failure::invalid(format!("the container's {name} is not a regular file")));
    }
    let mut text = Vec::with_capacity(usize::try_from(status.st_size).unwrap_or(0).min(1 << 16));
    std::fs::File::from(fd).take(FILE_LIMIT + 1).read_to_end(&mut text).at_path("read the container's", path)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Failure::invalid(format!("the container's {name} is larger than 10 MiB")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Account, User, named};

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\nweb:x:33:34::/srv/web:/bin/sh\n1000:x:5:6::/odd:/bin/sh\nbad:x:y:z::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,web\nweb:x:34:\naudio:x:29:web\n";

    fn find(name: &str, groups: &[&str]) -> Result<Account, super::Failure> {
        let user = User { name: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() };
        named(&user, &[], PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers_resolve_as_docker_resolves_them() {
        for (name, uid, gid, groups, home) in [
            ("", 0, 0, vec![0, 10], Some("/root")),
            ("root", 0, 0, vec![0, 10], Some("/root")),
            ("web", 33, 34, vec![34, 10, 29], Some("/srv/web")),
            ("33:audio", 33, 29, vec![29], Some("/srv/web")),
            ("1000", 1000, 0, vec![0], None),
            ("7:8", 7, 8, vec![8], None),
            ("web:", 33, 34, vec![34, 10, 29], Some("/srv/web")),
        ] {
            let account = find(name, &[]).unwrap();
            let expected = Account { uid, gid, groups, home: home.map(str::to_owned) };
            assert_eq!(account, expected, "{name}");
        }
        assert_eq!(find("web", &["audio", "77"]).unwrap().groups, [34, 10, 29, 77]);
    }

    #[test]
    fn what_is_not_there_is_an_error_and_never_root() {
        for bad in ["nobody", "web:none", "4294967295", "4294967296", "bad", "99999999999999999999", "-1", "0x0"] {
            assert!(find(bad, &[]).is_err(), "{bad}");
        }
        assert!(find("nobody", &[]).unwrap_err().text.starts_with("unable to find user nobody"));
        assert!(find("", &["none"]).is_err());
    }
}
