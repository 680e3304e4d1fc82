//! What the scheduler and the memory allocator know of a process: `sched_setattr(2)`, `ioprio_set(2)`,
//! `sched_setaffinity(2)`, `set_mempolicy(2)`, `personality(2)`.
#![allow(unsafe_code)]

use std::io;

/// `struct sched_attr` with the utilisation clamps of Linux 5.3 (include/uapi/linux/sched/types.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    /// Set by [`set_attributes`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub nice: i32,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: u32,
    /// Nanoseconds, these three; of `SCHED_DEADLINE` only.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub clamp_min: u32,
    pub clamp_max: u32,
}

/// `SCHED_ATTR_SIZE_VER0`: without the clamps, which kernels before 5.3 do not know.
const SIZE_WITHOUT_CLAMPS: u32 = 48;
/// `SCHED_FLAG_UTIL_CLAMP`.
const FLAGS_OF_CLAMPS: u64 = 0x60;
/// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_SHIFT` (include/uapi/linux/ioprio.h).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// Gives process `pid` (0: the caller) a scheduling policy.
///
/// # Errors
/// What sched_setattr(2) says.
pub fn set_attributes(pid: i32, attributes: &Attributes) -> io::Result<()> {
    let size = if attributes.flags & FLAGS_OF_CLAMPS == 0 { SIZE_WITHOUT_CLAMPS } else { size_of::<Attributes>() as u32 };
    let attributes = Attributes { size, ..*attributes };
    // SAFETY: `attributes` is a live sched_attr of at least `size` bytes; the kernel only reads it (it writes `size` on
    // E2BIG, into this local copy).
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) })
}

/// Gives process `pid` an I/O scheduling class and a priority (0 to 7) within it.
///
/// # Errors
/// What ioprio_set(2) says.
pub fn set_io_priority(pid: i32, class: u32, priority: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, class << IOPRIO_CLASS_SHIFT | priority) })
}

/// Lets process `pid` (0: the caller) run only on the CPUs whose bits are set, lowest first.
///
/// # Errors
/// What sched_setaffinity(2) says.
pub fn set_affinity(pid: i32, mask: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of_val(mask)` bytes, all of `mask`.
    done(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()) })
}

/// The CPUs that the calling thread may run on, as [`set_affinity`] takes them.
///
/// # Errors
/// What sched_getaffinity(2) says.
pub fn affinity() -> io::Result<Vec<u64>> {
    // The kernel refuses a mask shorter than its own: 8192 CPUs is the most that it can be built for.
    let mut mask = vec![0u64; 8192 / 64];
    // SAFETY: the kernel writes at most the given number of bytes into the live vector.
    let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(mask.as_slice()), mask.as_mut_ptr()) };
    done(written)?;
    mask.truncate(usize::try_from(written).unwrap_or(0).div_ceil(size_of::<u64>()));
    Ok(mask)
}

/// Sets the memory policy of the calling thread: `MPOL_*` with `MPOL_F_*`, and the nodes whose bits are set.
///
/// # Errors
/// What set_mempolicy(2) says.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel reads one bit less than it is told (mm/mempolicy.c, get_nodes).
    let (pointer, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the pointer is null with a length of 0, or covers `bits - 1` bits, all that is read.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

/// Sets the execution domain of the calling thread (include/uapi/linux/personality.h).
///
/// # Errors
/// What personality(2) says.
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    done(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(domain)) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, affinity, set_affinity, set_attributes};

    #[test]
    fn structures_have_the_kernels_layout() {
        assert_eq!(size_of::<Attributes>(), 56);
        assert_eq!(std::mem::offset_of!(Attributes, runtime), 24);
    }

    #[test]
    fn affinity_is_read_as_it_is_set() {
        std::thread::spawn(|| {
            let all = affinity().unwrap();
            let cpu = all[0] & all[0].wrapping_neg();
            set_affinity(0, &[cpu]).unwrap();
            assert_eq!(affinity().unwrap()[0], cpu);
            set_affinity(0, &all).unwrap();
            assert_eq!(affinity().unwrap(), all);
            assert_eq!(set_affinity(0, &[0]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            let unknown = Attributes { policy: 99, ..Attributes::default() };
            assert_eq!(set_attributes(0, &unknown).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        })
        .join()
        .unwrap();
    }
}
