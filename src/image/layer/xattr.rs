//! Which extended attributes of an archive reach the disk.

use rustix::io::Errno;

/// Most bytes of one value (the kernel's `XATTR_SIZE_MAX`).
pub const VALUE_LIMIT: usize = 64 << 10;

/// File capabilities, user attributes and POSIX ACLs are part of an image. Everything else is dropped:
/// `trusted.overlay.*` and `user.overlay.*` would steer the overlay mount (redirects out of the layer), the
/// labels of security modules are this host's business.
pub fn allowed(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && name.len() <= 255,
    }
}

/// A failure to set this attribute may be passed over: a user attribute on a filesystem without them.
pub fn optional(name: &[u8], error: Errno) -> bool {
    name.starts_with(b"user.") && matches!(error, Errno::OPNOTSUPP | Errno::PERM)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn overlay_and_labels_are_dropped() {
        for good in ["security.capability", "user.a", "system.posix_acl_access"] {
            assert!(allowed(good.as_bytes()), "{good}");
        }
        for bad in ["trusted.overlay.redirect", "user.overlay.opaque", "security.selinux", "security.ima", "system.nfs4_acl", "x", ""] {
            assert!(!allowed(bad.as_bytes()), "{bad}");
        }
    }
}
