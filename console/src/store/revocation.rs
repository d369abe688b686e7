//! Boards and certificates that were taken back.

use super::certificates::board;
use super::{Store, StoreError, from_sql, to_sql};
use coracle_protocol::names::BoardId;
use sqlx::Row;
use std::collections::BTreeSet;

/// What the list of revoked certificates holds of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// In hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub at: u64,
}

/// What came of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// So many certificates are of no use any more.
    Certificates(u64),
    /// It was before, and nothing of it was in force.
    Already,
    /// No such board.
    NoBoard,
}

impl Store {
    /// Takes back every certificate of a board.
    pub async fn revoke(&self, id: &BoardId, why: &str, now: u64) -> Result<Revoked, StoreError> {
        let mut tx = self.pool.begin().await?;
        // The first statement writes: a transaction that has read, and writes when another has written, is refused.
        let board = sqlx::query(
            "UPDATE boards SET revoked_at = $1, revoked_why = $2, as_made = 0 WHERE id = $3 AND revoked_at IS NULL",
        )
        .bind(to_sql(now))
        .bind(why)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        let certificates = sqlx::query(
            "UPDATE certificates SET revoked_at = $1, revoked_why = $2 \
             WHERE board = $3 AND revoked_at IS NULL",
        )
        .bind(to_sql(now))
        .bind(why)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if board.rows_affected() == 0 && certificates == 0 {
            let known = sqlx::query("SELECT 1 FROM boards WHERE id = $1")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            return Ok(known.map_or(Revoked::NoBoard, |_| Revoked::Already));
        }
        if board.rows_affected() > 0 {
            // A file that is still out there must not bring it back. One that was made after the revocation may.
            sqlx::query("DELETE FROM enrolments WHERE board = $1 AND used_at IS NULL")
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Revoked::Certificates(certificates))
    }

    /// Certificates that were taken back, also those whose own end is past: clocks differ, this one's too.
    pub async fn revoked_certificates(&self) -> Result<Vec<RevokedCertificate>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, revoked_at FROM certificates WHERE revoked_at IS NOT NULL ORDER BY serial",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RevokedCertificate {
                    serial: row.try_get("serial")?,
                    at: from_sql(row.try_get("revoked_at")?),
                })
            })
            .collect()
    }

    /// Boards of the fleet with a certificate that was taken back and is not over: until when.
    pub async fn shadowed_boards(&self, now: u64) -> Result<Vec<(BoardId, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.board, MAX(c.not_after) AS until FROM certificates c JOIN boards b ON b.id = c.board \
             WHERE c.revoked_at IS NOT NULL AND c.not_after > $1 AND b.revoked_at IS NULL \
             GROUP BY c.board ORDER BY c.board",
        )
        .bind(to_sql(now))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((board(row, "board")?, from_sql(row.try_get("until")?))))
            .collect()
    }

    /// Boards that are revoked.
    pub async fn revoked_boards(&self) -> Result<BTreeSet<BoardId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM boards WHERE revoked_at IS NOT NULL")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| board(row, "id")).collect()
    }

    /// Whether a board is revoked.
    pub async fn is_revoked(&self, id: &BoardId) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM boards WHERE id = $1 AND revoked_at IS NOT NULL")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }
}
