//! Looks now and then how much was written to the board's disks, and says so when that is more than the profile's budget of
//! a day. Nothing is held up for it: what an app writes is held by its rates and limits.

use super::Supervisor;
use crate::settings::Settings;
use crate::wear::{Ledger, Passed};
use coracle_board_support::profile::StorageRole;
use coracle_board_support::storage::{self, Disk};
use coracle_board_support::wear::{self, Reading, Reserve};
use coracle_protocol::report::{FlashReserve, StorageWear};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// From one look to the next: the budget is one of a day.
const PAUSE: Duration = Duration::from_secs(600);

/// What was counted; nothing where the profile has no `[storage.wear]`, or the board none of its disks.
#[derive(Debug)]
pub(super) struct Wearing(Option<Counting>);

#[derive(Debug)]
struct Counting {
    hardware_root: PathBuf,
    disks: Vec<Disk>,
    budget_bytes: u64,
    ledger: Ledger,
    looked: Instant,
    look_at: Instant,
    seen: Vec<Reading>,
    /// Disks of which it was said that too much is written.
    told: BTreeSet<String>,
}

impl Wearing {
    pub(super) fn of(settings: &Settings, now: Instant) -> Self {
        let (config, profile) = (&settings.config, &settings.profile);
        let Some(budget) = &profile.storage.wear else {
            return Self(None);
        };
        let root = &config.hardware_root;
        let mut disks: Vec<Disk> = storage::disks(root, profile, StorageRole::State)
            .into_iter()
            .collect();
        if disks.is_empty() {
            disks.extend(storage::under(&config.state_dir));
        }
        if disks.is_empty() {
            return Self(None);
        }
        let file = config.deployments_dir().join("written");
        Self(Some(Counting {
            ledger: Ledger::load(&file, &wear::boot_id(root)),
            hardware_root: root.clone(),
            disks,
            budget_bytes: budget.write_mib_per_day.mib_in_bytes(),
            looked: now,
            look_at: now,
            seen: Vec::new(),
            told: BTreeSet::new(),
        }))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.as_ref().map(|counting| counting.look_at)
    }

    pub(super) fn status(&self) -> Vec<StorageWear> {
        let Some(counting) = &self.0 else {
            return Vec::new();
        };
        let status = |reading: &Reading| StorageWear {
            disk: reading.disk.to_string(),
            written_bytes: counting.ledger.of_day(&reading.disk),
            budget_bytes: counting.budget_bytes,
            worn_percent: reading.worn_percent,
            reserve: reading.reserve.map(|reserve| match reserve {
                Reserve::Normal => FlashReserve::Normal,
                Reserve::Low => FlashReserve::Low,
                Reserve::Urgent => FlashReserve::Urgent,
            }),
        };
        counting.seen.iter().map(status).collect()
    }

    /// Looks when a look is due.
    pub(super) fn follow(&mut self, now: Instant) {
        if let Some(counting) = self.0.as_mut().filter(|counting| counting.look_at <= now) {
            counting.look(now);
        }
    }

    /// The supervisor ends: what was counted since the last hour ended is kept too.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(counting) = &mut self.0 {
            counting.look(now);
            counting.store();
        }
    }
}

impl Counting {
    fn look(&mut self, now: Instant) {
        let readings = self.disks.iter();
        self.seen = readings
            .filter_map(|disk| wear::look(&self.hardware_root, disk))
            .take(crate::wear::DISKS)
            .collect();
        let first = self.ledger.is_new() && !self.seen.is_empty();
        let passed = self
            .ledger
            .look(&self.seen, now.saturating_duration_since(self.looked));
        self.looked = now;
        self.look_at = now + PAUSE;
        if first || passed == Passed::AnHour {
            self.store();
        }
        for reading in &self.seen {
            let written = self.ledger.of_day(&reading.disk);
            let too_much = written > self.budget_bytes;
            let name = reading.disk.as_str();
            if too_much && self.told.insert(name.to_owned()) {
                tracing::warn!(
                    disk = name,
                    written_mib = written >> 20,
                    budget_mib = self.budget_bytes >> 20,
                    "more was written in a day than [storage.wear] of the board's profile allows: it wears out early"
                );
            }
            if !too_much {
                self.told.remove(name);
            }
        }
    }

    fn store(&self) {
        if let Err(error) = self.ledger.store() {
            tracing::warn!(%error, "what was written to the disks is not remembered");
        }
    }
}

impl Supervisor {
    pub(super) fn follow_wear(&mut self, now: Instant) {
        self.wearing.follow(now);
    }
}
