//! Volumes: bind, named with copy-up, anonymous, `--volumes-from`, tmpfs.

use crate::environment::Environment;
use crate::outcome::eventually;

#[test]
fn binds_are_created_by_v_and_refused_by_mount() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "./made:/m", "busybox", "touch", "/m/x"]).ok();
    assert!(engine.root.join("made/x").exists());
    engine.rcon(&["run", "--rm", "-v", "./made:/m:ro", "busybox", "touch", "/m/y"]).fails(1, "Read-only");
    std::fs::write(engine.root.join("file"), "text").unwrap();
    let path = engine.root.join("file");
    let mount = format!("type=bind,src={},dst=/etc/passwd,readonly", path.display());
    assert_eq!(engine.rcon(&["run", "--rm", "--mount", &mount, "busybox", "cat", "/etc/passwd"]).ok(), "text");
}

#[test]
fn a_directory_that_is_gone_is_in_the_way_of_relative_sources_only() {
    let engine = Environment::new();
    let gone = engine.root.join("gone");
    std::fs::create_dir(&gone).unwrap();
    let from_there = |source: &str| {
        let volume = format!("{source}:/v");
        let command = engine.command(&["run", "--rm", "-v", &volume, "busybox", "echo", "ran"]);
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg("mkdir -p \"$0\" && cd \"$0\" && rmdir \"$0\" && exec \"$@\"").arg(&gone).arg(command.get_program());
        shell.args(command.get_args()).output().unwrap()
    };
    assert_eq!(from_there("named").stdout, b"ran\n");
    assert_eq!(from_there(engine.root.to_str().unwrap()).stdout, b"ran\n");
    let refused = from_there("./here");
    assert!(refused.status.code() == Some(125) && String::from_utf8_lossy(&refused.stderr).contains("current directory"), "{refused:?}");
}

#[test]
fn a_named_volume_keeps_data_and_starts_with_the_images() {
    let engine = Environment::new();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "home:/home", "busybox", "stat", "-c", "%u", "/home/example"]).ok(), "1000");
    engine.rcon(&["run", "--rm", "-v", "home:/x", "busybox", "touch", "/x/kept"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "home:/home", "busybox", "ls", "/home"]).ok(), "example\nkept");
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "bare:/home:nocopy", "busybox", "ls", "/home"]).ok(), "");
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "bare\nhome");
    engine.rcon(&["create", "--name", "user", "-v", "home:/h", "busybox"]).ok();
    engine.rcon(&["volume", "rm", "home"]).fails(1, "in use");
    engine.rcon(&["rm", "user"]).ok();
    assert_eq!(engine.rcon(&["volume", "rm", "home"]).ok(), "home");
}

