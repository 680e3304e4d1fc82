//! Tests of the OCI config: what a plain container gets, and what each option changes.
use super::*;
use crate::base::{ContainerId, Timestamp};
use crate::state::record::{ContainerSpec, Mount, MountKind, ProcessSpec, SecuritySpec};

fn container(edit: impl FnOnce(&mut ContainerSpec)) -> Container {
    let mut spec = ContainerSpec {
        process: ProcessSpec { cmd: Some(vec!["true".into()]), env: vec!["A=1".into()], ..ProcessSpec::default() },
        ..ContainerSpec::default()
    };
    // Compiled by another room, which has its own tests.
    spec.host.security = SecuritySpec { seccomp: Seccomp::Unconfined, ..SecuritySpec::default() };
    edit(&mut spec);
    Container { created: Timestamp::NEVER, ..Container::new(ContainerId::random(), "web".parse().unwrap(), spec) }
}

fn compile(container: &Container) -> Result<Spec> {
    let facts = HostFacts { cpus: 2, cpu_set: [0, 1].into(), mem_set: [0].into(), swap_accounting: true, unified: true };
    let inputs = Inputs {
        container_dir: "/c".into(),
        cdi: Vec::new(),
        links: Vec::new(),
        etc_dir: "/data/c".into(),
        network_dir: "/data/c".into(),
        pod: None,
        volumes_dir: "/data/volumes".into(),
        sources: Default::default(),
        hostname: "h".into(),
        ipc_pid: Some(7),
        user_pid: None,
        network_pid: None,
        pid_pid: Some(8),
        shm_dir: None,
        devices: Vec::new(),
        facts: &facts,
        cgroup_path: "/rcon/x".into(),
        notify: None,
    };
    spec(container, &inputs)
}

fn destinations(spec: &Spec) -> Vec<String> {
    spec.mounts().iter().flatten().map(|m| m.destination().display().to_string()).collect()
}

#[test]
fn a_plain_container() {
    let spec = compile(&container(|_| {})).unwrap();
    assert_eq!(
        destinations(&spec),
        ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/shm", "/dev/mqueue", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"]
    );
    let linux = spec.linux().clone().unwrap();
    assert!(linux.masked_paths().iter().flatten().any(|p| p.ends_with("cpu1/thermal_throttle")));
    assert_eq!(linux.readonly_paths().as_ref().unwrap().len(), 5);
    let kinds: Vec<String> = linux.namespaces().iter().flatten().map(|n| n.typ().to_string()).collect();
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let process = spec.process().clone().unwrap();
    assert_eq!(process.env().as_ref().unwrap(), &[format!("PATH={DEFAULT_PATH}"), "HOSTNAME=h".into(), "A=1".into()]);
    assert_eq!(process.cwd(), &PathBuf::from("/"));
    let caps = process.capabilities().clone().unwrap();
    assert_eq!(caps.bounding().as_ref().unwrap().len(), 14);
    assert!(caps.inheritable().as_ref().unwrap().is_empty() && caps.ambient().as_ref().unwrap().is_empty());
    let rules = linux.resources().clone().unwrap().devices().clone().unwrap();
    assert_eq!(rules.len(), 12);
    assert!(!rules[0].allow());
}

#[test]
fn privileged_lifts_every_restriction() {
    let spec = compile(&container(|s| {
        s.host.privileged = true;
        s.host.security.seccomp = Seccomp::Builtin;
    }))
    .unwrap();
    let linux = spec.linux().clone().unwrap();
    assert!(linux.masked_paths().as_ref().unwrap().is_empty() && linux.readonly_paths().as_ref().unwrap().is_empty());
    assert!(linux.seccomp().is_none());
    assert_eq!(linux.resources().clone().unwrap().devices().as_ref().unwrap().len(), 1);
    let sys = spec.mounts().iter().flatten().find(|m| m.destination().ends_with("sys")).cloned().unwrap();
    assert!(sys.options().iter().flatten().any(|o| o == "rw"));
}

#[test]
fn namespaces_of_host_and_of_others() {
    let spec = compile(&container(|s| {
        s.host.network = NetworkMode::Host;
        s.host.pid = PidMode::Container("x".into());
        s.host.ipc = IpcMode::Host;
        s.host.uts_host = true;
        s.host.cgroupns = Some(CgroupnsMode::Host);
    }))
    .unwrap();
    let list = spec.linux().clone().unwrap().namespaces().clone().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[1].path().as_ref().unwrap(), &PathBuf::from("/proc/8/ns/pid"));
    assert!(spec.hostname().is_none());
}

#[test]
fn volumes_come_by_depth_and_replace_defaults() {
    let tmpfs = |destination: &str, options: &str| Mount {
        destination: destination.into(),
        kind: MountKind::Tmpfs { options: options.into(), from_flag: true },
        read_only: false,
        mode: String::new(),
        propagation: String::new(),
        options: crate::state::record::MountOptions::default(),
    };
    let bind = Mount { kind: MountKind::Bind { source: "/x".into(), recursive: true }, read_only: true, ..tmpfs("/a", "") };
    let spec = compile(&container(|s| s.mounts = vec![tmpfs("/a/b", "exec,size=1m"), bind, tmpfs("/dev/shm", "")])).unwrap();
    let all = destinations(&spec);
    assert_eq!(all.iter().filter(|d| *d == "/dev/shm").count(), 1);
    assert!(all.iter().position(|d| d == "/a").unwrap() < all.iter().position(|d| d == "/a/b").unwrap());
    let find = |d: &str| spec.mounts().iter().flatten().find(|m| m.destination() == &PathBuf::from(d)).cloned().unwrap();
    assert_eq!(find("/a/b").options().as_ref().unwrap(), &["nosuid", "nodev", "exec", "size=1m"]);
    assert_eq!(find("/a").options().as_ref().unwrap(), &["rbind", "rro", "rprivate"]);
}

#[test]
fn environment_is_overlaid_and_the_last_value_stands() {
    let own: Vec<String> = ["PATH=/p", "A=1", "A=2", "BARE"].map(str::to_owned).to_vec();
    assert_eq!(environment(&own, "h", true), ["PATH=/p", "HOSTNAME=h", "TERM=xterm", "A=2"]);
}

#[test]
fn ulimits_are_checked() {
    let limit = |name: &str, soft, hard| rlimits(&[Ulimit { name: name.into(), soft, hard }]);
    let both = limit("core", 0, -1).unwrap();
    assert_eq!((both.len(), both[0].hard()), (2, u64::MAX));
    assert_eq!(limit("nofile", 5, 6).unwrap().len(), 1);
    assert!(limit("nofile", 7, 6).is_err());
    assert!(limit("bogus", 1, 1).is_err());
    assert!(compile(&container(|s| s.host.cap_add = vec!["NONSENSE".into()])).is_err());
}

#[test]
fn host_ipc_needs_no_mqueue_directory_on_the_host() {
    let spec = compile(&container(|s| s.host.ipc = IpcMode::Host)).unwrap();
    let mqueue = spec.mounts().iter().flatten().find(|m| m.destination() == std::path::Path::new("/dev/mqueue")).unwrap().typ().clone();
    assert_eq!(mqueue.as_deref(), Some("mqueue"));
}
