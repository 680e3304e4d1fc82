//! Programs at the ingress of links, and the tables that they look things up in (`BPF_PROG_TYPE_SCHED_CLS` attached by TCX, Linux
//! 6.6: it goes with the link, and needs no queueing discipline).

use super::{Instruction, NAME, bpf, by_id, load, number, owned};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const MAP_NEXT_KEY: libc::c_int = 4;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJECT_INFO: libc::c_int = 15;

const TYPE_HASH: u32 = 1;
/// Memory for an entry is had when it is put (`BPF_F_NO_PREALLOC`).
const NO_PREALLOCATION: u32 = 1;
const TYPE_CLASSIFIER: u32 = 3;
const TCX_INGRESS: u32 = 46;

/// Programs that one link can have (`BPF_MPROG_MAX`).
const PROGRAMS: usize = 64;

pub const KEY: usize = 8;
/// What a table is asked with; it starts at a multiple of four in memory, as the programs write it.
pub type Key = [u8; KEY];

/// The start of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

/// `union bpf_attr` for the commands on elements.
#[repr(C)]
struct Element {
    map: u32,
    /// Explicit, so that no byte the kernel checks is uninitialised.
    reserved: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH` to a link.
#[repr(C)]
struct Attach {
    link: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

/// `union bpf_attr` for `BPF_PROG_QUERY` of a link.
#[repr(C)]
struct Query {
    link: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Info {
    object: u32,
    length: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    native_length: u32,
    length: u32,
    native: u64,
    translated: u64,
    loaded: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    name: [u8; NAME],
}

/// A table from keys to numbers, shared by the programs that name it; it lives as long as one of them does.
#[derive(Debug)]
pub struct Table(OwnedFd);

impl Table {
    /// # Errors
    /// `EPERM` without CAP_BPF (or CAP_SYS_ADMIN) in the first user namespace, `ENOMEM`.
    pub fn new(entries: u32) -> io::Result<Self> {
        let mut attributes = Create { map_type: TYPE_HASH, key_size: KEY as u32, value_size: 4, entries, flags: NO_PREALLOCATION };
        // SAFETY: `Create` is the kernel's layout (five u32) and holds no pointer.
        let made = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
        // SAFETY: the result of MAP_CREATE is a fresh descriptor.
        unsafe { owned(made) }.map(Table)
    }

    /// The instruction (two of them) that loads the table's address into a register.
    pub fn load_into(&self, register: u8) -> [Instruction; 2] {
        const LOAD_DOUBLE_WORD: u8 = 0x18;
        const FROM_MAP: u8 = 1;
        let fd = number(self.0.as_fd()).cast_signed();
        [Instruction::new(LOAD_DOUBLE_WORD, register, FROM_MAP, 0, fd), Instruction::new(0, 0, 0, 0, 0)]
    }

    /// # Errors
    /// `E2BIG` when it is full.
    pub fn put(&self, key: &Key, value: u32) -> io::Result<()> {
        // SAFETY: the key is KEY bytes and the value four, as the table was made with; both are only read.
        unsafe { self.element(MAP_UPDATE, std::ptr::from_ref(key) as u64, std::ptr::from_ref(&value) as u64) }
    }

    /// A missing key is fine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: &Key) -> io::Result<()> {
        // SAFETY: the key is KEY bytes and only read; the command takes no value.
        match unsafe { self.element(MAP_DELETE, std::ptr::from_ref(key) as u64, 0) } {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, key: &Key) -> io::Result<Option<u32>> {
        let mut value = 0u32;
        // SAFETY: the key is KEY bytes and only read; four bytes are written to `value`.
        match unsafe { self.element(MAP_LOOKUP, std::ptr::from_ref(key) as u64, std::ptr::from_mut(&mut value) as u64) } {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            other => other.map(|()| Some(value)),
        }
    }

    /// All keys; of those that come and go meanwhile some.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keys(&self) -> io::Result<Vec<Key>> {
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let mut next = [0; KEY];
            let last = keys.last().map_or(0, |key| std::ptr::from_ref(key) as u64);
            // SAFETY: the key before is null or KEY bytes and only read; KEY bytes are written to `next`.
            match unsafe { self.element(MAP_NEXT_KEY, last, std::ptr::from_mut(&mut next) as u64) } {
                // The walk begins anew when the key before has gone.
                Ok(()) if keys.contains(&next) => return Ok(keys),
                Ok(()) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }

    /// # Safety
    /// The addresses are valid for what the command reads and writes.
    unsafe fn element(&self, command: libc::c_int, key: u64, value: u64) -> io::Result<()> {
        let mut attributes = Element { map: number(self.0.as_fd()), reserved: 0, key, value, flags: 0 };
        // SAFETY: `Element` is the kernel's layout (three u64 behind two u32, no padding); the addresses are the caller's promise.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

/// Loads and verifies a program for the ingress of links. It lives as long as the descriptor or an attachment.
///
/// # Errors
/// As the verifier says; `EPERM` without CAP_BPF and CAP_NET_ADMIN in the first user namespace.
pub fn load_program(name: &str, program: &[Instruction]) -> io::Result<OwnedFd> {
    load(TYPE_CLASSIFIER, padded(name), program)
}

fn padded(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    let length = name.len().min(NAME - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// What is attached to a link.
#[derive(Debug)]
pub struct Attached {
    pub programs: Vec<OwnedFd>,
    /// Changes with every attachment and detachment.
    pub revision: u64,
}

/// The programs at the ingress of a link of this network namespace, those first that see a frame first.
///
/// # Errors
/// `EINVAL` before Linux 6.6, `ENODEV`; a program that vanishes meanwhile is left out.
pub fn programs(link: u32) -> io::Result<Attached> {
    let mut ids = [0u32; PROGRAMS];
    let mut attributes = Query {
        link,
        attach_type: TCX_INGRESS,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS as u32,
        reserved: 0,
        program_flags: 0,
        link_ids: 0,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: `Query` is the kernel's layout (eight-byte fields at multiples of eight, no padding); `ids` is writable for
    // `count` entries and outlives the call.
    unsafe { bpf(super::PROG_QUERY, &mut attributes) }?;
    let mut programs = Vec::new();
    for id in ids.iter().take(attributes.count as usize) {
        match by_id(super::PROG_GET_FD_BY_ID, *id) {
            Ok(program) => programs.push(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Attached { programs, revision: attributes.revision })
}

/// Attaches a program to a link, behind those that are there; with `revision` only if nothing was attached or detached since.
///
/// # Errors
/// `ESTALE` when something was, `EINVAL` before Linux 6.6, `EEXIST` when it is attached there already.
pub fn attach(link: u32, program: BorrowedFd<'_>, revision: Option<u64>) -> io::Result<()> {
    let mut attributes = Attach {
        link,
        program: number(program),
        attach_type: TCX_INGRESS,
        flags: 0,
        replaced: 0,
        relative: 0,
        // Zero: whatever it is.
        revision: revision.unwrap_or(0),
    };
    // SAFETY: `Attach` is the kernel's layout (six u32 and a u64, no padding) and holds no pointer.
    unsafe { bpf(super::PROG_ATTACH, &mut attributes) }.map(drop)
}

/// The first table of a program, if the program has this name.
///
/// # Errors
/// The kernel refuses.
pub fn table_of(program: BorrowedFd<'_>, name: &str) -> io::Result<Option<Table>> {
    let mut map = 0u32;
    let mut info = ProgramInfo {
        program_type: 0,
        id: 0,
        tag: [0; 8],
        native_length: 0,
        length: 0,
        native: 0,
        translated: 0,
        loaded: 0,
        user: 0,
        map_count: 1,
        maps: std::ptr::from_mut(&mut map) as u64,
        name: [0; NAME],
    };
    let mut attributes = Info { object: number(program), length: size_of::<ProgramInfo>() as u32, info: std::ptr::from_mut(&mut info) as u64 };
    // SAFETY: `Info` and `ProgramInfo` are the kernel's layouts (eight-byte fields at multiples of eight, no padding); `info` is
    // writable for `length` bytes, and its `maps` for `map_count` numbers.
    unsafe { bpf(OBJECT_INFO, &mut attributes) }?;
    if info.program_type != TYPE_CLASSIFIER || info.name != padded(name) || info.map_count == 0 {
        return Ok(None);
    }
    by_id(MAP_GET_FD_BY_ID, map).map(|fd| Some(Table(fd)))
}
