//! What the mounts of a config come to in the kernel, read back from the container's own mount table.

use super::super::{Create, Error, Init, Root, Stdio};
use super::{Fixture, alone, config, exec, init, mapped, pipes, text, wait};
use crate::base::ErrorKind;
use crate::sys::namespace::unshare;
use oci_spec::runtime::Spec;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};
use std::path::Path;

/// A fixture in a mount namespace of this test, whose mounts go before its directories.
struct Private(Fixture);

impl std::ops::Deref for Private {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        while unmount(&self.base, UnmountFlags::DETACH).is_ok() || unmount(self.base.join("source"), UnmountFlags::DETACH).is_ok() {}
        unmount(self.base.join("source/sub"), UnmountFlags::DETACH).ok();
    }
}

fn private() -> Private {
    unshare(UnshareFlags::NEWNS | UnshareFlags::FS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.base.join("source")).unwrap();
    std::fs::create_dir_all(fixture.base.join("layer/made/here")).unwrap();
    std::fs::create_dir(fixture.base.join("source/sub")).unwrap();
    Private(fixture)
}

fn tmpfs(at: &Path) {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
}

fn create(fixture: &Fixture, spec: &Spec, no_pivot: bool, stdio: Stdio) -> Result<Init, Error> {
    let root = Root::Directory(fixture.base.join("layer"));
    let unused = crate::runtime::cgroup::Group::absent();
    init::create(Create { bundle: Some(&fixture.base), no_pivot, ..Create::new(spec, &root, stdio, &unused) }, None)
}

fn run_at(fixture: &Fixture, spec: &Spec, no_pivot: bool) -> String {
    let (stdio, output) = pipes();
    let mut init = create(fixture, spec, no_pivot, stdio).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
    init.start().unwrap();
    let output = text(output);
    assert_eq!(wait(&init.pidfd), 0, "{output}");
    output
}

fn run(fixture: &Fixture, spec: &Spec) -> String {
    run_at(fixture, spec, false)
}

/// Why it cannot be created.
fn refused(fixture: &Fixture, spec: &Spec) -> Error {
    let (stdio, _output) = pipes();
    create(fixture, spec, false, stdio).err().expect("a refusal")
}

/// A container with more mounts, that runs a script.
fn with(mounts: &Value, script: &str) -> Spec {
    config(&["sh", "-c", script], |value| {
        value["process"]["cwd"] = json!("/");
        value["mounts"].as_array_mut().unwrap().extend(mounts.as_array().unwrap().iter().cloned());
    })
}

/// Attributes, optional fields and super block options of the topmost mount on `target`.
fn entry(table: &str, target: &str) -> [String; 3] {
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(target)).unwrap_or_else(|| panic!("no {target} in {table}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let left: Vec<&str> = left.split(' ').collect();
    [left[5].to_owned(), left[6..].join(","), right.rsplit(' ').next().unwrap().to_owned()]
}

/// Every word is in its field; with "!" before it, it is not. A word that ends with ":" is a beginning.
fn check(found: &[String; 3], wanted: &[&str; 3], of: &str) {
    for (field, words) in found.iter().zip(wanted) {
        for word in words.split_whitespace() {
            let (word, there) = word.strip_prefix('!').map_or((word, true), |word| (word, false));
            let is = field.split(',').any(|found| found == word || word.ends_with(':') && found.starts_with(word));
            assert_eq!(is, there, "{of}: \"{word}\" in {found:?}");
        }
    }
}

/// True if something is mounted where only the host has a directory.
fn shows_host(table: &str) -> bool {
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| point.starts_with("/run") || point.starts_with("/tmp"))
}

const SHOW: &str = "cat /proc/self/mountinfo";

