//! Extended attributes from one open file to another.

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::{Errno, Result};
use std::os::fd::BorrowedFd;

/// xattr(7): the names of all attributes of one file fit into 64 KiB, and so does each value.
const LIMIT: usize = 64 << 10;

/// Gives `to` those attributes of `from` whose names `wanted` admits. A filesystem without attributes, on either
/// side, is no failure.
///
/// # Errors
/// An attribute cannot be read or set.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut names = vec![0u8; LIMIT];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut value = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty() && wanted(name)) {
        value.resize(LIMIT, 0);
        let size = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn only_what_is_wanted_is_copied() {
        let base = std::env::temp_dir().join(format!("rcon-xattr-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(&base).unwrap();
        let [from, to] = ["from", "to"].map(|name| std::fs::File::create(base.join(name)).unwrap());
        for (name, value) in [("user.a", "1\0\n"), ("user.b", "2")] {
            match fsetxattr(&from, name, value.as_bytes(), XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => {}
                other => other.unwrap(),
            }
        }
        let had = flistxattr(&from, &mut [0u8; 64][..]).unwrap_or(0) > 0;
        copy(from.as_fd(), to.as_fd(), |name| name == b"user.a").unwrap();
        let mut value = [0u8; 8];
        assert_eq!(fgetxattr(&to, "user.a", &mut value).is_ok_and(|size| &value[..size] == b"1\0\n"), had);
        assert!(fgetxattr(&to, "user.b", &mut value).is_err());
        std::fs::remove_dir_all(base).unwrap();
    }
}
