//! `coracle-console boards`: boards and their certificates, also while the console runs.

mod rights;

use crate::audit;
use crate::certificates;
use crate::clock::now;
use crate::files::{self, Mode};
use crate::settings::{BoardsCommand, ForeignBroker, State};
use crate::store::{Board, CertificateRow, Named, Revoked, Store, StoreError};
use coracle_protocol::names::BoardId;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Longest reason, in characters.
pub const REASON: usize = 200;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum BoardsError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that could not be written.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The console makes its identifier at its first start.
    #[error("{source}; start the console once before")]
    NeverStarted {
        /// What is missing.
        source: files::FileError,
    },
    /// No such board.
    #[error("board {0} is not known; `coracle-console boards list` shows those that are")]
    Unknown(BoardId),
    /// A file of names.
    #[error("{place}: {why}")]
    Named {
        /// File, and line where it is one.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Too long, or not one line.
    #[error("a reason is one line of at most {REASON} characters")]
    Reason,
}

/// Runs the subcommand; what it prints.
pub async fn run(command: BoardsCommand) -> Result<String, BoardsError> {
    let (BoardsCommand::List { state }
    | BoardsCommand::Add { state, .. }
    | BoardsCommand::Certificates { state, .. }
    | BoardsCommand::Rights { state, .. }
    | BoardsCommand::Revoke { state, .. }) = &command;
    let state = State {
        root: state.clone(),
    };
    let store = Store::open(&state.database()).await?;
    // A database that an older version left holds certificates as text alone.
    certificates::take_in(&store).await?;
    let output = match &command {
        BoardsCommand::List { .. } => list(&store).await?,
        BoardsCommand::Add {
            boards,
            file,
            again,
            ..
        } => {
            let mut all = boards.clone();
            if let Some(file) = file {
                all.extend(named(file)?);
            }
            let named = store.expect(&all, *again, now()).await?;
            for board in &named.new {
                audit::note(&store, "coracle-console", "board.add", board.as_str(), "").await;
            }
            added(&named)
        }
        BoardsCommand::Rights { broker, output, .. } => {
            let boards = with_rights(&store).await?;
            let text = match broker {
                ForeignBroker::Nats => rights::nats(&boards),
                ForeignBroker::Rabbitmq => {
                    let file = state.mqtt_identifier();
                    let identifier = files::read_text(&file)
                        .map_err(|source| BoardsError::NeverStarted { source })?;
                    rights::rabbitmq(&boards, identifier.trim())
                }
            };
            match output {
                Some(file) => keep(file, &text)?.to_owned(),
                None => text,
            }
        }
        BoardsCommand::Certificates { board, .. } => {
            if store.board(board).await?.is_none() {
                return Err(BoardsError::Unknown(board.clone()));
            }
            let all = store.certificates(board).await?;
            all.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        BoardsCommand::Revoke { board, reason, .. } => {
            match revoke(&store, "coracle-console", board, reason).await? {
                Revoked::NoBoard => return Err(BoardsError::Unknown(board.clone())),
                Revoked::Already => format!("{board} was revoked before"),
                Revoked::Certificates(n) => format!(
                    "{board} is revoked, with {n} certificates; a running console acts on it within 5 s"
                ),
            }
        }
    };
    store.close().await;
    Ok(output)
}

/// Boards, and which of them are to be kept out. Brokers that keep users see a certificate's name alone, and not which
/// certificate was taken back: a board that enrolled anew would let in whoever has its key of before.
async fn with_rights(store: &Store) -> Result<Vec<(BoardId, bool)>, StoreError> {
    let mut boards = store.names().await?;
    for (board, until) in store.shadowed_boards(now()).await? {
        let until = day(until);
        tracing::warn!(
            %board, %until,
            "it enrolled anew, and is given no rights: a certificate of the same name was taken back, and is good until \
             then for a broker without the list of those. Enrol it under another name"
        );
        for (_, kept_out) in boards.iter_mut().filter(|(id, _)| *id == board) {
            *kept_out = true;
        }
    }
    Ok(boards)
}

/// A broker may read the file at any moment: it is whole, or as it was.
fn keep(file: &Path, text: &str) -> Result<&'static str, files::FileError> {
    let text = [text, "\n"].concat();
    if std::fs::read(file).is_ok_and(|old| old == text.as_bytes()) {
        return Ok("unchanged");
    }
    files::write(file, text.as_bytes(), Mode::Public)?;
    Ok("changed")
}

fn added(named: &Named) -> String {
    let mut text = format!(
        "{} added, {} expected before",
        named.new.len(),
        named.before.len()
    );
    if !named.revoked.is_empty() {
        let names: Vec<_> = named.revoked.iter().map(BoardId::as_str).collect();
        let names = names.join(", ");
        text += &format!("; not those that were revoked (--again lets them in): {names}");
    }
    text
}

/// The boards in a file, one in each line.
fn named(file: &Path) -> Result<Vec<BoardId>, BoardsError> {
    let wrong = |place: String, why: String| BoardsError::Named { place, why };
    let text = std::fs::read_to_string(file)
        .map_err(|e| wrong(file.display().to_string(), e.to_string()))?;
    let mut boards = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if !name.is_empty() {
            let place = || format!("{}: line {}", file.display(), number + 1);
            boards.push(BoardId::new(name).map_err(|e| wrong(place(), e.to_string()))?);
        }
    }
    Ok(boards)
}

/// Takes a board's certificates back, and writes so into the audit log. A running console is to be told.
pub async fn revoke(
    store: &Store,
    actor: &str,
    board: &BoardId,
    reason: &str,
) -> Result<Revoked, BoardsError> {
    let reason = reason.trim();
    if reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        return Err(BoardsError::Reason);
    }
    let revoked = store.revoke(board, reason, now()).await?;
    if let Revoked::Certificates(n) = revoked {
        let detail = format!("{n} certificates: {reason}");
        audit::note(store, actor, "board.revoke", board.as_str(), &detail).await;
    }
    Ok(revoked)
}

async fn list(store: &Store) -> Result<String, StoreError> {
    let mut lines = Vec::new();
    for board in store.boards().await? {
        let newest = store.certificates(&board.id).await?.into_iter().next();
        lines.push(format!(
            "{}\t{}",
            board.id,
            standing(&board, newest.as_ref())
        ));
    }
    Ok(lines.join("\n"))
}

fn standing(board: &Board, newest: Option<&CertificateRow>) -> String {
    match (board.revoked_at, newest) {
        (Some(at), _) => {
            let why = board.revoked_why.as_deref().filter(|why| !why.is_empty());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("revoked {}{why}", day(at))
        }
        (None, Some(row)) => format!("certificate {} until {}", row.serial, day(row.not_after)),
        (None, None) => "not enrolled".into(),
    }
}

fn line(row: &CertificateRow) -> String {
    let state = match (row.revoked_at, row.superseded_at) {
        (Some(at), _) => format!("revoked {}", day(at)),
        (None, Some(at)) => format!("superseded {}", day(at)),
        (None, None) => "in force".into(),
    };
    let used = row.last_used.map_or_else(
        || "never used".into(),
        |at| format!("last used {}", day(at)),
    );
    format!(
        "{}\t{} {}\tuntil {}\t{used}\t{state}",
        row.serial,
        row.how,
        day(row.issued_at),
        day(row.not_after)
    )
}

/// RFC 3339, in whole seconds.
pub fn day(at: u64) -> String {
    // The last second that RFC 3339 has a year for.
    let at = Duration::from_secs(at.min(253_402_300_799));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + at).to_string()
}