#[test]
fn each_option_is_in_the_mount_table() {
    alone("mounts::each_option_is_in_the_mount_table", || {
        let fixture = private();
        tmpfs(&fixture.base.join("source"));
        mount_change(fixture.base.join("source"), MountPropagationFlags::SHARED).unwrap();
        let cases: [(&str, &str, [&str; 3]); 32] = [
            ("bind", "bind", ["rw relatime", "!shared: !master:", "!sync"]),
            ("bind", "bind,ro", ["ro", "", "rw"]),
            ("bind", "bind,nosuid,nodev,noexec", ["nosuid nodev noexec", "", ""]),
            ("bind", "bind,nosuid,suid,nodev,dev,noexec,exec,ro,rw", ["rw !nosuid !nodev !noexec", "", ""]),
            ("bind", "bind,noatime", ["noatime !relatime", "", ""]),
            ("bind", "bind,noatime,relatime", ["relatime !noatime", "", ""]),
            ("bind", "bind,strictatime", ["!relatime !noatime", "", ""]),
            ("bind", "bind,nodiratime", ["nodiratime relatime", "", ""]),
            ("bind", "bind,nosymfollow", ["nosymfollow", "", ""]),
            ("bind", "rbind,rro,rnosuid,rnodev,rnoexec", ["ro nosuid nodev noexec", "", ""]),
            ("bind", "rbind,rnoatime,rnodiratime,rnosymfollow", ["noatime nodiratime nosymfollow", "", ""]),
            ("bind", "rbind,rnoatime,rrelatime,rro,rrw", ["rw relatime", "", ""]),
            ("bind", "rbind,rstrictatime", ["!relatime !noatime", "", ""]),
            ("none", "bind,sync,dirsync,lazytime,mand,silent,loud,defaults,async", ["rw", "", "!sync !dirsync !lazytime"]),
            ("bind", "bind,private", ["rw", "!shared: !master: !unbindable", ""]),
            ("bind", "bind,shared", ["rw", "shared: !master:", ""]),
            ("bind", "bind,slave", ["rw", "master: !shared:", ""]),
            ("bind", "bind,slave,shared", ["rw", "master: shared:", ""]),
            ("bind", "rbind,rprivate,runbindable", ["rw", "unbindable", ""]),
            ("bind", "bind,ro,rslave", ["ro", "master:", ""]),
            ("tmpfs", "sync", ["rw", "", "rw sync"]),
            ("tmpfs", "dirsync,nolazytime,async", ["rw", "", "dirsync !sync"]),
            ("tmpfs", "lazytime", ["rw", "", "lazytime"]),
            ("tmpfs", "mand", ["rw", "", "mand"]),
            ("tmpfs", "mand,nomand,lazytime,nolazytime", ["rw", "", "!mand !lazytime"]),
            ("tmpfs", "ro,noexec", ["ro noexec", "", ""]),
            ("tmpfs", "rro,rnosuid,nodev,noatime", ["ro nosuid nodev noatime", "", ""]),
            ("tmpfs", "size=64k,nr_inodes=10,mode=700,uid=5,gid=6,huge=never", ["rw", "", "size=64k nr_inodes=10 mode=700 uid=5 gid=6"]),
            ("tmpfs", "iversion,sync,noexec,size=64k", ["noexec", "", "sync size=64k"]),
            ("tmpfs", "shared", ["rw", "shared:", ""]),
            ("devpts", "newinstance,ptmxmode=0640,mode=600,gid=5", ["rw", "", "gid=5 mode=600 ptmxmode=640"]),
            ("proc", "hidepid=2,subset=pid,nosuid", ["nosuid", "", "hidepid=invisible subset=pid"]),
        ];
        let mounts: Vec<Value> = cases
            .iter()
            .enumerate()
            .map(|(index, (kind, options, _))| {
                let options: Vec<&str> = options.split(',').collect();
                let source = if options.iter().any(|option| option.ends_with("bind")) { "source" } else { *kind };
                json!({"destination": format!("/m{index}"), "type": kind, "source": source, "options": options})
            })
            .collect();
        let table = run(&fixture, &with(&json!(mounts), SHOW));
        for (index, (kind, options, wanted)) in cases.iter().enumerate() {
            check(&entry(&table, &format!("/m{index}")), wanted, &format!("{kind} {options}"));
        }
    });
}

