//! OCI profile → classic BPF.
//!
//! Shape: the architecture is compared first; then a balanced tree of `>=` comparisons finds the range of system call
//! numbers with one outcome; a leaf is a return, or comparisons of arguments that end in returns. Every subtree is
//! position-independent (all jumps are forward and end inside it), so trees are built by concatenation and a
//! left half longer than an 8-bit jump is skipped by `BPF_JA`.

use super::abi::{Abi, X32_BIT, canonical};
use super::{Error, Instruction};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use std::collections::HashMap;

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// `BPF_LD|BPF_W|BPF_ABS`, `BPF_RET|BPF_K`, `BPF_ALU|BPF_AND|BPF_K` and `BPF_JMP|…|BPF_K` (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

/// What a range of numbers leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Return(u32),
    /// Index into [`Policies::conditional`].
    Test(usize),
}

/// Conditions that must all hold, and the action then.
type Rule = (Vec<LinuxSeccompArg>, u32);

/// The profile turned inside out: by system call.
struct Policies<'a> {
    by_name: HashMap<&'a str, Outcome>,
    conditional: Vec<Vec<Rule>>,
    default: u32,
}

/// The BPF program of an OCI seccomp section.
///
/// An unconditional rule of a call beats its conditional ones, else the first rule that matches wins (libseccomp's
/// behaviour). A call newer than the newest one the profile names is answered with ENOSYS instead of the default error,
/// so that a C library falls back to older calls (runc's behaviour). Names that an architecture lacks are skipped.
///
/// # Errors
/// A condition or error number that cannot exist, what config-linux.md forbids, or a program above the kernel's limit.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    if seccomp.listener_metadata().is_some() && seccomp.listener_path().is_none() {
        return Err(Error::MetadataAlone);
    }
    let policies = Policies::collect(seccomp)?;
    let native = Abi::native()?;
    let mut abis = vec![native];
    for abi in seccomp.architectures().iter().flatten().filter_map(|arch| Abi::from_oci(*arch)) {
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    let beyond = match seccomp.default_action() {
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace => policies.default,
        _ => ERRNO | libc::ENOSYS.unsigned_abs(),
    };
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    let x32 = abis.contains(&Abi::X32);
    for abi in abis.iter().filter(|abi| **abi != Abi::X32) {
        let mut ranges = Vec::with_capacity(256);
        policies.ranges(*abi, beyond, &mut ranges);
        if *abi == Abi::X86_64 {
            if x32 {
                policies.ranges(Abi::X32, beyond, &mut ranges);
            } else {
                append(&mut ranges, X32_BIT, Outcome::Return(KILL_PROCESS));
            }
            // A tracer sets the number to -1 to skip a call; that is no foreign convention.
            append(&mut ranges, u32::MAX, Outcome::Return(policies.default));
        }
        let tree = policies.tree(&ranges, abi.narrow());
        program.push(jump(JUMP_EQUAL, abi.audit(), 1, 0));
        program.push(statement(JUMP, length(&tree) + 1));
        program.push(statement(LOAD, NUMBER));
        program.extend(tree);
    }
    program.push(statement(RETURN, KILL_PROCESS));
    if program.len() > MAX_INSTRUCTIONS { Err(Error::TooLong(program.len())) } else { Ok(program) }
}

/// A seccomp return value. Only an error and a tracer's message carry a number (config-linux.md: otherwise "MUST … fail").
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let numbered = matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    match errno {
        Some(number) if !numbered => Err(Error::ErrnoOfAction { action, number }),
        Some(number) if number > 0xffff => Err(Error::Errno(number)),
        other => Ok(action.as_u32(other)),
    }
}

impl<'a> Policies<'a> {
    fn collect(seccomp: &'a LinuxSeccomp) -> Result<Self, Error> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
        let mut policies = Policies { by_name: HashMap::with_capacity(512), conditional: Vec::new(), default };
        for rule in seccomp.syscalls().iter().flatten() {
            policies.add(rule)?;
        }
        Ok(policies)
    }

