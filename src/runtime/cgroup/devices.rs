//! Device rules: an ordered OCI list, where the last rule that matches decides, as an eBPF program (v2) or as
//! `devices.allow`/`devices.deny` lines (v1).
//!
//! Invariant: what no rule admits is refused; a request for several kinds of access is admitted only when each one is.

use super::Error;
use crate::sys::bpf::Instruction;
use crate::sys::bpf::operation::{
    AND_VALUE, EXIT, JUMP_EQUAL, JUMP_UNEQUAL, JUMP_UNEQUAL_WORD, LOAD_WORD, MOVE, MOVE_VALUE, OR, SHIFT_LEFT, SHIFT_RIGHT,
};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// `BPF_DEVCG_*` (`include/uapi/linux/bpf.h`).
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// A program has a verifier and a jump width; nobody names more devices.
const MAX_RULES: usize = 4096;

/// One rule in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    allow: bool,
    /// None: block and character devices.
    kind: Option<u32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u8,
}

/// What every container may use: making any node, and the nodes that the default `/dev` holds
/// (null, zero, full, random, urandom, tty, console, ptmx and the pseudo-terminals).
const DEFAULTS: [(u32, Option<i32>, Option<i32>, u8); 11] = [
    (CHARACTER, None, None, MKNOD),
    (BLOCK, None, None, MKNOD),
    (CHARACTER, Some(1), Some(3), ALL),
    (CHARACTER, Some(1), Some(5), ALL),
    (CHARACTER, Some(1), Some(7), ALL),
    (CHARACTER, Some(1), Some(8), ALL),
    (CHARACTER, Some(1), Some(9), ALL),
    (CHARACTER, Some(5), Some(0), ALL),
    (CHARACTER, Some(5), Some(1), ALL),
    (CHARACTER, Some(5), Some(2), ALL),
    (CHARACTER, Some(136), None, ALL),
];

/// The list in force: the given rules, then the default devices, which a runtime must always supply.
///
/// # Errors
/// A rule that is none.
pub(super) fn rules(given: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    if given.len() > MAX_RULES {
        let value = given.len().to_string();
        return Err(Error::Invalid { option: "number of device rules", value, why: "4096 at most" });
    }
    let mut rules = given.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    rules.extend(DEFAULTS.map(|(kind, major, minor, access)| Rule { allow: true, kind: Some(kind), major, minor, access }));
    Ok(rules)
}

/// Whether a rule refuses particular devices (not merely all of them, as every list begins).
pub(super) fn refuses_by_name(given: &[LinuxDeviceCgroup]) -> bool {
    given.iter().any(|rule| !rule.allow() && read(rule).map_or(true, |rule| !rule.is_total()))
}

fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = |why| Error::Invalid { option: "device rule", value: rule.to_string(), why };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
        Some(LinuxDeviceType::P) => return Err(invalid("a FIFO is no device")),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => i32::try_from(number).ok().filter(|number| *number >= 0).map(Some).ok_or_else(|| invalid("the number is out of range")),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(invalid("access is made of r, w and m")),
        };
    }
    // An empty text means the same as an absent one.
    let access = if access == 0 { ALL } else { access };
    Ok(Rule { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
}

impl Rule {
    /// Whether a device can have these numbers.
    fn is_possible(&self) -> bool {
        self.major.is_none_or(|major| major >> MAJOR_BITS == 0) && self.minor.is_none_or(|minor| minor >> MINOR_BITS == 0)
    }

    /// Matches every request there is.
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// Whether the list refuses nothing, so that no program is needed.
pub(super) fn allows_all(rules: &[Rule]) -> bool {
    let last_total = rules.iter().rposition(Rule::is_total);
    last_total.is_some_and(|at| rules[at..].iter().all(|rule| rule.allow))
}

/// Registers: the result, the context, the request's parts and a scratch.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
/// Both numbers in one.
const DEVICE: u8 = 7;

/// Bits of a minor number, and of a major one, in a `dev_t` of the kernel (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;
const MAJOR_BITS: u32 = 12;

/// The program of a list. Rules are tried from the last to the first: a refusing rule refuses any access it names, an
/// admitting one takes its access off the request and admits when nothing is left.
///
/// Most rules are one comparison: the verifier follows every path there is, and takes most of the time that a program's loading
/// takes. Hence a list for each kind, and both numbers compared at once.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    // `struct bpf_cgroup_dev_ctx`: access << 16 | kind, major, minor.
    let mut code = vec![
        load(KIND, 0),
        Instruction::new(MOVE, ACCESS, KIND, 0, 0),
        value(AND_VALUE, KIND, 0xffff),
        value(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        Instruction::new(MOVE, DEVICE, MAJOR, 0, 0),
        value(SHIFT_LEFT, DEVICE, MINOR_BITS as i32),
        Instruction::new(OR, DEVICE, MINOR, 0, 0),
    ];
    let characters = section(rules, CHARACTER);
    let over = i16::try_from(characters.len()).expect("invariant: 4096 rules of at most seven instructions");
    code.push(Instruction::new(JUMP_UNEQUAL, KIND, 0, over, CHARACTER as i32));
    code.extend(characters);
    code.extend(section(rules, BLOCK));
    code
}

/// What is decided for devices of one kind.
fn section(rules: &[Rule], kind: u32) -> Vec<Instruction> {
    let mut code = Vec::with_capacity(rules.len() * 3);
    for rule in rules.iter().rev().filter(|rule| rule.kind.is_none_or(|wanted| wanted == kind) && rule.is_possible()) {
        code.extend(block(rule));
        if rule.major.is_none() && rule.minor.is_none() && rule.access == ALL {
            // The verifier refuses code that nothing reaches.
            return code;
        }
    }
    code.extend(answer(0));
    code
}

/// One rule; falls through when it does not decide.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut body = Vec::with_capacity(8);
    if rule.allow {
        if rule.access != ALL {
            body.push(value(AND_VALUE, ACCESS, i32::from(ALL & !rule.access)));
            body.push(Instruction::new(JUMP_UNEQUAL, ACCESS, 0, 2, 0));
        }
        body.extend(answer(1));
    } else {
        if rule.access != ALL {
            body.push(Instruction::new(MOVE, SCRATCH, ACCESS, 0, 0));
            body.push(value(AND_VALUE, SCRATCH, i32::from(rule.access)));
            body.push(Instruction::new(JUMP_EQUAL, SCRATCH, 0, 2, 0));
        }
        body.extend(answer(0));
    }
    let (code, register, wanted) = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => (JUMP_UNEQUAL_WORD, DEVICE, major << MINOR_BITS | minor),
        (Some(major), None) => (JUMP_UNEQUAL, MAJOR, major),
        (None, Some(minor)) => (JUMP_UNEQUAL, MINOR, minor),
        (None, None) => return body,
    };
    let rest = i16::try_from(body.len()).expect("invariant: a rule has at most seven instructions");
    body.insert(0, Instruction::new(code, register, 0, rest, wanted));
    body
}

