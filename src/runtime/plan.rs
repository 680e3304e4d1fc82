//! OCI config → [`Plan`]: the ordered steps of the init stage, plain data.
//!
//! Invariant: every decision that needs no look at the container's root is made here, before the clone;
//! whatever the config asks and this build cannot do is refused here, by name.

mod devices;
#[cfg(test)]
mod hostile_tests;
mod mounts;
mod namespaces;
mod rootfs;
#[cfg(test)]
mod snapshots;
mod sysctl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text;

pub(super) use devices::{DeviceKind, DeviceStep};
pub(super) use mounts::{Idmap, Maps, MountStep, Source, over_proc};
pub(super) use namespaces::{Namespaces, owner};

use super::error::Error;
use super::hooks::{self, Hooks};
use super::net_devices::{self, Device};
use super::options::Propagation;
use super::process::{self, ProcessPlan};
use super::{BindSource, Root, User};
use oci_spec::runtime::Spec;
use std::path::{Path, PathBuf};

/// All that the init stage does, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub namespaces: Namespaces,
    pub steps: Vec<Step>,
    pub process: ProcessPlan,
    /// Moved by the parent before it says [`Step::Joined`].
    pub net_devices: Vec<Device>,
    /// None without hooks.
    pub hooks: Option<Box<Hooks>>,
}

/// One step of the stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Opens the sources of all binds, while their peers are still known.
    OpenBinds,
    /// Clones a root that hears of the host's later mounts.
    OpenRoot(Root),
    /// No mount of ours reaches the host any more, nor the reverse.
    Private,
    /// No mount of ours reaches the host any more.
    Slave,
    AttachRoot(Root),
    /// Without a mount namespace: the root as it is.
    HoldRoot(Root),
    Mount(MountStep),
    Device(DeviceStep),
    /// A symbolic link, made if nothing is there: name and target.
    Link(&'static str, &'static str),
    /// The terminal of the process, bound to /dev/console.
    Console,
    Sysctl(String, String),
    WorkingDirectory(PathBuf),
    Mask(PathBuf),
    ReadOnly(PathBuf),
    /// Of a new network namespace.
    Loopback,
    /// Waits until the parent has moved the stage into its groups.
    Joined,
    /// Made, or joined.
    CgroupNamespace,
    /// Waits until the parent has run the prestart and createRuntime hooks.
    RuntimeHooks,
    CreateContainerHooks,
    /// A read-only /dev, when all is made that belongs in it.
    Seal(PathBuf),
    ReadOnlyRoot,
    Pivot,
    /// `--no-pivot`.
    MoveRoot,
    /// Without a mount namespace.
    Chroot,
    RootPropagation(Propagation),
    Hostname(String),
    Domainname(String),
}

/// What of [`super::Create`] decides the plan.
pub(super) struct Request<'a> {
    pub spec: &'a Spec,
    pub root: &'a Root,
    pub bundle: Option<&'a Path>,
    /// As in [`super::Create`].
    pub sources: &'a [BindSource],
    pub no_pivot: bool,
    pub user: Option<&'a User>,
    pub keyring: Option<&'a str>,
    pub terminal: bool,
    /// A network namespace is given by descriptor.
    pub netns: bool,
    /// What hooks are told; without it a config with hooks is refused.
    pub state: Option<&'a hooks::State>,
}

