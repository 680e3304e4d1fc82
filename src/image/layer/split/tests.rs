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
