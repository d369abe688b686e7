//! How the board's switches were found, as a file: written before anything is switched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::offload::Offload;
use crate::pool::file::{remove, replace};

const VERSION: u32 = 1;
/// Five of each of 200 links.
const MAX_NOTED: usize = 1000;
/// That many of 60 bytes, with room.
const MAX_FILE_BYTES: u64 = 256 * 1024;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How a switch of a link was found. By number, which a link keeps under each name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub link: u32,
    pub offload: Offload,
    pub was: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// A boot puts everything back by itself, and numbers links anew.
    boot: String,
    offloads: Vec<Found>,
    bridge_nf: Vec<String>,
}

/// What was changed, and is given back in the end.
#[derive(Debug, Default)]
pub(super) struct Notes {
    path: PathBuf,
    stored: Stored,
}

impl Notes {
    /// Reads `<state_dir>/board-switches.json`. Notes of an earlier boot are none; what cannot be read is set aside as `.bad`:
    /// apps shall have their networks all the same.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("board-switches.json");
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let mut stored = Stored {
            version: VERSION,
            boot: boot.trim().to_owned(),
            ..Stored::default()
        };
        match read(&path) {
            Ok(Some(found)) if found.version == VERSION && found.boot == stored.boot => {
                stored = found;
            }
            Ok(_) => {}
            Err(error) => {
                let aside = path.with_extension("json.bad");
                tracing::warn!(path = %path.display(), %error, aside = %aside.display(), "notes of the board's switches are set aside: what was switched before is not given back");
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::warn!(path = %path.display(), %error, "it stays where it is");
                }
            }
        }
        Self { path, stored }
    }

    /// The first note of a switch stands. Written once; beyond [`MAX_NOTED`], those of links that are not `there` go first.
    pub fn note(&mut self, found: Vec<Found>, there: &BTreeSet<u32>) -> Result<(), NetworkError> {
        let mut stored = self.stored.clone();
        let notes = &mut stored.offloads;
        let before = notes.len();
        for one in found {
            let what = (one.link, one.offload);
            if !notes
                .iter()
                .any(|known| (known.link, known.offload) == what)
            {
                notes.push(one);
            }
        }
        if notes.len() == before {
            return Ok(());
        }
        while notes.len() > MAX_NOTED {
            let gone = notes.iter().position(|one| !there.contains(&one.link));
            notes.remove(gone.unwrap_or(0));
        }
        self.save(stored)
    }

    pub fn of_link(&self, link: u32) -> Vec<Found> {
        let all = self.stored.offloads.iter();
        all.filter(|one| one.link == link).cloned().collect()
    }

    pub fn forget(&mut self, given_back: &[Found]) -> Result<(), NetworkError> {
        if given_back.is_empty() {
            return Ok(());
        }
        let mut stored = self.stored.clone();
        stored.offloads.retain(|one| !given_back.contains(one));
        self.save(stored)
    }

    pub fn note_bridge_nf(&mut self, switch: &str) -> Result<(), NetworkError> {
        if self.stored.bridge_nf.iter().any(|one| one == switch) {
            return Ok(());
        }
        let mut stored = self.stored.clone();
        stored.bridge_nf.push(switch.to_owned());
        self.save(stored)
    }

    pub fn bridge_nf(&self) -> &[String] {
        &self.stored.bridge_nf
    }

    pub fn forget_bridge_nf(&mut self) -> Result<(), NetworkError> {
        let mut stored = self.stored.clone();
        stored.bridge_nf.clear();
        self.save(stored)
    }

    /// Forgets everything, the file too.
    pub fn destroy(&mut self) -> Result<(), NetworkError> {
        self.stored.offloads.clear();
        self.stored.bridge_nf.clear();
        remove(&self.path).map_err(failed(&self.path, "remove it"))
    }

    /// What is not on disk is not noted: whoever asks again is told again.
    fn save(&mut self, stored: Stored) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(&stored).map_err(io::Error::other);
        let saved = bytes.and_then(|bytes| replace(&self.path, &bytes));
        saved.map_err(failed(&self.path, "write it"))?;
        self.stored = stored;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Stored>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = match length {
        0..=MAX_FILE_BYTES => fs::read(path)?,
        _ => Vec::new(),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    let path = path.to_owned();
    move |source| NetworkError::BoardNotes {
        path,
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_come_and_go_push_out_no_note_of_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Notes::open(folder.path());
        let found = |link| Found {
            link,
            offload: Offload::Tso,
            was: true,
        };
        let there = BTreeSet::from([7]);
        notes.note(vec![found(7)], &there).unwrap();
        for start in [1000, 1500] {
            let some = (start..start + 500).map(found).collect();
            notes.note(some, &there).unwrap();
        }
        let again = Notes::open(folder.path());
        assert_eq!(again.of_link(7), [found(7)]);
        assert_eq!(again.stored.offloads.len(), MAX_NOTED);
        assert!(again.of_link(1000).is_empty() && !again.of_link(1999).is_empty());
    }
}
