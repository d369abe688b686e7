//! The database: the console's truth. The only room that speaks SQL.
//!
//! SQLite today. The statements keep to what PostgreSQL understands too, so that it needs another
//! pool type here and nothing elsewhere.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod as_made;
mod audit;
mod boards;
mod certificates;
mod commands;
mod deltas;
mod deployments;
mod enrolments;
mod recovery;
mod releases;
mod revocation;
mod roots;
mod secrets;
mod tokens;
mod withheld;

pub use as_made::{Expected, Named, TakenIn};
pub use audit::AuditEntry;
pub use boards::{Board, Presence};
pub use certificates::{Added, CertificateRow};
pub use commands::{CommandRow, Outcome};
pub use deltas::DeltaRow;
pub use deployments::{Assignment, Deployment, FeedbackKept, NewAssignment};
pub use enrolments::EnrolmentError;
pub use releases::{KnownLayer, ReleaseRow};
pub use revocation::{Revoked, RevokedCertificate};
pub use tokens::{Identity, Role};
pub use withheld::{Fate, Heard, Withdrawal};

type Pool = sqlx::SqlitePool;

/// Why the database could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or brought up to date.
    #[error("database {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("database {path}: {source}")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Which migration, and why.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("database: {0}")]
    Query(#[from] sqlx::Error),
    /// A row holds what this program cannot read.
    #[error("database: {what} of `{key}` cannot be read: {fault}")]
    Row {
        /// Table and column.
        what: &'static str,
        /// Whose.
        key: String,
        /// Why.
        fault: String,
    },
}

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A seq that a power cut takes back would be used twice: FULL, not NORMAL.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open {
                path: path.to_owned(),
                source,
            })?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| StoreError::Migrate {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { pool })
    }

    /// Waits for statements under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Unix seconds and counters stay below 2^53 in every document, so that they fit both ways.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    key: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| row_fault(what, key, e))
}

fn row_fault(what: &'static str, key: &str, fault: impl std::fmt::Display) -> StoreError {
    StoreError::Row {
        what,
        key: key.to_owned(),
        fault: fault.to_string(),
    }
}
