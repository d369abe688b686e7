//! Rates of a disk: what apps ask for, and what the medium carries.

use super::Resource;
use crate::profile::{Architecture, IoCeilings, Profile, Quotas};
use serde::{Deserialize, Serialize};

/// Bytes a second that an app is left at least, each way: a program of a few MiB starts within the time of a trial.
pub(super) const LEAST_BYTES: u64 = 256 * 1024;

/// The same of reads and writes a second.
pub(super) const LEAST_OPERATIONS: u64 = 10;

/// Per second; `None` is no rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoRates {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_operations: Option<u64>,
    /// Writes.
    pub write_operations: Option<u64>,
}

impl IoRates {
    /// What the disk of this name (`mmcblk0`) carries; what `[storage.ceilings]` says where it is not known.
    pub fn carried_by(profile: &Profile, disk: Option<&str>) -> Self {
        let storage = &profile.storage;
        let ceilings = disk.map_or(storage.ceilings, |name| {
            storage.carried_by(&format!("/dev/{name}"))
        });
        Self::from(&ceilings)
    }

    /// Of an app that names none, on a disk that carries `ceilings` for all `apps` of a set: what `[quotas]` says, and not more
    /// than an even share of what those that name a rate leave. So the sum of all rates stays below what the disk carries, as
    /// long as [`super::Budget::check`] found room for the least share of each.
    ///
    /// None on 32-bit ARM, where a rate may stop the kernel (docs/boards.md): who wants one there names it.
    pub fn default_of(profile: &Profile, ceilings: Self, apps: &[Self]) -> Self {
        if profile.architecture == Architecture::Arm {
            return Self::default();
        }
        let share = |of: fn(&Self) -> Option<u64>, least: u64| {
            let named = apps.iter().filter_map(of).fold(0, u64::saturating_add);
            let silent = apps.iter().filter(|app| of(app).is_none()).count().max(1);
            Some((of(&ceilings)?.saturating_sub(named) / silent as u64).max(least))
        };
        Self::from(&profile.quotas).at_most(Self {
            read_bytes: share(|io| io.read_bytes, LEAST_BYTES),
            write_bytes: share(|io| io.write_bytes, LEAST_BYTES),
            read_operations: share(|io| io.read_operations, LEAST_OPERATIONS),
            write_operations: share(|io| io.write_operations, LEAST_OPERATIONS),
        })
    }

    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        self.known().next().is_some()
    }

    /// Each with `other`'s where it has none of its own.
    pub fn or(self, other: Self) -> Self {
        self.with(other, |own, other| own.or(other))
    }

    /// The lower one of each, where both have one; else the one there is.
    fn at_most(self, ceiling: Self) -> Self {
        self.with(ceiling, |own, most| own.into_iter().chain(most).min())
    }

    fn with(self, other: Self, of: fn(Option<u64>, Option<u64>) -> Option<u64>) -> Self {
        Self {
            read_bytes: of(self.read_bytes, other.read_bytes),
            write_bytes: of(self.write_bytes, other.write_bytes),
            read_operations: of(self.read_operations, other.read_operations),
            write_operations: of(self.write_operations, other.write_operations),
        }
    }

    /// Those that there are.
    pub(super) fn known(&self) -> impl Iterator<Item = (Resource, u64)> {
        let all = [
            (Resource::ReadBytes, self.read_bytes),
            (Resource::WriteBytes, self.write_bytes),
            (Resource::ReadOperations, self.read_operations),
            (Resource::WriteOperations, self.write_operations),
        ];
        all.into_iter()
            .filter_map(|(what, rate)| Some((what, rate?)))
    }
}

impl From<&IoCeilings> for IoRates {
    fn from(ceilings: &IoCeilings) -> Self {
        Self {
            read_bytes: ceilings.read_bytes_per_second,
            write_bytes: ceilings.write_bytes_per_second,
            read_operations: ceilings.read_operations_per_second.map(|n| n.get().into()),
            write_operations: ceilings.write_operations_per_second.map(|n| n.get().into()),
        }
    }
}

impl From<&Quotas> for IoRates {
    fn from(quotas: &Quotas) -> Self {
        Self {
            read_bytes: quotas.io_read_bytes_per_second,
            write_bytes: quotas.io_write_bytes_per_second,
            ..Self::default()
        }
    }
}
