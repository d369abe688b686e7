//! `volume.json`: who made a volume and when.

use crate::disk::{self, DiskError};
use coracle_protocol::release::FIRST_DATA_VERSION;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const NAME: &str = "volume.json";

/// Bytes of the file: some 60.
const BYTES: u64 = 4096;

/// What is written down of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always 1.
    volume_version: u32,
    /// The user who made it; None: a release did.
    pub owner: Option<u32>,
    /// Unix seconds.
    pub created_at: u64,
    /// Of the app that it is for.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub data_version: u32,
    /// When a copy was made, which this is: it took its place back from a version that did not stay. Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_at: Option<u64>,
}

fn first() -> u32 {
    FIRST_DATA_VERSION
}

fn is_first(version: &u32) -> bool {
    *version == FIRST_DATA_VERSION
}

impl Record {
    /// Of a volume that is made now.
    pub fn now(owner: Option<u32>) -> Record {
        Record {
            volume_version: 1,
            owner,
            created_at: unix_seconds(),
            data_version: FIRST_DATA_VERSION,
            copied_at: None,
        }
    }

    /// Of one that a release makes now.
    pub fn of_data(data_version: u32) -> Record {
        Record {
            data_version,
            ..Record::now(None)
        }
    }

    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(NAME).symlink_metadata().is_ok()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), DiskError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        disk::write_whole(&folder.join(NAME), &json, 0o600)
    }

    /// In words, why it cannot be read.
    pub(super) fn known(folder: &Path) -> Result<Record, String> {
        let read = disk::read_bounded(&folder.join(NAME), BYTES).map_err(|e| e.to_string())?;
        serde_json::from_slice(&read.unwrap_or_default()).map_err(|e| e.to_string())
    }

    /// One that cannot be read is root's: nobody else loses or gains by that. Of what is in the volume it says nothing.
    pub(super) fn read(folder: &Path) -> Record {
        Record::known(folder).unwrap_or_else(|fault| {
            tracing::warn!(path = %folder.display(), fault, "volume.json cannot be read: the volume counts as root's");
            Record {
                volume_version: 1,
                owner: Some(0),
                created_at: 0,
                data_version: FIRST_DATA_VERSION,
                copied_at: None,
            }
        })
    }
}

pub(super) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
