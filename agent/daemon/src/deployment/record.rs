//! Which activities have ended and which blobs their sets need, so that the retained desired state,
//! which comes again with each connection, starts nothing twice.

use crate::allowance::Allowance;
use crate::disk::{self, DiskError};
use coracle_protocol::Sha256Digest;
use coracle_protocol::report::Phase;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Activities that are remembered.
const ACTIVITIES: usize = 16;
/// Committed sets whose image configurations stay: the running one, the one to roll back to, and
/// one more, for the time between two.
const SETS: usize = 3;
/// Largest file, in bytes.
const FILE_LIMIT: u64 = 256 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    record_version: u32,
    /// Newest last.
    activities: VecDeque<Activity>,
    /// Digests of image configurations of each committed set; newest last.
    sets: VecDeque<Vec<Sha256Digest>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Activity {
    name: String,
    /// Of the next feedback.
    sequence: u64,
    end: Option<Phase>,
}

/// What was dealt with already: whatever it comes for again takes nobody's place.
#[derive(Debug, Default)]
pub struct Known {
    /// Activities with an end that stands.
    pub ended: Vec<String>,
    /// Assignments that were refused, whatever they are called.
    pub refused: Vec<Sha256Digest>,
}

/// Writes that may come one after the other: those of some deployments.
const WRITES: u32 = 48;

/// The record.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    written: Written,
    writes: Allowance,
    /// Assignments that were refused, newest last. Not on disk: each is refused once more after a restart.
    refused: Vec<Sha256Digest>,
    /// Something in it is not on disk.
    is_newer: bool,
    /// So is what a set needs, which cannot wait.
    has_new_set: bool,
}

