//! What a COPY or ADD takes from a tree: sources resolved inside of its root, then walked.

use super::{Entry, Error, Identity, Result, Selected, Source, join, shown, split};
use crate::base::rooted;
use crate::build::context::{Covered, Ignore, Pattern, clean, has_wildcards};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Most of one instruction: with what a file costs otherwise two gigabytes of memory.
const LIMIT: Limit = Limit { entries: 4_000_000, bytes: 1 << 30 };
/// Bytes of memory for an attribute or a name in a list, beside its own.
const ITEM_COST: usize = 48;
/// `PATH_MAX` without its zero byte.
const PATH_LIMIT: usize = 4095;
/// Links followed one after another (as many as the kernel follows).
pub(super) const LINK_LIMIT: usize = 40;
/// xattr(7): all names of a file fit into this, and each value.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

#[derive(Clone, Copy)]
struct Limit {
    /// Files, each counted as often as it is named.
    entries: usize,
    /// Of their paths, links and attributes.
    bytes: usize,
}

/// What an instruction asks for.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// `COPY` or `ADD`, for messages.
    pub instruction: &'static str,
    /// Where it looks, for messages: `the build context`, `stage "build"`.
    pub place: &'a str,
    /// As typed, with variables expanded.
    pub sources: &'a [Vec<u8>],
    pub parents: bool,
    pub exclude: &'a [Vec<u8>],
    /// Keep the owners (`--from`) instead of 0:0 (a context, whose owners are those of the host).
    pub keep_owner: bool,
}

/// Resolves the sources and reads everything about their files but the data.
///
/// # Errors
/// A source that is not there, with the reason; a malformed pattern; what cannot be read.
pub fn select(root: BorrowedFd<'_>, ignore: Option<&Ignore>, selection: &Selection<'_>) -> Result<Selected> {
    select_at_most(LIMIT, root, ignore, selection)
}

fn select_at_most(limit: Limit, root: BorrowedFd<'_>, ignore: Option<&Ignore>, selection: &Selection<'_>) -> Result<Selected> {
    let root = Arc::new(rustix::io::fcntl_dupfd_cloexec(root, 3).map_err(|e| Error::io("open", b"", e))?);
    let none = Ignore::default();
    let exclude = Ignore::patterns(selection.exclude, "--exclude").map_err(Error::Exclude)?;
    let selector =
        Selector { root, ignore: ignore.unwrap_or(&none), exclude, selection, limit, left: Cell::new(limit.entries), bytes: Cell::new(limit.bytes) };
    let mut selected = Selected::default();
    for typed in selection.sources {
        let path = inside(typed);
        if selection.parents {
            selected.sources.extend(selector.with_parents(typed)?);
        } else if has_wildcards(&path) {
            for (real, name) in selector.expand(typed, &path)? {
                selected.sources.extend(selector.source(typed, &real, &name)?);
            }
        } else {
            selected.sources.extend(selector.named(typed, &path)?);
        }
    }
    if selected.sources.is_empty() {
        let first = selection.sources.first().map_or(&b""[..], Vec::as_slice);
        let why = if selection.exclude.is_empty() { ": the pattern matches nothing" } else { ": nothing is left after --exclude" };
        return Err(selector.missing(first, why.to_owned()));
    }
    Ok(selected)
}

/// A source as a path from the root: nothing leads above it.
fn inside(typed: &[u8]) -> Vec<u8> {
    clean(&[b"/", typed].concat())[1..].to_vec()
}

struct Selector<'a> {
    root: Arc<OwnedFd>,
    ignore: &'a Ignore,
    exclude: Ignore,
    selection: &'a Selection<'a>,
    limit: Limit,
    /// So many files more.
    left: Cell<usize>,
    /// So many bytes more.
    bytes: Cell<usize>,
}

/// One walk through a directory.
struct Walk<'a> {
    selector: &'a Selector<'a>,
    real: &'a [u8],
    /// Only what matches, with what is above and beneath it.
    include: Option<&'a Pattern>,
    entries: Vec<Entry>,
    /// Directories that stay only if something beneath them does.
    tentative: HashSet<Vec<u8>>,
}

