//! What the board's lights tell whoever stands before it: that it works, is being updated, has failed, and what becomes
//! of a stick.
//!
//! How a light was before is written down before it is touched, in the run folder: a supervisor that ends, or the next one after a
//! crash, gives it back. A light that the board does not have is no error.

mod device;

pub use device::{Before, Light};

use crate::disk;
use crate::settings::Settings;
use coracle_board_support::profile::{Led, LedPattern, LedState};
use coracle_protocol::local::StickWord;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a stick's end is shown.
const STICK_END: Duration = Duration::from_secs(60);
/// A deployment that was offered, or a stick that is read, is believed to go on so long without a further sign of life.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of the file with what lights were before.
const FILE_BYTES: u64 = 16 * 1024;

/// What the supervisor knows, as far as lights tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// A new set is on trial.
    pub trial: bool,
    /// A deployment is being carried out, or a layer unpacked.
    pub working: bool,
    /// An app that should run does not.
    pub app_down: bool,
}

/// What happened lately.
#[derive(Debug, Default)]
pub struct News {
    stick: Option<(StickWord, Instant)>,
    working_until: Option<Instant>,
    failed: bool,
}

impl News {
    /// Of a supervisor that starts. `failed`: the last deployment did not stay.
    pub fn of(failed: bool) -> Self {
        Self {
            failed,
            ..Self::default()
        }
    }

    /// Something becomes of a stick.
    pub fn stick(&mut self, word: StickWord, now: Instant) {
        let time = match word {
            StickWord::Reading => PATIENCE,
            StickWord::Done | StickWord::Refused => STICK_END,
        };
        self.stick = Some((word, now + time));
    }

    /// A deployment was offered, or goes on.
    pub fn works(&mut self, now: Instant) {
        self.working_until = Some(now + PATIENCE);
        if let Some((StickWord::Reading, until)) = &mut self.stick {
            *until = now + PATIENCE;
        }
    }

    /// A deployment has ended; whether its set stays.
    pub fn ended(&mut self, stays: bool) {
        self.working_until = None;
        self.failed = !stays;
    }

    /// When what is shown may change by itself.
    pub fn due(&self) -> Option<Instant> {
        let stick = self.stick.map(|(_, until)| until);
        stick.into_iter().chain(self.working_until).min()
    }

    /// What is to be told now: what somebody waits for comes first.
    pub fn state(&mut self, seen: Seen, now: Instant) -> LedState {
        self.stick = self.stick.filter(|(_, until)| *until > now);
        self.working_until = self.working_until.filter(|until| *until > now);
        match self.stick.map(|(word, _)| word) {
            _ if seen.trial => LedState::Trial,
            Some(StickWord::Done) => LedState::StickDone,
            Some(StickWord::Refused) => LedState::StickRefused,
            Some(StickWord::Reading) => LedState::StickReading,
            None if seen.working || self.working_until.is_some() => LedState::Updating,
            None if seen.app_down || self.failed => LedState::Failed,
            None => LedState::Running,
        }
    }
}

/// The lights of the board's profile.
#[derive(Debug)]
pub struct Lights {
    /// Each with the kernel's light, once it was found.
    leds: Vec<(Led, Option<Light>)>,
    hardware_root: PathBuf,
    file: PathBuf,
    before: BTreeMap<String, Before>,
    shown: Option<LedState>,
}

impl Lights {
    /// Touches none yet.
    pub fn of(settings: &Settings) -> Self {
        let leds = settings.profile.leds.iter().cloned().collect();
        let (root, folder) = (&settings.config.hardware_root, settings.run_state_dir());
        Self::new(leds, root, &folder)
    }

    fn new(leds: Vec<Led>, hardware_root: &Path, folder: &Path) -> Self {
        let file = folder.join("lights.json");
        let before = disk::read_bounded(&file, FILE_BYTES).ok().flatten();
        let before = before.and_then(|json| serde_json::from_slice(&json).ok());
        Self {
            leds: leds.into_iter().map(|led| (led, None)).collect(),
            hardware_root: hardware_root.to_owned(),
            before: before.unwrap_or_default(),
            file,
            shown: None,
        }
    }

    /// Tells `state`. Nothing is written when that is told already.
    pub fn tell(&mut self, state: LedState) {
        if self.shown == Some(state) {
            return;
        }
        let last = self.shown.replace(state);
        for (led, light) in &mut self.leds {
            let pattern = led.pattern(state);
            let before = last.map(|last| led.pattern(last));
            // One that another supervisor left lit may have to be given back at the first look.
            let known = self.before.get(led.name.as_str());
            if before == Some(pattern) || (pattern == LedPattern::Untouched && known.is_none()) {
                continue;
            }
            if light.is_none() {
                *light = Light::open(&self.hardware_root, &led.name);
            }
            let Some(light) = light else {
                tracing::debug!(light = %led.name, "this board does not have it");
                continue;
            };
            let outcome = match (pattern, known) {
                (LedPattern::Untouched, Some(before)) => light.restore(before),
                (pattern, known) => {
                    if known.is_none() {
                        self.before
                            .insert(led.name.as_str().to_owned(), light.before());
                        store(&self.file, &self.before);
                    }
                    light.show(pattern)
                }
            };
            if let Err(error) = outcome {
                tracing::warn!(light = %led.name, ?pattern, %error, "a light does not do it");
            }
        }
    }

    /// Each as it was before.
    pub fn give_back(&mut self) {
        for (name, before) in std::mem::take(&mut self.before) {
            let light = Light::open(&self.hardware_root, &name);
            if let Some(Err(error)) = light.map(|light| light.restore(&before)) {
                tracing::warn!(light = name, %error, "a light stays as it is");
            }
        }
        self.shown = None;
        if let Err(error) = disk::remove(&self.file) {
            tracing::warn!(%error, "what lights were before");
        }
    }
}

fn store(file: &Path, before: &BTreeMap<String, Before>) {
    let json = serde_json::to_vec(before).unwrap_or_default();
    if let Err(error) = disk::write_volatile(file, &json) {
        tracing::warn!(%error, "what lights were before");
    }
}

#[cfg(test)]
mod tests;
