//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the mounts of this process's mount namespace, in the order of mounting.
//!
//! Fields stay bytes: a mount point may hold anything but NUL.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The table of this process.
pub const PATH: &str = "/proc/self/mountinfo";

/// One line. `options`, `kind` and `data` are as the kernel wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    pub id: u64,
    /// The id of the mount that this one is on.
    pub parent: u64,
    /// Major and minor number of the file system.
    pub device: (u32, u32),
    root: &'a [u8],
    point: &'a [u8],
    /// It is in a peer group: later mounts in it are seen elsewhere, and the reverse.
    pub shared: bool,
    /// It sees the later mounts of a peer group.
    pub slave: bool,
    /// Of the mount: `ro`, `nosuid`, ….
    pub options: &'a [u8],
    /// The file system's type, with a subtype behind a dot.
    pub kind: &'a [u8],
    /// Of the file system; for v1 control groups its controllers are among them.
    pub data: &'a [u8],
}

/// The text of the table, for [`parse`].
///
/// # Errors
/// `/proc` is not there, or may not be read.
pub fn read() -> io::Result<Vec<u8>> {
    std::fs::read(PATH)
}

/// The mounts of a table; a line of another form is left out.
pub fn parse(table: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::parse)
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let mut device = fields.next()?.split(|byte| *byte == b':');
        let device = (number(device.next()?)?, number(device.next()?)?);
        let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
        // Any number of tags ends with a dash.
        let (mut shared, mut slave) = (false, false);
        for tag in fields.by_ref() {
            match tag {
                b"-" => break,
                _ if tag.starts_with(b"shared:") => shared = true,
                _ if tag.starts_with(b"master:") => slave = true,
                _ => {}
            }
        }
        let (kind, _source, data) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        Some(Mount { id, parent, device, root, point, shared, slave, options, kind, data })
    }

    /// The directory of the file system that is mounted; `/..` for what is above the root of a control group namespace.
    pub fn root(&self) -> PathBuf {
        unescape(self.root)
    }

    /// Where it is mounted, seen from the process's root.
    pub fn point(&self) -> PathBuf {
        unescape(self.point)
    }

    /// Whether the mount itself is read-only.
    pub fn is_read_only(&self) -> bool {
        self.options.split(|byte| *byte == b',').any(|option| option == b"ro")
    }
}

/// Whether the mount point still shows this file system, not one that was mounted over it, or over a directory above, later.
pub fn is_on_top(mount: &Mount<'_>) -> bool {
    rustix::fs::stat(mount.point().as_path()).is_ok_and(|status| mount.device == (rustix::fs::major(status.st_dev), rustix::fs::minor(status.st_dev)))
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's `\ooo` for space, tab, newline, backslash and (in some file systems' names) `#`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = |byte: &u8| (b'0'..=b'7').contains(byte);
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b, c, after @ ..]) if octal(b) && octal(c) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn tags_and_escapes_are_understood() {
        let table = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n\
            37 36 0:41 / /a-\xff ro,nosuid - fuse.x - rw\nnonsense\n38 37 0:42 / /b rw";
        let mounts: Vec<_> = parse(table).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].device), (36, 35, (98, 0)));
        assert_eq!((mounts[0].root(), mounts[0].point()), ("/mnt1".into(), "/mnt 2".into()));
        assert_eq!((mounts[0].kind, mounts[0].data, mounts[0].is_read_only()), (&b"ext3"[..], &b"rw,errors=continue"[..], false));
        assert_eq!((mounts[1].kind, mounts[1].data, mounts[1].is_read_only()), (&b"fuse.x"[..], &b"rw"[..], true));
        assert_eq!(mounts[1].point().as_os_str().as_bytes(), b"/a-\xff");
    }

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescape(b"/a\\040b\\134c\\").as_os_str().as_bytes(), b"/a b\\c\\");
        assert_eq!(unescape(b"/\\777\\0").as_os_str().as_bytes(), b"/\\777\\0");
    }

    #[test]
    fn the_own_root_is_on_top_and_what_is_not_there_is_not() {
        let table = read().unwrap();
        assert!(parse(&table).any(|mount| mount.point() == Path::new("/") && is_on_top(&mount)));
        assert!(!is_on_top(&parse(b"41 31 0:38 / /proc/covered rw - cgroup2 cgroup2 rw\n").next().unwrap()));
    }
}
