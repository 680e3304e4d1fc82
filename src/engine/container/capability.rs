//! Capability arithmetic until the runtime's own is merged.

use oci_spec::runtime::Capability;

#[derive(Debug, thiserror::Error)]
#[error("unknown capability \"{0}\"")]
pub(super) struct UnknownName(pub String);

pub(super) fn resolve(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<Capability>, UnknownName> {
    let default = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"];
    let parse = |n: &str| n.parse::<Capability>().map_err(|_| UnknownName(n.to_owned()));
    let mut set: Vec<Capability> = if privileged { vec![] } else { default.iter().map(|n| parse(n)).collect::<Result<_, _>>()? };
    for name in drop.iter().filter(|n| *n != "ALL") {
        let cap = parse(name)?;
        set.retain(|c| *c != cap);
    }
    for name in add.iter().filter(|n| *n != "ALL") {
        set.push(parse(name)?);
    }
    Ok(set)
}
