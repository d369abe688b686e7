//! `store check`: whether what is on the board's disk is still what was signed.

use crate::client::{Client, ClientError, SOON, UPLOAD, whole};
use crate::failure::Failure;
use crate::human::printable;
use crate::output;
use bytes::Bytes;
use coracle_protocol::local::{StoreCheck, StoreFault, StoreKind, StoreState};
use hyper::Method;
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

const PATH: &str = "/coracle/v1/store/check";
const MEND: &str = "/coracle/v1/store/mend";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Faults of one layer that stand in its line; `--json` has them all.
const IN_LINE: usize = 4;

/// How it ended, when not well.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Some of it is broken, or was until now.
    #[error("{broken} broken, {mended} of them repaired{}", hint(*repair, *broken - *mended))]
    Broken {
        broken: usize,
        mended: usize,
        repair: bool,
    },
    /// Some of it cannot be looked at.
    #[error("{0} could not be looked at")]
    Unknown(usize),
    /// The check did not come about, or not to its end.
    #[error("not checked: {0}")]
    NotChecked(#[from] ClientError),
}

impl StoreError {
    /// 1 broken, repaired or not; 2 could not look.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broken { .. } => 1,
            Self::Unknown(_) | Self::NotChecked(_) => 2,
        }
    }
}

fn hint(repair: bool, left: usize) -> &'static str {
    match (repair, left) {
        (false, 1..) => "; `coracle store check --repair` brings what it can anew",
        _ => "",
    }
}

/// One thing, and what was done about it.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    fault: StoreFault,
    /// Why it was not repaired, when that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_repaired: Option<String>,
}

#[derive(Serialize)]
struct Report {
    checked: u64,
    found: Vec<Line>,
    more: u64,
}

/// `coracle store check`
pub async fn check(client: &Client, repair: bool, json: bool) -> Result<(), Failure> {
    let said = read_all(client).await.map_err(StoreError::from)?;
    let mut report = Report {
        checked: said.done,
        found: Vec::new(),
        more: said.more,
    };
    for mut fault in said.found {
        let mut not_repaired = None;
        if repair {
            progress(&format!("repairing {}", fault.digest));
            match mend(client, &fault).await {
                Ok(()) => fault.state = StoreState::Mended,
                Err(error) => not_repaired = Some(error.to_string()),
            }
            progress("");
        }
        let line = Line {
            fault,
            not_repaired,
        };
        if !json {
            output::text(&words(&line, repair))?;
        }
        report.found.push(line);
    }
    if json {
        output::json(&report)?;
    }
    let count = |state| {
        let found = report.found.iter();
        found.filter(|line| line.fault.state == state).count()
    };
    let (unknown, mended) = (count(StoreState::Unknown), count(StoreState::Mended));
    let broken = count(StoreState::Broken) + mended + report.more as usize;
    match (broken, unknown) {
        (0, 0) if json => Ok(()),
        (0, 0) => output::text(&format!("{} layers and blobs are whole\n", report.checked)),
        (0, unknown) => Err(StoreError::Unknown(unknown).into()),
        (broken, _) => Err(StoreError::Broken {
            broken,
            mended,
            repair,
        }
        .into()),
    }
}

/// Begins a check and waits for its end.
async fn read_all(client: &Client) -> Result<StoreCheck, ClientError> {
    let nothing = crate::body::Body::Whole(Bytes::new());
    let begun = client.send(Method::POST, PATH, nothing, SOON).await?;
    whole(begun).await?;
    loop {
        let said: StoreCheck = client.get(PATH).await?;
        if !said.running {
            progress("");
            return Ok(said);
        }
        progress(&format!("{} of {} read", said.done, said.of));
        tokio::time::sleep(LOOK).await;
    }
}

async fn mend(client: &Client, fault: &StoreFault) -> Result<(), ClientError> {
    let body = serde_json::json!({"kind": fault.kind, "digest": fault.digest}).to_string();
    let body = crate::body::Body::Whole(body.into());
    let answer = client.send(Method::POST, MEND, body, UPLOAD).await?;
    whole(answer).await.map(drop)
}

/// For a terminal, on one line that goes again.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn words(line: &Line, repair: bool) -> String {
    let fault = &line.fault;
    let state = match (fault.state, repair) {
        (StoreState::Mended, _) => "repaired",
        (_, true) => "not repaired",
        (StoreState::Broken, _) => "broken",
        (StoreState::Unknown, _) => "unknown",
    };
    let kind = match fault.kind {
        StoreKind::Layer => "layer",
        StoreKind::Blob => "blob",
    };
    let needed = match fault.needed_by.as_slice() {
        [] => "nobody needs it".to_owned(),
        all => all.join(", "),
    };
    let named = fault.faults.iter().take(IN_LINE);
    let named: Vec<String> = named
        .map(|one| format!("{} {}", one.path, one.what).trim().to_owned())
        .collect();
    let more = fault.more + fault.faults.len().saturating_sub(IN_LINE) as u64;
    let more = match more {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let why = line.not_repaired.as_ref();
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let text = format!(
        "{state}: {kind} {} ({needed}): {}{more}{why}",
        fault.digest,
        named.join("; ")
    );
    format!("{}\n", printable(&text))
}