struct Pending {
    below: Vec<u8>,
    ignored: Covered,
    excluded: Covered,
    included: bool,
}

impl Selector<'_> {
    fn missing(&self, typed: &[u8], why: String) -> Error {
        let Selection { instruction, place, .. } = *self.selection;
        Error::Missing { instruction, path: shown(typed), place: place.to_owned(), why }
    }

    /// Why a path is not there: its ignore file, or a name that is nearly the same.
    fn absent(&self, typed: &[u8], path: &[u8]) -> Error {
        if let Some(line) = self.ignore.line(path) {
            return self.missing(typed, format!("; it is excluded by line {line} of {}", self.ignore.file()));
        }
        let (parent, name) = split(path);
        let names = self.open(parent, OFlags::RDONLY | OFlags::DIRECTORY).ok().and_then(|dir| self.names(&dir, parent).ok()).unwrap_or_default();
        let names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        let near = crate::base::nearest(&String::from_utf8_lossy(name), names.iter().map(String::as_str));
        let near = near.map(|near| shown(&join(parent, near.as_bytes())));
        self.missing(typed, near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?")))
    }

    /// Counts bytes that are kept of `path`.
    fn charge(&self, bytes: usize, path: &[u8]) -> Result<()> {
        self.bytes.set(self.bytes.get().checked_sub(bytes).ok_or_else(|| self.heavy(path))?);
        Ok(())
    }

    fn heavy(&self, path: &[u8]) -> Error {
        Error::Heavy { instruction: self.selection.instruction, path: shown(path), limit: self.limit.bytes }
    }

    /// The names in a directory, sorted; they are not kept, but fit into what is left.
    fn names(&self, dir: &OwnedFd, path: &[u8]) -> Result<Vec<CString>> {
        let (mut names, mut left) = (Vec::new(), self.bytes.get());
        let list = |e| Error::io("list", path, e);
        for entry in Dir::read_from(dir).map_err(list)? {
            let entry = entry.map_err(list)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                left = left.checked_sub(entry.file_name().count_bytes() + ITEM_COST).ok_or_else(|| self.heavy(path))?;
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        rooted::open_plain(self.root.as_fd(), Path::new(OsStr::from_bytes(path)), flags)
    }

    /// Follows links inside of the root, step by step; the path without links, and what is there.
    fn resolve(&self, path: &[u8]) -> std::result::Result<(Vec<u8>, Statx), Errno> {
        let mut left: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut real = Vec::new();
        let mut stat = look(&self.open(&real, OFlags::PATH)?)?;
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == b".." {
                real = split(&real).0.to_vec();
                stat = look(&self.open(&real, OFlags::PATH)?)?;
                continue;
            }
            let next = join(&real, &part);
            let node = self.open(&next, OFlags::PATH | OFlags::NOFOLLOW)?;
            stat = look(&node)?;
            if kind(&stat) != FileType::Symlink {
                real = next;
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&node, c"", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                real.clear();
            }
            for part in parts(&target).rev() {
                left.push_front(part.to_vec());
            }
            stat = look(&self.open(&real, OFlags::PATH)?)?;
        }
        Ok((real, stat))
    }

    /// A source without wildcards.
    fn named(&self, typed: &[u8], path: &[u8]) -> Result<Option<Source>> {
        self.source(typed, path, split(path).1)
    }

    /// The source at a path, whose last link is followed. None: it is excluded, or of a kind that stays behind.
    fn source(&self, typed: &[u8], path: &[u8], name: &[u8]) -> Result<Option<Source>> {
        let (real, stat) = match self.resolve(path) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(self.absent(typed, path)),
            Err(Errno::LOOP) => return Err(self.missing(typed, ": its symbolic links lead nowhere".to_owned())),
            Err(Errno::NAMETOOLONG) => return Err(Error::TooDeep { path: shown(path) }),
            Err(e) => return Err(Error::io("open", path, e)),
        };
        if !path.is_empty() && (self.exclude.at(path).0 || self.exclude.at(name).0) {
            return Ok(None);
        }
        let (hidden, ignored) = self.ignore.at(&real);
        let wild = has_wildcards(typed);
        let is_directory = kind(&stat) == FileType::Directory;
        if hidden && !(is_directory && self.ignore.may_be_seen_beneath(&real)) {
            return if wild { Ok(None) } else { Err(self.absent(typed, &real)) };
        }
        let mut source = Source { root: Some(self.root.clone()), real, name: name.to_vec(), is_directory, text: None, entries: Vec::new() };
        if is_directory {
            let start = Pending { below: Vec::new(), ignored, excluded: Covered::default(), included: true };
            source.entries = self.walk(&source.real, None, start)?;
            if hidden && source.entries.is_empty() {
                return if wild { Ok(None) } else { Err(self.absent(typed, &source.real)) };
            }
            return Ok(Some(source));
        }
        let (parent, last) = split(&source.real);
        let parent = self.open(parent, OFlags::PATH | OFlags::DIRECTORY).map_err(|e| Error::io("open", &source.real, e))?;
        let last = CString::new(last).map_err(|_| Error::io("open", &source.real, Errno::INVAL))?;
        match self.entry(&parent, &last, Vec::new(), &source.real)? {
            Some(entry) => source.entries.push(entry),
            None => return Ok(None),
        }
        Ok(Some(source))
    }

    fn walk(&self, real: &[u8], include: Option<&Pattern>, start: Pending) -> Result<Vec<Entry>> {
        let mut walk = Walk { selector: self, real, include, entries: Vec::new(), tentative: HashSet::new() };
        // The children of a directory stand together, so that whoever copies them opens it once.
        let mut pending = vec![start];
        while let Some(directory) = pending.pop() {
            let inner = walk.directory(directory)?;
            pending.extend(inner.into_iter().rev());
        }
        walk.prune();
        Ok(walk.entries)
    }

    /// Everything about one file but its data. None: a socket.
    fn entry(&self, directory: &OwnedFd, name: &CString, path: Vec<u8>, full: &[u8]) -> Result<Option<Entry>> {
        let many = Error::Many { instruction: self.selection.instruction, limit: self.limit.entries };
        self.left.set(self.left.get().checked_sub(1).ok_or(many)?);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = match rustix::fs::statx(directory, name.as_c_str(), flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(Error::Changed { path: shown(full) }),
            Err(e) => return Err(Error::io("examine", full, e)),
        };
        let kind = kind(&stat);
        if kind == FileType::Socket {
            return Ok(None);
        }
        let mut link = Vec::new();
        if kind == FileType::Symlink {
            link = rustix::fs::readlinkat(directory, name.as_c_str(), Vec::new()).map_err(|e| Error::io("read the link", full, e))?.into_bytes();
            link.shrink_to_fit();
        }
        let attributes = match kind {
            FileType::RegularFile | FileType::Directory => attributes(directory, name).map_err(|e| Error::io("read the attributes of", full, e))?,
            _ => Vec::new(),
        };
        let carried: usize = attributes.iter().map(|(name, value)| name.len() + value.len() + ITEM_COST).sum();
        self.charge(path.len() + link.len() + carried, full)?;
        let (uid, gid) = if self.selection.keep_owner { (stat.stx_uid, stat.stx_gid) } else { (0, 0) };
        Ok(Some(Entry {
            path,
            kind,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid,
            gid,
            size: if kind == FileType::RegularFile { stat.stx_size } else { 0 },
            stored: stat.stx_blocks.saturating_mul(512),
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            link,
            attributes,
            links: stat.stx_nlink,
            identity: Identity::of(&stat),
        }))
    }

    /// The matches of a pattern as (path, name): its first part without wildcards may lead through links, the rest not.
    fn expand(&self, typed: &[u8], path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let segments: Vec<&[u8]> = parts(path).collect();
        let first = segments.iter().position(|segment| has_wildcards(segment)).unwrap_or(segments.len());
        let base = segments[..first].join(&b'/');
        let real = match self.resolve(&base) {
            Ok((real, stat)) if kind(&stat) == FileType::Directory => real,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("open", &base, e)),
        };
        let mut found = vec![real];
        for (index, segment) in segments.iter().enumerate().skip(first) {
            let Selection { instruction, .. } = *self.selection;
            let pattern = Pattern::plain(segment).map_err(|source| Error::Pattern { instruction, path: shown(typed), source })?;
            let mut next = Vec::new();
            for directory in found {
                let dir = match self.open(&directory, OFlags::RDONLY | OFlags::DIRECTORY) {
                    Ok(dir) => dir,
                    Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) if index > first => continue,
                    Err(e) => return Err(Error::io("open", &directory, e)),
                };
                for name in self.names(&dir, &directory)? {
                    if pattern.matches(name.to_bytes()) {
                        self.charge(directory.len() + name.count_bytes() + ITEM_COST, &directory)?;
                        next.push(join(&directory, name.to_bytes()));
                    }
                }
            }
            found = next;
        }
        found.retain(|path| !self.ignore.at(path).0 || self.ignore.may_be_seen_beneath(path));
        Ok(found.into_iter().map(|path| (path.clone(), split(&path).1.to_vec())).collect())
    }

    /// `--parents`: the contents of the directory before `/./`, of which only what matches the rest is taken.
    fn with_parents(&self, typed: &[u8]) -> Result<Option<Source>> {
        let pivot = typed.windows(3).position(|part| part == b"/./");
        let (base, rest) = pivot.map_or((&b""[..], typed), |at| (&typed[..at], &typed[at + 3..]));
        let (base, rest) = (inside(base), inside(rest));
        let (real, stat) = match self.resolve(&base) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(self.absent(typed, &base)),
            Err(e) => return Err(Error::io("open", &base, e)),
        };
        if kind(&stat) != FileType::Directory {
            return Err(self.missing(typed, format!(": \"{}\" is not a directory", shown(&base))));
        }
        let instruction = self.selection.instruction;
        let pattern = Pattern::new(&rest).map_err(|source| Error::Pattern { instruction, path: shown(typed), source })?;
        let include = (!rest.is_empty()).then_some(&pattern);
        let (_, ignored) = self.ignore.at(&real);
        let start = Pending { below: Vec::new(), ignored, excluded: Covered::default(), included: include.is_none() };
        let entries = self.walk(&real, include, start)?;
        if entries.is_empty() && include.is_some() {
            return if has_wildcards(&rest) || !self.selection.exclude.is_empty() { Ok(None) } else { Err(self.absent(typed, &join(&real, &rest))) };
        }
        Ok(Some(Source { root: Some(self.root.clone()), real, name: Vec::new(), is_directory: true, text: None, entries }))
    }
}

