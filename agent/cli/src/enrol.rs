//! `coracle enrol FILE`.

use crate::client::Client;
use crate::failure::Failure;
use crate::table;
use coracle_protocol::enrol::EnrolmentFile;
use std::io::Read;
use std::path::Path;

/// Longest enrolment file, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Hands the file to the daemon, which talks to the console.
pub async fn run(client: &Client, path: &Path) -> Result<(), Failure> {
    let bad = |what: String| Failure::File {
        path: path.to_owned(),
        what,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    file.take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(e.to_string()))?;
    let file: EnrolmentFile = serde_json::from_slice(&bytes).map_err(|e| {
        bad(format!(
            "not an enrolment file (made by `coracle-release enrol-file`): {e}"
        ))
    })?;
    client.post("/coracle/v1/enrol", bytes).await?;
    table::out(&format!(
        "enrolled as {} at {}\n",
        file.board, file.console_url
    ))
}
