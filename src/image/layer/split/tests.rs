//! Every tar comes back byte for byte.
use super::super::tar::Reader;
use super::super::unpack;
use super::*;
use crate::oci::Digest;
use ::tar::{EntryType, Header};
use proptest::prelude::*;
use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rcon-split-{}", crate::base::random_hex(12)));
        fs::create_dir_all(path.join("diff")).unwrap();
        Scratch(path)
    }

    fn unpack(&self, tar: &[u8]) -> Result<(), UnpackError> {
        let diff = self.0.join("diff");
        unpack(&mut Reader::recorded(tar, Writer::beside(&diff)?), &diff).map(|_| ())
    }

    /// What differs from the tar, unpacked with its fix-ups on these layers (top first).
    fn differences(&self, lowers: Option<&[PathBuf]>) -> Vec<String> {
        let bytes = self.again().unwrap();
        let model = Model::read(&mut Reader::new(&bytes[..])).unwrap();
        compare(model, &self.0.join("diff"), lowers).unwrap().named
    }

    fn again(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        assemble(&self.0)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// One entry with its extension headers.
#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    data: Vec<u8>,
    form: Form,
    padding: u8,
}

/// How the name is written, or which sparse format it is.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    GnuLong,
    Pax,
    SparseOld,
    SparseMap,
    SparseData,
}

