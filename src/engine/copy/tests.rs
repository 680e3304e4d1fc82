//! Path rules as a table; packing and unpacking against real directories, hostile ones too.
use super::*;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("rcon-copy-{}", crate::base::random_hex(12)));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn host(path: &Path) -> Source {
    source(&Side::Host, path.as_os_str().as_bytes(), false).unwrap()
}

fn archive_of(path: &Path, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&host(path), name.as_bytes(), None, &|u, g| (u, g), &mut out).unwrap();
    out
}

fn in_root(root: &Path, base: &str, archive: &[u8]) -> std::result::Result<(), CopyError> {
    let fd = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let keep = |u, g| (u, g);
    let scope = Scope::InRoot { root: fd.as_fd(), base: base.as_bytes().to_vec() };
    Unpacker::new(scope, Owner::Keep(&keep)).unpack(&mut &archive[..]).map(drop)
}

fn beneath(dir: &Path, archive: &[u8], owner: Owner<'_>) -> std::result::Result<(), CopyError> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    Unpacker::new(Scope::Beneath { dir }, owner).unpack(&mut &archive[..]).map(drop)
}

/// An archive of our own making, with names that `tar` would refuse to write.
fn crafted(entries: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn typed_paths_are_split_by_dockers_rules() {
    for (text, path, name, directory, contents) in [
        ("/a/b", "/a/b", Some("b"), false, false),
        ("/a/b/", "/a/b", Some("b"), true, false),
        ("/a/b/.", "/a/b", Some("b"), true, true),
        ("/a/./.", "/a", Some("a"), true, true),
        ("/", "/", None, true, true),
        (".", ".", None, true, true),
        ("a", "a", Some("a"), false, false),
        ("/a/..", "/a/..", None, true, true),
        ("/.", "/", None, true, true),
    ] {
        let expected = Typed { path: path.as_bytes(), name: name.map(str::as_bytes), directory, contents };
        assert_eq!(typed(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn destinations_follow_dockers_table() {
    let s = Scratch::new();
    fs::create_dir(s.at("dir")).unwrap();
    fs::write(s.at("file"), "x").unwrap();
    let (file, dir) = (host(&s.at("file")), host(&s.at("dir")));
    let contents = source(&Side::Host, [s.at("dir").as_os_str().as_bytes(), b"/."].concat().as_slice(), false).unwrap();
    let run = |source: &Source, to: &str| {
        let path = s.at(to).into_os_string().into_vec();
        let state = existing(&Side::Host, &path).unwrap();
        plan(&Side::Host, source, &path, state).map(|t| {
            let into = PathBuf::from(std::ffi::OsString::from_vec(t.into));
            (into.strip_prefix(&s.0).unwrap().to_string_lossy().into_owned(), lossy(&t.name))
        })
    };
    let ok = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(run(&file, "dir").ok(), ok("dir", "file"));
    assert_eq!(run(&file, "file").ok(), ok("", "file"));
    assert_eq!(run(&file, "new").ok(), ok("", "new"));
    assert_eq!(run(&file, "new/").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(run(&file, "no/new").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(run(&file, "file/").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(run(&dir, "dir").ok(), ok("dir", "dir"));
    assert_eq!(run(&dir, "new").ok(), ok("", "new"));
    assert_eq!(run(&dir, "new/").ok(), ok("", "new"));
    assert_eq!(run(&dir, "file").unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(run(&contents, "dir").ok(), ok("dir", "."));
    assert_eq!(run(&contents, "new").ok(), ok("", "new"));
}

#[test]
fn a_tree_survives_the_trip() {
    let s = Scratch::new();
    let from = s.at("from");
    let deep = from.join("d".repeat(60)).join("e".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("long"), "deep").unwrap();
    fs::write(from.join("tool"), "bin").unwrap();
    fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(from.join("tool"), from.join("twin")).unwrap();
    symlink("../nowhere", from.join("link")).unwrap();
    symlink("x".repeat(150), from.join("longlink")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 7 },
        last_modification: rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, &deep, &times, rustix::fs::AtFlags::empty()).unwrap();
    let archive = archive_of(&from, "to");
    let keep = |u, g| (u, g);
    beneath(&s.0, &archive, Owner::Keep(&keep)).unwrap();
    let to = s.at("to");
    let deep = to.join("d".repeat(60)).join("e".repeat(60));
    assert_eq!(fs::read_to_string(deep.join("long")).unwrap(), "deep");
    let stat = fs::metadata(&deep).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000_000_000, 123_456_789));
    let tool = fs::metadata(to.join("tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o4755, 2));
    assert_eq!(tool.ino(), fs::metadata(to.join("twin")).unwrap().ino());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("../nowhere"));
    assert_eq!(fs::read_link(to.join("longlink")).unwrap().as_os_str().len(), 150);
    assert!(fs::symlink_metadata(to.join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn set_id_bits_do_not_reach_the_host_with_a_new_owner() {
    let s = Scratch::new();
    fs::write(s.at("su"), "x").unwrap();
    fs::set_permissions(s.at("su"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::create_dir(s.at("out")).unwrap();
    beneath(&s.at("out"), &archive_of(&s.at("su"), "su"), Owner::Fixed(0, 0)).unwrap();
    assert_eq!(fs::metadata(s.at("out/su")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn attributes_travel() {
    let s = Scratch::new();
    fs::write(s.at("f"), "x").unwrap();
    let path = s.at("f");
    if rustix::fs::setxattr(&path, "user.rcon", b"v", rustix::fs::XattrFlags::empty()).is_err() {
        // This file system has none; the copy must still work.
        beneath(&s.0, &archive_of(&path, "g"), Owner::Fixed(0, 0)).unwrap();
        return;
    }
    beneath(&s.0, &archive_of(&path, "g"), Owner::Fixed(0, 0)).unwrap();
    let mut value = [0u8; 8];
    let count = rustix::fs::getxattr(s.at("g"), "user.rcon", &mut value[..]).unwrap();
    assert_eq!(&value[..count], b"v");
}

#[test]
fn hostile_archives_stay_inside() {
    use tar::EntryType::{Link, Regular, Symlink};
    let s = Scratch::new();
    fs::create_dir_all(s.at("root/base")).unwrap();
    fs::create_dir_all(s.at("outside")).unwrap();
    fs::write(s.at("outside/secret"), "secret").unwrap();
    let outside = s.at("outside").to_string_lossy().into_owned();
    assert!(matches!(in_root(&s.at("root"), "/base", &crafted(&[("../x", Regular, "", "x")])), Err(CopyError::Escapes { .. })));
    // A link that leads out, then a file through it: on the host refused, in a container inside its own root.
    let through = crafted(&[("l", Symlink, &outside, ""), ("l/evil", Regular, "", "x")]);
    let fixed = Owner::Fixed(0, 0);
    assert!(matches!(beneath(&s.at("root/base"), &through, fixed), Err(CopyError::NotDirectory { .. })));
    fs::remove_file(s.at("root/base/l")).unwrap();
    assert!(in_root(&s.at("root"), "/base", &through).is_err() || s.at("root").join(&outside[1..]).join("evil").exists());
    assert!(!s.at("outside/evil").exists());
    // Climbing links are clamped at the root.
    symlink("../../../../outside", s.at("root/up")).unwrap();
    fs::create_dir(s.at("root/outside")).unwrap();
    in_root(&s.at("root"), "/up", &crafted(&[("f", Regular, "", "x")])).unwrap();
    assert!(s.at("root/outside/f").exists() && !s.at("outside/f").exists());
    // A hard link to what lies behind a link that leads out.
    let steal = crafted(&[("h", Link, "up/secret", "")]);
    assert!(in_root(&s.at("root"), "/", &steal).is_err());
    assert!(!s.at("root/h").exists());
}

#[test]
fn kinds_are_not_confused() {
    use tar::EntryType::{Char, Directory, Regular};
    let s = Scratch::new();
    fs::create_dir_all(s.at("usr/lib")).unwrap();
    symlink("usr/lib", s.at("lib")).unwrap();
    fs::write(s.at("plain"), "x").unwrap();
    let tree = crafted(&[("lib/", Directory, "", ""), ("lib/x", Regular, "", "new")]);
    in_root(&s.0, "/", &tree).unwrap();
    assert_eq!(fs::read_to_string(s.at("usr/lib/x")).unwrap(), "new");
    assert!(fs::symlink_metadata(s.at("lib")).unwrap().is_symlink());
    assert!(matches!(in_root(&s.0, "/", &crafted(&[("usr", Regular, "", "x")])), Err(CopyError::IsDirectory { .. })));
    assert!(matches!(in_root(&s.0, "/", &crafted(&[("plain/", Directory, "", "")])), Err(CopyError::NotDirectory { .. })));
    // The file beside the refused device is there.
    let device = crafted(&[("null", Char, "", ""), ("beside", Regular, "", "x")]);
    assert!(matches!(beneath(&s.0, &device, Owner::Fixed(0, 0)), Err(CopyError::Devices { .. })));
    assert!(s.at("beside").exists() && !s.at("null").exists());
}

#[test]
fn a_mounted_file_is_written_and_not_unlinked() {
    use crate::sys::private_mounts::PrivateMounts;
    let s = Scratch::new();
    fs::write(s.at("source"), "old").unwrap();
    fs::write(s.at("hosts"), "").unwrap();
    let (dir, source, point) = (s.0.clone(), s.at("source"), s.at("hosts"));
    let mounts = PrivateMounts::assemble(move || -> std::io::Result<OwnedFd> {
        rustix::mount::mount_bind(&source, &point)?;
        Ok(rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?)
    })
    .unwrap();
    let scope = Scope::InRoot { root: mounts.root().as_fd(), base: b"/".to_vec() };
    let archive = crafted(&[("hosts", tar::EntryType::Regular, "", "new")]);
    Unpacker::new(scope, Owner::Fixed(0, 0)).unpack(&mut &archive[..]).unwrap();
    assert_eq!(fs::read_to_string(s.at("source")).unwrap(), "new");
    assert_eq!(fs::read_to_string(s.at("hosts")).unwrap(), "", "the mount is not visible here");
}

#[test]
fn kernel_file_systems_are_not_copied() {
    let mut out = Vec::new();
    let error = pack(&host(Path::new("/proc/self")), b"self", None, &|u, g| (u, g), &mut out).unwrap_err();
    assert!(matches!(error, CopyError::KernelFiles { .. }));
}
