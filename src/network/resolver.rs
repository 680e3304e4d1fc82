//! Texts of a container's `/etc/resolv.conf` and `/etc/hosts`.
//!
//! Invariant: pure functions. They write what they are given: the engine refuses names with control
//! characters or blanks beforehand ([`valid_host_entry`]).

use super::dns;
use std::net::IpAddr;

/// Used when the host knows only loopback servers, as Docker does.
const PUBLIC_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Which servers a container's `/etc/resolv.conf` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// Those of the host as they are: it shares the host's network.
    Host,
    /// Those that are reached from another network namespace (the default bridge, `none`).
    Reachable,
    /// Ours at 127.0.0.11 ([`super::dns`], which asks the others itself): it is on a user network.
    Own,
}

#[derive(Debug, Default)]
struct Settings {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

/// resolv.conf(5): `search` and `domain` are exclusive, the last one wins; options add up.
fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => settings.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
            Some("options") => settings.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    settings
}

/// A server that is another machine's from within the container: its own loopback is not the host's.
fn is_loopback(server: &str) -> bool {
    let address = server.split_once('%').map_or(server, |(address, _)| address);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Text of a container's /etc/resolv.conf: the host's, loopback servers replaced by those of
/// `systemd_text` (systemd-resolved's own list) or else by public ones, comments kept out; `dns`,
/// `search` and `options` each replace their kind. A search list of `.` is none. With the host's network
/// and no override it is the host's text as it is. [`Servers::Own`] names our server alone, and has names without a dot
/// asked for as they are before a search domain is tried, unless an option says otherwise (as Docker does).
pub fn resolv_conf(host_text: &str, systemd_text: Option<&str>, servers: Servers, dns: &[String], search: &[String], options: &[String]) -> String {
    if servers == Servers::Host && dns.is_empty() && search.is_empty() && options.is_empty() {
        return host_text.to_owned();
    }
    let mut settings = parse(host_text);
    if servers == Servers::Own {
        settings.servers = vec![dns::ADDRESS.to_string()];
    } else if !dns.is_empty() {
        settings.servers = dns.to_vec();
    } else if servers == Servers::Reachable {
        settings.servers.retain(|server| !is_loopback(server));
        if settings.servers.is_empty() {
            settings.servers = systemd_text.map(parse).unwrap_or_default().servers;
            settings.servers.retain(|server| !is_loopback(server));
        }
        if settings.servers.is_empty() {
            settings.servers = PUBLIC_SERVERS.map(str::to_owned).to_vec();
        }
    }
    if !search.is_empty() {
        settings.search = search.iter().filter(|domain| *domain != ".").cloned().collect();
    }
    if !options.is_empty() {
        settings.options = options.to_vec();
    }
    if servers == Servers::Own && !settings.options.iter().any(|option| option.starts_with("ndots:")) {
        settings.options.push("ndots:0".to_owned());
    }
    let mut text = String::new();
    for server in &settings.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, words) in [("search", &settings.search), ("options", &settings.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// Text of a container's /etc/hosts: the loopback names, the extra hosts, then the container itself with each of its addresses.
pub fn hosts(hostname: &str, domainname: &str, own: &[IpAddr], extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (name, ip) in extra {
        text.push_str(&format!("{ip}\t{name}\n"));
    }
    for address in own {
        text.push_str(&own_host_line(*address, hostname, domainname));
    }
    text
}

/// The line of one of a container's own addresses.
pub fn own_host_line(address: IpAddr, hostname: &str, domainname: &str) -> String {
    let qualified = if domainname.is_empty() { String::new() } else { format!("{hostname}.{domainname} ") };
    format!("{address}\t{qualified}{hostname}\n")
}

/// Whether a text may stand as one word of resolv.conf or hosts: not empty, no blanks, no control
/// characters (a line break would inject entries), no comment sign.
pub fn valid_host_entry(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '#' | ';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn loopback_servers_are_replaced_and_overrides_replace_their_kind() {
        let stub = "# made by systemd\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n";
        type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);
        let table: [Case<'_>; 6] = [
            ("nameserver 192.0.2.1\nnameserver 127.0.0.1\n", None, &[], &[], &[], "nameserver 192.0.2.1\n"),
            (stub, Some("nameserver 192.0.2.7\nsearch other\n"), &[], &[], &[], "nameserver 192.0.2.7\nsearch lan\noptions edns0\n"),
            (stub, Some("nameserver ::1\n"), &[], &[], &[], "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch lan\noptions edns0\n"),
            (stub, None, &["127.0.0.1"], &["."], &["ndots:2"], "nameserver 127.0.0.1\noptions ndots:2\n"),
            ("", None, &[], &["a", "b"], &[], "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch a b\n"),
            ("nameserver fe80::1%eth0\ndomain x\n", None, &[], &[], &[], "nameserver fe80::1%eth0\nsearch x\n"),
        ];
        for (host, systemd, dns, search, options, expected) in table {
            assert_eq!(resolv_conf(host, systemd, Servers::Reachable, &list(dns), &list(search), &list(options)), expected, "{host:?}");
        }
        assert_eq!(resolv_conf(stub, None, Servers::Host, &[], &[], &[]), stub);
        assert_eq!(resolv_conf(stub, None, Servers::Host, &[], &list(&["x"]), &[]), "nameserver 127.0.0.53\nsearch x\noptions edns0\n");
        let own = |dns: &[&str], search: &[&str], options: &[&str]| resolv_conf(stub, None, Servers::Own, &list(dns), &list(search), &list(options));
        assert_eq!(own(&[], &[], &[]), "nameserver 127.0.0.11\nsearch lan\noptions edns0 ndots:0\n");
        assert_eq!(own(&["192.0.2.1"], &["."], &["timeout:1"]), "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n");
        assert_eq!(own(&[], &["a"], &["ndots:2"]), "nameserver 127.0.0.11\nsearch a\noptions ndots:2\n");
    }

    #[test]
    fn hosts_end_with_the_container_itself() {
        let extra = [("db".to_owned(), "192.0.2.9".parse().expect("invariant: literal"))];
        let text = hosts("web", "example.org", &["172.17.0.2".parse().expect("invariant: literal")], &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(text.ends_with("192.0.2.9\tdb\n172.17.0.2\tweb.example.org web\n"));
        assert!(hosts("web", "", &["172.17.0.2".parse().expect("invariant: literal")], &[]).ends_with("172.17.0.2\tweb\n"));
        assert!(!hosts("web", "", &[], &[]).contains("web"));
    }

    #[test]
    fn entries_cannot_inject_lines() {
        for good in ["db", "a.b-c", "192.0.2.1", "ndots:2", "."] {
            assert!(valid_host_entry(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a\t", "a\0", "#x", "a;b", "\u{85}"] {
            assert!(!valid_host_entry(bad), "{bad:?}");
        }
    }
}