fn block(into: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], data: &[u8], padding: u8) {
    let mut header = Header::new_gnu();
    let bytes = header.as_mut_bytes();
    bytes[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    bytes[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o640);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(12);
    header.set_size(data.len() as u64);
    header.set_cksum();
    into.extend_from_slice(header.as_bytes());
    payload(into, data, padding);
}

fn payload(into: &mut Vec<u8>, data: &[u8], padding: u8) {
    into.extend_from_slice(data);
    into.resize(into.len().next_multiple_of(512), padding);
}

fn records(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append_pax_extensions(pairs.iter().map(|(k, v)| (*k, *v))).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

impl Entry {
    fn write(&self, into: &mut Vec<u8>) {
        let Entry { name, link, kind, data, form, padding } = self;
        match form {
            Form::Plain => block(into, *kind, name, link, data, *padding),
            Form::GnuLong => {
                block(into, b'L', b"././@LongLink", b"", &[name.as_slice(), b"\0"].concat(), *padding);
                block(into, *kind, name, link, data, *padding);
            }
            Form::Pax => {
                into.extend(records(&[("path", name), ("mtime", b"3.5"), ("SCHILY.xattr.user.x", b"1\n2")]));
                block(into, *kind, name, link, data, *padding);
            }
            Form::SparseOld => self.old_sparse(into),
            Form::SparseMap => {
                let map = format!("0,0,100,{}", data.len());
                into.extend(records(&[("path", name), ("GNU.sparse.size", b"90000"), ("GNU.sparse.map", map.as_bytes())]));
                block(into, b'0', name, b"", data, *padding);
            }
            Form::SparseData => {
                let half = data.len() / 2;
                let mut stored = format!("2\n0\n{half}\n70000\n{}\n", data.len() - half).into_bytes();
                stored.resize(512, *padding);
                stored.extend_from_slice(data);
                let pairs: [(&str, &[u8]); 3] = [("GNU.sparse.major", b"1"), ("GNU.sparse.name", name), ("GNU.sparse.realsize", b"90000")];
                into.extend(records(&pairs));
                block(into, b'0', b"GNUSparseFile.0/x", b"", &stored, *padding);
            }
        }
    }

    /// The old GNU format with its map in the header and one extension block.
    fn old_sparse(&self, into: &mut Vec<u8>) {
        let mut header = Header::new_gnu();
        let length = self.name.len().min(100);
        header.as_mut_bytes()[..length].copy_from_slice(&self.name[..length]);
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(self.data.len() as u64);
        let octal = |at: u64| format!("{at:011o}\0").into_bytes();
        let first = self.data.len() as u64 / 2;
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(&octal(0));
        gnu.sparse[0].numbytes.copy_from_slice(&octal(first));
        gnu.isextended[0] = 1;
        gnu.realsize.copy_from_slice(&octal(90_000));
        header.set_cksum();
        into.extend_from_slice(header.as_bytes());
        let mut more = [0u8; 512];
        more[..12].copy_from_slice(&octal(50_000));
        more[12..24].copy_from_slice(&octal(self.data.len() as u64 - first));
        into.extend_from_slice(&more);
        payload(into, &self.data, self.padding);
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let fixed: &[&[u8]] = &[
        b"a",
        b"b",
        b"a/b",
        b"a/b/c",
        b"./b/",
        b"b/c",
        b".wh.a",
        b"a/.wh..wh..opq",
        b"b/.wh.c",
        b"/abs",
        b"d\xff\xfe",
        b"./",
        b"a/.wh..wh.plnk",
        b"a//b/./c",
        b"d/e/f",
    ];
    prop_oneof![6 => prop::sample::select(fixed).prop_map(<[u8]>::to_vec), 1 => (90usize..250).prop_map(|n| vec![b'n'; n])]
}

fn entry() -> impl Strategy<Value = Entry> {
    let forms = prop_oneof![
        6 => Just(Form::Plain),
        1 => Just(Form::GnuLong),
        2 => Just(Form::Pax),
        1 => Just(Form::SparseOld),
        1 => Just(Form::SparseMap),
        1 => Just(Form::SparseData)
    ];
    let kinds = prop::sample::select(b"0000000555\x00127346".to_vec());
    let links = prop::sample::select(vec![&b"a"[..], b"b/c", b"d/e/f", b"a/b", b"/abs"]).prop_map(<[u8]>::to_vec);
    let data = prop_oneof![Just(0usize), 1usize..40, 500usize..520, Just(70_000usize)];
    (name(), links, kinds, data, forms, prop_oneof![4 => Just(0u8), 1 => any::<u8>()], any::<u8>()).prop_map(
        |(name, link, kind, size, form, padding, seed)| {
            let link = if matches!(kind, b'1' | b'2') { link } else { Vec::new() };
            // Only regular files carry data.
            let size = if matches!(kind, b'0' | 0 | b'7') { size } else { 0 };
            let size = if matches!(form, Form::SparseOld | Form::SparseMap | Form::SparseData) { size.min(20_000) } else { size };
            let data = (0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            Entry { name, link, kind, data, form, padding }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn any_tar_comes_back_byte_for_byte(entries in prop::collection::vec(entry(), 1..16), tail in 0usize..4, garbage in prop::collection::vec(any::<u8>(), 0..3000)) {
        thread_local!(static TAKEN: Cell<(u32, u32)> = const { Cell::new((0, 0)) });
        // What the unpacker refuses ends the tar: the rest is what this test is about.
        let mut tar = Vec::new();
        for entry in &entries {
            let mut longer = tar.clone();
            entry.write(&mut longer);
            let scratch = Scratch::new();
            let (taken, refused) = TAKEN.get();
            if scratch.unpack(&longer).is_ok() {
                tar = longer;
                TAKEN.set((taken + 1, refused));
            } else {
                TAKEN.set((taken, refused + 1));
            }
        }
        match tail {
            0 => {}
            1 => tar.resize(tar.len() + 512, 0),
            2 => tar.resize(tar.len() + 10_240, 0),
            _ => { tar.resize(tar.len() + 1024, 0); tar.extend_from_slice(&garbage); }
        }
        let scratch = Scratch::new();
        scratch.unpack(&tar).unwrap();
        let again = scratch.again().unwrap();
        prop_assert_eq!(Digest::of(&again), Digest::of(&tar), "{} bytes of {}", again.len(), tar.len());
        // Links to layers below were not made here.
        let mut model = Model::read(&mut Reader::new(&tar[..])).unwrap();
        model.links.clear();
        prop_assert_eq!(compare(model, &scratch.0.join("diff"), None).unwrap().named, [""; 0]);
        let (taken, refused) = TAKEN.get();
        prop_assert!(taken * 2 >= refused, "the entries are mostly good: {} {}", taken, refused);
    }
}

fn file(name: &str, data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    block(&mut tar, b'0', name.as_bytes(), b"", data, 0);
    tar
}

#[test]
fn replaced_files_are_set_aside_and_found_again() {
    let mut tar = [file("a/f", b"first"), file("a/f", b"second"), file("a/g", b"third")].concat();
    block(&mut tar, b'1', b"h", b"a/g", b"", 0);
    tar.extend([file("a", b"fourth"), file("a", b"fifth")].concat());
    block(&mut tar, b'5', b"a", b"", b"", 0);
    tar.extend(file("a/f", b"sixth"));
    let scratch = Scratch::new();
    scratch.unpack(&tar).unwrap();
    assert_eq!(scratch.again().unwrap(), tar);
    assert_eq!(fs::read_dir(scratch.0.join("replaced")).unwrap().count(), 4);
    assert_eq!(fs::read(scratch.0.join("diff/h")).unwrap(), b"third");
    assert_eq!(fs::read(scratch.0.join("diff/a/f")).unwrap(), b"sixth");
}

#[test]
fn what_lies_beneath_links_is_compared_where_they_lead() {
    let scratch = Scratch::new();
    let mut tar = Vec::new();
    for (kind, name, link, data) in [
        (b'2', "lib", "usr/lib", &b""[..]),
        (b'0', "lib/f", "", b"one"),
        (b'5', "lib/sub", "", b""),
        (b'2', "lib/sub/up", "/lib/../etc", b""),
        (b'0', "lib/sub/up/g", "", b"two"),
        (b'0', "lib/f", "", b"replaced"),
        (b'1', "h", "lib/sub/up/g", b""),
        (b'0', "lib/.wh.gone", "", b""),
    ] {
        block(&mut tar, kind, name.as_bytes(), link.as_bytes(), data, 0);
    }
    tar.resize(tar.len() + 1024, 0);
    scratch.unpack(&tar).unwrap();
    assert_eq!(scratch.again().unwrap(), tar);
    assert_eq!(scratch.differences(Some(&[])), Vec::<String>::new());
}

#[test]
fn a_layer_that_was_changed_is_told_apart() {
    let tar = [file("a", &[7; 3000]), file("b", b"x")].concat();
    let scratch = Scratch::new();
    scratch.unpack(&tar).unwrap();
    let diff = scratch.0.join("diff");
    fs::write(diff.join("a"), [7; 2999]).unwrap();
    assert!(scratch.again().unwrap_err().to_string().contains("\"a\" of the layer is shorter"));
    fs::remove_file(diff.join("a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", diff.join("a")).unwrap();
    assert!(scratch.again().unwrap_err().to_string().contains("cannot open the file \"a\""));
    fs::remove_file(diff.join("a")).unwrap();
    assert!(scratch.again().is_err());
    rustix::fs::mknodat(CWD, diff.join("a"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(scratch.again().unwrap_err().to_string().contains("no regular file"));
    // Records that are cut off or of another version.
    let path = scratch.0.join(FILE);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    assert!(scratch.again().is_err());
    fs::write(&path, [b"rcon tar-split 2\n", &bytes[MAGIC.len()..]].concat()).unwrap();
    assert!(scratch.again().unwrap_err().to_string().contains("another version"));
}

fn tampered() -> Scratch {
    let mut tar = Vec::new();
    block(&mut tar, b'5', b"d/", b"", b"", 0);
    tar.extend([file("d/f", b"text"), file("d/empty", b""), file("i/x", b"y"), file("d/g", b"other")].concat());
    block(&mut tar, b'1', b"d/h", b"d/f", b"", 0);
    block(&mut tar, b'2', b"d/s", b"f", b"", 0);
    block(&mut tar, b'0', b".wh.gone", b"", b"", 0);
    block(&mut tar, b'0', b".wh.away", b"", b"", 0);
    let sparse = Entry { name: b"sparse".to_vec(), link: Vec::new(), kind: b'0', data: vec![7; 600], form: Form::SparseData, padding: 0 };
    sparse.write(&mut tar);
    let scratch = Scratch::new();
    scratch.unpack(&tar).unwrap();
    fs::set_permissions(scratch.0.join("diff"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scratch.differences(Some(&[])), [""; 0]);
    scratch
}

#[test]
fn marks_of_deletion_may_be_links_of_one_as_overlayfs_makes_them() {
    let scratch = tampered();
    let diff = scratch.0.join("diff");
    fs::remove_file(diff.join("away")).unwrap();
    fs::hard_link(diff.join("gone"), diff.join("away")).unwrap();
    assert_eq!(scratch.differences(Some(&[])), [""; 0]);
}

#[test]
fn every_change_that_leaves_the_contents_is_found() {
    use rustix::fs::{XattrFlags, setxattr};
    use std::os::unix::fs::{chown, symlink};
    type Change = fn(&Path);
    let changes: [(&str, Change); 19] = [
        ("\"d/evil\" is not in its tar", |d| fs::write(d.join("d/evil"), "x").unwrap()),
        ("\"i/.wh\" is not in its tar", |d| fs::create_dir(d.join("i/.wh")).unwrap()),
        ("\"d/f\" has the mode 4755 instead of 0640", |d| fs::set_permissions(d.join("d/f"), fs::Permissions::from_mode(0o4755)).unwrap()),
        ("\"d\" has the mode 0777 instead of 0640", |d| fs::set_permissions(d.join("d"), fs::Permissions::from_mode(0o777)).unwrap()),
        ("\"i\" has the mode 0777 instead of 0755", |d| fs::set_permissions(d.join("i"), fs::Permissions::from_mode(0o777)).unwrap()),
        ("\"/\" has the mode 0777 instead of 0755", |d| fs::set_permissions(d, fs::Permissions::from_mode(0o777)).unwrap()),
        ("\"d/g\" belongs to 7:8 instead of 0:0", |d| chown(d.join("d/g"), Some(7), Some(8)).unwrap()),
        ("\"i\" belongs to 7:0 instead of 0:0", |d| chown(d.join("i"), Some(7), None).unwrap()),
        ("\"d/empty\" has 1 bytes instead of 0", |d| fs::write(d.join("d/empty"), "x").unwrap()),
        ("\"d/g\" has 6 bytes instead of 5", |d| fs::write(d.join("d/g"), "other!").unwrap()),
        ("\"d/empty\" is a symbolic link instead of a regular file", |d| {
            fs::remove_file(d.join("d/empty")).unwrap();
            symlink("/bin/sh", d.join("d/empty")).unwrap();
        }),
        ("\"d/s\" points to \"g\" instead of \"f\"", |d| {
            fs::remove_file(d.join("d/s")).unwrap();
            symlink("g", d.join("d/s")).unwrap();
        }),
        ("\"gone\" is missing", |d| fs::remove_file(d.join("gone")).unwrap()),
        ("\"gone\" is a FIFO instead of a character device", |d| {
            fs::remove_file(d.join("gone")).unwrap();
            rustix::fs::mknodat(CWD, d.join("gone"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }),
        ("\"d/h\" is not the hard link that it was", |d| {
            fs::remove_file(d.join("d/h")).unwrap();
            fs::write(d.join("d/h"), "text").unwrap();
        }),
        ("\"d/f\" is a hard link to another file", |d| {
            fs::remove_file(d.join("d/empty")).unwrap();
            fs::hard_link(d.join("d/f"), d.join("d/empty")).unwrap();
        }),
        ("\"i\" has the attribute trusted.overlay.opaque", |d| {
            setxattr(d.join("i"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        }),
        ("\"d/g\" has the attribute security.capability", |d| {
            // VFS_CAP_REVISION_2, effective; cap_setuid permitted (linux/capability.h).
            let value = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            setxattr(d.join("d/g"), "security.capability", &value, XattrFlags::empty()).unwrap();
        }),
        ("\"sparse\" has data where it had a hole", |d| {
            use std::os::unix::fs::FileExt;
            let file = fs::OpenOptions::new().write(true).open(d.join("sparse")).unwrap();
            file.write_all_at(b"x", 40_000).unwrap();
        }),
    ];
    for (wanted, change) in changes {
        let scratch = tampered();
        change(&scratch.0.join("diff"));
        let found = scratch.differences(Some(&[]));
        assert!(found.iter().any(|text| text.starts_with(wanted)), "{wanted}: {found:?}");
    }
}

#[test]
fn what_comes_from_below_is_compared_with_it() {
    let base = Scratch::new();
    let mut tar = Vec::new();
    block(&mut tar, b'5', b"d/", b"", b"", 0);
    tar.extend([file("d/f", b"below"), file("e/f", b"deep")].concat());
    base.unpack(&tar).unwrap();
    let lowers = [base.0.join("diff")];
    let mut tar = Vec::new();
    block(&mut tar, b'1', b"copy", b"d/f", b"", 0);
    tar.extend(file("d/new", b"x"));
    block(&mut tar, b'0', b".wh..wh..opq", b"", b"", 0);
    let make = || {
        let top = Scratch::new();
        let diff = top.0.join("diff");
        let unpacked = unpack(&mut Reader::recorded(&tar[..], Writer::beside(&diff).unwrap()), &diff).unwrap();
        super::super::apply_fixups(&unpacked.fixups, &diff, &lowers).unwrap();
        assert_eq!(top.differences(Some(&lowers)), [""; 0]);
        assert_eq!(top.differences(None), [""; 0], "nothing is said of what is not known");
        top
    };
    let top = make();
    fs::write(top.0.join("diff/copy"), "other").unwrap();
    assert!(top.differences(Some(&lowers))[0].ends_with("has not the content of the layer below that it came from"));
    let top = make();
    fs::set_permissions(top.0.join("diff/d"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(top.differences(Some(&lowers)), ["\"d\" has the mode 0777 instead of 0640"]);
    let top = make();
    fs::remove_file(top.0.join("diff/e")).unwrap();
    assert_eq!(top.differences(Some(&lowers)), ["\"e\" is missing"]);
}
