//! Namespaces by path and their order, time offsets, id maps without rights.

use super::super::{Create, Error, Init, Root};
use super::{Fixture, alone, config, create, exec, init, pipes, run, text, wait};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::mount::{mount_bind, mount_change};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};
use std::path::Path;

fn shell(script: &str, change: impl FnOnce(&mut Value)) -> Spec {
    config(&["sh", "-c", script], |value| {
        value["process"]["cwd"] = json!("/");
        change(value);
    })
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    value["linux"]["namespaces"].as_array_mut().unwrap()
}

/// A running container whose namespaces others join.
fn holder(fixture: &Fixture, spec: &Spec) -> Init {
    let (stdio, _output) = pipes();
    let mut init = create(fixture, spec, None, stdio, false).map_err(why).unwrap();
    init.start().unwrap();
    init
}

fn end(init: &Init) {
    rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&init.pidfd);
}

fn link(pid: u32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

const KINDS: [(&str, &str); 6] = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup"), ("time", "time")];

fn refused(fixture: &Fixture, spec: &Spec) -> String {
    let (stdio, _output) = pipes();
    create(fixture, spec, None, stdio, false).err().unwrap().to_string()
}

/// With a directory as root.
fn run_directory(fixture: &Fixture, spec: &Spec) -> Result<(i32, String), Error> {
    let root = Root::Directory(fixture.base.join("layer"));
    let unused = crate::runtime::cgroup::Group::absent();
    let (stdio, output) = pipes();
    let mut container = init::create(Create::new(spec, &root, stdio, &unused), None)?;
    container.start()?;
    let output = text(output);
    Ok((wait(&container.pidfd), output))
}

fn chown(fixture: &Fixture, owner: &str) {
    let status = std::process::Command::new("chown").args(["-R", owner]).arg(&fixture.base).status().unwrap();
    assert!(status.success());
}

fn why(error: Error) -> String {
    format!("{error}: {:?}", std::error::Error::source(&error))
}

#[test]
fn every_kind_is_joined_by_path() {
    alone("namespaces::every_kind_is_joined_by_path", || {
        let fixture = Fixture::new();
        let first = holder(&fixture, &shell("exec sleep 100", |value| list(value).push(json!({"type": "time"}))));
        let pid = first.pid.cast_unsigned();
        let other = Fixture::new();
        let joined = shell("for n in net ipc uts pid cgroup time time_for_children; do readlink /proc/self/ns/$n; done", |value| {
            value.as_object_mut().unwrap().remove("hostname");
            list(value).retain(|entry| entry["type"] == "mount");
            list(value).extend(KINDS.map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")})));
            value["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        });
        let (code, output) = run(&other, &joined, None, false);
        let mut wanted: Vec<String> = KINDS.iter().map(|(_, file)| link(pid, file)).collect();
        wanted.push(wanted[5].clone());
        assert_eq!((code, output.lines().collect::<Vec<_>>()), (0, wanted.iter().map(String::as_str).collect()));
        let own = std::process::id();
        for (kind, file) in KINDS {
            assert_ne!(link(own, file), link(pid, file), "{kind}: the caller is back");
        }
        end(&first);
    });
}

#[test]
fn a_path_of_another_kind_is_named() {
    alone("namespaces::a_path_of_another_kind_is_named", || {
        let fixture = Fixture::new();
        for (kind, path, message) in [
            ("uts", "/proc/self/ns/net", "namespace path \"/proc/self/ns/net\" is not a uts namespace"),
            ("pid", "/proc/self/ns/net", "namespace path \"/proc/self/ns/net\" is not a pid namespace"),
            ("network", "/etc/passwd", "namespace path \"/etc/passwd\" is not a net namespace"),
            ("user", "/proc/self/ns/net", "namespace path \"/proc/self/ns/net\" is not a user namespace"),
            ("cgroup", "/proc/self/ns/net", "namespace path \"/proc/self/ns/net\" is not a cgroup namespace"),
            ("ipc", "ns/ipc", "path \"ns/ipc\" of namespace \"ipc\" must be absolute"),
            ("ipc", "/absent", "cannot open namespace /absent"),
        ] {
            let spec = shell("true", |value| {
                list(value).retain(|entry| entry["type"] != kind);
                list(value).push(json!({"type": kind, "path": path}));
            });
            assert_eq!(refused(&fixture, &spec), message);
        }
        assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD));
    });
}

fn with_maps(value: &mut Value, inside: u32, size: u32) {
    let map = json!([{"containerID": inside, "hostID": 100_000, "size": size}]);
    list(value).push(json!({"type": "user"}));
    value["linux"]["uidMappings"] = map.clone();
    value["linux"]["gidMappings"] = map;
}

#[test]
fn a_user_namespace_is_joined_with_others() {
    alone("namespaces::a_user_namespace_is_joined_with_others", || {
        let fixture = Fixture::new();
        let first = holder(&fixture, &shell("exec sleep 100", |value| with_maps(value, 0, 65536)));
        let pid = first.pid.cast_unsigned();
        let other = Fixture::new();
        chown(&other, "100000:100000");
        let theirs = ["user", "net", "ipc", "pid"].map(|file| format!("/proc/{pid}/ns/{file}"));
        // A network namespace of the host beside it, which the user namespace's root may not join.
        for network in [theirs[1].clone(), "/proc/self/ns/net".to_owned()] {
            let joined = shell(
                "id -u; cat /proc/self/uid_map; for n in user net ipc; do readlink /proc/self/ns/$n; done; touch /tmp || echo no; mount -t tmpfs x /masked || echo no",
                |value| {
                    list(value).retain(|entry| !["network", "ipc"].contains(&entry["type"].as_str().unwrap()));
                    list(value).extend([
                        json!({"type": "ipc", "path": theirs[2]}),
                        json!({"type": "network", "path": network}),
                        json!({"type": "user", "path": theirs[0]}),
                    ]);
                    value["linux"].as_object_mut().unwrap().remove("sysctl");
                    value["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
                },
            );
            let (code, output) = run_directory(&other, &joined).map_err(why).unwrap();
            let parts: Vec<&str> = output.split_whitespace().collect();
            let network = std::fs::read_link(&network).unwrap().display().to_string();
            assert_eq!(parts[..7], ["0", "0", "100000", "65536", &link(pid, "user"), &network, &link(pid, "ipc")], "{output}");
            assert_eq!(code, 0);
        }
        end(&first);
        assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD));
    });
}

#[test]
fn host_namespaces_are_joined_by_a_new_user_namespace() {
    alone("namespaces::host_namespaces_are_joined_by_a_new_user_namespace", || {
        let fixture = Fixture::new();
        let first = holder(&fixture, &shell("exec sleep 100", |_| {}));
        let pid = first.pid.cast_unsigned();
        let other = Fixture::new();
        let spec = shell("id -u; for n in net ipc; do readlink /proc/self/ns/$n; done; cat /proc/uptime", |value| {
            with_maps(value, 0, 65536);
            list(value).retain(|entry| !["network", "ipc"].contains(&entry["type"].as_str().unwrap()));
            list(value).extend([
                json!({"type": "ipc", "path": format!("/proc/{pid}/ns/ipc")}),
                json!({"type": "network", "path": format!("/proc/{pid}/ns/net")}),
            ]);
            list(value).push(json!({"type": "time"}));
            value["linux"]["timeOffsets"] = json!({"boottime": {"secs": 2_000_000_000, "nanosecs": 5}});
            value["linux"].as_object_mut().unwrap().remove("sysctl");
            value["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
        });
        let (code, output) = run(&other, &spec, None, false);
        let wanted = format!("0\n{}\n{}\n20", link(pid, "net"), link(pid, "ipc"));
        assert!(code == 0 && output.starts_with(&wanted), "{output}");
        end(&first);
    });
}

#[test]
fn a_map_needs_no_root() {
    alone("namespaces::a_map_needs_no_root", || {
        let fixture = Fixture::new();
        chown(&fixture, "100000:100000");
        let spec = |uid: u32| {
            shell("id -u; cat /proc/self/uid_map; echo x >/dev/shm/x && stat -c %u /dev/shm/x /bin", |value| {
                with_maps(value, 7, 10);
                value["process"]["user"] = json!({"uid": uid, "gid": 8});
                value["mounts"][2]["options"] = json!(["newinstance", "ptmxmode=0666"]);
            })
        };
        let (code, output) = run_directory(&fixture, &spec(9)).map_err(why).unwrap();
        assert_eq!((code, output.split_whitespace().collect::<Vec<_>>()), (0, vec!["9", "7", "100000", "10", "9", "7"]));
        let error = run_directory(&fixture, &spec(0)).unwrap_err();
        assert_eq!(error.to_string(), "uid 0 is not in the uid map of the container");
    });
}

#[test]
fn wrong_time_offsets_are_named() {
    alone("namespaces::wrong_time_offsets_are_named", || {
        let fixture = Fixture::new();
        for (offsets, own, message) in [
            (json!({"realtime": {"secs": 1}}), true, "linux.timeOffsets has the clock \"realtime\": only monotonic and boottime can be set"),
            (json!({"monotonic": {"nanosecs": 1_000_000_000}}), true, "linux.timeOffsets: 1000000000 nanosecs of \"monotonic\" are a second or more"),
            (json!({"monotonic": {"secs": 1}}), false, "linux.timeOffsets needs a new time namespace"),
            (
                json!({"monotonic": {"secs": -1_000_000_000}}),
                true,
                "linux.timeOffsets would set a clock before 0 or beyond 146 years (time_namespaces(7))",
            ),
        ] {
            let spec = shell("true", |value| {
                value["linux"]["timeOffsets"] = offsets;
                if own {
                    list(value).push(json!({"type": "time"}));
                }
            });
            assert_eq!(refused(&fixture, &spec), message);
        }
    });
}

/// Becomes user 1000 without any right, in a mount namespace where it has the ids from 100000 on.
fn become_nobody(fixture: &Fixture) {
    use rustix::process::{Gid, Uid};
    crate::sys::namespace::unshare(UnshareFlags::NEWNS).unwrap();
    mount_change("/", rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC).unwrap();
    let ranges = fixture.base.join("ranges");
    std::fs::write(&ranges, "1000:100000:65536\n").unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        mount_bind(&ranges, Path::new(file)).unwrap();
    }
    chown(fixture, "1000:1000");
    std::fs::write(&ranges, "1000:100000:65536\n").unwrap();
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(Gid::from_raw(1000), Gid::from_raw(1000), Gid::from_raw(1000)).unwrap();
    rustix::thread::set_thread_res_uid(Uid::from_raw(1000), Uid::from_raw(1000), Uid::from_raw(1000)).unwrap();
    // Only so are the files below /proc of a process that has changed its ids its own.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
}

/// What `spec --rootless` changes.
fn rootless(script: &str, maps: &Value) -> Spec {
    shell(script, |value| {
        list(value).retain(|entry| entry["type"] != "network");
        list(value).push(json!({"type": "user"}));
        value["linux"]["uidMappings"] = maps.clone();
        value["linux"]["gidMappings"] = maps.clone();
        value["linux"].as_object_mut().unwrap().remove("sysctl");
        for mount in value["mounts"].as_array_mut().unwrap() {
            match mount["destination"].as_str().unwrap() {
                "/sys" => {
                    *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
                }
                "/dev/pts" => mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5"),
                _ => {}
            }
        }
    })
}

const SHOW: &str = "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /made && stat -c %u /made; echo x >/dev/null && stat -c %t:%T /dev/null; cat /proc/sys/kernel/hostname; ls /masked";

#[test]
fn an_ordinary_user_maps_its_own_id() {
    alone("namespaces::an_ordinary_user_maps_its_own_id", || {
        let fixture = Fixture::new();
        become_nobody(&fixture);
        let one = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let (code, output) = run_directory(&fixture, &rootless(SHOW, &one)).map_err(why).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!((code, &words[..7]), (0, &["0", "0", "1000", "1", "deny", "0", "1:3"][..]), "{output}");
        assert!(output.ends_with("inside\n"), "{output}");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(fixture.base.join("layer/made")).unwrap().uid(), 1000);
        let mut groups = rootless("true", &one);
        let mut process = groups.process().clone().unwrap();
        process.user_mut().set_additional_gids(Some(vec![0, 5]));
        groups.set_process(Some(process));
        let error = run_directory(&fixture, &groups).unwrap_err();
        assert!(error.to_string().contains("leave out additionalGids"), "{error}");
    });
}

#[test]
fn an_ordinary_user_maps_ranges_with_help() {
    alone("namespaces::an_ordinary_user_maps_ranges_with_help", || {
        let fixture = Fixture::new();
        become_nobody(&fixture);
        let range = json!([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65536}]);
        let (code, output) = run_directory(&fixture, &rootless(SHOW, &range)).map_err(why).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!((code, &words[..10]), (0, &["0", "0", "1000", "1", "1", "100000", "65536", "allow", "0", "1:3"][..]), "{output}");
        let foreign = json!([{"containerID": 0, "hostID": 200_000, "size": 10}]);
        let error = run_directory(&fixture, &rootless("true", &foreign)).unwrap_err().to_string();
        assert!(error.starts_with("newuidmap refused the container's map (the ids must be yours in /etc/subuid): "), "{error}");
    });
}

