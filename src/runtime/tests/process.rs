//! Fields of `process`, and those of `linux` that are the process's, read back from inside.

use super::{Exec, Fixture, Stdio, alone, config, create, mapped, pipes, run, text, wait};
use crate::base::ErrorKind;
use crate::runtime::{Init, Running, init, join};
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};
use std::os::fd::AsFd;

/// What the kernel says of the process itself: scheduling policy and priority, I/O class, machine, CPUs, memory policy.
const SHOW: &str = "cut -d' ' -f40,41 /proc/self/stat; ionice; uname -m; grep Cpus_allowed_list /proc/self/status; \
    grep -c bind=static:0 /proc/self/numa_maps; umask";

fn started(fixture: &Fixture, spec: &Spec) -> Init {
    let (stdio, _output) = pipes();
    let mut init = create(fixture, spec, None, stdio, false).unwrap();
    init.start().unwrap();
    init
}

fn exec(init: &Init, spec: &Spec, process: &Value, stdio: Stdio) -> Result<Running, super::Error> {
    let mut whole = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"]});
    whole.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
    let process: Process = serde_json::from_value(whole).unwrap();
    let unused = super::super::cgroup::Group::at("/unused");
    let request = Exec {
        init_pidfd: init.pidfd.as_fd(),
        process: &process,
        user: None,
        keyring: Some("exec-test"),
        spec,
        stdio,
        cgroup: &unused,
        resctrl: None,
        preserve_fds: 0,
        state: None,
    };
    join::exec(request, None)
}

fn inside(init: &Init, spec: &Spec, script: &str, process: &Value) -> String {
    let mut whole = json!({"args": ["sh", "-c", script]});
    whole.as_object_mut().unwrap().extend(process.as_object().unwrap().clone());
    let (stdio, output) = pipes();
    let running = exec(init, spec, &whole, stdio).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    let output = text(output);
    wait(&running.pidfd);
    output
}

fn end(init: &Init) {
    rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&init.pidfd);
}

#[test]
fn attributes_are_the_configs() {
    alone("process::attributes_are_the_configs", || {
        let fixture = Fixture::new();
        let with = |value: &mut Value| {
            value["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
            value["process"]["scheduler"] = json!({"policy": "SCHED_RR", "priority": 7});
            value["process"]["user"]["umask"] = json!(0o027);
            // Of execs only.
            value["process"]["execCPUAffinity"] = json!({"initial": "1", "final": "0"});
            value["linux"]["personality"] = json!({"domain": "LINUX32"});
            value["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
        };
        let cpus = std::fs::read_to_string("/proc/self/status").unwrap();
        let cpus = cpus.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
        let (code, output) = run(&fixture, &config(&["sh", "-c", SHOW], with), None, false);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..4], ["7 2", "best-effort: prio 6", "i686", cpus], "{output}");
        assert_ne!(lines[4], "0", "{output}");
        assert_eq!((lines[5], code), ("0027", 0));
        // An exec gets the container's, and its own CPUs.
        let spec = config(&["sleep", "100"], with);
        let init = started(&fixture, &spec);
        let output = inside(&init, &spec, SHOW, &json!({}));
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..4], ["7 2", "best-effort: prio 6", "i686", "Cpus_allowed_list:\t0"], "{output}");
        let own = json!({"scheduler": {"policy": "SCHED_BATCH"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
            "execCPUAffinity": {"initial": "1"}});
        let output = inside(&init, &spec, SHOW, &own);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..4], ["0 3", "idle", "i686", "Cpus_allowed_list:\t1"], "{output}");
        end(&init);
    });
}

