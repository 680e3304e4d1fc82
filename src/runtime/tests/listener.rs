//! An agent that answers for the container's filter.

use super::{Create, Exec, Fixture, alone, config, pipes, text, wait};
use crate::base::ErrorKind;
use crate::runtime::{cgroup::Group, hooks::State, init, join};
use crate::sys::seccomp::refuse_one;
use oci_spec::runtime::Spec;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// What an agent gets: the document and the listener.
fn accept(agent: &UnixListener) -> (Value, OwnedFd) {
    let (connection, _) = agent.accept().unwrap();
    let mut text = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = recvmsg(&connection, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let mut passed = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            passed.extend(fds);
        }
    }
    assert_eq!(passed.len(), 1);
    // The connection is of no use after that: closed by the runtime.
    assert_eq!(rustix::io::read(&connection, &mut [0; 1]), Ok(0));
    (serde_json::from_slice(&text[..length]).unwrap(), passed.remove(0))
}

fn spec(socket: &Path, script: &str, no_new_privileges: bool) -> Spec {
    config(&["sh", "-c", script], |value| {
        value["process"]["noNewPrivileges"] = json!(no_new_privileges);
        value["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "hello",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    })
}

fn state() -> State {
    State { oci_version: "1.2.0".to_owned(), id: "web".to_owned(), bundle: "/b".into(), annotations: [("a".to_owned(), "b".to_owned())].into() }
}

#[test]
fn an_agent_answers_for_the_container() {
    alone("listener::an_agent_answers_for_the_container", || {
        let fixture = Fixture::new();
        // Too long for a socket address.
        let directory = fixture.base.join("d".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let held = std::fs::File::open(&directory).unwrap();
        let short = format!("/proc/self/fd/{}/agent", std::os::fd::AsRawFd::as_raw_fd(&held));
        let agent = UnixListener::bind(short).unwrap();
        let (root, unused, state) = (fixture.root(), Group::at("/unused"), state());
        for (no_new_privileges, reaper) in [(false, false), (true, false), (false, true)] {
            let spec = spec(&directory.join("agent"), "mkdir /x; echo $?", no_new_privileges);
            let (stdio, output) = pipes();
            let request = Create { reaper, state: Some(&state), ..Create::new(&spec, &root, stdio, &unused) };
            let mut init = init::create(request, None).unwrap();
            init.start().unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
            let (document, listener) = accept(&agent);
            let pid = document["pid"].as_i64().unwrap();
            assert_eq!(pid == i64::from(init.pid), !reaper);
            let own = json!({"ociVersion": "1.2.0", "id": "web", "status": "creating", "pid": pid, "bundle": "/b", "annotations": {"a": "b"}});
            assert_eq!(document, json!({"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": pid, "metadata": "hello", "state": own}));
            assert!([libc::SYS_mkdir, libc::SYS_mkdirat].contains(&i64::from(refuse_one(listener.as_fd(), libc::EDQUOT).unwrap())));
            assert_eq!(text(output), "mkdir: can't create directory '/x': Disk quota exceeded\n1\n");
            assert_eq!(wait(&init.pidfd), 0);
        }
    });
}

#[test]
fn an_agent_answers_for_an_exec() {
    alone("listener::an_agent_answers_for_an_exec", || {
        let fixture = Fixture::new();
        let agent = UnixListener::bind(fixture.base.join("agent")).unwrap();
        let (root, unused, state) = (fixture.root(), Group::at("/unused"), state());
        let spec = spec(&fixture.base.join("agent"), "exec sleep 100", false);
        let (stdio, _output) = pipes();
        let mut init = init::create(Create { state: Some(&state), ..Create::new(&spec, &root, stdio, &unused) }, None).unwrap();
        init.start().unwrap();
        drop(accept(&agent));
        let process = config(&["sh", "-c", "mkdir /x; echo $?"], |_| {}).process().clone().unwrap();
        let (stdio, output) = pipes();
        let request = Exec {
            init_pidfd: init.pidfd.as_fd(),
            process: &process,
            user: None,
            keyring: None,
            spec: &spec,
            stdio,
            cgroup: &unused,
            resctrl: None,
            preserve_fds: 0,
            state: Some(&state),
        };
        let running = join::exec(request, None).unwrap();
        let (document, listener) = accept(&agent);
        assert_eq!((document["pid"].as_i64(), document["state"]["pid"].as_i64()), (Some(running.pid.into()), Some(init.pid.into())));
        assert_eq!(document["state"]["status"], "running");
        refuse_one(listener.as_fd(), libc::EDQUOT).unwrap();
        assert_eq!(text(output), "mkdir: can't create directory '/x': Disk quota exceeded\n1\n");
        assert_eq!(wait(&running.pidfd), 0);
        rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
        wait(&init.pidfd);
    });
}

#[test]
fn nothing_runs_without_its_agent() {
    alone("listener::nothing_runs_without_its_agent", || {
        let fixture = Fixture::new();
        let (root, unused, state) = (fixture.root(), Group::at("/unused"), state());
        let socket = fixture.base.join("nobody");
        let spec = spec(&socket, "echo runs", false);
        let (stdio, _output) = pipes();
        let error = init::create(Create { state: Some(&state), ..Create::new(&spec, &root, stdio, &unused) }, None).err().unwrap();
        assert!(error.to_string().starts_with("cannot find the seccomp agent's socket"), "{error}");
        drop(UnixListener::bind(&socket).unwrap());
        let (stdio, output) = pipes();
        let mut init = init::create(Create { state: Some(&state), ..Create::new(&spec, &root, stdio, &unused) }, None).unwrap();
        let error = init.start().unwrap_err();
        let wanted = format!("cannot connect to the seccomp agent at \"{}/nobody\" (linux.seccomp.listenerPath)", fixture.base.display());
        assert_eq!(error.to_string(), wanted);
        assert_eq!((wait(&init.pidfd), text(output).as_str()), (128 + 9, ""));
        let (stdio, _output) = pipes();
        let error = init::create(Create::new(&spec, &root, stdio, &unused), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}
