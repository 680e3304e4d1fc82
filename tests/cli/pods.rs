//! Pods: what members share and what they do not, who holds it, and what is left after kill -9.

use crate::environment::Environment;
use crate::outcome::eventually;

fn pod(engine: &Environment, args: &[&str]) -> String {
    engine.rcon(&[&["pod"], args].concat()).ok()
}

fn state(engine: &Environment, name: &str) -> String {
    pod(engine, &["inspect", "-f", "{{.State}}", name])
}

fn namespace(engine: &Environment, container: &str, kind: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{}/ns/{kind}", engine.see(container, "{{.State.Pid}}"))).unwrap()
}

#[test]
fn members_share_network_ipc_and_name_but_not_the_files() {
    let engine = Environment::new();
    pod(&engine, &["create", "--name", "web", "--add-host", "db:10.1.2.3", "--label", "tier=front"]);
    let server = "mkdir /www; echo hello >/www/index.html; echo posix >/dev/shm/note; httpd -f -h /www -p 80";
    engine.rcon(&["run", "-d", "--pod", "web", "--name", "one", "busybox", "sh", "-c", server]).ok();
    engine.rcon(&["run", "-d", "--pod", "web", "--name", "two", "busybox", "sleep", "600"]).ok();
    eventually("localhost is one", || engine.rcon(&["exec", "two", "wget", "-qO-", "http://127.0.0.1/"]).out == "hello\n");
    assert_eq!(
        engine.rcon(&["exec", "two", "sh", "-c", "cat /dev/shm/note; hostname; cat /etc/hostname; grep db /etc/hosts"]).ok(),
        "posix\nweb\nweb\n10.1.2.3\tdb"
    );
    engine.rcon(&["exec", "two", "test", "-e", "/www"]).fails(1, "");
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(&engine, "one", kind), namespace(&engine, "two", kind), "{kind}");
    }
    for kind in ["mnt", "pid"] {
        assert_ne!(namespace(&engine, "one", kind), namespace(&engine, "two", kind), "{kind}");
    }
    assert_eq!(state(&engine, "web"), "Running");
    assert_eq!(
        pod(&engine, &["ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}} {{.ContainerNames}} {{.Labels}}"]),
        "web Running 2 one,two tier=front"
    );
    assert_eq!(engine.rcon(&["ps", "--filter", "pod=web", "--format", "{{.Names}} {{.PodName}}"]).ok(), "two web\none web");
    // The end of one is nothing to the other, whichever started first.
    engine.rcon(&["kill", "one"]).ok();
    assert_eq!(state(&engine, "web"), "Degraded");
    assert_eq!(engine.rcon(&["exec", "two", "sh", "-c", "cat /dev/shm/note; hostname; ip -o -4 addr show eth0 | wc -l"]).ok(), "posix\nweb\n1");
    engine.rcon(&["start", "one"]).ok();
    eventually("it serves again", || engine.rcon(&["exec", "two", "wget", "-qO-", "http://127.0.0.1/"]).out == "hello\n");
    engine.rcon(&["pod", "rm", "web"]).fails(1, "has running containers");
    let id = pod(&engine, &["inspect", "-f", "{{.Id}}", "web"]);
    assert_eq!(pod(&engine, &["rm", "-f", "-t", "0", "web"]), id);
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "");
}

