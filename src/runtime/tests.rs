//! Whole containers from a hand-made config and a root of one static busybox.
//!
//! Cloning needs a process of one thread, which the test harness is not: each test runs its body in a fork of a
//! second copy of the test binary that runs nothing else.

mod security;

use super::{Create, Error, Exec, Gate, Init, Overlay, Root, Stdio, Upper, User, init, join};
use crate::base::ErrorKind;
use oci_spec::runtime::Spec;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

mod hooks;
mod listener;
mod mounts;
mod namespaces;
mod net_devices;
mod process;

const STAGE: &str = "RCON_TEST_STAGE";

/// Runs `body` alone in a process of one thread; its panic is this test's panic.
fn alone(name: &str, body: fn()) {
    if std::env::var_os(STAGE).is_some() {
        assert!(crate::sys::clone::run_alone(body), "the forked test failed");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("runtime::tests::{name}"), "--test-threads=1", "--nocapture"])
        .env(STAGE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// A root with busybox, passwd and group, removed at the end.
struct Fixture {
    base: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let base = PathBuf::from(format!("/run/rcon-test-{}", crate::base::random_hex(8)));
        for directory in ["layer/bin", "layer/etc", "layer/masked", "layer/ro", "empty", "upper", "work"] {
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        let layer = base.join("layer");
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "id", "cat", "stat", "readlink", "sleep", "kill", "ls", "tty", "stty", "touch", "true", "mount", "pwd", "env", "grep", "cut",
            "ionice", "uname", "mkdir",
        ] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n").unwrap();
        std::fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
        std::fs::write(layer.join("masked/secret"), "secret").unwrap();
        std::fs::write(layer.join("file"), "secret").unwrap();
        Fixture { base }
    }

    fn root(&self) -> Root {
        Root::Overlay(Overlay {
            layers_dir: self.base.clone(),
            lowers: vec!["empty".into(), "layer".into()],
            upper: Some(Upper { upper: self.base.join("upper"), work: self.base.join("work"), volatile: true }),
        })
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.base));
    }
}

