//! The counters on disk, twice: `seen.a` and `seen.b`, each with its own checksum.
//!
//! A write replaces one slot after the other. Whatever instant the power goes at, one slot is whole,
//! and since counters are written *before* anything is activated, the older of the two is then right.
//! Slots that are both damaged are not an invitation to start at zero: see [`Counters::Damaged`].
//!
//! Version 1 is read for ever, and a member is added without a new one: a program that comes back after a newer
//! one passes over what it does not know, and writes it again as it was (see [`Unknown`]).

use crate::disk::{self, DiskError};
use coracle_digest::Sha256Digest;
use coracle_protocol::counters::Seen;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
        /// What a newer program wrote besides.
        unknown: Unknown,
    },
    /// No slot is whole: what runs goes on, new documents are refused, because an older one could
    /// not be told from a newer one.
    Damaged(String),
}

/// Members of a slot that this program does not know, each in its place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknown(Map<String, Value>);

#[derive(Serialize, Deserialize)]
struct Slot {
    slot_version: u32,
    generation: u64,
    seen: Seen,
    #[serde(skip)]
    unknown: Unknown,
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
            unknown: slot.unknown,
        },
        None if found == 0 && !expected => Counters::Good {
            seen: Seen::default(),
            generation: 0,
            unknown: Unknown::default(),
        },
        None if found == 0 => Counters::Damaged("both counter slots are missing".into()),
        None => Counters::Damaged(format!("no counter slot is whole: {}", faults.join("; "))),
    }
}

/// Writes both slots, one after the other, with what was `unknown` when they were read.
pub fn store(
    folder: &Path,
    generation: u64,
    seen: &Seen,
    unknown: &Unknown,
) -> Result<(), DiskError> {
    let slot = Slot {
        slot_version: 1,
        generation,
        seen: seen.clone(),
        unknown: Unknown::default(),
    };
    let mut bytes = serde_json::to_vec(&slot).unwrap_or_default();
    if let (false, Ok(mut all)) = (unknown.0.is_empty(), serde_json::from_slice(&bytes)) {
        put_back(&mut all, &unknown.0);
        bytes = serde_json::to_vec(&all).unwrap_or_default();
    }
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
    let fault = |e: serde_json::Error| format!("{name}: {e}");
    let mut slot: Slot = serde_json::from_slice(json).map_err(fault)?;
    if slot.slot_version != 1 {
        return Err(format!("{name} has version {}", slot.slot_version));
    }
    let known = serde_json::to_vec(&slot).map_err(fault)?;
    let known = serde_json::from_slice(&known).map_err(fault)?;
    slot.unknown = Unknown(left(serde_json::from_slice(json).map_err(fault)?, &known));
    Ok(Some(slot))
}

/// What `all` has and `known` has not.
fn left(all: Map<String, Value>, known: &Map<String, Value>) -> Map<String, Value> {
    let mut left = Map::new();
    for (name, value) in all {
        match (value, known.get(&name)) {
            (value, None) => drop(left.insert(name, value)),
            (Value::Object(value), Some(Value::Object(known))) => {
                let inner = self::left(value, known);
                if !inner.is_empty() {
                    left.insert(name, Value::Object(inner));
                }
            }
            _ => {}
        }
    }
    left
}

/// The way back: what `all` has itself counts.
fn put_back(all: &mut Map<String, Value>, left: &Map<String, Value>) {
    for (name, value) in left {
        match (all.get_mut(name), value) {
            (None, value) => drop(all.insert(name.clone(), value.clone())),
            (Some(Value::Object(all)), Value::Object(left)) => put_back(all, left),
            _ => {}
        }
    }
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
        store(folder.path(), 1, &seen(1), &Unknown::default()).unwrap();
        let whole = std::fs::read(folder.path().join("seen.a")).unwrap();
        store(folder.path(), 2, &seen(2), &Unknown::default()).unwrap();
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
        store(folder.path(), 7, &seen(7), &Unknown::default()).unwrap();
        std::fs::write(folder.path().join("seen.a"), b"").unwrap();
        std::fs::write(folder.path().join("seen.b"), b"{}").unwrap();
        assert!(matches!(load(folder.path(), false), Counters::Damaged(_)));
    }

    /// Slots as the first boards wrote them: they are read for ever, and written so that those boards' program reads them.
    const VERSION_1: [&str; 2] = [
        concat!(
            r#"{"slot_version":1,"generation":7,"seen":{"releases":{"shop":{"epoch":1,"value":9}},"#,
            r#""deploy":{"epoch":2,"value":42},"offline_deploy":{"epoch":3,"value":5},"#,
            r#""command":{"epoch":1,"value":3},"reset":{"epoch":4,"value":1},"#,
            r#""newest_issued_at":1800000000,"time":1800000001}}"#,
            "\n665cfa5485768f85dbd7a598858060c4e23e4946aaf21194803be89a34063bad"
        ),
        concat!(
            r#"{"slot_version":1,"generation":1,"seen":{"releases":{},"#,
            r#""deploy":{"epoch":0,"value":0},"offline_deploy":{"epoch":0,"value":0},"#,
            r#""newest_issued_at":0,"time":0}}"#,
            "\n042fd568241d168103e222538e869c4cee122b651ffa7b7730a833c2babf14c9"
        ),
    ];

    #[test]
    fn version_one_is_read_for_ever_and_written_as_it_was() {
        let counter = |epoch, value| Counter { epoch, value };
        let first = Seen {
            releases: [(
                coracle_protocol::names::ProductName::new("shop").unwrap(),
                counter(1, 9),
            )]
            .into(),
            deploy: counter(2, 42),
            offline_deploy: counter(3, 5),
            command: counter(1, 3),
            reset: counter(4, 1),
            agent: Counter::default(),
            newest_issued_at: 1_800_000_000,
            time: coracle_protocol::time::TimeBound::at(1_800_000_001),
        };
        let expected = [(first, 7), (Seen::default(), 1)];
        for (bytes, (seen, generation)) in VERSION_1.into_iter().zip(expected) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("seen.b"), bytes).unwrap();
            let unknown = Unknown::default();
            let good = Counters::Good {
                seen: seen.clone(),
                generation,
                unknown: unknown.clone(),
            };
            assert_eq!(load(folder.path(), true), good);
            store(folder.path(), generation, &seen, &unknown).unwrap();
            let written = std::fs::read_to_string(folder.path().join("seen.a")).unwrap();
            assert_eq!(written, bytes);
        }
    }
}
