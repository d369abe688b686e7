//! How far the deltas for new releases are. In memory: what was made is in the database.

use coracle_digest::Sha256Digest;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Releases that are remembered.
const RELEASES: usize = 32;

/// Pairs of layers, one that boards hold and one that they will need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// In all.
    pub pairs: usize,
    /// Looked at.
    pub done: usize,
    /// Of those, with a delta; for the others boards take the full layer.
    pub made: usize,
}

/// The newest releases last.
#[derive(Debug, Default)]
pub struct Table(Mutex<VecDeque<(Sha256Digest, Progress)>>);

impl Table {
    /// A release whose pairs are known now; `false` when it is under way already.
    pub fn begin(&self, release: Sha256Digest, pairs: usize) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_under_way = |(known, progress): &(Sha256Digest, Progress)| {
            *known == release && progress.done < progress.pairs
        };
        if table.iter().any(is_under_way) {
            return false;
        }
        table.retain(|(known, _)| *known != release);
        if table.len() == RELEASES {
            table.pop_front();
        }
        let progress = Progress {
            pairs,
            ..Progress::default()
        };
        table.push_back((release, progress));
        true
    }

    /// It came to no end.
    pub fn forget(&self, release: &Sha256Digest) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|(known, _)| known != release);
    }

    /// One pair more is done.
    pub fn step(&self, release: &Sha256Digest, made: bool) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, progress)) = table.iter_mut().find(|(known, _)| known == release) {
            progress.done += 1;
            progress.made += usize::from(made);
        }
    }

    /// How far a release is.
    pub fn of(&self, release: &Sha256Digest) -> Option<Progress> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = table.iter().find(|(known, _)| known == release);
        found.map(|(_, progress)| *progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_begun_again() {
        let table = Table::default();
        let release = Sha256Digest::of(b"release");
        assert!(table.begin(release, 2));
        table.step(&release, true);
        assert!(!table.begin(release, 2), "pushed again");
        table.step(&release, false);
        let done = Progress {
            pairs: 2,
            done: 2,
            made: 1,
        };
        assert_eq!(table.of(&release), Some(done));
        assert!(table.begin(release, 3), "boards may hold other layers now");
        table.forget(&release);
        assert!(table.begin(release, 3));
    }
}