#[test]
fn recursive_options_reach_submounts_and_others_do_not() {
    alone("mounts::recursive_options_reach_submounts_and_others_do_not", || {
        let fixture = private();
        tmpfs(&fixture.base.join("source/sub"));
        let bind = |name: &str, options: &str| json!({"destination": name, "type": "bind", "source": "source", "options": options.split(',').collect::<Vec<_>>()});
        let mounts = json!([
            bind("/top", "rbind,ro"),
            bind("/all", "rbind,rro"),
            bind("/sub", "rbind,rro,rw"),
            bind("/one", "bind,rro"),
            bind("/atime", "rbind,rnoatime,strictatime"),
        ]);
        let table = run(&fixture, &with(&mounts, SHOW));
        for (target, wanted) in [("/top", "ro"), ("/top/sub", "rw"), ("/all", "ro"), ("/all/sub", "ro"), ("/sub", "rw"), ("/sub/sub", "ro")] {
            check(&entry(&table, target), &[wanted, "", ""], target);
        }
        check(&entry(&table, "/atime"), &["!noatime !relatime", "", ""], "/atime");
        check(&entry(&table, "/atime/sub"), &["noatime", "", ""], "/atime/sub");
        assert!(!table.contains(" /one/sub "), "{table}");
    });
}

#[test]
fn mounts_are_made_in_order_and_remounted() {
    alone("mounts::mounts_are_made_in_order_and_remounted", || {
        let fixture = private();
        std::fs::write(fixture.base.join("source/file"), "first").unwrap();
        std::fs::create_dir(fixture.base.join("other")).unwrap();
        std::fs::write(fixture.base.join("other/file"), "second").unwrap();
        std::os::unix::fs::symlink("/etc/../data", fixture.base.join("layer/way")).unwrap();
        std::os::unix::fs::symlink("/proc/sys", fixture.base.join("layer/trap")).unwrap();
        let mounts = json!([
            {"destination": "/data", "type": "bind", "source": "source", "options": ["bind"]},
            {"destination": "data", "type": "none", "source": "./other", "options": ["bind"]},
            {"destination": "/way/../t/", "type": "tmpfs", "options": ["size=64k", "nosuid"]},
            {"destination": "/t", "type": "tmpfs", "options": ["remount", "ro", "size=128k", "sync"]},
            {"destination": "/way/below", "type": "tmpfs", "options": ["noexec"]},
            {"destination": "/way", "options": ["bind", "remount", "ro", "nodev"]},
        ]);
        let output = run(&fixture, &with(&mounts, "cat /data/file; echo; cat /proc/self/mountinfo"));
        assert!(output.starts_with("second\n"), "{output}");
        check(&entry(&output, "/t"), &["ro nosuid", "", "ro sync size=128k"], "/t");
        check(&entry(&output, "/data"), &["ro nodev", "", "!sync"], "/data");
        check(&entry(&output, "/data/below"), &["rw noexec", "", ""], "/data/below");
        let trap = json!([{"destination": "/trap/kernel", "type": "bind", "source": "other", "options": ["bind"]}]);
        let error = refused(&fixture, &with(&trap, "true"));
        assert!(error.to_string().contains("\"/trap/kernel\" is not allowed: a link leads into /proc"), "{error}");
        let nothing = json!([{"destination": "/ro", "type": "tmpfs", "options": ["remount", "ro"]}]);
        let error = refused(&fixture, &with(&nothing, "true"));
        assert!(error.to_string().starts_with("cannot remount /ro"), "{error}");
    });
}

#[test]
fn the_unified_hierarchy_can_be_mounted_alone() {
    alone("mounts::the_unified_hierarchy_can_be_mounted_alone", || {
        let fixture = private();
        let mounts = json!([
            {"destination": "/v2", "type": "cgroup2", "source": "cgroup", "options": ["ro", "nosuid", "shared"]},
            // On a mount that waits for the groups: it waits, too.
            {"destination": "/v2", "options": ["bind", "remount", "noexec"]},
        ]);
        let table = run(&fixture, &with(&mounts, SHOW));
        check(&entry(&table, "/v2"), &["ro nosuid noexec", "shared:", ""], "/v2");
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some("/v2")).unwrap();
        assert!(line.contains(" / /v2 ") && line.contains(" - cgroup2 "), "its own group: {line}");
    });
}