#[test]
fn the_whole_life_of_a_pod() {
    let engine = Environment::new();
    let run = |name: &str, script: &str| engine.rcon(&["create", "--pod", "app", "--name", name, "busybox", "sh", "-c", script]).ok();
    // Whoever has said its line has its handler.
    let trap = |work: &str| format!("trap 'exit 0' TERM; {work}; while :; do sleep 0.05; done");
    let said = |lines: usize| eventually("both log", || pod(&engine, &["logs", "--names", "app"]).lines().count() == lines);
    pod(&engine, &["create", "--name", "app", "--restart", "on-failure:3", "-v", "data:/data", "-v", "/anonymous", "--no-hosts"]);
    assert_eq!(state(&engine, "app"), "Created");
    run("aa", &trap("echo from a >/data/a; echo log a"));
    run("bb", &trap("echo log b"));
    assert_eq!(engine.see("bb", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"), "on-failure 3");
    engine.rcon(&["volume", "rm", "data"]).fails(1, "pod \"app\"");
    assert_eq!(engine.rcon(&["volume", "ls", "-q", "--filter", "dangling=true"]).ok(), "");
    pod(&engine, &["start", "app"]);
    assert_eq!(state(&engine, "app"), "Running");
    eventually("they share a volume", || engine.rcon(&["exec", "bb", "cat", "/data/a"]).out == "from a\n");
    said(2);
    let mut lines: Vec<String> = pod(&engine, &["logs", "--names", "app"]).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["aa log a", "bb log b"]);
    assert_eq!(pod(&engine, &["logs", "-c", "bb", "--names", "app"]), "bb log b");
    // A shell that is about to run its `sleep` is there twice for a moment.
    eventually("top shows both", || pod(&engine, &["top", "app"]).matches("trap").count() == 2);
    let stats = pod(&engine, &["stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", "app"]);
    assert_eq!(stats.lines().count(), 2, "{stats}");
    pod(&engine, &["pause", "app"]);
    assert_eq!((state(&engine, "app"), engine.see("aa", "{{.State.Status}}")), ("Paused".to_owned(), "paused".to_owned()));
    pod(&engine, &["unpause", "app"]);
    assert_eq!(state(&engine, "app"), "Running");
    let started = engine.see("aa", "{{.State.StartedAt}}");
    pod(&engine, &["restart", "app"]);
    assert_ne!(engine.see("aa", "{{.State.StartedAt}}"), started);
    said(4);
    pod(&engine, &["stop", "app"]);
    assert_eq!((state(&engine, "app"), engine.see("aa", "{{.State.ExitCode}}")), ("Exited".to_owned(), "0".to_owned()));
    assert!(!engine.root.join("run/pods").read_dir().unwrap().any(|entry| entry.is_ok()), "a stopped pod holds nothing");
    // A member that is started alone brings the pod up.
    engine.rcon(&["start", "aa"]).ok();
    assert_eq!(state(&engine, "app"), "Degraded");
    pod(&engine, &["kill", "app"]);
    assert_eq!(state(&engine, "app"), "Exited");
    engine.rcon(&["pod", "exists", "app"]).ok();
    pod(&engine, &["prune", "-f"]);
    let events = engine.rcon(&["events", "--stream=false", "--filter", "type=pod", "--format", "{{.Action}}"]).ok();
    let words: Vec<&str> = events.lines().collect();
    assert_eq!(words, ["create", "start", "pause", "unpause", "stop", "start", "restart", "stop", "start", "kill", "stop", "remove"]);
    engine.rcon(&["pod", "exists", "app"]).fails(1, "");
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "data", "the anonymous volume went with the pod");
    engine.rcon(&["pod", "rm", "app"]).fails(1, "No such pod");
    engine.rcon(&["pod", "rm", "-i", "app"]).ok();
}

