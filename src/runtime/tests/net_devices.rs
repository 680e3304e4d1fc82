//! Network devices of the host in a container. Each test has a network namespace of its own as "the host".

use super::super::hooks::State;
use super::super::{Create, Error, Init, Root};
use super::{Fixture, alone, config, init, pipes, text, wait};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;

fn host() {
    crate::sys::namespace::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
    ip("link add one type veth peer name peer-one");
    ip("link add two mtu 1400 type veth peer name peer-two");
    ip("address add 10.9.0.1/24 dev one");
    ip("address add 10.9.0.2/24 dev one");
    ip("address add fd09::1/64 dev one nodad");
    ip("address add 10.8.0.1/24 scope link dev one");
    ip("link set one up");
    ip("address add 10.7.0.1/24 dev two");
}

fn ip(arguments: &str) -> String {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn with_devices(script: &str, devices: Value, change: impl FnOnce(&mut Value)) -> Spec {
    config(&["sh", "-c", script], |value| {
        value["linux"]["netDevices"] = devices;
        value["process"]["cwd"] = json!("/");
        change(value);
    })
}

fn create(fixture: &Fixture, spec: &Spec) -> Result<(Init, OwnedFd), Error> {
    let root = Root::Directory(fixture.base.join("layer"));
    let unused = crate::runtime::cgroup::Group::absent();
    let state = State { oci_version: "1.3.0".to_owned(), id: "web".to_owned(), bundle: fixture.base.clone(), annotations: [].into() };
    let (stdio, output) = pipes();
    let request = Create { state: Some(&state), ..Create::new(spec, &root, stdio, &unused) };
    init::create(request, None).map(|init| (init, output))
}

#[test]
fn devices_move_with_their_addresses() {
    alone("net_devices::devices_move_with_their_addresses", || {
        host();
        let fixture = Fixture::new();
        let script = "ip -o link | grep UP; ip -o address; cat /proc/sys/net/ipv4/conf/lan/forwarding";
        std::os::unix::fs::symlink("busybox", fixture.base.join("layer/bin/ip")).unwrap();
        let spec = with_devices(script, json!({"one": {"name": "lan"}, "two": {}}), |value| {
            value["linux"]["sysctl"] = json!({"net/ipv4/conf/lan/forwarding": "0"});
        });
        let (mut container, output) = create(&fixture, &spec).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        assert_eq!(ip("-o link").lines().count(), 3, "the loopback and the peers are left");
        container.start().unwrap();
        let output = text(output);
        assert_eq!(wait(&container.pidfd), 0);
        for expected in ["lo: <LOOPBACK,UP", ": lan@", ": two@", "lan@if", "mtu 1400", "10.9.0.1/24", "10.9.0.2/24", "fd09::1/64", "10.7.0.1/24"] {
            assert!(output.contains(expected), "{expected}: {output}");
        }
        assert!(!output.contains("10.8.0.1") && output.ends_with("\n0\n"), "an address of link scope stays: {output}");
    });
}

#[test]
fn a_template_is_numbered_and_a_joined_namespace_gets_devices() {
    alone("net_devices::a_template_is_numbered_and_a_joined_namespace_gets_devices", || {
        host();
        let fixture = Fixture::new();
        std::os::unix::fs::symlink("busybox", fixture.base.join("layer/bin/ip")).unwrap();
        let first = with_devices("exec sleep 100", json!({"two": {"name": "p0"}}), |_| {});
        let (holder, _output) = create(&fixture, &first).unwrap();
        let path = format!("/proc/{}/ns/net", holder.pid);
        let join = |value: &mut Value| value["linux"]["namespaces"][4] = json!({"type": "network", "path": path});
        let taken = with_devices("true", json!({"one": {"name": "p0"}}), join);
        let error = create(&fixture, &taken).err().unwrap();
        assert_eq!(error.to_string(), "linux.netDevices: the container already has a network device \"p0\"");
        let numbered = with_devices("ip -o address", json!({"one": {"name": "p%d"}}), join);
        let (mut container, output) = create(&fixture, &numbered).unwrap();
        container.start().unwrap();
        let output = text(output);
        assert!(output.contains("p1    inet 10.9.0.1/24") && output.contains("p0    inet 10.7.0.1/24"), "{output}");
        wait(&container.pidfd);
        drop(holder);
    });
}

#[test]
fn a_failed_create_gives_devices_back() {
    alone("net_devices::a_failed_create_gives_devices_back", || {
        host();
        let fixture = Fixture::new();
        let before = (ip("-o -d address"), ip("-o link show two"));
        let lines = |text: &str| -> Vec<String> {
            // Indexes, and lifetimes in between, may differ.
            text.lines().map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest).to_owned()).collect()
        };
        let failing = json!({"createContainer": [{"path": "/bin/false"}]});
        for (devices, hooks, message) in [
            (json!({"one": {"name": "lan"}, "two": {}}), failing, "hook 1 of createContainer"),
            (json!({"one": {"name": "lan"}, "zzz": {}}), json!({}), "network device \"zzz\" of linux.netDevices does not exist"),
            (json!({"lo": {"name": "x"}}), json!({}), "cannot move network device \"lo\" to the container"),
        ] {
            let spec = with_devices("true", devices, |value| value["hooks"] = hooks);
            let error = create(&fixture, &spec).err().unwrap();
            assert!(error.to_string().starts_with(message), "{error}");
            let after = (ip("-o -d address"), ip("-o link show two"));
            let sorted = |text: &str| {
                let mut lines = lines(text);
                lines.retain(|line| !line.contains("scope link") && !line.starts_with("lo"));
                lines.sort();
                lines
            };
            assert_eq!((sorted(&before.0), lines(&before.1)), (sorted(&after.0), lines(&after.1)));
        }
    });
}
