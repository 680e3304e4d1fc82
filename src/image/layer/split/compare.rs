//! A layer's directory compared with what its tar says: the re-made tar proves the contents of files, this the rest
//! (names, types, modes, owners, times, links, attributes).
//!
//! Nothing is followed: every name is opened beneath the held root with `O_PATH` and `O_NOFOLLOW`, so that neither a
//! FIFO nor a link that was put there is acted on.

use super::super::fixup::lookup;
use super::super::tree::{ACL_DEFAULT, BENEATH, IMPLICIT_MODE, OPAQUE_XATTR, OPEN_DIRECTORY};
use super::super::{UnpackError, shown, xattr};
use super::model::{Form, Model, Origin, ROOT};
use crate::image::descriptor_path;
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, fstat, getxattr, listxattr, listxattr_query, openat, openat2, readlinkat, seek,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Differences that are told in words; the others are only counted.
const NAMED: usize = 5;
/// xattr(7): the list of names and each value fit into 64 KiB.
const XATTR_LIMIT: usize = 64 << 10;
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const CAPABILITY: &[u8] = b"security.capability";

/// What is not as the tar says.
#[derive(Debug, Default)]
pub struct Differences {
    pub count: u64,
    /// The first of them, in words.
    pub named: Vec<String>,
}

impl Differences {
    fn add(&mut self, path: &[u8], what: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            let name = if path.is_empty() { "/".to_owned() } else { shown(path) };
            self.named.push(format!("\"{name}\" {}", what()));
        }
    }
}

/// What a node must have; None: anything.
#[derive(Default)]
struct Expected {
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    mtime: Option<(i64, u32)>,
    xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

struct Walk<'a> {
    model: &'a Model,
    root: OwnedFd,
    /// The roots of the layers below, top first; None: not known.
    lowers: Option<Vec<OwnedFd>>,
    /// How many names a node has.
    names: Vec<u32>,
    /// Where a node with several names is.
    inodes: HashMap<usize, (u64, u64)>,
    /// Which node a file with several links is.
    nodes: HashMap<(u64, u64), usize>,
    /// The file system takes `user.*` attributes.
    user_xattrs: bool,
    out: Differences,
}

/// Compares `diff` with the model. `lowers`: the directories of the layers below, top first, None if they are not
/// known or not sound; what comes from them is then not compared.
///
/// # Errors
/// The directory itself or one below cannot be opened.
pub fn compare(mut model: Model, diff: &Path, lowers: Option<&[PathBuf]>) -> Result<Differences, UnpackError> {
    let open = |path: &Path| openat(CWD, path, OPEN_DIRECTORY, Mode::empty()).map_err(|e| super::super::tree::failed("open the directory", b"/", e));
    let root = open(diff)?;
    let lowers = lowers.map(|lowers| lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()).transpose()?;
    model.link_below()?;
    if model.opaque_root {
        for lower in lowers.iter().flatten() {
            for name in list(lower).map_err(|e| super::super::tree::failed("list the directory", b"/", e))? {
                model.hide(&name);
            }
        }
    }
    let mut names = vec![0u32; model.nodes.len()];
    for node in &model.nodes {
        if let Form::Directory(directory) = &node.form {
            directory.names.values().for_each(|at| names[*at] += 1);
        }
    }
    let user_xattrs = fgetxattr(&root, "user.rcon.probe", &mut [0u8; 0][..]) != Err(Errno::OPNOTSUPP);
    let (inodes, nodes, out) = (HashMap::new(), HashMap::new(), Differences::default());
    let mut walk = Walk { model: &model, root, lowers, names, inodes, nodes, user_xattrs, out };
    walk.all();
    Ok(walk.out)
}

fn list(directory: &OwnedFd) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}