impl Plan {
    /// # Errors
    /// `Invalid` or `Unsupported`, naming the field.
    pub fn compile(request: &Request<'_>) -> Result<Self, Error> {
        let spec = request.spec;
        refuse_unsupported(spec)?;
        if spec.annotations().as_ref().is_some_and(|all| all.contains_key("")) {
            return Err(Error::Invalid("annotations has an empty key".to_owned()));
        }
        let hooks = Hooks::compile(spec, request.state)?;
        let linux = spec.linux().as_ref();
        let namespaces = namespaces::namespaces(linux, request.netns)?;
        let net_devices = net_devices::compile(linux, request.netns || namespaces.has(libc::CLONE_NEWNET))?;
        let oci_process = spec.process().as_ref().ok_or_else(|| Error::Invalid("the config has no process".to_owned()))?;
        let process =
            process::compile(&process::Request { process: oci_process, user: request.user, spec, defaults: None, keyring: request.keyring })?;
        let root = rootfs::compile(request, &namespaces)?;
        let mut steps = root.first;
        steps.extend((namespaces.new & libc::CLONE_NEWNET as u64 != 0).then_some(Step::Loopback));
        let mut mounts = mounts::mounts(spec, request.bundle, &namespaces)?;
        mounts::replace_sources(&mut mounts, request.sources)?;
        let seal = rootfs::seal_dev(&mut mounts);
        let bound_dev = mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.source, Source::Bind { .. }));
        let (now, late) = mounts::split_cgroup(mounts);
        steps.extend(now.into_iter().map(Step::Mount));
        if !bound_dev {
            steps.extend(devices::device_steps(linux)?);
            steps.extend(devices::link_steps());
        }
        if request.terminal {
            steps.push(Step::Console);
        }
        let mut finish = sysctl::sysctl_steps(linux, namespaces.new, &namespaces.join, request.netns)?;
        finish.push(Step::WorkingDirectory(oci_process.cwd().clone()));
        if let Some(linux) = linux {
            finish.extend(paths("maskedPaths", linux.masked_paths())?.map(Step::Mask));
            finish.extend(paths("readonlyPaths", linux.readonly_paths())?.map(Step::ReadOnly));
        }
        // Sysctls of a network device need the device, and masks must cover what hooks mount.
        let late_finish = !net_devices.is_empty() || hooks.as_ref().is_some_and(|hooks| hooks.before_pivot());
        let finish = if late_finish {
            Some(finish)
        } else {
            steps.extend(finish);
            None
        };
        steps.push(Step::Joined);
        steps.extend(late.into_iter().map(Step::Mount));
        // After the mounts: they find the groups by their names on the host.
        if namespaces.cgroup || namespaces.has(libc::CLONE_NEWCGROUP) {
            steps.push(Step::CgroupNamespace);
        }
        if let Some(hooks) = &hooks {
            steps.extend((!hooks.runtime.is_empty()).then_some(Step::RuntimeHooks));
            steps.extend((!hooks.create.is_empty()).then_some(Step::CreateContainerHooks));
        }
        steps.extend(finish.into_iter().flatten());
        steps.extend(seal);
        steps.extend(root.last);
        for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
            // uname(2): the kernel keeps 64 bytes, and whoever reads them stops at a NUL.
            if name.as_ref().is_some_and(|name| name.len() > 64 || name.contains('\0')) {
                return Err(Error::Invalid(format!("{field} must be at most 64 bytes without NUL")));
            }
        }
        steps.extend(spec.hostname().iter().filter(|name| !name.is_empty()).cloned().map(Step::Hostname));
        steps.extend(spec.domainname().iter().filter(|name| !name.is_empty()).cloned().map(Step::Domainname));
        if steps.iter().any(|step| matches!(step, Step::Hostname(_) | Step::Domainname(_))) {
            namespaces::require_own_uts(&namespaces)?;
        }
        Ok(Plan { namespaces, steps, process, net_devices, hooks })
    }
}

fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    if label.is_some_and(|label| !label.is_empty()) {
        return Err(Error::Unsupported("linux.mountLabel".to_owned()));
    }
    Ok(())
}

/// A relative path would mask something else than its author thinks (config-linux.md: they must be absolute).
fn paths<'a>(field: &str, list: &'a Option<Vec<String>>) -> Result<impl Iterator<Item = PathBuf> + 'a, Error> {
    if let Some(path) = list.iter().flatten().find(|path| !path.starts_with('/')) {
        return Err(Error::Invalid(format!("path \"{path}\" of linux.{field} must be absolute")));
    }
    Ok(list.iter().flatten().map(PathBuf::from))
}
