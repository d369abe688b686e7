//! Volumes that the new set makes another version's: copied before it starts, by a child; as they were before the old set starts
//! again.

use super::Supervisor;
use crate::journal::DeployedSet;
use crate::machine::{Event, Why};
use crate::offer::Free;
use crate::offer::data::{self, Copies};
use crate::volumes::{Copying, Volumes};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::App;
use coracle_runtime::Exit;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Code of a deployment that ended because a volume could not be copied.
pub(super) const VOLUME_COPY: &str = "volume-copy";

/// Of the year 9999: no later one can be written.
const LAST_SECOND: u64 = 253_402_300_799;

/// Between two tries to put volumes back.
const AGAIN: Duration = Duration::from_secs(5);

/// Where it is with copies.
#[derive(Debug, Default)]
pub(super) struct Copier {
    child: Option<Copying>,
    ended: Option<Exit>,
    /// When volumes that could not be put back are tried again, and why they could not.
    again: Option<(Instant, String)>,
}

impl Copier {
    pub(super) fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|copying| copying.child.pid)
    }

    pub(super) fn ended(&mut self, exit: Exit) {
        self.ended = Some(exit);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match &self.child {
            Some(copying) => copying.due(),
            None => self.again.as_ref().map(|(at, _)| *at),
        }
    }

    /// What the old set waits for, in words.
    pub(super) fn stuck(&self) -> Option<String> {
        let (_, error) = self.again.as_ref()?;
        Some(format!(
            "volumes cannot be put back as they were, and the old set waits for that: {error}"
        ))
    }
}

impl Supervisor {
    /// What the set that is to come converts has to find room beside it, before anything is stopped.
    pub(super) fn has_room_for_copies(&self, set: &DeployedSet) -> Result<(), String> {
        let free = Free::of(&self.settings.config.state_dir);
        let short = Copies::of(set.release(), &self.settings).short(0, 0, free);
        match short.is_empty() {
            true => Ok(()),
            false => Err(short.join("\n")),
        }
    }

    /// Whether the set that waits, or is switched to, is about to convert this volume.
    pub(super) fn is_converted(&self, name: &VolumeName) -> bool {
        let set = self.trying.as_ref().map(|trying| &trying.set);
        set.is_some_and(|set| {
            let converted = data::conversions(set.release(), &self.settings);
            converted.is_ok_and(|all| all.iter().any(|(known, _)| known == name))
        })
    }

    /// Starts the child, where there is something to copy.
    pub(super) fn copy_volumes(&mut self) -> Option<Event> {
        let set = self.trying.as_ref().map(|trying| &trying.set);
        if let (Some(old), Some(new)) = (&self.current, set) {
            let (folder, own) = (Volumes::of(&self.settings), new.release());
            for name in data::not_there(own, old.release(), &folder) {
                if let Err(error) = folder.note_missing(name) {
                    return Some(fault(error.to_string()));
                }
            }
        }
        let volumes = set.map(|set| data::conversions(set.release(), &self.settings));
        let volumes = match volumes.unwrap_or(Ok(Vec::new())) {
            Ok(volumes) => volumes,
            Err(error) => return Some(fault(error.to_string())),
        };
        if volumes.is_empty() {
            return Some(Event::Copied);
        }
        tracing::info!(?volumes, "volumes are copied");
        match Volumes::of(&self.settings).begin_copies(volumes) {
            Ok(copying) => {
                self.copier = Copier {
                    child: Some(copying),
                    ..Copier::default()
                };
                None
            }
            Err(reason) => Some(fault(reason)),
        }
    }

    /// Once the child has ended.
    pub(super) fn copied(&mut self, now: Instant) -> Option<Event> {
        if let Some(copying) = &mut self.copier.child {
            copying.end_overdue(now);
        }
        let exit = self.copier.ended.take()?;
        let copying = self.copier.child.take()?;
        let finished = Volumes::of(&self.settings).finish_copies(copying, exit);
        Some(finished.map_or_else(fault, |()| Event::Copied))
    }

    /// Whether each volume that was copied has its old contents again; tried until that is so. Apps wait for it: of the new
    /// contents the old ones may understand nothing.
    pub(super) fn put_back_volumes(&mut self, now: Instant) -> bool {
        if self.copier.again.as_ref().is_some_and(|(at, _)| *at > now) {
            return false;
        }
        let error = Volumes::of(&self.settings).put_back().err();
        self.copier.again = error.map(|error| (now + AGAIN, error.to_string()));
        if let Some(stuck) = self.copier.stuck() {
            tracing::error!(stuck, "it is tried again");
            return false;
        }
        true
    }

    /// The new set is kept, or there is no trial.
    pub(super) fn drop_copies(&self) {
        if let Err(error) = Volumes::of(&self.settings).drop_copies() {
            tracing::warn!(%error, "copies of volumes stay until the next start or deployment");
        }
    }

    /// At a start that finds no trial: its note may have been lost before its way back was done.
    pub(super) fn settle_copies(&self) {
        // One that cannot be read now may be there tomorrow.
        let Some(set) = &self.current else {
            return;
        };
        let reads = |name: &str, holds| {
            let has = |app: &App| app.volumes.iter().any(|on| on.name.as_str() == name);
            let mut apps = set.release().apps.iter();
            apps.all(|app| !has(app) || holds <= app.data_version)
        };
        if let Err(error) = Volumes::of(&self.settings).settle_copies(reads) {
            tracing::error!(%error, "copies of volumes stay until the next start or deployment");
        }
    }

    /// What has become of a set's volumes that did not stay.
    pub(super) fn left_volumes(&self, set: &DeployedSet) -> Left {
        let volumes = Volumes::of(&self.settings);
        let mut left = Left::default();
        for app in &set.release().apps {
            for mount in app.volumes.iter().filter(|mount| !mount.read_only) {
                let name = &mount.name;
                if !volumes.exists(name) {
                    continue;
                }
                let record = volumes.record(name);
                if record.data_version >= app.data_version {
                    left.kept.insert(name.clone());
                } else if let Some(since) = record.copied_at {
                    // Without a time it was not copied yet, and is what it was.
                    left.since = Some(since.min(LAST_SECOND));
                    left.back.insert(name.clone());
                }
            }
        }
        left
    }
}

/// Volumes that a set wrote.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Those that are as they were, since when in Unix seconds.
    pub(super) back: BTreeSet<VolumeName>,
    since: Option<u64>,
    /// Those that are as it left them.
    pub(super) kept: BTreeSet<VolumeName>,
}

impl Left {
    /// In UTC.
    pub(super) fn since(&self) -> Option<String> {
        let at = UNIX_EPOCH + Duration::from_secs(self.since?);
        Some(humantime::format_rfc3339_seconds(at).to_string())
    }
}

fn fault(reason: String) -> Event {
    Event::Fault(Why::new(VOLUME_COPY, reason))
}