impl Record {
    /// Reads the record; one that cannot be read is set aside and nothing is remembered.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let mut written: Written = disk::read_json(path, FILE_LIMIT)?.unwrap_or_default();
        written.record_version = 1;
        Ok(Self {
            path: path.to_owned(),
            written,
            writes: Allowance::new(WRITES),
            refused: Vec::new(),
            is_newer: false,
            has_new_set: false,
        })
    }

    /// Whether the activity came to an end that stands. One that failed for want of network, space
    /// or supervisor may be tried again when the desired state comes again.
    pub fn has_ended(&self, activity: &str) -> bool {
        self.ended().any(|ended| ended == activity)
    }

    fn ended(&self) -> impl Iterator<Item = &String> {
        let stands = |a: &&Activity| a.end.is_some_and(|end| end != Phase::Failed);
        self.written
            .activities
            .iter()
            .filter(stands)
            .map(|a| &a.name)
    }

    /// Whether the activity has begun and come to an end, of whatever kind.
    pub fn is_over(&self, activity: &str) -> bool {
        let mut all = self.written.activities.iter();
        all.any(|a| a.name == activity && a.end.is_some())
    }

    /// A copy of what was dealt with.
    pub fn known(&self) -> Known {
        Known {
            ended: self.ended().cloned().collect(),
            refused: self.refused.clone(),
        }
    }

    /// An assignment was refused.
    pub fn refuse(&mut self, deployment: Sha256Digest) {
        self.refused.retain(|refused| *refused != deployment);
        if self.refused.len() >= ACTIVITIES {
            self.refused.remove(0);
        }
        self.refused.push(deployment);
    }

    /// The number of the next feedback of an activity; counts up over restarts.
    pub fn next_sequence(&mut self, activity: &str) -> u64 {
        let entry = self.entry(activity);
        let sequence = entry.sequence;
        entry.sequence += 1;
        sequence
    }

    /// Notes the phase of an activity. Each but progress is on disk afterwards, while there are not too many: one that is not
    /// comes there with the next, and after a cut it is carried out once more, up to what the supervisor says of it.
    pub fn note(&mut self, activity: &str, phase: Phase) {
        self.note_at(activity, phase, Instant::now());
    }

    fn note_at(&mut self, activity: &str, phase: Phase, now: Instant) {
        self.entry(activity).end = phase.is_end().then_some(phase);
        self.is_newer = true;
        if self.writes.take(now) || self.has_new_set {
            self.store();
        }
    }

    /// What is not on disk yet comes there: the daemon ends.
    pub fn flush(&mut self) {
        if self.is_newer {
            self.store();
        }
    }

    fn store(&mut self) {
        let json = serde_json::to_vec(&self.written).unwrap_or_default();
        match disk::write(&self.path, &json) {
            Ok(()) => (self.is_newer, self.has_new_set) = (false, false),
            Err(e) => tracing::error!(error = %e, "cannot remember the deployment"),
        }
    }

    /// A set that may run from now on needs these configurations.
    pub fn keep(&mut self, configs: Vec<Sha256Digest>) {
        self.has_new_set |= self.written.sets.back() != Some(&configs);
        self.written.sets.retain(|set| *set != configs);
        self.written.sets.push_back(configs);
        while self.written.sets.len() > SETS {
            self.written.sets.pop_front();
        }
    }

    /// Blobs that sets need.
    pub fn kept_blobs(&self) -> impl Iterator<Item = Sha256Digest> {
        self.written.sets.iter().flatten().copied()
    }

    fn entry(&mut self, name: &str) -> &mut Activity {
        let activities = &mut self.written.activities;
        let at = match activities.iter().position(|a| a.name == name) {
            Some(at) => at,
            None => {
                if activities.len() >= ACTIVITIES {
                    activities.pop_front();
                }
                activities.push_back(Activity {
                    name: name.to_owned(),
                    sequence: 0,
                    end: None,
                });
                activities.len() - 1
            }
        };
        &mut activities[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_numbers_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let mut record = Record::open(&path).unwrap();
        assert_eq!(record.next_sequence("a"), 0);
        record.note("a", Phase::Committed);
        assert_eq!(record.next_sequence("b"), 0);
        record.note("b", Phase::Failed);
        let mut record = Record::open(&path).unwrap();
        assert!(record.has_ended("a"));
        assert!(!record.has_ended("b"), "may be tried again");
        assert_eq!(record.next_sequence("b"), 1);
        for n in 0..ACTIVITIES {
            record.note(&n.to_string(), Phase::Refused);
        }
        assert!(!record.has_ended("a"), "the oldest are forgotten");
        let Known { ended, .. } = record.known();
        assert_eq!(ended.len(), ACTIVITIES);
        let digest = |n: usize| Sha256Digest::of(&[n as u8]);
        for n in (0..=ACTIVITIES).chain([ACTIVITIES]) {
            record.refuse(digest(n));
        }
        let Known { refused, .. } = record.known();
        assert!(refused.into_iter().eq((1..=ACTIVITIES).map(digest)));
    }

    /// A broker that sends the same old assignment under one name after the other.
    #[test]
    fn a_flood_of_names_is_no_flood_of_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let mut record = Record::open(&path).unwrap();
        let begin = Instant::now();
        let on_disk = || std::fs::read_to_string(&path).unwrap_or_default();
        let mut writes = 0;
        for n in 0..1000 {
            let before = on_disk();
            record.note_at(&format!("replay-{n}"), Phase::Refused, begin);
            writes += u32::from(on_disk() != before);
        }
        assert_eq!(writes, WRITES);
        // The name is known all the same.
        assert!(record.has_ended("replay-999"));
        // What a set needs does not wait for them.
        let digest = Sha256Digest::of(b"config");
        record.keep(vec![digest]);
        record.note_at("good", Phase::Staging, begin);
        let again = Record::open(&path).unwrap();
        assert_eq!(again.kept_blobs().collect::<Vec<_>>(), [digest]);
        record.note_at("good", Phase::Committed, begin);
        assert!(!Record::open(&path).unwrap().has_ended("good"));
        record.flush();
        assert!(Record::open(&path).unwrap().has_ended("good"));
    }
}
