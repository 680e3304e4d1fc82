//! Detached mounts of new file systems, and the options of mounted ones.
//!
//! Invariant: an option that the file system refuses is named in the error, with what the kernel says about it.

use super::error::{At, Failure};
use super::root::{OPTIONS_LIMIT, VALUE_LIMIT, clone_tree, in_private_namespace};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, fspick, mount,
};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Flags of mount(2) for options that are the super block's.
const FLAGS: [(&str, u64); 5] = [
    ("ro", libc::MS_RDONLY),
    ("sync", libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC),
    ("lazytime", libc::MS_LAZYTIME),
    ("mand", libc::MS_MANDLOCK),
];

/// A file system to mount.
pub(super) struct Fresh<'a> {
    pub kind: &'a str,
    pub source: Option<&'a OsStr>,
    /// `key=value` or bare flags.
    pub data: &'a [String],
    /// `MOUNT_ATTR_*`.
    pub attributes: u64,
    /// `MS_I_VERSION`, for which the new interface has no word.
    pub iversion: bool,
    /// Opened already, for a procfs that is to show another pid namespace than ours.
    pub context: Option<OwnedFd>,
}

/// Why a file system cannot be mounted so.
#[derive(Debug)]
pub(super) struct Refusal {
    pub errno: Errno,
    option: Option<String>,
    /// What the kernel says about it.
    said: String,
}

impl Refusal {
    fn new(context: BorrowedFd<'_>, option: Option<&str>, errno: Errno) -> Self {
        Refusal { errno, option: option.map(str::to_owned), said: said(context) }
    }

    /// `operation` is the type of a new file system, or "remount".
    pub fn into_failure(self, operation: &str, path: &Path) -> Failure {
        let what = if operation == "remount" { "remount" } else { &format!("mount {operation} on") };
        let option = self.option.map(|option| format!(" with option \"{option}\"")).unwrap_or_default();
        let said = if self.said.is_empty() { String::new() } else { format!(" ({})", self.said) };
        Failure::step(format!("{what} {}{option}{said}", path.display()), self.errno)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal { errno, option: None, said: String::new() }
    }
}

/// The messages of a context: each read gives one, with its level before it (fs/fsopen.c, fscontext_read()).
fn said(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        lines.push(text.strip_prefix("e ").unwrap_or(&text).to_owned());
    }
    lines.join("; ")
}

impl Fresh<'_> {
    /// Mounts it detached.
    pub fn mount(&self) -> Result<OwnedFd, Refusal> {
        let long = |text: &[u8]| text.len() > VALUE_LIMIT;
        let values = self.data.iter().filter_map(|option| option.split_once('=')).any(|(_, value)| long(value.as_bytes()));
        if self.context.is_none() && (self.iversion || values || self.source.is_some_and(|source| long(source.as_encoded_bytes()))) {
            return self.mount_by_call();
        }
        let opened = self.context.is_none().then(|| fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)).transpose()?;
        let context = self.context.as_ref().or(opened.as_ref()).ok_or(Errno::INVAL)?;
        if let Some(source) = self.source {
            fsconfig_set_string(context, "source", source).map_err(|errno| Refusal::new(context.as_fd(), None, errno))?;
        }
        configure(context.as_fd(), self.data)?;
        fsconfig_create(context).map_err(|errno| Refusal::new(context.as_fd(), None, errno))?;
        let attributes = MountAttrFlags::from_bits_retain(u32::try_from(self.attributes).map_err(|_| Errno::INVAL)?);
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|errno| Refusal::new(context.as_fd(), None, errno))
    }

    /// By mount(2), whose options may be longer: in a mount namespace that nobody else sees, over a directory that every
    /// one has; the clone outlives it.
    fn mount_by_call(&self) -> Result<OwnedFd, Refusal> {
        let mut flags = if self.iversion { libc::MS_I_VERSION } else { 0 };
        let mut options = Vec::new();
        for option in self.data {
            match FLAGS.iter().find(|(name, _)| name == option) {
                Some((_, flag)) => flags |= flag,
                None => options.push(option.as_str()),
            }
        }
        let options = options.join(",");
        if options.len() > OPTIONS_LIMIT {
            return Err(Refusal::from(Errno::TOOBIG));
        }
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        let place = Path::new("/proc");
        let flags = MountFlags::from_bits_retain(u32::try_from(flags).map_err(|_| Errno::INVAL)?);
        let mounted = in_private_namespace(|| {
            mount(self.source.unwrap_or(OsStr::new("none")), place, self.kind, flags, options.as_c_str()).at("mount")?;
            let tree = clone_tree(place, false).at("clone")?;
            let attr = MountAttr { set: self.attributes, ..MountAttr::default() };
            mount_setattr(tree.as_fd(), &attr, false).at("set attributes")?;
            Ok(tree)
        });
        mounted.map_err(|failure| Refusal { errno: Errno::from_raw_os_error(failure.errno), option: None, said: String::new() })
    }
}

fn configure(context: BorrowedFd<'_>, data: &[String]) -> Result<(), Refusal> {
    for option in data {
        let set = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, option.as_str()),
        };
        set.map_err(|errno| Refusal::new(context, Some(option), errno))?;
    }
    Ok(())
}

/// A detached mount of a new file system whose options are ours.
pub(super) fn mount_fresh(kind: &str, source: Option<&OsStr>, data: &[String], attributes: u64) -> rustix::io::Result<OwnedFd> {
    Fresh { kind, source, data, attributes, iversion: false, context: None }.mount().map_err(|refusal| refusal.errno)
}

/// Changes the super block of what is mounted.
pub(super) fn reconfigure(mounted: BorrowedFd<'_>, data: &[String]) -> Result<(), Refusal> {
    if data.is_empty() {
        return Ok(());
    }
    let context = fspick(mounted, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    configure(context.as_fd(), data)?;
    fsconfig_reconfigure(&context).map_err(|errno| Refusal::new(context.as_fd(), None, errno))
}
