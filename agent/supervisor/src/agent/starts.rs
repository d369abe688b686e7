//! How often a program that was kept has been started since it last stayed.

use serde::{Deserialize, Serialize};

/// So often in one start of the board. With the next start systemd has counted as many as its unit bears in a minute.
const HERE: u32 = 2;

/// In so many starts of the board, one after the other: whoever pulls the plug says nothing about the program, and one that has
/// the board reset each time is passed over at last. Many, as a board that loses its power every minute is not one with a bad
/// program, and the one before it may not know what was deployed since.
const BOOTS: u32 = 20;

/// Counted on disk before each start; gone once the program has stayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// The board's start in which the last one was, as the kernel names it.
    boot: String,
    /// So many were in that one.
    here: u32,
    /// In so many starts of the board there were some.
    boots: u32,
}

impl Starts {
    /// One more, in this start of the board; or why it has had all that it gets, in words behind its name.
    pub fn one_more(&mut self, boot: &str) -> Result<(), String> {
        let (here, boots) = match self.boot == boot {
            true => (self.here.saturating_add(1), self.boots.max(1)),
            false => (1, self.boots.saturating_add(1)),
        };
        if here > HERE || boots > BOOTS {
            let (times, of) = match here > HERE {
                true => (HERE, ""),
                false => (BOOTS, " of the board"),
            };
            return Err(format!(
                "had been kept, was started {times} times since{of} and did not stay"
            ));
        }
        (self.here, self.boots) = (here, boots);
        boot.clone_into(&mut self.boot);
        Ok(())
    }

    /// The last one ended because somebody asked for it.
    pub fn one_less(&mut self) {
        self.here = self.here.saturating_sub(1);
        if self.here == 0 {
            self.boots = self.boots.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_starts_of_the_program_and_twenty_of_the_board_are_borne() {
        let mut starts = Starts::default();
        starts.one_more("monday").unwrap();
        starts.one_more("monday").unwrap();
        let told = starts.clone();
        let reason = starts.one_more("monday").unwrap_err();
        assert!(reason.contains("started 2 times"), "{reason}");
        assert_eq!(starts, told);
        for day in 2..=20 {
            starts.one_more(&day.to_string()).unwrap();
            assert_eq!(starts.here, 1);
        }
        let reason = starts.one_more("saturday").unwrap_err();
        assert!(reason.contains("20 times since of the board"), "{reason}");
    }

    /// A board that is switched off in order each evening, however soon.
    #[test]
    fn a_start_that_was_ended_in_order_does_not_count() {
        let mut starts = Starts::default();
        for day in 0..100 {
            for _ in 0..3 {
                starts.one_more(&day.to_string()).unwrap();
                starts.one_less();
            }
        }
        starts.one_more("last").unwrap();
        starts.one_more("last").unwrap();
        starts.one_less();
        starts.one_more("last").unwrap();
        assert!(starts.one_more("last").is_err());
        // Damaged numbers end nothing before its time by going round.
        let most = || Starts {
            boot: "last".into(),
            here: u32::MAX,
            boots: u32::MAX,
        };
        assert!(most().one_more("last").is_err() && most().one_more("next").is_err());
    }
}
