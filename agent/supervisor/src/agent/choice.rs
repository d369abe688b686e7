//! `<state>/agent/choice`: JSON, a line's end, and the SHA-256 of that JSON.

use super::Chosen;
use super::starts::Starts;
use crate::disk::{self, DiskError};
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE_BYTES: u64 = 64 * 1024;
const VERSION: u32 = 1;

/// Which program is to run. Fields that a later program adds are passed over: see [`super`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    choice_version: u32,
    /// `None`: the root file system's.
    pub program: Option<Chosen>,
    /// The one before it, where that was not the root file system's.
    pub previous: Option<Chosen>,
    /// `program` has not proved itself yet.
    pub trial: Option<Trial>,
    /// The last one that did not.
    pub failed: Option<Failed>,
    /// Starts of a `program` that was kept, until it has stayed again.
    #[serde(default)]
    pub starts: Option<Starts>,
}

/// A trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Digest of the assignment with which it is kept or goes.
    pub deployment: Sha256Digest,
    /// So often it was started.
    pub starts: u32,
    /// It is ended when its loop stands still for so many seconds.
    pub patience_seconds: u32,
}

/// A program that did not prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Digest of the assignment that brought it.
    pub deployment: Sha256Digest,
    /// In words.
    pub reason: String,
    /// It had proved itself before: its set may run on, without it.
    #[serde(default)]
    pub had_stayed: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            choice_version: VERSION,
            program: None,
            previous: None,
            trial: None,
            failed: None,
            starts: None,
        }
    }
}

impl Choice {
    /// `program` is to be tried with the set of this assignment.
    pub fn on_trial(
        program: Chosen,
        previous: Option<Chosen>,
        deployment: Sha256Digest,
        patience_seconds: u32,
    ) -> Self {
        Self {
            program: Some(program),
            previous,
            trial: Some(Trial {
                deployment,
                starts: 0,
                patience_seconds,
            }),
            ..Self::default()
        }
    }

