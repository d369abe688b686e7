//! Messages over the link that are of no use: counted by their kind, and of each kind the first of each sort of message is told
//! in the log. Whoever can send one can send a million.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More bytes than a message may have.
    TooLong,
    /// It cannot be read.
    Malformed,
    /// More came at once than can wait.
    Dropped,
    /// It was dealt with already.
    Repeated,
    /// A newer one was dealt with already.
    Old,
}

/// What it was to be: one sort must not hide another one's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// What is wanted of the board.
    Desired,
    /// A signed command.
    Command,
    /// Word of a root document.
    Root,
}

/// Their names in metrics, in the order of [`Kind`].
const NAMES: [&str; 5] = ["too-long", "malformed", "dropped", "repeated", "old"];

/// One for the process, as the link is.
static SEEN: Seen = Seen::none();

/// How many there were of each kind, and of which sorts one was told.
struct Seen {
    count: [AtomicU64; NAMES.len()],
    told: [AtomicU8; NAMES.len()],
}

impl Seen {
    const fn none() -> Self {
        Self {
            count: [const { AtomicU64::new(0) }; NAMES.len()],
            told: [const { AtomicU8::new(0) }; NAMES.len()],
        }
    }

    fn count(&self, kind: Kind) {
        self.count[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn is_first(&self, kind: Kind, sort: Sort) -> bool {
        self.count(kind);
        let bit = 1 << sort as u8;
        self.told[kind as usize].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// Counts one that is told in another way.
pub fn count(kind: Kind) {
    SEEN.count(kind);
}

/// Counts one. Whether it is the first of its kind and sort, which is to be told.
pub fn is_first(kind: Kind, sort: Sort) -> bool {
    SEEN.is_first(kind, sort)
}

/// How many there were of each kind since the daemon started.
pub fn seen() -> [(&'static str, u64); NAMES.len()] {
    let mut at = 0;
    NAMES.map(|name| {
        at += 1;
        (name, SEEN.count[at - 1].load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_sort_is_told_and_all_are_counted() {
        let seen = Seen::none();
        seen.count(Kind::Malformed);
        assert!(seen.is_first(Kind::Malformed, Sort::Command));
        assert!(!seen.is_first(Kind::Malformed, Sort::Command));
        assert!(seen.is_first(Kind::Malformed, Sort::Desired));
        assert!(seen.is_first(Kind::TooLong, Sort::Command));
        let count = |kind| seen.count[kind as usize].load(Ordering::Relaxed);
        assert_eq!((count(Kind::Malformed), count(Kind::TooLong)), (4, 1));
    }
}
