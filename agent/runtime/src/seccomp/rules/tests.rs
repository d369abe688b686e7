use super::super::tests::answer;
use super::*;

const READ: u32 = libc::SYS_read as u32;
const WRITE: u32 = libc::SYS_write as u32;
const SOCKET: u32 = libc::SYS_socket as u32;

fn rule(calls: &[u32], arguments: &[Argument], action: Action) -> Rule {
    Rule {
        calls: calls.to_vec(),
        arguments: arguments.to_vec(),
        action,
    }
}

fn first(compare: Compare) -> Argument {
    Argument { index: 0, compare }
}

#[test]
fn each_comparison_sees_both_halves() {
    const BIG: u64 = 0x5_0000_0007;
    type Truth = fn(u64) -> bool;
    let comparisons: [(Compare, Truth); 7] = [
        (Compare::Equal(BIG), |x| x == BIG),
        (Compare::NotEqual(BIG), |x| x != BIG),
        (Compare::Less(BIG), |x| x < BIG),
        (Compare::LessOrEqual(BIG), |x| x <= BIG),
        (Compare::Greater(BIG), |x| x > BIG),
        (Compare::GreaterOrEqual(BIG), |x| x >= BIG),
        (
            Compare::Masked {
                mask: 0xf_0000_000f,
                value: BIG,
            },
            |x| x & 0xf_0000_000f == BIG,
        ),
    ];
    for (compare, truth) in comparisons {
        let rules = [rule(&[SOCKET], &[first(compare)], Action::Errno(9))];
        let program = SeccompProgram::from_rules(&rules, Action::Allow, 0).unwrap();
        for value in [
            0,
            7,
            BIG - 1,
            BIG,
            BIG + 1,
            BIG + 16,
            0x4_0000_0007,
            0x4_0000_0008,
            0x6_0000_0000,
            0x6_0000_0007,
            u64::MAX,
        ] {
            let wanted = if truth(value) {
                Action::Errno(9)
            } else {
                Action::Allow
            };
            let got = answer(&program, i64::from(SOCKET), value);
            assert_eq!(got, wanted.value(), "{compare:?} of {value:#x}");
        }
        assert_eq!(answer(&program, libc::SYS_read, BIG), Action::Allow.value());
    }
}

#[test]
fn the_first_match_decides_then_the_rule_without_arguments_then_the_default() {
    let rules = [
        rule(&[READ, WRITE], &[], Action::Allow),
        rule(&[WRITE], &[first(Compare::Equal(1))], Action::Errno(1)),
        rule(
            &[WRITE, SOCKET],
            &[first(Compare::Less(3))],
            Action::Errno(2),
        ),
    ];
    let program = SeccompProgram::from_rules(&rules, Action::KillProcess, 0).unwrap();
    for (call, argument, wanted) in [
        (READ, 1, Action::Allow),
        (WRITE, 1, Action::Errno(1)),
        (WRITE, 2, Action::Errno(2)),
        (WRITE, 3, Action::Allow),
        (SOCKET, 2, Action::Errno(2)),
        (SOCKET, 3, Action::KillProcess),
        (libc::SYS_mount as u32, 1, Action::KillProcess),
    ] {
        let got = answer(&program, i64::from(call), argument);
        assert_eq!(got, wanted.value(), "{call} {argument}");
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let both = [
        first(Compare::Equal(5)),
        Argument {
            index: 1,
            compare: Compare::Equal(0),
        },
    ];
    let never = [
        first(Compare::Equal(5)),
        Argument {
            index: 1,
            compare: Compare::Greater(0),
        },
    ];
    let program = |arguments: &[Argument]| {
        let rules = [rule(&[SOCKET], arguments, Action::Errno(3))];
        SeccompProgram::from_rules(&rules, Action::Allow, 0).unwrap()
    };
    let socket = i64::from(SOCKET);
    assert_eq!(answer(&program(&both), socket, 5), Action::Errno(3).value());
    assert_eq!(answer(&program(&both), socket, 6), Action::Allow.value());
    assert_eq!(answer(&program(&never), socket, 5), Action::Allow.value());
}

#[test]
fn a_seventh_argument_is_refused() {
    let seventh = Argument {
        index: 6,
        compare: Compare::Equal(0),
    };
    let rules = [rule(&[READ], &[seventh], Action::Allow)];
    assert!(SeccompProgram::from_rules(&rules, Action::Allow, 0).is_err());
}

#[test]
fn programs_of_32_bits_have_rules_of_their_own() {
    let Some(small) = super::super::audit_arch_of_32_bit() else {
        return;
    };
    let native = [rule(&[READ], &[], Action::Errno(1))];
    // The same number is another call there.
    let other = [
        rule(&[READ + 1], &[], Action::Errno(2)),
        rule(&[7], &[first(Compare::Equal(5))], Action::Trap),
    ];
    let program =
        SeccompProgram::from_rules_of_two(&native, Some(&other), Action::Allow, 0).unwrap();
    let on = |architecture, call: u32, argument| {
        super::super::tests::answer_on(architecture, &program, i64::from(call), argument)
    };
    let home = native_audit_arch().unwrap();
    assert_eq!(on(home, READ, 0), Action::Errno(1).value());
    assert_eq!(on(home, READ + 1, 0), Action::Allow.value());
    assert_eq!(on(small, READ, 0), Action::Allow.value());
    assert_eq!(on(small, READ + 1, 0), Action::Errno(2).value());
    assert_eq!(on(small, 7, 5), Action::Trap.value());
    assert_eq!(on(small, 7, 6), Action::Allow.value());
    assert_eq!(on(0x1234, READ, 0), Action::KillProcess.value());
    let alone = SeccompProgram::from_rules(&native, Action::Allow, 0).unwrap();
    let killed = super::super::tests::answer_on(small, &alone, i64::from(WRITE), 0);
    assert_eq!(killed, Action::KillProcess.value());
}