#[test]
fn volumes_from_shares_all_and_clamps() {
    let engine = Environment::new();
    engine.rcon(&["create", "--name", "data", "-v", "/anon", "-v", "named:/named:ro", "-v", "./bind:/bind", "--tmpfs", "/tmpfs", "busybox"]).ok();
    engine.rcon(&["run", "--rm", "--volumes-from", "data", "busybox", "sh", "-c", "echo 1 > /anon/f; echo 2 > /bind/f"]).ok();
    let out =
        engine.rcon(&["run", "--rm", "--volumes-from", "data", "busybox", "sh", "-c", "cat /anon/f /bind/f; ls -d /tmpfs 2>&1; touch /named/x 2>&1"]);
    assert!(out.out.starts_with("1\n2\n") && out.out.contains("/tmpfs: No such") && out.out.contains("Read-only"), "{}", out.out);
    engine.rcon(&["run", "--rm", "--volumes-from", "data:ro", "busybox", "touch", "/anon/g"]).fails(1, "Read-only");
    engine.rcon(&["rm", "data"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok().lines().count(), 2, "rm without -v keeps volumes");
}

#[test]
fn anonymous_volumes_live_as_long_as_their_users() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "/a", "busybox", "touch", "/a/x"]).ok();
    eventually("--rm removes them", || engine.rcon(&["volume", "ls", "-q"]).out.is_empty());
    engine.rcon(&["create", "--name", "one", "-v", "/a", "busybox"]).ok();
    engine.rcon(&["create", "--name", "two", "--volumes-from", "one", "busybox"]).ok();
    engine.rcon(&["rm", "-v", "one"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok().lines().count(), 1, "still used");
    engine.rcon(&["rm", "-v", "two"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn create_inspect_prune() {
    let engine = Environment::empty();
    assert_eq!(engine.rcon(&["volume", "create", "--label", "a=b", "vol"]).ok(), "vol");
    assert_eq!(engine.rcon(&["volume", "create", "vol"]).ok(), "vol");
    assert_eq!(engine.rcon(&["volume", "inspect", "-f", "{{.Name}} {{index .Labels \"a\"}} {{.Driver}}", "vol"]).ok(), "vol b local");
    let anonymous = engine.rcon(&["volume", "create"]).ok();
    assert_eq!(anonymous.len(), 64);
    assert!(engine.rcon(&["volume", "prune", "-f"]).ok().contains(&anonymous));
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "vol");
    engine.rcon(&["volume", "prune", "-a", "-f"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn an_image_and_parts_of_volumes_are_mounted() {
    let engine = Environment::new();
    let image = "type=image,source=busybox,target=/image";
    let script = "ls /image/bin/busybox; touch /image/x 2>&1; ls /part";
    let part = "type=image,source=busybox,target=/part,image-subpath=home";
    let done = engine.rcon(&["run", "--name", "images", "--mount", image, "--mount", part, "busybox", "sh", "-c", script]);
    assert!(done.out.starts_with("/image/bin/busybox\n") && done.out.contains("Read-only") && done.out.ends_with("example\n"), "{done:?}");
    assert_eq!(engine.see("images", "{{(index .Mounts 0).Type}}"), "image");
    let writable = format!("{image},rw=true");
    engine.rcon(&["create", "--name", "writable", "--mount", &writable, "busybox", "sh", "-c", "ls /image/x 2>&1; touch /image/x"]).ok();
    for _ in 0..2 {
        let done = engine.rcon(&["start", "-a", "writable"]);
        assert!(done.code == 0 && done.out.contains("No such file"), "changes end with the container: {done:?}");
    }
    engine
        .rcon(&["run", "--rm", "--mount", "type=image,source=busybox,target=/i,image-subpath=none", "busybox"])
        .fails(125, "\"none\" does not exist");
    engine.rcon(&["run", "--rm", "-v", "vol:/v", "busybox", "mkdir", "-p", "/v/a/b"]).ok();
    engine.rcon(&["run", "--rm", "-v", "vol:/v", "busybox", "ln", "-s", "/../../../etc", "/v/link"]).ok();
    let ls = |path: &str| engine.rcon(&["run", "--rm", "--mount", &format!("source=vol,target=/v,volume-subpath={path}"), "busybox", "ls", "/v"]);
    assert_eq!(ls("a").ok(), "b");
    ls("none").fails(125, "\"none\" does not exist");
    ls("link").fails(125, "\"link\" does not exist");
    engine.rcon(&["rm", "images", "writable"]).ok();
}

#[test]
fn an_overlay_keeps_changes_apart_and_a_chown_gives_files_away() {
    let engine = Environment::new();
    let source = engine.root.join("src");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("sub/file"), "text").unwrap();
    let at = |options: &str| format!("{}:/m:{options}", source.display());
    engine.rcon(&["create", "--name", "over", "-v", &at("O"), "busybox", "sh", "-c", "cat /m/sub/file; ls /m; touch /m/new; rm -r /m/sub"]).ok();
    for _ in 0..2 {
        assert_eq!(engine.rcon(&["start", "-a", "over"]).ok(), "textsub");
    }
    eventually("what was kept apart is dropped", || {
        let id = engine.see("over", "{{.Id}}");
        !engine.root.join("data/containers").join(id).join("overlays").exists()
    });
    assert_eq!(std::fs::read(source.join("sub/file")).unwrap(), b"text");
    engine.rcon(&["rm", "over"]).ok();
    use std::os::unix::fs::MetadataExt;
    let owner = |path: &std::path::Path| std::fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    engine.rcon(&["run", "--rm", "-u", "1000:1001", "-v", &at("U"), "busybox", "touch", "/m/mine"]).ok();
    for name in ["", "mine", "sub", "sub/file"] {
        assert_eq!(owner(&source.join(name)), (1000, 1001), "{name}");
    }
    engine.rcon(&["run", "--rm", "-u", "1000", "-v", "/etc:/m:U", "busybox", "true"]).fails(125, "everything in /etc");
    // Shown as another owner's, written as the first one's.
    let shown =
        engine.rcon(&["run", "--rm", "-u", "33:33", "-v", &at("uid=33,gid=33"), "busybox", "sh", "-c", "stat -c %u:%g /m /m/sub/file; touch /m/too"]);
    assert_eq!(shown.ok(), "33:33\n33:33");
    assert_eq!(owner(&source.join("too")), (1000, 1001));
    let maps = at("idmap=uids=1000-5-1;gids=1001-6-1");
    assert_eq!(engine.rcon(&["run", "--rm", "-v", &maps, "busybox", "stat", "-c", "%u:%g", "/m/too"]).ok(), "5:6");
}

#[test]
fn what_is_below_a_read_only_bind() {
    let engine = Environment::new();
    let source = engine.root.join("src");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    rustix::mount::mount("tmpfs", source.join("sub"), "tmpfs", rustix::mount::MountFlags::empty(), c"").unwrap();
    let mounted = Mounted(source.join("sub"));
    let run = |more: &str| {
        let mount = format!("type=bind,src={},dst=/m,readonly{more}", source.display());
        engine.rcon(&["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", "touch /m/sub/x && rm /m/sub/x"])
    };
    run("").fails(1, "Read-only");
    run(",bind-propagation=rprivate,bind-recursive=readonly").fails(1, "Read-only");
    run(",bind-recursive=writable").ok();
    run(",bind-recursive=disabled").fails(1, "Read-only");
    let mount = format!("type=bind,src={},dst=/m,bind-recursive=disabled", source.display());
    assert_eq!(engine.rcon(&["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", "touch /m/sub/x; grep -c ' /m' /proc/mounts"]).ok(), "1");
    drop(mounted);
    assert!(source.join("sub/x").exists());
}

/// Unmounted also when the test fails.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_directory_made_for_a_socket_is_warned_of() {
    let engine = Environment::new();
    let done = engine.rcon(&["run", "--rm", "-v", "./x.sock:/s", "-v", "./plain:/p", "busybox", "true"]);
    assert!(done.code == 0 && done.err.contains("x.sock did not exist") && !done.err.contains("plain"), "{done:?}");
}

#[test]
fn volumes_with_options_are_mounted_while_they_are_used() {
    let engine = Environment::new();
    let memory = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1777", "memory"];
    engine.rcon(&memory).ok();
    let place = engine.root.join("run/volumes/memory");
    engine.rcon(&["run", "-d", "--name", "one", "-v", "memory:/m", "busybox", "sh", "-c", "echo shared >/m/f; sleep 600"]).ok();
    eventually("both see the same files", || engine.rcon(&["run", "--rm", "-v", "memory:/m", "busybox", "cat", "/m/f"]).out == "shared\n");
    assert!(place.join("f").exists());
    let small = engine.rcon(&["exec", "one", "sh", "-c", "dd if=/dev/zero of=/m/big bs=1k count=2000 2>&1; grep ' /m ' /proc/mounts"]);
    assert!(small.out.contains("No space left") && small.out.contains("size=1024k"), "{small:?}");
    engine.rcon(&["rm", "-f", "one"]).ok();
    eventually("the last user takes it down", || !place.exists());
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "memory:/m", "busybox", "ls", "/m"]).ok(), "");
    eventually("and so does the next", || !place.exists());
    let device = engine.root.join("device");
    std::fs::create_dir(&device).unwrap();
    std::fs::write(device.join("here"), "x").unwrap();
    let option = format!("device={}", device.display());
    engine.rcon(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &option, "bound"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "bound:/home", "busybox", "ls", "/home"]).ok(), "here");
    engine.rcon(&["volume", "rm", "bound"]).ok();
    assert!(device.join("here").exists(), "what is not ours stays");
    engine.rcon(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/none", "bound"]).ok();
    engine.rcon(&["run", "--rm", "-v", "bound:/m", "busybox", "true"]).fails(125, "the volume's device does not exist: /none");
    engine.rcon(&["volume", "create", "-o", "o=uid=7,gid=8", "owned"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "owned:/m", "busybox", "stat", "-c", "%u:%g", "/m"]).ok(), "7:8");
    let inline = "type=volume,source=inline,target=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
    assert!(engine.rcon(&["run", "--rm", "--mount", inline, "busybox", "cat", "/proc/mounts"]).ok().contains("tmpfs /m tmpfs"));
    for (options, message) in [
        (&["-o", "type=ext4"][..], "device"),
        (&["-o", "x=1"], "invalid option \"x\""),
        (&["-o", "size=1g"], "quotas"),
        (&["-o", "type=nope", "-o", "device=x"], ""),
    ] {
        let done = engine.rcon(&[&["volume", "create"], options, &["bad"]].concat());
        if message.is_empty() {
            done.ok();
            engine.rcon(&["run", "--rm", "-v", "bad:/m", "busybox", "true"]).fails(125, "the kernel has no file system \"nope\"");
        } else {
            done.fails(1, message);
        }
    }
}

