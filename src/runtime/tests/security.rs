//! Published tricks that need a look from inside the room; the others are in `integration/security`.

use super::*;
use crate::runtime::{birth, enter, plan};

/// A running container whose pid namespace others join.
fn running(fixture: &Fixture) -> Init {
    let (stdio, _output) = pipes();
    let mut init = create(fixture, &config(&["sleep", "100"], |_| {}), None, stdio, false).unwrap();
    init.start().unwrap();
    init
}

fn end(init: &Init) {
    rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).ok();
    wait(&init.pidfd);
}

/// CVE-2016-9962: at the gate, in a pid namespace with others, a stage holds nothing but its socket and its streams.
#[test]
fn a_stage_in_a_foreign_pid_namespace_has_nothing_of_the_host() {
    alone("security::a_stage_in_a_foreign_pid_namespace_has_nothing_of_the_host", || {
        let (fixture, other) = (Fixture::new(), Fixture::new());
        let first = running(&fixture);
        for reaper in [false, true] {
            let spec = config(&["sh", "-c", "cat /proc/1/cmdline; kill -0 1 && echo $$"], |value| {
                value["linux"]["namespaces"][1] = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", first.pid)});
            });
            let (stdio, output) = pipes();
            let mut init = create(&other, &spec, None, stdio, reaper).unwrap();
            let proc = format!("/proc/{}", init.pid);
            let links = |name: &str| std::fs::read_link(format!("{proc}/{name}")).unwrap().display().to_string();
            let mut open: Vec<String> = std::fs::read_dir(format!("{proc}/fd"))
                .unwrap()
                .map(|entry| links(&format!("fd/{}", entry.unwrap().file_name().to_str().unwrap())))
                .filter(|link| !["pipe:", "socket:", "/dev/null"].iter().any(|kind| link.starts_with(kind)))
                .collect();
            open.dedup();
            assert_eq!(
                (open, links("ns/pid")),
                (Vec::new(), std::fs::read_link(format!("/proc/{}/ns/pid", first.pid)).unwrap().display().to_string())
            );
            assert!(std::fs::metadata(format!("{proc}/root/file")).is_ok(), "its root is the container's");
            assert!(std::fs::read(format!("{proc}/environ")).unwrap().iter().all(|byte| *byte == 0));
            assert!(std::fs::read(format!("{proc}/cmdline")).unwrap().starts_with(b"rcon-init\0"));
            let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
            let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse::<u32>();
            assert_eq!(parent, Ok(std::process::id()), "the process proper is our child");
            init.start().unwrap();
            assert!(text(output).starts_with("sleep\x00100\x00"));
            assert_eq!(wait(&init.pidfd), 0);
        }
        // A stage that fails on either side of its birth leaves nothing.
        for (field, value) in [("cwd", json!("/proc/nothing")), ("args", json!(["absent"]))] {
            let spec = config(&["true"], |config| {
                config["process"][field] = value;
                config["linux"]["namespaces"][1] = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", first.pid)});
            });
            let (stdio, _output) = pipes();
            create(&other, &spec, None, stdio, false).err().unwrap();
        }
        end(&first);
        assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD));
    });
}

/// PID 1 of `--init` shows neither the engine's arguments nor its environment.
#[test]
fn the_reaper_keeps_no_strings_of_the_engine() {
    alone("security::the_reaper_keeps_no_strings_of_the_engine", || {
        let fixture = Fixture::new();
        let (_, output) = run(&fixture, &config(&["sh", "-c", "cat /proc/1/cmdline; wc -c </proc/1/environ"], |_| {}), None, true);
        assert!(output.starts_with("rcon-init\0\0") && !output.contains("test"), "{output:?}");
        let spec = config(&["sleep", "100"], |_| {});
        let (stdio, _output) = pipes();
        let mut init = create(&fixture, &spec, None, stdio, true).unwrap();
        init.start().unwrap();
        // `execve` of the child is heard of before the reaper itself may have come that far.
        let environ = || std::fs::read(format!("/proc/{}/environ", init.pid)).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while environ().iter().any(|byte| *byte != 0) {
            assert!(std::time::Instant::now() < deadline, "{}", String::from_utf8_lossy(&environ()));
            std::thread::yield_now();
        }
        end(&init);
    });
}

/// Before Linux 6.17 a procfs of another pid namespace needs a process in it.
#[test]
fn a_messenger_opens_the_procfs_of_a_joined_namespace() {
    alone("security::a_messenger_opens_the_procfs_of_a_joined_namespace", || {
        let fixture = Fixture::new();
        let first = running(&fixture);
        let join = vec![(libc::CLONE_NEWPID as u64, PathBuf::from(format!("/proc/{}/ns/pid", first.pid)))];
        let joins = enter::Joins::open(&plan::Namespaces { join, ..plan::Namespaces::default() }).unwrap();
        assert_eq!(birth::tests::pids_by_messenger(joins.last().unwrap()), ["1"]);
        end(&first);
    });
}
