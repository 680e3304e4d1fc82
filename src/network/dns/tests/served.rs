//! The server with its sockets, in a network namespace that plays the container, with servers in one that plays the host.
//! Needs root; the real host's network is not touched.
use super::super::names;
use super::super::server::MOST_EXCHANGES;
use super::super::{Plan, PlannedNetwork, Server};
use super::{A, AAAA, Said, entry, query, said};
use crate::network::{Netns, create_netns};
use crate::sys::netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

struct World {
    inside: Netns,
    directory: PathBuf,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a test on a host with one container, which is called "db" and is reached at 192.0.2.2.
fn world(test: impl FnOnce(&World) + Send) {
    netns::in_new(|| {
        ip("link set lo up");
        let inside = create_netns().unwrap();
        let place = format!("/proc/{}/fd/{}", std::process::id(), inside.fd.as_raw_fd());
        ip(&format!("link add veth type veth peer name eth0 netns {place}"));
        ip(&format!("addr add {HOST}/24 dev veth"));
        ip("link set veth up");
        netns::inside(inside.fd.as_fd(), || {
            ip(&format!("addr add {INSIDE}/24 dev eth0"));
            ip("link set eth0 up");
        })
        .unwrap();
        let directory = std::env::temp_dir().join(format!("rcon-dns-{}", crate::base::random_hex(8)));
        let world = World { inside, directory };
        let many = (0..100).map(|n| entry(n, &format!("c{n}"), &["all"], Some(&format!("10.0.0.{n}")), None));
        let entries: Vec<_> = many.chain([entry(0xdb, "db", &[], Some("192.0.2.2"), None)]).collect();
        names::write(&world.names(), &entries).unwrap();
        test(&world);
        std::fs::remove_dir_all(&world.directory).unwrap();
    })
    .unwrap();
}

impl World {
    fn names(&self) -> PathBuf {
        self.directory.join("names")
    }

    fn plan(&self, servers: &[&str], forward: bool) -> Plan {
        let network = PlannedNetwork { name: "front".to_owned(), names: self.names() };
        Plan { networks: vec![network], servers: servers.iter().map(|s| (*s).to_owned()).collect(), forward }
    }

    /// A server whose host has this resolv.conf.
    fn server(&self, plan: Plan, resolv_conf: &str) -> Server {
        let path = self.directory.join("resolv.conf");
        std::fs::write(&path, resolv_conf).unwrap();
        let mut server = Server::with_host(plan, path);
        server.open(self.inside.fd.as_fd()).unwrap();
        server.open(self.inside.fd.as_fd()).unwrap();
        server
    }

    fn udp(&self, address: Ipv4Addr) -> UdpSocket {
        let socket = netns::inside(self.inside.fd.as_fd(), || UdpSocket::bind((address, 0)).unwrap()).unwrap();
        socket.connect(("127.0.0.11", 53)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn ask(&self, name: &str, kind: u16) -> Said {
        exchange(&self.udp(Ipv4Addr::UNSPECIFIED), &query(name, kind, None))
    }

    fn tcp(&self) -> TcpStream {
        let stream = netns::inside(self.inside.fd.as_fd(), || TcpStream::connect(("127.0.0.11", 53)).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn exchange(socket: &UdpSocket, query: &[u8]) -> Said {
    socket.send(query).unwrap();
    let mut buffer = [0; 65536];
    let length = socket.recv(&mut buffer).unwrap();
    said(&buffer[..length])
}

fn put(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
}

fn take(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// The loop of a monitor in short; it ends with the returned stream, and then gives the server back.
fn run(mut server: Server) -> (UnixStream, std::thread::JoinHandle<Server>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        loop {
            let (mut tokens, mut fds) = (Vec::new(), vec![PollFd::new(&theirs, PollFlags::IN)]);
            server.sources(&mut |token, fd, wanted| {
                tokens.push(token);
                fds.push(PollFd::from_borrowed_fd(fd, wanted));
            });
            let wait = server.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wait.map(|wait| Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap(), tv_nsec: i64::from(wait.subsec_nanos()) });
            poll(&mut fds, wait.as_ref()).unwrap();
            if !fds[0].revents().is_empty() {
                break;
            }
            let ready: Vec<u64> = tokens.iter().zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty()).map(|(token, _)| *token).collect();
            if server.deadline().is_some_and(|at| at <= Instant::now()) {
                server.expire();
            }
            ready.into_iter().for_each(|token| server.ready(token));
        }
        server
    });
    (ours, thread)
}

/// A server elsewhere, whose answers depend on the first label of the name. It dies with the test's process.
fn upstream(address: &str, last: u8) {
    let udp = UdpSocket::bind((address, 53)).unwrap();
    let tcp = TcpListener::bind((address, 53)).unwrap();
    let reply = move |query: &[u8], records: u8| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply[7] = records;
        for _ in 0..records {
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, last]);
        }
        reply
    };
    std::thread::spawn(move || {
        loop {
            let mut buffer = [0; 4096];
            let (length, client) = udp.recv_from(&mut buffer).unwrap();
            let query = &buffer[..length];
            let size = usize::from(query[12]);
            let send = |message: &[u8]| assert_eq!(udp.send_to(message, client).unwrap(), message.len());
            match &query[13..13 + size] {
                b"silent" => {}
                b"fails" => {
                    let mut failed = reply(query, 0);
                    failed[3] = 2;
                    send(&failed);
                }
                b"long" => {
                    let mut cut = reply(query, 0);
                    cut[2] |= 2;
                    send(&cut);
                }
                b"huge" => send(&[&reply(query, 1)[..], &[0; 5000]].concat()),
                b"false" => {
                    let mut other = reply(query, 9);
                    other[0] ^= 1;
                    send(&other);
                    let mut other = reply(query, 8);
                    other[13] = b'F' ^ 1;
                    send(&other);
                    send(&reply(query, 1));
                }
                _ => send(&reply(query, 1)),
            }
        }
    });
    std::thread::spawn(move || {
        loop {
            let mut stream = tcp.accept().unwrap().0;
            while let Some(query) = take(&mut stream) {
                put(&mut stream, &reply(&query, 200));
            }
        }
    });
}

