//! Linux capabilities: names, numbers, Docker's default set and the arithmetic of `--cap-add`/`--cap-drop`.
//! Pure; nothing here asks the kernel what it supports.
//!
//! Invariant: [`ALL`] is indexed by the kernel's number (`include/uapi/linux/capability.h`).

use oci_spec::runtime::Capability;

/// Every capability up to Linux 6.18, at the index that is its kernel number.
pub const ALL: [(Capability, &str); 41] = [
    (Capability::Chown, "CAP_CHOWN"),
    (Capability::DacOverride, "CAP_DAC_OVERRIDE"),
    (Capability::DacReadSearch, "CAP_DAC_READ_SEARCH"),
    (Capability::Fowner, "CAP_FOWNER"),
    (Capability::Fsetid, "CAP_FSETID"),
    (Capability::Kill, "CAP_KILL"),
    (Capability::Setgid, "CAP_SETGID"),
    (Capability::Setuid, "CAP_SETUID"),
    (Capability::Setpcap, "CAP_SETPCAP"),
    (Capability::LinuxImmutable, "CAP_LINUX_IMMUTABLE"),
    (Capability::NetBindService, "CAP_NET_BIND_SERVICE"),
    (Capability::NetBroadcast, "CAP_NET_BROADCAST"),
    (Capability::NetAdmin, "CAP_NET_ADMIN"),
    (Capability::NetRaw, "CAP_NET_RAW"),
    (Capability::IpcLock, "CAP_IPC_LOCK"),
    (Capability::IpcOwner, "CAP_IPC_OWNER"),
    (Capability::SysModule, "CAP_SYS_MODULE"),
    (Capability::SysRawio, "CAP_SYS_RAWIO"),
    (Capability::SysChroot, "CAP_SYS_CHROOT"),
    (Capability::SysPtrace, "CAP_SYS_PTRACE"),
    (Capability::SysPacct, "CAP_SYS_PACCT"),
    (Capability::SysAdmin, "CAP_SYS_ADMIN"),
    (Capability::SysBoot, "CAP_SYS_BOOT"),
    (Capability::SysNice, "CAP_SYS_NICE"),
    (Capability::SysResource, "CAP_SYS_RESOURCE"),
    (Capability::SysTime, "CAP_SYS_TIME"),
    (Capability::SysTtyConfig, "CAP_SYS_TTY_CONFIG"),
    (Capability::Mknod, "CAP_MKNOD"),
    (Capability::Lease, "CAP_LEASE"),
    (Capability::AuditWrite, "CAP_AUDIT_WRITE"),
    (Capability::AuditControl, "CAP_AUDIT_CONTROL"),
    (Capability::Setfcap, "CAP_SETFCAP"),
    (Capability::MacOverride, "CAP_MAC_OVERRIDE"),
    (Capability::MacAdmin, "CAP_MAC_ADMIN"),
    (Capability::Syslog, "CAP_SYSLOG"),
    (Capability::WakeAlarm, "CAP_WAKE_ALARM"),
    (Capability::BlockSuspend, "CAP_BLOCK_SUSPEND"),
    (Capability::AuditRead, "CAP_AUDIT_READ"),
    (Capability::Perfmon, "CAP_PERFMON"),
    (Capability::Bpf, "CAP_BPF"),
    (Capability::CheckpointRestore, "CAP_CHECKPOINT_RESTORE"),
];

/// Docker's default set, by number (mask `a80425fb`).
const DEFAULT: [u8; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability \"{0}\"")]
pub struct UnknownName(pub String);

/// Reads `CAP_NET_ADMIN`, `NET_ADMIN`, `net_admin`.
///
/// # Errors
/// The name, when no capability has it.
pub fn parse(name: &str) -> Result<Capability, UnknownName> {
    let upper = name.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = ALL.iter().find(|(_, full)| &full[4..] == bare);
    found.map(|(capability, _)| *capability).ok_or_else(|| UnknownName(name.to_owned()))
}

