//! A plan in words: one line a step, in order. What the snapshots of the tests are made of.
//!
//! Invariant: two plans that differ have different texts, but for the state that hooks are told and the code of a
//! seccomp filter (the tests of `runtime::seccomp` run that).

use super::{DeviceKind, DeviceStep, MountStep, Namespaces, Plan, Source, Step};
use crate::runtime::attributes::Attributes;
use crate::runtime::hooks::Hook;
use crate::runtime::options::{Change, Propagation};
use crate::runtime::process::{Identity, ProcessPlan, Sets};
use crate::runtime::{Root, capability};
use crate::sys::{keyring, seccomp};
use std::ffi::CString;

/// Name in the config and flag, in the order in which they are told.
const KINDS: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("pid", libc::CLONE_NEWPID),
    ("network", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("mount", libc::CLONE_NEWNS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// Attribute, option that sets it, option that clears it.
const OPTIONS: [(u64, &str, &str); 6] = [
    (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
    (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
    (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
];

/// Names by number: include/uapi/linux/sched.h, ioprio.h, mempolicy.h.
const POLICIES: [&str; 7] = ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
const IO_CLASSES: [&str; 4] = ["IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
const MEMORY_MODES: [&str; 7] =
    ["MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"];
const MEMORY_FLAGS: [(u32, &str); 3] = [(1 << 13, "MPOL_F_NUMA_BALANCING"), (1 << 14, "MPOL_F_RELATIVE_NODES"), (1 << 15, "MPOL_F_STATIC_NODES")];
const FILTER_FLAGS: [(u32, &str); 5] = [
    (seccomp::FLAG_TSYNC, "TSYNC"),
    (seccomp::FLAG_LOG, "LOG"),
    (seccomp::FLAG_SPEC_ALLOW, "SPEC_ALLOW"),
    (seccomp::FLAG_NEW_LISTENER, "NEW_LISTENER"),
    (seccomp::FLAG_WAIT_KILLABLE_RECV, "WAIT_KILLABLE_RECV"),
];

/// The whole plan: namespaces, what the parent moves and runs, the steps, the process.
pub(super) fn render(plan: &Plan) -> String {
    let mut lines = namespaces(&plan.namespaces);
    lines.extend(plan.net_devices.iter().map(|device| format!("network device {} as {}", device.host, device.name)));
    if let Some(hooks) = &plan.hooks {
        lines.extend(hooks.runtime.iter().chain(&hooks.create).chain(&hooks.start).map(hook));
    }
    lines.extend(plan.steps.iter().map(step));
    lines.push(process(&plan.process));
    lines.join("\n")
}

fn namespaces(own: &Namespaces) -> Vec<String> {
    let mut new: Vec<&str> = KINDS.iter().filter(|(_, flag)| own.new & *flag as u64 != 0).map(|(name, _)| *name).collect();
    new.extend(own.cgroup.then_some("cgroup"));
    new.extend(own.time.is_some().then_some("time"));
    let mut lines = vec![format!("new namespaces: {}", if new.is_empty() { "none".to_owned() } else { new.join(", ") })];
    let name = |flag: u64| KINDS.iter().find(|(_, known)| *known as u64 == flag).map_or("unknown", |(name, _)| *name);
    lines.extend(own.join.iter().map(|(flag, path)| format!("join {} namespace {}", name(*flag), path.display())));
    let maps = [("time offset", own.time.as_deref().unwrap_or("")), ("uid map", &own.uid_map), ("gid map", &own.gid_map)];
    lines.extend(maps.iter().flat_map(|(what, text)| text.lines().map(move |line| format!("{what} {line}"))));
    lines.extend(own.owner.map(|(uid, gid)| format!("root of the user namespace is {uid}:{gid} outside")));
    let rights = [(own.rootless, "caller without rights"), (own.shown, "stage shows itself"), (own.handed_over, "parent opens root and binds")];
    lines.extend(rights.iter().filter(|(is, _)| *is).map(|(_, text)| (*text).to_owned()));
    lines
}

fn hook(hook: &Hook) -> String {
    let timeout = hook.timeout.map_or(String::new(), |time| format!(" timeout {} s", time.as_secs()));
    let texts = |list: &[CString]| format!("{:?}", list.iter().map(|text| text.to_string_lossy()).collect::<Vec<_>>());
    format!("hook {} {}: {} {} env {}{timeout}", hook.kind.name(), hook.number, hook.path.display(), texts(&hook.args), texts(&hook.env))
}

fn step(step: &Step) -> String {
    match step {
        Step::OpenBinds => "open the sources of binds".to_owned(),
        Step::OpenRoot(root) => format!("open root {}", root_text(root)),
        Step::Private => "make all mounts rprivate".to_owned(),
        Step::Slave => "make all mounts rslave".to_owned(),
        Step::AttachRoot(root) => format!("attach root {}", root_text(root)),
        Step::HoldRoot(root) => format!("root {} as it is", root_text(root)),
        Step::Mount(step) => mount(step),
        Step::Device(step) => device(step),
        Step::Link(name, target) => format!("link {name} to {target}"),
        Step::Console => "bind the terminal on /dev/console".to_owned(),
        Step::Sysctl(key, value) => format!("sysctl {key} = {value}"),
        Step::WorkingDirectory(path) => format!("working directory {}", path.display()),
        Step::Mask(path) => format!("mask {}", path.display()),
        Step::ReadOnly(path) => format!("read-only {}", path.display()),
        Step::Loopback => "bring up the loopback device".to_owned(),
        Step::Joined => "wait for the parent: moved into the cgroups".to_owned(),
        Step::CgroupNamespace => "enter the cgroup namespace".to_owned(),
        Step::RuntimeHooks => "wait for the parent: prestart and createRuntime hooks".to_owned(),
        Step::CreateContainerHooks => "run createContainer hooks".to_owned(),
        Step::Seal(path) => format!("seal {} read-only", path.display()),
        Step::ReadOnlyRoot => "root read-only".to_owned(),
        Step::Pivot => "pivot to the root".to_owned(),
        Step::MoveRoot => "move the root to / and chroot".to_owned(),
        Step::Chroot => "chroot to the root".to_owned(),
        Step::RootPropagation(own) => format!("root propagation {}", propagation(*own)),
        Step::Hostname(name) => format!("hostname {name}"),
        Step::Domainname(name) => format!("domainname {name}"),
    }
}

fn root_text(root: &Root) -> String {
    match root {
        Root::Directory(path) => path.display().to_string(),
        Root::Overlay(overlay) => format!("{overlay:?}"),
    }
}

/// File system or bind, target, options as mount(8) takes them; those for the whole tree begin with "r".
fn mount(step: &MountStep) -> String {
    let on = step.target.display();
    let mut options = attributes(step.tree, "r");
    options.extend(attributes(step.top, ""));
    options.extend(step.propagation.iter().map(|own| propagation(*own)));
    let (what, more) = match &step.source {
        Source::Bind { path, recursive, idmap, made } => {
            // What MountStep::settings says of a bind without propagation.
            options.extend(step.propagation.is_empty().then(|| "rprivate".to_owned()));
            let idmap = idmap.as_ref().map(|idmap| {
                let maps = idmap.maps.as_ref().map_or_else(
                    || "by the user namespace".to_owned(),
                    |maps| format!("uids {} gids {}", maps.uid.trim_end().replace('\n', ","), maps.gid.trim_end().replace('\n', ",")),
                );
                format!(" {} {maps}", if idmap.recursive { "ridmap" } else { "idmap" })
            });
            let made = made.as_ref().map(|made| format!(" from {:?}", made.base)).unwrap_or_default();
            (format!("{} {} on {on}", if *recursive { "rbind" } else { "bind" }, path.display()), idmap.unwrap_or_default() + &made)
        }
        Source::Fresh { kind, source, data, copy_up, iversion } => {
            let source = source.as_ref().map_or_else(String::new, |source| format!(" {}", source.to_string_lossy()));
            let data = if data.is_empty() { String::new() } else { format!(" with {}", data.join(",")) };
            let flags = [(*copy_up, " tmpcopyup"), (*iversion, " iversion")];
            let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
            (format!("mount {kind}{source} on {on}"), data + &flags)
        }
        Source::Remount { data: None } => (format!("remount {on} itself"), String::new()),
        Source::Remount { data: Some(data) } => (format!("remount {on}"), format!(" with {}", data.join(","))),
        Source::Cgroup { v2 } => (format!("mount {} on {on}", if *v2 { "cgroup2" } else { "cgroups" }), String::new()),
    };
    let space = if options.is_empty() { "" } else { " " };
    format!("{what}{space}{}{more}", options.join(","))
}

fn attributes(change: Change, prefix: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (flag, on, off) in OPTIONS {
        words.extend((change.set & flag != 0).then_some(on));
        words.extend((change.clear & flag != 0).then_some(off));
    }
    let time = change.set & libc::MOUNT_ATTR__ATIME;
    if time == libc::MOUNT_ATTR_NOATIME {
        words.push("noatime");
    } else if time == libc::MOUNT_ATTR_STRICTATIME {
        words.push("strictatime");
    } else if change.clear & libc::MOUNT_ATTR__ATIME != 0 {
        words.push("relatime");
    }
    words.into_iter().map(|word| format!("{prefix}{word}")).collect()
}

fn propagation(own: Propagation) -> String {
    let names = [(libc::MS_PRIVATE, "private"), (libc::MS_SLAVE, "slave"), (libc::MS_SHARED, "shared"), (libc::MS_UNBINDABLE, "unbindable")];
    let name = names.iter().find(|(flag, _)| *flag == own.flag).map_or("unknown", |(_, name)| *name);
    format!("{}{name}", if own.recursive { "r" } else { "" })
}

fn device(step: &DeviceStep) -> String {
    let kind = match step.kind {
        DeviceKind::Character => 'c',
        DeviceKind::Block => 'b',
        DeviceKind::Fifo => 'p',
    };
    format!("device {} {kind} {}:{} {:04o} {}:{}", step.path.display(), step.major, step.minor, step.mode, step.uid, step.gid)
}

/// The process alone, which is all that an exec has.
pub(super) fn process(own: &ProcessPlan) -> String {
    let who = match &own.identity {
        Identity::Numeric { uid, gid, groups } => format!("{uid}:{gid} groups {groups:?}"),
        Identity::Named { user, groups } => format!("\"{}\" of the root's passwd, groups {:?} {groups:?}", user.name, user.groups),
    };
    let mut lines = vec![
        format!("process {:?} as {who} umask {:04o} cwd {}", own.args, own.umask, own.cwd.display()),
        format!("environment {:?}", own.env),
        capabilities(&own.capabilities),
    ];
    let number = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    let exact = if own.rlimits_exact { "" } else { " or what the host permits" };
    lines.extend(own.rlimits.iter().map(|(limit, soft, hard)| format!("rlimit {} {}:{}{exact}", limit.0, number(*soft), number(*hard))));
    lines.extend(own.no_new_privileges.then(|| "no new privileges".to_owned()));
    lines.extend(own.oom_score_adj.map(|score| format!("oom score adjustment {score}")));
    lines.extend(own.labels.iter().map(|label| format!("label {} = {}", label.file, label.text)));
    lines.extend(own.keyring.as_ref().map(|keyring| {
        let who = if keyring.permissions == keyring::USER_SEARCH { "its user" } else { "all" };
        format!("session keyring {}, which {who} may search", keyring.name.to_string_lossy())
    }));
    lines.extend(treatment(&own.attributes));
    lines.extend(own.seccomp.as_ref().map(|filter| {
        let listener = if filter.listens { ", the listener goes to an agent" } else { "" };
        format!("seccomp: {} instructions, flags {}{listener}", filter.program.len(), words(filter.flags, &FILTER_FLAGS))
    }));
    lines.join("\n")
}

/// The names of the bits that are set, "none" for none.
fn words(bits: u32, names: &[(u32, &str)]) -> String {
    let words: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if words.is_empty() { "none".to_owned() } else { words.join("|") }
}

/// Sets that are the same share a part of the line.
fn capabilities(sets: &Sets) -> String {
    let all = [
        ("bounding", sets.bounding),
        ("effective", sets.effective),
        ("permitted", sets.permitted),
        ("inheritable", sets.inheritable),
        ("ambient", sets.ambient),
    ];
    let mut parts: Vec<(u64, Vec<&str>)> = Vec::new();
    for (name, mask) in all {
        match parts.iter_mut().find(|(known, _)| *known == mask) {
            Some((_, names)) => names.push(name),
            None => parts.push((mask, vec![name])),
        }
    }
    let names = |mask: u64| match mask {
        0 => "none".to_owned(),
        mask if mask == (1 << capability::ALL.len()) - 1 => "all".to_owned(),
        mask => capability::ALL.iter().zip(0..).filter(|(_, bit)| mask & 1 << bit != 0).map(|((_, name), _)| *name).collect::<Vec<_>>().join(" "),
    };
    let parts: Vec<String> = parts.into_iter().map(|(mask, sets)| format!("{} {}", sets.join("+"), names(mask))).collect();
    format!("capabilities: {}", parts.join("; "))
}

fn treatment(own: &Attributes) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(own.io_priority.map(|(class, level)| format!("io priority {} {level}", IO_CLASSES[class as usize])));
    lines.extend(own.scheduler.map(|s| {
        let times = format!("runtime {} deadline {} period {}", s.runtime, s.deadline, s.period);
        format!("scheduler {} nice {} priority {} flags {:#x} {times}", POLICIES[s.policy as usize], s.nice, s.priority, s.flags)
    }));
    for (when, mask) in [("before", &own.initial), ("after", &own.last)] {
        lines.extend(mask.as_ref().map(|mask| format!("cpus {when} the cgroups {mask:x?}")));
    }
    lines.extend(own.memory.as_ref().map(|memory| {
        // `MPOL_MODE_FLAGS` are the bits above.
        let (mode, flags) = (MEMORY_MODES[(memory.mode & 0x1fff) as usize], words(memory.mode, &MEMORY_FLAGS));
        format!("memory policy {mode} flags {flags} nodes {:x?}", memory.nodes)
    }));
    lines.extend(own.personality.map(|domain| format!("personality {}", if domain == 8 { "PER_LINUX32" } else { "PER_LINUX" })));
    lines
}