fn records(texts: &[&str]) -> Said {
    Said { code: 0, truncated: false, records: texts.iter().map(|t| (*t).to_owned()).collect() }
}

#[test]
fn names_are_answered_at_port_53_which_stays_free() {
    world(|world| {
        let (stop, thread) = run(world.server(world.plan(&[], false), ""));
        assert_eq!(world.ask("db", A), records(&["192.0.2.2"]));
        assert_eq!(world.ask("db", AAAA), records(&[]));
        assert_eq!(exchange(&world.udp(INSIDE), &query("c7.front", A, Some(1232))), records(&["10.0.0.7"]));
        // No other way out: its only network is internal.
        assert_eq!(world.ask("example.org", A).code, 2);
        let cut = world.ask("all", A);
        assert!(cut.truncated && cut.records.len() > 20);
        let mut stream = world.tcp();
        for (name, count) in [("all", 100), ("db", 1), ("none", 0)] {
            put(&mut stream, &query(name, A, None));
            assert_eq!(said(&take(&mut stream).unwrap()).records.len(), count);
        }
        // Several at once, and in pieces.
        let two: Vec<u8> = ["c1", "c2"].iter().flat_map(|name| [&[0, 20], &query(name, A, None)[..]].concat()).collect();
        stream.write_all(&two[..23]).unwrap();
        assert_eq!(said(&take(&mut stream).unwrap()).records, ["10.0.0.1"]);
        stream.write_all(&two[23..]).unwrap();
        assert_eq!(said(&take(&mut stream).unwrap()).records, ["10.0.0.2"]);

        netns::inside(world.inside.fd.as_fd(), || {
            UdpSocket::bind("0.0.0.0:53").unwrap();
            UdpSocket::bind("127.0.0.11:53").unwrap();
            TcpListener::bind("0.0.0.0:53").unwrap();
        })
        .unwrap();
        // A name comes and goes while the server runs.
        names::write(&world.names(), &[entry(1, "new", &[], Some("10.0.0.9"), None)]).unwrap();
        assert_eq!(world.ask("NEW", A), records(&["10.0.0.9"]));
        assert_eq!(world.ask("db", A).code, 2);
        drop(stop);
        thread.join().unwrap();
    });
}

#[test]
fn foreign_names_are_asked_for_in_the_hosts_network() {
    world(|world| {
        upstream("127.0.0.53", 53);
        upstream("192.0.2.1", 1);
        let (stop, thread) = run(world.server(world.plan(&[], true), "search lan\nnameserver 127.0.0.53\n"));
        assert_eq!(world.ask("www.example.org", A), records(&["203.0.113.53"]));
        assert_eq!(world.ask("db", A), records(&["192.0.2.2"]));
        assert_eq!(world.ask("unknown", A), records(&["203.0.113.53"]), "a name without a dot may be one of the host's");
        // The right one of several answers; cut ones are passed on as they are.
        assert_eq!(world.ask("false.example.org", A), records(&["203.0.113.53"]));
        assert_eq!(world.ask("long.example.org", A), Said { code: 0, truncated: true, records: Vec::new() });
        assert_eq!(world.ask("huge.example.org", A), Said { code: 0, truncated: true, records: Vec::new() });
        assert_eq!(world.ask("fails.example.org", A).code, 2);
        let mut stream = world.tcp();
        for _ in 0..2 {
            put(&mut stream, &query("long.example.org", A, None));
            put(&mut stream, &query("db", A, None));
            assert_eq!(said(&take(&mut stream).unwrap()).records.len(), 200);
            assert_eq!(said(&take(&mut stream).unwrap()).records, ["192.0.2.2"]);
        }
        // The host moves to another network.
        let path = world.directory.join("resolv.conf");
        std::fs::write(path.with_extension("new"), "nameserver 192.0.2.1\n").unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(world.ask("www.example.org", A), records(&["203.0.113.1"]));
        drop(stop);
        thread.join().unwrap();
    });
}

