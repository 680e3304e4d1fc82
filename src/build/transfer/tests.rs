//! Selections and copies with real trees. The tests run as root.

use super::*;
use crate::base::{ErrorKind, random_hex};
use crate::build::context::Ignore;
use crate::image::Limits;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A directory with a context `c` and a root `r`.
struct Bench {
    base: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.base).unwrap();
    }
}

impl Bench {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("rcon-transfer-{}", random_hex(8)));
        fs::create_dir_all(base.join("c")).unwrap();
        fs::create_dir_all(base.join("r")).unwrap();
        Bench { base }
    }

    /// Files by name with their data; a name with a slash at its end is a directory, `a -> b` a link.
    fn with(files: &[&str]) -> Self {
        let bench = Self::new();
        for file in files {
            bench.make("c", file);
        }
        bench
    }

    fn make(&self, tree: &str, file: &str) {
        let top = self.base.join(tree);
        let path = top.join(file.split(" -> ").next().unwrap());
        fs::create_dir_all(if file.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        match file.split_once(" -> ") {
            Some((_, target)) => symlink(target, path).unwrap(),
            None if file.ends_with('/') => {}
            None => fs::write(path, file).unwrap(),
        }
    }

    fn c(&self, path: &str) -> PathBuf {
        self.base.join("c").join(path)
    }

    fn r(&self, path: &str) -> PathBuf {
        self.base.join("r").join(path)
    }

    fn select(&self, ignore: &str, typed: &[&str], change: impl Fn(&mut Selection<'_>)) -> Result<Selected> {
        let ignore = Ignore::parse(ignore.as_bytes(), ".dockerignore").unwrap();
        let sources: Vec<Vec<u8>> = typed.iter().map(|text| text.as_bytes().to_vec()).collect();
        let root = fs::File::open(self.base.join("c")).unwrap();
        let mut selection =
            Selection { instruction: "COPY", place: "the build context", sources: &sources, parents: false, exclude: &[], keep_owner: false };
        change(&mut selection);
        select(root.as_fd(), Some(&ignore), &selection)
    }

    fn apply(&self, selected: &Selected, destination: &str, chown: Option<&str>, chmod: Option<&str>) -> Result<()> {
        let root = fs::File::open(self.base.join("r")).unwrap();
        let chmod = chmod.map(ModeChange::parse).transpose()?;
        let target = Target { root: root.as_fd(), destination: destination.as_bytes(), accounts: root.as_fd(), chown, chmod: chmod.as_ref() };
        apply(selected, &target)
    }

    fn copy(&self, typed: &[&str], destination: &str) -> Result<()> {
        self.apply(&self.select("", typed, |_| {})?, destination, None, None)
    }

    /// Everything in the root, sorted: directories end with a slash, links show their target.
    fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.base.join("r"), &self.base.join("r"), &mut found);
        found.sort();
        found
    }

    fn key(&self, typed: &[&str]) -> crate::oci::Digest {
        self.select("", typed, |_| {}).unwrap().digest(&mut Memo::forgetful()).unwrap()
    }
}

fn list(top: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = String::from_utf8_lossy(path.strip_prefix(top).unwrap().as_os_str().as_bytes()).into_owned();
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_symlink() {
            found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else if stat.is_dir() {
            found.push(format!("{name}/"));
            list(top, &path, found);
        } else {
            found.push(name);
        }
    }
}

