//! Deployments by the console, and what became of them on each board.

use crate::console::{Console, ConsoleError, visible};
use crate::failure;
use crate::human;
use crate::toml_file::{self, TomlFileError};
use coracle_protocol::Sha256Digest;
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::report::{Fetched, Phase};
use coracle_protocol::site::Settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at a deployment.
const LOOK: Duration = Duration::from_millis(500);
/// Looks that may fail in a row before it is given up: a console that restarts is back sooner.
const FAILED_LOOKS: u32 = 60;

/// A deployment did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Not on every board.
    #[error("{}", .0.join("; "))]
    Badly(Vec<String>, u8),
    /// Not all boards came to an end in time.
    #[error("after {0} s these boards have not come to an end: {1}")]
    Late(u64, String),
}

impl Ended {
    /// 3 when a board refused it, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Badly(_, code) => *code,
            Self::Late(..) => failure::FAILED,
        }
    }
}

#[derive(Serialize)]
struct Order<'a> {
    release: Sha256Digest,
    boards: &'a [BoardId],
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a Site>,
}

/// What the console answers to an order.
#[derive(Debug, Deserialize)]
pub struct Ordered {
    /// The deployment's name.
    pub id: String,
    /// Each board.
    pub boards: Vec<OrderedBoard>,
}