#[test]
fn ports_and_names_belong_to_the_pod() {
    let engine = Environment::new();
    let serve = ["sh", "-c", "while :; do echo served | nc -l -p 80; done"];
    engine.rcon(&[&["run", "-d", "--pod", "new:web", "--name", "one", "-p", "18080:80", "busybox"], &serve[..]].concat()).ok();
    engine.rcon(&["run", "-d", "--pod", "web", "--name", "two", "busybox", "sleep", "600"]).ok();
    let get = || engine.rcon(&["run", "--rm", "--network", "host", "busybox", "sh", "-c", "nc -w 5 127.0.0.1 18080 </dev/null"]).out;
    eventually("the pod's port answers", || get() == "served\n");
    assert_eq!(engine.rcon(&["port", "two", "80"]).ok(), "0.0.0.0:18080");
    let address = pod(&engine, &["inspect", "-f", "{{.InfraConfig.IPAddress}}", "web"]);
    assert_eq!(engine.see("two", "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Networks.bridge.IPAddress}}"), format!("{address} {address}"));
    engine.rcon(&["run", "--rm", "--pod", "web", "-p", "81:81", "busybox", "true"]).fails(125, "--publish");
    engine.rcon(&["run", "--rm", "--pod", "web", "--network", "host", "busybox", "true"]).fails(125, "--network");
    engine.rcon(&["run", "--rm", "--pod", "web", "--hostname", "x", "busybox", "true"]).fails(125, "--hostname");
    engine.rcon(&["run", "--rm", "--pod", "none", "busybox", "true"]).fails(125, "No such pod");
    engine.rcon(&["run", "--rm", "--name", "web", "busybox", "true"]).fails(125, "already in use by a pod");
    engine.rcon(&["pod", "create", "--name", "one"]).fails(1, "already in use");
    engine.rcon(&["create", "--init-ctr", "once", "busybox", "true"]).fails(125, "--pod");
    // Another container cannot have the port, also while the member that serves it is down.
    engine.rcon(&["rm", "-f", "one"]).ok();
    engine.rcon(&["run", "--rm", "-p", "18080:80", "busybox", "true"]).fails(125, "18080");
    let taken = engine.rcon(&["run", "--rm", "--network", "host", "busybox", "timeout", "100", "nc", "-l", "-p", "18080"]);
    assert!(taken.code == 1 && taken.err.contains("in use"), "nor a program of the host, for the other member's monitor holds it: {taken:?}");
    engine.rcon(&[&["run", "-d", "--pod", "web", "--name", "three", "busybox"], &serve[..]].concat()).ok();
    eventually("the port still leads to the pod", || get() == "served\n");
    pod(&engine, &["rm", "-fa", "-t", "0"]);
    engine.rcon(&["run", "--rm", "-p", "18080:80", "busybox", "true"]).ok();
    // A name that a new pod's container cannot use leaves no pod.
    engine.rcon(&["run", "--rm", "--pod", "new:gone", "-v", "relative/./:x", "busybox", "true"]).fails(125, "");
    assert_eq!(pod(&engine, &["ps", "-q"]), "");
}

#[test]
fn init_containers_run_first_and_exit_policies_stop() {
    let engine = Environment::new();
    let dir = engine.root.join("order");
    std::fs::create_dir(&dir).unwrap();
    let bind = format!("{}:/order", dir.display());
    pod(&engine, &["create", "--name", "job", "--exit-policy", "stop", "-v", &bind]);
    let create = |name: &str, when: &[&str], script: &str| {
        engine.rcon(&[&["create", "--pod", "job", "--name", name], when, &["busybox", "sh", "-c", script]].concat()).ok();
    };
    create("work", &[], "echo work >>/order/log");
    create("first", &["--init-ctr", "once"], "sleep 0.1; echo once >>/order/log");
    create("second", &["--init-ctr", "always"], "echo always >>/order/log");
    pod(&engine, &["start", "job"]);
    eventually("the last member takes the pod down", || state(&engine, "job") == "Exited");
    assert_eq!(std::fs::read_to_string(dir.join("log")).unwrap(), "once\nalways\nwork\n");
    assert_eq!(pod(&engine, &["inspect", "-f", "{{.NumContainers}}", "job"]), "2", "an init container of kind once is gone");
    pod(&engine, &["start", "job"]);
    // Its line is written before it ends, and a pod that is up has nothing to start.
    eventually("down again", || state(&engine, "job") == "Exited");
    assert_eq!(std::fs::read_to_string(dir.join("log")).unwrap(), "once\nalways\nwork\nalways\nwork\n");
    create("fails", &["--init-ctr", "always"], "exit 7");
    engine.rcon(&["pod", "start", "job"]).fails(1, "init container fails exited with code 7");
    pod(&engine, &["rm", "-f", "-t", "0", "job"]);
}

