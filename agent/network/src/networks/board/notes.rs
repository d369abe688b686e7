//! How the board's switches were found, as a file: written before anything is switched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::offload::Offload;
use crate::pool::file::{remove, replace};

const VERSION: u32 = 1;
/// Five of each of 200 links. Beyond it the oldest is forgotten.
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

#[derive(Debug, Default, Serialize, Deserialize)]
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
    /// Reads `<state_dir>/board-switches.json`. Notes of an earlier boot are none; what cannot be understood is set aside as
    /// `.bad`.
    pub fn open(state_dir: &Path) -> Result<Self, NetworkError> {
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
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = path.with_extension("json.bad");
                tracing::warn!(path = %path.display(), %error, aside = %aside.display(), "notes of the board's switches set aside");
                fs::rename(&path, &aside).map_err(failed(&path, "set it aside"))?;
            }
            Err(error) => return Err(failed(&path, "read it")(error)),
        }
        Ok(Self { path, stored })
    }

    /// The first note of a switch stands.
    pub fn note(&mut self, found: Found) -> Result<(), NetworkError> {
        let known = |one: &Found| one.link == found.link && one.offload == found.offload;
        if self.stored.offloads.iter().any(known) {
            return Ok(());
        }
        if self.stored.offloads.len() >= MAX_NOTED {
            self.stored.offloads.remove(0);
        }
        self.stored.offloads.push(found);
        self.save()
    }

    pub fn of_link(&self, link: u32) -> Vec<Found> {
        let all = self.stored.offloads.iter();
        all.filter(|one| one.link == link).cloned().collect()
    }

    pub fn forget(&mut self, given_back: &[Found]) -> Result<(), NetworkError> {
        self.stored.offloads.retain(|one| !given_back.contains(one));
        self.save()
    }

    pub fn note_bridge_nf(&mut self, switch: &str) -> Result<(), NetworkError> {
        if self.stored.bridge_nf.iter().any(|one| one == switch) {
            return Ok(());
        }
        self.stored.bridge_nf.push(switch.to_owned());
        self.save()
    }

    pub fn bridge_nf(&self) -> &[String] {
        &self.stored.bridge_nf
    }

    pub fn forget_bridge_nf(&mut self) -> Result<(), NetworkError> {
        self.stored.bridge_nf.clear();
        self.save()
    }

    /// Forgets everything, the file too.
    pub fn destroy(&mut self) -> Result<(), NetworkError> {
        self.stored.offloads.clear();
        self.stored.bridge_nf.clear();
        remove(&self.path).map_err(failed(&self.path, "remove it"))
    }

    fn save(&self) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(&self.stored).map_err(io::Error::other);
        let saved = bytes.and_then(|bytes| replace(&self.path, &bytes));
        saved.map_err(failed(&self.path, "write it"))
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