fn config(args: &[&str], change: impl FnOnce(&mut Value)) -> Spec {
    let mut value = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/made/here", "env": ["PATH=/bin"],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL", "CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}, {"type": "cgroup"}],
            "maskedPaths": ["/masked", "/file", "/proc/kcore", "/proc/scsi", "/absent"],
            "readonlyPaths": ["/ro", "/proc/sys"],
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn pipes() -> (Stdio, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    (Stdio::Pipes { stdin: null.into(), stdout: write.try_clone().unwrap(), stderr: write }, read)
}

fn create(fixture: &Fixture, spec: &Spec, user: Option<&User>, stdio: Stdio, reaper: bool) -> Result<Init, Error> {
    let root = fixture.root();
    let unused = super::cgroup::Group::at("/unused");
    init::create(Create { user, reaper, ..Create::new(spec, &root, stdio, &unused) }, None)
}

fn wait(pidfd: &OwnedFd) -> i32 {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

fn text(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Runs to the end: exit code and output.
fn run(fixture: &Fixture, spec: &Spec, user: Option<&User>, reaper: bool) -> (i32, String) {
    let (stdio, output) = pipes();
    let mut init = create(fixture, spec, user, stdio, reaper).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    init.start().unwrap();
    let output = text(output);
    (wait(&init.pidfd), output)
}

fn script(fixture: &Fixture, script: &str) -> (i32, String) {
    run(fixture, &config(&["sh", "-c", script], |_| {}), None, false)
}

#[test]
fn a_container_is_isolated() {
    alone("a_container_is_isolated", || {
        let fixture = Fixture::new();
        let (code, output) = script(&fixture, "id; pwd; echo $$ $(cat /proc/sys/kernel/hostname) $HOME; ulimit -n; ls /proc/self/fd | grep -c .");
        assert_eq!(output, "uid=0(root) gid=0(root)\n/made/here\n1 inside /root\n100\n4\n");
        assert_eq!(code, 0);
        let (_, output) = script(
            &fixture,
            "ls /masked; cat /file; touch /ro/x; touch /y && echo y; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; grep Cap /proc/self/status",
        );
        assert!(!output.contains("secret"), "{output}");
        assert!(output.contains("/ro/x: Read-only file system") && output.contains("\ny\n0\n"), "{output}");
        assert!(output.contains("CapBnd:\t0000000000000021") && output.contains("CapEff:\t0000000000000021"), "{output}");
        let (_, output) = script(
            &fixture,
            "stat -c '%t:%T %a' /dev/null /dev/tty; readlink /dev/fd; readlink /dev/ptmx; ls /dev/pts; cat /proc/self/mountinfo; ls /sys/fs/cgroup; exit 7",
        );
        assert!(output.starts_with("1:3 666\n5:0 666\n/proc/self/fd\npts/ptmx\nptmx\n"), "{output}");
        assert!(!output.contains(" /run") && output.contains(" /sys/fs/cgroup"), "{output}");
        assert!(std::fs::exists(fixture.base.join("upper/y")).unwrap());
        let (stdin, _) = script(&fixture, "exit 7");
        assert_eq!(stdin, 7);
    });
}

#[test]
fn an_open_gate_is_passed_by_a_process_that_is_known() {
    alone("an_open_gate_is_passed_by_a_process_that_is_known", || {
        let fixture = Fixture::new();
        std::fs::write(fixture.base.join("layer/bin/odd"), "no program").unwrap();
        std::fs::set_permissions(fixture.base.join("layer/bin/odd"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (root, unused) = (fixture.root(), super::cgroup::Group::at("/unused"));
        let told = std::cell::Cell::new(0);
        let create = |args: &[&str], stdio: Stdio, refused: bool| {
            told.set(0);
            let born = |pid: i32| {
                told.set(pid);
                if refused { Err(Error::Threads) } else { Ok(()) }
            };
            let spec = config(args, |_| {});
            init::create(Create { gate: Gate::Open, born: Some(&born), ..Create::new(&spec, &root, stdio, &unused) }, None)
        };
        let (stdio, output) = pipes();
        let mut init = create(&["sh", "-c", "echo ran"], stdio, false).unwrap();
        assert_eq!(told.get(), init.pid);
        init.start().unwrap();
        assert_eq!((text(output).as_str(), wait(&init.pidfd)), ("ran\n", 0));
        let (stdio, output) = pipes();
        assert!(matches!(create(&["sh", "-c", "echo ran"], stdio, true), Err(Error::Threads)));
        assert_eq!(text(output), "");
        let mut init = create(&["odd"], pipes().0, false).unwrap();
        assert_eq!(init.start().unwrap_err().kind(), ErrorKind::CommandNotExecutable);
        wait(&init.pidfd);
        // Its terminal is to be taken first.
        let mut init = create(&["sh", "-c", "exit 0"], Stdio::Terminal { columns: 80, rows: 25 }, false).unwrap();
        assert!(told.get() == 0 && init.console.is_some());
        init.start().unwrap();
        assert_eq!(wait(&init.pidfd), 0);
    });
}

#[test]
fn users_are_resolved_inside() {
    alone("users_are_resolved_inside", || {
        let fixture = Fixture::new();
        let user = |name: &str| User { name: name.to_owned(), groups: Vec::new() };
        let show = config(&["sh", "-c", "id -u; id -G; echo $HOME; grep -E 'CapEff|CapBnd' /proc/self/status; echo x >/dev/stdout"], |_| {});
        let (code, output) = run(&fixture, &show, Some(&user("web")), false);
        assert_eq!(output, "33\n34 29\n/srv/web\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000021\nx\n");
        assert_eq!(code, 0);
        let (stdio, _output) = pipes();
        let error = create(&fixture, &show, Some(&user("nobody")), stdio, false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("unable to find user nobody"), "{error}");
    });
}

#[test]
fn commands_that_cannot_run_are_told_apart() {
    alone("commands_that_cannot_run_are_told_apart", || {
        let fixture = Fixture::new();
        for (name, kind, message) in [
            ("foo", ErrorKind::CommandNotFound, "exec: \"foo\": executable file not found in $PATH"),
            ("/x", ErrorKind::CommandNotFound, "exec: \"/x\": no such file or directory"),
            ("/etc", ErrorKind::CommandNotExecutable, "exec: \"/etc\": is a directory"),
            ("/etc/passwd", ErrorKind::CommandNotExecutable, "exec: \"/etc/passwd\": permission denied"),
            ("/etc/passwd/x", ErrorKind::CommandNotFound, "exec: \"/etc/passwd/x\": not a directory"),
        ] {
            let (stdio, _output) = pipes();
            let error = create(&fixture, &config(&[name], |_| {}), None, stdio, false).err().unwrap();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
        let odd = fixture.base.join("layer/bin/odd");
        std::fs::write(&odd, "no program").unwrap();
        std::fs::set_permissions(&odd, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for reaper in [false, true] {
            let (stdio, _output) = pipes();
            let mut init = create(&fixture, &config(&["odd"], |_| {}), None, stdio, reaper).unwrap();
            let error = init.start().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::CommandNotExecutable, "exec: \"odd\": exec format error"));
            wait(&init.pidfd);
        }
    });
}

#[test]
fn the_reaper_is_the_first_process() {
    alone("the_reaper_is_the_first_process", || {
        let fixture = Fixture::new();
        let spec = config(&["sh", "-c", "echo $$; (sleep 0 &) ; ls /proc/1/fd; kill -TERM 1; sleep 9"], |_| {});
        let (code, output) = run(&fixture, &spec, None, true);
        assert!(output.starts_with("2\n"), "{output}");
        assert_eq!(code, 128 + 15, "{output}");
        let spec = config(&["sh", "-c", "exit 5"], |_| {});
        assert_eq!(run(&fixture, &spec, None, true).0, 5);
    });
}

#[test]
fn a_terminal_is_the_containers_own() {
    alone("a_terminal_is_the_containers_own", || {
        let fixture = Fixture::new();
        let spec = config(&["sh", "-c", "tty; stty size; test -c /dev/console && echo console"], |_| {});
        let mut init = create(&fixture, &spec, None, Stdio::Terminal { columns: 99, rows: 33 }, false).unwrap();
        init.start().unwrap();
        let mut output = Vec::new();
        let mut console = std::fs::File::from(init.console.take().unwrap());
        // The end of a pty is EIO.
        drop(console.read_to_end(&mut output));
        assert_eq!(String::from_utf8(output).unwrap(), "/dev/pts/0\r\n33 99\r\nconsole\r\n");
        assert_eq!(wait(&init.pidfd), 0);
    });
}

fn exec(init: &Init, spec: &Spec, args: &[&str], stdio: Stdio) -> Result<super::Running, Error> {
    let container = config(args, |_| {});
    let process = container.process().clone().unwrap();
    let unused = super::cgroup::Group::at("/unused");
    let user = User::default();
    let request = Exec {
        init_pidfd: init.pidfd.as_fd(),
        process: &process,
        user: Some(&user),
        keyring: None,
        spec,
        stdio,
        cgroup: &unused,
        resctrl: None,
        preserve_fds: 0,
        state: None,
    };
    join::exec(request, None)
}

#[test]
fn exec_joins_everything() {
    alone("exec_joins_everything", || {
        let fixture = Fixture::new();
        let spec = config(&["sleep", "100"], |_| {});
        let (stdio, _output) = pipes();
        let mut init = create(&fixture, &spec, None, stdio, false).unwrap();
        init.start().unwrap();
        let (stdio, output) = pipes();
        let show = "pwd; cat /proc/sys/kernel/hostname; for n in mnt pid net uts ipc cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n differs; done; grep CapEff /proc/self/status; exit 3";
        let running = exec(&init, &spec, &["sh", "-c", show], stdio).unwrap();
        assert_eq!(wait(&running.pidfd), 3);
        assert_eq!(text(output), "/made/here\ninside\nCapEff:\t0000000000000021\n");
        let running = exec(&init, &spec, &["tty"], Stdio::Terminal { columns: 1, rows: 1 }).unwrap();
        let mut output = [0; 64];
        // Held until the end: a closed master hangs the process up.
        let mut console = std::fs::File::from(running.console.unwrap());
        let length = console.read(&mut output).unwrap();
        assert_eq!(&output[..length], b"/dev/pts/0\r\n");
        assert_eq!(wait(&running.pidfd), 0);
        let (stdio, _output) = pipes();
        let error = exec(&init, &spec, &["foo"], stdio).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::CommandNotFound);
        rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).ok();
        assert_eq!(wait(&init.pidfd), 128 + 9);
    });
}

#[test]
fn links_in_place_of_proc_are_refused() {
    alone("links_in_place_of_proc_are_refused", || {
        let fixture = Fixture::new();
        std::os::unix::fs::symlink("/etc", fixture.base.join("layer/proc")).unwrap();
        let (stdio, _output) = pipes();
        let error = create(&fixture, &config(&["true"], |_| {}), None, stdio, false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("\"/proc\""), "{error}");
    });
}

#[test]
fn binds_and_read_only_roots_work() {
    alone("binds_and_read_only_roots_work", || {
        let fixture = Fixture::new();
        std::fs::write(fixture.base.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let source = fixture.base.join("hosts");
        let spec = config(&["sh", "-c", "cat /etc/deep/hosts; touch /x; echo >>/etc/deep/hosts; mount | grep -c tmpfs"], |value| {
            value["root"]["readonly"] = json!(true);
            let bind = json!({"destination": "/etc/deep/hosts", "type": "bind", "source": source, "options": ["rbind", "ro", "rprivate"]});
            value["mounts"].as_array_mut().unwrap().push(bind);
        });
        let (_, output) = run(&fixture, &spec, None, false);
        assert!(output.starts_with("127.0.0.1 localhost\n") && output.matches("Read-only file system").count() == 2, "{output}");
    });
}

#[test]
fn other_namespaces_are_made_and_joined() {
    alone("other_namespaces_are_made_and_joined", || {
        let fixture = Fixture::new();
        let show = config(&["sh", "-c", "cat /proc/uptime; exec sleep 100"], |value| {
            value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
            value["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
        });
        let (stdio, output) = pipes();
        let mut first = create(&fixture, &show, None, stdio, false).unwrap();
        first.start().unwrap();
        let mut uptime = [0; 5];
        std::fs::File::from(output).read_exact(&mut uptime).unwrap();
        assert_eq!(&uptime[..2], b"10");
        let pid_namespace = format!("/proc/{}/ns/pid", first.pid);
        let second = Fixture::new();
        let joined = config(&["sh", "-c", "echo $$; test -d /proc/1 && echo there"], |value| {
            value["linux"]["namespaces"][1] = json!({"type": "pid", "path": pid_namespace});
        });
        let (code, output) = run(&second, &joined, None, false);
        assert!(output.ends_with("\nthere\n") && !output.starts_with("1\n"), "{output}");
        assert_eq!(code, 0);
        rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).ok();
        wait(&first.pidfd);
    });
}

/// A user namespace whose root is the host's 100000, with what `change` adds.
fn mapped(script: &str, change: impl FnOnce(&mut Value)) -> Spec {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config(&["sh", "-c", script], |value| {
        value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        value["linux"]["uidMappings"] = map.clone();
        value["linux"]["gidMappings"] = map;
        change(value);
    })
}

#[test]
fn a_user_namespace_is_mapped() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    alone("a_user_namespace_is_mapped", || {
        let fixture = Fixture::new();
        let on_disk = |name: &str| std::fs::symlink_metadata(fixture.base.join(name)).map(|m| (m.uid(), m.gid())).unwrap();
        std::fs::create_dir_all(fixture.base.join("private/volume")).unwrap();
        std::fs::create_dir_all(fixture.base.join("private/host")).unwrap();
        std::fs::set_permissions(fixture.base.join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let script = "id -u; cat /proc/self/uid_map; stat -c %t:%T /dev/null; echo x >/dev/null; echo x >/dev/stdout; \
            touch /new /volume/new; stat -c %u /new /volume/new /etc/passwd /host; touch /host/new || echo denied; \
            echo y >>/etc/passwd; mkdir /etc/sub; rm /file2; chown 5:6 /new; ls /sys/class/net";
        std::fs::write(fixture.base.join("layer/file2"), "").unwrap();
        let spec = mapped(script, |value| {
            let bind = |name: &str, option: &str| json!({"destination": format!("/{name}"), "type": "bind", "options": ["rbind", option], "source": fixture.base.join("private").join(name)});
            value["mounts"].as_array_mut().unwrap().extend([bind("volume", "idmap"), bind("host", "rw")]);
            value["process"]["capabilities"]["effective"] = json!(["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
        });
        // Twice: the second mount meets the work directory and the copies of the first.
        for again in [false, true] {
            if again {
                std::fs::write(fixture.base.join("upper/file2"), "").unwrap_or_default();
            }
            let (code, output) = run(&fixture, &spec, None, false);
            let words: Vec<_> = output.split_whitespace().collect();
            assert_eq!(words[..6], ["0", "0", "100000", "65536", "1:3", "x"], "{output}");
            assert!(output.contains("\n0\n0\n0\n65534\n") || again && output.contains("\n5\n0\n0\n65534\n"), "{output}");
            assert!(output.contains("denied") && output.ends_with("\nlo\n"), "{output}");
            assert_eq!(
                (code, on_disk("upper/new"), on_disk("private/volume/new"), on_disk("upper/etc/passwd")),
                (0, (5, 6), (0, 0), (0, 0)),
                "{output}"
            );
            assert!(std::fs::symlink_metadata(fixture.base.join("upper/file2")).unwrap().file_type().is_char_device(), "a whiteout");
            std::fs::remove_dir(fixture.base.join("upper/etc/sub")).unwrap();
            std::fs::remove_file(fixture.base.join("upper/file2")).unwrap();
        }
    });
}

#[test]
fn exec_and_terminals_work_in_a_user_namespace() {
    alone("exec_and_terminals_work_in_a_user_namespace", || {
        let fixture = Fixture::new();
        let spec = mapped("exec sleep 100", |_| {});
        let (stdio, _output) = pipes();
        let mut init = create(&fixture, &spec, None, stdio, false).unwrap();
        init.start().unwrap();
        let (stdio, output) = pipes();
        let running = exec(&init, &spec, &["sh", "-c", "id -u; echo x >/dev/stdout; touch /made && stat -c %u /made"], stdio).unwrap();
        assert_eq!((wait(&running.pidfd), text(output).as_str()), (0, "0\nx\n0\n"));
        let running = exec(&init, &spec, &["tty"], Stdio::Terminal { columns: 1, rows: 1 }).unwrap();
        let mut output = [0; 64];
        // Held until the end, as above.
        let mut console = std::fs::File::from(running.console.unwrap());
        let length = console.read(&mut output).unwrap();
        assert_eq!(&output[..length], b"/dev/pts/0\r\n");
        assert_eq!(wait(&running.pidfd), 0);
        rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
        assert_eq!(wait(&init.pidfd), 128 + 9);
        let spec = config(&["true"], |value| {
            let bind = json!({"destination": "/x", "type": "bind", "source": "/etc", "options": ["bind", "idmap"]});
            value["mounts"].as_array_mut().unwrap().push(bind);
        });
        let (stdio, _output) = pipes();
        let error = create(&fixture, &spec, None, stdio, false).err().unwrap();
        assert!(error.to_string().contains("or a user namespace of the container"), "{error}");
    });
}

#[test]
fn filters_and_groups_hold() {
    alone("filters_and_groups_hold", || {
        let fixture = Fixture::new();
        let profile = serde_json::to_value(super::seccomp::default_profile(&["CHOWN".to_owned(), "KILL".to_owned()])).unwrap();
        let path = format!("/rcon-test-{}", crate::base::random_hex(8));
        let resources = serde_json::from_value(json!({"pids": {"limit": 20}})).unwrap();
        for (nnp, reaper) in [(false, false), (true, false), (false, true)] {
            // A fresh group each: Linux 6.18 kills at once what is cloned into a group that `cgroup.kill` was used on.
            let group = super::cgroup::Group::create(&path, Some(&resources)).unwrap();
            let script = "grep -E 'Seccomp:|CapPrm|NoNewPrivs' /proc/self/status; cat /proc/self/cgroup; mount -t tmpfs x /bin; exec sleep 100";
            let spec = config(&["sh", "-c", script], |value| {
                value["linux"]["seccomp"] = profile.clone();
                value["process"]["noNewPrivileges"] = json!(nnp);
            });
            let (stdio, output) = pipes();
            let root = fixture.root();
            let mut init = super::create(Create { reaper, ..Create::new(&spec, &root, stdio, &group) }).unwrap();
            init.start().unwrap();
            let (stdio, exec_output) = pipes();
            let container = config(&["sh", "-c", "grep -E 'Seccomp:|CapPrm' /proc/self/status; cat /proc/self/cgroup"], |_| {});
            let process = container.process().clone().unwrap();
            let request = Exec {
                init_pidfd: init.pidfd.as_fd(),
                process: &process,
                user: None,
                keyring: None,
                spec: &spec,
                stdio,
                cgroup: &group,
                resctrl: None,
                preserve_fds: 0,
                state: None,
            };
            let running = super::exec(request).unwrap();
            assert_eq!(wait(&running.pidfd), 0);
            let inside = text(exec_output);
            let wanted = "CapPrm:\t0000000000000021\n";
            assert!(inside.contains(wanted) && inside.contains("Seccomp:\t2\n") && inside.contains("pids:/\n"), "{inside}");
            let mut output = std::fs::File::from(output);
            let mut early = Vec::new();
            while !early.ends_with(b"\n") || !early.windows(7).any(|part| part == b"mount: ") {
                let mut byte = [0];
                output.read_exact(&mut byte).unwrap();
                early.push(byte[0]);
            }
            group.kill_all(std::time::Duration::from_secs(5)).unwrap();
            assert_eq!(wait(&init.pidfd), 128 + 9);
            let inside = String::from_utf8(early).unwrap();
            assert!(inside.contains(wanted) && inside.contains("Seccomp:\t2\n") && inside.contains("pids:/\n"), "{inside}");
            assert!(inside.contains(&format!("NoNewPrivs:\t{}\n", u8::from(nnp))), "{inside}");
            group.delete().unwrap();
        }
    });
}

#[test]
fn a_failed_create_leaves_no_process() {
    alone("a_failed_create_leaves_no_process", || {
        let fixture = Fixture::new();
        let spec = config(&["true"], |value| {
            let bind = json!({"destination": "/x", "type": "bind", "source": "/absent/source", "options": ["bind"]});
            value["mounts"].as_array_mut().unwrap().push(bind);
        });
        let (stdio, _output) = pipes();
        let error = create(&fixture, &spec, None, stdio, false).err().unwrap();
        assert_eq!(error.to_string(), "bind source path does not exist: /absent/source");
        assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD));
    });
}
