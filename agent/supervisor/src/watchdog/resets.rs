//! The resets for the sake of critical apps, counted where a reset does not reach.

use super::{Critical, CriticalApp, Policy, Verdict};
use crate::disk::{self, DiskError};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of the file: one number.
const FILE_BYTES: u64 = 64;

/// The policy and its memory.
#[derive(Debug)]
pub struct Resets {
    policy: Policy,
    file: PathBuf,
    looked: Instant,
    /// Once the board is to be reset it stays so: a second look must not count a second reset.
    last_word: Option<Verdict>,
}

impl Resets {
    /// `cap`: resets until the board stays up. What cannot be read counts as all of them: rather none than one after the other.
    pub fn load(file: &Path, cap: u32, now: Instant) -> Self {
        let before = match read(file) {
            Ok(before) => before,
            Err(why) => {
                tracing::error!(file = %file.display(), why, "the board is not reset for its apps until a day has gone well");
                cap
            }
        };
        Self {
            policy: Policy::new(cap, before),
            file: file.to_owned(),
            looked: now,
            last_word: None,
        }
    }

    /// Whether to feed the watchdog, with how the critical apps are. `way_back`: a deployment is under way.
    pub fn look(&mut self, apps: &[(&str, Critical)], way_back: bool, now: Instant) -> Verdict {
        if let Some(verdict) = &self.last_word {
            return verdict.clone();
        }
        let passed = now.saturating_duration_since(self.looked);
        self.looked = now;
        let before = self.policy;
        let apps: Vec<CriticalApp<'_>> = apps
            .iter()
            .map(|&(name, state)| CriticalApp { name, state })
            .collect();
        let verdict = self.policy.look(&apps, way_back, passed);
        if self.policy.resets() != before.resets()
            && let Err(error) = self.store()
        {
            // A reset that nobody remembers could be the first of an endless row.
            tracing::error!(%error, "the board is not reset");
            self.policy = before;
            return Verdict::Feed;
        }
        if let Verdict::Reset { .. } = verdict {
            self.last_word = Some(verdict.clone());
        }
        verdict
    }

    fn store(&self) -> Result<(), DiskError> {
        let text = self.policy.resets().to_string();
        disk::write_whole(&self.file, text.as_bytes(), 0o600)
    }
}

fn read(file: &Path) -> Result<u32, String> {
    let bytes = disk::read_bounded(file, FILE_BYTES).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(0) };
    let text = String::from_utf8_lossy(&bytes);
    let number = text.trim().parse();
    number.map_err(|_| format!("it holds {text:?} and not a number"))
}