#[test]
fn what_a_file_system_refuses_is_named() {
    alone("mounts::what_a_file_system_refuses_is_named", || {
        let fixture = private();
        for (mount, message) in [
            (
                json!({"destination": "/x", "type": "tmpfs", "options": ["colour=red"]}),
                "cannot mount tmpfs on /x with option \"colour=red\" (tmpfs: Unknown parameter 'colour')",
            ),
            (json!({"destination": "/x", "type": "tmpfs", "options": ["size=much"]}), "cannot mount tmpfs on /x with option \"size=much\""),
            (json!({"destination": "/x", "type": "nofs"}), "cannot mount nofs on /x"),
            (json!({"destination": "/x", "type": "bind", "source": "absent", "options": ["bind"]}), "bind source path does not exist: "),
            (
                json!({"destination": "/x", "type": "bind", "source": "/sys", "options": ["bind", "idmap"],
                    "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
                "option \"idmap\" of mount \"/x\" for /sys by this kernel or the file system that holds it is not supported",
            ),
        ] {
            let error = refused(&fixture, &with(&json!([mount]), "true"));
            assert!(error.to_string().starts_with(message), "{message}: {error}");
        }
    });
}

#[test]
fn long_values_go_by_the_older_call() {
    alone("mounts::long_values_go_by_the_older_call", || {
        let fixture = private();
        let deep = fixture.base.join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "deep").unwrap();
        let lower = format!("lowerdir={}:{}", deep.display(), fixture.base.join("source").display());
        let mounts = json!([{"destination": "/o", "type": "overlay", "source": "overlay", "options": [lower, "ro"]}]);
        assert_eq!(run(&fixture, &with(&mounts, "cat /o/file")), "deep");
    });
}

#[test]
fn a_tmpfs_takes_after_what_it_covers() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    alone("mounts::a_tmpfs_takes_after_what_it_covers", || {
        let fixture = private();
        let data = fixture.base.join("layer/data");
        std::fs::create_dir_all(data.join("deep")).unwrap();
        std::fs::write(data.join("deep/file"), "content").unwrap();
        symlink("deep/file", data.join("link")).unwrap();
        chown(&data, Some(7), Some(8)).unwrap();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o2755)).unwrap();
        let tmpfs = |name: &str, options: &[&str]| json!({"destination": name, "type": "tmpfs", "options": options});
        let mounts = json!([tmpfs("/data", &["tmpcopyup", "ro", "size=1m"]), tmpfs("/ro", &[]), tmpfs("/new", &[]), tmpfs("/mode", &["mode=711"])]);
        let script = "cat /data/link; echo; stat -c '%a %u %g' /data; touch /data/x || echo read-only; stat -c %a /ro /new /mode";
        let output = run(&fixture, &with(&mounts, script));
        let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("touch")).collect();
        assert_eq!(lines, ["content", "2755 7 8", "read-only", "755", "1777", "711"], "{output}");
        let mounts = json!([tmpfs("/data", &["tmpcopyup", "mode=707", "uid=3"])]);
        assert_eq!(run(&fixture, &with(&mounts, "stat -c '%a %u %g' /data; echo y >/data/deep/file")), "707 3 8\n");
        assert_eq!(std::fs::read_to_string(data.join("deep/file")).unwrap(), "content");
        assert_eq!(std::fs::metadata(&data).unwrap().uid(), 7);
        let copy_up = json!([{"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "size=4k", "nr_inodes=2"]}]);
        let error = refused(&fixture, &with(&copy_up, "true"));
        assert!(error.to_string().ends_with("(option \"tmpcopyup\" of mount \"/data\")"), "{error}");
    });
}

