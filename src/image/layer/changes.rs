//! The upper directory of an overlay as a layer: the tar that its DiffID is made of, and the records (`split`) with which
//! that tar can be made again. The directory itself becomes the layer; nothing of it is copied.
//!
//! Nobody may write to the directory meanwhile, and it is mounted nowhere any more: what a container has put there is
//! opened one component at a time and never followed. The same tree gives the same tar: names are sorted, owners have no
//! names, and of the times only the modification's is told.

use super::split::Writer;
use super::tree::{OPAQUE_XATTR, OPEN_DIRECTORY};
use super::{Holes, NAME_LIMIT, PATH_LIMIT, UnpackError, Unpacked, shown, xattr};
use crate::base::tar_entry::{self, BLOCK, Record};
use crate::oci::{Algorithm, Digest, DigestHasher, whiteout};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Bytes read at once: hashed while they are in the cache.
const PIECE: usize = 256 << 10;
/// Most nested directories, as in a layer that is unpacked.
const DEPTH_LIMIT: usize = 500;
/// Overlayfs' own notes begin with this.
const NOTES: &[u8] = b"trusted.overlay.";
const USER_NOTES: &[u8] = b"user.overlay.";
/// Opaque marks of directories are the only of its notes that mean something elsewhere.
const OPAQUE: &[u8] = OPAQUE_XATTR.as_bytes();

/// Reads `diff` and writes its tar's records beside it. Overlayfs' notes about where files were copied from are taken off.
/// `holes`: the limit that the settings set ([`Holes::new`]).
///
/// # Errors
/// A name that no layer can hold (`.wh.`), a note that would lead out of the layer, too many holes, what the filesystem says.
pub fn describe(diff: &Path, holes: Option<u64>) -> Result<(Digest, Unpacked), UnpackError> {
    let root = rustix::fs::openat(CWD, diff, OPEN_DIRECTORY, Mode::empty()).map_err(|e| failed("open the directory", b"/", e))?;
    let mut walk = Walk {
        records: Writer::beside(diff)?,
        hasher: DigestHasher::new(Algorithm::Sha256),
        links: HashMap::new(),
        holes: Holes::new(&root, holes).map_err(|e| failed("ask for the free space of", b"/", e))?,
        buffer: vec![0; PIECE],
        out: Unpacked::default(),
    };
    let attributes = walk.attributes(root.as_fd(), b"")?;
    if attributes.opaque {
        return Err(UnpackError::Refused { path: "/".to_owned(), why: "the root of a layer cannot be opaque" });
    }
    walk.directory(&root, b"", 0)?;
    walk.verbatim(&[0; 2 * BLOCK])?;
    walk.records.finish()?;
    Ok((walk.hasher.finish(), walk.out))
}

struct Walk {
    records: Writer,
    hasher: DigestHasher,
    /// First name of each file with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
    holes: Holes,
    buffer: Vec<u8>,
    out: Unpacked,
}

struct Attributes {
    /// Those that are a part of the layer.
    records: Vec<Record>,
    opaque: bool,
}