/// So many milliseconds, never less, and not more in one of a few tries: a busy machine may be late, not each time.
fn takes(milliseconds: std::ops::Range<u64>, mut what: impl FnMut()) {
    let mut times = Vec::new();
    while times.len() < 5 {
        let begun = Instant::now();
        what();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(milliseconds.start), "{took:?}");
        if took < Duration::from_millis(milliseconds.end) {
            return;
        }
        times.push(took);
    }
    panic!("not in {milliseconds:?} ms: {times:?}");
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    world(|world| {
        upstream("192.0.2.1", 1);
        // Nobody listens at the first; the second is silent for such names, and so is the third.
        let (stop, thread) = run(world.server(world.plan(&["127.0.0.99", "192.0.2.1", "127.0.0.98"], true), ""));
        takes(0..1000, || {
            assert_eq!(world.ask("www.example.org", A), records(&["203.0.113.1"]));
            assert_eq!(world.ask("fails.example.org", A).code, 2);
        });
        takes(1400..4900, || assert_eq!(world.ask("silent.example.org", A).code, 2));
        let mut stream = world.tcp();
        put(&mut stream, &query("www.example.org", A, None));
        assert_eq!(said(&take(&mut stream).unwrap()).records.len(), 200);
        drop(stop);
        thread.join().unwrap();

        // As many on their way as there may be, and one more: the oldest fails at once.
        let (stop, thread) = run(world.server(world.plan(&["192.0.2.1"], true), ""));
        takes(0..1000, || {
            let socket = world.udp(Ipv4Addr::UNSPECIFIED);
            for _ in 0..=MOST_EXCHANGES {
                socket.send(&query("silent.example.org", A, None)).unwrap();
            }
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(said(&buffer[..length]).code, 2);
        });
        assert_eq!(world.ask("db", A), records(&["192.0.2.2"]));
        drop(stop);
        thread.join().unwrap();
    });
}

#[test]
fn a_second_server_in_the_namespace_takes_over() {
    world(|world| {
        let first = run(world.server(world.plan(&[], false), ""));
        let second = run(world.server(world.plan(&[], false), ""));
        for _ in 0..20 {
            assert_eq!(world.ask("db", A), records(&["192.0.2.2"]));
        }
        drop(first.0);
        drop(first.1.join().unwrap());
        for _ in 0..20 {
            assert_eq!(world.ask("db", A), records(&["192.0.2.2"]));
            assert_eq!(
                said(&{
                    let mut stream = world.tcp();
                    put(&mut stream, &query("db", A, None));
                    take(&mut stream).unwrap()
                }),
                records(&["192.0.2.2"])
            );
        }
        // Another plan, and another namespace as after a restart.
        drop(second.0);
        let mut server = second.1.join().unwrap();
        server.follow(Plan { networks: Vec::new(), servers: Vec::new(), forward: false });
        let other = create_netns().unwrap();
        server.open(other.fd.as_fd()).unwrap();
        let (stop, thread) = run(server);
        let socket = netns::inside(other.fd.as_fd(), || UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(exchange(&socket, &query("db", A, None)).code, 2);
        drop(stop);
        thread.join().unwrap().close();
        netns::inside(world.inside.fd.as_fd(), || UdpSocket::bind(("0.0.0.0", super::super::redirect::PORT)).unwrap()).unwrap();
    });
}

#[test]
fn a_taken_port_is_named() {
    world(|world| {
        let taken = netns::inside(world.inside.fd.as_fd(), || UdpSocket::bind(("0.0.0.0", super::super::redirect::PORT)).unwrap()).unwrap();
        let mut server = Server::new(world.plan(&[], false));
        assert_eq!(server.open(world.inside.fd.as_fd()).unwrap_err().to_string(), "cannot bind port 127.0.0.11:61053/udp");
        drop(taken);
        server.open(world.inside.fd.as_fd()).unwrap();
    });
}
