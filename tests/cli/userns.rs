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
    let script = "ping -c1 -W20 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null && echo pong; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net";
    assert_eq!(run(&engine, &["--rm", "busybox", "sh", "-c", script]).ok(), "pong\n0\neth0\nlo");
    assert_eq!(
        run(&engine, &["--rm", "--network", "none", "busybox", "sh", "-c", "ping -c1 -W20 127.0.0.1 >/dev/null && ls /sys/class/net"]).ok(),
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
    run(&engine, &["-d", "--name", "web", "busybox", "sh", "-c", "trap 'exit 3' TERM; echo started; while :; do sleep 0.05; done"]).ok();
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
    eventually("its handler is set", || engine.rcon(&["logs", "web"]).ok() == "started\nstarted");
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

#[test]
fn auto_lends_ids_of_its_own_to_each_container() {
    let engine = Environment::new();
    let maps = |name: &str| engine.rcon(&["exec", name, "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map"]).ok();
    let start = |name: &str, mode: &str, more: &[&str]| {
        let args = [&["run", "-d", "--name", name, "--userns", mode][..], more, &["busybox", "sleep", "600"]].concat();
        engine.rcon(&args).ok();
        maps(name).split_whitespace().map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let one = start("one", "auto", &["-v", "vol:/vol"]);
    let two = start("two", "auto:size=5000", &["-v", "vol:/vol"]);
    assert_eq!((one[0], one[2], &one[..3]), (0, 65_536, &one[3..]));
    assert_eq!((two[0], two[2]), (0, 5000));
    assert!(one[1] > 65_536 && (two[1] >= one[1] + 65_536 || two[1] + 5000 <= one[1]), "{one:?} {two:?}");
    assert_eq!(engine.see("one", "{{.HostConfig.UsernsMode}}"), "private");
    // Both see their own ids in a volume that is on disk with the containers' ids.
    engine.rcon(&["exec", "one", "sh", "-c", "touch /vol/f && chown 7:8 /vol/f"]).ok();
    assert_eq!(engine.rcon(&["exec", "two", "stat", "-c", "%u:%g", "/vol/f"]).ok(), "7:8");
    assert_eq!(owner(&engine.root.join("data/volumes/vol/_data/f")), (7, 8));
    let forced = start("forced", "auto:size=20,uidmapping=3:70000:2", &[]);
    let words = |lines: &[u32]| lines.chunks(3).map(|l| (l[0], l[2])).collect::<Vec<_>>();
    assert_eq!(words(&forced[..9]), [(0, 3), (3, 2), (5, 15)]);
    assert_eq!(forced[4], 70_000);
    // A range is lent until its container is removed, also over a restart.
    engine.rcon(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(maps("one").split_whitespace().nth(1).unwrap(), one[1].to_string());
    engine.rcon(&["rm", "-f", "one"]).ok();
    assert_eq!(start("again", "auto", &[])[1], one[1]);
    for name in ["two", "forced", "again"] {
        engine.rcon(&["rm", "-f", name]).ok();
    }
    std::fs::write(engine.root.join("rcon.toml"), "[userns]\npool = [\"500000:1000\"]\n").unwrap();
    let small = |mode: &str| engine.rcon(&["--config-file", "rcon.toml", "run", "--rm", "--userns", mode, "busybox", "cat", "/proc/self/uid_map"]);
    small("auto").fails(125, "no 65536 host ids in a row are left");
    assert_eq!(small("auto:size=1000").ok().split_whitespace().collect::<Vec<_>>(), ["0", "500000", "1000"]);
}

#[test]
fn a_user_namespace_is_shared_with_what_belongs_to_it() {
    let engine = Environment::new();
    engine
        .rcon(&["run", "-d", "--name", "first", "--userns", "auto", "--ipc", "shareable", "busybox", "sh", "-c", "echo shm >/dev/shm/f; sleep 600"])
        .ok();
    let inside = |more: &[&str], script: &str| {
        let args = [&["run", "--rm", "--userns", "container:first"][..], more, &["busybox", "sh", "-c", script]].concat();
        engine.rcon(&args)
    };
    let link = |kind: &str| engine.rcon(&["exec", "first", "readlink", &format!("/proc/self/ns/{kind}")]).ok();
    assert_eq!(
        inside(&[], "readlink /proc/self/ns/user; stat -c %u / /etc/passwd /etc/hosts; touch /x; ls /sys/class/net").ok(),
        format!("{}\n0\n0\n0\neth0\nlo", link("user"))
    );
    for (flag, kind) in [("--network", "net"), ("--ipc", "ipc"), ("--pid", "pid")] {
        assert_eq!(inside(&[flag, "container:first"], &format!("readlink /proc/self/ns/{kind}")).ok(), link(kind), "{flag}");
    }
    eventually("shared memory is shared", || inside(&["--ipc", "container:first"], "cat /dev/shm/f").out == "shm\n");
    assert!(inside(&["--pid", "container:first"], "ps -o args").ok().contains("sleep 600"));
    inside(&["--network", "host"], "true").fails(125, "--network host");
    // Behind the same door again, and from outside; then one that has another user namespace.
    engine.rcon(&["run", "-d", "--name", "second", "--userns", "container:first", "-v", "vol:/vol", "busybox", "sleep", "600"]).ok();
    assert_eq!(engine.rcon(&["exec", "second", "sh", "-c", "readlink /proc/self/ns/user; id -u; touch /vol/f"]).ok(), format!("{}\n0", link("user")));
    assert_eq!(owner(&engine.root.join("data/volumes/vol/_data/f")), (0, 0));
    inside(&["--pid", "container:second"], "true").ok();
    engine.rcon(&["run", "-d", "--name", "other", "--userns", "auto", "busybox", "sleep", "600"]).ok();
    inside(&["--pid", "container:other"], "true").fails(125, "another user namespace");
    engine.rcon(&["stop", "-t", "0", "first"]).ok();
    inside(&[], "true").fails(125, "it is not running");
    engine.rcon(&["rm", "-f", "first", "second", "other"]).ok();
    engine.rcon(&["run", "--rm", "--userns", "keep-id", "busybox", "true"]).fails(125, "means nothing for root");
}

#[test]
fn commands_on_files_see_the_containers_ids() {
    let engine = Environment::new();
    engine.rcon(&["run", "--name", "web", "--userns", "auto", "busybox", "sh", "-c", "touch /made && chown 7:8 /made && rm /etc/group"]).ok();
    let changes = engine.rcon(&["diff", "web"]).ok();
    assert!(changes.contains("A /made") && changes.contains("D /etc/group"), "{changes}");
    let export = engine.root.join("web.tar");
    engine.rcon(&["export", "-o", export.to_str().unwrap(), "web"]).ok();
    let listing = std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&export).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(listing.lines().any(|line| line.contains(" 7/8 ") && line.ends_with(" made")), "{listing}");
    engine.rcon(&["commit", "web", "committed"]).ok();
    let seen = engine.rcon(&["run", "--rm", "committed", "sh", "-c", "stat -c %u:%g /made; ls /etc/group 2>&1"]);
    assert!(seen.out.starts_with("7:8\n") && seen.out.contains("No such file"), "{seen:?}");
    // A clone has ids of its own.
    let id_maps = |name: &str| engine.rcon(&["start", "-a", name]).ok();
    engine.rcon(&["create", "--name", "maps", "--userns", "auto", "busybox", "cat", "/proc/self/uid_map"]).ok();
    engine.rcon(&["container", "clone", "maps", "copied"]).ok();
    assert_ne!(id_maps("maps"), id_maps("copied"));
    engine.rcon(&["rm", "web", "maps", "copied"]).ok();
}

#[test]
fn ids_stay_lent_while_a_container_that_joined_is_left() {
    let engine = Environment::new();
    let start = |name: &str, mode: &str| {
        engine.rcon(&["run", "-d", "--name", name, "--userns", mode, "busybox", "sleep", "600"]).ok();
        engine.rcon(&["exec", name, "cat", "/proc/self/uid_map"]).ok()
    };
    let first = start("first", "auto");
    assert_eq!(start("joined", "container:first"), first);
    engine.rcon(&["rm", "-f", "first"]).ok();
    assert_ne!(start("next", "auto"), first);
    engine.rcon(&["rm", "-f", "joined", "next"]).ok();
}
