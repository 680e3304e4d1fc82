//! A hermetic OCI runtime per test: own state directory, bundle and cgroup names, cleared environment. Dropping it
//! deletes every container and fails the test if anything is left on the host.

use crate::outcome::{Done, eventually, fixtures};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Lab {
    pub root: PathBuf,
    /// Start of the names of all cgroups.
    prefix: String,
}

/// Every directory below the mounts of control groups, one level deep.
fn groups() -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mountinfo.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let below = |mount: &str| fs::read_dir(mount).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    mounts.flat_map(below).collect()
}

impl Lab {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "these tests need root: make test");
        let image = fixtures().join("busybox.tar");
        assert!(image.exists(), "fixtures are missing: make test builds them");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rcon-oci-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(&prefix);
        let rootfs = root.join("bundle/rootfs");
        fs::create_dir_all(&rootfs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rcon"), root.join("rcon-runtime")).unwrap();
        let lab = Lab { root: root.clone(), prefix };
        let script = format!("tar -xOf {} --wildcards '*layer1.tar' | tar -x -C {}", image.display(), rootfs.display());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
        lab.runtime(&["spec", "-b", lab.bundle().to_str().unwrap()]).ok();
        lab.edit(|config| config["process"]["terminal"] = json!(false));
        lab
    }

    /// A lab whose containers run a shell script.
    pub fn with_script(script: &str) -> Self {
        let lab = Lab::new();
        lab.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
        lab
    }

    /// A lab with a running container of this name, which does nothing until it is killed. It has set its handlers when
    /// this returns: the first process of a pid namespace never sees a signal that it has no handler for (pid_namespaces(7)).
    pub fn with_container(id: &str) -> Self {
        let lab = Lab::with_script("trap 'exit 15' TERM; trap 'echo usr1 > /tmp/usr1' USR1; echo > /tmp/ready; while true; do sleep 0.05; done");
        lab.edit(|config| config["root"]["readonly"] = json!(false));
        lab.run(&["run", "-d", id]).ok();
        eventually("the handlers are set", || lab.bundle().join("rootfs/tmp/ready").exists());
        lab
    }

    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    pub fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Changes the bundle's config.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    /// The runtime with nothing but these words.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(self.root.join("rcon-runtime"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare();
        command.arg("--root").arg(self.state_dir()).args(words);
        command
    }

    /// Runs the runtime on this lab's state. A verb that makes a container gets a cgroup name of the lab.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Done {
        if matches!(words.first(), Some(&"create" | &"run")) {
            self.name_group(words.last().unwrap());
        }
        self.finish(self.command(words))
    }

    pub fn name_group(&self, id: &str) {
        let path = format!("/{}-{id}", self.prefix);
        self.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    }

    #[must_use]
    pub fn runtime(&self, words: &[&str]) -> Done {
        let mut command = self.bare();
        command.args(words);
        self.finish(command)
    }

    /// Waits for the end of a command. Its streams are files: a container that lives on keeps them.
    #[must_use]
    pub fn finish(&self, mut command: Command) -> Done {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.root.join(format!("out.{number}")), self.root.join(format!("err.{number}")));
        let file = |path: &Path| fs::File::create(path).unwrap();
        let status = command.stdout(file(&out)).stderr(file(&err)).status().unwrap();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Done { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).unwrap()
    }

    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn await_status(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || self.status(id) == status);
    }

    /// A file of a container's group, from whichever hierarchy has it.
    pub fn group_file(&self, id: &str, names: &[&str]) -> String {
        let name = format!("{}-{id}", self.prefix);
        let dirs = groups().into_iter().filter(|path| path.file_name().is_some_and(|found| *found == *name));
        let files = dirs.flat_map(|dir| names.iter().map(move |name| dir.join(name)));
        let found = files.filter_map(|file| fs::read_to_string(file).ok()).next();
        found.unwrap_or_else(|| panic!("no group of {id} has {names:?}")).trim_end().to_owned()
    }

    fn leftovers(&self) -> Vec<String> {
        let mut found: Vec<String> =
            groups().iter().map(|path| path.display().to_string()).filter(|path| path.contains(&format!("{}-", self.prefix))).collect();
        let root = self.root.to_str().unwrap();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mountinfo.lines().filter(|line| line.contains(&format!("{root}/"))).map(str::to_owned));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&format!("{root}/")) {
                found.push(format!("process {}: {line}", entry.file_name().display()));
            }
        }
        found.extend(fs::read_dir(self.state_dir()).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string()));
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.state_dir()).into_iter().flatten().flatten() {
            let done = self.run(&["delete", "-f", entry.file_name().to_str().unwrap()]);
            if !std::thread::panicking() {
                done.ok();
            }
        }
        // What was killed may take a moment to go.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut left = self.leftovers();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            left = self.leftovers();
        }
        fs::remove_dir_all(&self.root).ok();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left on the host: {left:#?}");
        }
    }
}

/// Ends a child that the test started, whatever happens.
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
