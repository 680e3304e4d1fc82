//! `keyctl(2)`: session keyrings.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

/// `KEYCTL_*` (include/uapi/linux/keyctl.h).
const JOIN_SESSION_KEYRING: libc::c_int = 1;
const SETPERM: libc::c_int = 5;
const DESCRIBE: libc::c_int = 6;

/// `KEY_SPEC_SESSION_KEYRING`: the calling thread's.
const SESSION: i32 = -3;

/// Everybody may search, that is find and link what the keyring names (`KEY_OTH_SEARCH`).
pub const OTHER_SEARCH: u32 = 0x08;
/// The owner may (`KEY_USR_SEARCH`).
pub const USER_SEARCH: u32 = 0x08_0000;

/// A keyring's serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyring(i32);

/// Leaves the session keyring for the one of that name, made anew unless this user namespace has one that the caller may search.
///
/// # Errors
/// What keyctl(2) says: `ENOSYS` where the kernel has no keys, `EDQUOT` when the user has too many.
pub fn join_session(name: &CStr) -> io::Result<Keyring> {
    // SAFETY: the name is NUL-terminated and lives through the call.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    match serial {
        // It is the session keyring already (security/keys/process_keys.c, join_session_keyring).
        0 => Ok(Keyring(SESSION)),
        serial if serial < 0 => Err(io::Error::last_os_error()),
        serial => Ok(Keyring(serial as i32)),
    }
}

/// Adds permissions to those that the keyring has.
///
/// # Errors
/// What keyctl(2) says; `EINVAL` for a description that is not in the kernel's form.
pub fn grant(keyring: Keyring, permissions: u32) -> io::Result<()> {
    let granted = permissions_of(keyring)? | permissions;
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, keyring.0, granted) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn permissions_of(keyring: Keyring) -> io::Result<u32> {
    // `type;uid;gid;perm;description`; the kernel writes all or nothing, and the name comes last.
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most the given number of bytes into the live buffer.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, keyring.0, text.as_mut_ptr(), text.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let text = text.get(..length).unwrap_or_default();
    let field = text.split(|byte| *byte == b';').nth(3).and_then(|field| std::str::from_utf8(field).ok());
    let permissions = field.and_then(|field| u32::from_str_radix(field, 16).ok());
    permissions.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::{USER_SEARCH, grant, join_session, permissions_of};

    #[test]
    fn a_session_keyring_is_joined_by_its_name() {
        // A thread's credentials are its own.
        let join = || {
            std::thread::spawn(|| {
                let ring = join_session(c"_ses.rcon-sys-test").unwrap();
                grant(ring, USER_SEARCH).unwrap();
                assert_ne!(permissions_of(ring).unwrap() & USER_SEARCH, 0);
                let again = join_session(c"_ses.rcon-sys-test").unwrap();
                assert_eq!(permissions_of(again).unwrap(), permissions_of(ring).unwrap());
            })
            .join()
        };
        join().unwrap();
    }
}
