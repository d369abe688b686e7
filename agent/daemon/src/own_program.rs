//! Which of the board's programs this daemon is: the one that the supervisor is, where a release brought that.
//!
//! The root file system's starts first, asks at each connection, and executes the other in its own process; a new supervisor
//! says another name, or none. Only root writes where programs lie, and what is executed is the open file whose bytes have the
//! digest. A daemon gains nothing by it: the process keeps its user, and has no capability before or after.

use crate::supervisor::{Notice, Supervisor, SupervisorError, unexpected};
use coracle_board_support::config::Config;
use coracle_board_support::program::Program;
use coracle_digest::{Hasher, Sha256Digest};
use coracle_protocol::local::{Answer, Request};
use coracle_protocol::report::OwnProgram;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// After a look that failed: whatever kept it from the supervisor's answer or from the file may be over by then.
const AGAIN: Duration = Duration::from_secs(10);

/// Why this daemon stays what it is.
#[derive(Debug, thiserror::Error)]
enum StaysError {
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: its bytes are {found}", path.display())]
    Bytes { path: PathBuf, found: Sha256Digest },
    #[error(transparent)]
    Shipped(io::Error),
}

/// Another program, to be executed in this process once everything has ended in order.
#[derive(Debug)]
pub struct Other(Option<(Sha256Digest, File)>);

impl Other {
    /// This one anew, for what is in coracle.toml now: the root file system's, which finds out again which one it is to be. In
    /// words why not, when it would not come up.
    pub fn this_anew(program: &Program, old: &Config) -> Result<Self, String> {
        program.is_there().map_err(|error| error.to_string())?;
        let new = Config::load(&old.file).map_err(|error| error.to_string())?;
        match old.fixed_key_that_differs(&new) {
            Some(key) => Err(format!(
                "{}: {key} is another; that takes a stop and a start of both programs",
                old.file.display()
            )),
            None => Ok(Self(None)),
        }
    }

    /// Answers only when it could not.
    pub fn execute(self, program: &Program) -> io::Error {
        match self.0 {
            Some((digest, file)) => program.execute_brought(file.as_fd(), &digest.hex()),
            None => program.execute(),
        }
    }
}

/// What a release brought and this process executes; `None`: the root file system's.
fn running() -> Option<Sha256Digest> {
    Program::brought().and_then(|hex| Sha256Digest::from_hex(&hex).ok())
}

/// This one, beside what the supervisor is.
pub fn own(supervisor: Option<&OwnProgram>) -> OwnProgram {
    let brought = running();
    let same = supervisor.filter(|program| program.brought == brought);
    OwnProgram {
        version: same.map_or_else(
            || env!("CARGO_PKG_VERSION").to_owned(),
            |program| program.version.clone(),
        ),
        brought,
    }
}

/// Until this daemon is to be another program, which is there and whole. `folder` has those that releases brought; `notices` has
/// each connection.
pub async fn another(
    supervisor: &Supervisor,
    mut notices: Receiver<Notice>,
    folder: &Path,
    program: &Program,
) -> Other {
    let mut looks_again = false;
    loop {
        let notice = match looks_again {
            true => tokio::time::timeout(AGAIN, notices.recv()).await,
            false => Ok(notices.recv().await),
        };
        match notice {
            Err(_) | Ok(Ok(Notice::Connected) | Err(RecvError::Lagged(_))) => {}
            Ok(Ok(_)) => continue,
            Ok(Err(RecvError::Closed)) => std::future::pending().await,
        }
        let looked = look(supervisor, folder, program).await;
        looks_again = looked.is_err();
        match looked {
            Ok(None) => {}
            Ok(Some(other)) => {
                tracing::info!(program = ?other.0, "is executed anew, as the supervisor's program");
                return other;
            }
            Err(error) => tracing::error!(%error, "this daemon stays the program that it is"),
        }
    }
}

async fn look(
    supervisor: &Supervisor,
    folder: &Path,
    program: &Program,
) -> Result<Option<Other>, StaysError> {
    let running = running();
    let wanted = match supervisor.status().await?.program {
        Some(_) => match supervisor.ask(Request::Program { running }).await? {
            Answer::Program { program } => program,
            other => return Err(unexpected("program", &other).into()),
        },
        // It is older than the question, and so none that this one could be.
        None => None,
    };
    if wanted == running {
        return Ok(None);
    }
    Ok(Some(Other(match wanted {
        Some(digest) => Some((digest, open(folder, digest)?)),
        None => {
            program.is_there().map_err(StaysError::Shipped)?;
            None
        }
    })))
}

/// An open file with the bytes of this digest.
fn open(folder: &Path, digest: Sha256Digest) -> Result<File, StaysError> {
    let path = folder.join(digest.hex());
    let mut hasher = Hasher::default();
    let read = File::open(&path).and_then(|mut file| {
        io::copy(&mut file, &mut hasher)?;
        Ok(file)
    });
    match (read, hasher.finish()) {
        (Ok(file), found) if found == digest => Ok(file),
        (Ok(_), found) => Err(StaysError::Bytes { path, found }),
        (Err(source), _) => Err(StaysError::File { path, source }),
    }
}
