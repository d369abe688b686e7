//! What the serial console said: whether all tests ran, and passed.

use anyhow::{Result, ensure};

/// What a board says that its watchdog has reset.
const RESET: &str = "reset by its watchdog";

/// Tests that a board leaves out.
#[derive(Clone, Copy)]
pub struct LeftOut<'a> {
    pub these: &'a [&'a str],
    /// Whether all of them were asked for, so that each must say so.
    pub all: bool,
}

/// Fails unless each of `programs` ended with 0, the board came to its end, those of `not_here` and no other test were left out, and
/// its watchdog has reset it `resets` times.
pub fn judge(console: &str, programs: &[&str], not_here: LeftOut<'_>, resets: usize) -> Result<()> {
    let told: Vec<&str> = console
        .lines()
        .filter_map(|line| line.strip_prefix("CORACLE-BOARD "))
        .collect();
    for program in programs {
        let code = told.iter().find_map(|line| {
            line.strip_prefix("exit ")?
                .strip_prefix(program)?
                .strip_prefix(' ')
        });
        ensure!(code.is_some(), "{program} did not come to its end");
        ensure!(
            code == Some("0"),
            "{program} ended with {}",
            code.unwrap_or_default()
        );
    }
    ensure!(told.contains(&"done"), "the board did not come to its end");
    // Each boot asks the watchdog whether it was that which ended the one before.
    let were = told.iter().filter(|line| **line == RESET).count();
    ensure!(
        were == resets,
        "its watchdog has reset it {were} times; on this board it must be {resets}"
    );
    let mut left_out: Vec<&str> = console.lines().filter_map(left_out).collect();
    left_out.sort_unstable();
    // Tests run in an order that is theirs.
    let mut known = not_here.these.to_vec();
    known.sort_unstable();
    let expected = match not_here.all {
        true => left_out == known,
        false => left_out.iter().all(|test| known.contains(test)),
    };
    ensure!(
        expected,
        "left out: {left_out:?}; on this board it must be {known:?}"
    );
    Ok(())
}

/// The name in `test NAME ... not here: REASON`.
fn left_out(line: &str) -> Option<&str> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    verdict.starts_with("not here").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[1.0] boot\ntest one ... ok\ntest two ... not here: no swap\n\
                        CORACLE-BOARD exit container 0\nCORACLE-BOARD exit jail 0\nCORACLE-BOARD done\n";

    #[test]
    fn all_must_run_to_the_end_and_pass() {
        let of = |these: &'static [&'static str]| LeftOut { these, all: true };
        let resets =
            |console: &str, resets| judge(console, &["container", "jail"], of(&["two"]), resets);
        let judge = |console: &str| resets(console, 0);
        let two = GOOD.replace("test one ... ok", "test zero ... not here: no disk");
        assert!(super::judge(&two, &["container"], of(&["two", "zero"]), 0).is_ok());
        assert!(super::judge(&two, &["container"], of(&["zero", "zero"]), 0).is_err());
        // Some were asked for: others need not say that they are left out.
        let some = LeftOut {
            these: &["two", "zero"],
            all: false,
        };
        assert!(super::judge(GOOD, &["container"], some, 0).is_ok());
        let some = LeftOut {
            these: &["zero"],
            ..some
        };
        assert!(super::judge(GOOD, &["container"], some, 0).is_err());
        assert!(judge(GOOD).is_ok());
        assert!(judge(&GOOD.replace("jail 0", "jail 1")).is_err());
        assert!(judge(&GOOD.replace("exit jail 0", "exit prison 0")).is_err());
        assert!(judge(&GOOD.replace("BOARD done", "BOARD")).is_err());
        assert!(judge(&GOOD.replace("test two", "test three")).is_err());
        let reset = format!("CORACLE-BOARD {RESET}\n{GOOD}");
        assert!(resets(&reset, 1).is_ok() && resets(&reset, 2).is_err());
        assert!(judge(&reset).is_err());
        assert!(judge("Kernel panic - not syncing").is_err());
    }
}