#[test]
fn owners_are_mapped_by_the_mounts_own_maps() {
    use std::os::unix::fs::{MetadataExt, chown};
    alone("mounts::owners_are_mapped_by_the_mounts_own_maps", || {
        let fixture = private();
        tmpfs(&fixture.base.join("source/sub"));
        let (file, below) = (fixture.base.join("source/file"), fixture.base.join("source/sub/file"));
        for path in [&file, &below] {
            std::fs::write(path, "").unwrap();
            chown(path, Some(5), Some(6)).unwrap();
        }
        let mount = |name: &str, option: &str| {
            json!({"destination": name, "type": "bind", "source": "source", "options": ["rbind", option],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}], "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 10}]})
        };
        let mounts = json!([mount("/one", "idmap"), mount("/all", "ridmap"), mount("/plain", "rprivate")]);
        let script = "stat -c '%u %g' /one/file /one/sub/file /all/file /all/sub/file /plain/file; touch /one/new || echo nobody";
        let output = run(&fixture, &with(&mounts, script));
        let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("touch")).collect();
        // Maps of a mount count without the option, too; submounts only with "ridmap".
        assert_eq!(lines, ["1005 2006", "5 6", "1005 2006", "1005 2006", "1005 2006", "nobody"], "{output}");
        // In a user namespace, whose id 0 is the host's 100000: what is 5 on disk is the container's 5, too.
        let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        let spec = mapped("stat -c '%u %g' /own/file /explicit/file; touch /explicit/new", |value| {
            let bind = |name: &str, maps: Option<&Value>| {
                let mut mount = json!({"destination": name, "type": "bind", "source": fixture.base.join("source"), "options": ["bind", "idmap"]});
                if let Some(maps) = maps {
                    mount["uidMappings"] = maps.clone();
                    mount["gidMappings"] = maps.clone();
                }
                mount
            };
            value["mounts"].as_array_mut().unwrap().extend([bind("/own", None), bind("/explicit", Some(&maps))]);
            value["process"]["capabilities"]["effective"] = json!(["CAP_DAC_OVERRIDE"]);
        });
        let (code, output) = super::run(&fixture, &spec, None, false);
        assert_eq!((code, output.as_str()), (0, "5 6\n5 6\n"));
        assert_eq!(std::fs::metadata(fixture.base.join("source/new")).unwrap().uid(), 0);
        assert_eq!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD), "no child of id maps is left");
    });
}

/// A running container whose root is on a shared mount.
fn sleeper(fixture: &Fixture, propagation: &str) -> (Init, Spec) {
    let spec = config(&["sleep", "100"], |value| {
        value["process"]["cwd"] = json!("/");
        value["linux"]["rootfsPropagation"] = json!(propagation);
    });
    let (stdio, _output) = pipes();
    let mut init = create(fixture, &spec, false, stdio).unwrap();
    init.start().unwrap();
    (init, spec)
}

#[test]
fn roots_hear_of_the_hosts_mounts_as_they_should() {
    alone("mounts::roots_hear_of_the_hosts_mounts_as_they_should", || {
        let fixture = private();
        let base = &fixture.base;
        mount(base.as_path(), base, "", MountFlags::BIND, None).unwrap();
        mount_change(base, MountPropagationFlags::SHARED).unwrap();
        let later = base.join("layer/masked");
        let host = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains("/layer")).count();
        for (propagation, optional, hears) in [
            ("", "!shared: !master: !unbindable", false),
            ("private", "!shared: !master: !unbindable", false),
            ("rprivate", "!shared: !master: !unbindable", false),
            ("slave", "master: !shared:", true),
            ("rslave", "master: !shared:", true),
            ("shared", "master: shared:", true),
            ("rshared", "master: shared:", true),
            ("unbindable", "unbindable !master:", false),
            ("runbindable", "unbindable !master:", false),
        ] {
            let (init, spec) = sleeper(&fixture, propagation);
            assert_eq!(host(), 0, "{propagation}: the container's mounts are not the host's");
            let late = base.join("layer/ro/late");
            std::fs::create_dir_all(&late).unwrap();
            tmpfs(&late);
            let (stdio, output) = pipes();
            let running = exec(&init, &spec, &["sh", "-c", SHOW], stdio).unwrap();
            let table = text(output);
            wait(&running.pidfd);
            unmount(&late, UnmountFlags::DETACH).unwrap();
            check(&entry(&table, "/"), &["rw", optional, ""], propagation);
            // Under the read-only cover of /ro only the root's own mount hears.
            let heard = table.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| point.ends_with("/late")));
            assert_eq!(heard, hears, "{propagation}: {table}");
            rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
            wait(&init.pidfd);
        }
        assert!(later.exists());
    });
}