    fn add(&mut self, rule: &'a LinuxSyscall) -> Result<(), Error> {
        if rule.names().is_empty() {
            return Err(Error::NoNames);
        }
        let value = action(rule.action(), rule.errno_ret())?;
        let alternatives = alternatives(rule)?;
        for name in rule.names() {
            let known = self.by_name.entry(canonical(name)).or_insert(Outcome::Return(self.default));
            // A rule that repeats the default only makes the call known (libseccomp refuses such rules, runc skips them).
            if value == self.default {
                continue;
            }
            match known {
                Outcome::Return(earlier) if *earlier != self.default => {}
                outcome if alternatives.is_empty() => *outcome = Outcome::Return(value),
                Outcome::Test(index) => self.conditional[*index].extend(alternatives.iter().map(|conditions| (conditions.clone(), value))),
                outcome @ Outcome::Return(_) => {
                    *outcome = Outcome::Test(self.conditional.len());
                    self.conditional.push(alternatives.iter().map(|conditions| (conditions.clone(), value)).collect());
                }
            }
        }
        Ok(())
    }

    fn outcome(&self, name: Option<&str>) -> Option<Outcome> {
        name.and_then(|name| self.by_name.get(canonical(name))).copied()
    }

    /// Appends the ranges of one convention, each from its first number to the next range's.
    fn ranges(&self, abi: Abi, beyond: u32, ranges: &mut Vec<(u32, Outcome)>) {
        let outcomes: Vec<_> = (0..=abi.last()).map(|number| self.outcome(abi.name(number))).collect();
        let base = abi.base();
        let unlisted = Outcome::Return(self.default);
        append(ranges, base, unlisted);
        // A profile that names no call of this convention has no notion of "newer".
        let Some(newest) = outcomes.iter().rposition(Option::is_some) else { return };
        for (number, outcome) in (base..).zip(&outcomes[..=newest]) {
            append(ranges, number, outcome.unwrap_or(unlisted));
        }
        let beyond = Outcome::Return(beyond);
        append(ranges, base + newest as u32 + 1, beyond);
        for (number, name) in abi.private() {
            append(ranges, number, self.outcome(Some(name)).unwrap_or(unlisted));
            append(ranges, number + 1, beyond);
        }
    }

    /// Balanced search over ascending ranges; the accumulator holds the number.
    fn tree(&self, ranges: &[(u32, Outcome)], narrow: bool) -> Vec<Instruction> {
        let middle = ranges.len() / 2;
        if middle == 0 {
            return match ranges.first().map(|(_, outcome)| *outcome) {
                Some(Outcome::Test(index)) => self.test(&self.conditional[index], narrow),
                Some(Outcome::Return(value)) => vec![statement(RETURN, value)],
                None => vec![statement(RETURN, KILL_PROCESS)],
            };
        }
        let below = self.tree(&ranges[..middle], narrow);
        let above = self.tree(&ranges[middle..], narrow);
        let mut code = Vec::with_capacity(below.len() + above.len() + 2);
        match u8::try_from(below.len()) {
            Ok(distance) => code.push(jump(JUMP_AT_LEAST, ranges[middle].0, distance, 0)),
            Err(_) => {
                code.push(jump(JUMP_AT_LEAST, ranges[middle].0, 0, 1));
                code.push(statement(JUMP, length(&below)));
            }
        }
        code.extend(below);
        code.extend(above);
        code
    }

    /// The rules of one call in order, each falling to the next when a condition fails.
    fn test(&self, rules: &[Rule], narrow: bool) -> Vec<Instruction> {
        let mut code = Vec::new();
        for (conditions, value) in rules {
            let mut rule = vec![statement(RETURN, *value)];
            for condition in conditions.iter().rev() {
                // Failing means: past the rest of this rule.
                let mut all = compare(condition, narrow, rule.len());
                all.extend(rule);
                rule = all;
            }
            code.extend(rule);
        }
        code.push(statement(RETURN, self.default));
        code
    }
}

