//! What this runtime implements, as the features document of the runtime-spec (features.md, features-linux.md): whatever the
//! host has, so a constant but for the version.

use serde_json::{Value, json};

/// Names of [`crate::runtime::options`] that are no data of a file system.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: &[&str] = &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// Those with tables of system calls.
const SECCOMP_ARCHITECTURES: &[&str] = &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

const SECCOMP_FLAGS: &[&str] =
    &["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];

const MEMORY_MODES: &[&str] =
    &["MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"];

const MEMORY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The features document; `newest` is the newest version of the spec that is understood.
pub fn document(newest: &str) -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": newest,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": super::capability::ALL.map(|(_, name)| name).to_vec(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": SECCOMP_ACTIONS,
                "operators": SECCOMP_OPERATORS,
                "archs": SECCOMP_ARCHITECTURES,
                "knownFlags": SECCOMP_FLAGS,
                "supportedFlags": SECCOMP_FLAGS
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "memoryPolicy": {"modes": MEMORY_MODES, "flags": MEMORY_FLAGS},
            "netDevices": {"enabled": true}
        },
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "false"},
        // Whoever may write it chooses properties of units of the host's systemd.
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Arch, Features, LinuxSeccompFilterFlag, LinuxSeccompOperator};

    /// Each name is one that the config's types know.
    fn known<T: serde::de::DeserializeOwned>(names: &[&str]) {
        for name in names {
            assert!(serde_json::from_value::<T>(json!(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_document_is_one_of_the_spec() {
        let document = document("1.3.0");
        let parsed: Features = serde_json::from_value(document.clone()).unwrap();
        assert_eq!((parsed.oci_version_min().as_str(), parsed.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
        let capabilities = document["linux"]["capabilities"].as_array().unwrap();
        assert_eq!((capabilities.len(), &capabilities[0]), (41, &json!("CAP_CHOWN")));
        known::<oci_spec::runtime::LinuxSeccompAction>(SECCOMP_ACTIONS);
        known::<LinuxSeccompOperator>(SECCOMP_OPERATORS);
        known::<Arch>(SECCOMP_ARCHITECTURES);
        known::<LinuxSeccompFilterFlag>(SECCOMP_FLAGS);
        known::<oci_spec::runtime::LinuxNamespaceType>(NAMESPACES);
        known::<oci_spec::runtime::MemoryPolicyModeType>(MEMORY_MODES);
        known::<oci_spec::runtime::MemoryPolicyFlagType>(MEMORY_FLAGS);
    }

    #[test]
    fn mount_options_are_understood_and_none_is_missing() {
        for name in MOUNT_OPTIONS {
            let parsed = crate::runtime::options::parse(&[(*name).to_owned()]);
            assert!(parsed.data.is_empty(), "{name} would be data of a file system");
        }
        assert!(MOUNT_OPTIONS.is_sorted());
    }
}