#[test]
fn a_root_in_a_user_namespace_is_no_peer_of_the_hosts() {
    alone("mounts::a_root_in_a_user_namespace_is_no_peer_of_the_hosts", || {
        let fixture = private();
        let base = &fixture.base;
        mount(base.as_path(), base, "", MountFlags::BIND, None).unwrap();
        mount_change(base, MountPropagationFlags::SHARED).unwrap();
        let bare = |change: fn(&mut Value)| {
            mapped("id -u; cat /proc/self/mountinfo; touch /x || echo denied", |value| {
                value["process"]["cwd"] = json!("/");
                change(value);
            })
        };
        // The root is the host's, not the container's: what is missing cannot be made.
        let error = refused(&fixture, &bare(|_| {}));
        assert!(error.to_string().contains("the root belongs to an id outside of linux.uidMappings"), "{error}");
        for name in ["proc", "dev", "sys"] {
            std::fs::create_dir(base.join("layer").join(name)).unwrap();
        }
        let output = run(&fixture, &bare(|_| {}));
        check(&entry(&output, "/"), &["rw", "!shared: !master:", ""], "/");
        assert!(output.starts_with("0\n") && output.ends_with("denied\n"), "{output}");
        let output = run(&fixture, &bare(|value| value["linux"]["rootfsPropagation"] = json!("rslave")));
        check(&entry(&output, "/"), &["rw", "master: !shared:", ""], "/");
    });
}

#[test]
fn a_root_can_be_moved_instead_of_pivoted_to() {
    alone("mounts::a_root_can_be_moved_instead_of_pivoted_to", || {
        let fixture = private();
        for (spec, overlay) in [
            (with(&json!([]), "ls /; ls /..; cat /proc/self/mountinfo; cat /file"), false),
            (with(&json!([]), "ls /; cat /proc/self/mountinfo; cat /file"), true),
        ] {
            let output = if overlay {
                let (stdio, output) = pipes();
                let (root, unused) = (fixture.root(), crate::runtime::cgroup::Group::absent());
                let mut init = init::create(Create { no_pivot: true, ..Create::new(&spec, &root, stdio, &unused) }, None).unwrap();
                init.start().unwrap();
                let output = text(output);
                assert_eq!(wait(&init.pidfd), 0, "{output}");
                output
            } else {
                run_at(&fixture, &spec, true)
            };
            assert!(!shows_host(&output) && !output.contains("secret") && !output.contains("\nhome\n"), "{output}");
            assert_eq!(output.lines().filter(|line| line.contains(" - proc ") && line.contains(" /proc rw")).count(), 1, "{output}");
        }
        let spec = mapped("ls /; cat /proc/self/mountinfo", |_| {});
        let (stdio, output) = pipes();
        let (root, unused) = (fixture.root(), crate::runtime::cgroup::Group::absent());
        let mut init = init::create(Create { no_pivot: true, ..Create::new(&spec, &root, stdio, &unused) }, None).unwrap();
        init.start().unwrap();
        let output = text(output);
        assert_eq!(wait(&init.pidfd), 0, "{output}");
    });
}