/// As podman calls its runtime for an ordinary user: as root of a user namespace, in the host's other namespaces.
#[test]
fn exec_leaves_namespaces_of_the_host_alone_that_it_may_not_join() {
    alone("namespaces::exec_leaves_namespaces_of_the_host_alone_that_it_may_not_join", || {
        let fixture = Fixture::new();
        become_nobody(&fixture);
        crate::sys::namespace::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).unwrap();
        for (file, text) in [("setgroups", "deny"), ("gid_map", "0 1000 1"), ("uid_map", "0 1000 1")] {
            std::fs::write(format!("/proc/self/{file}"), text).unwrap();
        }
        let mut spec = rootless("exec sleep 100", &json!([]));
        let mut linux = spec.linux().clone().unwrap();
        let kept = |kind: LinuxNamespaceType| [LinuxNamespaceType::Mount, LinuxNamespaceType::Pid, LinuxNamespaceType::Uts].contains(&kind);
        let list = linux.namespaces().iter().flatten().filter(|entry| kept(entry.typ())).cloned().collect();
        linux.set_namespaces(Some(list)).set_uid_mappings(None).set_gid_mappings(None);
        spec.set_linux(Some(linux));
        let mut process = spec.process().clone().unwrap();
        process.set_cwd("/made/here".into());
        spec.set_process(Some(process));
        let mounts = spec.mounts().iter().flatten().filter(|mount| mount.destination() != Path::new("/dev/mqueue")).cloned().collect();
        spec.set_mounts(Some(mounts));
        let root = Root::Directory(fixture.base.join("layer"));
        let unused = crate::runtime::cgroup::Group::at("/unused");
        let (stdio, _output) = pipes();
        let mut init = init::create(Create::new(&spec, &root, stdio, &unused), None).map_err(why).unwrap();
        init.start().unwrap();
        let (stdio, output) = pipes();
        let show =
            "for n in mnt pid uts ipc; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n differs; done; hostname; exit 3";
        let running = exec(&init, &spec, &["sh", "-c", show], stdio).map_err(why).unwrap();
        assert_eq!((wait(&running.pidfd), text(output).as_str()), (3, "inside\n"));
        end(&init);
    });
}

#[test]
fn root_of_a_user_namespace_needs_no_rights_over_the_mounts() {
    alone("namespaces::root_of_a_user_namespace_needs_no_rights_over_the_mounts", || {
        let fixture = Fixture::new();
        become_nobody(&fixture);
        // As `unshare --user --map-root-user`: all capabilities, but the mount namespace is the host's.
        crate::sys::namespace::unshare(UnshareFlags::NEWUSER).unwrap();
        for (file, text) in [("setgroups", "deny"), ("uid_map", "0 1000 1"), ("gid_map", "0 1000 1")] {
            std::fs::write(format!("/proc/self/{file}"), text).unwrap();
        }
        let one = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let (code, output) = run_directory(&fixture, &rootless(SHOW, &one)).map_err(why).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!((code, &words[..7]), (0, &["0", "0", "0", "1", "deny", "0", "1:3"][..]), "{output}");
    });
}
