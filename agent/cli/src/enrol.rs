//! `enrol`: hands an enrolment file to the daemon, which asks the console for a certificate.

use crate::client::{Client, whole};
use crate::failure::Failure;
use crate::human::printable;
use crate::output;
use coracle_protocol::enrol::EnrolmentFile;
use coracle_protocol::names::BoardId;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest enrolment file, in bytes; the daemon takes no longer one.
const LIMIT: u64 = 64 * 1024;

/// Why an enrolment file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another file, most likely.
    #[error("{} has more than {LIMIT} bytes: it is no enrolment file", path.display())]
    TooLarge { path: PathBuf },
    /// Another file, or one from another version.
    #[error("{} is no enrolment file: {source}", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// `coracle enrol`
pub async fn enrol(client: &Client, path: &Path) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Answer {
        board: BoardId,
    }
    let file = read(path)?;
    let answer = client.post("/coracle/v1/enrol", &file).await?;
    let answer: Answer =
        serde_json::from_slice(&whole(answer).await?).map_err(crate::client::ClientError::from)?;
    let console = printable(&file.console_url);
    output::text(&format!("enrolled as {} at {console}\n", answer.board))
}

fn read(path: &Path) -> Result<EnrolmentFile, FileError> {
    let path = path.to_owned();
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|f| f.take(LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Err(source) => Err(FileError::Read { path, source }),
        Ok(_) if bytes.len() as u64 > LIMIT => Err(FileError::TooLarge { path }),
        Ok(_) => {
            serde_json::from_slice(&bytes).map_err(|source| FileError::Malformed { path, source })
        }
    }
}