fn answer(result: i32) -> [Instruction; 2] {
    [value(MOVE_VALUE, RESULT, result), Instruction::new(EXIT, 0, 0, 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, register, CONTEXT, offset, 0)
}

fn value(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction::new(code, register, 0, 0, immediate)
}

/// The v1 lines in order, each with whether it goes to `devices.allow`; the first takes everything away.
pub(super) fn lines(rules: &[Rule]) -> Vec<(bool, String)> {
    let mut lines = vec![(false, "a".to_owned())];
    for rule in rules {
        if rule.is_total() {
            lines.push((rule.allow, "a".to_owned()));
            continue;
        }
        let number = |number: Option<i32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let access = letters(rule.access);
        // A bare `a` would mean everything whatever the numbers say, so it is spelt out.
        for (kind, letter) in [(BLOCK, 'b'), (CHARACTER, 'c')] {
            if rule.kind.is_none_or(|wanted| wanted == kind) {
                lines.push((rule.allow, format!("{letter} {}:{} {access}", number(rule.major), number(rule.minor))));
            }
        }
    }
    lines
}

/// The rules as far as a unit's `DeviceAllow=` can say them (`man 5 systemd.resource-control`): a list of what is admitted,
/// which has no exceptions, so it may admit more. `groups` is `/proc/devices`, by whose names whole majors are called.
/// None: everything, or something that has no name there.
pub(super) fn unit_rules(rules: &[Rule], groups: &str) -> Option<Vec<(String, String)>> {
    let mut everything = false;
    let mut admitted: Vec<&Rule> = Vec::new();
    for rule in rules {
        if rule.is_total() {
            everything = rule.allow;
            admitted.clear();
        } else if rule.allow {
            admitted.push(rule);
        }
    }
    let mut list = Vec::new();
    for rule in admitted.into_iter().filter(|_| !everything) {
        for (kind, word) in [(BLOCK, "block"), (CHARACTER, "char")] {
            if rule.kind.is_none_or(|wanted| wanted == kind) {
                list.push((unit_device(rule, word, groups)?, letters(rule.access)));
            }
        }
    }
    (!everything).then_some(list)
}

fn unit_device(rule: &Rule, kind: &str, groups: &str) -> Option<String> {
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), None) => {
            let heading = if kind == "char" { "Character devices:" } else { "Block devices:" };
            let lines = groups.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
            let named = lines.filter_map(|line| line.trim().split_once(' ')).find(|(number, _)| number.parse() == Ok(major));
            named.map(|(_, name)| format!("{kind}-{}", name.trim()))
        }
        (None, Some(_)) => None,
    }
}

