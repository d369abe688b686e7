//! The counters on disk, twice: `seen.a` and `seen.b`, each with its own checksum.
//!
//! A write replaces one slot after the other. Whatever instant the power goes at, one slot is whole,
//! and since counters are written *before* anything is activated, the older of the two is then right.
//! Slots that are both damaged are not an invitation to start at zero: see [`Counters::Damaged`].

use crate::disk::{self, DiskError};
use coracle_digest::Sha256Digest;
use coracle_protocol::counters::Seen;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of one slot: a counter takes about 80, so this holds some thousands of products.
const SLOT_BYTES: u64 = 256 * 1024;

/// What the two slots say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counters {
    /// At least one slot is whole.
    Good {
        /// What the board has seen.
        seen: Seen,
        /// Counts up with each write.
        generation: u64,
    },
    /// No slot is whole: what runs goes on, new documents are refused, because an older one could
    /// not be told from a newer one.
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    slot_version: u32,
    generation: u64,
    seen: Seen,
}

fn paths(folder: &Path) -> [PathBuf; 2] {
    [folder.join("seen.a"), folder.join("seen.b")]
}

/// Reads both slots. `expected`: a set has been deployed on this board, so that missing slots are
/// damage and not a first start.
pub fn load(folder: &Path, expected: bool) -> Counters {
    let mut faults = Vec::new();
    let mut best: Option<Slot> = None;
    let mut found = 0;
    for path in paths(folder) {
        match read(&path) {
            Ok(None) => {}
            Ok(Some(slot)) => {
                found += 1;
                if best
                    .as_ref()
                    .is_none_or(|best| slot.generation > best.generation)
                {
                    best = Some(slot);
                }
            }
            Err(fault) => {
                found += 1;
                tracing::warn!(slot = %path.display(), fault, "a counter slot is damaged");
                faults.push(fault);
            }
        }
    }
    match best {
        Some(slot) => Counters::Good {
            seen: slot.seen,
            generation: slot.generation,
        },
        None if found == 0 && !expected => Counters::Good {
            seen: Seen::default(),
            generation: 0,
        },
        None if found == 0 => Counters::Damaged("both counter slots are missing".into()),
        None => Counters::Damaged(format!("no counter slot is whole: {}", faults.join("; "))),
    }
}

/// Writes both slots, one after the other.
pub fn store(folder: &Path, generation: u64, seen: &Seen) -> Result<(), DiskError> {
    let slot = Slot {
        slot_version: 1,
        generation,
        seen: seen.clone(),
    };
    let mut bytes = serde_json::to_vec(&slot).unwrap_or_default();
    let sum = Sha256Digest::of(&bytes).hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(sum.as_bytes());
    // The slot of the older generation first, so that the newest whole one is never the one in hand.
    let [a, b] = paths(folder);
    let order = if generation.is_multiple_of(2) {
        [a, b]
    } else {
        [b, a]
    };
    for path in order {
        disk::write_whole(&path, &bytes, 0o600)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Slot>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(bytes) = disk::read_bounded(path, SLOT_BYTES).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (json, sum) = bytes.split_at(at);
    if at == 0 || sum[1..] != *Sha256Digest::of(json).hex().as_bytes() {
        return Err(format!("the checksum of {name} is wrong"));
    }
    let slot: Slot = serde_json::from_slice(json).map_err(|e| format!("{name}: {e}"))?;
    if slot.slot_version != 1 {
        return Err(format!("{name} has version {}", slot.slot_version));
    }
    Ok(Some(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::counters::Counter;

    fn seen(value: u64) -> Seen {
        Seen {
            deploy: Counter { epoch: 1, value },
            ..Seen::default()
        }
    }

    fn good(counters: &Counters) -> u64 {
        match counters {
            Counters::Good { seen, .. } => seen.deploy.value,
            Counters::Damaged(text) => panic!("damaged: {text}"),
        }
    }

    #[test]
    fn first_start_is_zero_and_deleted_slots_are_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(good(&load(folder.path(), false)), 0);
        assert!(matches!(load(folder.path(), true), Counters::Damaged(_)));
    }

    #[test]
    fn every_torn_length_of_one_slot_falls_back_to_the_other() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), 1, &seen(1)).unwrap();
        let whole = std::fs::read(folder.path().join("seen.a")).unwrap();
        store(folder.path(), 2, &seen(2)).unwrap();
        let newest = std::fs::read(folder.path().join("seen.a")).unwrap();
        std::fs::write(folder.path().join("seen.b"), &whole).unwrap();
        assert_eq!(good(&load(folder.path(), true)), 2);
        for cut in 0..newest.len() {
            std::fs::write(folder.path().join("seen.a"), &newest[..cut]).unwrap();
            assert_eq!(good(&load(folder.path(), true)), 1, "cut at {cut}");
        }
        for at in 0..newest.len() {
            let mut flipped = newest.clone();
            flipped[at] ^= 1;
            std::fs::write(folder.path().join("seen.a"), &flipped).unwrap();
            assert_eq!(good(&load(folder.path(), true)), 1, "bit at {at}");
        }
    }

    #[test]
    fn both_torn_is_damage_not_zero() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), 7, &seen(7)).unwrap();
        std::fs::write(folder.path().join("seen.a"), b"").unwrap();
        std::fs::write(folder.path().join("seen.b"), b"{}").unwrap();
        assert!(matches!(load(folder.path(), false), Counters::Damaged(_)));
    }
}
