//! Boards: who they are, whether they are there, what they last said.

use super::{Store, StoreError, from_sql, json, row_fault, to_sql};
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{BoardUse, Current};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Whether a board is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Presence {
    /// As its newest session said.
    pub online: bool,
    /// That session.
    pub session: u64,
    /// When the console heard it, Unix seconds; `None` when never.
    pub since: Option<u64>,
}

/// A board as the console knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Board {
    /// Its name.
    pub id: BoardId,
    /// When it got a certificate, Unix seconds.
    pub enrolled_at: Option<u64>,
    /// Whether it is there.
    pub presence: Presence,
    /// What it last said of itself.
    pub current: Option<Current>,
    /// When that came, Unix seconds.
    pub current_at: Option<u64>,
    /// What it itself used as it last said when that was kept, and when that came, Unix seconds.
    pub used: Option<(BoardUse, u64)>,
    /// When its certificates were taken back, Unix seconds; `None` when they were not, or when it has enrolled since.
    pub revoked_at: Option<u64>,
    /// Why, in the operator's words.
    pub revoked_why: Option<String>,
}

const COLUMNS: &str = "id, enrolled_at, online, session, presence_at, current, current_at, \
     revoked_at, revoked_why, board_use, board_use_at";

impl Store {
    /// Every board, by name.
    pub async fn boards(&self) -> Result<Vec<Board>, StoreError> {
        let rows = sqlx::query(&format!("SELECT {COLUMNS} FROM boards ORDER BY id"))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Every board's name, and whether it is revoked.
    pub async fn names(&self) -> Result<Vec<(BoardId, bool)>, StoreError> {
        let rows = sqlx::query("SELECT id, revoked_at FROM boards ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        let name = |row: &SqliteRow| {
            let id: String = row.try_get("id")?;
            let revoked: Option<i64> = row.try_get("revoked_at")?;
            let id = BoardId::new(&id).map_err(|e| row_fault("boards.id", &id, e))?;
            Ok((id, revoked.is_some()))
        };
        rows.iter().map(name).collect()
    }

    /// How many boards are enrolled, and not revoked.
    pub async fn enrolled_boards(&self) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n FROM boards WHERE enrolled_at IS NOT NULL AND revoked_at IS NULL",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(from_sql(row.try_get("n")?))
    }

    /// One board.
    pub async fn board(&self, id: &BoardId) -> Result<Option<Board>, StoreError> {
        let row = sqlx::query(&format!("SELECT {COLUMNS} FROM boards WHERE id = $1"))
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// Notes what a board says of itself. `false` when the board is not known.
    pub async fn set_current(
        &self,
        id: &BoardId,
        current: &Current,
        now: u64,
    ) -> Result<bool, StoreError> {
        let text = serde_json::to_string(current)
            .map_err(|e| row_fault("boards.current", id.as_str(), e))?;
        let done = sqlx::query("UPDATE boards SET current = $1, current_at = $2 WHERE id = $3")
            .bind(text)
            .bind(to_sql(now))
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes what a board itself uses. `false` when the board is not known.
    pub async fn set_used(
        &self,
        id: &BoardId,
        used: &BoardUse,
        now: u64,
    ) -> Result<bool, StoreError> {
        let text = serde_json::to_string(used)
            .map_err(|e| row_fault("boards.board_use", id.as_str(), e))?;
        let done = sqlx::query("UPDATE boards SET board_use = $1, board_use_at = $2 WHERE id = $3")
            .bind(text)
            .bind(to_sql(now))
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes a birth or a will. A will of an older session than the newest birth is stale and
    /// changes nothing (`false`); a birth always counts, since a board that was set up anew counts
    /// its sessions from the start.
    pub async fn set_presence(
        &self,
        id: &BoardId,
        online: bool,
        session: u64,
        now: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE boards SET online = $1, session = $2, presence_at = $3 \
             WHERE id = $4 AND ($1 = 1 OR session <= $2) \
             AND (online <> $1 OR session <> $2 OR presence_at IS NULL)",
        )
        .bind(i64::from(online))
        .bind(to_sql(session))
        .bind(to_sql(now))
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The next `seq` and `issued_at` for a board, durable before anybody sees them; neither ever
    /// goes back, whatever the console's clock does. `None` when the board is not known.
    pub async fn next_seq(&self, id: &BoardId, now: u64) -> Result<Option<(u64, u64)>, StoreError> {
        let row = sqlx::query(
            "UPDATE boards SET seq = seq + 1, \
             issued_at = CASE WHEN issued_at > $1 THEN issued_at ELSE $1 END \
             WHERE id = $2 RETURNING seq, issued_at",
        )
        .bind(to_sql(now))
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok((
                from_sql(row.try_get("seq")?),
                from_sql(row.try_get("issued_at")?),
            ))
        })
        .transpose()
    }
}

fn read(row: &SqliteRow) -> Result<Board, StoreError> {
    let id: String = row.try_get("id")?;
    let current: Option<String> = row.try_get("current")?;
    let used: Option<String> = row.try_get("board_use")?;
    let time = |name: &str| -> Result<Option<u64>, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(from_sql))
    };
    Ok(Board {
        enrolled_at: time("enrolled_at")?,
        presence: Presence {
            online: row.try_get::<i64, _>("online")? == 1,
            session: from_sql(row.try_get("session")?),
            since: time("presence_at")?,
        },
        current: current
            .map(|text| json("boards.current", &id, &text))
            .transpose()?,
        current_at: time("current_at")?,
        used: used
            .map(|text| json("boards.board_use", &id, &text))
            .transpose()?
            .zip(time("board_use_at")?),
        revoked_at: time("revoked_at")?,
        revoked_why: row.try_get("revoked_why")?,
        id: BoardId::new(&id).map_err(|e| row_fault("boards.id", &id, e))?,
    })
}
