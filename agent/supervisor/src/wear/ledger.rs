//! What was written, across restarts of the supervisor and reboots. One small file, written when an hour ends and when the
//! supervisor does: it is not to be a wear itself.

use super::Day;
use crate::disk::{self, DiskError};
use coracle_board_support::wear::Reading;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the file: of four disks it has about 2 KiB.
const FILE_BYTES: u64 = 64 << 10;
/// Disks that are counted.
pub const DISKS: usize = 4;
const HOUR: u64 = 3600;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Nothing that has to be on the disk.
    Little,
    /// An hour ended: [`Ledger::store`] is due.
    AnHour,
}

/// Who counted, and how far.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    boot: String,
    into_hour: Duration,
    disks: BTreeMap<String, Counted>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counted {
    /// What the kernel had counted at the last look.
    written_bytes: u64,
    day: Day,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    boot: String,
    into_hour_seconds: u64,
    disks: BTreeMap<String, StoredDisk>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredDisk {
    written_bytes: u64,
    hours: Vec<u64>,
}

impl Ledger {
    /// What the file remembers. One that cannot be read is set aside, and counting begins anew. `boot` names this boot.
    pub fn load(file: &Path, boot: &str) -> Self {
        let stored = match read(file) {
            Ok(stored) => stored,
            Err(why) => {
                let aside = disk::set_aside(file);
                tracing::error!(file = %file.display(), why, ?aside, "what was written to the disks is counted anew");
                None
            }
        };
        let mut ledger = Self {
            file: file.to_owned(),
            boot: boot.to_owned(),
            into_hour: Duration::ZERO,
            disks: BTreeMap::new(),
        };
        if let Some(stored) = stored {
            let same = !boot.is_empty() && stored.boot == boot;
            ledger.into_hour = Duration::from_secs(stored.into_hour_seconds.min(HOUR - 1));
            for (name, disk) in stored.disks.into_iter().take(DISKS) {
                let counted = Counted {
                    // After a reboot the kernel counts from 0 again, and all that it has counted is news.
                    written_bytes: if same { disk.written_bytes } else { 0 },
                    day: Day::of(&disk.hours),
                };
                ledger.disks.insert(name, counted);
            }
        }
        ledger
    }

    /// Whether there is nothing yet to go on from.
    pub fn is_new(&self) -> bool {
        self.disks.is_empty()
    }

    /// One look, `passed` after the one before. A disk that is seen for the first time counts from here on.
    pub fn look(&mut self, readings: &[Reading], passed: Duration) -> Passed {
        for reading in readings.iter().take(DISKS) {
            let now = reading.written_bytes;
            let counted = self.disks.entry(reading.disk.to_string());
            let counted = counted.or_insert_with(|| Counted {
                written_bytes: now,
                day: Day::default(),
            });
            // Less than before: it is another one under the same name, or the counter went round.
            let news = now.checked_sub(counted.written_bytes).unwrap_or(now);
            counted.day.add(news);
            counted.written_bytes = now;
        }
        self.disks.retain(|name, _| {
            readings
                .iter()
                .any(|reading| reading.disk.as_str() == name.as_str())
        });
        self.into_hour = self.into_hour.saturating_add(passed);
        let hours = self.into_hour.as_secs() / HOUR;
        if hours == 0 {
            return Passed::Little;
        }
        self.into_hour -= Duration::from_secs(hours * HOUR);
        for counted in self.disks.values_mut() {
            counted
                .day
                .turn(usize::try_from(hours).unwrap_or(usize::MAX));
        }
        Passed::AnHour
    }

    /// Bytes written in the last 24 hours.
    pub fn of_day(&self, disk: &str) -> u64 {
        self.disks
            .get(disk)
            .map_or(0, |counted| counted.day.total())
    }

    /// Onto the disk.
    pub fn store(&self) -> Result<(), DiskError> {
        let disks = self.disks.iter().map(|(name, counted)| {
            let disk = StoredDisk {
                written_bytes: counted.written_bytes,
                hours: counted.day.hours().to_vec(),
            };
            (name.clone(), disk)
        });
        let mut stored = BTreeMap::new();
        stored.extend(disks);
        let stored = Stored {
            boot: self.boot.clone(),
            into_hour_seconds: self.into_hour.as_secs(),
            disks: stored,
        };
        // Names and numbers can always be written as JSON.
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        disk::write_whole(&self.file, &bytes, 0o600)
    }
}

fn read(file: &Path) -> Result<Option<Stored>, String> {
    let bytes = disk::read_bounded(file, FILE_BYTES).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let stored = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(Some(stored))
}
