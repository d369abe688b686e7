//! Messages over the link that are of no use: counted by their kind, and of each kind the first is told in the log. Whoever can
//! send one can send a million.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Their names in metrics, in the order of [`Kind`].
const NAMES: [&str; 5] = ["too-long", "malformed", "dropped", "repeated", "old"];

/// One for the process, as the link is.
static SEEN: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Counts one. Whether it is the first of its kind, which is to be told.
pub fn is_first(kind: Kind) -> bool {
    SEEN[kind as usize].fetch_add(1, Ordering::Relaxed) == 0
}

/// How many there were of each kind since the daemon started.
pub fn seen() -> [(&'static str, u64); NAMES.len()] {
    let mut at = 0;
    NAMES.map(|name| {
        at += 1;
        (name, SEEN[at - 1].load(Ordering::Relaxed))
    })
}
