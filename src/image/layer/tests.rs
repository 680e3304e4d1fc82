//! Layers that lie, and layers that need the ones below. Runs as root (devices, owners, trusted xattrs).
use super::tar::Reader;
use super::tree::OPAQUE_XATTR;
use super::*;
use ::tar::{Builder, EntryType, Header};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory of its own on the data filesystem (trusted xattrs need a real one), removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rcon-layer-{}", crate::base::random_hex(12)));
        fs::create_dir_all(path.join("diff")).unwrap();
        Scratch(path)
    }
    fn diff(&self) -> PathBuf {
        self.0.join("diff")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A tar written field by field, so that it may say anything.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Tar(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        // Written raw: set_path refuses what these tests are about.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, data)
    }

    fn dir(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", 0o755, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().map(|(k, v)| (*k, *v))).unwrap();
        self
    }

    fn unpack(self, into: &Path) -> Result<Unpacked, UnpackError> {
        let bytes = self.0.into_inner().unwrap();
        unpack(&mut Reader::new(bytes.as_slice()), into)
    }
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::lgetxattr(path, OPAQUE_XATTR, &mut value).is_ok() && value == *b"y"
}

#[test]
fn nothing_escapes_through_links_or_names() {
    let scratch = Scratch::new();
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    for tar in [
        Tar::new().symlink("d", "d").file("d/f", b"x"),
        Tar::new().symlink("d", "../f").file("f", b"x").file("d/f", b"x"),
        Tar::new().file("../outside/f", b"x"),
        Tar::new().file("a/../../outside/f", b"x"),
        Tar::new().hard("h", "../outside/secret"),
        Tar::new().symlink(".", target),
        Tar::new().file("d/.wh..", b""),
        Tar::new().add(EntryType::Regular, "d/.wh.", "", 0o644, b""),
    ] {
        let diff = scratch.0.join(crate::base::random_hex(8));
        fs::create_dir(&diff).unwrap();
        assert!(tar.unpack(&diff).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    // Through a link chain, a hard link names the link itself, and writing replaces it.
    fs::write(outside.join("secret"), b"secret").unwrap();
    let secret = outside.join("secret");
    let tar = Tar::new().symlink("l", secret.to_str().unwrap()).hard("h", "l").file("h", b"new").file("/abs", b"in");
    tar.unpack(&scratch.diff()).unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(fs::read(scratch.diff().join("h")).unwrap(), b"new");
    assert_eq!(fs::read(scratch.diff().join("abs")).unwrap(), b"in");
    assert!(fs::symlink_metadata(scratch.diff().join("l")).unwrap().is_symlink());
}

#[test]
fn names_beneath_links_go_where_these_lead_inside_the_layer() {
    let scratch = Scratch::new();
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let inside = target.trim_start_matches('/');
    let merged = || Tar::new().dir("usr").dir("usr/lib").symlink("lib", "usr/lib");
    for (tar, wanted) in [
        (merged().file("lib/f", b"x"), "usr/lib/f"),
        (merged().dir("lib/sub").file("lib/sub/f", b"x").file("lib/sub/g", b"y"), "usr/lib/sub/f"),
        (merged().symlink("a", "/lib").file("a/f", b"x"), "usr/lib/f"),
        (Tar::new().symlink("d", target).file("d/f", b"x"), &format!("{inside}/f")),
        (Tar::new().symlink("d", "../../outside").file("d/f", b"x"), "outside/f"),
        (Tar::new().symlink("d", "../outside").dir("d/f"), "outside/f"),
        (merged().file("lib/g", b"x").hard("f", "lib/g"), "f"),
        (merged().file("usr/lib/g", b"x").hard("lib/f", "lib/g"), "usr/lib/f"),
        (merged().file("lib/f", b"before").file("usr/lib/f", b"x"), "usr/lib/f"),
    ] {
        let diff = scratch.0.join(crate::base::random_hex(8));
        fs::create_dir(&diff).unwrap();
        tar.unpack(&diff).unwrap();
        let found = diff.join(wanted);
        assert!(found.is_dir() || fs::read(&found).unwrap() == b"x", "{wanted}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
    let diff = scratch.diff();
    merged().file("lib/.wh.gone", b"").file("lib/.wh..wh..opq", b"").unpack(&diff).unwrap();
    assert!(is_whiteout(&diff.join("usr/lib/gone")) && is_opaque(&diff.join("usr/lib")));
}

#[test]
fn a_hard_link_through_a_link_stays_in_the_layer() {
    let scratch = Scratch::new();
    let outside = scratch.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"s").unwrap();
    let unpacked = Tar::new().symlink("d", "../outside").hard("h", "d/secret").unpack(&scratch.diff()).unwrap();
    assert_eq!(unpacked.fixups.links, [(b"h".to_vec(), b"outside/secret".to_vec())]);
    assert!(apply_fixups(&unpacked.fixups, &scratch.diff(), &[]).is_err());
    assert!(!scratch.diff().join("h").exists());
}

#[test]
fn whiteouts_take_overlay_form() {
    let scratch = Scratch::new();
    let diff = scratch.diff();
    let tar = Tar::new()
        .file("a/.wh.gone", b"")
        .dir("b")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"n")
        .file(".wh.c", b"")
        .dir("c")
        .dir("d")
        .file(".wh.d", b"")
        .file("e", b"kept")
        .file(".wh.e", b"")
        .file("a/.wh..wh.plnk", b"");
    tar.unpack(&diff).unwrap();
    assert!(is_whiteout(&diff.join("a/gone")));
    assert!(is_opaque(&diff.join("b")) && diff.join("b/new").exists());
    assert!(!diff.join("b/.wh..wh..opq").exists() && !diff.join("a/.wh..wh.plnk").exists());
    assert!(is_opaque(&diff.join("c")) && is_opaque(&diff.join("d")));
    assert_eq!(fs::read(diff.join("e")).unwrap(), b"kept");
}

#[test]
fn metadata_survives() {
    let scratch = Scratch::new();
    let diff = scratch.diff();
    let capability = [1, 0, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .dir("t")
        .add(EntryType::Directory, "sgid", "", 0o2775, b"")
        .pax(&[("uid", b"1000"), ("gid", b"1001"), ("mtime", b"1700000000.123456789"), ("SCHILY.xattr.user.k", b"v\n1")])
        .add(EntryType::Regular, "t/suid", "", 0o4755, b"x")
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
        .file("sgid/cap", b"y")
        .add(EntryType::Fifo, "fifo", "", 0o600, b"")
        .file("long", b"l");
    let unpacked = tar.unpack(&diff).unwrap();
    let suid = fs::metadata(diff.join("t/suid")).unwrap();
    assert_eq!((suid.mode() & 0o7777, suid.uid(), suid.gid()), (0o4755, 1000, 1001));
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (1_700_000_000, 123_456_789));
    assert_eq!(fs::metadata(diff.join("t")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(diff.join("sgid")).unwrap().mode() & 0o7777, 0o2775);
    assert_eq!(fs::metadata(diff.join("sgid/cap")).unwrap().gid(), 0);
    let mut value = [0u8; 64];
    assert_eq!(rustix::fs::lgetxattr(diff.join("t/suid"), "user.k", &mut value), Ok(3));
    assert_eq!(rustix::fs::lgetxattr(diff.join("sgid/cap"), "security.capability", &mut value), Ok(20));
    assert!(rustix::fs::lgetxattr(diff.join("sgid/cap"), "trusted.overlay.redirect", &mut value).is_err());
    assert!(fs::metadata(diff.join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!((unpacked.size, unpacked.entries), (3, 6));
}

#[test]
fn files_and_directories_replace_each_other() {
    let scratch = Scratch::new();
    let diff = scratch.diff();
    let tar = Tar::new().file("a/deep/f", b"1").file("a", b"2").file("b", b"3").dir("b").file("b/x", b"4").dir("b").file("c", b"5").file("c", b"66");
    tar.unpack(&diff).unwrap();
    assert_eq!(fs::read(diff.join("a")).unwrap(), b"2");
    assert_eq!(fs::read(diff.join("b/x")).unwrap(), b"4");
    assert_eq!(fs::read(diff.join("c")).unwrap(), b"66");
}

#[test]
fn layers_below_complete_what_the_tar_leaves_out() {
    let scratch = Scratch::new();
    let base = scratch.0.join("base");
    fs::create_dir(&base).unwrap();
    let lower = Tar::new().add(EntryType::Directory, "d", "", 0o1777, b"").file("d/old", b"old").file("d/gone", b"g").dir("./");
    lower.unpack(&base).unwrap();
    let middle = scratch.0.join("middle");
    fs::create_dir(&middle).unwrap();
    let unpacked = Tar::new().file("d/.wh.gone", b"").unpack(&middle).unwrap();
    apply_fixups(&unpacked.fixups, &middle, std::slice::from_ref(&base)).unwrap();
    let diff = scratch.diff();
    let unpacked = Tar::new().file("d/new", b"n").hard("other/link", "d/old").unpack(&diff).unwrap();
    apply_fixups(&unpacked.fixups, &diff, &[middle.clone(), base.clone()]).unwrap();
    let directory = fs::metadata(diff.join("d")).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o1777, 1_000_000_000));
    assert_eq!(fs::read(diff.join("other/link")).unwrap(), b"old");
    assert_eq!(fs::metadata(diff.join("d/old")).unwrap().ino(), fs::metadata(diff.join("other/link")).unwrap().ino());
    let gone = scratch.0.join("gone");
    fs::create_dir(&gone).unwrap();
    let unpacked = Tar::new().hard("l", "d/gone").unpack(&gone).unwrap();
    assert!(apply_fixups(&unpacked.fixups, &gone, &[middle, base]).is_err());
}

#[test]
fn deep_paths_are_entered_and_left() {
    let scratch = Scratch::new();
    let diff = scratch.diff();
    let deep = |levels: usize, name: &str| format!("{}{name}", "d/".repeat(levels));
    let mut tar = Tar::new();
    for levels in [400, 49, 48, 47, 399, 100, 101, 2, 300] {
        let name = deep(levels, &format!("f{levels}"));
        tar = tar.pax(&[("path", name.as_bytes())]).file("x", name.as_bytes());
    }
    tar.unpack(&diff).unwrap();
    for levels in [400, 49, 48, 47, 399, 100, 101, 2, 300] {
        let name = deep(levels, &format!("f{levels}"));
        assert_eq!(fs::read(diff.join(&name)).unwrap(), name.as_bytes());
    }
    let name = deep(501, "f");
    assert!(matches!(Tar::new().pax(&[("path", name.as_bytes())]).file("x", b"").unpack(&diff), Err(UnpackError::Limit { .. })));
}

#[test]
fn sparse_files_keep_their_holes() {
    let scratch = Scratch::new();
    let mut data = b"2\n0\n3\n1048576\n2\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"abcde");
    let records: [(&str, &[u8]); 4] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"s"), ("GNU.sparse.realsize", b"2097152")];
    Tar::new().pax(&records).file("GNUSparseFile.0/s", &data).file("after", b"z").unpack(&scratch.diff()).unwrap();
    let file = fs::metadata(scratch.diff().join("s")).unwrap();
    assert_eq!(file.len(), 2_097_152);
    assert!(file.blocks() * 512 < 100_000);
    let content = fs::read(scratch.diff().join("s")).unwrap();
    assert_eq!((&content[..4], &content[1_048_576..1_048_579]), (&b"abc\0"[..], &b"de\0"[..]));
    assert_eq!(fs::read(scratch.diff().join("after")).unwrap(), b"z");
}

#[test]
fn unpacks_what_tar_unpacks() {
    let scratch = Scratch::new();
    let source = scratch.0.join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    let long = "n".repeat(200);
    fs::write(source.join(&long), b"long name").unwrap();
    fs::write(source.join("deep/er/big"), vec![7u8; 700_000]).unwrap();
    fs::hard_link(source.join("deep/er/big"), source.join("zz-hard")).unwrap();
    std::os::unix::fs::symlink("deep/er", source.join("link")).unwrap();
    for format in ["gnu", "pax"] {
        let archive = scratch.0.join("layer.tar");
        let diff = scratch.0.join(format);
        let peer = scratch.0.join(format!("peer-{format}"));
        fs::create_dir(&diff).unwrap();
        fs::create_dir(&peer).unwrap();
        let run = |arguments: &[&std::ffi::OsStr]| assert!(std::process::Command::new("tar").args(arguments).status().unwrap().success());
        let form = format!("--format={format}");
        run(&["-C".as_ref(), source.as_ref(), form.as_ref(), "-cf".as_ref(), archive.as_ref(), ".".as_ref()]);
        run(&["-C".as_ref(), peer.as_ref(), "-xf".as_ref(), archive.as_ref()]);
        let file = std::io::BufReader::new(fs::File::open(&archive).unwrap());
        unpack(&mut Reader::new(file), &diff).unwrap();
        let listing = |root: &Path| {
            let command = "find . -printf '%P %y %m %U %G %s %l %n %T@\\n' | sort; find . -type f -exec sha256sum {} + | sort";
            let output = std::process::Command::new("sh").arg("-c").arg(command).current_dir(root).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            // Directory sizes are the filesystem's own.
            text.lines().filter(|line| !line.contains(" d ")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(listing(&diff), listing(&peer));
    }
}
