//! Device rules: text for v1's devices controller, a small eBPF program for v2.

use crate::kernel::bpf::Instruction;

use super::limits::DeviceRule;

/// As `c 1:3 rwm` (cgroup-v1/devices.rst).
pub(super) fn v1_line(rule: &DeviceRule) -> String {
    let number = |part: Option<u32>| part.map_or_else(|| "*".into(), |n| n.to_string());
    let mut line = format!(
        "{} {}:{} ",
        if rule.block { 'b' } else { 'c' },
        number(rule.major),
        number(rule.minor)
    );
    line.extend(
        [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, c)| c),
    );
    line
}

/// What `rule` allows and none of `others` does, by rules of the very same numbers; None when that is nothing.
pub(super) fn beyond(rule: &DeviceRule, others: &[DeviceRule]) -> Option<DeviceRule> {
    let mut rest = *rule;
    let numbers = |rule: &DeviceRule| (rule.block, rule.major, rule.minor);
    for other in others.iter().filter(|one| numbers(one) == numbers(rule)) {
        rest.read &= !other.read;
        rest.write &= !other.write;
        rest.mknod &= !other.mknod;
    }
    (rest.read || rest.write || rest.mknod).then_some(rest)
}

// struct bpf_cgroup_dev_ctx: access_type (low half type, high half access), major, minor; u32 each.
const TYPE_BLOCK: i32 = 1;
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// The program answers 1 when a rule covers the whole access, else 0. Instructions after linux/bpf_common.h.
pub(super) fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        load_word(TYPE, 0),
        move_register(ACCESS, TYPE),
        and(TYPE, 0xffff),
        shift_right(ACCESS, 16),
        load_word(MAJOR, 4),
        load_word(MINOR, 8),
    ];
    for rule in rules {
        program.extend(check(rule));
    }
    program.extend([move_immediate(0, 0), exit()]);
    program
}

fn check(rule: &DeviceRule) -> Vec<Instruction> {
    let mut access = 0;
    for (allowed, bit) in [
        (rule.read, ACCESS_READ),
        (rule.write, ACCESS_WRITE),
        (rule.mknod, ACCESS_MKNOD),
    ] {
        if allowed {
            access |= bit;
        }
    }
    let mut block = vec![jump_unless_equal(
        TYPE,
        if rule.block { TYPE_BLOCK } else { TYPE_CHAR },
    )];
    // Anything asked for beyond what is allowed makes the rule not match.
    block.extend([
        move_register(SCRATCH, ACCESS),
        and(SCRATCH, !access & 0xffff),
        jump_unless_equal(SCRATCH, 0),
    ]);
    block.extend(
        rule.major
            .map(|major| jump_unless_equal(MAJOR, major as i32)),
    );
    block.extend(
        rule.minor
            .map(|minor| jump_unless_equal(MINOR, minor as i32)),
    );
    block.extend([move_immediate(0, 1), exit()]);

    // Every jump goes past the block: to the next rule.
    let len = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if instruction.code == JNE_K {
            instruction.offset = (len - at - 1) as i16;
        }
    }
    block
}

/// 64-bit compare; the numbers are small (majors have 12 bits, minors 20), and BPF_JMP32 would need 5.1.
const JNE_K: u8 = 0x55;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}
fn load_word(destination: u8, offset: i16) -> Instruction {
    instruction(0x61, destination, 1, offset, 0)
}
fn move_register(destination: u8, source: u8) -> Instruction {
    instruction(0xbf, destination, source, 0, 0)
}
fn move_immediate(destination: u8, value: i32) -> Instruction {
    instruction(0xb7, destination, 0, 0, value)
}
fn and(destination: u8, mask: i32) -> Instruction {
    instruction(0x57, destination, 0, 0, mask)
}
fn shift_right(destination: u8, bits: i32) -> Instruction {
    instruction(0x77, destination, 0, 0, bits)
}
fn jump_unless_equal(register: u8, value: i32) -> Instruction {
    instruction(JNE_K, register, 0, 0, value)
}
fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few instructions that `compile` uses.
    fn allows(program: &[Instruction], kind: i32, access: i32, major: i64, minor: i64) -> bool {
        let context = [i64::from(kind | access << 16), major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0usize;
        for _ in 0..10_000 {
            let step = program[at];
            let (to, from) = (
                (step.registers & 15) as usize,
                (step.registers >> 4) as usize,
            );
            at += 1;
            match step.code {
                0x61 => registers[to] = context[step.offset as usize / 4],
                0xbf => registers[to] = registers[from],
                0xb7 => registers[to] = i64::from(step.immediate),
                0x57 => registers[to] &= i64::from(step.immediate),
                0x77 => registers[to] >>= step.immediate,
                0x55 if registers[to] != i64::from(step.immediate) => at += step.offset as usize,
                0x55 => {}
                0x95 => return registers[0] == 1,
                code => panic!("unexpected instruction {code:#x}"),
            }
        }
        panic!("the program does not end")
    }

    #[test]
    fn the_defaults_open_null_and_not_the_disk() {
        let program = compile(&DeviceRule::DEFAULTS);
        assert!(allows(
            &program,
            TYPE_CHAR,
            ACCESS_READ | ACCESS_WRITE,
            1,
            3
        ));
        assert!(allows(&program, TYPE_CHAR, ACCESS_READ, 136, 17));
        assert!(allows(&program, TYPE_BLOCK, ACCESS_MKNOD, 8, 0));
        assert!(!allows(&program, TYPE_BLOCK, ACCESS_READ, 8, 0));
        assert!(!allows(
            &program,
            TYPE_BLOCK,
            ACCESS_READ | ACCESS_MKNOD,
            8,
            0
        ));
        assert!(!allows(&program, TYPE_CHAR, ACCESS_READ, 1, 1));
        assert!(!allows(&program, TYPE_BLOCK, ACCESS_READ, 1, 3));
    }

    #[test]
    fn a_read_only_rule_does_not_allow_writing() {
        let rule = DeviceRule {
            write: false,
            mknod: false,
            ..DeviceRule::char(89, Some(1))
        };
        let program = compile(&[rule]);
        assert!(allows(&program, TYPE_CHAR, ACCESS_READ, 89, 1));
        assert!(!allows(
            &program,
            TYPE_CHAR,
            ACCESS_READ | ACCESS_WRITE,
            89,
            1
        ));
        assert_eq!(v1_line(&rule), "c 89:1 r");
    }

    #[test]
    fn no_rules_allow_nothing() {
        assert!(!allows(&compile(&[]), TYPE_CHAR, ACCESS_READ, 1, 3));
    }

    #[test]
    fn what_goes_is_what_no_other_rule_of_the_same_numbers_allows() {
        let rule = |read, write| DeviceRule {
            read,
            write,
            mknod: false,
            ..DeviceRule::char(188, Some(0))
        };
        let both = rule(true, true);
        let others = [rule(true, false), DeviceRule::char(188, None)];
        assert_eq!(beyond(&both, &others), Some(rule(false, true)));
        assert_eq!(beyond(&both, &[DeviceRule::char(188, Some(0))]), None);
        assert_eq!(beyond(&both, &DeviceRule::DEFAULTS), Some(both));
    }

    #[test]
    fn v1_lines_have_stars() {
        assert_eq!(v1_line(&DeviceRule::DEFAULTS[1]), "b *:* m");
        assert_eq!(v1_line(&DeviceRule::char(136, None)), "c 136:* rwm");
    }
}
