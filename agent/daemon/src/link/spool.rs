//! Feedback that waits for the link, on disk, so that an operator learns how a deployment ended
//! even when the daemon or the board restarted in between. Oldest first, one file each; in memory alone while there are more
//! than any deployments make.

use crate::allowance::Allowance;
use crate::disk::{self, DiskError, at};
use coracle_protocol::report::{Feedback, Phase};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Messages that may wait. A deployment makes about seven, so these are the last 30 or so.
const CAPACITY: usize = 200;
/// Largest message, in bytes.
const MESSAGE_LIMIT: u64 = 8 * 1024;
/// Files that may be written one after the other.
const WRITES: u32 = 64;
/// Messages that may wait in memory alone.
const UNWRITTEN: usize = 20;

/// The spool.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    waiting: VecDeque<u64>,
    /// Those of them that are in no file, as JSON.
    unwritten: BTreeMap<u64, Vec<u8>>,
    writes: Allowance,
    next: u64,
    /// The newest progress, which the next one replaces: lost with the daemon, and worth no write.
    progress: Option<Feedback>,
}

/// What goes out next.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// Its number, when it is none of those that are replaced.
    file: Option<u64>,
    /// The message, as JSON.
    pub json: Vec<u8>,
}

impl Spool {
    /// Opens the folder and finds what waits there.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        disk::make_folder(folder, 0o700)?;
        let waiting: BinaryHeap<u64> = std::fs::read_dir(folder)
            .map_err(at("list", folder))?
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
            .collect();
        let waiting = waiting.into_sorted_vec();
        Ok(Self {
            folder: folder.to_owned(),
            next: waiting.last().map_or(0, |last| last + 1),
            waiting: waiting.into(),
            unwritten: BTreeMap::new(),
            writes: Allowance::new(WRITES),
            progress: None,
        })
    }

    /// Adds a message. When the spool is full the oldest goes: the newest says how things are.
    pub fn push(&mut self, feedback: Feedback) -> Result<(), DiskError> {
        if feedback.phase == Phase::Fetching && feedback.percent.is_some_and(|p| p > 0) {
            self.progress = Some(feedback);
            return Ok(());
        }
        self.progress = None;
        while self.waiting.len() >= CAPACITY {
            if let Some(oldest) = self.waiting.pop_front() {
                tracing::warn!(
                    message = oldest,
                    "the spool is full; the oldest feedback is lost"
                );
                self.remove(oldest);
            }
        }
        let json = serde_json::to_vec(&feedback).unwrap_or_default();
        if self.writes.take(Instant::now()) {
            disk::write(&self.path(self.next), &json)?;
        } else {
            if self.unwritten.len() >= UNWRITTEN
                && let Some((oldest, _)) = self.unwritten.pop_first()
            {
                self.waiting.retain(|number| *number != oldest);
            }
            self.unwritten.insert(self.next, json);
        }
        self.waiting.push_back(self.next);
        self.next += 1;
        Ok(())
    }

    /// The message that goes out next. It stays until [`Spool::sent`].
    pub fn head(&mut self) -> Option<Ticket> {
        while let Some(&number) = self.waiting.front() {
            if let Some(json) = self.unwritten.get(&number) {
                return Some(Ticket {
                    file: Some(number),
                    json: json.clone(),
                });
            }
            match disk::read(&self.path(number), MESSAGE_LIMIT) {
                Ok(Some(json)) if serde_json::from_slice::<Feedback>(&json).is_ok() => {
                    let file = Some(number);
                    return Some(Ticket { file, json });
                }
                Ok(Some(_)) => disk::set_aside(&self.path(number), &"not a feedback"),
                Ok(None) => {}
                Err(e) => disk::set_aside(&self.path(number), &e),
            }
            self.waiting.pop_front();
        }
        let json = serde_json::to_vec(self.progress.as_ref()?).ok()?;
        Some(Ticket { file: None, json })
    }

    /// The broker has it.
    pub fn sent(&mut self, ticket: &Ticket) {
        match ticket.file {
            Some(number) => {
                if self.waiting.front() == Some(&number) {
                    self.waiting.pop_front();
                }
                self.remove(number);
            }
            None => {
                let same = |p: &Feedback| serde_json::to_vec(p).is_ok_and(|j| j == ticket.json);
                if self.progress.as_ref().is_some_and(same) {
                    self.progress = None;
                }
            }
        }
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.progress.is_some())
    }

    /// Nothing waits any more.
    pub fn clear(&mut self) {
        self.progress = None;
        while let Some(number) = self.waiting.pop_front() {
            self.remove(number);
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.json"))
    }

    fn remove(&mut self, number: u64) {
        if self.unwritten.remove(&number).is_some() {
            return;
        }
        if let Err(e) = std::fs::remove_file(self.path(number))
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(message = number, error = %e, "cannot remove from the spool");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(sequence: u64, phase: Phase, percent: Option<u8>) -> Feedback {
        Feedback {
            activity: "a".into(),
            sequence,
            phase,
            percent,
            code: None,
            reason: None,
            fetched: None,
            blob: None,
        }
    }

    fn sequence(ticket: &Ticket) -> u64 {
        serde_json::from_slice::<Feedback>(&ticket.json)
            .unwrap()
            .sequence
    }

    #[test]
    fn survives_a_restart_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        for n in 0..12 {
            spool.push(feedback(n, Phase::Verified, None)).unwrap();
        }
        let first = spool.head().unwrap();
        spool.sent(&first);
        let mut spool = Spool::open(folder.path()).unwrap();
        for n in 1..12 {
            let ticket = spool.head().unwrap();
            assert_eq!(sequence(&ticket), n);
            spool.sent(&ticket);
        }
        assert_eq!(spool.len(), 0);
        spool.push(feedback(99, Phase::Committed, None)).unwrap();
        assert_eq!(sequence(&spool.head().unwrap()), 99);
    }

    #[test]
    fn progress_is_replaced_and_never_outlives_the_phase() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        spool.push(feedback(1, Phase::Fetching, Some(10))).unwrap();
        let old = spool.head().unwrap();
        spool.push(feedback(2, Phase::Fetching, Some(20))).unwrap();
        spool.sent(&old);
        assert_eq!(sequence(&spool.head().unwrap()), 2);
        spool.push(feedback(3, Phase::Staging, None)).unwrap();
        let ticket = spool.head().unwrap();
        assert_eq!(sequence(&ticket), 3);
        spool.sent(&ticket);
        assert_eq!(spool.len(), 0);
    }

    #[test]
    fn full_loses_the_oldest_and_a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        spool.writes = Allowance::new(u32::MAX);
        for n in 0..(CAPACITY as u64 + 5) {
            spool.push(feedback(n, Phase::Received, None)).unwrap();
        }
        assert_eq!(spool.len(), CAPACITY);
        assert_eq!(sequence(&spool.head().unwrap()), 5);
        std::fs::write(spool.path(5), b"{").unwrap();
        assert_eq!(sequence(&spool.head().unwrap()), 6);
        assert!(folder.path().join(format!("{:020}.json.bad", 5)).exists());
    }

    #[test]
    fn a_flood_goes_out_in_order_and_writes_no_more_than_some_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        for n in 0..1000 {
            spool.push(feedback(n, Phase::Refused, None)).unwrap();
        }
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files(), WRITES as usize);
        assert_eq!(spool.len(), WRITES as usize + UNWRITTEN);
        let newest = (1000 - UNWRITTEN as u64)..1000;
        for n in (0..u64::from(WRITES)).chain(newest) {
            let ticket = spool.head().unwrap();
            assert_eq!(sequence(&ticket), n);
            spool.sent(&ticket);
        }
        assert_eq!((spool.len(), files()), (0, 0));
        assert!(spool.head().is_none());
    }
}