    /// `None` when nothing was ever chosen. What cannot be read is set aside, and said: the root file system's program runs.
    pub fn load(folder: &Path) -> Option<Self> {
        let path = folder.join("choice");
        let bytes = match disk::read_bounded(&path, FILE_BYTES) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::error!(%error, "which program is chosen cannot be read now");
                return None;
            }
        };
        match Self::parse(&bytes) {
            Ok(choice) => Some(choice),
            Err(fault) => {
                tracing::error!(path = %path.display(), fault, "which program is chosen is lost");
                if let Err(error) = disk::set_aside(&path) {
                    tracing::error!(%error, "and cannot be set aside");
                }
                None
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
        let (json, sum) = bytes.split_at(at);
        if at == 0 || sum[1..] != *Sha256Digest::of(json).hex().as_bytes() {
            return Err("its checksum is wrong".into());
        }
        let choice: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        match choice.choice_version {
            VERSION => Ok(choice),
            other => Err(format!("choice_version {other} is not known; 1 is")),
        }
    }

    /// Old or new after any cut.
    pub fn store(&self, folder: &Path) -> Result<(), DiskError> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let sum = Sha256Digest::of(&bytes).hex();
        bytes.push(b'\n');
        bytes.extend_from_slice(sum.as_bytes());
        disk::write_whole(&folder.join("choice"), &bytes, 0o600)
    }

    /// What is on trial did not prove itself: the one before it is chosen.
    pub fn fail(&mut self, reason: &str) {
        if let Some(trial) = self.trial.take() {
            self.go_back(trial.deployment, reason, false);
        }
    }

    /// What is on trial has proved itself, and is what says so: from now on its starts are counted, which it sets back.
    pub fn keep(&mut self) {
        let kept_with = self.trial.take().map(|trial| trial.deployment);
        if let Some(program) = &mut self.program {
            program.kept_with = kept_with;
        }
        (self.failed, self.starts) = (None, None);
    }

    /// One start more of a program that was kept, in this start of the board. One that has had its starts goes, and the one
    /// before it is chosen and counted. Whether anything is to be written down.
    pub fn count(&mut self, boot: &str) -> bool {
        let mut counted = false;
        while self.trial.is_none()
            && let Some(kept_with) = self.program.as_ref().and_then(|chosen| chosen.kept_with)
        {
            counted = true;
            let starts = self.starts.get_or_insert_default();
            let Err(reason) = starts.one_more(boot) else {
                break;
            };
            self.go_back(kept_with, &reason, true);
        }
        counted
    }

    /// The last start ended because somebody asked for it. Whether anything is to be written down.
    pub fn uncount(&mut self) -> bool {
        match (&mut self.trial, &mut self.starts) {
            (Some(trial), _) => trial.starts = trial.starts.saturating_sub(1),
            (None, Some(starts)) => starts.one_less(),
            (None, None) => return false,
        }
        true
    }

    fn go_back(&mut self, deployment: Sha256Digest, reason: &str, had_stayed: bool) {
        let program = std::mem::replace(&mut self.program, self.previous.take());
        let version = program.map_or_else(String::new, |program| program.version);
        let reason = format!("the board's own program {version} {reason}");
        tracing::error!(reason, "the program before it is taken");
        self.starts = None;
        self.failed = Some(Failed {
            deployment,
            reason,
            had_stayed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str) -> Chosen {
        Chosen {
            digest: Sha256Digest::of(name.as_bytes()),
            size: 1,
            layer: Sha256Digest::of(b"layer"),
            version: name.into(),
            kept_with: None,
        }
    }

    fn kept(name: &str) -> Chosen {
        Chosen {
            kept_with: Some(Sha256Digest::of(b"set")),
            ..chosen(name)
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_the_root_file_systems_program() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Choice::load(folder.path()), None);
        let choice = Choice {
            program: Some(chosen("two")),
            ..Choice::default()
        };
        choice.store(folder.path()).unwrap();
        assert_eq!(Choice::load(folder.path()), Some(choice));
        let path = folder.path().join("choice");
        let whole = std::fs::read(&path).unwrap();
        let damaged = (0..whole.len()).flat_map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            [whole[..at].to_vec(), flipped]
        });
        for bytes in damaged {
            assert!(Choice::parse(&bytes).is_err());
        }
        std::fs::write(&path, b"{}").unwrap();
        assert_eq!(Choice::load(folder.path()), None);
        assert!(folder.path().join("choice.bad").exists() && !path.exists());
    }

    /// As it is on boards: a program that reads it otherwise must not be released.
    #[test]
    fn version_one_is_read_for_ever() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let program =
            format!(r#"{{"digest":"{digest}","size":7,"layer":"{digest}","version":"2"}}"#);
        let trial = format!(r#"{{"deployment":"{digest}","starts":1,"patience_seconds":180}}"#);
        let failed = format!(r#"{{"deployment":"{digest}","reason":"r"}}"#);
        let json = format!(
            r#"{{"choice_version":1,"program":{program},"previous":null,"trial":{trial},"failed":{failed},"later":1}}"#
        );
        let sum = |json: &str| format!("{json}\n{}", Sha256Digest::of(json.as_bytes()).hex());
        let read = Choice::parse(sum(&json).as_bytes()).unwrap();
        let program = read.program.unwrap();
        assert_eq!((program.size, program.kept_with), (7, None));
        assert_eq!(read.starts, None);
        assert_eq!(read.trial.unwrap().starts, 1);
        assert_eq!(read.failed.unwrap().reason, "r");
        let two = json.replace("version\":1", "version\":2");
        assert!(
            Choice::parse(sum(&two).as_bytes())
                .unwrap_err()
                .contains("choice_version 2")
        );
    }

    #[test]
    fn the_one_before_follows_on_a_failure_and_then_the_root_file_systems() {
        let mut choice = Choice {
            program: Some(chosen("two")),
            previous: Some(chosen("one")),
            ..Choice::default()
        };
        choice.fail("is not on trial");
        assert_eq!(choice.program, Some(chosen("two")));
        for before in [Some(chosen("one")), None] {
            let deployment = Sha256Digest::of(b"d");
            let failing = choice.program.take().unwrap();
            choice = Choice::on_trial(failing, choice.previous.take(), deployment, 1);
            choice.fail("fell over");
            assert_eq!((&choice.program, choice.trial), (&before, None));
            assert!(
                choice
                    .failed
                    .as_ref()
                    .unwrap()
                    .reason
                    .ends_with("fell over")
            );
        }
    }
    /// It was kept, and does not come up any more: two starts each, and the root file system's program at last.
    #[test]
    fn a_kept_program_that_does_not_stay_is_counted_and_goes() {
        let mut choice = Choice::on_trial(
            chosen("two"),
            Some(kept("one")),
            Sha256Digest::of(b"set"),
            1,
        );
        assert!(!choice.count("monday"), "its trial counts by itself");
        choice.keep();
        assert_eq!(choice.program, Some(kept("two")));
        for name in ["two", "one"] {
            for _ in 0..2 {
                assert!(choice.count("monday"));
                assert_eq!(choice.program, Some(kept(name)));
            }
        }
        assert!(choice.count("monday"));
        assert_eq!((&choice.program, &choice.starts), (&None, &None));
        let failed = choice.failed.clone().unwrap();
        assert!(failed.had_stayed && failed.reason.contains("program one had been kept"));
        assert!(!choice.count("monday"));

        // Kept by a program that does not count: nobody would set it back.
        choice.program = Some(chosen("old"));
        assert!(!choice.count("monday") && !choice.uncount());
    }

    #[test]
    fn an_end_in_order_is_no_failed_start() {
        let mut choice = Choice::on_trial(chosen("two"), None, Sha256Digest::of(b"set"), 1);
        choice.trial.as_mut().unwrap().starts = 2;
        assert!(choice.uncount());
        assert_eq!(choice.trial.unwrap().starts, 1);
        choice.keep();
        assert!(!choice.uncount(), "nothing is counted");
        for _ in 0..9 {
            assert!(choice.count("monday") && choice.uncount());
        }
        assert_eq!(choice.program, Some(kept("two")));
    }
}
