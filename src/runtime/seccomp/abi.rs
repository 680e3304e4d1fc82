//! The system call tables a filter speaks about: one per calling convention of this machine's kernel.

use super::Error;
use oci_spec::runtime::Arch;

/// A calling convention with its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

/// Marks x32 calls, which share `AUDIT_ARCH_X86_64` (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// x32's own numbers for calls whose 64-bit form cannot take 32-bit pointers, from 512 on
/// (`arch/x86/entry/syscalls/syscall_64.tbl`).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];
const X32_FIRST: u32 = 512;

/// ARM's private calls (`arch/arm/include/uapi/asm/unistd.h`), from `0xf0001` on.
const ARM_PRIVATE: [&str; 5] = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls"];
const ARM_FIRST: u32 = 0xf_0001;

impl Abi {
    /// This machine's own.
    ///
    /// # Errors
    /// An architecture without a table here.
    pub(super) fn native() -> Result<Abi, Error> {
        if cfg!(target_arch = "x86_64") {
            Ok(Abi::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Ok(Abi::Aarch64)
        } else {
            Err(Error::Architecture)
        }
    }

    /// None: calls of that architecture cannot reach this kernel; the filter's last word (kill) covers them.
    pub(super) fn from_oci(arch: Arch) -> Option<Abi> {
        match arch {
            Arch::ScmpArchNative => Abi::native().ok(),
            Arch::ScmpArchX86_64 => Some(Abi::X86_64),
            Arch::ScmpArchX32 => Some(Abi::X32),
            Arch::ScmpArchX86 => Some(Abi::X86),
            Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
            Arch::ScmpArchArm => Some(Abi::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` (`include/uapi/linux/audit.h`).
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Registers of 32 bits: the upper half of an argument is always zero and is not compared.
    pub(super) fn narrow(self) -> bool {
        matches!(self, Abi::X86 | Abi::Arm)
    }

    /// First number of this convention in the space of [`Abi::audit`].
    pub(super) fn base(self) -> u32 {
        if self == Abi::X32 { X32_BIT } else { 0 }
    }

    /// Numbers `0..=last()` (relative to [`Abi::base`]) may have names.
    pub(super) fn last(self) -> u32 {
        let last = match self {
            Abi::X86_64 => syscalls::x86_64::Sysno::last().id(),
            Abi::X32 => return X32_FIRST + X32_OWN.len() as u32 - 1,
            Abi::X86 => syscalls::x86::Sysno::last().id(),
            Abi::Aarch64 => syscalls::aarch64::Sysno::last().id(),
            Abi::Arm => syscalls::arm::Sysno::last().id(),
        };
        last.unsigned_abs()
    }

    /// The call with that number (relative to [`Abi::base`]).
    pub(super) fn name(self, number: u32) -> Option<&'static str> {
        let id = number as usize;
        match self {
            Abi::X86_64 => syscalls::x86_64::Sysno::new(id).map(|call| call.name()),
            Abi::X32 if number >= X32_FIRST => X32_OWN.get((number - X32_FIRST) as usize).copied(),
            // The 64-bit numbers of those calls are not valid with the x32 bit.
            Abi::X32 => syscalls::x86_64::Sysno::new(id).map(|call| call.name()).filter(|name| !X32_OWN.contains(name)),
            Abi::X86 => syscalls::x86::Sysno::new(id).map(|call| call.name()),
            Abi::Aarch64 => syscalls::aarch64::Sysno::new(id).map(|call| call.name()),
            Abi::Arm => syscalls::arm::Sysno::new(id).map(|call| call.name()),
        }
    }

    /// Calls far above the table, in ascending order.
    pub(super) fn private(self) -> impl Iterator<Item = (u32, &'static str)> {
        let names: &[&'static str] = if self == Abi::Arm { &ARM_PRIVATE } else { &[] };
        names.iter().zip(ARM_FIRST..).map(|(name, number)| (number, *name))
    }
}

/// The table's name for a call that profiles know by two (ARM's 341 has both).
pub(super) fn canonical(name: &str) -> &str {
    match name {
        "sync_file_range2" => "arm_sync_file_range",
        other => other,
    }
}