#[test]
fn a_shared_pid_namespace_has_the_one_small_process_and_others_none() {
    let engine = Environment::new();
    let pauses = || {
        let root = engine.root.to_str().unwrap().to_owned();
        let holds = move |pid: &str| {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            fds.map(|fd| fd.path()).any(|fd| std::fs::read_link(fd).is_ok_and(|to| to.starts_with(&root)))
        };
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "rcon-pause\n") && holds(pid))
            .collect::<Vec<_>>()
    };
    pod(&engine, &["create", "--name", "plain", "--network", "none"]);
    pod(&engine, &["start", "plain"]);
    assert!(pauses().is_empty());
    pod(&engine, &["create", "--name", "shared", "--network", "none", "--share", "+pid"]);
    engine.rcon(&["run", "-d", "--pod", "shared", "--name", "one", "busybox", "sleep", "611"]).ok();
    engine.rcon(&["run", "-d", "--pod", "shared", "--name", "two", "busybox", "sh", "-c", "(sleep 0.1 &); sleep 612"]).ok();
    let [pause] = pauses().try_into().unwrap();
    let seen = engine.rcon(&["exec", "one", "ps", "-o", "pid,args"]).ok();
    assert!(seen.contains("1 rcon-pause") && seen.contains("sleep 611") && seen.contains("sleep 612"), "{seen}");
    let status = std::fs::read_to_string(format!("/proc/{pause}/status")).unwrap();
    assert!(status.contains("CapPrm:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    // Who may trace sees an empty root, the pod's own namespaces and nothing of the host.
    let spy = [
        "run",
        "--rm",
        "--pod",
        "shared",
        "--cap-add",
        "SYS_PTRACE",
        "busybox",
        "sh",
        "-c",
        "ls -A /proc/1/root/ | wc -l; for of in 1 self; do readlink /proc/$of/ns/net; done | uniq | wc -l",
    ];
    assert_eq!(engine.rcon(&spy).ok(), "0\n1");
    // The end of one member leaves the other; orphans are reaped.
    engine.rcon(&["rm", "-f", "two"]).ok();
    assert!(engine.rcon(&["exec", "one", "ps"]).ok().contains("sleep 611"));
    eventually("no zombie stays", || !engine.rcon(&["exec", "one", "ps", "-o", "stat,args"]).out.contains("Z "));
    let clean = std::fs::read_to_string(format!("/proc/{pause}/smaps_rollup")).unwrap();
    let private: u64 =
        clean.lines().filter(|line| line.starts_with("Private_")).filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum();
    assert!(private <= 300, "the process holds {private} KiB of its own");
    // Killed, it takes the members along; the next start makes all anew.
    rustix::process::kill_process(rustix::process::Pid::from_raw(pause.parse().unwrap()).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the members end with it", || engine.see("one", "{{.State.Status}}") == "exited");
    eventually("the pod is seen to be down", || state(&engine, "shared") == "Exited");
    pod(&engine, &["start", "shared"]);
    assert_eq!((state(&engine, "shared"), pauses().len()), ("Running".to_owned(), 1));
    pod(&engine, &["rm", "-fa", "-t", "0"]);
    assert!(pauses().is_empty());
}

/// Between two runs the monitor of a member still has the pod's sockets.
#[test]
fn a_pod_that_was_killed_under_a_waiting_member_gets_its_ports_again() {
    let engine = Environment::new();
    pod(&engine, &["create", "--name", "web", "-p", "18083:80", "--share", "+pid"]);
    engine.rcon(&["run", "-d", "--pod", "web", "--name", "again", "--restart", "always", "busybox", "sleep", "613"]).ok();
    engine.rcon(&["run", "-d", "--pod", "web", "--name", "once", "busybox", "sleep", "614"]).ok();
    let shared = namespace(&engine, "again", "pid");
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut pauses = pids.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "rcon-pause\n"));
    let pause = pauses.find(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|of| of == shared)).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pause.parse().unwrap()).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the member without a policy ends", || engine.see("once", "{{.State.Status}}") == "exited");
    engine.rcon(&["start", "once"]).ok();
    assert_eq!(engine.see("once", "{{.State.Status}}"), "running");
    assert!(engine.rcon(&["ps", "--format", "{{.Names}} {{.Ports}}"]).ok().contains("18083->80/tcp"));
    pod(&engine, &["rm", "-f", "-t", "0", "web"]);
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "");
}

