//! Prints, as one JSON object, what this process sees: ids, namespaces, capabilities, seccomp, mounts, limits, cgroups,
//! devices and open files. Standard library only, linked statically, so that it runs in an empty root.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let joined: Vec<String> = items.into_iter().collect();
    format!("[{}]", joined.join(","))
}

fn object(items: impl IntoIterator<Item = (String, String)>) -> String {
    let joined: Vec<String> = items.into_iter().map(|(k, v)| format!("{}:{v}", quoted(&k))).collect();
    format!("{{{}}}", joined.join(","))
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn status() -> String {
    let keep = ["Uid", "Gid", "Groups", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask"];
    object(text("/proc/self/status").lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        keep.contains(&key).then(|| (key.to_owned(), quoted(&value.split_whitespace().collect::<Vec<_>>().join(" "))))
    }))
}

fn namespaces() -> String {
    let mut all: Vec<(String, String)> = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten()
        .map(|entry| {
            let target = fs::read_link(entry.path()).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
            (entry.file_name().to_string_lossy().into_owned(), quoted(&target))
        })
        .collect();
    all.sort();
    object(all)
}

fn mounts() -> String {
    list(text("/proc/self/mountinfo").lines().map(|line| {
        let (left, right) = line.split_once(" - ").unwrap_or((line, ""));
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let field = |v: &[&str], i: usize| quoted(v.get(i).copied().unwrap_or(""));
        object([
            ("target".to_owned(), field(&left, 4)),
            ("root".to_owned(), field(&left, 3)),
            ("options".to_owned(), field(&left, 5)),
            ("propagation".to_owned(), quoted(&left.get(6..).unwrap_or(&[]).join(" "))),
            ("type".to_owned(), field(&right, 0)),
            ("source".to_owned(), field(&right, 1)),
        ])
    }))
}

fn limits() -> String {
    object(text("/proc/self/limits").lines().skip(1).map(|line| {
        let name = line.get(..26).unwrap_or(line).trim().to_owned();
        let rest: Vec<&str> = line.get(26..).unwrap_or("").split_whitespace().collect();
        (name, list(rest.iter().take(2).map(|v| quoted(v))))
    }))
}

fn descriptors() -> String {
    let mut all: Vec<(u32, String)> = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten()
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_string_lossy().parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            // The directory this loop reads is not something the process was given.
            (!target.ends_with("/fd")).then_some((number, target))
        })
        .collect();
    all.sort();
    object(all.into_iter().map(|(n, t)| (n.to_string(), quoted(&t))))
}

fn devices() -> String {
    let mut all: Vec<(String, String)> = fs::read_dir("/dev").into_iter().flatten().flatten()
        .filter_map(|entry| {
            let meta = fs::symlink_metadata(entry.path()).ok()?;
            let kind = meta.file_type();
            let shown = if kind.is_char_device() || kind.is_block_device() {
                let device = meta.rdev();
                let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xffff_ff00));
                format!("{} {major}:{minor} {:o}", if kind.is_char_device() { "c" } else { "b" }, meta.mode() & 0o7777)
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(entry.path()).ok()?.display())
            } else {
                "directory".to_owned()
            };
            Some((entry.file_name().to_string_lossy().into_owned(), quoted(&shown)))
        })
        .collect();
    all.sort();
    object(all)
}

/// `probe udp-echo PORT`: sends each datagram back (Debian's busybox has no UDP server).
fn echo(port: &str) -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", port.parse().expect("a port number")))?;
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let [_, verb, port] = words.as_slice()
        && verb == "udp-echo"
    {
        echo(port).expect("the socket works");
    }
    let fields = [
        ("pid", std::process::id().to_string()),
        ("args", list(std::env::args().map(|a| quoted(&a)))),
        ("env", object(std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), quoted(&v.to_string_lossy()))))),
        ("cwd", quoted(&std::env::current_dir().map(|p| p.display().to_string()).unwrap_or_default())),
        ("hostname", quoted(text("/proc/sys/kernel/hostname").trim())),
        ("status", status()),
        ("namespaces", namespaces()),
        ("mounts", mounts()),
        ("limits", limits()),
        ("cgroup", list(text("/proc/self/cgroup").lines().map(quoted))),
        ("oom_score_adj", quoted(text("/proc/self/oom_score_adj").trim())),
        ("fds", descriptors()),
        ("devices", devices()),
    ];
    println!("{}", object(fields.into_iter().map(|(k, v)| (k.to_owned(), v))));
}