#[test]
fn without_a_mount_namespace_the_root_is_changed() {
    alone("mounts::without_a_mount_namespace_the_root_is_changed", || {
        let fixture = private();
        let spec = config(&["sh", "-c", "pwd; echo /*; exec sleep 100"], |value| {
            value["process"]["cwd"] = json!("/etc");
            value["mounts"] = json!([]);
            value["linux"] = json!({"namespaces": [{"type": "pid"}, {"type": "uts"}]});
        });
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (stdio, output) = pipes();
        let mut init = create(&fixture, &spec, false, stdio).unwrap();
        init.start().unwrap();
        let (stdio, inside) = pipes();
        // Joining a mount namespace leads to its own root (mntns_install(), fs/namespace.c): not here.
        let running = exec(&init, &spec, &["sh", "-c", "pwd; echo /*"], stdio).unwrap();
        assert_eq!((wait(&running.pidfd), text(inside)), (0, "/made/here\n/bin /dev /etc /file /made /masked /ro\n".to_owned()));
        // It has said all once it sleeps.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(format!("/proc/{}/comm", init.pid)).unwrap() != "sleep\n" && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL).unwrap();
        wait(&init.pidfd);
        assert_eq!(text(output), "/etc\n/bin /dev /etc /file /made /masked /ro\n");
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    });
}

#[test]
fn a_mount_namespace_is_joined_but_never_our_own() {
    alone("mounts::a_mount_namespace_is_joined_but_never_our_own", || {
        let fixture = private();
        let joined = |path: String| {
            config(&["sh", "-c", "cat /proc/self/mountinfo; ls /proc/1/ns >/dev/null; readlink /proc/self/ns/mnt; cat /kept/file"], |value| {
                value["process"]["cwd"] = json!("/");
                value["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"destination": "/kept", "type": "bind", "source": "source", "options": ["rbind"]}));
                value["linux"]["namespaces"][0] = json!({"type": "mount", "path": path});
            })
        };
        let error = refused(&fixture, &joined("/proc/self/ns/mnt".to_owned()));
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("is the runtime's own"), "{error}");
        let spec = mapped("true", |value| value["linux"]["namespaces"][0] = json!({"type": "mount", "path": "/proc/self/ns/mnt"}));
        let error = refused(&fixture, &spec).to_string();
        assert!(error.contains("together with a new user namespace"), "{error}");
        // A namespace with something in it that ours does not have; its holder says when it is there, and ends with us.
        let script = format!("mount -t tmpfs x {0} && echo there >{0}/file && echo ready && exec cat", fixture.base.join("source").display());
        let mut holder = std::process::Command::new("unshare");
        let mut holder =
            holder.args(["--mount", "sh", "-c", &script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut word = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
        let path = format!("/proc/{}/ns/mnt", holder.id());
        let name = std::fs::read_link(&path).unwrap();
        let output = run(&fixture, &joined(path));
        assert!(output.ends_with(&format!("{}\nthere\n", name.display())) && !shows_host(&output), "{output}");
        holder.kill().unwrap();
        holder.wait().unwrap();
    });
}

#[test]
fn devices_are_as_configured_and_a_read_only_dev_is_sealed_last() {
    alone("mounts::devices_are_as_configured_and_a_read_only_dev_is_sealed_last", || {
        let fixture = private();
        let spec = config(
            &["sh", "-c", "stat -c '%n %F %a %u %g %t:%T' /dev/null /dev/pipe /dev/sub/blk /nod; readlink /dev/core; touch /dev/x || true"],
            |value| {
                value["process"]["cwd"] = json!("/");
                value["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
                value["linux"]["devices"] = json!([
                    {"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6},
                    {"path": "/dev/sub/blk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600, "gid": 6},
                    {"path": "/nod", "type": "u", "major": 1, "minor": 3},
                    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622},
                ]);
            },
        );
        let output = run(&fixture, &spec);
        let wanted = "/dev/null character special file 622 0 0 1:3\n/dev/pipe fifo 640 5 6 0:0\n/dev/sub/blk block special file 600 0 6 7:c8\n\
            /nod character special file 666 0 0 1:3\n/proc/kcore\ntouch: /dev/x: Read-only file system\n";
        assert_eq!(output, wanted);
        let below = fixture.base.join("layer/dev");
        assert!(std::fs::read_dir(below).unwrap().next().is_none(), "nothing is made under the tmpfs");
        std::fs::write(fixture.base.join("layer/taken"), "").unwrap();
        let spec = config(&["true"], |value| value["linux"]["devices"] = json!([{"path": "/taken", "type": "p"}]));
        assert!(refused(&fixture, &spec).to_string().starts_with("cannot make device /taken"));
    });
}