/// The conjunctions that make a rule match: one, or one per condition when an argument is named twice (runc reads
/// those as alternatives, since libseccomp takes one comparison per argument). Empty: the rule has no condition.
fn alternatives(rule: &LinuxSyscall) -> Result<Vec<Vec<LinuxSeccompArg>>, Error> {
    let conditions = rule.args().clone().unwrap_or_default();
    let syscall = || rule.names().first().cloned().unwrap_or_default();
    if conditions.len() > 64 {
        return Err(Error::Conditions { syscall: syscall(), count: conditions.len() });
    }
    let mut seen = [false; 6];
    let mut twice = false;
    for condition in &conditions {
        let slot = seen.get_mut(condition.index()).ok_or_else(|| Error::Argument { syscall: syscall(), index: condition.index() })?;
        twice |= std::mem::replace(slot, true);
    }
    Ok(match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, false) => vec![conditions],
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
    })
}

/// Adds a range unless the one before it already leads there.
fn append(ranges: &mut Vec<(u32, Outcome)>, first: u32, outcome: Outcome) {
    match ranges.last_mut() {
        Some((_, last)) if *last == outcome => {}
        Some((start, last)) if *start == first => *last = outcome,
        _ => ranges.push((first, outcome)),
    }
}

/// Compares one argument: falls through when it holds, else jumps over the `rest` instructions that follow.
/// 64 bits are compared as two words, the upper one first.
fn compare(condition: &LinuxSeccompArg, narrow: bool, rest: usize) -> Vec<Instruction> {
    use LinuxSeccompOperator as Op;
    let low_at = ARGUMENTS + 8 * condition.index() as u32;
    let (low_at, high_at) = if cfg!(target_endian = "big") { (low_at + 4, low_at) } else { (low_at, low_at + 4) };
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (low, high) = halves(condition.value());
    // At most 6 conditions of at most 6 instructions each follow, so 8 bits are enough.
    let fail = |after: usize| u8::try_from(rest + after).expect("invariant: a rule is shorter than 64 instructions");
    let last = |code: u16, low: u32, negate: bool| match negate {
        false => jump(code, low, 0, fail(0)),
        true => jump(code, low, fail(0), 0),
    };
    let mut code = Vec::with_capacity(6);
    if condition.op() == Op::ScmpCmpMaskedEq {
        let (wanted_low, wanted_high) = halves(condition.value_two().unwrap_or(0));
        if !narrow {
            code.extend([statement(LOAD, high_at), statement(AND, high), jump(JUMP_EQUAL, wanted_high, 0, fail(3))]);
        }
        code.extend([statement(LOAD, low_at), statement(AND, low), last(JUMP_EQUAL, wanted_low, false)]);
        return code;
    }
    let (test, negate) = match condition.op() {
        Op::ScmpCmpNe => (JUMP_EQUAL, true),
        Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => (JUMP_EQUAL, false),
        Op::ScmpCmpGt => (JUMP_GREATER, false),
        Op::ScmpCmpLe => (JUMP_GREATER, true),
        Op::ScmpCmpGe => (JUMP_AT_LEAST, false),
        Op::ScmpCmpLt => (JUMP_AT_LEAST, true),
    };
    if !narrow {
        code.push(statement(LOAD, high_at));
        if test == JUMP_EQUAL {
            // Different upper words decide: "not equal" holds (skip the two below), "equal" fails.
            code.push(jump(JUMP_EQUAL, high, 0, if negate { 2 } else { fail(2) }));
        } else {
            // A greater upper word decides, a smaller one decides the other way, an equal one leaves it to the lower.
            let (greater, smaller) = if negate { (fail(3), 2) } else { (3, fail(2)) };
            code.push(jump(JUMP_GREATER, high, greater, 0));
            code.push(jump(JUMP_EQUAL, high, 0, smaller));
        }
    }
    code.extend([statement(LOAD, low_at), last(test, low, negate)]);
    code
}

fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}
