//! User namespaces on request: `--uidmap`, `--gidmap`.

use crate::environment::Environment;
use crate::outcome::{Done, eventually};
use std::os::unix::fs::MetadataExt;

const MAPS: [&str; 4] = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];

/// `run` with the maps and these arguments.
fn run(engine: &Environment, args: &[&str]) -> Done {
    engine.rcon(&[&["run"], &MAPS[..], args].concat())
}

/// Owner of a file as the host sees it.
fn owner(path: &std::path::Path) -> (u32, u32) {
    let status = std::fs::symlink_metadata(path).unwrap();
    (status.uid(), status.gid())
}

#[test]
fn root_inside_is_nobody_special_outside() {
    let engine = Environment::new();
    let script = "id -u; cat /proc/self/uid_map; echo x >/dev/stdout; test -r /sys/fs/cgroup/unified/cgroup.procs -o -r /sys/fs/cgroup/cgroup.procs && echo groups; \
        echo 127.0.0.9 added >>/etc/hosts && echo hosts; echo x >/dev/null && test -c /dev/urandom && echo devices; stat -c %u / /etc/passwd";
    let out = run(&engine, &["--rm", "busybox", "sh", "-c", script]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "x", "groups", "hosts", "devices", "0", "0"]);
    run(&engine, &["-d", "--name", "web", "busybox", "sleep", "600"]).ok();
    let pid = engine.see("web", "{{.State.Pid}}");
    let status = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((status.uid(), status.gid()), (100_000, 100_000));
    engine.rcon(&["rm", "-f", "web"]).ok();
}

#[test]
fn files_keep_the_containers_ids_on_disk() {
    let engine = Environment::new();
    let host = engine.root.join("host");
    std::fs::create_dir(&host).unwrap();
    std::os::unix::fs::chown(&host, Some(1234), Some(1234)).unwrap();
    let bind = format!("{}:/host", host.display());
    let script = "touch /vol/new /home/new && chown 7:8 /vol/new && stat -c %u /home /home/example /home/new /host; touch /host/x";
    let done = run(&engine, &["--name", "files", "-v", "vol:/vol", "-v", "home:/home", "-v", &bind, "busybox", "sh", "-c", script]);
    assert_eq!(done.out, "0\n1000\n0\n65534\n");
    assert!(done.code == 1 && done.err.contains("Permission denied"), "{done:?}");
    let data = |volume: &str| engine.root.join("data/volumes").join(volume).join("_data");
    assert_eq!((owner(&data("vol").join("new")), owner(&data("home").join("new"))), ((7, 8), (0, 0)));
    // The same volume without a user namespace: the same owners.
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "vol:/vol", "busybox", "stat", "-c", "%u:%g", "/vol/new"]).ok(), "7:8");
    engine.rcon(&["rm", "-v", "files"]).ok();
}

