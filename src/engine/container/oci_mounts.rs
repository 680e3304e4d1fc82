//! The mounts of the OCI config (pure): the kernel's file systems, the generated files in `/etc`, volumes by depth.

use super::oci_config::Inputs;
use crate::state::record::{self, Container, IpcMode, MountKind, UsernsMode};
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// Docker's default of `--shm-size`.
const SHM_SIZE: u64 = 64 << 20;

fn mount(destination: &Path, typ: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_path_buf())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_path_buf()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn kernel(destination: &str, typ: &str, options: &[&str]) -> Mount {
    mount(Path::new(destination), typ, Path::new(typ), options)
}

/// All mounts in the order in which they are made.
pub(super) fn all(container: &Container, inputs: &Inputs<'_>) -> Vec<Mount> {
    let host = &container.spec.host;
    let writable = if host.privileged { "rw" } else { "ro" };
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    // Group tty, if the container's user namespace has it.
    let terminals = match &host.userns {
        UsernsMode::Mapped { gids, .. } if !gids.iter().any(|m| m.container <= 5 && 5 - m.container < m.size) => &terminals[..5],
        _ => &terminals[..],
    };
    // What is ours on disk has the container's own ids; binds of the user are shown as they are.
    let mapped = matches!(host.userns, UsernsMode::Mapped { .. });
    let own: &[&str] = if mapped { &["rbind", "rprivate", "idmap"] } else { &["rbind", "rprivate"] };
    let mut mounts = vec![
        kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        kernel("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        kernel("/dev/pts", "devpts", terminals),
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", writable]),
        kernel("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", writable]),
    ];
    mounts.extend(ipc(container, inputs));
    // A mount below another one must come after it, the generated files included (`-v mine:/etc`).
    let mut later: Vec<Mount> = ["resolv.conf", "hostname", "hosts"]
        .iter()
        .map(|file| mount(&Path::new("/etc").join(file), "bind", &inputs.etc_dir.join(file), own))
        .collect();
    for volume in &container.spec.mounts {
        // A user's mount replaces the default one at the same place (`-v my-hosts:/etc/hosts`, `--tmpfs /dev/shm`).
        mounts.retain(|m| *m.destination() != volume.destination);
        later.retain(|m| *m.destination() != volume.destination);
        later.push(user_mount(volume, &inputs.volumes_dir, mapped));
    }
    later.sort_by_key(|m| m.destination().components().count());
    mounts.extend(later);
    mounts
}

/// `/dev/shm` and `/dev/mqueue` as the IPC mode says.
fn ipc(container: &Container, inputs: &Inputs<'_>) -> Vec<Mount> {
    let size = match container.spec.host.shm_size {
        0 => SHM_SIZE,
        size => size,
    };
    let mqueue = kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let bind = |path: &str, source: &Path| mount(Path::new(path), "bind", source, &["rbind", "rprivate", "nosuid", "noexec", "nodev"]);
    match (&container.spec.host.ipc, &inputs.shm_dir) {
        (IpcMode::None, _) => vec![mqueue],
        // An mqueue file system shows the queues of the IPC namespace it is mounted in, here the host's; there may be
        // no /dev/mqueue on the host to bind, and a mapped root may only bind.
        (IpcMode::Host, _) if container.spec.host.userns == UsernsMode::Host => vec![bind("/dev/shm", Path::new("/dev/shm")), mqueue],
        (IpcMode::Host, _) => vec![bind("/dev/shm", Path::new("/dev/shm")), bind("/dev/mqueue", Path::new("/dev/mqueue"))],
        (IpcMode::Shareable | IpcMode::Container(_), Some(shm)) => vec![bind("/dev/shm", shm), mqueue],
        _ => {
            let size = format!("size={size}");
            vec![mount(Path::new("/dev/shm"), "tmpfs", Path::new("shm"), &["nosuid", "noexec", "nodev", "mode=1777", &size]), mqueue]
        }
    }
}

fn user_mount(volume: &record::Mount, volumes_dir: &Path, mapped: bool) -> Mount {
    let access = if volume.read_only { "ro" } else { "rw" };
    let propagation = if volume.propagation.is_empty() { "rprivate" } else { &volume.propagation };
    match &volume.kind {
        MountKind::Bind { source, recursive } => {
            let bind = if *recursive { "rbind" } else { "bind" };
            // Recursive read-only as far as the bind is recursive.
            let access = if volume.read_only && *recursive { "rro" } else { access };
            mount(&volume.destination, "bind", source, &[bind, access, propagation])
        }
        MountKind::Volume { name, .. } => {
            let access = if volume.read_only { "rro" } else { "rw" };
            let options = ["rbind", access, propagation, "idmap"];
            mount(&volume.destination, "bind", &volume_data(volumes_dir, name), if mapped { &options } else { &options[..3] })
        }
        MountKind::Tmpfs { options, .. } => {
            let mut all = vec!["noexec", "nosuid", "nodev"];
            for option in options.split(',').filter(|o| !o.is_empty()) {
                let opposite = match option {
                    "exec" => "noexec",
                    "suid" => "nosuid",
                    "dev" => "nodev",
                    _ => "",
                };
                all.retain(|o| *o != opposite && *o != option);
                all.push(option);
            }
            if volume.read_only {
                all.push("ro");
            }
            mount(&volume.destination, "tmpfs", Path::new("tmpfs"), &all)
        }
    }
}

/// Where a volume's files are.
pub(super) fn volume_data(volumes_dir: &Path, name: &crate::base::VolumeName) -> PathBuf {
    volumes_dir.join(name.as_str()).join("_data")
}
