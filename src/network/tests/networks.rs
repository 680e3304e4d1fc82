//! Several networks of every kind side by side.
use super::*;
use crate::state::record::{Driver, Pool};
use std::collections::BTreeMap;

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(option, value)| ((*option).to_owned(), (*value).to_owned())).collect()
}

/// A bridge network of its own range, with IPv6 on request.
pub(super) fn network(name: &str, others: &[Network], ipv6: bool, given: &[(&str, &str)]) -> Network {
    let mut pools = vec![choose_subnet(others).unwrap()];
    pools.extend(ipv6.then(choose_ula));
    Network { pools, ..Network::new(name, Driver::Bridge, options(given)) }
}

fn listen6(namespace: &Netns, port: u16) -> TcpListener {
    netns::inside(namespace.fd.as_fd(), || TcpListener::bind(("::", port)).unwrap()).unwrap()
}

fn unheard(from: &Netns, address: impl Into<IpAddr>, port: u16) -> bool {
    connect_from(from, address.into(), port, SILENCE).is_err()
}

#[test]
fn networks_are_isolated_but_for_published_ports() {
    on_host(|| {
        let far = outside();
        let default = stand_up();
        let (a, b) = (network("a", std::slice::from_ref(&default), false, &[]), network("b", &[], false, &[]));
        bring_up(&a);
        let b = Network { pools: vec![choose_subnet(&[default.clone(), a.clone()]).unwrap()], ..b };
        let closed = [("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.bridge.enable_ip_masquerade", "false")];
        let c = network("c", &[default.clone(), a.clone(), b.clone()], false, &closed);
        let all = [default, a, b, c];
        let [default, a, b, c] = &all;
        for network in [b, c] {
            ensure(network, &Sealed).unwrap();
        }
        let (one, at_one) = container(a, 2);
        let (two, at_two) = container(a, 3);
        let (other, at_other) = container(b, 2);
        let (third, _) = container(default, 2);
        let (web, elsewhere) = (listen(&one, 80), listen(&other, 80));
        talk(&web, connect_from(&two, at_one.address, 80, PATIENCE));
        for stranger in [&other, &third] {
            assert!(unheard(stranger, at_one.address, 80), "networks are isolated");
        }
        assert!(unheard(&one, at_other.address, 80) && unheard(&far, at_one.address, 80));
        // A published port is open to the containers of other networks too.
        let port = PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        publish(at_other.targets, std::slice::from_ref(&port)).unwrap();
        talk(&elsewhere, connect_from(&one, HOST_OUTSIDE, 8080, PATIENCE));
        assert_eq!(talk(&elsewhere, connect_from(&far, HOST_OUTSIDE, 8080, PATIENCE)), IpAddr::V4(OUTSIDE));
        // Between containers that are not to reach each other, and without a host's address.
        let (left, _) = container(c, 2);
        let (right, at_right) = container(c, 3);
        let lone = listen(&right, 80);
        assert!(unheard(&left, at_right.address, 80), "enable_icc=false");
        talk(&lone, connect(at_right.address, 80));
        let server = listen(&far, 9000);
        assert_eq!(talk(&server, connect_from(&left, OUTSIDE, 9000, PATIENCE)), IpAddr::V4(left_address(c)), "no masquerading");
        assert!(unheard(&far, at_right.address, 80) && unheard(&far, c.gateway4().unwrap(), 8080), "only answers come in");
        // A network that goes takes its elements along, and only those.
        drop((one, two));
        detach(a, &at_one.plan.container, None).unwrap();
        detach(a, &at_two.plan.container, None).unwrap();
        remove(a).unwrap();
        remove(a).unwrap();
        assert!(!ruleset().contains(&a.device), "{}", ruleset());
        ensure(b, &Sealed).unwrap();
        talk(&elsewhere, connect(Ipv4Addr::LOCALHOST, 8080));
    });
}

fn left_address(network: &Network) -> Ipv4Addr {
    plan(network, 2).ipv4.unwrap()
}

