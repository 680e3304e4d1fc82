//! A hermetic engine per test: own data and run roots, own network namespace, cleared environment.
//! Dropping it removes every container and fails the test if anything is left on the host.

use crate::outcome::{Done, eventually, fixtures};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Environment {
    pub root: PathBuf,
    /// Holds the network namespace that stands for the host.
    host: Child,
}

impl Environment {
    /// An engine with the busybox image.
    pub fn new() -> Self {
        let environment = Environment::empty();
        environment.rcon(&["load", "-q", "-i", fixtures().join("busybox.tar").to_str().unwrap()]).ok();
        environment
    }

    /// An engine without any image.
    pub fn empty() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root: make test");
        assert!(fixtures().join("busybox.tar").exists(), "fixtures are missing: make test builds them");
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("rcon-test-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("home")).unwrap();
        let host = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut environment = Environment { root, host };
        // Its own namespace, and the loopback device in it.
        let mut said = String::new();
        BufReader::new(environment.host.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n");
        environment
    }

    /// The process whose network namespace is that of the engine.
    pub fn host_pid(&self) -> u32 {
        self.host.id()
    }

    /// The command, ready to run inside the test's namespace.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.inside(env!("CARGO_BIN_EXE_rcon"));
        command.args(["--root", self.root.join("data").to_str().unwrap(), "--run-root", self.root.join("run").to_str().unwrap()]).args(args);
        command
    }

    /// Another program, inside the test's namespace.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.host.id())).arg("--").arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.root.join("home")).current_dir(&self.root);
        command.stdin(Stdio::null());
        command
    }

    #[must_use]
    pub fn rcon(&self, args: &[&str]) -> Done {
        done(&self.command(args).output().unwrap())
    }

    /// With text on standard input.
    #[must_use]
    pub fn rcon_with_input(&self, args: &[&str], input: &[u8]) -> Done {
        use std::io::Write;
        let mut child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let done = done(&child.wait_with_output().unwrap());
        drop(writer.join().unwrap());
        done
    }

    /// Starts a command that stops itself at this failpoint, and waits until it has: what follows finds it there, however fast
    /// it is. It goes on with SIGCONT.
    pub fn stopped(&self, args: &[&str], failpoint: &str) -> Child {
        let mut command = self.command(args);
        command.env("RCON_FAILPOINT", format!("{failpoint}=stop"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        eventually("the command waits", || fs::read_to_string(&stat).unwrap().rsplit_once(')').unwrap().1.starts_with(" T"));
        child
    }

    /// The mounts of this machine below the roots.
    pub fn mounts(&self) -> Vec<String> {
        // With the separator: the next test's root may begin with the same words.
        let below = format!("{}/", self.root.display());
        fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&below)).map(str::to_owned).collect()
    }

    /// `inspect -f`.
    pub fn see(&self, name: &str, format: &str) -> String {
        self.rcon(&["inspect", "-f", format, name]).ok()
    }

    fn leftovers(&self) -> Vec<String> {
        let root = self.root.to_str().unwrap();
        let mut left: Vec<String> = self.mounts().iter().map(|line| format!("mount: {line}")).collect();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let text = String::from_utf8_lossy(&line).replace('\0', " ");
            let holds = fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(root)));
            if text.starts_with("rcon-") && holds {
                left.push(format!("process: {} {text}", entry.file_name().display()));
            }
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            for base in [hierarchy.path().join("rcon"), PathBuf::from("/sys/fs/cgroup/rcon")] {
                for id in self.seen_ids() {
                    if base.join(&id).exists() {
                        left.push(format!("cgroup: {}", base.join(id).display()));
                    }
                }
            }
        }
        let live = ["run/containers", "run/pods"].into_iter().flat_map(|directory| fs::read_dir(self.root.join(directory)));
        for entry in live.flatten().flatten() {
            if entry.path().is_dir() {
                left.push(format!("live files: {}", entry.path().display()));
            }
        }
        let links = Command::new("nsenter").args([&format!("--net=/proc/{}/ns/net", self.host.id()), "ip", "-o", "link"]).output().unwrap();
        for line in String::from_utf8_lossy(&links.stdout).lines().filter(|l| l.contains(": rc") && !l.contains(": rcon0")) {
            left.push(format!("link: {line}"));
        }
        let rules = Command::new("nsenter").args([&format!("--net=/proc/{}/ns/net", self.host.id()), "nft", "list", "ruleset"]).output().unwrap();
        // Maps have the published ports; the elements of sets are those of networks, which stay.
        let mut map = false;
        for line in String::from_utf8_lossy(&rules.stdout).lines() {
            match line.split_whitespace().next() {
                Some("map") => map = true,
                Some("set" | "chain" | "table") => map = false,
                Some("elements") if map => left.push(format!("port element: {line}")),
                _ => {}
            }
        }
        left
    }

    /// Every container id this test ever made, from the ids that the engine logged as directories.
    fn seen_ids(&self) -> Vec<String> {
        fs::read_to_string(self.root.join("ids")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A signal's exit code is the shell's.
fn done(output: &Output) -> Done {
    use std::os::unix::process::ExitStatusExt;
    Done {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let ids = self.rcon(&["ps", "-aq", "--no-trunc"]).out;
        let pods = self.rcon(&["pod", "ps", "-q", "--no-trunc"]).out;
        let groups = pods.lines().map(|id| format!("pod-{id}\n")).collect::<String>();
        fs::write(self.root.join("ids"), ids.clone() + &groups).unwrap();
        for id in pods.lines() {
            drop(self.rcon(&["pod", "rm", "-f", "-t", "0", id]));
        }
        for id in ids.lines() {
            drop(self.rcon(&["rm", "-f", "-v", id]));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut left = self.leftovers();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            left = self.leftovers();
        }
        self.host.kill().unwrap();
        self.host.wait().unwrap();
        let removed = fs::remove_dir_all(&self.root);
        // A second panic would end all tests.
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        }
    }
}
