//! The identity with which the calling thread makes files (`setfsuid(2)`), without giving up rights.
//!
//! Needed wherever the kernel asks whether an id-mapped mount has a place for the maker's ids: the host's root has
//! none there, and would be refused with EOVERFLOW.
#![allow(unsafe_code)]

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use std::io;
use std::marker::PhantomData;

/// Until it is dropped, what this thread makes belongs to other ids. Bound to its thread.
#[derive(Debug)]
pub struct FileOwner {
    before: (u32, u32),
    /// Credentials are a thread's own.
    _thread: PhantomData<*const ()>,
}

impl FileOwner {
    /// # Errors
    /// This process may not take the ids, or lacks the capabilities that it had.
    pub fn assume(uid: u32, gid: u32) -> io::Result<Self> {
        let dumpable = dumpable_behavior()?;
        // Leaving fsuid 0 takes the file capabilities out of the effective set (capabilities(7)); they are put back.
        let held = capabilities(None)?;
        let before = set(uid, gid);
        let owner = FileOwner { before, _thread: PhantomData };
        if current() != (uid, gid) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let now = capabilities(None)?;
        set_capabilities(None, CapabilitySets { effective: held.effective & now.permitted, ..now })?;
        stay(dumpable)?;
        Ok(owner)
    }
}

impl Drop for FileOwner {
    fn drop(&mut self) {
        let dumpable = dumpable_behavior();
        set(self.before.0, self.before.1);
        // Going on with foreign ids would make files of the wrong owner everywhere.
        assert_eq!(current(), self.before, "invariant: a thread may always return to its own ids");
        // A process that cannot be traced any more works as before.
        drop(dumpable.map(stay));
    }
}

/// Any change of ids marks the whole process as not to be dumped or traced; that is taken back.
fn stay(dumpable: DumpableBehavior) -> io::Result<()> {
    if dumpable == DumpableBehavior::Dumpable {
        set_dumpable_behavior(dumpable)?;
    }
    Ok(())
}

/// Returns the ids before. The group first: afterwards the right to change it may be gone.
fn set(uid: u32, gid: u32) -> (u32, u32) {
    // SAFETY: plain system calls on the calling thread's credentials; they touch no memory.
    unsafe {
        let gid = libc::syscall(libc::SYS_setfsgid, gid) as u32;
        (libc::syscall(libc::SYS_setfsuid, uid) as u32, gid)
    }
}

/// An invalid id changes nothing and answers the present one (setfsuid(2)).
fn current() -> (u32, u32) {
    set(u32::MAX, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::FileOwner;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn files_belong_to_the_owner_and_rights_stay() {
        let base = std::env::temp_dir().join(format!("rcon-owner-{}", std::process::id()));
        std::fs::create_dir(&base).unwrap();
        std::fs::set_permissions(&base, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let owner = FileOwner::assume(100_000, 100_001).unwrap();
        std::fs::write(base.join("theirs"), "").unwrap();
        drop(owner);
        std::fs::write(base.join("ours"), "").unwrap();
        let of = |name: &str| std::fs::metadata(base.join(name)).map(|m| (m.uid(), m.gid())).unwrap();
        assert_eq!((of("theirs"), of("ours")), ((100_000, 100_001), (0, 0)));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
