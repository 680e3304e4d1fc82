//! Which servers a foreign question goes to: those of `--dns`, or those of the host's resolv.conf as it is at the moment.

use super::names::Stamp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// As many as the C library asks (`MAXNS`).
const MOST: usize = 3;
const PORT: u16 = 53;
/// How long a server that gave no answer is asked after the others.
const SHUNNED: Duration = Duration::from_secs(30);
/// resolv.conf(5): without any, the host's own.
const DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    shunned: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Upstreams {
    /// The host's resolv.conf, unless the container has servers of its own.
    host: Option<PathBuf>,
    seen: Option<Stamp>,
    servers: Vec<Server>,
}

impl Upstreams {
    /// `own`: as `--dns` says, empty if it does not.
    pub(super) fn new(own: &[String], host: PathBuf) -> Self {
        let servers = servers(own.iter().map(String::as_str));
        Upstreams { host: servers.is_empty().then_some(host), seen: None, servers }
    }

    /// The servers in the order in which they are to be asked; never none.
    pub(super) fn in_order(&mut self, now: Instant) -> Vec<SocketAddr> {
        self.look();
        let shunned = |server: &&Server| server.shunned.is_some_and(|until| until > now);
        let (last, first): (Vec<&Server>, Vec<&Server>) = self.servers.iter().partition(shunned);
        first.into_iter().chain(last).map(|server| server.address).collect()
    }

    fn look(&mut self) {
        let Some(path) = &self.host else { return };
        let stamp = std::fs::metadata(path).ok().map(|facts| Stamp::of(&facts));
        if stamp.is_some() && stamp == self.seen {
            return;
        }
        // Missing for a moment while it is replaced: the old ones serve on.
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) if !self.servers.is_empty() => return,
            Err(_) => String::new(),
        };
        self.seen = stamp;
        self.servers = servers(text.lines().filter_map(nameserver));
        if self.servers.is_empty() {
            self.servers.push(Server { address: SocketAddr::new(DEFAULT, PORT), shunned: None });
        }
    }

    /// It gave no answer.
    pub(super) fn shun(&mut self, address: SocketAddr, now: Instant) {
        self.servers.iter_mut().filter(|server| server.address == address).for_each(|server| server.shunned = Some(now + SHUNNED));
    }

    /// It did.
    pub(super) fn trust(&mut self, address: SocketAddr) {
        self.servers.iter_mut().filter(|server| server.address == address).for_each(|server| server.shunned = None);
    }
}

/// The server of a line of resolv.conf.
fn nameserver(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|keyword| *keyword == "nameserver")?;
    words.next()
}

fn servers<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Server> {
    texts.filter_map(socket_address).take(MOST).map(|address| Server { address, shunned: None }).collect()
}

/// An address, of a link if it says which (`fe80::1%eth0`).
fn socket_address(text: &str) -> Option<SocketAddr> {
    let Some((address, link)) = text.split_once('%') else { return Some(SocketAddr::new(text.parse().ok()?, PORT)) };
    let index = |name: &str| {
        let valid = !name.contains('/') && name != "." && name != "..";
        valid.then(|| std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()).flatten()
    };
    let scope = link.parse().ok().or_else(|| index(link))?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(upstreams: &mut Upstreams, now: Instant) -> Vec<String> {
        upstreams.in_order(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_hosts_servers_are_followed_and_silent_ones_come_last() {
        let path = std::env::temp_dir().join(format!("rcon-upstreams-{}", crate::base::random_hex(12)));
        let mut upstreams = Upstreams::new(&[], path.clone());
        let now = Instant::now();
        assert_eq!(texts(&mut upstreams, now), ["127.0.0.1:53"]);
        std::fs::write(
            &path,
            "# none\nnameserver 192.0.2.1\nnameserver fe80::1%lo\nsearch lan\nnameserver\nnameserver x\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
        )
        .unwrap();
        assert_eq!(texts(&mut upstreams, now), ["192.0.2.1:53", "[fe80::1%1]:53", "192.0.2.2:53"]);
        upstreams.shun("192.0.2.1:53".parse().unwrap(), now);
        assert_eq!(texts(&mut upstreams, now), ["[fe80::1%1]:53", "192.0.2.2:53", "192.0.2.1:53"]);
        assert_eq!(texts(&mut upstreams, now + SHUNNED)[0], "192.0.2.1:53");
        upstreams.trust("192.0.2.1:53".parse().unwrap());
        assert_eq!(texts(&mut upstreams, now)[0], "192.0.2.1:53");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(texts(&mut upstreams, now).len(), 3, "missing for a moment");
        std::fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(texts(&mut upstreams, now), ["127.0.0.53:53"]);
        std::fs::remove_file(&path).unwrap();
        let mut own = Upstreams::new(&["192.0.2.9".to_owned()], path);
        assert_eq!(texts(&mut own, now), ["192.0.2.9:53"]);
    }
}