#[test]
fn an_internal_network_has_no_way_in_or_out() {
    on_host(|| {
        let far = outside();
        let open = stand_up();
        let internal = Network { internal: true, ..network("internal", std::slice::from_ref(&open), true, &[]) };
        let all = [open, internal];
        let [open, internal] = &all;
        ensure(internal, &Records::of(&all)).unwrap();
        let (one, at_one) = container(internal, 2);
        let (two, _) = container(internal, 3);
        let (third, at_third) = container(open, 2);
        let (web, outer, host) = (listen(&one, 80), listen(&far, 9000), listen(&third, 80));
        talk(&web, connect_from(&two, at_one.address, 80, PATIENCE));
        talk(&web, connect(at_one.address, 80));
        // Even with a route that its container made itself.
        let inside = one.socket.as_fd();
        let eth0 = link::find(inside, "eth0").unwrap().unwrap();
        route::set_default(inside, eth0.index, &[internal.gateway4().unwrap().into()]).unwrap();
        let port = PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        publish(at_third.targets, &[port]).unwrap();
        assert!(unheard(&one, OUTSIDE, 9000) && unheard(&one, at_third.address, 80) && unheard(&one, HOST_OUTSIDE, 8080));
        assert!(unheard(&far, at_one.address, 80) && unheard(&third, at_one.address, 80));
        drop((outer, host));
    });
}

#[test]
fn both_families_are_published_and_guarded() {
    on_host(|| {
        const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
        let far = outside();
        netns::inside(far.fd.as_fd(), || namespace::enable_ipv6("eth0").unwrap()).unwrap();
        let socket = route_socket().unwrap();
        let near = link::find(socket.as_fd(), "out0").unwrap().unwrap();
        route::set_addresses(socket.as_fd(), near.index, &[Range::new(HOST6, 64)]).unwrap();
        let eth0 = link::find(far.socket.as_fd(), "eth0").unwrap().unwrap();
        route::configure(far.socket.as_fd(), eth0.index, &[Range::new(FAR6, 64)], &[HOST6.into()], false).unwrap();

        // Without its being told, out0 would stop listening to router advertisements once the host forwards.
        let advertised = ["-6", "route", "add", "2001:db8:7::/64", "dev", "out0", "proto", "ra"];
        assert!(Command::new("ip").args(advertised).status().unwrap().success());
        assert_eq!(namespace::read("net/ipv6/conf/out0/accept_ra").unwrap(), "1");
        let dual = network("dual", &[], true, &[]);
        bring_up(&dual);
        assert_eq!(namespace::read("net/ipv6/conf/out0/accept_ra").unwrap(), "2");
        assert!(ruleset().contains(&format!("elements = {{ \"{}\" }}", dual.device)), "{}", ruleset());
        let (inside, endpoint) = container(&dual, 2);
        let (other, at_other) = container(&dual, 3);
        let address = endpoint.plan.ipv6.unwrap();
        let (web, neighbour) = (listen6(&inside, 80), listen6(&other, 80));
        talk(&neighbour, connect_from(&inside, at_other.plan.ipv6.unwrap(), 80, PATIENCE));
        let held = hold_ports(&[mapping(None, 80, Protocol::Tcp), mapping(Some("::"), 80, Protocol::Tcp)], true).unwrap();
        let ports: Vec<PublishedPort> = held.iter().map(|h| h.port.clone()).collect();
        publish(endpoint.targets, &ports).unwrap();
        publish(endpoint.targets, &ports).unwrap();
        let (both, only) = (ports[0].host_port, ports[1].host_port);
        assert_eq!(talk(&web, connect_from(&far, HOST6, both, PATIENCE)), IpAddr::V6(FAR6), "the source address is kept");
        assert_eq!(talk(&web, connect_from(&far, HOST6, only, PATIENCE)), IpAddr::V6(FAR6));
        talk(&web, connect_from(&far, HOST_OUTSIDE, both, PATIENCE));
        talk(&web, connect(Ipv4Addr::LOCALHOST, both));
        talk(&web, connect(HOST6, both));
        talk(&web, connect_from(&inside, HOST6, both, PATIENCE));
        let refused = connect(Ipv6Addr::LOCALHOST, both).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "clients try 127.0.0.1 next");
        assert!(unheard(&far, HOST_OUTSIDE, only) && unheard(&far, address, 80) && unheard(&far, dual.gateway6().unwrap(), both));
        let server = listen6(&far, 9000);
        assert_eq!(talk(&server, connect_from(&inside, FAR6, 9000, PATIENCE)), IpAddr::V6(HOST6), "masqueraded");

        for damage in ["flush ruleset", "flush table ip6 rcon", "delete table ip6 rcon"] {
            nft(damage);
            let published = ports.iter().map(|port| (endpoint.targets, port.clone())).collect();
            ensure(&dual, &Records { networks: vec![dual.clone()], published }).unwrap();
            talk(&web, connect_from(&far, HOST6, both, PATIENCE));
        }
        unpublish(endpoint.targets, &ports).unwrap();
        assert!(unheard(&far, HOST6, both) && unheard(&far, HOST6, only));
        assert!(take_down(std::slice::from_ref(&dual)).is_ok_and(|done| !done), "somebody is on it");
    });
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    on_host(|| {
        let default = stand_up();
        let dual = network("dual", std::slice::from_ref(&default), true, &[]);
        let all = [default, dual];
        let [default, dual] = &all;
        ensure(dual, &Records::of(&all)).unwrap();
        let (first, at_first) = container(default, 2);
        let (peer, at_peer) = container(dual, 2);
        let web = listen6(&peer, 80);
        let live = enter_netns(first.fd.try_clone().unwrap()).unwrap();
        let second = EndpointPlan { container: at_first.plan.container.clone(), interface: "eth1".to_owned(), default_route: false, ..plan(dual, 3) };
        attach(dual, &live, &second).unwrap();
        talk(&web, connect_from(&first, at_peer.address, 80, PATIENCE));
        talk(&web, connect_from(&first, at_peer.plan.ipv6.unwrap(), 80, PATIENCE));
        let way_out = || route::routes(live.socket.as_fd()).unwrap().into_iter().find(|route| route.range.prefix == 0).unwrap().device;
        let index = |name: &str| link::find(live.socket.as_fd(), name).unwrap().map(|link| link.index);
        assert_eq!(way_out(), index("eth0"));
        set_default_route(dual, &live, &second).unwrap();
        assert_eq!(way_out(), index("eth1"));
        // The bridge was deleted: both of its own endpoints come back, the other's stays where it is.
        let socket = route_socket().unwrap();
        assert!(link::remove(socket.as_fd(), &dual.device).unwrap());
        ensure(dual, &Sealed).unwrap();
        talk(&web, connect_from(&first, at_peer.plan.ipv6.unwrap(), 80, PATIENCE));

        let owned = |endpoints: Vec<(ContainerId, String)>| Owned { networks: all.to_vec(), endpoints, published: Vec::new() };
        let both = vec![(at_first.plan.container.clone(), default.id.clone()), (at_peer.plan.container.clone(), dual.id.clone())];
        let name = host_link(&second.container, dual);
        let left = audit(&mut || owned(both.clone())).unwrap();
        assert_eq!(left.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("link {name} of no container")]);
        mend(&left).unwrap();
        assert_eq!(index("eth1"), None);
        detach(dual, &second.container, None).unwrap();
        assert!(index("eth0").is_some() && unheard(&first, at_peer.address, 80));

        publish(at_first.targets, &[PublishedPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Sctp }]).unwrap();
        let left = audit(&mut || owned(both.clone())).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].to_string().ends_with("in set ports of nftables table ip rcon"), "{}", left[0]);
        mend(&left).unwrap();
        assert_eq!(audit(&mut || owned(both.clone())).unwrap(), []);
    });
}

