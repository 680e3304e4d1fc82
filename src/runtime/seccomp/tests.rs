//! The compiled filters in an interpreter, and one in the kernel.
use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;

/// Runs a filter as the kernel would, and counts its steps.
fn run(program: &[Instruction], arch: u32, number: u32, arguments: &[u64]) -> (u32, usize) {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        _ => {
            let index = (offset - 16) as usize;
            let argument = arguments.get(index / 8).copied().unwrap_or(0);
            if index.is_multiple_of(8) == cfg!(target_endian = "little") { argument as u32 } else { (argument >> 32) as u32 }
        }
    };
    let (mut accumulator, mut at) = (0u32, 0usize);
    for step in 1..5000 {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = match code {
            0x20 => {
                accumulator = word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return (k, step),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            other => unreachable!("invariant: {other:#x} is not generated"),
        };
        at += usize::from(if branch { jt } else { jf });
    }
    unreachable!("invariant: jumps go forward")
}

fn caps(list: &[&str]) -> Vec<String> {
    list.iter().map(|cap| (*cap).to_owned()).collect()
}

fn custom(json: &str) -> Vec<Instruction> {
    compile(&docker_profile(json, &[]).unwrap()).unwrap()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_default_profile_decides_like_dockers() {
    const X32: u32 = 0x4000_0000;
    let program = compile(&default_profile(&caps(&["CHOWN", "SYS_CHROOT"]))).unwrap();
    const NEWUSER: u64 = 0x1000_0000;
    for (arch, number, arguments, wanted) in [
        (X86_64, 39, &[][..], ALLOW),         // getpid
        (X86_64, 0, &[], ALLOW),              // read
        (X86_64, 272, &[NEWUSER], EPERM),     // unshare
        (X86_64, 56, &[17], ALLOW),           // clone, as fork does
        (X86_64, 56, &[NEWUSER | 17], EPERM), // clone into a user namespace
        (X86_64, 435, &[], ENOSYS),           // clone3
        (X86_64, 161, &[], ALLOW),            // chroot, unlocked
        (X86_64, 250, &[], EPERM),            // keyctl
        (X86_64, 425, &[], EPERM),            // io_uring_setup
        (X86_64, 165, &[], EPERM),            // mount
        (X86_64, 41, &[2], ALLOW),            // socket AF_INET
        (X86_64, 41, &[38], EPERM),           // AF_ALG
        (X86_64, 41, &[39], ALLOW),           // AF_NFC
        (X86_64, 41, &[40], EPERM),           // AF_VSOCK
        (X86_64, 41, &[44], ALLOW),           // AF_XDP
        (X86_64, 135, &[0], ALLOW),           // personality
        (X86_64, 135, &[0xffff_ffff], ALLOW),
        (X86_64, 135, &[0x4_0000], EPERM),      // ADDR_NO_RANDOMIZE
        (X86_64, 135, &[0x1_0000_0008], EPERM), // the upper word counts
        (X86_64, 101, &[], ALLOW),              // ptrace
        (X86_64, 466, &[], ALLOW),              // removexattrat, the newest known
        (X86_64, 467, &[], ENOSYS),             // open_tree_attr, newer
        (X86_64, 9999, &[], ENOSYS),
        (X86_64, u32::MAX, &[], EPERM),
        (X86_64, X32 | 39, &[], ALLOW),
        (X86_64, X32 | 520, &[], ALLOW), // execve of x32
        (X86_64, X32 | 59, &[], EPERM),  // execve's 64-bit number with the x32 bit
        (X86_64, X32 | 272, &[], EPERM),
        (X86_64, X32 | 9999, &[], ENOSYS),
        (I386, 20, &[], ALLOW),         // getpid
        (I386, 102, &[], ALLOW),        // socketcall
        (I386, 310, &[NEWUSER], EPERM), // unshare
        (I386, 120, &[NEWUSER], EPERM), // clone
        (I386, 120, &[17], ALLOW),
        (I386, 359, &[38], EPERM), // socket
        (I386, 435, &[], ENOSYS),
        (I386, 5000, &[], ENOSYS),
        (0xc000_00b7, 39, &[], KILL), // another machine's call
    ] {
        assert_eq!(run(&program, arch, number, arguments).0, wanted, "{arch:#x} {number} {arguments:x?}");
    }
    let admin = compile(&default_profile(&caps(&["CAP_SYS_ADMIN", "BPF"]))).unwrap();
    for number in [272, 435, 165, 321, 308] {
        assert_eq!(run(&admin, X86_64, number, &[NEWUSER]).0, ALLOW, "{number}");
    }
    assert_eq!(run(&admin, X86_64, 161, &[]).0, EPERM);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn filters_are_short_and_fast() {
    let program = compile(&default_profile(&caps(&["CHOWN"]))).unwrap();
    let mut steps: Vec<usize> = (0..460).map(|number| run(&program, X86_64, number, &[]).1).collect();
    steps.sort_unstable();
    // Bounds that a linear search or a table per name would miss by far.
    assert!(program.len() < 1500 && steps[steps.len() / 2] < 16 && steps[steps.len() - 1] < 32, "{} {steps:?}", program.len());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn operators_compare_sixty_four_bits() {
    const BIG: u64 = 0x1_0000_0005;
    for (op, value, two, matching, failing) in [
        ("EQ", BIG, 0, &[BIG][..], &[5, BIG + 1, 0x2_0000_0005][..]),
        ("NE", BIG, 0, &[5, BIG + 1, 0x2_0000_0005], &[BIG]),
        ("LT", BIG, 0, &[0, 5, 0xffff_ffff, BIG - 1], &[BIG, BIG + 1, 0x2_0000_0000, u64::MAX]),
        ("LE", BIG, 0, &[0, 6, 0xffff_ffff, BIG], &[BIG + 1, 0x2_0000_0000]),
        ("GE", BIG, 0, &[BIG, BIG + 1, 0x2_0000_0000, u64::MAX], &[0, 6, 0xffff_ffff, BIG - 1]),
        ("GT", BIG, 0, &[BIG + 1, 0x2_0000_0000], &[0, 6, BIG, 0xffff_ffff]),
        ("MASKED_EQ", 0xf_0000_000f, BIG, &[BIG, BIG | 0xf0, BIG | 0xf0_0000_0000], &[5, BIG + 1, BIG + 0x1_0000_0000]),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":3,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}},{{"index":0,"value":7,"op":"SCMP_CMP_EQ"}}]}}]}}"#
        );
        let program = custom(&json);
        for (arguments, wanted) in matching.iter().map(|value| (value, ALLOW)).chain(failing.iter().map(|value| (value, EPERM))) {
            assert_eq!(run(&program, X86_64, 0, &[7, 0, 0, *arguments]).0, wanted, "{op} {arguments:#x}");
        }
        assert_eq!(run(&program, X86_64, 0, &[8, 0, 0, matching[0]]).0, EPERM, "{op}: both conditions count");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn rules_combine_as_libseccomp_and_runc_have_it() {
    let program = custom(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["read","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["read"],"action":"SCMP_ACT_KILL"},
            {"names":["write"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
            {"names":["write"],"action":"SCMP_ACT_ERRNO","errnoRet":9,"args":[{"index":0,"value":9,"op":"SCMP_CMP_LT"}]},
            {"names":["close"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
            {"names":["open"],"action":"SCMP_ACT_TRACE","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
            {"names":["open"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
    );
    for (number, argument, wanted) in [
        (0, 0, 0x0005_0005),
        (1, 1, 0x0003_0000),
        (1, 2, 0x0005_0009),
        (1, 9, ALLOW),
        (3, 1, 0x7ffc_0000),
        (3, 2, 0x7ffc_0000),
        (3, 3, ALLOW),
        (2, 1, KILL),
        (9999, 0, ALLOW),
        (0x4000_0000, 0, KILL),
    ] {
        assert_eq!(run(&program, X86_64, number, &[argument]).0, wanted, "{number} {argument}");
    }
    assert_eq!(run(&program, I386, 3, &[]).0, KILL, "only the native architecture is named");
}

#[test]
fn dockers_format_is_resolved_for_caps_arch_and_kernel() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],
        "syscalls":[
          {"names":["a"],"action":"SCMP_ACT_ALLOW","comment":"x","includes":{"caps":["CAP_SYS_ADMIN"]}},
          {"names":["b"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
          {"names":["c"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
          {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
          {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
          {"names":["f"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","arm64"]},"excludes":{"arches":["s390x"]}},
          {"name":"g","action":"SCMP_ACT_ALLOW","includes":{},"excludes":{}}]}"#;
    let names = |held: &[&str]| {
        let profile = docker_profile(json, &caps(held)).unwrap();
        profile.syscalls().clone().unwrap().iter().flat_map(|rule| rule.names().clone()).collect::<String>()
    };
    assert_eq!(names(&[]), "bcfg");
    assert_eq!(names(&["SYS_ADMIN"]), "acfg");
    let profile = docker_profile(json, &[]).unwrap();
    assert_eq!(profile.default_errno_ret(), Some(38));
    assert_eq!(profile.architectures().as_ref().unwrap()[0], default_profile(&[]).architectures().as_ref().unwrap()[0]);
    for (bad, part) in [
        ("{}", "read"),
        (r#"{"defaultAction":"SCMP_ACT_NOPE"}"#, "read"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#, "kernel version"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#, "archMap"),
    ] {
        assert!(docker_profile(bad, &[]).unwrap_err().to_string().contains(part), "{bad}");
    }
    let index = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert!(matches!(compile(&docker_profile(index, &[]).unwrap()), Err(Error::Argument { index: 6, .. })));
}

#[test]
fn what_config_linux_forbids_is_refused() {
    for (bad, part) in [
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]}"#, "no \"names\""),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","errnoRet":1}]}"#, "takes no error number"),
        (r#"{"defaultAction":"SCMP_ACT_LOG","defaultErrnoRet":1}"#, "takes no error number"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#, "without listenerPath"),
    ] {
        let error = compile(&docker_profile(bad, &[]).unwrap()).unwrap_err();
        assert!(error.to_string().contains(part), "{bad}: {error}");
    }
}

#[test]
fn kernel_versions_and_names_are_in_order() {
    for (text, wanted) in [("6.18.44-fc-v669", Some((6, 18))), ("4.8", Some((4, 8))), ("5.10-rc1", Some((5, 10))), ("5", None), ("x.y", None)] {
        assert_eq!(profile::parse_version(text), wanted, "{text}");
    }
    assert!(names::ALWAYS.is_sorted());
}

/// The kernel's own judgement, in a thread of its own.
#[test]
fn the_kernel_enforces_the_default_profile() {
    let profile = default_profile(&caps(&["CHOWN", "NET_RAW"]));
    let program = compile(&profile).unwrap();
    let flags = flags(&profile);
    let answers = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert!(load(&program, flags).unwrap().is_none());
        let probe = crate::sys::seccomp::probe;
        [
            probe(libc::SYS_getpid, [0; 3]),
            probe(libc::SYS_unshare, [0x1000_0000, 0, 0]),
            probe(libc::SYS_socket, [38, 5, 0]),
            probe(libc::SYS_clone3, [0; 3]),
            probe(libc::SYS_keyctl, [0; 3]),
            probe(5000, [0; 3]),
        ]
    });
    assert_eq!(answers.join().unwrap(), [0, libc::EPERM, libc::EPERM, libc::ENOSYS, libc::EPERM, libc::ENOSYS]);
}
