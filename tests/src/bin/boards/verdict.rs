//! What the serial console said: whether all tests ran, and passed.

use anyhow::{Result, ensure};

/// What a board says that its watchdog has reset.
const RESET: &str = "reset by its watchdog";

/// Tests that a board leaves out.
#[derive(Clone, Copy)]
pub enum LeftOut<'a> {
    /// All tests were asked for: these say that they are left out, and no other.
    All(&'a [&'a str]),
    /// Some were asked for: none but these says so.
    SomeOf(&'a [&'a str]),
    /// Whichever says so, on a kernel that is not known.
    Any,
}

/// Fails unless each of `programs` ended with 0, the board came to its end, tests were left out as `not_here` says, and
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
    let (expected, known) = match not_here {
        LeftOut::All(known) => {
            // Tests run in an order that is theirs.
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            (left_out == sorted, known)
        }
        LeftOut::SomeOf(known) => (left_out.iter().all(|test| known.contains(test)), known),
        LeftOut::Any => return Ok(()),
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
        let resets = |console: &str, resets| {
            judge(
                console,
                &["container", "jail"],
                LeftOut::All(&["two"]),
                resets,
            )
        };
        let judge = |console: &str| resets(console, 0);
        let left_out = |console: &str, of| super::judge(console, &["container"], of, 0);
        let two = GOOD.replace("test one ... ok", "test zero ... not here: no disk");
        assert!(left_out(&two, LeftOut::All(&["two", "zero"])).is_ok());
        assert!(left_out(&two, LeftOut::All(&["zero", "zero"])).is_err());
        assert!(left_out(GOOD, LeftOut::SomeOf(&["two", "zero"])).is_ok());
        assert!(left_out(GOOD, LeftOut::SomeOf(&["zero"])).is_err());
        assert!(left_out(&two, LeftOut::Any).is_ok());
        assert!(left_out(&two.replace("container 0", "container 1"), LeftOut::Any).is_err());
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