#[test]
fn limits_bound_the_sum_of_the_members() {
    let engine = Environment::new();
    pod(
        &engine,
        &["create", "--name", "small", "--network", "none", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "12", "--cpuset-cpus", "0"],
    );
    let shm = |size: &str| {
        ["sh".to_owned(), "-c".to_owned(), format!("dd if=/dev/zero of=/dev/shm/$(cat /proc/sys/kernel/random/uuid) bs=1M count={size}; sleep 600")]
    };
    let [sh, c, script] = shm("40");
    engine.rcon(&["run", "-d", "--pod", "small", "--name", "one", "busybox", &sh, &c, &script]).ok();
    engine.rcon(&["exec", "one", "nproc"]).ok();
    assert_eq!(engine.rcon(&["exec", "one", "nproc"]).ok(), "1");
    // Alone each would fit.
    let alone = engine.rcon(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=40M",
        "count=1",
    ]);
    assert_eq!(alone.code, 0, "{alone:?}");
    eventually("the first has its part", || engine.rcon(&["exec", "one", "du", "-sm", "/dev/shm"]).out.starts_with("40"));
    let second = engine.rcon(&["run", "--rm", "--pod", "small", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=40M", "count=1"]);
    assert_eq!(second.code, 137, "{second:?}");
    assert_eq!(engine.see("one", "{{.State.Running}}"), "true");
    let forks = ["run", "--rm", "--pod", "small", "busybox", "sh", "-c", "i=0; while [ $i -lt 20 ]; do sleep 600 & i=$((i + 1)); done; echo all"];
    let forks = engine.rcon(&forks);
    assert!(forks.err.contains("can't fork") && !forks.out.contains("all"), "{forks:?}");
    pod(&engine, &["rm", "-fa", "-t", "0"]);
}

/// Each step of bringing a pod up, taking it down and removing it, cut off by SIGKILL: the next command ends what is left.
#[cfg(feature = "failpoints")]
#[test]
fn a_command_killed_at_any_step_leaves_nothing() {
    let engine = Environment::new();
    let killed = |point: &str, args: &[&str]| {
        let done = engine.command(args).env("RCON_FAILPOINT", format!("engine.pod.{point}=kill")).output().unwrap();
        assert!(!done.status.success() && done.status.code().is_none(), "{point}: {done:?}");
    };
    let nothing_is_up = |point: &str| {
        assert_eq!(
            pod(&engine, &["ps", "--format", "{{.Status}}"]).replace("Created", "Exited").lines().filter(|line| *line != "Exited").count(),
            0,
            "{point}"
        );
        let live: Vec<_> = engine.root.join("run/pods").read_dir().into_iter().flatten().flatten().collect();
        assert!(live.is_empty(), "{point}: {live:?}");
        assert_eq!(engine.mounts(), Vec::<String>::new(), "{point}");
    };
    for point in ["volumes", "recorded"] {
        killed(point, &["pod", "create", "--name", point, "-v", "/anonymous"]);
        nothing_is_up(point);
    }
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok().lines().count(), 1, "that of the pod that was recorded");
    pod(&engine, &["rm", "recorded"]);
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
    pod(&engine, &["create", "--name", "web", "-p", "18080:80", "--share", "+pid"]);
    for point in ["reserved", "namespaces", "network", "group", "held"] {
        killed(point, &["pod", "start", "web"]);
        nothing_is_up(point);
        killed(point, &["run", "--rm", "--pod", "web", "busybox", "true"]);
        nothing_is_up(point);
        // The port is free.
        engine.rcon(&["run", "--rm", "-p", "18080:80", "busybox", "true"]).ok();
    }
    for point in ["stopping", "unpublished", "killed"] {
        pod(&engine, &["start", "web"]);
        killed(point, &["pod", "stop", "web"]);
        nothing_is_up(point);
    }
    for point in ["removing", "members_removed", "released"] {
        pod(&engine, &["create", "--name", point, "-v", "/anonymous"]);
        engine.rcon(&["run", "-d", "--pod", point, "--name", "member", "busybox", "sleep", "600"]).ok();
        killed(point, &["pod", "rm", "-f", "-t", "0", point]);
        nothing_is_up(point);
        engine.rcon(&["pod", "exists", point]).fails(1, "");
        assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "", "{point}");
    }
    pod(&engine, &["rm", "web"]);
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_restart_that_is_killed_after_the_stop_is_finished_by_the_next_command() {
    let engine = Environment::new();
    engine.rcon(&["pod", "create", "--name", "web"]).ok();
    for name in ["one", "two"] {
        engine.rcon(&["run", "-d", "--pod", "web", "--name", name, "busybox", "sleep", "600"]).ok();
    }
    let done = engine.command(&["pod", "restart", "web"]).env("RCON_FAILPOINT", "engine.pod.restart.stopped=kill").output().unwrap();
    assert!(!done.status.success());
    // `inspect` looks only.
    assert_eq!((engine.see("one", "{{.State.Status}}"), engine.see("two", "{{.State.Status}}")), ("exited".to_owned(), "exited".to_owned()));
    assert_eq!(engine.rcon(&["ps", "--format", "{{.Names}} {{.State}}", "--sort", "names"]).ok(), "one running\ntwo running");
    assert_eq!(engine.rcon(&["pod", "ps", "--format", "{{.Name}} {{.Status}}"]).ok(), "web Running");
    // Once: what is stopped after that stays so.
    engine.rcon(&["pod", "stop", "-t", "0", "web"]).ok();
    assert_eq!(engine.rcon(&["ps", "-q"]).ok(), "");
    engine.rcon(&["pod", "rm", "-f", "web"]).ok();
}

