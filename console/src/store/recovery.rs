//! What a database from an old backup does not know: it is told by the list of revoked certificates, and by boards
//! that show theirs.

use super::certificates::board;
use super::{CertificateRow, RevokedCertificate, Store, StoreError, to_sql};
use coracle_protocol::names::BoardId;

/// What a list said that the database did not.
#[derive(Debug, Default)]
pub struct Listed {
    /// Boards that are revoked by it.
    pub boards: Vec<BoardId>,
    /// Certificates that the database does not know.
    pub foreign: Vec<RevokedCertificate>,
}

impl Store {
    /// Takes back what is on an earlier list, and the boards with it.
    pub async fn take_back_listed(
        &self,
        listed: &[RevokedCertificate],
    ) -> Result<Listed, StoreError> {
        let why = "it was revoked after this database was saved";
        let mut found = Listed::default();
        let mut tx = self.pool.begin().await?;
        for one in listed {
            // It writes first: nobody else does until the end.
            let fresh = sqlx::query(
                "UPDATE certificates SET revoked_at = $1, revoked_why = $2 \
                 WHERE serial = $3 AND revoked_at IS NULL RETURNING board",
            )
            .bind(to_sql(one.at))
            .bind(why)
            .bind(&one.serial)
            .fetch_optional(&mut *tx)
            .await?;
            if let Some(row) = fresh {
                let id = board(&row, "board")?;
                sqlx::query(
                    "UPDATE boards SET revoked_at = $1, revoked_why = $2 WHERE id = $3 AND revoked_at IS NULL",
                )
                .bind(to_sql(one.at))
                .bind(why)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
                // As a revocation does it: nothing of the board is of use any more, and no open enrolment brings it back.
                sqlx::query(
                    "UPDATE certificates SET revoked_at = $1, revoked_why = $2 WHERE board = $3 AND revoked_at IS NULL",
                )
                .bind(to_sql(one.at))
                .bind(why)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
                sqlx::query("DELETE FROM enrolments WHERE board = $1 AND used_at IS NULL")
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                if !found.boards.contains(&id) {
                    found.boards.push(id);
                }
                continue;
            }
            let known = sqlx::query("SELECT 1 FROM certificates WHERE serial = $1")
                .bind(&one.serial)
                .fetch_optional(&mut *tx)
                .await?;
            if known.is_none() {
                found.foreign.push(one.clone());
            }
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Notes a certificate that the fleet's CA signed and this database does not know, unless its board is revoked or
    /// unknown, or its key was taken back. Beside a newer one that was used it is superseded. What is on record then.
    pub async fn adopt(
        &self,
        new: &CertificateRow,
        now: u64,
    ) -> Result<Option<CertificateRow>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let done = sqlx::query(
            "INSERT INTO certificates (serial, board, key_hash, issued_at, not_after, how) \
             SELECT $1, id, $3, $4, $5, $6 FROM boards WHERE id = $2 AND revoked_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM certificates WHERE key_hash = $3 AND revoked_at IS NOT NULL) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&new.serial)
        .bind(new.board.as_str())
        .bind(&new.key_hash)
        .bind(to_sql(new.issued_at))
        .bind(to_sql(new.not_after))
        .bind(&new.how)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 1 {
            sqlx::query(
                "UPDATE certificates SET superseded_at = $1 WHERE serial = $2 AND EXISTS \
                 (SELECT 1 FROM certificates WHERE board = $3 AND serial <> $2 AND last_used IS NOT NULL \
                 AND issued_at > $4)",
            )
            .bind(to_sql(now))
            .bind(&new.serial)
            .bind(new.board.as_str())
            .bind(to_sql(new.issued_at))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        self.certificate(&new.serial).await
    }
}
