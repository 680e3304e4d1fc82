//! Hooks of a whole container: where each kind runs, what it is told, and what its failure does.

use super::super::hooks::{Kind, State, run, run_poststop};
use super::super::{Create, Error, Init, Root, Stdio};
use super::{Fixture, alone, config, init, pipes, text, wait};
use crate::base::ErrorKind;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::path::Path;

fn state(fixture: &Fixture) -> State {
    let annotations = [("key".to_owned(), "value".to_owned())].into();
    State { oci_version: "1.2.0".to_owned(), id: "web".to_owned(), bundle: fixture.base.clone(), annotations }
}

/// With a directory as root, as bundles have it.
fn create(fixture: &Fixture, spec: &Spec, stdio: Stdio) -> Result<Init, Error> {
    let root = Root::Directory(fixture.base.join("layer"));
    let unused = crate::runtime::cgroup::Group::at("/unused");
    let state = state(fixture);
    init::create(Create { state: Some(&state), ..Create::new(spec, &root, stdio, &unused) }, None)
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn with_hooks(script: &str, hooks: Value) -> Spec {
    config(&["sh", "-c", script], |value| {
        value["hooks"] = hooks;
        value["process"]["cwd"] = json!("/");
    })
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a hook sees: `LOG` is a directory of the host.
fn witness(log: &Path, name: &str) -> Value {
    let log = log.display();
    shell(&format!(
        "{{ cat; echo; pwd; readlink /proc/self/ns/mnt /proc/self/ns/uts; env; umask; ls /proc/self/fd | wc -l; }} >{log}/{name}; echo {name} >>{log}/order"
    ))
}

#[test]
fn each_kind_runs_in_its_place() {
    alone("hooks::each_kind_runs_in_its_place", || {
        let fixture = Fixture::new();
        let log = fixture.base.join("layer/log");
        std::fs::create_dir(&log).unwrap();
        let inside = Path::new("/log");
        let mount = shell(
            "grep -q ' '$PWD/proc' ' /proc/self/mountinfo && mount -t tmpfs none ./masked && touch ./masked/made /fake 2>/dev/null; touch etc/hooked",
        );
        let hooks = json!({
            "prestart": [witness(&log, "prestart")],
            "createRuntime": [witness(&log, "first"), witness(&log, "second")],
            "createContainer": [witness(&log, "createContainer"), mount],
            "startContainer": [witness(inside, "startContainer")],
            "poststart": [witness(&log, "poststart")],
            "poststop": [shell("exit 3"), witness(&log, "poststop")],
        });
        let spec = with_hooks("ls /masked /etc; echo process >>/log/order; grep -c /log /proc/self/mountinfo", hooks);
        let (stdio, output) = pipes();
        let mut container = create(&fixture, &spec, stdio).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        assert_eq!(read(&log.join("order")), "prestart\nfirst\nsecond\ncreateContainer\n");
        container.start().unwrap();
        run(&spec, Kind::Poststart, &state(&fixture), Some(container.pid)).unwrap();
        wait(&container.pidfd);
        let warnings = run_poststop(&spec, &state(&fixture));
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["hook 1 of poststop (\"/bin/sh\") exited with 3"]);
        let output = text(output);
        assert!(!output.contains("made") && output.contains("hooked"), "a mask covers what hooks mount: {output}");
        let order = read(&log.join("order"));
        assert!(order.starts_with("prestart\nfirst\nsecond\ncreateContainer\nstartContainer\n"), "{order}");
        let host = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
        for (name, status, pid, place, own) in [
            ("prestart", "creating", container.pid, fixture.base.clone(), false),
            ("second", "creating", container.pid, fixture.base.clone(), false),
            ("createContainer", "creating", 1, fixture.base.join("layer"), true),
            ("startContainer", "created", 1, "/".into(), true),
            ("poststart", "running", container.pid, fixture.base.clone(), false),
            ("poststop", "stopped", 0, fixture.base.clone(), false),
        ] {
            let seen = read(&log.join(name));
            let mut lines = seen.lines();
            let document: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
            let mut expected =
                json!({"ociVersion": "1.2.0", "id": "web", "status": status, "pid": pid, "bundle": fixture.base, "annotations": {"key": "value"}});
            if pid == 0 {
                expected.as_object_mut().unwrap().remove("pid");
            }
            assert_eq!(document, expected, "{name}");
            assert_eq!(Path::new(lines.next().unwrap()), place, "{name}");
            for kind in ["mnt", "uts"] {
                assert_eq!(lines.next().unwrap() != host(kind), own, "{name}: {kind}");
            }
            let rest: Vec<&str> = lines.collect();
            assert!(rest.iter().all(|line| !line.contains("CARGO") && !line.contains("HOME=")), "{name}: {rest:?}");
            assert_eq!(rest[rest.len() - 2..], ["0022", "4"], "{name}");
        }
    });
}

#[test]
fn a_failing_hook_fails_the_create() {
    alone("hooks::a_failing_hook_fails_the_create", || {
        let fixture = Fixture::new();
        let base = fixture.base.display();
        let cases = [
            ("prestart", json!([shell("cat >/dev/null; echo out; echo first >&2; echo '  why ' >&2; exit 3")]), "exited with 3: out; first; why"),
            ("createRuntime", json!([shell("true"), shell("kill -USR1 $$")]), "was killed by signal 10"),
            ("createRuntime", json!([{"path": "/absent/hook"}]), "cannot execute it: No such file or directory (os error 2)"),
            ("createContainer", json!([shell("exit 7"), shell(&format!("touch {base}/ran"))]), "exited with 7"),
            (
                "createContainer",
                json!([{"path": "/bin/sh", "args": ["sh", "-c", "sleep 100 & exec sleep 100"], "timeout": 1}]),
                "did not end within 1 s and was killed",
            ),
            (
                "prestart",
                json!([{"path": "/bin/sh", "args": ["sh", "-c", "yes"], "timeout": 1}]),
                "did not end within 1 s and was killed: y; y; y; y; y",
            ),
        ];
        for (kind, list, message) in cases {
            let number = list.as_array().unwrap().iter().position(|hook| hook != &shell("true")).unwrap() + 1;
            let path = list[number - 1]["path"].as_str().unwrap().to_owned();
            let spec = with_hooks("true", json!({kind: list}));
            let (stdio, _output) = pipes();
            let error = create(&fixture, &spec, stdio).err().unwrap();
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Internal, format!("hook {number} of {kind} (\"{path}\") {message}")));
            assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD), "no process is left");
        }
        assert!(!fixture.base.join("ran").exists(), "the hooks after a failed one do not run");
        let spec = with_hooks(
            "echo ran",
            json!({"startContainer": [{"path": "/bin/false"}, {"path": "/bin/sh", "args": ["sh", "-c", "id -u >&2; touch /x >&2; exit 1"]}]}),
        );
        let mut value = serde_json::to_value(&spec).unwrap();
        value["process"]["user"] = json!({"uid": 33, "gid": 34});
        for (skip, message) in [
            (0, "hook 1 of startContainer (\"/bin/false\") cannot execute it: No such file or directory (os error 2)"),
            (1, "hook 1 of startContainer (\"/bin/sh\") exited with 1: 33; touch: /x: Permission denied"),
        ] {
            let mut value = value.clone();
            let list = value["hooks"]["startContainer"].as_array().unwrap()[skip..].to_vec();
            value["hooks"]["startContainer"] = json!(list);
            let spec = serde_json::from_value(value).unwrap();
            let (stdio, output) = pipes();
            let mut container = create(&fixture, &spec, stdio).unwrap();
            let error = container.start().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Internal, message));
            assert_eq!(wait(&container.pidfd), 125);
            assert_eq!(text(output), "");
        }
    });
}

