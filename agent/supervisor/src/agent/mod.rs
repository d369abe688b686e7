//! The board's own program, where a signed release brought another than the one on the root file system.
//!
//! The root file system's is always started first and decides (`follow`), by a file that says which one is chosen
//! (`choice`). It is the fallback that nothing can take away: a chosen program that is not whole, cannot be executed, or did
//! not prove itself in as many starts as it has is passed over; so is one that was kept and does not stay any more (`starts`).
//! What a supervisor does to choose one is in
//! `supervisor/own.rs`. The daemon is to be what the supervisor is, and asks for it (`handed`).
//!
//! Each program reads a choice of version 1, whatever else changes: the one that decides may be the oldest on the board.

mod choice;
mod follow;
mod handed;
mod program;
mod starts;

pub use choice::{Choice, Failed};
pub use follow::follow;
pub use program::Chosen;

use crate::anew::Program;
use coracle_digest::Sha256Digest;
use coracle_protocol::report::OwnProgram;
use handed::Handed;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A program has to run so long before it is kept, whatever its release says, and in each start before it has stayed: as long as
/// systemd waits for a sign of life.
const PROVES: Duration = Duration::from_secs(30);

/// What this process is, of the programs on the board, and what is chosen.
#[derive(Debug)]
pub struct Own {
    folder: PathBuf,
    /// `None`: the root file system's.
    running: Option<Sha256Digest>,
    /// As it is on disk.
    pub choice: Choice,
    /// When it has run for so long that it has proved itself, if nothing else speaks against it.
    pub proves_at: Instant,
    /// When it has stayed, being a kept program whose starts are counted.
    pub stays_at: Option<Instant>,
    /// When this process goes over to the program that is chosen instead.
    pub leaves_at: Option<Instant>,
    /// The choice could be read: what is not chosen may go.
    is_known: bool,
    /// To the daemon.
    handed: Handed,
    /// Why the daemon is not this program any more.
    pub daemon_fault: Option<String>,
}

impl Own {
    /// Read once at the start; this process writes it alone from then on.
    pub fn load(folder: PathBuf) -> Self {
        let running = Program::brought();
        let choice = Choice::load(&folder);
        let proves_at = Instant::now() + PROVES;
        let mut own = Self {
            running: running.and_then(|hex| Sha256Digest::from_hex(&hex).ok()),
            is_known: choice.is_some(),
            choice: choice.unwrap_or_default(),
            proves_at,
            stays_at: None,
            leaves_at: None,
            handed: Handed::default(),
            daemon_fault: None,
            folder,
        };
        own.stays_at = (own.is_chosen() && own.choice.starts.is_some()).then_some(proves_at);
        own
    }

    /// Whether this is the program that is chosen.
    pub fn is_chosen(&self) -> bool {
        let program = self.choice.program.as_ref();
        program.is_some_and(|chosen| self.is(chosen.digest))
    }

    /// A kept program has stayed: its starts are forgotten.
    pub fn stayed(&mut self) -> Result<(), String> {
        let mut choice = self.choice.clone();
        choice.starts = None;
        self.choose(choice)?;
        self.stays_at = None;
        Ok(())
    }

    /// This process ends because somebody asked for it, which is no failure of its program.
    pub fn ends_in_order(&mut self) {
        let mut choice = self.choice.clone();
        if self.is_chosen()
            && choice.uncount()
            && let Err(error) = self.choose(choice)
        {
            tracing::warn!(error, "this end counts as one that nobody asked for");
        }
    }

    /// Whether this is that program.
    pub fn is(&self, program: Sha256Digest) -> bool {
        self.running == Some(program)
    }

    /// The one that runs, where it is not the root file system's.
    pub fn running(&self) -> Option<Chosen> {
        let known = [&self.choice.program, &self.choice.previous];
        let mut known = known.into_iter().flatten();
        known.find(|chosen| self.is(chosen.digest)).cloned()
    }

    /// For whoever asks.
    pub fn status(&self) -> OwnProgram {
        let version = self.running().map(|chosen| chosen.version);
        OwnProgram {
            version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
            brought: self.running,
        }
    }

    /// The program that a daemon is to be: this one. The root file system's, and why, when the daemon is another and has had
    /// this one so often that it is of no use.
    pub fn hand(&mut self, daemon: Option<Sha256Digest>, now: Instant) -> Option<Sha256Digest> {
        if self.running.is_none() || daemon == self.running {
            self.daemon_fault = None;
            return self.running;
        }
        let times = match self.handed.one_more(now) {
            Ok(()) => {
                self.daemon_fault = None;
                return self.running;
            }
            Err(times) => times,
        };
        let version = self.status().version;
        self.daemon_fault = Some(format!(
            "the board's own program {version} was executed as coracled {times} times and did not stay"
        ));
        None
    }

    /// Another choice, onto the disk first; nothing has changed when that fails.
    pub fn choose(&mut self, choice: Choice) -> Result<(), String> {
        choice.store(&self.folder).map_err(|e| e.to_string())?;
        self.choice = choice;
        self.is_known = true;
        Ok(())
    }

    /// Makes a program ready to be chosen, from its unpacked layer.
    pub fn place(&self, chosen: &Chosen, layers: &Path) -> Result<(), String> {
        chosen.place(&self.folder, layers)
    }

    /// The layer was made anew: its program was a name of the file that is gone, and as broken as that.
    pub fn place_again(&self, layer: Sha256Digest, layers: &Path) {
        let known = [&self.choice.program, &self.choice.previous];
        for chosen in known
            .into_iter()
            .flatten()
            .filter(|chosen| chosen.layer == layer)
        {
            if let Err(fault) = self.place(chosen, layers) {
                tracing::error!(fault, "the board's own program stays broken");
            }
        }
    }

    /// Layers of the chosen ones: bases of deltas to the next.
    pub fn layers(&self) -> impl Iterator<Item = Sha256Digest> {
        let known = [&self.choice.program, &self.choice.previous];
        known.into_iter().flatten().map(|chosen| chosen.layer)
    }

    /// Programs that are not chosen go; what cannot be removed is tried again the next time.
    pub fn collect(&self) {
        if !self.is_known {
            return;
        }
        let known = [&self.choice.program, &self.choice.previous];
        for (digest, path) in programs(&self.folder) {
            let mut chosen = known.into_iter().flatten();
            if !self.is(digest) && !chosen.any(|chosen| chosen.digest == digest) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Programs on the board besides the root file system's.
fn programs(folder: &Path) -> impl Iterator<Item = (Sha256Digest, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let digest = Sha256Digest::from_hex(name.to_str()?).ok()?;
        Some((digest, entry.path()))
    })
}

/// Bytes of them, without the one that is `not` counted.
pub fn held_bytes(folder: &Path, not: Option<Sha256Digest>) -> u64 {
    programs(folder)
        .filter(|(digest, _)| Some(*digest) != not)
        .filter_map(|(_, path)| path.symlink_metadata().ok())
        .fold(0, |sum, facts| sum.saturating_add(facts.len()))
}
