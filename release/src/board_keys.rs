//! Which key each board's secrets are sealed to, as this engineer has seen it. The key comes through the console,
//! which could give one of its own: the first one is kept, and another one later is refused until somebody has looked
//! at the board.

use crate::files::{self, Access, FileError};
use coracle_protocol::names::BoardId;
use coracle_protocol::secret::SealingKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of ten thousand boards, in bytes.
const BYTES: u64 = 2 << 20;

/// Why a board is not sealed to.
#[derive(Debug, thiserror::Error)]
pub enum BoardKeyError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// Its folder.
    #[error("the folder of `{path}`")]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("`{path}` is no list of boards' keys: {fault}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// Neither `--board-keys` nor a home.
    #[error("there is no home folder to keep boards' keys in: name a file with --board-keys")]
    NoHome,
    /// Not the one that somebody read from the board.
    #[error(
        "{board} is said to have key {said}, not {wanted}: look at `coracle status` on the board"
    )]
    Wanted {
        /// Which board.
        board: BoardId,
        /// By the console.
        said: String,
        /// By `--key`.
        wanted: String,
    },
    /// Not the one that was there before.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// Never seen.
    #[error(
        "no key of {board} is in `{path}`: `coracle-release secret pin --board {board} --key KEY` takes it from \
         `coracle status --json` on the board (trust.secret_key)"
    )]
    Unknown {
        /// Which board.
        board: BoardId,
        /// The file.
        path: PathBuf,
    },
}

/// A board that has another key than before, says the console.
#[derive(Debug, thiserror::Error)]
#[error(
    "{board} is said to have key {said}; `{path}` has {known}, {how}. Either the board lost its key (a new disk), or \
     the console gives one of its own, to read the secret: look at `coracle status` on the board, and give --key {said} \
     only if it says so too"
)]
pub struct Changed {
    board: BoardId,
    said: String,
    known: String,
    how: &'static str,
    path: PathBuf,
}

/// How a key got into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// The console gave it, and none was there.
    FirstUse,
    /// Somebody read it from the board.
    Compared,
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Self::FirstUse => "since its first use",
            Self::Compared => "which was compared with the board",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    key: SealingKey,
    how: How,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    boards: BTreeMap<BoardId, Known>,
}

/// The file.
#[derive(Debug)]
pub struct BoardKeys {
    path: PathBuf,
    content: Content,
}

impl BoardKeys {
    /// Reads `path`, or the one of this user.
    pub fn open(path: Option<&Path>) -> Result<Self, BoardKeyError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => of_this_user().ok_or(BoardKeyError::NoHome)?,
        };
        if !path.exists() {
            let content = Content::default();
            return Ok(Self { path, content });
        }
        let bytes = files::read(&path, BYTES)?;
        let content = serde_json::from_slice(&bytes).map_err(|e| BoardKeyError::Malformed {
            path: path.clone(),
            fault: e.to_string(),
        })?;
        Ok(Self { path, content })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that is known of a board.
    pub fn of(&self, board: &BoardId) -> Result<&SealingKey, BoardKeyError> {
        let known = self.content.boards.get(board);
        known
            .map(|known| &known.key)
            .ok_or_else(|| BoardKeyError::Unknown {
                board: board.clone(),
                path: self.path.clone(),
            })
    }

    /// Whether `said` is the key to seal to. `wanted`: what somebody read from the board, hint or whole key. A key
    /// that is new here is kept; `true` then, when nobody has compared it.
    pub fn accept(
        &mut self,
        board: &BoardId,
        said: &SealingKey,
        wanted: Option<&str>,
    ) -> Result<bool, BoardKeyError> {
        if let Some(wanted) = wanted {
            if wanted != said.hint() && wanted != String::from(said.clone()) {
                return Err(BoardKeyError::Wanted {
                    board: board.clone(),
                    said: said.hint(),
                    wanted: wanted.to_owned(),
                });
            }
            self.keep(board, said, How::Compared)?;
            return Ok(false);
        }
        match self.content.boards.get(board) {
            Some(known) if known.key == *said => Ok(false),
            Some(known) => Err(Changed {
                board: board.clone(),
                said: said.hint(),
                known: known.key.hint(),
                how: known.how.words(),
                path: self.path.clone(),
            }
            .into()),
            None => {
                self.keep(board, said, How::FirstUse)?;
                Ok(true)
            }
        }
    }

    /// Keeps a key that somebody read from the board.
    pub fn pin(&mut self, board: &BoardId, key: &SealingKey) -> Result<(), BoardKeyError> {
        self.keep(board, key, How::Compared)
    }

    fn keep(&mut self, board: &BoardId, key: &SealingKey, how: How) -> Result<(), BoardKeyError> {
        let known = Known {
            key: key.clone(),
            how,
        };
        self.content.boards.insert(board.clone(), known);
        if let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| BoardKeyError::Folder {
                path: self.path.clone(),
                source,
            })?;
        }
        let json = serde_json::to_vec_pretty(&self.content).unwrap_or_default();
        Ok(files::write(&self.path, &json, Access::Public)?)
    }
}

fn of_this_user() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let config = match set("XDG_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(set("HOME")?).join(".config"),
    };
    Some(config.join("coracle/board-keys.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::secret::OpeningKey;

    #[test]
    fn a_key_that_changes_is_refused_until_somebody_compared_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/keys.json");
        let open = || BoardKeys::open(Some(&path)).unwrap();
        let board = BoardId::new("acme.b").unwrap();
        let [own, other] = [(); 2].map(|()| OpeningKey::generate().public().clone());
        assert!(matches!(
            open().of(&board),
            Err(BoardKeyError::Unknown { .. })
        ));
        assert!(
            open().accept(&board, &own, None).unwrap(),
            "nobody has compared it"
        );
        assert!(!open().accept(&board, &own, None).unwrap());
        let refused = open().accept(&board, &other, None).unwrap_err().to_string();
        for part in [
            own.hint(),
            other.hint(),
            "since its first use".into(),
            "coracle status".into(),
        ] {
            assert!(refused.contains(&part), "{refused}");
        }
        assert_eq!(
            open().of(&board).unwrap(),
            &own,
            "what was refused is not kept"
        );
        let wrong = open().accept(&board, &other, Some(&own.hint()));
        assert!(matches!(wrong, Err(BoardKeyError::Wanted { .. })));
        assert!(!open().accept(&board, &other, Some(&other.hint())).unwrap());
        let back = open().accept(&board, &own, None).unwrap_err().to_string();
        assert!(back.contains("compared with the board"), "{back}");
        assert!(
            !open()
                .accept(&board, &own, Some(&String::from(own.clone())))
                .unwrap()
        );
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(
            BoardKeys::open(Some(&path)),
            Err(BoardKeyError::Malformed { .. })
        ));
    }
}