#[test]
fn export_import_clone_and_exists() {
    let engine = Environment::new();
    engine
        .rcon(&[
            "run",
            "--rm",
            "-v",
            "one:/v",
            "busybox",
            "sh",
            "-c",
            "mkdir /v/sub && echo text >/v/sub/f && chown 7:8 /v/sub/f && ln -s f /v/sub/link",
        ])
        .ok();
    engine.rcon(&["volume", "export", "-o", "one.tar", "one"]).ok();
    engine.rcon(&["volume", "import", "two", "one.tar"]).fails(1, "volume: two");
    engine.rcon(&["volume", "create", "two"]).ok();
    engine.rcon(&["volume", "import", "two", "one.tar"]).ok();
    assert_eq!(engine.rcon(&["volume", "clone", "one", "three"]).ok(), "three");
    for name in ["two", "three"] {
        let volume = format!("{name}:/v");
        let seen = engine.rcon(&["run", "--rm", "-v", &volume, "busybox", "sh", "-c", "cat /v/sub/link; stat -c %u:%g /v/sub/f"]);
        assert_eq!(seen.ok(), "text\n7:8", "{name}");
    }
    engine.rcon(&["volume", "clone", "one", "two"]).fails(1, "exists already");
    engine.rcon(&["volume", "clone", "none", "four"]).fails(1, "none");
    assert_eq!((engine.rcon(&["volume", "exists", "one"]).code, engine.rcon(&["volume", "exists", "four"]).code), (0, 1));
    // An archive that leads out of the volume.
    let evil = engine.root.join("evil");
    std::fs::create_dir(&evil).unwrap();
    std::os::unix::fs::symlink("/", evil.join("way")).unwrap();
    let tar = |args: &[&str]| assert!(std::process::Command::new("tar").current_dir(&evil).args(args).status().unwrap().success());
    tar(&["-cf", "../evil.tar", "way"]);
    std::fs::remove_file(evil.join("way")).unwrap();
    std::fs::create_dir(evil.join("way")).unwrap();
    let name = format!("rcon-escaped-{}", std::process::id());
    std::fs::write(evil.join("way").join(&name), "x").unwrap();
    tar(&["-rf", "../evil.tar", &format!("way/{name}")]);
    let done = engine.rcon(&["volume", "import", "two", "evil.tar"]);
    assert!(!std::path::Path::new("/").join(&name).exists(), "{done:?}");
}

