//! What this board trusts: the root document, the counters that never go back, and its own name.
//!
//! All of it is root's and lies in `trust/`; nothing here comes from the daemon but the board's name,
//! which is taken once (see [`Trust::name_board`]).

mod restored;
mod roots;
mod secret;
mod slots;

use crate::disk::{self, DiskError};
use coracle_digest::Sha256Digest;
use coracle_protocol::counters::Seen;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::{BoardId, NameError};
use coracle_protocol::root::{RootError, TrustedRoot};
use coracle_protocol::secret::OpeningKey;
use coracle_protocol::time::TimeBound;
use std::path::{Path, PathBuf};

use roots::NewerRoot;
pub use secret::{Opened, SecretValue};
pub use slots::Counters;

/// The least that the time can be: when this program was built, where the build says so
/// (<https://reproducible-builds.org/specs/source-date-epoch/>), else when it was written.
pub fn built_at() -> TimeBound {
    const WRITTEN: u64 = 1_764_000_000;
    let said = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    TimeBound::at(said.unwrap_or(WRITTEN).max(WRITTEN))
}

/// Why the trust store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No root document at all: this board can trust nothing.
    #[error(
        "there is no root document: {} is missing; put the fleet's root.json there",
        .0.display()
    )]
    NoRoot(PathBuf),
    /// A root document that does not verify.
    #[error("{}: {source}", path.display())]
    Root {
        path: PathBuf,
        #[source]
        source: RootError,
    },
    /// Not an envelope.
    #[error("{}: {fault}", path.display())]
    RootFile { path: PathBuf, fault: String },
    /// The board has a name already.
    #[error("this board is `{have}` and stays so; it was told to be `{got}`")]
    Named { have: BoardId, got: BoardId },
    /// The name on disk is damaged.
    #[error("{}: {source}", path.display())]
    Name {
        path: PathBuf,
        #[source]
        source: NameError,
    },
    /// Not the next root document.
    #[error("{0}")]
    NextRoot(#[from] RootError),
    /// Another document under a version that is in force.
    #[error(
        "root version {version} is in force with digest {have}; another one with that version was offered, {got}"
    )]
    OtherRoot {
        version: u64,
        have: Sha256Digest,
        got: Sha256Digest,
    },
    /// See [`Counters::Damaged`].
    #[error("{0}")]
    Counters(String),
    /// A newer program took it. An older root in its place would bring keys back that it revoked.
    #[error(
        "{} is root version {version}, which this program does not understand ({fault}): it is kept, and no new document is accepted until a newer program runs again, or the image's root.json has this version or a later one",
        path.display()
    )]
    NewerRoot {
        path: PathBuf,
        version: u64,
        fault: String,
    },
}

impl TrustError {
    /// Of the refusal of a document, for want of something to hold it against.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NewerRoot { .. } => "newer-root",
            _ => "counters-damaged",
        }
    }

    /// Whether the file system is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_no_space())
    }
}

/// The trust store, in memory and on disk.
#[derive(Debug)]
pub struct Trust {
    folder: PathBuf,
    root: TrustedRoot,
    root_envelope: Envelope,
    newer_root: Option<NewerRoot>,
    counters: Counters,
    board: Option<BoardId>,
    opening: Result<OpeningKey, String>,
}

impl Trust {
    /// Reads `trust/` and the image's root.json (see [`roots::load`]).
    pub fn load(folder: &Path, image_root: &Path, deployed: bool) -> Result<Self, TrustError> {
        disk::make_folder(folder, 0o700)?;
        let roots::InForce {
            root,
            envelope: root_envelope,
            newer: newer_root,
        } = roots::load(folder, image_root)?;
        Ok(Self {
            board: read_board(&folder.join("board-id"))?,
            counters: slots::load(folder, deployed),
            opening: secret::load(folder),
            folder: folder.to_owned(),
            root,
            root_envelope,
            newer_root,
        })
    }

    /// The root in force.
    pub fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// Its envelope, which a set keeps beside its own documents.
    pub fn root_envelope(&self) -> &Envelope {
        &self.root_envelope
    }

    /// The counters, or why nothing can be held against them.
    pub fn seen(&self) -> Result<&Seen, TrustError> {
        self.root_is_newest()?;
        match &self.counters {
            Counters::Good { seen, .. } => Ok(seen),
            Counters::Damaged(text) => Err(TrustError::Counters(text.clone())),
        }
    }

    /// Makes `seen` last in both slots. A deployment was held against what had been seen when it was offered: the commands that
    /// came since stay counted.
    pub fn persist(&mut self, next: &Seen) -> Result<(), TrustError> {
        self.root_is_newest()?;
        let (seen, generation, unknown) = match &mut self.counters {
            Counters::Good {
                seen,
                generation,
                unknown,
            } => (seen, generation, unknown),
            Counters::Damaged(text) => return Err(TrustError::Counters(text.clone())),
        };
        let next = Seen {
            command: next.command.max(seen.command),
            reset: next.reset.max(seen.reset),
            ..next.clone()
        };
        if *seen == next && *generation > 0 {
            return Ok(());
        }
        slots::store(&self.folder, *generation + 1, &next, unknown)?;
        *generation += 1;
        *seen = next;
        Ok(())
    }

    /// Who this board is, when it has been told.
    pub fn board(&self) -> Option<&BoardId> {
        self.board.as_ref()
    }

    /// Who this board is to a document.
    pub fn board_or_unenrolled(&self) -> BoardId {
        self.board.clone().unwrap_or_else(BoardId::unenrolled)
    }

    /// Takes the board's name from enrolment, once: a daemon in foreign hands cannot make the board
    /// accept what was signed for another one. The same name again is fine.
    pub fn name_board(&mut self, board: BoardId) -> Result<(), TrustError> {
        match &self.board {
            Some(have) if *have == board => Ok(()),
            Some(have) => Err(TrustError::Named {
                have: have.clone(),
                got: board,
            }),
            None => {
                let line = format!("{board}\n");
                disk::write_whole(&self.folder.join("board-id"), line.as_bytes(), 0o600)?;
                self.board = Some(board);
                Ok(())
            }
        }
    }
}

fn read_board(path: &Path) -> Result<Option<BoardId>, TrustError> {
    let Some(bytes) = disk::read_bounded(path, 256)? else {
        return Ok(None);
    };
    BoardId::new(String::from_utf8_lossy(&bytes).trim_end())
        .map(Some)
        .map_err(|source| TrustError::Name {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
