//! A filter from a list of rules with several actions and compared arguments, as OCI profiles have it.
//!
//! The crates for this know one action for all that match (seccompiler, which lacks 32-bit ARM too) or are a C library
//! (libseccomp). What is the same for whole ranges of calls comes first and without
//! looking at arguments, so that a profile of four hundred names stays some hundred instructions.

use std::collections::BTreeMap;

use libc::sock_filter;

use super::fast::{
    self, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD_WORD, RETURN, plain,
};
use super::{SeccompError, SeccompProgram, audit_arch_of_32_bit, native_audit_arch};

/// What the kernel does with a call (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    KillProcess,
    KillThread,
    Trap,
    Errno(u16),
    Notify,
    Trace(u16),
    Log,
    Allow,
}

/// How an argument of 64 bits is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Masked { mask: u64, value: u64 },
}

/// One argument, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    pub index: u8,
    pub compare: Compare,
}

/// Some calls, the conditions that must all hold, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub calls: Vec<u32>,
    pub arguments: Vec<Argument>,
    pub action: Action,
}

/// The kernel's limit (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

impl Action {
    fn value(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Notify => 0x7fc0_0000,
            Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }
}

impl SeccompProgram {
    /// For a call, the first rule with arguments that matches decides, then the last one without, then `otherwise`. Calls
    /// of another architecture end the process. `flags` are SECCOMP_FILTER_FLAG_*.
    ///
    /// # Errors
    /// An argument beyond the sixth, or more instructions than the kernel takes.
    pub fn from_rules(
        rules: &[Rule],
        otherwise: Action,
        flags: u64,
    ) -> Result<SeccompProgram, SeccompError> {
        SeccompProgram::from_rules_of_two(rules, None, otherwise, flags)
    }

    /// The same, with rules for the calls of 32-bit programs, which have numbers of their own: i386 on x86-64, ARM on
    /// AArch64.
    ///
    /// # Errors
    /// As [`SeccompProgram::from_rules`]; an architecture that has no such programs.
    pub fn from_rules_of_two(
        rules: &[Rule],
        of_32_bit: Option<&[Rule]>,
        otherwise: Action,
        flags: u64,
    ) -> Result<SeccompProgram, SeccompError> {
        let mut native = vec![plain(LOAD_WORD, fast::NUMBER)];
        native.extend(no_second_numbers(otherwise));
        native.extend(decide(rules, otherwise)?);
        let mut second = Vec::new();
        if let Some(rules) = of_32_bit {
            let architecture = audit_arch_of_32_bit().ok_or(SeccompError::Architecture)?;
            second.extend([
                equal(architecture),
                plain(RETURN, Action::KillProcess.value()),
            ]);
            second.push(plain(LOAD_WORD, fast::NUMBER));
            second.extend(decide(rules, otherwise)?);
        } else {
            second.push(plain(RETURN, Action::KillProcess.value()));
        }
        let mut instructions = vec![
            plain(LOAD_WORD, fast::ARCHITECTURE),
            equal(native_audit_arch()?),
            plain(JUMP, native.len() as u32),
        ];
        instructions.extend(native);
        instructions.extend(second);
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(SeccompError::Compile(format!(
                "{} instructions are more than {MAX_INSTRUCTIONS}",
                instructions.len()
            )));
        }
        Ok(SeccompProgram {
            instructions,
            flags,
        })
    }
}

/// Goes past the next instruction when it is so.
fn equal(k: u32) -> sock_filter {
    sock_filter {
        code: JUMP_IF_EQUAL,
        jt: 1,
        jf: 0,
        k,
    }
}

/// Expects the call's number to be loaded.
fn decide(rules: &[Rule], otherwise: Action) -> Result<Vec<sock_filter>, SeccompError> {
    let mut always: BTreeMap<u32, Action> = BTreeMap::new();
    let mut careful: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        for call in &rule.calls {
            if rule.arguments.is_empty() {
                always.insert(*call, rule.action);
            } else {
                careful.entry(*call).or_default().push(rule);
            }
        }
    }
    let plain_calls = always
        .iter()
        .filter(|(call, action)| !careful.contains_key(call) && **action != otherwise);
    let mut program = fast::ranges(plain_calls.map(|(call, action)| (*call, action.value())));
    for (call, rules) in &careful {
        let fallback = always.get(call).copied().unwrap_or(otherwise);
        program.extend(check_call(*call, rules, fallback)?);
    }
    program.push(plain(RETURN, otherwise.value()));
    Ok(program)
}