fn letters(access: u8) -> String {
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a device program as the kernel would.
    fn run(program: &[Instruction], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers = [0u64; 8];
        let mut at = 0usize;
        for _ in 0..100_000 {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (destination, source) = (usize::from(pair & 15), usize::from(pair >> 4));
            let immediate = i64::from(immediate) as u64;
            at += 1;
            match code {
                LOAD_WORD => registers[destination] = u64::from(context[usize::try_from(offset).unwrap() / 4]),
                MOVE => registers[destination] = registers[source],
                MOVE_VALUE => registers[destination] = immediate,
                AND_VALUE => registers[destination] &= immediate,
                OR => registers[destination] |= registers[source],
                SHIFT_LEFT => registers[destination] <<= immediate,
                SHIFT_RIGHT => registers[destination] >>= immediate,
                JUMP_UNEQUAL_WORD => {
                    if registers[destination] as u32 != immediate as u32 {
                        at += usize::try_from(offset).unwrap();
                    }
                }
                JUMP_EQUAL | JUMP_UNEQUAL => {
                    if (registers[destination] == immediate) == (code == JUMP_EQUAL) {
                        at += usize::try_from(offset).unwrap();
                    }
                }
                EXIT => return registers[0] == 1,
                other => unreachable!("invariant: {other:#x} is not generated"),
            }
        }
        unreachable!("invariant: jumps go forward")
    }

    fn parsed(json: &str) -> Vec<Rule> {
        rules(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap()
    }

    #[test]
    fn the_last_match_decides_each_kind_of_access() {
        let list = parsed(
            r#"[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":10,"access":"rw"},
                {"allow":false,"type":"c","major":10,"minor":229,"access":"w"},
                {"allow":true,"type":"b","major":8,"minor":0,"access":"r"},
                {"allow":true,"type":"b","major":8,"minor":0,"access":"w"},
                {"allow":true,"type":"a","major":7,"minor":-1},
                {"allow":false,"type":"b","major":4000,"minor":1048575},
                {"allow":true,"type":"b","major":4096,"minor":3},
                {"allow":true,"type":"b","minor":99,"access":"r"}]"#,
        );
        let program = program(&list);
        for (kind, access, major, minor, wanted) in [
            (CHARACTER, READ | WRITE, 1, 3, true),
            (CHARACTER, READ, 1, 1, false),
            (CHARACTER, MKNOD, 1, 1, true),
            (CHARACTER, MKNOD | READ, 1, 1, false),
            (BLOCK, READ, 1, 3, false),
            (CHARACTER, READ | WRITE, 10, 200, true),
            (CHARACTER, READ, 10, 229, true),
            (CHARACTER, WRITE, 10, 229, false),
            (CHARACTER, READ | WRITE, 10, 229, false),
            (BLOCK, READ | WRITE, 8, 0, true),
            (BLOCK, READ | WRITE, 8, 1, false),
            (BLOCK, READ | WRITE, 7, 5, true),
            (CHARACTER, READ | WRITE, 7, 5, true),
            (CHARACTER, ALL, 136, 77, true),
            (BLOCK, READ, 0, 3, false),
            (BLOCK, READ, 4000, 1_048_575, false),
            (BLOCK, READ, 4000, 99, true),
            (BLOCK, READ | WRITE, 4000, 99, false),
            (CHARACTER, READ, 4000, 99, false),
            (CHARACTER, READ, 1, 11, false),
        ] {
            assert_eq!(run(&program, kind, access, major, minor), wanted, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn total_rules_end_the_program_and_privileged_needs_none() {
        let privileged = parsed(r#"[{"allow":false},{"allow":true,"type":"a","access":"rwm"}]"#);
        assert!(allows_all(&privileged));
        assert!(run(&program(&privileged), BLOCK, READ, 8, 0));
        let empty = parsed("[]");
        assert!(!allows_all(&empty));
        assert!(!run(&program(&empty), BLOCK, READ, 8, 0));
        assert!(run(&program(&empty), CHARACTER, READ | WRITE, 1, 5));
        assert!(!allows_all(&parsed(r#"[{"allow":true},{"allow":false,"type":"b"}]"#)));
    }

    #[test]
    fn v1_lines_spell_out_wildcards_and_wrong_rules_are_refused() {
        let list = parsed(r#"[{"allow":true,"type":"a","major":7},{"allow":false}]"#);
        let lines = lines(&list);
        assert_eq!(lines[0], (false, "a".into()));
        assert_eq!(lines[1], (true, "b 7:* rwm".into()));
        assert_eq!(lines[2], (true, "c 7:* rwm".into()));
        assert_eq!(lines[3], (false, "a".into()));
        for bad in [r#"[{"allow":true,"type":"p"}]"#, r#"[{"allow":true,"access":"x"}]"#, r#"[{"allow":true,"major":-2}]"#] {
            assert!(rules(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(bad).unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_unit_admits_at_least_what_the_rules_admit() {
        let groups = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        let given = r#"[{"allow":false},{"allow":true,"type":"b","major":8,"access":"r"},{"allow":false,"type":"b","major":8,"minor":1}]"#;
        let list = unit_rules(&parsed(given), groups).unwrap();
        let shown: Vec<_> = list.iter().map(|(device, access)| format!("{device} {access}")).collect();
        assert_eq!(shown[..4], ["block-sd r", "char-* m", "block-* m", "/dev/char/1:3 rwm"]);
        assert_eq!(shown.last().unwrap(), "char-pts rwm");
        assert_eq!(unit_rules(&parsed(r#"[{"allow":true}]"#), groups), None);
        assert_eq!(unit_rules(&parsed(r#"[{"allow":true,"type":"c","major":77}]"#), groups), None);
        assert!(refuses_by_name(&[serde_json::from_str(r#"{"allow":false,"type":"c","major":1}"#).unwrap()]));
        assert!(!refuses_by_name(&[serde_json::from_str(r#"{"allow":false,"access":"rwm"}"#).unwrap()]));
    }
}