#[test]
fn the_network_is_its_own_and_reachable() {
    let engine = Environment::new();
    let script = "ping -c1 -W5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null && echo pong; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net";
    assert_eq!(run(&engine, &["--rm", "busybox", "sh", "-c", script]).ok(), "pong\n0\neth0\nlo");
    assert_eq!(
        run(&engine, &["--rm", "--network", "none", "busybox", "sh", "-c", "ping -c1 -W5 127.0.0.1 >/dev/null && ls /sys/class/net"]).ok(),
        "lo"
    );
    let sysctl = ["--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=99", "busybox", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"];
    assert_eq!(run(&engine, &sysctl).ok(), "99");
    // Each run of a restarted container has a new network namespace, which is connected again.
    run(&engine, &["-d", "--name", "web", "--restart", "always", "-p", "8080:80", "busybox", "sh", "-c", "echo hello | nc -l -p 80"]).ok();
    for _ in 0..3 {
        let get = || engine.rcon(&["run", "--rm", "--network", "host", "busybox", "sh", "-c", "nc -w 5 127.0.0.1 8080 </dev/null"]).out;
        eventually("the published port answers", || get().contains("hello"));
    }
    eventually("restarts are counted", || engine.see("web", "{{.RestartCount}}").parse::<u32>().is_ok_and(|count| count >= 1));
    engine.rcon(&["rm", "-f", "web"]).ok();
}

#[test]
fn the_whole_life_of_a_container() {
    let engine = Environment::new();
    run(&engine, &["-d", "--name", "web", "busybox", "sh", "-c", "echo started; trap 'exit 3' TERM; while :; do sleep 0.05; done"]).ok();
    assert_eq!(engine.rcon(&["exec", "web", "sh", "-c", "id -u; touch /made; stat -c %u /made; echo x >/dev/stdout"]).ok(), "0\n0\nx");
    assert_eq!(engine.rcon(&["exec", "-u", "1000", "web", "id", "-u"]).ok(), "1000");
    // Running: through the id-mapped root; stopped: from the disk.
    std::fs::write(engine.root.join("file"), "text").unwrap();
    engine.rcon(&["cp", "file", "web:/running"]).ok();
    assert_eq!(engine.rcon(&["exec", "web", "stat", "-c", "%u:%g %s", "/running"]).ok(), "0:0 4");
    engine.rcon(&["exec", "web", "rm", "/etc/passwd"]).ok();
    engine.rcon(&["cp", "web:/made", "out"]).ok();
    assert_eq!(owner(&engine.root.join("out")), (0, 0));
    eventually("it logs", || engine.rcon(&["logs", "web"]).ok() == "started");
    engine.rcon(&["restart", "web"]).ok();
    assert_eq!(
        engine.rcon(&["exec", "web", "sh", "-c", "cat /running; ls /etc/passwd 2>&1; ls /sys/class/net"]).out,
        "textls: /etc/passwd: No such file or directory\neth0\nlo\n"
    );
    engine.rcon(&["stop", "web"]).ok();
    assert_eq!(engine.see("web", "{{.State.ExitCode}}"), "3");
    engine.rcon(&["cp", "file", "web:/stopped"]).ok();
    engine.rcon(&["cp", "web:/running", "again"]).ok();
    assert_eq!(std::fs::read(engine.root.join("again")).unwrap(), b"text");
    engine.rcon(&["start", "web"]).ok();
    assert_eq!(engine.rcon(&["exec", "web", "stat", "-c", "%u:%g", "/stopped"]).ok(), "0:0");
    // The monitor dies: the next command ends what is left.
    let pid = engine.see("web", "{{.State.Pid}}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let monitor = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(monitor).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the death is seen", || engine.see("web", "{{.State.Status}}") == "exited");
    engine.rcon(&["start", "web"]).ok();
    engine.rcon(&["rm", "-f", "web"]).ok();
}

#[test]
fn a_terminal_belongs_to_the_namespace() {
    let engine = Environment::new();
    assert_eq!(
        run(&engine, &["--rm", "-t", "busybox", "sh", "-c", "tty; stat -c %u:%g /dev/pts/0; echo x >/dev/tty"]).ok(),
        "/dev/pts/0\r\n0:5\r\nx"
    );
    // Group 5, which owns terminals, is not in the map; then neither is 10, to which the image's root belongs.
    let maps = ["--uidmap", "0:100000:5", "--gidmap", "0:100000:5"];
    let small = |more: &[&str]| engine.rcon(&[&["run", "--rm", "-t"], &maps[..], more, &["busybox", "stat", "-c", "%u:%g", "/dev/pts/0"]].concat());
    assert_eq!(small(&["--gidmap", "10:100010:1"]).ok(), "0:0");
    small(&[]).fails(125, "groups 0, 10");
}

#[test]
fn what_belongs_to_others_is_refused_by_name() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "other", "--ipc", "shareable", "busybox", "sleep", "600"]).ok();
    for (flag, value) in [
        ("--network", "host"),
        ("--pid", "host"),
        ("--uts", "host"),
        ("--ipc", "host"),
        ("--network", "container:other"),
        ("--pid", "container:other"),
        ("--ipc", "container:other"),
    ] {
        let named = format!("{flag} {}", value.replace(":other", ":"));
        run(&engine, &["--rm", flag, value, "busybox", "true"]).fails(125, &named);
    }
    run(&engine, &["--rm", "--privileged", "busybox", "true"]).fails(125, "--privileged");
    engine.rcon(&["run", "--rm", "--uidmap", "1:100000:10", "busybox", "true"]).fails(125, "--uidmap");
    engine.rcon(&["rm", "-f", "other"]).ok();
}