#[test]
fn a_large_state_and_a_deaf_hook_are_no_trouble() {
    alone("hooks::a_large_state_and_a_deaf_hook_are_no_trouble", || {
        let fixture = Fixture::new();
        let mut state = state(&fixture);
        let count = fixture.base.join("count");
        let spec = with_hooks("true", json!({"poststart": [shell("exec <&-"), shell(&format!("wc -c >{}", count.display()))]}));
        state.annotations.insert("large".to_owned(), "x".repeat(500_000));
        run(&spec, Kind::Poststart, &state, Some(7)).unwrap();
        assert!(read(&count).trim().parse::<usize>().unwrap() > 500_000);
        state.annotations.insert("large".to_owned(), "x".repeat(2 << 20));
        let error = run(&spec, Kind::Poststart, &state, Some(7)).unwrap_err();
        assert!(error.to_string().ends_with("larger than 1 MiB"), "{error}");
    });
}

#[test]
fn a_hook_that_cannot_run_is_refused_before_anything_is_made() {
    let fixture_state = State { oci_version: "1.2.0".into(), id: "x".into(), bundle: "/x".into(), annotations: [].into() };
    let root = Root::Directory("/r".into());
    let compile = |hooks: Value, state: Option<&State>| {
        let spec = config(&["true"], |value| value["hooks"] = hooks);
        let request = crate::runtime::plan::Request {
            spec: &spec,
            root: &root,
            bundle: None,
            sources: &[],
            no_pivot: false,
            user: None,
            keyring: None,
            terminal: false,
            netns: false,
            state,
        };
        crate::runtime::plan::Plan::compile(&request)
    };
    for (hooks, message) in [
        (json!({"poststop": [{"path": "/a"}, {"path": "b"}]}), "hook 2 of poststop (\"b\") must have an absolute path"),
        (json!({"prestart": [{"path": "/a", "timeout": 0}]}), "hook 1 of prestart (\"/a\") has a timeout that is not greater than zero"),
        (json!({"prestart": [{"path": "/a", "timeout": -1}]}), "hook 1 of prestart (\"/a\") has a timeout that is not greater than zero"),
        (json!({"poststart": [{"path": "/a", "env": ["A=\0"]}]}), "hook 1 of poststart (\"/a\") has an argument or variable with a NUL byte"),
    ] {
        assert_eq!(compile(hooks, Some(&fixture_state)).unwrap_err().to_string(), message);
    }
    assert_eq!(compile(json!({"poststart": [{"path": "/a"}]}), None).unwrap_err().to_string(), "hooks is not supported");
    for nothing in [json!({}), json!({"prestart": [], "poststop": []})] {
        let plan = compile(nothing, None).unwrap();
        assert_eq!(plan.hooks, None);
    }
}