fn set_time(path: &Path, seconds: u64) {
    fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn sources_and_destinations_follow_the_rules() {
    const FILES: &[&str] = &["a", "b.txt", "c.txt", "d/x", "d/e/y", "d/l -> ../a", "dl -> d", "al -> /d/x", "up -> ../../../d"];
    for (sources, destination, expected) in [
        (&["a"][..], "/f", &["f"][..]),
        (&["a"], "/new/f", &["new/", "new/f"]),
        (&["a"], "/new/", &["new/", "new/a"]),
        (&["/a"], "/", &["a"]),
        (&["../../a"], "/", &["a"]),
        (&["./d/../a"], "/", &["a"]),
        (&["*.txt"], "/t/", &["t/", "t/b.txt", "t/c.txt"]),
        (&["b*"], "/t", &["t"]),
        (&["a", "nothing*"], "/t/", &["t/", "t/a"]),
        (&["d"], "/n", &["n/", "n/e/", "n/e/y", "n/l -> ../a", "n/x"]),
        (&["d/"], "/n/", &["n/", "n/e/", "n/e/y", "n/l -> ../a", "n/x"]),
        (&["dl"], "/n", &["n/", "n/e/", "n/e/y", "n/l -> ../a", "n/x"]),
        (&["up/e"], "/n", &["n/", "n/y"]),
        (&["al"], "/n/", &["n/", "n/al"]),
        (&["d/*"], "/n/", &["n/", "n/l", "n/x", "n/y"]),
        (&["*/e"], "/n/", &["n/", "n/y"]),
        (&["d/l"], "/n/", &["n/", "n/l"]),
        (&["[a-b]*"], "/n/", &["n/", "n/a", "n/al", "n/b.txt"]),
        (&["."], "/", &["a", "al -> /d/x", "b.txt", "c.txt", "d/", "d/e/", "d/e/y", "d/l -> ../a", "d/x", "dl -> d", "up -> ../../../d"]),
    ] {
        let bench = Bench::with(FILES);
        bench.copy(sources, destination).unwrap_or_else(|e| panic!("{sources:?} {destination}: {e}"));
        assert_eq!(bench.tree(), expected, "{sources:?} {destination}");
    }
    let bench = Bench::with(FILES);
    bench.copy(&["al"], "/n").unwrap();
    assert_eq!(fs::read_to_string(bench.r("n")).unwrap(), "d/x", "an absolute link is one within the context");
}

#[test]
fn ignored_files_are_not_there() {
    const FILES: &[&str] = &["a", "d/keep/k", "d/x", "d/y.log", "e/z"];
    for (ignore, sources, expected) in [
        ("d", &["."][..], &["a", "e/", "e/z"][..]),
        ("d\n!d/keep", &["."], &["a", "d/", "d/keep/", "d/keep/k", "e/", "e/z"]),
        ("d\n!d/keep", &["d"], &["keep/", "keep/k"]),
        ("d\n!d/none", &["."], &["a", "e/", "e/z"]),
        ("*\n!e", &["."], &["e/", "e/z"]),
        ("**/*.log", &["d"], &["keep/", "keep/k", "x"]),
        ("a\ne", &["*"], &["keep/", "keep/k", "x", "y.log"]),
        ("d/*", &["."], &["a", "d/", "e/", "e/z"]),
    ] {
        let bench = Bench::with(FILES);
        let selected = bench.select(ignore, sources, |_| {}).unwrap();
        bench.apply(&selected, "/", None, None).unwrap();
        assert_eq!(bench.tree(), expected, "{ignore:?} {sources:?}");
    }
    let bench = Bench::with(FILES);
    for (ignore, source, expected) in [
        ("# no\nq\na", "a", "COPY a: not found in the build context; it is excluded by line 3 of .dockerignore"),
        ("d", "d/x", "COPY d/x: not found in the build context; it is excluded by line 1 of .dockerignore"),
        ("d\n!d/none", "d", "COPY d: not found in the build context; it is excluded by line 1 of .dockerignore"),
        ("", "d/keap", "COPY d/keap: not found in the build context; did you mean \"d/keep\"?"),
        ("", "nope", "COPY nope: not found in the build context"),
        ("", "a/b", "COPY a/b: not found in the build context"),
        ("", "no*", "COPY no*: not found in the build context: the pattern matches nothing"),
    ] {
        assert_eq!(bench.select(ignore, &[source], |_| {}).unwrap_err().to_string(), expected);
    }
    assert!(matches!(bench.select("", &["[a"], |_| {}), Err(Error::Pattern { .. })));
}

#[test]
fn parents_and_exclude_choose() {
    const FILES: &[&str] = &["x/y/a.c", "x/y/b.h", "x/z/c.c", "x/z/deep/d.c", "top.c", "q/"];
    for (sources, parents, exclude, expected) in [
        (&["./x/./y/*.c"][..], true, &[][..], &["p/", "p/y/", "p/y/a.c"][..]),
        (&["x/y/a.c", "top.c"], true, &[], &["p/", "p/top.c", "p/x/", "p/x/y/", "p/x/y/a.c"]),
        (&["**/*.c"], true, &[], &["p/", "p/top.c", "p/x/", "p/x/y/", "p/x/y/a.c", "p/x/z/", "p/x/z/c.c", "p/x/z/deep/", "p/x/z/deep/d.c"]),
        (&["x/z"], true, &["**/deep"], &["p/", "p/x/", "p/x/z/", "p/x/z/c.c"]),
        (&["x"], false, &["y"], &["p/", "p/z/", "p/z/c.c", "p/z/deep/", "p/z/deep/d.c"]),
        (&["x"], false, &["**/*.c"], &["p/", "p/y/", "p/y/b.h", "p/z/", "p/z/deep/"]),
        (&["x/*/*"], false, &["*.c"], &["p/", "p/b.h"]),
        (&["x/y/*"], false, &["*.h"], &["p/", "p/a.c"]),
    ] {
        let bench = Bench::with(FILES);
        let exclude: Vec<Vec<u8>> = exclude.iter().map(|text| text.as_bytes().to_vec()).collect();
        let sources_typed: Vec<Vec<u8>> = sources.iter().map(|text| text.as_bytes().to_vec()).collect();
        let root = fs::File::open(bench.base.join("c")).unwrap();
        let selection =
            Selection { instruction: "COPY", place: "the build context", sources: &sources_typed, parents, exclude: &exclude, keep_owner: false };
        let selected = select(root.as_fd(), None, &selection).unwrap();
        bench.apply(&selected, "/p/", None, None).unwrap();
        assert_eq!(bench.tree(), expected, "{sources:?} {exclude:?}");
    }
    let bench = Bench::with(FILES);
    let error = bench.select("", &["x/y/none.c"], |selection| selection.parents = true).unwrap_err();
    assert_eq!(error.to_string(), "COPY x/y/none.c: not found in the build context");
}

#[test]
fn modes_times_owners_and_links_survive() {
    let bench = Bench::with(&["d/f", "d/sub/g", "d/sl -> nowhere"]);
    fs::hard_link(bench.c("d/f"), bench.c("d/sub/second")).unwrap();
    fs::set_permissions(bench.c("d/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(bench.c("d/sub"), fs::Permissions::from_mode(0o2710)).unwrap();
    fs::set_permissions(bench.c("d"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bench.c("d/sub"), Some(7), Some(8)).unwrap();
    fs::set_permissions(bench.c("d/sub"), fs::Permissions::from_mode(0o2710)).unwrap();
    rustix::fs::setxattr(bench.c("d/f"), "user.note", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    // VFS_CAP_REVISION_2 with CAP_NET_RAW.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(bench.c("d/f"), "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bench.c("d/fifo"), FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o622), 0).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.c("d/null"),
        FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.c("d/socket")).unwrap();
    for path in ["d/f", "d/sub/g", "d/sub"] {
        set_time(&bench.c(path), 1_000_000_000);
    }
    bench.copy(&["d"], "/new").unwrap();
    assert_eq!(bench.tree(), ["new/", "new/f", "new/fifo", "new/null", "new/sl -> nowhere", "new/sub/", "new/sub/g", "new/sub/second"]);
    assert_eq!((mode(&bench.r("new")), mode(&bench.r("new/sub")), mode(&bench.r("new/f"))), (0o755, 0o2710, 0o4751));
    let [f, second, sub] = ["new/f", "new/sub/second", "new/sub"].map(|path| fs::metadata(bench.r(path)).unwrap());
    assert_eq!((f.ino(), f.nlink()), (second.ino(), 2));
    assert_eq!((f.mtime(), f.mtime_nsec(), sub.mtime(), sub.uid(), sub.gid()), (1_000_000_000, 123_456_789, 1_000_000_000, 0, 0));
    assert!(fs::symlink_metadata(bench.r("new/null")).unwrap().file_type().is_char_device());
    assert!(fs::symlink_metadata(bench.r("new/fifo")).unwrap().file_type().is_fifo());
    let mut value = [0u8; 64];
    assert_eq!(rustix::fs::getxattr(bench.r("new/f"), "user.note", &mut value[..]).unwrap(), 1);
    let length = rustix::fs::getxattr(bench.r("new/f"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
    let kept = bench.select("", &["d"], |selection| selection.keep_owner = true).unwrap();
    bench.apply(&kept, "/kept", None, None).unwrap();
    assert_eq!(fs::metadata(bench.r("kept/sub")).unwrap().gid(), 8);
}

#[test]
fn owners_and_modes_are_set() {
    let bench = Bench::with(&["d/f", "d/run", "d/sub/g", "d/l -> f"]);
    fs::create_dir(bench.r("etc")).unwrap();
    fs::write(bench.r("etc/passwd"), "web:x:33:34::/:\n").unwrap();
    fs::set_permissions(bench.c("d/run"), fs::Permissions::from_mode(0o700)).unwrap();
    let selected = bench.select("", &["d"], |_| {}).unwrap();
    bench.apply(&selected, "/a/b", Some("web"), Some("u=rwX,go=rX")).unwrap();
    for (path, expected) in [("a", 0o755), ("a/b", 0o755), ("a/b/f", 0o644), ("a/b/run", 0o755), ("a/b/sub", 0o755), ("a/b/sub/g", 0o644)] {
        let stat = fs::metadata(bench.r(path)).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (expected, 33, 34), "{path}");
    }
    assert_eq!(fs::symlink_metadata(bench.r("a/b/l")).unwrap().uid(), 33);
    bench.apply(&selected, "/o", None, Some("600")).unwrap();
    assert_eq!((mode(&bench.r("o")), mode(&bench.r("o/sub")), mode(&bench.r("o/f"))), (0o755, 0o600, 0o600));
    let error = bench.apply(&selected, "/x", Some("nobody"), None).unwrap_err();
    assert_eq!(error.to_string(), "--chown=nobody: there is no user \"nobody\" in /etc/passwd of the image: add it before, or name it by number");
    assert!(!bench.r("x").exists());
}

#[test]
fn what_exists_is_merged_replaced_or_in_the_way() {
    let bench = Bench::with(&["d/f", "d/sub/g", "file"]);
    for file in ["t/old", "t/f", "t/sub/old", "busy/f/inner", "link -> /real", "real/", "hang -> /to/come", "flink -> /real/target"] {
        bench.make("r", file);
    }
    fs::set_permissions(bench.r("t"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(bench.c("d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(bench.c("d/sub"), fs::Permissions::from_mode(0o701)).unwrap();
    bench.copy(&["d"], "/t").unwrap();
    assert_eq!(fs::read_to_string(bench.r("t/f")).unwrap(), "d/f");
    assert!(bench.r("t/old").exists() && bench.r("t/sub/old").exists());
    assert_eq!((mode(&bench.r("t")), mode(&bench.r("t/sub"))), (0o711, 0o701), "the destination keeps its mode, what is beneath takes over");
    bench.copy(&["d"], "/link").unwrap();
    assert!(bench.r("real/sub/g").exists(), "a link to a directory is followed");
    bench.copy(&["d"], "/hang").unwrap();
    assert!(bench.r("to/come/f").exists(), "and so is one to nothing");
    bench.copy(&["file"], "/flink").unwrap();
    assert_eq!(fs::read_to_string(bench.r("real/target")).unwrap(), "file");
    bench.copy(&["file"], "/link/").unwrap();
    assert!(bench.r("real/file").exists());
    symlink("/real/target", bench.r("t/file")).unwrap();
    bench.copy(&["file"], "/t/").unwrap();
    assert!(fs::symlink_metadata(bench.r("t/file")).unwrap().is_file(), "a link in the destination directory is replaced");
    for (sources, destination, expected) in [
        (&["d"][..], "/t/f", "cannot copy to \"t/f\": the existing \"t/f\" is not a directory"),
        (&["d"], "/busy", "cannot replace the directory \"/busy/f\" by a file: remove it first, or end the destination with a slash"),
        (&["file"], "/t/f/", "cannot copy to \"t/f\": the existing \"t/f\" is not a directory"),
        (&["file", "d/f"], "/none", "cannot copy several sources to \"/none\": end the destination with a slash, so that it is a directory"),
    ] {
        assert_eq!(bench.copy(sources, destination).unwrap_err().to_string(), expected);
    }
    fs::remove_dir_all(bench.r("t/sub")).unwrap();
    symlink("/real", bench.r("t/sub")).unwrap();
    assert_eq!(bench.copy(&["d"], "/t").unwrap_err().to_string(), "cannot copy to \"/t\": the existing \"/t/sub\" is not a directory");
}

#[test]
fn nothing_leads_out() {
    let bench = Bench::with(&["evil -> ../secret", "abs -> /etc/passwd", "loop -> loop", "f", "deep/up -> ../../../../../.."]);
    fs::write(bench.base.join("secret"), "outside").unwrap();
    for source in ["evil", "abs", "../secret", "loop", "deep/up/secret", "deep/up/etc/passwd"] {
        assert!(matches!(bench.select("", &[source], |_| {}), Err(Error::Missing { .. })), "{source}");
    }
    bench.copy(&["deep/up"], "/all").unwrap();
    assert!(bench.r("all/f").exists(), "the way up ends at the context");
    for link in ["out -> /../../../outside", "rel -> ../../outside", "magic -> /proc/self/cwd", "spin -> spin"] {
        bench.make("r", link);
    }
    bench.copy(&["f"], "/out/").unwrap();
    bench.copy(&["f"], "/rel/g").unwrap();
    bench.copy(&["f"], "/../../climbed/f").unwrap();
    bench.copy(&["f"], "/magic/f").unwrap();
    assert!(matches!(bench.copy(&["f"], "/spin"), Err(Error::Links { .. })));
    for inside in ["outside/f", "outside/g", "climbed/f", "proc/self/cwd/f"] {
        assert!(bench.r(inside).exists(), "{inside}");
    }
    let mut outside: Vec<_> = fs::read_dir(&bench.base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    outside.sort();
    assert_eq!(outside, ["c", "r", "secret"]);
}

#[test]
fn a_change_between_selection_and_copy_is_an_error() {
    let bench = Bench::with(&["f", "d/g", "d/h"]);
    let selected = bench.select("", &["."], |_| {}).unwrap();
    fs::write(bench.c("f"), "changed in between").unwrap();
    assert!(matches!(selected.digest(&mut Memo::forgetful()), Err(Error::Changed { .. })));
    let selected = bench.select("", &["."], |_| {}).unwrap();
    fs::write(bench.base.join("secret"), "outside").unwrap();
    fs::remove_file(bench.c("f")).unwrap();
    symlink("../secret", bench.c("f")).unwrap();
    assert!(matches!(bench.apply(&selected, "/x", None, None), Err(Error::Changed { path }) if path == "f"));
    let selected = bench.select("", &["."], |_| {}).unwrap();
    fs::rename(bench.c("d"), bench.c("moved")).unwrap();
    symlink("/etc", bench.c("d")).unwrap();
    assert!(matches!(bench.apply(&selected, "/y", None, None), Err(Error::Changed { .. })));
    rustix::fs::mknodat(rustix::fs::CWD, bench.c("pipe"), FileType::RegularFile, rustix::fs::Mode::from_raw_mode(0o644), 0).unwrap();
    let selected = bench.select("", &["pipe"], |_| {}).unwrap();
    fs::remove_file(bench.c("pipe")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bench.c("pipe"), FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644), 0).unwrap();
    assert!(matches!(bench.apply(&selected, "/z", None, None), Err(Error::Changed { .. })), "a fifo does not block");
}

#[test]
fn keys_know_content_but_no_time() {
    let bench = Bench::with(&["d/f", "d/g", "l -> d"]);
    let key = bench.key(&["d"]);
    set_time(&bench.c("d/f"), 5);
    std::os::unix::fs::chown(bench.c("d/f"), Some(9), Some(9)).unwrap();
    fs::set_permissions(bench.c("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.key(&["d"]), key, "neither time nor the host's owner nor the source directory itself");
    let changes: [&dyn Fn(); 6] = [
        &|| fs::set_permissions(bench.c("d/f"), fs::Permissions::from_mode(0o600)).unwrap(),
        &|| fs::write(bench.c("d/f"), "d/F").unwrap(),
        &|| fs::rename(bench.c("d/f"), bench.c("d/i")).unwrap(),
        &|| symlink("x", bench.c("d/l")).unwrap(),
        &|| {
            fs::remove_file(bench.c("d/l")).unwrap();
            symlink("y", bench.c("d/l")).unwrap();
        },
        &|| rustix::fs::setxattr(bench.c("d/g"), "user.a", b"1", rustix::fs::XattrFlags::empty()).unwrap(),
    ];
    let mut seen = vec![key];
    for (number, change) in changes.iter().enumerate() {
        change();
        let key = bench.key(&["d"]);
        assert!(!seen.contains(&key), "change {number}");
        seen.push(key);
    }
}

#[test]
fn names_need_no_encoding_and_trees_end_somewhere() {
    let bench = Bench::new();
    fs::write(bench.c("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n")), "x").unwrap();
    bench.copy(&["."], "/").unwrap();
    assert_eq!(fs::read(bench.r("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n"))).unwrap(), b"x");
    let mut dir = std::os::fd::OwnedFd::from(fs::File::open(bench.c("")).unwrap());
    for _ in 0..2100 {
        rustix::fs::mkdirat(&dir, c"d", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        dir = rustix::fs::openat(&dir, c"d", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
    }
    assert!(matches!(bench.select("", &["."], |_| {}), Err(Error::TooDeep { .. })));
    let selected = bench.select("**/d/d/d/d/d/d/d/d/d/d/d/d", &["."], |_| {}).unwrap();
    assert_eq!(selected.count(), 12);
}

#[test]
fn large_files_keep_their_holes() {
    let bench = Bench::new();
    let file = fs::File::create(bench.c("big")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1u8; 5000], 3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 9 << 20).unwrap();
    file.set_len(20 << 20).unwrap();
    bench.copy(&["big"], "/big").unwrap();
    assert!(fs::read(bench.r("big")).unwrap() == fs::read(bench.c("big")).unwrap());
    assert!(fs::metadata(bench.r("big")).unwrap().blocks() * 512 < 1 << 20);
    fs::hard_link(bench.c("big"), bench.c("again")).unwrap();
    let selected = bench.select("", &["."], |_| {}).unwrap();
    let check = |holes| selected.check_holes(&bench.base, &Limits { holes: Some(holes), ..Limits::default() });
    check(20 << 20).unwrap();
    assert!(matches!(check(19 << 20), Err(Error::Sparse(crate::image::UnpackError::Sparse { path, .. })) if path == "again"));
}

#[test]
fn many_files_are_copied_by_two_threads() {
    let bench = Bench::new();
    for number in 0..500 {
        fs::create_dir_all(bench.c(&format!("d{}", number % 7))).unwrap();
        fs::write(bench.c(&format!("d{}/{number}", number % 7)), number.to_string()).unwrap();
    }
    let selected = bench.select("", &["."], |_| {}).unwrap();
    assert_eq!(selected.count(), 507);
    let memo_file = bench.base.join("memo");
    let mut memo = Memo::open(&memo_file);
    let key = selected.digest(&mut memo).unwrap();
    assert_eq!(selected.digest(&mut Memo::forgetful()).unwrap(), key);
    bench.apply(&selected, "/", None, None).unwrap();
    for number in 0..500 {
        assert_eq!(fs::read_to_string(bench.r(&format!("d{}/{number}", number % 7))).unwrap(), number.to_string());
    }
}

#[test]
fn heredocs_and_archives_are_added() {
    let bench = Bench::with(&["f", "d/x"]);
    let document = Selected::document("note", b"hello");
    assert!(!document.is_directory() && bench.select("", &["d"], |_| {}).unwrap().is_directory());
    let both = bench.select("", &["f"], |_| {}).unwrap().and(document);
    assert_eq!(both.size(), 6);
    let key = both.digest(&mut Memo::forgetful()).unwrap();
    let other = bench.select("", &["f"], |_| {}).unwrap().and(Selected::document("note", b"hallo"));
    assert_ne!(other.digest(&mut Memo::forgetful()).unwrap(), key);
    bench.apply(&both, "/t/", Some("3:4"), None).unwrap();
    let stat = fs::metadata(bench.r("t/note")).unwrap();
    assert_eq!((fs::read_to_string(bench.r("t/note")).unwrap().as_str(), stat.mode() & 0o7777, stat.uid(), stat.gid()), ("hello", 0o644, 3, 4));
    let mut tar = tar::Builder::new(fs::File::create(bench.c("a.bin")).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.as_old_mut().name[..5].copy_from_slice(b"inner");
    header.set_cksum();
    tar.append(&header, &b"hi"[..]).unwrap();
    tar.finish().unwrap();
    let root = fs::File::open(bench.base.join("r")).unwrap();
    let target = Target { root: root.as_fd(), destination: b"/un/packed", accounts: root.as_fd(), chown: Some("3:4"), chmod: None };
    let selected = bench.select("", &["a.bin", "f"], |_| {}).unwrap();
    assert_eq!(add(&selected, &target, Limits::default()).unwrap_err().kind(), ErrorKind::Invalid);
    let few = Limits { entries: 0, ..Limits::default() };
    let error = add(&selected, &Target { destination: b"/un/packed/", ..target }, few).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("cannot unpack \"a.bin\"", ErrorKind::Invalid));
    add(&selected, &Target { destination: b"/un/packed/", ..target }, Limits::default()).unwrap();
    let stat = fs::metadata(bench.r("un/packed/inner")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8), "owners of an archive stay");
    assert_eq!(fs::metadata(bench.r("un/packed")).unwrap().uid(), 3);
    assert!(bench.r("un/packed/f").exists());
    apply(&selected, &Target { destination: b"/whole/", ..target }).unwrap();
    assert!(bench.r("whole/a.bin").exists());
    make_directory(root.as_fd(), b"/work/dir", (rustix::fs::Uid::from_raw(5), rustix::fs::Gid::from_raw(6))).unwrap();
    make_directory(root.as_fd(), b"/work", (rustix::fs::Uid::from_raw(0), rustix::fs::Gid::from_raw(0))).unwrap();
    let stat = fs::metadata(bench.r("work")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o755, 5, 6));
}