impl Walk {
    fn directory(&mut self, directory: &OwnedFd, path: &[u8], depth: usize) -> Result<(), UnpackError> {
        if depth > DEPTH_LIMIT {
            return Err(UnpackError::Limit { what: "the depth of a path", limit: DEPTH_LIMIT as u64 });
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(|e| failed("list", path, e))? {
            let entry = entry.map_err(|e| failed("list", path, e))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort();
        for name in names {
            let path = if path.is_empty() { name.to_bytes().to_vec() } else { [path, b"/", name.to_bytes()].concat() };
            self.entry(directory.as_fd(), &name, path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &std::ffi::CStr, path: Vec<u8>, depth: usize) -> Result<(), UnpackError> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed("stat", &path, e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_mark = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        if name.to_bytes().starts_with(whiteout::PREFIX) {
            return Err(UnpackError::Refused { path: shown(&path), why: "names that begin with .wh. mark deleted files in a layer" });
        }
        if path.len() > PATH_LIMIT || (is_mark && name.to_bytes().len() + whiteout::PREFIX.len() > NAME_LIMIT) {
            return Err(UnpackError::Limit { what: "the length of a path", limit: PATH_LIMIT as u64 });
        }
        self.out.entries += 1;
        if is_mark {
            let cut = path.len() - name.to_bytes().len();
            return self.mark(&[&path[..cut], whiteout::PREFIX, name.to_bytes()].concat());
        }
        let Some(header) = tar_entry::header(&stat, (stat.st_uid, stat.st_gid)) else { return Ok(()) };
        let time = tar_entry::precise_time(&stat);
        match kind {
            FileType::Directory => self.subdirectory(parent, name, path, header, time, depth),
            FileType::RegularFile => self.file(parent, name, &path, &stat, header, time),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(|e| failed("read the link", &path, e))?;
                self.verbatim(&tar_entry::head(header, time.into_iter().collect(), &path, Some(target.to_bytes())))
            }
            _ => self.verbatim(&tar_entry::head(header, time.into_iter().collect(), &path, None)),
        }
    }

    fn subdirectory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: Vec<u8>,
        header: tar::Header,
        time: Option<Record>,
        depth: usize,
    ) -> Result<(), UnpackError> {
        let directory = rustix::fs::openat(parent, name, OPEN_DIRECTORY, Mode::empty()).map_err(|e| failed("open", &path, e))?;
        let Attributes { mut records, opaque } = self.attributes(directory.as_fd(), &path)?;
        records.extend(time);
        let slashed = [&path[..], b"/"].concat();
        self.verbatim(&tar_entry::head(header, records, &slashed, None))?;
        if opaque {
            self.mark(&[&slashed, whiteout::OPAQUE].concat())?;
        }
        self.directory(&directory, &path, depth + 1)
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: &[u8],
        stat: &Stat,
        mut header: tar::Header,
        time: Option<Record>,
    ) -> Result<(), UnpackError> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
                header.set_entry_type(tar::EntryType::Link);
                return self.verbatim(&tar_entry::head(header, Vec::new(), path, Some(&first)));
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOATIME;
        let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            // Not ours (O_NOATIME is the owner's).
            Err(Errno::PERM) => rustix::fs::openat(parent, name, flags - OFlags::NOATIME, Mode::empty()),
            other => other,
        };
        let file = file.map_err(|e| failed("open", path, e))?;
        let Attributes { mut records, .. } = self.attributes(file.as_fd(), path)?;
        records.extend(time);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.holes.add(path, size, u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK as u64))?;
        header.set_size(size);
        self.verbatim(&tar_entry::head(header, records, path, None))?;
        self.contents(File::from(file), path, size)?;
        self.verbatim(&[0; BLOCK][..tar_entry::padding(size)])
    }

    fn contents(&mut self, mut file: File, path: &[u8], size: u64) -> Result<(), UnpackError> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let count = match file.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(UnpackError::Refused { path: shown(path), why: "it became shorter while it was read" }),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(UnpackError::File { operation: "read", path: shown(path), source }),
            };
            self.hasher.update(&self.buffer[..count]);
            left -= count as u64;
        }
        self.out.size += size;
        self.out.tar_size += size;
        self.records.file(path, 0, size)
    }

    /// An empty file of mode 0, owned by root.
    fn mark(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.verbatim(&tar_entry::head(tar_entry::mark(), Vec::new(), path, None))
    }

    fn verbatim(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.hasher.update(bytes);
        self.out.tar_size += bytes.len() as u64;
        self.records.verbatim(bytes)
    }

    /// Those of an open file or directory.
    fn attributes(&mut self, node: BorrowedFd<'_>, path: &[u8]) -> Result<Attributes, UnpackError> {
        let mut found = Attributes { records: Vec::new(), opaque: false };
        let count = match rustix::fs::flistxattr(node, &mut self.buffer[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(found),
            Ok(count) => count,
            Err(e) => return Err(failed("list the attributes of", path, e)),
        };
        let mut names: Vec<Vec<u8>> = self.buffer[..count].split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort();
        for name in names {
            if name.starts_with(NOTES) && name != OPAQUE {
                if matches!(&name[NOTES.len()..], b"redirect" | b"metacopy") {
                    return Err(UnpackError::Refused { path: shown(path), why: "overlayfs keeps a part of it in another place" });
                }
                rustix::fs::fremovexattr(node, &name[..]).map_err(|e| failed("take a note of overlayfs off", path, e))?;
                continue;
            }
            if name.starts_with(USER_NOTES) {
                // Anybody can make these: a rootless overlayfs would obey them, and they are in no tar.
                rustix::fs::fremovexattr(node, &name[..]).map_err(|e| failed("take a note of overlayfs off", path, e))?;
                continue;
            }
            if !xattr::allowed(&name) && name != OPAQUE {
                continue;
            }
            let length = rustix::fs::fgetxattr(node, &name[..], &mut self.buffer[..]).map_err(|e| failed("read the attributes of", path, e))?;
            let value = &self.buffer[..length];
            if name == OPAQUE {
                found.opaque = value == b"y";
            } else {
                found.records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.to_vec()));
            }
        }
        Ok(found)
    }
}