#[test]
fn a_clone_of_a_pod_has_clones_of_its_members() {
    let engine = Environment::new();
    engine.rcon(&["pod", "create", "web", "--memory", "64m", "-v", "data:/data"]).ok();
    engine.rcon(&["create", "--pod", "web", "--name", "one", "busybox", "sh", "-c", "hostname > /data/name; sleep 600"]).ok();
    engine.rcon(&["create", "--pod", "web", "--name", "two", "--requires", "one", "busybox", "sleep", "600"]).ok();
    engine.rcon(&["pod", "clone", "--start", "web"]).ok();
    assert_eq!(engine.rcon(&["ps", "--sort", "names", "--format", "{{.Names}} {{.PodName}}"]).ok(), "one-clone web-clone\ntwo-clone web-clone");
    eventually("it has its own host name", || engine.rcon(&["exec", "two-clone", "cat", "/data/name"]).out.trim() == "web-clone");
    let id = engine.see("one-clone", "{{.Id}}");
    assert_eq!(engine.rcon(&["exec", "one-clone", "hostname"]).ok(), "web-clone");
    // It needs the clone, not the original.
    engine.rcon(&["pod", "stop", "-t", "0", "web-clone"]).ok();
    engine.rcon(&["start", "two-clone"]).ok();
    assert_eq!(engine.rcon(&["ps", "--no-trunc", "-q", "--filter", "name=^one"]).ok(), id);
    engine.rcon(&["pod", "clone", "web", "web-clone"]).fails(1, "the pod name \"web-clone\" is already in use by pod");
    engine.rcon(&["pod", "clone", "nothing"]).fails(1, "No such pod: nothing");
    engine.rcon(&["pod", "clone", "--destroy", "web", "other"]).ok();
    assert_eq!(engine.rcon(&["pod", "ps", "--format", "{{.Name}}", "--sort", "name"]).ok(), "other\nweb-clone");
    engine.rcon(&["pod", "rm", "-f", "-t", "0", "web-clone", "other"]).ok();
}

#[test]
fn a_member_whose_monitor_is_killed_ends_alone() {
    let engine = Environment::new();
    pod(&engine, &["create", "--name", "web", "--memory", "64m"]);
    for name in ["one", "two"] {
        engine.rcon(&["run", "-d", "--pod", "web", "--name", name, "busybox", "sleep", "600"]).ok();
    }
    let address = engine.rcon(&["exec", "two", "ip", "-o", "-4", "addr", "show", "eth0"]).ok();
    let pid = engine.see("one", "{{.State.Pid}}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let monitor = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(monitor).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the death is seen", || engine.see("one", "{{.State.Status}}") == "exited");
    assert_eq!(state(&engine, "web"), "Degraded");
    assert_eq!(engine.rcon(&["exec", "two", "ip", "-o", "-4", "addr", "show", "eth0"]).ok(), address);
    engine.rcon(&["start", "one"]).ok();
    assert_eq!(state(&engine, "web"), "Running");
    // A restart by policy finds the pod as it was.
    engine
        .rcon(&[
            "run",
            "-d",
            "--pod",
            "web",
            "--name",
            "again",
            "--restart",
            "always",
            "busybox",
            "sh",
            "-c",
            "hostname; ip -o -4 addr show eth0 | wc -l; exit 1",
        ])
        .ok();
    eventually("it restarts", || engine.see("again", "{{.RestartCount}}").parse::<u32>().is_ok_and(|count| count >= 2));
    let log = engine.rcon(&["logs", "again"]).ok();
    assert!(log.starts_with("web\n1\nweb\n1"), "{log}");
    pod(&engine, &["rm", "-fa", "-t", "0"]);
}