/// A program of the container's own root must not get more than its process.
#[test]
fn a_start_container_hook_has_the_rights_of_the_process() {
    alone("hooks::a_start_container_hook_has_the_rights_of_the_process", || {
        let fixture = Fixture::new();
        std::fs::create_dir(fixture.base.join("layer/log")).unwrap();
        std::fs::set_permissions(fixture.base.join("layer/log"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let profile = serde_json::to_value(crate::runtime::seccomp::default_profile(&["CHOWN".to_owned()])).unwrap();
        let show = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status";
        for (uid, nnp) in [(0, false), (0, true), (33, false), (33, true)] {
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{show} >/log/{uid}{nnp}")], "env": ["PATH=/bin"]});
            let spec = config(&["sh", "-c", show], |value| {
                value["hooks"] = json!({"startContainer": [hook]});
                value["process"]["cwd"] = json!("/");
                value["process"]["user"] = json!({"uid": uid, "gid": 34, "additionalGids": [29]});
                value["process"]["noNewPrivileges"] = json!(nnp);
                value["linux"]["seccomp"] = profile.clone();
            });
            let (stdio, output) = pipes();
            let mut container = create(&fixture, &spec, stdio).unwrap();
            container.start().unwrap();
            let output = text(output);
            assert_eq!(wait(&container.pidfd), 0);
            let hook = read(&fixture.base.join(format!("layer/log/{uid}{nnp}")));
            assert_eq!(hook, output);
            assert!(hook.contains("Seccomp:\t2") && hook.contains(&format!("NoNewPrivs:\t{}", u8::from(nnp))), "{hook}");
        }
    });
}