#[test]
fn macvlan_interfaces_reach_the_parents_network_and_ipvlan_says_if_the_kernel_has_none() {
    on_host(|| {
        let far = outside();
        let pool = Pool { subnet: "192.0.2.0".parse().unwrap(), prefix: 24, gateway: Some(OUTSIDE.into()), range: None, auxiliary: BTreeMap::new() };
        let make = |driver, given: &[(&str, &str)]| Network { pools: vec![pool.clone()], ..Network::new("lan", driver, options(given)) };
        let lan = make(Driver::Macvlan, &[("parent", "out0")]);
        bring_up(&lan);
        let (inside, endpoint) = container(&lan, 7);
        let (neighbour, _) = container(&lan, 8);
        let (web, server) = (listen(&inside, 80), listen(&far, 9000));
        assert_eq!(talk(&server, connect_from(&inside, OUTSIDE, 9000, PATIENCE)), IpAddr::V4(endpoint.address));
        talk(&web, connect_from(&far, endpoint.address, 80, PATIENCE));
        talk(&web, connect_from(&neighbour, endpoint.address, 80, PATIENCE));
        detach(&lan, &endpoint.plan.container, Some((&inside, "eth0"))).unwrap();
        assert!(link::find(inside.socket.as_fd(), "eth0").unwrap().is_none());
        remove(&lan).unwrap();
        let socket = route_socket().unwrap();
        assert!(link::find(socket.as_fd(), "out0").unwrap().is_some(), "a parent of others stays");

        let missing = make(Driver::Macvlan, &[("parent", "out7")]);
        let text = ensure(&missing, &Records::of(&[])).unwrap_err().to_string();
        assert_eq!(text, "parent out7 of network lan does not exist");
        let tagged = make(Driver::Macvlan, &[("parent", "out0.7")]);
        match ensure(&tagged, &Records::of(&[])) {
            Ok(()) => {
                assert!(link::find(socket.as_fd(), "out0.7").unwrap().unwrap().up);
                remove(&tagged).unwrap();
                assert!(link::find(socket.as_fd(), "out0.7").unwrap().is_none());
            }
            Err(error) => assert_eq!(error.to_string(), "this kernel has no vlan network devices"),
        }
        let ipvlan = make(Driver::Ipvlan, &[("parent", "out0")]);
        drop((neighbour, inside));
        bring_up(&ipvlan);
        let namespace = create_netns().unwrap();
        match attach(&ipvlan, &namespace, &plan(&ipvlan, 9)) {
            Ok(()) => drop(talk(&server, connect_from(&namespace, OUTSIDE, 9000, PATIENCE))),
            // A macvlan whose namespace is going still holds the parent.
            Err(Error::NoSuchKind { kind, .. }) => assert_eq!(kind, "ipvlan"),
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn the_default_range_is_not_that_of_a_network_without_a_device_yet() {
    on_host(|| {
        let waiting = Network { pools: vec![choose_subnet(&[]).unwrap()], ..Network::new("waiting", Driver::Bridge, BTreeMap::new()) };
        let default = choose_default("bridge", std::slice::from_ref(&waiting)).unwrap();
        assert!(!default.pools[0].overlaps(&waiting.pools[0]), "{:?}", default.pools);
    });
}

#[test]
fn others_forward_policies_are_found_and_a_foreign_bridge_is_left_alone() {
    on_host(|| {
        nft("add table inet strict");
        nft("add chain inet strict across { type filter hook forward priority 0 ; policy drop ; }");
        nft("add chain inet strict inward { type filter hook input priority 0 ; policy drop ; }");
        bring_up(&network("a", &[], true, &[]));
        assert_eq!(forward_blockers().unwrap(), ["chain across of table inet strict"]);
        let socket = route_socket().unwrap();
        link::create(socket.as_fd(), "bridge", "br7", "", None).unwrap();
        let wanted = network("b", &[], false, &[("com.docker.network.bridge.name", "br7")]);
        let text = ensure(&wanted, &Records::of(&[])).unwrap_err().to_string();
        assert_eq!(text, "network device br7 exists and does not belong to network b");
        remove(&wanted).unwrap();
        assert!(link::find(socket.as_fd(), "br7").unwrap().is_some());
        let taken = obstacle(&choose_ula(), &[], "").unwrap();
        assert_eq!(taken, None);
        let pool = wanted.pools[0].clone();
        assert_eq!(obstacle(&pool, std::slice::from_ref(&wanted), "").unwrap(), Some(format!("{}/20 of network b", pool.subnet)));
    });
}

#[test]
fn many_who_start_at_once_make_the_table_once() {
    on_host(|| {
        let default = choose_default("bridge", &[]).unwrap();
        let other = network("other", std::slice::from_ref(&default), true, &[]);
        let all = [default, other];
        let host = netns_of(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        std::thread::scope(|scope| {
            for at in 0..8u8 {
                let (all, host) = (&all, host.as_fd());
                scope.spawn(move || {
                    netns::inside(host, || {
                        for round in 0..8u8 {
                            let network = &all[usize::from((at + round) % 2)];
                            ensure(network, &Records::of(all)).unwrap();
                            let host_port = 8000 + u16::from(at) * 8 + u16::from(round);
                            let port = PublishedPort { host_ip: None, host_port, container_port: 80, protocol: Protocol::Tcp };
                            publish(plan(network, 2 + at).ipv4.unwrap().into(), &[port]).unwrap();
                        }
                    })
                    .unwrap();
                });
            }
        });
        for network in &all {
            ensure(network, &Sealed).unwrap();
        }
        assert_eq!(ruleset().matches("tcp . 80").count(), 64, "no publication was lost: {}", ruleset());
    });
}