impl Walk<'_> {
    /// Takes the children of one directory and returns the directories among them that are to be entered.
    fn directory(&mut self, at: Pending) -> Result<Vec<Pending>> {
        let selector = self.selector;
        let full = join(self.real, &at.below);
        let dir = match selector.open(&full, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Err(Error::Changed { path: shown(&full) }),
            Err(Errno::NAMETOOLONG) => return Err(Error::TooDeep { path: shown(&full[..64]) }),
            Err(e) => return Err(Error::io("open", &full, e)),
        };
        let mut inner = Vec::new();
        for name in selector.names(&dir, &full)? {
            let below = join(&at.below, name.to_bytes());
            let full = join(self.real, &below);
            if full.len() > PATH_LIMIT {
                return Err(Error::TooDeep { path: shown(&full[..64]) });
            }
            let (ignored, ignored_beneath) = selector.ignore.look(&full, &at.ignored);
            let (excluded, excluded_beneath) = selector.exclude.look(&below, &at.excluded);
            let included = at.included || self.include.is_none_or(|pattern| pattern.matches(&below));
            let taken = !ignored && !excluded && included;
            let enter = (included || self.include.is_some_and(|pattern| pattern.may_match_beneath(&below)))
                && (!ignored || selector.ignore.may_be_seen_beneath(&full))
                && (!excluded || selector.exclude.may_be_seen_beneath(&below));
            if !taken && !enter {
                continue;
            }
            let Some(entry) = selector.entry(&dir, &name, below, &full)? else { continue };
            let is_directory = entry.kind == FileType::Directory;
            if !taken && !is_directory {
                continue;
            }
            if is_directory {
                if !taken {
                    self.tentative.insert(entry.path.clone());
                }
                if enter {
                    inner.push(Pending { below: entry.path.clone(), ignored: ignored_beneath, excluded: excluded_beneath, included });
                }
            }
            self.entries.push(entry);
        }
        Ok(inner)
    }

    /// Drops directories of which nothing but the way to nothing is left.
    fn prune(&mut self) {
        if self.tentative.is_empty() {
            return;
        }
        let mut needed = HashSet::new();
        for entry in self.entries.iter().filter(|entry| !self.tentative.contains(&entry.path)) {
            let mut parent = split(&entry.path).0;
            while !parent.is_empty() && needed.insert(parent.to_vec()) {
                parent = split(parent).0;
            }
        }
        self.entries.retain(|entry| !self.tentative.contains(&entry.path) || needed.contains(&entry.path));
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn look(node: &OwnedFd) -> std::result::Result<Statx, Errno> {
    rustix::fs::statx(node, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

/// Attributes that are carried along: of `security.` only capabilities (the rest are labels of this host), of
/// `system.` only access lists, none of overlayfs' own.
fn is_carried(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => {
            let foreign: [&[u8]; 4] = [b"security.", b"system.", b"trusted.overlay.", b"user.overlay."];
            !foreign.iter().any(|prefix| name.starts_with(prefix))
        }
    }
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

fn attributes(directory: &OwnedFd, name: &CString) -> std::result::Result<Attributes, Errno> {
    // Named beneath the held directory; the last component is not followed.
    let path = [b"/proc/self/fd/", directory.as_raw_fd().to_string().as_bytes(), b"/", name.to_bytes()].concat();
    let mut small = [0u8; 256];
    let mut large = Vec::new();
    let list = match rustix::fs::llistxattr(path.as_slice(), &mut small[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => &small[..length],
        Err(Errno::RANGE) => {
            large.resize(ATTRIBUTE_LIMIT, 0);
            let length = rustix::fs::llistxattr(path.as_slice(), &mut large[..])?;
            &large[..length]
        }
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for attribute in list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_carried(name)) {
        let mut value = vec![0u8; ATTRIBUTE_LIMIT];
        match rustix::fs::lgetxattr(path.as_slice(), attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                value.shrink_to_fit();
            }
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(e) => return Err(e),
        }
        found.push((attribute.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_as_often_as_they_are_named() {
        let base = std::env::temp_dir().join(format!("rcon-select-{}", crate::base::random_hex(8)));
        std::fs::create_dir_all(base.join("d")).unwrap();
        std::fs::write(base.join("d/f"), "x").unwrap();
        let root = std::fs::File::open(&base).unwrap();
        let at_most = |entries: usize, bytes: usize, sources: &[&str]| {
            let limit = Limit { entries, bytes };
            let sources: Vec<Vec<u8>> = sources.iter().map(|source| source.as_bytes().to_vec()).collect();
            let (exclude, place) = (&[][..], "the build context");
            let selection = Selection { instruction: "COPY", place, sources: &sources, parents: false, exclude, keep_owner: false };
            select_at_most(limit, root.as_fd(), None, &selection)
        };
        assert_eq!(at_most(2, 1000, &["."]).unwrap().count(), 2);
        assert_eq!(at_most(4, 1000, &[".", "d/.."]).unwrap().count(), 4);
        for sources in [&[".", "d"][..], &["*", "d/f", "."]] {
            assert!(matches!(at_most(2, 1000, sources), Err(Error::Many { limit: 2, .. })), "{sources:?}");
        }
        // Paths, a link's target, and the names of a directory in which nothing is taken.
        std::os::unix::fs::symlink("t".repeat(100), base.join("d/link")).unwrap();
        let paths = "d".len() + "d/f".len() + "d/link".len();
        assert_eq!(at_most(9, paths + 100, &["."]).unwrap().count(), 3);
        for (bytes, sources) in [(paths + 99, &["."][..]), (2 * paths + 199, &[".", "d/.."]), (70, &["d/n*"])] {
            let error = at_most(9, bytes, sources).unwrap_err();
            assert!(matches!(error, Error::Heavy { .. }), "{sources:?}: {error}");
            assert!(error.to_string().contains(&format!("more than {bytes} bytes, at \"d")), "{error}");
        }
        std::fs::remove_dir_all(base).unwrap();
    }
}