/// The kernel's number.
pub fn number(capability: Capability) -> u8 {
    let index = ALL.iter().position(|(known, _)| *known == capability);
    let index = index.expect("invariant: ALL lists every variant of Capability");
    u8::try_from(index).expect("invariant: there are 41 capabilities")
}

/// The bit set that the kernel's capability calls take.
pub fn mask(capabilities: impl IntoIterator<Item = Capability>) -> u64 {
    capabilities.into_iter().fold(0, |mask, capability| mask | 1 << number(capability))
}

/// What a container gets when nothing was said: Docker's 14, in kernel order.
pub fn default_set() -> Vec<Capability> {
    DEFAULT.iter().map(|number| ALL[usize::from(*number)].0).collect()
}

/// The set after `--cap-add` and `--cap-drop`, in kernel order and without repetition.
///
/// Docker's arithmetic: `privileged` gives all and ignores both lists; with `ALL` among the added, everything but the
/// dropped ones; with `ALL` among the dropped, only the added ones; otherwise the default set less the dropped ones plus
/// the added ones (a name on both lists is added).
///
/// # Errors
/// The first name, added ones first, that is no capability.
pub fn resolve(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<Capability>, UnknownName> {
    let (add_all, add) = split(add)?;
    let (drop_all, drop) = split(drop)?;
    let everything = mask(ALL.iter().map(|(capability, _)| *capability));
    let set = if privileged {
        everything
    } else if add_all {
        everything & !drop
    } else if drop_all {
        add
    } else {
        mask(default_set()) & !drop | add
    };
    Ok(ALL.iter().map(|(capability, _)| *capability).filter(|capability| set >> number(*capability) & 1 == 1).collect())
}

/// Whether `ALL` is in the list, and the mask of the rest.
fn split(names: &[String]) -> Result<(bool, u64), UnknownName> {
    let mut all = false;
    let mut set = 0;
    for text in names {
        if text.trim().eq_ignore_ascii_case("ALL") || text.trim().eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set |= 1u64 << number(parse(text)?);
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(add: &[&str], drop: &[&str], privileged: bool) -> u64 {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        mask(resolve(&owned(add), &owned(drop), privileged).unwrap())
    }

    const EVERYTHING: u64 = (1 << 41) - 1;

    #[test]
    fn numbers_and_names_agree_with_the_kernel() {
        for (text, wanted) in
            [("chown", 0), ("CAP_SYS_ADMIN", 21), ("Sys_Chroot", 18), ("AUDIT_READ", 37), ("BPF", 39), ("cap_checkpoint_restore", 40)]
        {
            assert_eq!(number(parse(text).unwrap()), wanted, "{text}");
        }
        assert_eq!(parse("CAP_NOPE"), Err(UnknownName("CAP_NOPE".into())));
        assert_eq!(parse(""), Err(UnknownName(String::new())));
    }

    #[test]
    fn add_and_drop_follow_docker() {
        const DEFAULTS: u64 = 0xa804_25fb;
        let (admin, chown) = (1 << 21, 1);
        for (add, drop, privileged, wanted) in [
            (&[][..], &[][..], false, DEFAULTS),
            (&[], &["CHOWN"], false, DEFAULTS & !chown),
            (&["sys_admin"], &[], false, DEFAULTS | admin),
            (&["CHOWN"], &["CHOWN"], false, DEFAULTS),
            (&[], &["all"], false, 0),
            (&["CAP_CHOWN", "SYS_ADMIN"], &["ALL"], false, chown | admin),
            (&["ALL"], &["SYS_ADMIN"], false, EVERYTHING & !admin),
            (&["ALL"], &["ALL"], false, EVERYTHING),
            (&[], &["ALL"], true, EVERYTHING),
        ] {
            assert_eq!(resolved(add, drop, privileged), wanted, "+{add:?} -{drop:?}");
        }
        assert_eq!(resolve(&["X".into()], &[], true), Err(UnknownName("X".into())));
    }
}