impl Walk<'_> {
    /// Directory by directory, without recursion: descriptors and stack stay bounded however deep it goes.
    fn all(&mut self) {
        self.node(&[], ROOT);
        let mut left = vec![(Vec::new(), ROOT)];
        while let Some((path, at)) = left.pop() {
            let Form::Directory(expected) = &self.model.nodes[at].form else { continue };
            let name: &[u8] = if path.is_empty() { b"." } else { &path };
            let found = openat2(&self.root, name, OPEN_DIRECTORY, Mode::empty(), BENEATH).and_then(|fd| list(&fd));
            let found = match found {
                Ok(found) => found,
                // That it is no directory was said when it was looked at.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => continue,
                Err(e) => {
                    self.out.add(&path, || format!("cannot be listed: {e}"));
                    continue;
                }
            };
            let below = |name: &[u8]| if path.is_empty() { name.to_vec() } else { [&path[..], name].join(&b'/') };
            for name in found.iter().filter(|name| !expected.names.contains_key(*name)) {
                let path = below(name);
                if !(at == ROOT && self.hidden_unknown() && self.is_whiteout(&path)) {
                    self.out.add(&path, || "is not in its tar".to_owned());
                }
            }
            for (name, node) in &expected.names {
                let path = below(name);
                if !found.contains(name) {
                    self.out.add(&path, || "is missing".to_owned());
                } else {
                    self.node(&path, *node);
                    if matches!(self.model.nodes[*node].form, Form::Directory(_)) {
                        left.push((path, *node));
                    }
                }
            }
        }
    }

    /// The root hides what lies below, and what that is cannot be told.
    fn hidden_unknown(&self) -> bool {
        self.model.opaque_root && self.lowers.is_none()
    }

    fn open(&self, path: &[u8]) -> Result<(OwnedFd, Stat), Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let fd = openat2(&self.root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
        let stat = fstat(&fd)?;
        Ok((fd, stat))
    }

    fn is_whiteout(&self, path: &[u8]) -> bool {
        self.open(path).is_ok_and(|(_, stat)| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
    }

    /// Everything about one name except what lies beneath it.
    fn node(&mut self, path: &[u8], at: usize) {
        let (fd, stat) = match self.open(path) {
            Ok(found) => found,
            Err(e) => return self.out.add(path, || format!("cannot be opened: {e}")),
        };
        let node = &self.model.nodes[at];
        if !matches!(node.form, Form::Directory(_)) {
            match self.links(path, at, &stat) {
                Links::Done => return,
                Links::New => {}
            }
        }
        if !self.form(path, &node.form, &fd, &stat) || matches!(node.origin, Origin::Whiteout) {
            return;
        }
        if let (Form::File(size, extents), Origin::Header(_)) = (&node.form, &node.origin) {
            self.length(path, *size, extents.as_deref(), &fd, &stat);
        }
        let lower = match &node.origin {
            Origin::Header(_) | Origin::Whiteout => None,
            Origin::Implicit => self.lower(path),
            Origin::Below(target) => self.lower(target),
        };
        if let (Origin::Below(_), Some(Some((lower, _)))) = (&node.origin, &lower)
            && !same_content(&fd, lower).unwrap_or(false)
        {
            self.out.add(path, || "has not the content of the layer below that it came from".to_owned());
        }
        let expected = self.expected(at, lower);
        self.attributes(path, &expected, &stat);
        if let Some(xattrs) = expected.xattrs {
            self.xattrs(path, xattrs, &fd, self.hidden_unknown() && !path.contains(&b'/'));
        }
    }

    /// Names of one file are names of one file, and of no other.
    fn links(&mut self, path: &[u8], at: usize, stat: &Stat) -> Links {
        let inode = (stat.st_dev, stat.st_ino);
        if self.names[at] > 1 {
            match self.inodes.get(&at) {
                Some(first) if *first == inode => return Links::Done,
                Some(_) => self.out.add(path, || "is not the hard link that it was".to_owned()),
                None => drop(self.inodes.insert(at, inode)),
            }
        }
        // Overlayfs itself makes its marks as links of one (fs/overlayfs/dir.c, ovl_whiteout).
        let is_mark = matches!(self.model.nodes[at].origin, Origin::Whiteout);
        if !is_mark && stat.st_nlink > 1 && *self.nodes.entry(inode).or_insert(at) != at {
            self.out.add(path, || "is a hard link to another file".to_owned());
        }
        Links::New
    }

    /// Type and what belongs to it. False: there is no sense in comparing the rest.
    fn form(&mut self, path: &[u8], form: &Form, fd: &OwnedFd, stat: &Stat) -> bool {
        let found = FileType::from_raw_mode(stat.st_mode);
        let (wanted, device) = match form {
            Form::File(..) => (FileType::RegularFile, None),
            Form::Symlink(_) => (FileType::Symlink, None),
            Form::Character(major, minor) => (FileType::CharacterDevice, Some((*major, *minor))),
            Form::Block(major, minor) => (FileType::BlockDevice, Some((*major, *minor))),
            Form::Fifo => (FileType::Fifo, None),
            Form::Directory(_) => (FileType::Directory, None),
        };
        if found != wanted {
            self.out.add(path, || format!("is {} instead of {}", kind(found), kind(wanted)));
            return false;
        }
        if let Some((major, minor)) = device
            && stat.st_rdev != rustix::fs::makedev(major, minor)
        {
            let (is_major, is_minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            self.out.add(path, || format!("is the device {is_major}:{is_minor} instead of {major}:{minor}"));
        }
        if let Form::Symlink(target) = form {
            let found = readlinkat(fd, "", Vec::new()).map(std::ffi::CString::into_bytes);
            if found.as_ref() != Ok(target) {
                let found = found.map_or_else(|e| e.to_string(), |found| shown(&found));
                self.out.add(path, || format!("points to \"{found}\" instead of \"{}\"", shown(target)));
            }
        }
        true
    }

    /// The re-made tar has what lies in the data of a file; this is about what lies behind and between.
    fn length(&mut self, path: &[u8], size: u64, extents: Option<&[(u64, u64)]>, fd: &OwnedFd, stat: &Stat) {
        if stat.st_size.cast_unsigned() != size {
            return self.out.add(path, || format!("has {} bytes instead of {size}", stat.st_size));
        }
        if let Some(extents) = extents
            && !empty_between(fd, size, extents).unwrap_or(false)
        {
            self.out.add(path, || "has data where it had a hole".to_owned());
        }
    }

    /// What the layers below have at this path; the outer None: that cannot be told.
    #[expect(clippy::option_option, reason = "not known, known to be nothing, and something are three things")]
    fn lower(&self, path: &[u8]) -> Option<Option<(OwnedFd, Stat)>> {
        lookup(self.lowers.as_ref()?, path).ok()
    }

    #[expect(clippy::option_option, reason = "see Self::lower")]
    fn expected(&self, at: usize, lower: Option<Option<(OwnedFd, Stat)>>) -> Expected {
        let node = &self.model.nodes[at];
        let directory = if let Form::Directory(directory) = &node.form { Some(directory) } else { None };
        let mut expected = match &node.origin {
            Origin::Header(header) => Expected {
                // The mode of a symbolic link is not stored, and an ACL rewrites the permission bits (acl(5)).
                mode: (!matches!(node.form, Form::Symlink(_))).then_some(header.mode),
                owner: Some((header.uid, header.gid)),
                mtime: (directory.is_none() || !self.model.touched).then_some(header.mtime),
                xattrs: Some(header.xattrs.clone()),
            },
            Origin::Whiteout => Expected::default(),
            Origin::Implicit | Origin::Below(_) if lower.is_none() || self.model.directory_replaced => Expected::default(),
            Origin::Implicit | Origin::Below(_) => match lower.flatten().filter(|(_, stat)| directory.is_none() || is_directory(stat)) {
                Some((fd, stat)) => Expected {
                    mode: Some(stat.st_mode & 0o7777),
                    owner: Some((stat.st_uid, stat.st_gid)),
                    // The layer below may have been unpacked anew since.
                    mtime: None,
                    xattrs: xattrs_of(&fd).ok().map(|xattrs| xattrs.into_iter().filter(|(name, _)| xattr::allowed(name)).collect()),
                },
                None => Expected {
                    mode: Some(IMPLICIT_MODE),
                    owner: rustix::process::geteuid().is_root().then_some((0, 0)),
                    mtime: None,
                    xattrs: Some(BTreeMap::new()),
                },
            },
        };
        if let (Some(directory), Some(xattrs)) = (directory, &mut expected.xattrs)
            && directory.opaque
        {
            xattrs.insert(OPAQUE_XATTR.as_bytes().to_vec(), b"y".to_vec());
        }
        expected
    }

    fn attributes(&mut self, path: &[u8], expected: &Expected, stat: &Stat) {
        let acl = expected.xattrs.as_ref().is_some_and(|xattrs| xattrs.contains_key(ACL_ACCESS));
        let mask = if acl { 0o7000 } else { 0o7777 };
        let found = stat.st_mode & 0o7777;
        if let Some(mode) = expected.mode
            && mode & mask != found & mask
        {
            self.out.add(path, || format!("has the mode {found:04o} instead of {mode:04o}"));
        }
        if let Some((uid, gid)) = expected.owner
            && (uid, gid) != (stat.st_uid, stat.st_gid)
        {
            self.out.add(path, || format!("belongs to {}:{} instead of {uid}:{gid}", stat.st_uid, stat.st_gid));
        }
        if let Some((seconds, nanos)) = expected.mtime {
            // File systems clamp and round: what lies outside of the oldest range says nothing, nor do lost fractions.
            let kept = (0..=i64::from(i32::MAX)).contains(&seconds);
            if kept && (seconds != stat.st_mtime || stat.st_mtime_nsec != 0 && stat.st_mtime_nsec != u64::from(nanos)) {
                self.out.add(path, || format!("was changed at {}.{:09} instead of {seconds}.{nanos:09}", stat.st_mtime, stat.st_mtime_nsec));
            }
        }
    }

    /// `loose`: an opaque mark more is fine.
    fn xattrs(&mut self, path: &[u8], expected: BTreeMap<Vec<u8>, Vec<u8>>, fd: &OwnedFd, loose: bool) {
        let found = match xattrs_of(fd) {
            Ok(found) => found,
            Err(e) => return self.out.add(path, || format!("does not show its attributes: {e}")),
        };
        // Access ACLs that say no more than the mode are not stored; those of directories are inherited.
        let acl = |name: &[u8]| name == ACL_ACCESS || name == ACL_DEFAULT;
        let passed = |name: &[u8]| acl(name) && (self.model.touched || expected.contains_key(name) && name == ACL_ACCESS);
        let mut wrong = Vec::new();
        for (name, value) in &expected {
            let same = found.get(name).map(|found| plain(name, found) == plain(name, value));
            let optional = !self.user_xattrs && name.starts_with(b"user.");
            match same {
                Some(false) if !passed(name) => wrong.push(format!("has another value of the attribute {}", shown(name))),
                None if !passed(name) && !optional => wrong.push(format!("lacks the attribute {}", shown(name))),
                _ => {}
            }
        }
        for name in found.keys().filter(|name| !expected.contains_key(*name) && counts(name) && !passed(name)) {
            if !(loose && name == OPAQUE_XATTR.as_bytes()) {
                wrong.push(format!("has the attribute {}, which is not in its tar", shown(name)));
            }
        }
        for text in wrong {
            self.out.add(path, || text);
        }
    }
}

enum Links {
    /// The same file was compared under another name.
    Done,
    New,
}

/// Labels of security modules and checksums are this host's business; everything else comes from the tar or from us.
fn counts(name: &[u8]) -> bool {
    xattr::allowed(name) || !(name.starts_with(b"security.") || name.starts_with(b"system."))
}

/// Capabilities of the root of the initial user namespace read as version 2 whatever was written (capabilities(7),
/// "File capability extended attribute versioning"; `cap_inode_getsecurity` of security/commoncap.c).
fn plain(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if name == CAPABILITY && value.len() == 24 && value[20..] == [0; 4] && value[3] == 3 {
        value.truncate(20);
        value[3] = 2;
    }
    value
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn kind(of: FileType) -> &'static str {
    match of {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a FIFO",
        _ => "a socket",
    }
}

/// All attributes of what an `O_PATH` descriptor is open on; none on a file system without them.
fn xattrs_of(fd: &OwnedFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = descriptor_path(fd.as_fd());
    // Nearly every file has none: that is found out without a buffer.
    let length = match listxattr_query(&path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Ok(_) => XATTR_LIMIT,
        Err(e) => return Err(e),
    };
    let mut names = vec![0u8; length];
    let length = listxattr(&path, &mut names[..])?;
    let mut found = BTreeMap::new();
    let mut value = vec![0u8; XATTR_LIMIT];
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if counts(name) {
            let size = getxattr(&path, name, &mut value[..])?;
            found.insert(name.to_vec(), value[..size].to_vec());
        }
    }
    Ok(found)
}

/// Nothing but zeros lies between the data of a sparse file. Holes are skipped, not read: they may be huge.
fn empty_between(fd: &OwnedFd, size: u64, extents: &[(u64, u64)]) -> std::io::Result<bool> {
    let file = File::open(descriptor_path(fd.as_fd()))?;
    let mut buffer = vec![0u8; XATTR_LIMIT];
    let mut from = 0;
    for (start, length) in extents.iter().copied().chain([(size, 0)]) {
        while from < start {
            from = match seek(&file, SeekFrom::Data(from)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            if from >= start {
                break;
            }
            let take = usize::try_from(start - from).map_or(buffer.len(), |left| left.min(buffer.len()));
            let n = file.read_at(&mut buffer[..take], from)?;
            if n == 0 || buffer[..n].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            from += n as u64;
        }
        from = start + length;
    }
    Ok(true)
}

fn same_content(one: &OwnedFd, other: &OwnedFd) -> std::io::Result<bool> {
    let open = |fd: &OwnedFd| File::open(descriptor_path(fd.as_fd())).map(BufReader::new);
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let length = a.len().min(b.len());
        if length == 0 {
            return Ok(a.is_empty() && b.is_empty());
        }
        if a[..length] != b[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}
