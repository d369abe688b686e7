//! Certificates of boards: who holds which, which were used, which were taken back.

use super::{Store, StoreError, from_sql, row_fault, to_sql};
use coracle_protocol::names::BoardId;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::BTreeSet;

/// A use within so many seconds of the last one is not written down.
const USE_PAUSE: u64 = 60;

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
    /// When it was last shown on the boards' port; within a minute.
    pub last_used: Option<u64>,
    /// When a newer one of the board was first used.
    pub superseded_at: Option<u64>,
    /// When it was taken back.
    pub revoked_at: Option<u64>,
    /// Why, in the operator's words.
    pub revoked_why: Option<String>,
}

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
    /// It was before, and has not enrolled since.
    Already,
    /// No such board.
    NoBoard,
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

impl Store {
    /// One certificate.
    pub async fn certificate(&self, serial: &str) -> Result<Option<CertificateRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM certificates WHERE serial = $1");
        let row = sqlx::query(&sql)
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

    /// Notes a certificate, unless `most` of the board are good at `now` and were never used; `false` then.
    /// Those of the board that were over before `forget` are forgotten, unless they were taken back.
    pub async fn add_certificate(
        &self,
        new: &CertificateRow,
        now: u64,
        forget: u64,
        most: u32,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "DELETE FROM certificates WHERE board = $1 AND not_after < $2 AND revoked_at IS NULL",
        )
        .bind(new.board.as_str())
        .bind(to_sql(forget))
        .execute(&mut *tx)
        .await?;
        let waiting: i64 = sqlx::query(
            "SELECT COUNT(*) AS n FROM certificates WHERE board = $1 AND last_used IS NULL AND not_after > $2",
        )
        .bind(new.board.as_str())
        .bind(to_sql(now))
        .fetch_one(&mut *tx)
        .await?
        .try_get("n")?;
        if waiting >= i64::from(most) {
            return Ok(false);
        }
        insert(&mut tx, new).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes in certificates that an older version of this program issued.
    pub async fn take_in(&self, rows: &[CertificateRow]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for row in rows {
            insert(&mut tx, row).await?;
        }
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

    /// Notes that a certificate was shown. With its first use those before it are superseded.
    pub async fn note_use(&self, row: &CertificateRow, now: u64) -> Result<(), StoreError> {
        if row.last_used.is_some_and(|last| now < last + USE_PAUSE) {
            return Ok(());
        }
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE certificates SET last_used = $1 WHERE serial = $2")
            .bind(to_sql(now))
            .bind(&row.serial)
            .execute(&mut *tx)
            .await?;
        if row.last_used.is_none() {
            sqlx::query(
                "UPDATE certificates SET superseded_at = $1 WHERE board = $2 AND serial <> $3 \
                 AND issued_at <= $4 AND superseded_at IS NULL",
            )
            .bind(to_sql(now))
            .bind(row.board.as_str())
            .bind(&row.serial)
            .bind(to_sql(row.issued_at))
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Takes back every certificate of a board.
    pub async fn revoke(&self, id: &BoardId, why: &str, now: u64) -> Result<Revoked, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query("SELECT revoked_at FROM boards WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            return Ok(Revoked::NoBoard);
        };
        if row.try_get::<Option<i64>, _>("revoked_at")?.is_some() {
            return Ok(Revoked::Already);
        }
        sqlx::query("UPDATE boards SET revoked_at = $1, revoked_why = $2 WHERE id = $3")
            .bind(to_sql(now))
            .bind(why)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        // A file that is still out there must not bring it back.
        sqlx::query("DELETE FROM enrolments WHERE board = $1 AND used_at IS NULL")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        let done = sqlx::query(
            "UPDATE certificates SET revoked_at = $1, revoked_why = $2 \
             WHERE board = $3 AND revoked_at IS NULL",
        )
        .bind(to_sql(now))
        .bind(why)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Revoked::Certificates(done.rows_affected()))
    }

    /// Certificates that were taken back and whose own end is after `from`.
    pub async fn revoked_certificates(
        &self,
        from: u64,
    ) -> Result<Vec<RevokedCertificate>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, revoked_at FROM certificates \
             WHERE revoked_at IS NOT NULL AND not_after > $1 ORDER BY serial",
        )
        .bind(to_sql(from))
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

fn board(row: &SqliteRow, column: &'static str) -> Result<BoardId, StoreError> {
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
mod tests {
    use super::*;
    use crate::ca::{BoardRequest, Ca};
    use std::time::Duration;

    #[tokio::test]
    async fn certificates_that_an_older_version_issued_are_taken_in() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let ca = Ca::open(
            &dir.path().join("pki"),
            "localhost",
            Duration::from_secs(900),
        )
        .unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let request = request.serialize_request(&key).unwrap().pem().unwrap();
        let board = BoardId::new("acme.b1").unwrap();
        let issued = ca
            .issue_board(&board, &BoardRequest::read(&request).unwrap())
            .unwrap();
        for (id, text) in [("acme.b1", issued.pem.as_str()), ("acme.b2", "damaged")] {
            sqlx::query("INSERT INTO boards (id, created_at, enrolled_at, certificate) VALUES ($1, 5, 7, $2)")
                .bind(id)
                .bind(text)
                .execute(&store.pool)
                .await
                .unwrap();
        }
        for _ in 0..2 {
            crate::certificates::take_in(&store).await.unwrap();
            let all = store.certificates(&board).await.unwrap();
            assert_eq!(all.len(), 1);
            assert_eq!(
                (all[0].serial.as_str(), all[0].issued_at),
                (issued.serial.as_str(), 7)
            );
            assert_eq!(all[0].key_hash, issued.key_hash);
        }
        let damaged = BoardId::new("acme.b2").unwrap();
        assert_eq!(store.certificates(&damaged).await.unwrap(), []);
        // Unused ones of a board that keeps nothing do not pile up; a used one makes room.
        let more = |n: u64| CertificateRow {
            serial: format!("{n:x}"),
            issued_at: 10 + n,
            ..store_row(&board, issued.not_after)
        };
        for n in 0..3 {
            assert!(store.add_certificate(&more(n), 20, 0, 4).await.unwrap());
        }
        assert!(!store.add_certificate(&more(3), 20, 0, 4).await.unwrap());
        store.note_use(&more(2), 21).await.unwrap();
        assert!(store.add_certificate(&more(3), 22, 0, 4).await.unwrap());
        let superseded = store.certificate("1").await.unwrap().unwrap();
        assert_eq!(superseded.superseded_at, Some(21));
        assert_eq!(
            store.certificate("3").await.unwrap().unwrap().superseded_at,
            None
        );
    }

    fn store_row(board: &BoardId, not_after: u64) -> CertificateRow {
        CertificateRow {
            serial: String::new(),
            board: board.clone(),
            key_hash: "k".into(),
            issued_at: 0,
            not_after,
            how: "renewed".into(),
            last_used: None,
            superseded_at: None,
            revoked_at: None,
            revoked_why: None,
        }
    }
}
