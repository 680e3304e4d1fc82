//! The mounts of the OCI config (pure): the kernel's file systems, the generated files in `/etc`, volumes by depth.

use super::super::secret::copy_of;
use super::oci_config::{Inputs, NOTIFY_INSIDE};
use super::sources::Shown;
use crate::state::record::{self, Container, IdMap, IpcMode, MountIdmap, MountKind, SecretTarget, UsernsMode};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};
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
    // A systemd makes groups below its own, which is all that it sees.
    let groups = if host.systemd { "rw" } else { writable };
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    // Group tty, if the container's user namespace has it.
    let terminals = match host.userns.maps() {
        Some((_, gids)) if !gids.iter().any(|m| m.container <= 5 && 5 - m.container < m.size) => &terminals[..5],
        _ => &terminals[..],
    };
    // What is ours on disk has the container's own ids; binds of the user are shown as they are.
    let mapped = host.userns.maps().is_some();
    let own: &[&str] = if mapped { &["rbind", "rprivate", "idmap"] } else { &["rbind", "rprivate"] };
    let mut mounts = vec![
        kernel("/proc", "proc", &proc_options(&host.security.proc_options)),
        kernel("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        kernel("/dev/pts", "devpts", terminals),
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", writable]),
        kernel("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", groups]),
    ];
    mounts.extend(ipc(container, inputs));
    // A mount below another one must come after it, the generated files included (`-v mine:/etc`).
    let generated = [("resolv.conf", &inputs.network_dir), ("hostname", &inputs.etc_dir), ("hosts", &inputs.network_dir)];
    let no_hosts = inputs.pod.as_ref().is_some_and(|pod| pod.no_hosts);
    let mut later: Vec<Mount> = generated
        .iter()
        .filter(|(file, _)| *file != "hosts" || !(no_hosts || host.no_hosts))
        .map(|(file, dir)| mount(&Path::new("/etc").join(file), "bind", &dir.join(file), own))
        .collect();
    for volume in &container.spec.mounts {
        // A user's mount replaces the default one at the same place (`-v my-hosts:/etc/hosts`, `--tmpfs /dev/shm`).
        mounts.retain(|m| *m.destination() != volume.destination);
        later.retain(|m| *m.destination() != volume.destination);
        later.push(user_mount(volume, &inputs.volumes_dir, inputs.sources.get(&volume.destination), mapped));
    }
    if let Some(socket) = &inputs.notify {
        later.push(mount(Path::new(NOTIFY_INSIDE), "bind", socket, &["bind", "rprivate", "nosuid", "nodev", "noexec"]));
    }
    for (index, secret) in host.secrets.iter().enumerate() {
        if let SecretTarget::Mount { path, .. } = &secret.target {
            later.retain(|m| m.destination() != path);
            let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec", "idmap"];
            later.push(mount(path, "bind", &copy_of(&inputs.container_dir, index), if mapped { &options } else { &options[..6] }));
        }
    }
    later.sort_by_key(|m| m.destination().components().count());
    mounts.extend(later);
    mounts
}

/// The options of `/proc`, with those that were asked for over them.
fn proc_options(asked: &[String]) -> Vec<&str> {
    let own = ["nosuid", "noexec", "nodev"].into_iter().filter(|option| !asked.iter().any(|asked| asked == option));
    own.chain(asked.iter().map(String::as_str)).collect()
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
        (IpcMode::Shareable | IpcMode::Container(_) | IpcMode::Pod, Some(shm)) => vec![bind("/dev/shm", shm), mqueue],
        _ => {
            let size = format!("size={size}");
            vec![mount(Path::new("/dev/shm"), "tmpfs", Path::new("shm"), &["nosuid", "noexec", "nodev", "mode=1777", &size]), mqueue]
        }
    }
}

fn user_mount(volume: &record::Mount, volumes_dir: &Path, shown: Option<&Shown>, mapped: bool) -> Mount {
    let options = &volume.options;
    let read_only = volume.read_only || shown.is_some_and(|shown| shown.read_only);
    let propagation = if volume.propagation.is_empty() { "rprivate" } else { &volume.propagation };
    let place = |path: PathBuf| shown.and_then(|shown| shown.path.clone()).unwrap_or(path);
    // What is ours on disk has the container's own ids.
    let (source, recursive, ours) = match &volume.kind {
        MountKind::Bind { source, recursive } => (source.clone(), *recursive, false),
        MountKind::Volume { name, .. } => (place(volume_data(volumes_dir, name)), true, true),
        // Of which the runtime is told apart; the name is for messages.
        MountKind::Image { reference, .. } => (Path::new("/").join(reference), true, true),
        MountKind::Tmpfs { options, .. } => return tmpfs(volume, options),
    };
    // Recursive read-only as far as the bind is recursive.
    let access = match (read_only, recursive && !options.writable_submounts) {
        (false, _) => "rw",
        (true, true) => "rro",
        (true, false) => "ro",
    };
    let mut words = vec![if recursive { "rbind" } else { "bind" }, access, propagation];
    words.extend(options.flags.iter().map(String::as_str));
    let maps = shown.and_then(|shown| shown.maps.as_ref());
    if maps.is_some() || (mapped && (ours || options.idmap == Some(MountIdmap::Container))) {
        words.push("idmap");
    }
    let mut made = mount(&volume.destination, "bind", &source, &words);
    if let Some((uids, gids)) = maps {
        made.set_uid_mappings(Some(mappings(uids))).set_gid_mappings(Some(mappings(gids)));
    }
    made
}

pub(super) fn mappings(maps: &[IdMap]) -> Vec<LinuxIdMapping> {
    let line = |m: &IdMap| LinuxIdMappingBuilder::default().container_id(m.container).host_id(m.host).size(m.size).build();
    maps.iter().map(|m| line(m).expect("invariant: all fields are given")).collect()
}

fn tmpfs(volume: &record::Mount, options: &str) -> Mount {
    let mut all = vec!["noexec", "nosuid", "nodev"];
    // `notmpcopyup` is what happens without a word.
    for option in options.split(',').filter(|o| !o.is_empty() && *o != "notmpcopyup") {
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

/// Where a volume's files are.
pub(super) fn volume_data(volumes_dir: &Path, name: &crate::base::VolumeName) -> PathBuf {
    volumes_dir.join(name.as_str()).join("_data")
}
