//! A running container's document, key by key in Docker's order.
use super::*;
use record::{ContainerSpec, HostSpec, Mount, Phase, PortMapping, ProcessSpec, Protocol, PublishedPort};
use std::collections::BTreeMap;

const ID: &str = "ab00000000000000000000000000000000000000000000000000000000000001";

fn view() -> View {
    let spec = ContainerSpec {
        image: "nginx".to_owned(),
        image_id: "sha256:aa".to_owned(),
        platform: "linux/amd64".to_owned(),
        hostname: "ab0000000000".to_owned(),
        process: ProcessSpec {
            entrypoint: Some(vec!["/entry".to_owned()]),
            cmd: Some(vec!["nginx".to_owned(), "-g".to_owned()]),
            env: vec!["A=1".to_owned()],
            stop_signal: Some("QUIT".parse().unwrap()),
            ..ProcessSpec::default()
        },
        exposed: vec!["443/tcp".to_owned(), "80/tcp".to_owned()],
        mounts: vec![Mount {
            destination: "/data".into(),
            kind: MountKind::Volume { name: "vol".parse().unwrap(), anonymous: false, no_copy: false, subpath: None },
            read_only: true,
            mode: "ro".to_owned(),
            propagation: String::new(),
            options: crate::state::record::MountOptions::default(),
        }],
        host: HostSpec {
            ports: vec![PortMapping { host_ip: None, host_ports: Some((8080, 8080)), container_port: 80, protocol: Protocol::Tcp }],
            ..HostSpec::default()
        },
        ..ContainerSpec::default()
    };
    let at = Timestamp::from_nanos(1_700_000_000_000_000_001);
    let record = record::Container {
        created: at,
        phase: Phase::Started,
        started: at,
        endpoints: vec![record::Endpoint {
            network: "bridge".to_owned(),
            network_id: "net1".to_owned(),
            id: "end1".to_owned(),
            interface: "eth0".to_owned(),
            ipv4: Some("172.18.0.2".parse().unwrap()),
            ipv6: None,
            mac: [0x02, 0x42, 0xac, 0x12, 0, 2],
            gateway: true,
        }],
        published: vec![PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp }],
        ..record::Container::new(ID.parse().unwrap(), "web".parse().unwrap(), spec)
    };
    View { record, status: Status::Running, pid: 42, restart_count: 0, started: at, next_start: None, health: None }
}

fn document(view: &View, sizes: Option<(u64, u64)>) -> Value {
    let pool = record::Pool {
        subnet: "172.18.0.0".parse().unwrap(),
        prefix: 20,
        gateway: Some("172.18.0.1".parse().unwrap()),
        range: None,
        auxiliary: BTreeMap::new(),
    };
    let network = Network { id: "net1".to_owned(), pools: vec![pool], ..Network::new("bridge", record::Driver::Bridge, BTreeMap::new()) };
    container_document(&Facts {
        view,
        dir: "/d/containers/x".into(),
        volumes: "/d/volumes".into(),
        lowers: Some(vec!["/d/layers/2/diff".to_owned(), "/d/layers/1/diff".to_owned()]),
        networks: vec![network],
        sizes,
        links: Vec::new(),
    })
}

fn keys(value: &Value) -> String {
    value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn keys_are_dockers_in_dockers_order() {
    let document = document(&view(), Some((1, 2)));
    assert_eq!(
        keys(&document),
        "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform MountLabel \
         ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver SizeRw SizeRootFs Mounts Config NetworkSettings"
    );
    assert_eq!(
        keys(&document["State"]),
        "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt OOMKills LogLinesLost"
    );
    assert_eq!(
        keys(&document["Config"]),
        "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env Cmd Image Volumes \
         WorkingDir Entrypoint OnBuild Labels StopSignal"
    );
    assert_eq!(keys(&document["Mounts"][0]), "Type Name Source Destination Driver Mode RW Propagation");
    let host = keys(&document["HostConfig"]);
    for key in "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumesFrom CapAdd CapDrop Dns IpcMode \
                PidMode Privileged ReadonlyRootfs SecurityOpt ShmSize Memory NanoCpus PidsLimit Ulimits MaskedPaths ReadonlyPaths"
        .split_whitespace()
    {
        assert!(host.split(' ').any(|k| k == key), "{key}");
    }
}

#[test]
fn values_are_what_scripts_expect() {
    let document = document(&view(), None);
    for (pointer, expected) in [
        ("/Path", json!("/entry")),
        ("/Args", json!(["nginx", "-g"])),
        ("/Name", json!("/web")),
        ("/Created", json!("2023-11-14T22:13:20.000000001Z")),
        ("/State/Status", json!("running")),
        ("/State/FinishedAt", json!("0001-01-01T00:00:00Z")),
        ("/State/Pid", json!(42)),
        ("/LogPath", json!(format!("/d/containers/x/{ID}-json.log"))),
        ("/Config/StopSignal", json!("SIGQUIT")),
        ("/Config/ExposedPorts", json!({"443/tcp": {}, "80/tcp": {}})),
        ("/HostConfig/NetworkMode", json!("bridge")),
        ("/HostConfig/ShmSize", json!(67_108_864)),
        ("/HostConfig/PortBindings", json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})),
        ("/HostConfig/RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("/GraphDriver/Data/LowerDir", json!("/d/layers/2/diff:/d/layers/1/diff")),
        ("/Mounts/0/Source", json!("/d/volumes/vol/_data")),
        ("/Mounts/0/RW", json!(false)),
        ("/NetworkSettings/Ports", json!({"443/tcp": null, "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]})),
        ("/NetworkSettings/IPAddress", json!("172.18.0.2")),
        ("/NetworkSettings/MacAddress", json!("02:42:ac:12:00:02")),
        ("/NetworkSettings/Networks/bridge/Gateway", json!("172.18.0.1")),
        ("/NetworkSettings/Networks/bridge/IPPrefixLen", json!(20)),
    ] {
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(document.get("SizeRw").is_none());
}

#[test]
fn a_stopped_container_has_no_addresses() {
    let mut view = view();
    view.status = Status::Exited;
    view.pid = 0;
    view.record.exit_code = 3;
    view.record.spec.host.privileged = true;
    let document = document(&view, None);
    assert_eq!(document["NetworkSettings"]["Ports"], json!({}));
    assert_eq!(document["NetworkSettings"]["IPAddress"], json!(""));
    assert_eq!(document["State"]["ExitCode"], json!(3));
    assert_eq!(document["State"]["Running"], json!(false));
    assert_eq!(document["HostConfig"]["MaskedPaths"], Value::Null);
}
