//! Sealed secrets, by board, app and name.

use super::{Store, StoreError, json, row_fault, to_sql};
use coracle_protocol::names::BoardId;
use coracle_protocol::secret::Sealed;
use sqlx::Row;

impl Store {
    /// Keeps a sealed secret, in the place of an older one of that name.
    pub async fn set_secret(
        &self,
        board: &BoardId,
        sealed: &Sealed,
        now: u64,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(sealed)
            .map_err(|e| row_fault("secrets.sealed", board.as_str(), e))?;
        sqlx::query(
            "INSERT INTO secrets (board, app, name, sealed, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (board, app, name) DO UPDATE SET sealed = $4, created_at = $5",
        )
        .bind(board.as_str())
        .bind(sealed.app.as_str())
        .bind(sealed.name.as_str())
        .bind(text)
        .bind(to_sql(now))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Every secret of a board.
    pub async fn secrets(&self, board: &BoardId) -> Result<Vec<Sealed>, StoreError> {
        let rows = sqlx::query("SELECT sealed FROM secrets WHERE board = $1 ORDER BY app, name")
            .bind(board.as_str())
            .fetch_all(&self.pool)
            .await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let text: String = row.try_get("sealed")?;
            json("secrets.sealed", board.as_str(), &text)
        };
        rows.iter().map(read).collect()
    }
}
