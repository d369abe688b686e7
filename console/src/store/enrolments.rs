//! One-time tokens by which a board gets its certificate.

use super::{CertificateRow, Store, StoreError, certificates, to_sql};
use coracle_protocol::names::BoardId;
use sqlx::Row;

/// Why a token was refused.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Never issued.
    #[error("this enrolment token is not known")]
    Unknown,
    /// Good for one board, once.
    #[error("this enrolment token was used before")]
    Used,
    /// Too old.
    #[error("this enrolment token has expired")]
    Expired,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for EnrolmentError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Adds a token for `board`, which becomes known. Tokens for it that nobody used are deleted.
    pub async fn add_enrolment(
        &self,
        board: &BoardId,
        hash: &str,
        now: u64,
        expires: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO boards (id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(board.as_str())
            .bind(to_sql(now))
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM enrolments WHERE board = $1 AND used_at IS NULL")
            .bind(board.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO enrolments (token_hash, board, created_at, expires_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(hash)
        .bind(board.as_str())
        .bind(to_sql(now))
        .bind(to_sql(expires))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// The board of a token that is still good. Nothing is used up.
    pub async fn enrolment(&self, hash: &str, now: u64) -> Result<BoardId, EnrolmentError> {
        let row =
            sqlx::query("SELECT board, expires_at, used_at FROM enrolments WHERE token_hash = $1")
                .bind(hash)
                .fetch_optional(&self.pool)
                .await?
                .ok_or(EnrolmentError::Unknown)?;
        if row.try_get::<Option<i64>, _>("used_at")?.is_some() {
            return Err(EnrolmentError::Used);
        }
        if row.try_get::<i64, _>("expires_at")? <= to_sql(now) {
            return Err(EnrolmentError::Expired);
        }
        let board: String = row.try_get("board")?;
        BoardId::new(&board).map_err(|e| super::row_fault("enrolments.board", &board, e).into())
    }

    /// Uses the token up and notes the board's certificate, both or neither: with it a board that was revoked
    /// is one of the fleet again. Of two requests at once, one gets [`EnrolmentError::Used`].
    pub async fn use_enrolment(
        &self,
        hash: &str,
        certificate: &CertificateRow,
        now: u64,
    ) -> Result<(), EnrolmentError> {
        let mut tx = self.pool.begin().await?;
        let done = sqlx::query(
            "UPDATE enrolments SET used_at = $1 WHERE token_hash = $2 AND used_at IS NULL",
        )
        .bind(to_sql(now))
        .bind(hash)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() != 1 {
            return Err(EnrolmentError::Used);
        }
        sqlx::query(
            "UPDATE boards SET enrolled_at = $1, revoked_at = NULL, revoked_why = NULL WHERE id = $2",
        )
        .bind(to_sql(now))
        .bind(certificate.board.as_str())
        .execute(&mut *tx)
        .await?;
        certificates::insert(&mut tx, certificate).await?;
        Ok(tx.commit().await?)
    }
}
