//! The whole room against the kernel: a fresh network namespace plays the host, others play the
//! container and a machine outside. Needs root; the real host's network is not touched.
mod direct;
mod networks;

use super::endpoint::host_link;
use super::link::{self, Pair};
use super::namespace::route_socket;
use super::route::{self, Range};
use super::*;
use crate::base::ContainerId;
use crate::state::record::{Network, PortMapping, Protocol};
use crate::sys::netns;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a packet that must not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(300);
/// How long one that must arrive is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Runs a test in a namespace that plays the host.
fn on_host(test: impl FnOnce() + Send) {
    netns::in_new(|| {
        let socket = route_socket().unwrap();
        link::set_up(socket.as_fd(), link::LOOPBACK).unwrap();
        test();
    })
    .unwrap();
}

/// A machine outside, reached by a veth pair, that routes everything through the host.
fn outside() -> Netns {
    let outside = create_netns().unwrap();
    let socket = route_socket().unwrap();
    let pair = Pair {
        host_name: "out0",
        alias: "",
        port: None,
        mtu: 1500,
        peer_namespace: outside.fd.as_fd(),
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 9],
    };
    link::create_pair(socket.as_fd(), &pair).unwrap();
    let near = link::find(socket.as_fd(), "out0").unwrap().unwrap();
    route::set_addresses(socket.as_fd(), near.index, &[Range::new(HOST_OUTSIDE, 24)]).unwrap();
    let far = link::find(outside.socket.as_fd(), "eth0").unwrap().unwrap();
    route::configure(outside.socket.as_fd(), far.index, &[Range::new(OUTSIDE, 24)], &[HOST_OUTSIDE.into()], false).unwrap();
    outside
}

/// Where the container is, and what its ports lead to.
struct Joined {
    plan: EndpointPlan,
    address: Ipv4Addr,
    targets: Addresses,
}

fn plan(network: &Network, last: u8) -> EndpointPlan {
    let [a, b, c, _] = network.gateway4().unwrap().octets();
    let ipv6 = network.gateway6().map(|gateway| Ipv6Addr::from_bits(gateway.to_bits() - 1 + u128::from(last)));
    EndpointPlan {
        container: ContainerId::random(),
        interface: "eth0".to_owned(),
        ipv4: Some(Ipv4Addr::new(a, b, c, last)),
        ipv6,
        mac: None,
        default_route: true,
    }
}

fn container(network: &Network, last: u8) -> (Netns, Joined) {
    let namespace = create_netns().unwrap();
    let plan = plan(network, last);
    attach(network, &namespace, &plan).unwrap();
    (namespace, Joined { address: plan.ipv4.unwrap(), targets: Addresses { ipv4: plan.ipv4, ipv6: plan.ipv6 }, plan })
}

struct Records {
    networks: Vec<Network>,
    published: Vec<(Addresses, PublishedPort)>,
}

impl Records {
    fn of(networks: &[Network]) -> Records {
        Records { networks: networks.to_vec(), published: Vec::new() }
    }
}

impl Kept for Records {
    type Error = Error;

    fn networks(&self) -> Result<Vec<Network>, Error> {
        Ok(self.networks.clone())
    }

    fn published(&self) -> Result<Vec<(Addresses, PublishedPort)>, Error> {
        Ok(self.published.clone())
    }
}

/// Nobody may ask.
struct Sealed;

impl Kept for Sealed {
    type Error = Error;

    fn networks(&self) -> Result<Vec<Network>, Error> {
        panic!("the table was made anew without need")
    }

    fn published(&self) -> Result<Vec<(Addresses, PublishedPort)>, Error> {
        panic!("the table was made anew without need")
    }
}

fn bring_up(network: &Network) {
    ensure(network, &Records::of(std::slice::from_ref(network))).unwrap();
}

fn stand_up() -> Network {
    let network = choose_default("bridge", &[]).unwrap();
    bring_up(&network);
    network
}

fn mapping(host_ip: Option<&str>, container_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping { host_ip: host_ip.map(|ip| ip.parse().unwrap()), host_ports: None, container_port, protocol }
}

fn listen(namespace: &Netns, port: u16) -> TcpListener {
    netns::inside(namespace.fd.as_fd(), || TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap()
}

fn connect(address: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), PATIENCE)
}

fn connect_from(namespace: &Netns, address: impl Into<IpAddr> + Send, port: u16, patience: Duration) -> std::io::Result<TcpStream> {
    netns::inside(namespace.fd.as_fd(), || TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), patience)).unwrap()
}

/// Accepts the connection and passes a word through it; returns where the server saw it come from.
fn talk(listener: &TcpListener, client: std::io::Result<TcpStream>) -> IpAddr {
    let mut client = client.unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ping");
    peer.ip()
}

fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft(arguments: &str) {
    let status = Command::new("nft").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "nft {arguments}");
}

#[test]
fn published_ports_are_reached_from_everywhere_and_others_from_nowhere() {
    on_host(|| {
        let far = outside();
        let network = stand_up();
        let (inside, endpoint) = container(&network, 2);
        let (web, hidden) = (listen(&inside, 80), listen(&inside, 81));
        let held = hold_ports(&[mapping(None, 80, Protocol::Tcp), mapping(Some("127.0.0.1"), 81, Protocol::Tcp)], false).unwrap();
        let ports: Vec<PublishedPort> = held.iter().map(|h| h.port.clone()).collect();
        publish(endpoint.targets, &ports).unwrap();
        publish(endpoint.targets, &ports).unwrap();
        let (open, local) = (ports[0].host_port, ports[1].host_port);

        assert_eq!(talk(&web, connect(Ipv4Addr::LOCALHOST, open)), IpAddr::V4(network.gateway4().unwrap()));
        assert_eq!(talk(&web, connect(HOST_OUTSIDE, open)), IpAddr::V4(HOST_OUTSIDE));
        assert_eq!(talk(&web, connect(endpoint.address, 80)), IpAddr::V4(network.gateway4().unwrap()));
        assert_eq!(talk(&web, connect_from(&far, HOST_OUTSIDE, open, PATIENCE)), IpAddr::V4(OUTSIDE), "the source address is kept");
        // The container itself and a neighbour, by the published port.
        assert_eq!(talk(&web, connect_from(&inside, HOST_OUTSIDE, open, PATIENCE)), IpAddr::V4(network.gateway4().unwrap()));
        let (neighbour, _) = container(&network, 3);
        assert_eq!(talk(&web, connect_from(&neighbour, HOST_OUTSIDE, open, PATIENCE)), IpAddr::V4(network.gateway4().unwrap()));
        assert_eq!(talk(&hidden, connect(Ipv4Addr::LOCALHOST, local)), IpAddr::V4(network.gateway4().unwrap()));

        for (address, port) in [(endpoint.address, 80), (endpoint.address, 81), (HOST_OUTSIDE, local), (network.gateway4().unwrap(), open)] {
            assert!(connect_from(&far, address, port, SILENCE).is_err(), "{address}:{port} is reached from outside");
        }
        // The way out: masqueraded as the host.
        let server = listen(&far, 9000);
        assert_eq!(talk(&server, connect_from(&inside, OUTSIDE, 9000, PATIENCE)), IpAddr::V4(HOST_OUTSIDE));

        unpublish(endpoint.targets, &ports).unwrap();
        unpublish(endpoint.targets, &ports).unwrap();
        assert!(connect(Ipv4Addr::LOCALHOST, open).is_err());
        assert!(connect_from(&far, HOST_OUTSIDE, open, SILENCE).is_err());
    });
}

#[test]
fn udp_reaches_the_container_and_a_flow_older_than_the_publication_does_too() {
    on_host(|| {
        let far = outside();
        let network = stand_up();
        let (inside, endpoint) = container(&network, 2);
        let bind = |namespace: &Netns, port: u16| {
            let socket = netns::inside(namespace.fd.as_fd(), || UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (server, client) = (bind(&inside, 53), bind(&far, 0));
        let held = hold_ports(&[mapping(None, 53, Protocol::Udp)], false).unwrap();
        let port = held[0].port.clone();
        client.send_to(b"early", (HOST_OUTSIDE, port.host_port)).unwrap();
        publish(endpoint.targets, std::slice::from_ref(&port)).unwrap();
        client.send_to(b"query", (HOST_OUTSIDE, port.host_port)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"query"[..], IpAddr::V4(OUTSIDE)));
        server.send_to(b"answer", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], SocketAddr::from((HOST_OUTSIDE, port.host_port))));

        unpublish(endpoint.targets, std::slice::from_ref(&port)).unwrap();
        client.send_to(b"late", (HOST_OUTSIDE, port.host_port)).unwrap();
        server.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(server.recv_from(&mut buffer).is_err(), "the flow outlived the publication");
    });
}

#[test]
fn a_flushed_ruleset_and_a_deleted_bridge_are_repaired() {
    on_host(|| {
        let network = stand_up();
        assert_eq!(choose_default("bridge", &[]).unwrap().pools, network.pools, "a standing bridge keeps its range");
        let (inside, endpoint) = container(&network, 2);
        let web = listen(&inside, 80);
        let held = hold_ports(&[mapping(None, 80, Protocol::Tcp)], false).unwrap();
        let port = held[0].port.clone();
        publish(endpoint.targets, std::slice::from_ref(&port)).unwrap();
        ensure(&network, &Sealed).unwrap();
        for damage in ["flush ruleset", "flush chain ip rcon guard", "flush table ip rcon"] {
            nft(damage);
            let records = Records { networks: vec![network.clone()], published: vec![(endpoint.targets, port.clone())] };
            ensure(&network, &records).unwrap();
            talk(&web, connect(Ipv4Addr::LOCALHOST, port.host_port));
        }
        let socket = route_socket().unwrap();
        assert!(link::remove(socket.as_fd(), &network.device).unwrap());
        ensure(&network, &Sealed).unwrap();
        talk(&web, connect(Ipv4Addr::LOCALHOST, port.host_port));
    });
}