/// Real-time policies are the host's to give: a user namespace's root could not take them.
#[test]
fn attributes_reach_into_a_user_namespace() {
    alone("process::attributes_reach_into_a_user_namespace", || {
        let fixture = Fixture::new();
        let with = |value: &mut Value| {
            value["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 3});
            value["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 1});
        };
        let spec = mapped("cut -d' ' -f40,41 /proc/self/stat; ionice; sleep 100", with);
        let (stdio, output) = pipes();
        let mut init = create(&fixture, &spec, None, stdio, false).unwrap();
        init.start().unwrap();
        let mut first = [0; 21];
        std::io::Read::read_exact(&mut std::fs::File::from(output), &mut first).unwrap();
        assert_eq!(String::from_utf8_lossy(&first), "3 1\nrealtime: prio 1\n");
        let output = inside(&init, &spec, "cut -d' ' -f40,41 /proc/self/stat; ionice", &json!({}));
        assert_eq!(output, "3 1\nrealtime: prio 1\n");
        end(&init);
    });
}

#[test]
fn what_the_kernel_refuses_is_named() {
    alone("process::what_the_kernel_refuses_is_named", || {
        let fixture = Fixture::new();
        type Case = (&'static str, fn(&mut Value));
        let cases: [Case; 5] = [
            ("cannot set process.scheduler", |v| v["process"]["scheduler"] = json!({"policy": "SCHED_ISO"})),
            ("cannot set linux.memoryPolicy", |v| v["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"})),
            ("cannot set linux.memoryPolicy", |v| v["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE"})),
            ("cannot set process.rlimits RLIMIT_NOFILE to 5:2000000000", |v| {
                v["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 2_000_000_000}]);
            }),
            ("cannot set process.oomScoreAdj to 2000", |v| v["process"]["oomScoreAdj"] = json!(2000)),
        ];
        for (message, change) in cases {
            let (stdio, _output) = pipes();
            let error = create(&fixture, &config(&["true"], change), None, stdio, false).err().unwrap();
            assert_eq!(error.to_string(), message);
        }
        let spec = config(&["sleep", "100"], |_| {});
        let init = started(&fixture, &spec);
        for (message, affinity) in [
            ("cannot set process.execCPUAffinity.initial", json!({"initial": "9000"})),
            ("cannot set process.execCPUAffinity.final", json!({"final": "9000"})),
        ] {
            let (stdio, _output) = pipes();
            let error = exec(&init, &spec, &json!({"args": ["true"], "execCPUAffinity": affinity}), stdio).err().unwrap();
            assert_eq!(error.to_string(), message);
        }
        end(&init);
    });
}

#[test]
fn the_session_keyring_is_the_containers() {
    alone("process::the_session_keyring_is_the_containers", || {
        let fixture = Fixture::new();
        for user in [0, 33] {
            let spec = config(&["sleep", "100"], |value| value["process"]["user"]["uid"] = json!(user));
            let (stdio, _output) = pipes();
            let mut init = init::create(request(&fixture, &spec, stdio, Some("exec-test")), None).unwrap();
            init.start().unwrap();
            let script = "grep _ses.exec-test /proc/keys | grep -o 'perm [0-9a-f]*'";
            let output = inside(&init, &spec, script, &json!({"user": {"uid": user, "gid": 0}}));
            // The one that init has, which its user may find: two processes share it.
            assert_eq!(output, "perm 3f1b0000\n");
            end(&init);
        }
        let (stdio, output) = pipes();
        let spec = config(&["sh", "-c", "grep -c _ses.kept /proc/keys"], |_| {});
        let mut init = init::create(request(&fixture, &spec, stdio, None), None).unwrap();
        init.start().unwrap();
        assert_eq!(text(output), "0\n");
        wait(&init.pidfd);
    });
}

fn request<'a>(fixture: &Fixture, spec: &'a Spec, stdio: Stdio, keyring: Option<&'a str>) -> super::Create<'a> {
    let root: &'static super::Root = Box::leak(Box::new(fixture.root()));
    let unused: &'static super::super::cgroup::Group = Box::leak(Box::new(super::super::cgroup::Group::at("/unused")));
    super::Create { keyring, ..super::Create::new(spec, root, stdio, unused) }
}

#[test]
fn capabilities_of_a_numeric_user_are_exact() {
    alone("process::capabilities_of_a_numeric_user_are_exact", || {
        let fixture = Fixture::new();
        let show = "grep -E 'Cap|NoNewPrivs' /proc/self/status; id -G";
        for (user, permitted, effective) in [(0, "0000000000000021", "0000000000000021"), (33, "0000000000000020", "0000000000000020")] {
            let spec = config(&["sh", "-c", show], |value| {
                value["process"]["user"] = json!({"uid": user, "gid": 5, "additionalGids": [9, 7]});
                value["process"]["noNewPrivileges"] = json!(true);
                value["process"]["capabilities"] = json!({
                    "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SETGID"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"],
                    // What this machine may lack, and what is outside of the bounding set, is left out.
                    "inheritable": ["CAP_KILL", "CAP_SYS_RESOURCE"], "ambient": ["CAP_KILL", "CAP_CHOWN"],
                });
            });
            let (code, output) = run(&fixture, &spec, None, false);
            let wanted = format!(
                "CapInh:\t0000000000000020\nCapPrm:\t{permitted}\nCapEff:\t{effective}\nCapBnd:\t0000000000000061\n\
                 CapAmb:\t0000000000000020\nNoNewPrivs:\t1\n5 7 9\n"
            );
            assert_eq!((output, code), (wanted, 0), "user {user}");
        }
    });
}

#[test]
fn labels_without_their_module_are_refused() {
    alone("process::labels_without_their_module_are_refused", || {
        let fixture = Fixture::new();
        let spec = config(&["sleep", "100"], |value| {
            value["process"]["apparmorProfile"] = json!("");
            value["process"]["selinuxLabel"] = json!("");
        });
        let init = started(&fixture, &spec);
        for (field, process) in [
            ("process.apparmorProfile", json!({"args": ["true"], "apparmorProfile": "strict"})),
            ("process.selinuxLabel", json!({"args": ["true"], "selinuxLabel": "a:b:c:s0"})),
        ] {
            let (stdio, _output) = pipes();
            let error = exec(&init, &spec, &process, stdio).err().unwrap();
            // A kernel with the module does not know the label.
            assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Internal) && error.to_string().contains(field), "{error}");
        }
        end(&init);
    });
}