fn failed(operation: &'static str, path: &[u8], errno: Errno) -> UnpackError {
    UnpackError::File { operation, path: shown(path), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Upper(std::path::PathBuf);

    impl Drop for Upper {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(self.0.parent().unwrap()));
        }
    }

    fn upper() -> Upper {
        let diff = std::env::temp_dir().join(format!("rcon-changes-{}", crate::base::random_hex(8))).join("diff");
        fs::create_dir_all(&diff, 0o755).unwrap();
        Upper(diff)
    }

    fn whiteout(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn what_is_described_can_be_made_again_and_unpacked() {
        let upper = upper();
        let at = |name: &str| upper.0.join(name);
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("dir/file"), vec![7u8; 700_000]).unwrap();
        std::fs::hard_link(at("dir/file"), at("dir/link")).unwrap();
        symlink("file", at("dir/soft")).unwrap();
        std::fs::write(at(&"n".repeat(200)), "long").unwrap();
        std::fs::set_permissions(at("dir/file"), std::fs::Permissions::from_mode(0o4711)).unwrap();
        whiteout(&at("gone"));
        std::fs::create_dir(at("opaque")).unwrap();
        rustix::fs::setxattr(at("opaque"), OPAQUE_XATTR, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let notes = ["trusted.overlay.origin", "user.overlay.opaque"];
        notes.iter().for_each(|note| rustix::fs::setxattr(at("dir"), *note, b"y", rustix::fs::XattrFlags::empty()).unwrap());
        let (digest, unpacked) = describe(&upper.0, None).unwrap();
        assert_eq!((unpacked.size, unpacked.entries), (700_004, 7));
        let mut tar = Vec::new();
        super::super::split::assemble(upper.0.parent().unwrap()).unwrap().read_to_end(&mut tar).unwrap();
        assert_eq!((tar.len() as u64, Digest::of(&tar)), (unpacked.tar_size, digest));
        let names: Vec<String> =
            tar::Archive::new(&tar[..]).entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["dir/", "dir/file", "dir/link", "dir/soft", ".wh.gone", &"n".repeat(200), "opaque/", "opaque/.wh..wh..opq"]);
        for note in notes {
            assert_eq!(rustix::fs::getxattr(at("dir"), note, &mut [0u8; 8][..]), Err(Errno::NODATA), "{note}");
        }
    }

    #[test]
    fn the_same_tree_gives_the_same_digest() {
        let make = || {
            let upper = upper();
            for name in ["b", "a", "c"] {
                std::fs::write(upper.0.join(name), name).unwrap();
                let time = std::fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
                std::fs::File::options().write(true).open(upper.0.join(name)).unwrap().set_times(time).unwrap();
            }
            describe(&upper.0, None).unwrap().0
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn holes_that_no_disk_could_hold_are_refused_before_they_are_read() {
        let described = |size: u64, limit: Option<u64>| {
            let upper = upper();
            File::create(upper.0.join("holes")).unwrap().set_len(size).unwrap();
            describe(&upper.0, limit)
        };
        let error = described(1 << 42, None).unwrap_err().to_string();
        assert!(error.starts_with("\"holes\" is 4.398TB long with 0B of data"), "{error}");
        assert!(matches!(described(5 << 20, Some(4 << 20)), Err(UnpackError::Sparse { path, .. }) if path == "holes"));
        assert_eq!(described(5 << 20, Some(5 << 20)).unwrap().1.size, 5 << 20);
    }

    #[test]
    fn reserved_names_are_refused() {
        let upper = upper();
        std::fs::write(upper.0.join(".wh.x"), "").unwrap();
        assert!(matches!(describe(&upper.0, None), Err(UnpackError::Refused { path, .. }) if path == ".wh.x"));
    }
}
