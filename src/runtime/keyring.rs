//! The session keyring of a container: its processes share one, and have nothing of the caller's.

use super::error::{At, Error, Failure};
use crate::sys::keyring as call;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::io::Errno;
use std::ffi::CString;

/// To be joined by each process of the container; who comes first makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keyring {
    pub name: CString,
    /// Added to what the maker's default is.
    pub permissions: u32,
}

impl Keyring {
    /// The keyring of container `id`, named as runc names it, so that tools that look for it find it.
    ///
    /// # Errors
    /// `Invalid`: the id contains a NUL byte.
    pub fn of(id: &str, spec: &Spec) -> Result<Self, Error> {
        let name = CString::new(format!("_ses.{id}")).map_err(|_| Error::Invalid("the container's id contains a NUL byte".to_owned()))?;
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let mapped = listed.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        // Who joins it later must be allowed to find it; in a user namespace that need not be its owner.
        let permissions = if mapped { call::OTHER_SEARCH } else { call::USER_SEARCH };
        Ok(Keyring { name, permissions })
    }

    /// Joins it in the calling process. Without keys in the kernel there is nothing to keep from the container.
    pub fn join(&self) -> Result<(), Failure> {
        let name = self.name.to_string_lossy();
        match call::join_session(&self.name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => {
                Err(Failure::step("make a session keyring (sysctl kernel.keys.maxkeys says how many a user may have)", Errno::DQUOT))
            }
            Err(error) => Err(Failure::step(format!("join session keyring \"{name}\""), error)),
            Ok(keyring) => call::grant(keyring, self.permissions).at(&format!("set the permissions of session keyring \"{name}\"")),
        }
    }
}
