//! Certificates of boards: who holds which, which were used, which were taken back.

use super::{Store, StoreError, from_sql, row_fault, to_sql};
use coracle_protocol::names::BoardId;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

/// A use within so many seconds of the last one is not written down.
const USE_PAUSE: u64 = 3600;
/// Unused certificates of a board are counted for so long, in seconds.
pub(super) const DAY: u64 = 24 * 3600;

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CertificateRow {
    /// In hexadecimal.
    pub serial: String,
    /// Common name.
    pub board: BoardId,
    /// SHA-256 of the public key.
    #[serde(skip)]
    pub key_hash: String,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub not_after: u64,
    /// `enrolled`, `renewed`, `renewed-expired`, or `adopted`.
    pub how: String,
    /// When it was last shown on the boards' port; within an hour.
    pub last_used: Option<u64>,
    /// When a newer one of the board was first used.
    pub superseded_at: Option<u64>,
    /// When it was taken back.
    pub revoked_at: Option<u64>,
    /// Why, in the operator's words.
    pub revoked_why: Option<String>,
}

/// What came of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The new certificate is noted.
    Noted,
    /// The board was given too many that it never used.
    TooMany,
    /// The one before it was taken back or superseded meanwhile.
    NotInForce,
}

const COLUMNS: &str = "serial, board, key_hash, issued_at, not_after, how, last_used, superseded_at, revoked_at, \
     revoked_why";

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    row: &CertificateRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO certificates (serial, board, key_hash, issued_at, not_after, how) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(&row.serial)
    .bind(row.board.as_str())
    .bind(&row.key_hash)
    .bind(to_sql(row.issued_at))
    .bind(to_sql(row.not_after))
    .bind(&row.how)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a board's certificates that were over before `forget`, unless they were taken back.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    board: &BoardId,
    forget: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM certificates WHERE board = $1 AND not_after < $2 AND revoked_at IS NULL",
    )
    .bind(board.as_str())
    .bind(to_sql(forget))
    .execute(connection)
    .await?;
    Ok(())
}

/// A board's certificates of the last day that it did not use; those by its manufacturing key are counted apart.
async fn unused(
    connection: &mut SqliteConnection,
    board: &BoardId,
    now: u64,
) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "SELECT COUNT(*) AS n FROM certificates WHERE board = $1 AND last_used IS NULL \
         AND superseded_at IS NULL AND revoked_at IS NULL AND issued_at > $2 AND how <> 'manufacturing'",
    )
    .bind(board.as_str())
    .bind(to_sql(now.saturating_sub(DAY)))
    .fetch_one(connection)
    .await?
    .try_get("n")
}

