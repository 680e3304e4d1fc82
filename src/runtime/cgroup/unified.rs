//! `resources.unified`: files of the v2 group by name, also those that nobody here has heard of (config-linux.md, *Unified*).

use super::Error;
use super::files::Files;
use oci_spec::runtime::LinuxResources;
use std::collections::BTreeSet;

/// Core files that move, stop or end processes instead of limiting them, or that are the runtime's own business.
const NO_LIMITS: [&str; 6] = ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control"];

/// The v2 controllers whose files are named; core files (`cgroup.*`) belong to none.
pub(super) fn controllers(resources: &LinuxResources) -> BTreeSet<&str> {
    let names = resources.unified().iter().flatten().filter_map(|(key, _)| key.split_once('.'));
    names.map(|(controller, _)| controller).filter(|controller| !controller.is_empty() && *controller != "cgroup").collect()
}

/// Writes the files, several lines of one value one by one, as the kernel takes them.
///
/// # Errors
/// A key that is no such file's name; a controller that the group does not have; what the kernel refuses.
pub(super) fn apply(files: &Files<'_>, resources: &LinuxResources) -> Result<(), Error> {
    let mut entries: Vec<_> = resources.unified().iter().flatten().collect();
    entries.sort();
    for (key, _) in &entries {
        let invalid = |why| Error::Invalid { option: "unified resource", value: (*key).clone(), why };
        if key.contains('/') || !key.contains('.') || key.starts_with('.') || key.chars().any(char::is_control) {
            return Err(invalid("expected the name of a cgroup file, controller.parameter"));
        }
        if NO_LIMITS.contains(&key.as_str()) {
            return Err(invalid("that file is no limit"));
        }
    }
    let available = files.get("cgroup.controllers")?;
    if let Some(missing) = controllers(resources).into_iter().find(|name| !available.split_whitespace().any(|known| known == *name)) {
        return Err(Error::NotUnified { controller: missing.to_owned(), group: files.group.to_owned() });
    }
    for (key, value) in entries {
        value.lines().try_for_each(|line| files.set(key, line))?;
    }
    Ok(())
}
