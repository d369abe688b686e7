//! Rates of a disk: what apps ask for, and what the medium carries.

use super::Resource;
use crate::profile::{IoCeilings, Profile, Quotas};
use serde::{Deserialize, Serialize};

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
    /// Of an app that names none: what `[quotas]` says, and never more than the disk carries for all of them.
    pub fn default_of(profile: &Profile) -> Self {
        Self::from(&profile.quotas).at_most(Self::from(&profile.storage.ceilings))
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