impl Store {
    /// One certificate. That of a revoked board counts as taken back.
    pub async fn certificate(&self, serial: &str) -> Result<Option<CertificateRow>, StoreError> {
        let row = sqlx::query(
            "SELECT c.serial, c.board, c.key_hash, c.issued_at, c.not_after, c.how, c.last_used, c.superseded_at, \
             COALESCE(c.revoked_at, b.revoked_at) AS revoked_at, \
             CASE WHEN c.revoked_at IS NULL THEN b.revoked_why ELSE c.revoked_why END AS revoked_why \
             FROM certificates c JOIN boards b ON b.id = c.board WHERE c.serial = $1",
        )
            .bind(serial)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// A board's certificates, the newest first.
    pub async fn certificates(&self, board: &BoardId) -> Result<Vec<CertificateRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM certificates WHERE board = $1 ORDER BY issued_at DESC, serial"
        );
        let rows = sqlx::query(&sql)
            .bind(board.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Whether this key had a certificate: of this board, or one that was taken back of any.
    pub async fn key_is_used_up(
        &self,
        key_hash: &str,
        board: &BoardId,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM certificates WHERE key_hash = $1 AND (board = $2 OR revoked_at IS NOT NULL)",
        )
        .bind(key_hash)
        .bind(board.as_str())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.is_some())
    }

    /// Whether a certificate of this key was taken back.
    pub async fn key_is_revoked(&self, key_hash: &str) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM certificates WHERE key_hash = $1 AND revoked_at IS NOT NULL",
        )
        .bind(key_hash)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.is_some())
    }

    /// Notes a certificate that follows the one with serial number `old`, which must be in force as the new one is
    /// written: a revocation at the same moment takes back both or is first. At most `most` in a day are noted of
    /// those that the board does not use. Those of the board that were over before `forget` are forgotten, unless
    /// they were taken back.
    pub async fn add_certificate(
        &self,
        old: &str,
        new: &CertificateRow,
        now: u64,
        forget: u64,
        most: u32,
    ) -> Result<Added, StoreError> {
        let mut tx = self.pool.begin().await?;
        // It writes, so that from here on nobody else does.
        self::forget(&mut tx, &new.board, forget).await?;
        let in_force = sqlx::query(
            "SELECT 1 FROM certificates c JOIN boards b ON b.id = c.board \
             WHERE c.serial = $1 AND c.board = $2 AND c.revoked_at IS NULL AND c.superseded_at IS NULL \
             AND b.revoked_at IS NULL",
        )
        .bind(old)
        .bind(new.board.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if in_force.is_none() {
            return Ok(Added::NotInForce);
        }
        if unused(&mut tx, &new.board, now).await? >= i64::from(most) {
            return Ok(Added::TooMany);
        }
        insert(&mut tx, new).await?;
        tx.commit().await?;
        Ok(Added::Noted)
    }

    /// Takes in certificates that an older version of this program issued. Those of revoked boards are taken back.
    pub async fn take_in(&self, rows: &[CertificateRow]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for row in rows {
            insert(&mut tx, row).await?;
        }
        sqlx::query(
            "UPDATE certificates SET \
             revoked_at = (SELECT revoked_at FROM boards WHERE id = certificates.board), \
             revoked_why = (SELECT revoked_why FROM boards WHERE id = certificates.board) \
             WHERE revoked_at IS NULL AND board IN (SELECT id FROM boards WHERE revoked_at IS NOT NULL)",
        )
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Boards of whose certificate there is the text alone, as an older version wrote it: name, PEM, and when.
    pub async fn unrecorded_certificates(&self) -> Result<Vec<(BoardId, String, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, certificate, enrolled_at FROM boards WHERE certificate IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM certificates WHERE board = boards.id)",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let at: Option<i64> = row.try_get("enrolled_at")?;
                let text = row.try_get("certificate")?;
                Ok((board(row, "id")?, text, at.map_or(0, from_sql)))
            })
            .collect()
    }

    /// Notes that a certificate was shown. With its first use those before it are superseded, unless it is itself;
    /// that must be on record. A later use is for the operator to see: with a full disk the console serves on.
    pub async fn note_use(&self, row: &CertificateRow, now: u64) -> Result<(), StoreError> {
        let Some(last) = row.last_used else {
            return self.first_use(row, now).await;
        };
        if now < last.saturating_add(USE_PAUSE) {
            return Ok(());
        }
        let done = sqlx::query("UPDATE certificates SET last_used = $1 WHERE serial = $2")
            .bind(to_sql(now))
            .bind(&row.serial)
            .execute(&self.pool)
            .await;
        if let Err(error) = done {
            tracing::warn!(board = %row.board, %error, "the use of a certificate is not on record");
        }
        Ok(())
    }

    async fn first_use(&self, row: &CertificateRow, now: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE certificates SET last_used = $1 WHERE serial = $2")
            .bind(to_sql(now))
            .bind(&row.serial)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "UPDATE certificates SET superseded_at = $1 WHERE board = $2 AND serial <> $3 \
             AND issued_at <= $4 AND superseded_at IS NULL \
             AND EXISTS (SELECT 1 FROM certificates WHERE serial = $3 AND superseded_at IS NULL)",
        )
        .bind(to_sql(now))
        .bind(row.board.as_str())
        .bind(&row.serial)
        .bind(to_sql(row.issued_at))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

pub(super) fn board(row: &SqliteRow, column: &'static str) -> Result<BoardId, StoreError> {
    let text: String = row.try_get(column)?;
    BoardId::new(&text).map_err(|e| row_fault(column, &text, e))
}

fn read(row: &SqliteRow) -> Result<CertificateRow, StoreError> {
    let time = |name: &str| -> Result<Option<u64>, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(from_sql))
    };
    Ok(CertificateRow {
        serial: row.try_get("serial")?,
        board: board(row, "board")?,
        key_hash: row.try_get("key_hash")?,
        issued_at: from_sql(row.try_get("issued_at")?),
        not_after: from_sql(row.try_get("not_after")?),
        how: row.try_get("how")?,
        last_used: time("last_used")?,
        superseded_at: time("superseded_at")?,
        revoked_at: time("revoked_at")?,
        revoked_why: row.try_get("revoked_why")?,
    })
}

#[cfg(test)]
mod tests;