#[test]
fn leftovers_are_replaced_and_swept_and_foreign_rules_stay() {
    on_host(|| {
        nft("add table ip filter");
        nft("add chain ip filter FORWARD");
        let foreign = ruleset();
        let network = stand_up();
        let (first, endpoint) = container(&network, 2);
        // A second try of the same container: the leftover goes.
        let again = create_netns().unwrap();
        attach(&network, &again, &endpoint.plan).unwrap();
        assert_eq!(link::find(first.socket.as_fd(), "eth0").unwrap(), None);
        let (_other, gone) = container(&network, 3);
        let port = |host_port| PublishedPort { host_ip: None, host_port, container_port: 80, protocol: Protocol::Tcp };
        publish(endpoint.targets, &[port(8080)]).unwrap();
        // Another container takes the port over; the first one's late removal must not take it away.
        publish(gone.targets, &[port(8080), port(8081)]).unwrap();
        unpublish(endpoint.targets, &[port(8080)]).unwrap();
        assert!(ruleset().contains(&format!("8080 : {} . 80", gone.address)), "{}", ruleset());
        unpublish(gone.targets, &[port(8080), port(8081)]).unwrap();
        let socket = route_socket().unwrap();
        for endpoint in [&endpoint, &gone] {
            link::remove(socket.as_fd(), &host_link(&endpoint.plan.container, &network)).unwrap();
        }
        let after = ruleset();
        assert!(after.starts_with(foreign.trim_end()), "{after}");
        assert_eq!(after.matches("table ").count(), 2, "{after}");
        assert_eq!(after.matches("elements").count(), 5, "only the network's are left: {after}");
        let names: Vec<String> = link::list(socket.as_fd()).unwrap().into_iter().map(|l| l.name).filter(|n| n.starts_with("rc")).collect();
        assert_eq!(names, ["rcon0"]);
    });
}

#[test]
fn a_new_namespace_has_dockers_parameters_and_errors_name_their_object() {
    on_host(|| {
        let namespace = create_netns().unwrap();
        let read = |path: &str| netns::inside(namespace.fd.as_fd(), || std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(read("/proc/sys/net/ipv4/ip_unprivileged_port_start").trim(), "0");
        assert_eq!(read("/proc/sys/net/ipv4/ping_group_range").trim(), "0\t2147483647");
        let network = choose_default("bridge", &[]).unwrap();
        let plan = plan(&network, 2);
        assert_eq!(attach(&network, &namespace, &plan).unwrap_err().to_string(), "rcon0 is missing from the network namespace");
        let port = PublishedPort { host_ip: None, host_port: 1, container_port: 1, protocol: Protocol::Tcp };
        assert_eq!(
            publish(Ipv4Addr::new(172, 17, 0, 2).into(), std::slice::from_ref(&port)).unwrap_err().to_string(),
            "cannot publish ports of 172.17.0.2"
        );
        unpublish(Ipv4Addr::new(172, 17, 0, 2).into(), &[port]).unwrap();
    });
}

#[test]
fn many_endpoints_stay_cheap() {
    on_host(|| {
        let network = stand_up();
        let mut kept = Vec::new();
        let mut times = Vec::new();
        for last in 2..34 {
            let start = Instant::now();
            bring_up(&network);
            let ensured = start.elapsed();
            let namespace = create_netns().unwrap();
            let created = start.elapsed();
            let plan = plan(&network, last);
            attach(&network, &namespace, &plan).unwrap();
            let attached = start.elapsed();
            let port = PublishedPort { host_ip: None, host_port: 8000 + u16::from(last), container_port: 80, protocol: Protocol::Tcp };
            publish(plan.ipv4.unwrap().into(), &[port]).unwrap();
            times.push([ensured, created - ensured, attached - created, start.elapsed() - attached]);
            kept.push(namespace);
        }
        // The fastest of those that came beside many others: what else the machine does can only add to what the work costs.
        let fastest = [0, 1, 2, 3].map(|i| times[16..].iter().map(|t| t[i]).min().unwrap());
        assert!(fastest.iter().sum::<Duration>() < Duration::from_millis(200), "ensure, create_netns, attach, publish: {fastest:?}");
        writeln!(std::io::stderr(), "ensure, create_netns, attach, publish: {fastest:?}").unwrap();
    });
}