/// x86-64 takes each call by a second number too (x32, from 0x4000_0000 on), under the same architecture: no way around the
/// rules.
fn no_second_numbers(otherwise: Action) -> Vec<sock_filter> {
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    let answer = match otherwise {
        Action::Allow | Action::Log | Action::Notify | Action::Trace(_) => {
            Action::Errno(libc::EPERM as u16)
        }
        other => other,
    };
    let is_second = sock_filter {
        code: JUMP_IF_AT_LEAST,
        jt: 0,
        jf: 1,
        k: 0x4000_0000,
    };
    vec![is_second, plain(RETURN, answer.value())]
}

/// Expects the call's number to be loaded, and leaves it so for another call.
fn check_call(
    call: u32,
    rules: &[&Rule],
    fallback: Action,
) -> Result<Vec<sock_filter>, SeccompError> {
    let mut body = Vec::new();
    for rule in rules {
        let mut checks = Vec::new();
        for argument in &rule.arguments {
            checks.push(check_argument(argument)?);
        }
        // Each check falls through when it holds; else it goes past the rule's return.
        let mut left: usize = checks.iter().map(Vec::len).sum::<usize>() + 1;
        for check in &mut checks {
            for instruction in check.iter_mut() {
                left -= 1;
                if instruction.code == JUMP && instruction.k == MISS {
                    instruction.k = left as u32;
                }
            }
            body.append(check);
        }
        body.push(plain(RETURN, rule.action.value()));
    }
    body.push(plain(RETURN, fallback.value()));

    let mut block = vec![equal(call), plain(JUMP, body.len() as u32)];
    block.append(&mut body);
    Ok(block)
}

/// Stands for "past this rule" until the distance is known.
const MISS: u32 = u32::MAX;

const AND: u16 = 0x54;

/// Two words of the argument, the upper one first. Every way out other than success is a [`MISS`].
fn check_argument(argument: &Argument) -> Result<Vec<sock_filter>, SeccompError> {
    if argument.index > 5 {
        return Err(SeccompError::Compile(format!(
            "a system call has six arguments, and no number {}",
            argument.index
        )));
    }
    // Offset of the arguments in struct seccomp_data; all our machines are little endian.
    let low = 16 + 8 * u32::from(argument.index);
    let load = |offset| plain(LOAD_WORD, offset);
    let jump = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // The last instruction of each is the miss, and success jumps over it.
    Ok(match argument.compare {
        Compare::Equal(value) => {
            let (upper, lower) = halves(value);
            vec![
                load(low + 4),
                jump(JUMP_IF_EQUAL, upper, 0, 2),
                load(low),
                jump(JUMP_IF_EQUAL, lower, 1, 0),
                plain(JUMP, MISS),
            ]
        }
        Compare::NotEqual(value) => {
            let (upper, lower) = halves(value);
            vec![
                load(low + 4),
                jump(JUMP_IF_EQUAL, upper, 0, 3),
                load(low),
                jump(JUMP_IF_EQUAL, lower, 0, 1),
                plain(JUMP, MISS),
            ]
        }
        // A condition on 32 bits.
        Compare::Masked { mask, value } if mask >> 32 == 0 && value >> 32 == 0 => vec![
            load(low),
            plain(AND, mask as u32),
            jump(JUMP_IF_EQUAL, value as u32, 1, 0),
            plain(JUMP, MISS),
        ],
        Compare::Masked { mask, value } => {
            let ((upper_mask, lower_mask), (upper, lower)) = (halves(mask), halves(value));
            vec![
                load(low + 4),
                plain(AND, upper_mask),
                jump(JUMP_IF_EQUAL, upper, 0, 3),
                load(low),
                plain(AND, lower_mask),
                jump(JUMP_IF_EQUAL, lower, 1, 0),
                plain(JUMP, MISS),
            ]
        }
        Compare::Greater(value) => ordered(low, value, JUMP_IF_GREATER, true),
        Compare::GreaterOrEqual(value) => ordered(low, value, JUMP_IF_AT_LEAST, true),
        Compare::Less(value) => ordered(low, value, JUMP_IF_AT_LEAST, false),
        Compare::LessOrEqual(value) => ordered(low, value, JUMP_IF_GREATER, false),
    })
}

/// `upper` words that differ decide; equal ones leave it to `code` on the lower words, whose truth must be `wanted`.
fn ordered(low: u32, value: u64, code: u16, wanted: bool) -> Vec<sock_filter> {
    let (upper, lower) = ((value >> 32) as u32, value as u32);
    let jump = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let (if_greater, on_truth) = if wanted { (4, (1, 0)) } else { (3, (0, 1)) };
    let if_smaller = if wanted { 2 } else { 3 };
    vec![
        plain(LOAD_WORD, low + 4),
        jump(JUMP_IF_GREATER, upper, if_greater, 0),
        jump(JUMP_IF_EQUAL, upper, 0, if_smaller),
        plain(LOAD_WORD, low),
        jump(code, lower, on_truth.0, on_truth.1),
        plain(JUMP, MISS),
    ]
}

#[cfg(test)]
mod tests;