/// One board of it.
#[derive(Debug, Deserialize)]
pub struct OrderedBoard {
    /// The board.
    pub board: BoardId,
    /// Names it in feedback.
    pub activity: String,
    /// Of the assignment.
    pub seq: u64,
    /// Deltas that it names.
    #[serde(default)]
    pub deltas: Vec<OfferedDelta>,
    /// What an operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A delta.
#[derive(Debug, Deserialize)]
pub struct OfferedDelta {
    /// Bytes.
    pub size: u64,
    /// Bytes of the full layer.
    pub full_size: u64,
}

#[derive(Debug, Deserialize)]
struct Progress {
    boards: Vec<BoardProgress>,
}

#[derive(Debug, Deserialize)]
struct BoardProgress {
    board: BoardId,
    phase: Option<Phase>,
    percent: Option<u8>,
    code: Option<String>,
    reason: Option<String>,
    fetched: Option<Fetched>,
    /// What somebody's holding or taking it back made of it.
    standing: Option<String>,
}

/// What is set for the boards of a deployment, app by app.
pub type Site = BTreeMap<AppName, Settings>;

/// A file of settings, in bytes.
const SITE_BYTES: u64 = 64 * 1024;

/// Reads a file of settings.
pub fn site(path: &Path) -> Result<Site, TomlFileError> {
    toml_file::read(path, SITE_BYTES)
}

/// Orders a deployment.
pub fn order(
    console: &Console,
    release: Sha256Digest,
    boards: &[BoardId],
    expires_in_seconds: Option<u64>,
    site: Option<&Site>,
) -> Result<Ordered, ConsoleError> {
    let order = Order {
        release,
        boards,
        expires_in_seconds,
        site,
    };
    let body = serde_json::to_vec(&order).unwrap_or_default();
    console.post("/api/v1/deployments", &body)
}

/// What was ordered, in words.
pub fn describe(ordered: &Ordered) -> String {
    let mut out = format!("deployment {}\n", ordered.id);
    for board in &ordered.boards {
        let deltas: u64 = board.deltas.iter().map(|d| d.size).sum();
        let full: u64 = board.deltas.iter().map(|d| d.full_size).sum();
        let _ = write!(out, "{}: assignment {}", board.board, board.seq);
        if !board.deltas.is_empty() {
            let _ = write!(
                out,
                ", {} deltas with {} instead of {}",
                board.deltas.len(),
                human::bytes(deltas),
                human::bytes(full)
            );
        }
        out.push('\n');
        for warning in &board.warnings {
            let _ = writeln!(out, "{}: warning: {}", board.board, visible(warning));
        }
    }
    out
}

/// Why the end of a deployment is not known, or not good.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The console.
    #[error("{0}")]
    Console(#[from] ConsoleError),
    /// The boards.
    #[error("{0}")]
    Ended(#[from] Ended),
}

/// Follows a deployment to its end on every board; `say` gets a line at each step.
pub fn wait(
    console: &Console,
    id: &str,
    limit: Option<Duration>,
    mut say: impl FnMut(&str),
) -> Result<(), WaitError> {
    let start = Instant::now();
    let mut last: BTreeMap<BoardId, String> = BTreeMap::new();
    let mut failed = 0;
    let path = format!("/api/v1/deployments/{id}");
    loop {
        let progress: Progress = match console.get(&path) {
            Ok(progress) => progress,
            Err(ConsoleError::Unreachable { .. }) if failed < FAILED_LOOKS => {
                failed += 1;
                std::thread::sleep(LOOK);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failed = 0;
        for board in &progress.boards {
            let line = board.line();
            if last.get(&board.board) != Some(&line) {
                say(&line);
                last.insert(board.board.clone(), line);
            }
        }
        let ended = |b: &BoardProgress| b.phase.is_some_and(Phase::is_end) || b.is_taken_back();
        if progress.boards.iter().all(ended) {
            return Ok(outcome(&progress.boards)?);
        }
        if let Some(limit) = limit
            && start.elapsed() >= limit
        {
            let open: Vec<&str> = progress
                .boards
                .iter()
                .filter(|b| !ended(b))
                .map(|b| b.board.as_str())
                .collect();
            return Err(Ended::Late(limit.as_secs(), open.join(", ")).into());
        }
        std::thread::sleep(LOOK);
    }
}

fn outcome(boards: &[BoardProgress]) -> Result<(), Ended> {
    let bad: Vec<&BoardProgress> = boards
        .iter()
        .filter(|board| board.phase != Some(Phase::Committed))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let refused = bad.iter().any(|board| board.phase == Some(Phase::Refused));
    let code = if refused {
        failure::REFUSED
    } else {
        failure::FAILED
    };
    Err(Ended::Badly(bad.iter().map(|b| b.line()).collect(), code))
}

impl BoardProgress {
    fn is_taken_back(&self) -> bool {
        matches!(self.standing.as_deref(), Some("not-sent" | "cancelled"))
    }

    /// `acme.board-1: rolled-back (unhealthy): web answered 503`.
    fn line(&self) -> String {
        let mut out = format!(
            "{}: {}",
            self.board,
            self.phase
                .map_or("waiting for the board".to_owned(), |phase| phase
                    .to_string())
        );
        if let Some(percent) = self
            .percent
            .filter(|_| !self.phase.is_some_and(Phase::is_end))
        {
            let _ = write!(out, " {percent} %");
        }
        if let Some(code) = &self.code {
            let _ = write!(out, " ({})", visible(code));
        }
        if let Some(standing) = &self.standing {
            let _ = write!(out, ", {}", visible(standing));
        }
        if let Some(reason) = &self.reason {
            let _ = write!(out, ": {}", visible(reason));
        }
        if let Some(fetched) = self
            .fetched
            .filter(|_| self.phase == Some(Phase::Committed))
        {
            let _ = write!(
                out,
                ", {} over the wire instead of {}",
                human::bytes(fetched.wire_bytes),
                human::bytes(fetched.full_bytes)
            );
        }
        out
    }
}

/// One board as the console sees it, in words.
pub fn describe_board(board: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map(visible);
    let online = match board["presence"]["online"].as_bool() {
        Some(true) => "online",
        Some(false) => "offline",
        None => "never seen",
    };
    let mut out = format!("{}  {online}", text(&board["board"]).unwrap_or_default());
    if board["revoked_at"].is_u64() {
        let why = text(&board["revoked_why"]).filter(|why| !why.is_empty());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let _ = write!(out, "  REVOKED{why};");
    }
    let set = &board["current"]["set"];
    match (
        text(&set["product"]),
        text(&set["version"]),
        text(&set["state"]),
    ) {
        (Some(product), Some(version), Some(state)) => {
            let _ = write!(out, "  {product} {version} ({state})");
        }
        _ => out.push_str("  runs nothing"),
    }
    for app in set["apps"].as_array().into_iter().flatten() {
        let name = text(&app["name"]).unwrap_or_default();
        let state = text(&app["state"]).unwrap_or_default();
        let health = match app["healthy"].as_bool() {
            Some(true) => ", healthy",
            Some(false) => ", unhealthy",
            None => "",
        };
        let restarts = app["restarts"].as_u64().unwrap_or_default();
        let _ = write!(out, "\n  {name}: {state}{health}, {restarts} restarts");
    }
    let feedback = &board["feedback"];
    if let Some(phase) = text(&feedback["phase"]) {
        let _ = write!(out, "\n  last deployment: {phase}");
        if let Some(reason) = text(&feedback["reason"]) {
            let _ = write!(out, ": {reason}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn board(value: serde_json::Value) -> BoardProgress {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_revoked_board_is_said_to_be_one() {
        let seen = json!({"board": "a.b", "presence": {"online": false}, "current": null,
            "revoked_at": 7, "revoked_why": "stolen"});
        assert_eq!(
            describe_board(&seen),
            "a.b  offline  REVOKED: stolen;  runs nothing"
        );
    }

    #[test]
    fn ends() {
        let good = board(json!({"board": "a.b", "phase": "committed"}));
        let back = board(
            json!({"board": "a.c", "phase": "rolled-back", "code": "unhealthy", "reason": "web: 503", "percent": 100}),
        );
        let refused = board(
            json!({"board": "a.d", "phase": "refused", "code": "old-release", "reason": "rollback"}),
        );
        assert!(outcome(&[]).is_ok());
        let bad = outcome(&[good, back]).unwrap_err();
        assert_eq!(bad.to_string(), "a.c: rolled-back (unhealthy): web: 503");
        assert_eq!(bad.exit_code(), 1);
        assert_eq!(outcome(&[refused]).unwrap_err().exit_code(), 3);
        let fetching = board(json!({"board": "a.b", "phase": "fetching", "percent": 40}));
        assert_eq!(fetching.line(), "a.b: fetching 40 %");
        assert_eq!(
            board(json!({"board": "a.b"})).line(),
            "a.b: waiting for the board"
        );
        let unsent = board(json!({"board": "a.b", "phase": null, "standing": "not-sent"}));
        assert!(unsent.is_taken_back());
        assert_eq!(unsent.line(), "a.b: waiting for the board, not-sent");
        assert!(outcome(&[unsent]).is_err());
    }
}
