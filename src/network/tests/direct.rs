//! Frames past the bridge: where nobody looks at them, or a network asks for it.
use super::networks::network;
use super::*;
use crate::network::namespace::set;

/// Frames that one exchange has at least, each way.
const DATAGRAMS: u64 = 40;

/// Frames that the host side of a container gave to it, by way of the bridge.
fn bridged(container: &Joined, network: &Network) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let name = format!("{}:", host_link(&container.plan.container, network));
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&name)).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

/// Sends datagrams from one to the other, which all arrive; returns how many of them the bridge had.
fn exchange(network: &Network, from: &Netns, (to, at): (&Netns, &Joined)) -> u64 {
    let server = netns::inside(to.fd.as_fd(), || UdpSocket::bind(("0.0.0.0", 0)).unwrap()).unwrap();
    let client = netns::inside(from.fd.as_fd(), || UdpSocket::bind(("0.0.0.0", 0)).unwrap()).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = server.local_addr().unwrap().port();
    let before = bridged(at, network);
    for number in 0..DATAGRAMS {
        client.send_to(&number.to_ne_bytes(), (at.address, port)).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(server.recv(&mut buffer).unwrap(), buffer.len());
        assert_eq!(u64::from_ne_bytes(buffer), number);
    }
    bridged(at, network) - before
}

#[test]
fn frames_pass_beside_the_bridge_where_the_network_asks_for_it() {
    on_host(|| {
        let far = outside();
        let direct = network("direct", &[], true, &[("rcon.direct", "true")]);
        bring_up(&direct);
        let (one, at_one) = container(&direct, 2);
        let (two, at_two) = container(&direct, 3);
        assert!(exchange(&direct, &one, (&two, &at_two)) < DATAGRAMS, "they passed the bridge");
        let web = listen(&one, 80);
        talk(&web, connect_from(&two, at_one.address, 80, PATIENCE));
        // To and from the host, the world and a published port as ever.
        talk(&web, connect(at_one.address, 80));
        let server = listen(&far, 9000);
        assert_eq!(talk(&server, connect_from(&two, OUTSIDE, 9000, PATIENCE)), IpAddr::V4(HOST_OUTSIDE));
        let port = PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        publish(at_one.targets, &[port]).unwrap();
        talk(&web, connect_from(&two, HOST_OUTSIDE, 8080, PATIENCE));
        talk(&web, connect_from(&far, HOST_OUTSIDE, 8080, PATIENCE));
        // An address that another container had before.
        drop(two);
        detach(&direct, &at_two.plan.container, None).unwrap();
        let (third, at_third) = container(&direct, 3);
        assert!(exchange(&direct, &one, (&third, &at_third)) < DATAGRAMS);
        talk(&web, connect_from(&third, at_one.address, 80, PATIENCE));
        // The bridge is made anew under them: its table has gone, and frames take the longer way.
        let socket = route_socket().unwrap();
        assert!(link::remove(socket.as_fd(), &direct.device).unwrap());
        ensure(&direct, &Sealed).unwrap();
        let (fourth, at_fourth) = container(&direct, 4);
        exchange(&direct, &third, (&fourth, &at_fourth));
        exchange(&direct, &fourth, (&third, &at_third));
        // Nobody keeps the way to who had an address before.
        drop(third);
        detach(&direct, &at_third.plan.container, None).unwrap();
        let (fifth, at_fifth) = container(&direct, 3);
        exchange(&direct, &one, (&fifth, &at_fifth));
        exchange(&direct, &fourth, (&fifth, &at_fifth));
        exchange(&direct, &fifth, (&one, &at_one));
    });
}

#[test]
fn frames_pass_the_bridge_where_somebody_looks_at_them() {
    on_host(|| {
        // As where br_netfilter is not loaded.
        let look = |value| {
            for family in ["iptables", "ip6tables"] {
                let parameter = format!("net/bridge/bridge-nf-call-{family}");
                if namespace::read(&parameter).is_ok() {
                    set(&parameter, value).unwrap();
                }
            }
        };
        look("0");
        let plain = network("plain", &[], false, &[]);
        bring_up(&plain);
        let (one, _) = container(&plain, 2);
        let (two, at_two) = container(&plain, 3);
        assert!(exchange(&plain, &one, (&two, &at_two)) < DATAGRAMS, "nobody looks");
        nft("add table bridge others");
        ensure(&plain, &Sealed).unwrap();
        assert!(exchange(&plain, &one, (&two, &at_two)) >= DATAGRAMS, "a table of the bridge family");
        nft("delete table bridge others");
        let others = [plain.clone()];
        let apart = network("apart", &others, false, &[("rcon.direct", "false")]);
        ensure(&apart, &Records::of(&[plain.clone(), apart.clone()])).unwrap();
        let (five, _) = container(&apart, 2);
        let (six, at_six) = container(&apart, 3);
        assert!(exchange(&apart, &five, (&six, &at_six)) >= DATAGRAMS, "the network does not want it");
        if namespace::read("net/bridge/bridge-nf-call-iptables").is_ok() {
            look("0");
            let (four, at_four) = container(&plain, 5);
            assert!(exchange(&plain, &one, (&four, &at_four)) < DATAGRAMS, "nobody looks any more");
            look("1");
            ensure(&plain, &Sealed).unwrap();
            assert!(exchange(&plain, &one, (&four, &at_four)) >= DATAGRAMS, "frames pass iptables");
        }
    });
}
