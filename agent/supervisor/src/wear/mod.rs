//! How much is written to the board's disks in a day, against what the profile says that they bear. Pure but for its one
//! file: who counts is [`coracle_board_support::wear`], and [`crate::supervisor`] looks now and then.
//!
//! A day is 24 hours in which the board ran: one that is off writes nothing, and many know no dates.
//!
//! | file | what it does |
//! |---|---|
//! | `day` | what was written in the last 24 hours |
//! | `ledger` | the same, remembered across restarts and reboots |

mod day;
mod ledger;

pub use day::Day;
pub use ledger::{DISKS, Ledger, Passed};

#[cfg(test)]
mod tests;
