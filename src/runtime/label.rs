//! Labels of security modules (AppArmor, SELinux), put on at `execve`.
//!
//! Invariant: a module that was asked for by name is there, or the container is refused: a label that is not applied is a hole.

use super::error::{At, Error, Failure};
use super::{root, tree};
use oci_spec::runtime::Process;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
const PROC_MAGIC: u64 = 0x9fa0;

/// One label: the file below `/proc/self/attr` and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub file: &'static str,
    pub text: String,
    /// The field that asks for it.
    field: &'static str,
}

/// The labels of a process; what it leaves out is the container's (`defaults`), an empty text is none.
///
/// # Errors
/// `Unsupported` names the field whose security module this kernel lacks.
pub(super) fn compile(process: &Process, defaults: Option<&Process>) -> Result<Vec<Label>, Error> {
    let asked = |field: fn(&Process) -> &Option<String>| {
        let text = field(process).clone().or_else(|| defaults.and_then(|own| field(own).clone()));
        text.filter(|text| !text.is_empty())
    };
    let mut labels = Vec::new();
    if let Some(profile) = asked(Process::apparmor_profile) {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        match (enabled, profile.as_str()) {
            (true, _) => {
                let stacked = Path::new("/proc/self/attr/apparmor/exec").exists();
                let file = if stacked { "apparmor/exec" } else { "exec" };
                labels.push(Label { file, text: format!("exec {profile}"), field: "process.apparmorProfile" });
            }
            // Nothing confines where there is no AppArmor.
            (false, "unconfined") => {}
            (false, _) => return Err(Error::Unsupported(format!("process.apparmorProfile \"{profile}\" (AppArmor is not enabled on this kernel)"))),
        }
    }
    if let Some(text) = asked(Process::selinux_label) {
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(Error::Unsupported(format!("process.selinuxLabel \"{text}\" (SELinux is not enabled on this kernel)")));
        }
        // The session keyring is labelled like its process; execve forgets this one (security/selinux/hooks.c).
        labels.push(Label { file: "keycreate", text: text.clone(), field: "process.selinuxLabel" });
        labels.push(Label { file: "exec", text, field: "process.selinuxLabel" });
    }
    Ok(labels)
}

/// The open attributes of the calling process, which alone may write them.
#[derive(Default)]
pub(super) struct Attributes(Vec<OwnedFd>);

impl Attributes {
    /// For a stage that still has the host's `/proc`.
    pub fn open(labels: &[Label]) -> Result<Self, Failure> {
        let open = |label: &Label| {
            let path = format!("/proc/self/attr/{}", label.file);
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at(&format!("open {path} for {}", label.field))
        };
        labels.iter().map(open).collect::<Result<_, _>>().map(Attributes)
    }

    /// For a stage inside the container, whose `/proc` may be anything: through a procfs of our own, or the container's
    /// when that is one (a user namespace with masked paths may not mount another).
    pub fn open_inside(labels: &[Label]) -> Result<Self, Failure> {
        if labels.is_empty() {
            return Ok(Attributes::default());
        }
        let proc = match root::mount_fresh("proc", None, &[], 0) {
            Err(Errno::PERM) => {
                let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open the root")?;
                tree::open_plain(root.as_fd(), Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY).at("open the container's /proc")?
            }
            other => other.at("mount a private procfs")?,
        };
        verify(proc.as_fd())?;
        let pid = rustix::process::getpid();
        let open = |label: &Label| {
            let path = format!("{pid}/attr/{}", label.file);
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            openat2(&proc, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).at(&format!("open /proc/{path} for {}", label.field))
        };
        labels.iter().map(open).collect::<Result<_, _>>().map(Attributes)
    }

    /// Puts the labels on, in force from `execve` on.
    pub fn write(self, labels: &[Label]) -> Result<(), Failure> {
        if self.0.len() != labels.len() {
            return Err(Failure::invalid("the attributes for the process's labels were not opened"));
        }
        for (fd, label) in self.0.iter().zip(labels) {
            rustix::io::write(fd, label.text.as_bytes()).at(&format!("set {} \"{}\"", label.field, label.text))?;
        }
        Ok(())
    }
}

fn verify(proc: BorrowedFd<'_>) -> Result<(), Failure> {
    if fstatfs(proc).at("examine procfs")?.f_type as u64 == PROC_MAGIC {
        return Ok(());
    }
    Err(Failure::invalid("the container's \"/proc\" is not a procfs: labels cannot be set"))
}

#[cfg(test)]
mod tests {
    use super::compile;
    use oci_spec::runtime::Process;

    fn process(apparmor: Option<&str>, selinux: Option<&str>) -> Process {
        let mut process = Process::default();
        process.set_apparmor_profile(apparmor.map(str::to_owned)).set_selinux_label(selinux.map(str::to_owned));
        process
    }

    #[test]
    fn empty_is_none_and_absent_is_the_containers() {
        let none = process(None, None);
        assert_eq!(compile(&process(Some(""), Some("")), None).unwrap(), []);
        // The two machines that this runs on: with and without the modules.
        for (field, container) in
            [("process.apparmorProfile", process(Some("strict"), None)), ("process.selinuxLabel", process(None, Some("a:b:c:s0")))]
        {
            match compile(&none, Some(&container)) {
                Ok(labels) => assert!(labels.iter().all(|label| label.field == field) && !labels.is_empty()),
                Err(error) => assert!(error.to_string().starts_with(field), "{error}"),
            }
            assert_eq!(compile(&process(Some(""), Some("")), Some(&container)).unwrap(), []);
        }
    }
}
