//! bpf(2): programs are loaded here; `CGROUP_DEVICE` ones are attached to v2 groups. Those at the ingress of links, with their
//! tables, are in [`ingress`].
#![allow(unsafe_code)]

pub mod ingress;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One `struct bpf_insn` (`include/uapi/linux/bpf.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    /// Destination in the low four bits, source in the high four.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

impl Instruction {
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Instruction { code, registers: destination | source << 4, offset, immediate }
    }
}

/// Operation codes: class, operation and source (`linux/bpf_common.h`, `linux/bpf.h`).
pub mod operation {
    pub const LOAD_WORD: u8 = 0x61;
    pub const LOAD_HALF: u8 = 0x69;
    pub const STORE_WORD: u8 = 0x63;
    pub const MOVE: u8 = 0xbf;
    pub const MOVE_VALUE: u8 = 0xb7;
    pub const ADD_VALUE: u8 = 0x07;
    pub const AND_VALUE: u8 = 0x57;
    pub const OR: u8 = 0x4f;
    pub const SHIFT_LEFT: u8 = 0x67;
    pub const SHIFT_RIGHT: u8 = 0x77;
    pub const JUMP_EQUAL: u8 = 0x15;
    pub const JUMP_UNEQUAL: u8 = 0x55;
    /// Compares the low 32 bits.
    pub const JUMP_UNEQUAL_WORD: u8 = 0x56;
    pub const JUMP_GREATER: u8 = 0x2d;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

/// Bytes of a program's name with its NUL (`BPF_OBJ_NAME_LEN`).
const NAME: usize = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
}

/// The start of `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

/// The start of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// Explicit, so that no byte the kernel checks is uninitialised.
    reserved: u32,
}

/// The start of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID` and `BPF_MAP_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `T` is the kernel's layout of that command's attributes, without padding, and every pointer in it is valid for what
/// the command reads and writes.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most size_of::<T>() bytes of `attributes`, which is exclusively borrowed;
    // the pointers within are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What a command returned as a descriptor.
///
/// # Safety
/// It is a fresh descriptor (bpf(2) makes them CLOEXEC) that nobody else owns.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A program or a table by its number.
fn by_id(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    let mut attributes = ById { id, next: 0, flags: 0 };
    // SAFETY: `ById` is the kernel's layout (three u32) and holds no pointer.
    let found = unsafe { bpf(command, &mut attributes) }?;
    // SAFETY: the result of the commands for ids is a fresh descriptor.
    unsafe { owned(found) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Loads and verifies a device program. It lives as long as the descriptor or an attachment.
///
/// # Errors
/// `EINVAL`/`EACCES` from the verifier, `EPERM` without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN).
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    load(TYPE_CGROUP_DEVICE, [0; NAME], program)
}

fn load(program_type: u32, name: [u8; NAME], program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let count = u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut last = io::Error::from_raw_os_error(libc::EAGAIN);
    // The verifier gives up with EAGAIN when a signal arrives.
    for _ in 0..5 {
        let mut attributes = Load {
            program_type,
            instruction_count: count,
            instructions: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buffer: 0,
            kernel_version: 0,
            flags: 0,
            name,
        };
        // SAFETY: `Load` is the kernel's layout (eight-byte fields at offsets 8, 16 and 32, no padding);
        // `instructions` covers `count` instructions, `license` is a NUL-terminated string, both only read.
        match unsafe { bpf(PROG_LOAD, &mut attributes) } {
            // SAFETY: the result of PROG_LOAD is a fresh descriptor.
            Ok(fd) => return unsafe { owned(fd) },
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Attaches a device program to a group, in the place of `replaced` when given (atomically, since Linux 5.6).
/// Access needs the consent of every program on the group and above it.
///
/// # Errors
/// `EPERM` when a program above does not admit others, `ENOENT` when `replaced` is not attached.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>, replaced: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attributes = Attach {
        target: number(group),
        program: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: if replaced.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: replaced.map_or(0, number),
    };
    // SAFETY: `Attach` is the kernel's layout (five u32) and holds no pointer; the descriptors are borrowed for the call.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Takes a device program off a group.
///
/// # Errors
/// `ENOENT` when it is not attached there.
pub fn detach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attach { target: number(group), program: number(program), attach_type: ATTACH_CGROUP_DEVICE, flags: 0, replaced: 0 };
    // SAFETY: as in `attach_device_program`.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

/// The device programs attached to this very group (64 at most, the kernel's limit).
///
/// # Errors
/// `EINVAL` on a kernel without device programs; a program that vanishes meanwhile is left out.
pub fn device_programs(group: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attributes = Query {
        target: number(group),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        reserved: 0,
    };
    // SAFETY: `Query` is the kernel's layout (the eight-byte field at offset 16, no padding); `ids` is writable for
    // `count` entries and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    let mut programs = Vec::new();
    for id in ids.iter().take(attributes.count as usize) {
        match by_id(PROG_GET_FD_BY_ID, *id) {
            Ok(program) => programs.push(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}