#[test]
fn a_clone_that_is_killed_leaves_nothing_that_counts() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "one:/v", "busybox", "touch", "/v/f"]).ok();
    for point in ["copied", "renamed"] {
        let mut command = engine.command(&["volume", "clone", "one", "two"]);
        command.env("RCON_FAILPOINT", format!("engine.volume.clone.{point}=kill"));
        assert!(!command.status().unwrap().success(), "{point}");
        assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "one", "{point}");
    }
    engine.rcon(&["volume", "clone", "one", "two"]).ok();
    assert_eq!(engine.rcon(&["run", "--rm", "-v", "two:/v", "busybox", "ls", "/v"]).ok(), "f");
    let hidden = std::fs::read_dir(engine.root.join("data/volumes")).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn prune_knows_when_a_volume_was_used() {
    let engine = Environment::new();
    engine.rcon(&["run", "--rm", "-v", "used:/v", "busybox", "true"]).ok();
    engine.rcon(&["volume", "create", "--label", "keep=1", "-o", "uid=5", "old"]).ok();
    engine.rcon(&["volume", "prune", "-a", "-f", "--filter", "unused-for=1h"]).ok();
    engine.rcon(&["volume", "prune", "-a", "-f", "--filter", "unused-for=x"]).fails(1, "unused-for=x");
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "old\nused");
    assert_eq!(engine.rcon(&["volume", "ls", "-q", "--filter", "opt=uid"]).ok(), "old");
    assert_eq!(engine.rcon(&["volume", "ls", "-q", "--filter", "label!=keep"]).ok(), "used");
    assert_eq!(engine.rcon(&["volume", "ls", "-q", "--filter", "until=24h"]).ok(), "");
    engine.rcon(&["volume", "prune", "-a", "-f", "--filter", "unused-for=0", "--filter", "label!=keep"]).ok();
    assert_eq!(engine.rcon(&["volume", "ls", "-q"]).ok(), "old");
}
