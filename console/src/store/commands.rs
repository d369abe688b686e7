//! Signed commands and their results. Of each board the newest are kept.

use super::{Store, StoreError, from_sql, json, row_fault, to_sql};
use coracle_digest::Sha256Digest;
use coracle_protocol::command::{Action, CommandResult};
use coracle_protocol::names::BoardId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Commands that are kept for one board: with the longest results 1.6 MB.
const KEPT: i64 = 20;

/// A command that was signed for a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// SHA-256 of its payload.
    pub id: Sha256Digest,
    /// The board.
    pub board: BoardId,
    /// Of the document.
    pub seq: u64,
    /// What it asks for.
    pub action: Action,
    /// Unix seconds.
    pub created_at: u64,
    /// Who sent it.
    pub created_by: String,
    /// Unix seconds.
    pub expires: u64,
}

/// What a board said of a command, all parts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A stable word when it was not done.
    pub code: Option<String>,
    /// Why not, or what was asked for.
    pub text: String,
}

impl Store {
    /// The next `seq` of commands to a board and the newest `issued_at` of its assignments. `seq` is the time in milliseconds
    /// unless that was used: a console that lost its database goes on above what boards have seen. `None` when the board is
    /// not known.
    pub async fn next_command_seq(
        &self,
        board: &BoardId,
        now_ms: u64,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let row = sqlx::query(
            "UPDATE boards SET command_seq = CASE WHEN command_seq >= $1 THEN command_seq + 1 ELSE $1 END \
             WHERE id = $2 RETURNING command_seq, issued_at",
        )
        .bind(to_sql(now_ms))
        .bind(board.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let read = |row: SqliteRow| -> Result<_, StoreError> {
            let seq = from_sql(row.try_get("command_seq")?);
            Ok((seq, from_sql(row.try_get("issued_at")?)))
        };
        row.map(read).transpose()
    }

    /// Keeps a command, in the place of the oldest of its board.
    pub async fn add_command(&self, new: &CommandRow) -> Result<(), StoreError> {
        let action = serde_json::to_string(&new.action)
            .map_err(|e| row_fault("commands.action", new.board.as_str(), e))?;
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO commands (id, board, seq, action, created_at, created_by, expires) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.to_string())
        .bind(new.board.as_str())
        .bind(to_sql(new.seq))
        .bind(action)
        .bind(to_sql(new.created_at))
        .bind(&new.created_by)
        .bind(to_sql(new.expires))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM commands WHERE board = $1 AND id NOT IN \
             (SELECT id FROM commands WHERE board = $1 ORDER BY seq DESC LIMIT $2)",
        )
        .bind(new.board.as_str())
        .bind(KEPT)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Notes a part of what a board says of a command of its own; the first word counts. `false` when it is no news.
    pub async fn add_command_result(
        &self,
        board: &BoardId,
        result: &CommandResult,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO command_parts (command, part, parts, code, text) \
             SELECT id, $3, $4, $5, $6 FROM commands WHERE id = $1 AND board = $2 \
             AND NOT EXISTS (SELECT 1 FROM command_parts WHERE command = $1 \
             AND (parts <> $4 OR COALESCE(code, '') <> COALESCE($5, ''))) \
             ON CONFLICT DO NOTHING",
        )
        .bind(result.command.to_string())
        .bind(board.as_str())
        .bind(i64::from(result.part))
        .bind(i64::from(result.parts))
        .bind(&result.code)
        .bind(&result.text)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// One command of a board.
    pub async fn command(
        &self,
        board: &BoardId,
        id: &Sha256Digest,
    ) -> Result<Option<CommandRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM commands WHERE id = $1 AND board = $2")
            .bind(id.to_string())
            .bind(board.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// The commands of a board that are kept, the newest first.
    pub async fn commands(&self, board: &BoardId) -> Result<Vec<CommandRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM commands WHERE board = $1 ORDER BY seq DESC")
            .bind(board.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// What became of a command, once all of it is here.
    pub async fn command_outcome(&self, id: &Sha256Digest) -> Result<Option<Outcome>, StoreError> {
        let rows = sqlx::query(
            "SELECT parts, code, text FROM command_parts WHERE command = $1 ORDER BY part",
        )
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        if from_sql(first.try_get("parts")?) != rows.len() as u64 {
            return Ok(None);
        }
        let mut text = String::new();
        for row in &rows {
            text.push_str(row.try_get("text")?);
        }
        let code = first.try_get("code")?;
        Ok(Some(Outcome { code, text }))
    }
}

fn read(row: &SqliteRow) -> Result<CommandRow, StoreError> {
    let text = |name: &str| row.try_get::<String, _>(name);
    let (id, board, action) = (text("id")?, text("board")?, text("action")?);
    Ok(CommandRow {
        seq: from_sql(row.try_get("seq")?),
        created_at: from_sql(row.try_get("created_at")?),
        created_by: text("created_by")?,
        expires: from_sql(row.try_get("expires")?),
        action: json("commands.action", &id, &action)?,
        board: BoardId::new(&board).map_err(|e| row_fault("commands.board", &id, e))?,
        id: id.parse().map_err(|e| row_fault("commands.id", &id, e))?,
    })
}
