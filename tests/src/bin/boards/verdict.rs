//! What the serial console said: whether all tests ran, and passed.

use anyhow::{Result, ensure};

/// What a board says that its watchdog has reset.
const RESET: &str = "reset by its watchdog";

/// Fails unless each of `programs` ended with 0, the board came to its end, `not_here` and no other test was left out, and its
/// watchdog has reset it `resets` times.
pub fn judge(console: &str, programs: &[&str], not_here: &[&str], resets: usize) -> Result<()> {
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
    let mut not_here = not_here.to_vec();
    not_here.sort_unstable();
    ensure!(
        left_out == not_here,
        "left out: {left_out:?}; on this board it must be {not_here:?}"
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
        let resets =
            |console: &str, resets| judge(console, &["container", "jail"], &["two"], resets);
        let judge = |console: &str| resets(console, 0);
        let two = GOOD.replace("test one ... ok", "test zero ... not here: no disk");
        assert!(super::judge(&two, &["container"], &["two", "zero"], 0).is_ok());
        assert!(super::judge(&two, &["container"], &["zero", "zero"], 0).is_err());
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
