//! Boards that may enrol by their manufacturing certificates, and that do.

use super::{CertificateRow, Store, StoreError, certificates, to_sql};
use coracle_protocol::names::BoardId;
use sqlx::{Row, SqliteConnection};

/// What becomes of a board that shows who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It may enrol.
    Yes,
    /// Nobody named it.
    NotNamed,
    /// It was revoked once.
    Revoked,
}

/// What became of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenIn {
    /// On record; whether the board had one before.
    Noted { again: bool },
    /// Not wanted.
    Refused(Expected),
    /// Too many in a day.
    TooMany,
}

/// What came of naming boards.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// They are expected from now on.
    pub new: Vec<BoardId>,
    /// They were before.
    pub before: Vec<BoardId>,
    /// They were revoked, and stay out.
    pub revoked: Vec<BoardId>,
}

impl Store {
    /// Boards that are expected from now on. Those that were revoked are too when `again`, and are revoked no longer; the
    /// certificates that they had stay so.
    pub async fn expect(
        &self,
        boards: &[BoardId],
        again: bool,
        now: u64,
    ) -> Result<Named, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut named = Named::default();
        for board in boards {
            // It writes, so that from here on nobody else does.
            sqlx::query(
                "INSERT INTO boards (id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(board.as_str())
            .bind(to_sql(now))
            .execute(&mut *tx)
            .await?;
            match column(&mut tx, board).await?.flatten() {
                Some(0) if !again => {
                    named.revoked.push(board.clone());
                    continue;
                }
                Some(0) | None => named.new.push(board.clone()),
                Some(_) => {
                    named.before.push(board.clone());
                    continue;
                }
            }
            sqlx::query(
                "UPDATE boards SET as_made = 1, revoked_at = NULL, revoked_why = NULL WHERE id = $1",
            )
            .bind(board.as_str())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(named)
    }

    /// Whether a board may enrol; one that nobody has heard of when `unknown_too`.
    pub async fn expects(
        &self,
        board: &BoardId,
        unknown_too: bool,
    ) -> Result<Expected, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(expected(column(&mut connection, board).await?, unknown_too))
    }

    /// Notes the certificate of a board that is expected, at most `most` in a day. Those of the board that were over before
    /// `forget` are forgotten, unless they were taken back.
    pub async fn take_in_as_made(
        &self,
        certificate: &CertificateRow,
        unknown_too: bool,
        now: u64,
        forget: u64,
        most: u32,
    ) -> Result<TakenIn, StoreError> {
        let board = &certificate.board;
        let mut tx = self.pool.begin().await?;
        // It writes, so that from here on nobody else does.
        certificates::forget(&mut tx, board, forget).await?;
        let refused = match expected(column(&mut tx, board).await?, unknown_too) {
            Expected::Yes => None,
            no => Some(no),
        };
        if let Some(no) = refused {
            return Ok(TakenIn::Refused(no));
        }
        let lately: i64 = sqlx::query(
            "SELECT COUNT(*) AS n FROM certificates WHERE board = $1 AND how = 'manufacturing' AND issued_at > $2",
        )
        .bind(board.as_str())
        .bind(to_sql(now.saturating_sub(certificates::DAY)))
        .fetch_one(&mut *tx)
        .await?
        .try_get("n")?;
        if lately >= i64::from(most) {
            return Ok(TakenIn::TooMany);
        }
        let before = sqlx::query("SELECT 1 FROM certificates WHERE board = $1")
            .bind(board.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO boards (id, created_at, enrolled_at, as_made) VALUES ($1, $2, $2, 1) \
             ON CONFLICT (id) DO UPDATE SET enrolled_at = excluded.enrolled_at",
        )
        .bind(board.as_str())
        .bind(to_sql(now))
        .execute(&mut *tx)
        .await?;
        certificates::insert(&mut tx, certificate).await?;
        tx.commit().await?;
        Ok(TakenIn::Noted {
            again: before.is_some(),
        })
    }
}

/// `None`: the board is not known.
async fn column(
    connection: &mut SqliteConnection,
    board: &BoardId,
) -> Result<Option<Option<i64>>, sqlx::Error> {
    sqlx::query("SELECT as_made FROM boards WHERE id = $1")
        .bind(board.as_str())
        .fetch_optional(connection)
        .await?
        .map(|row| row.try_get("as_made"))
        .transpose()
}

fn expected(column: Option<Option<i64>>, unknown_too: bool) -> Expected {
    match column {
        Some(Some(0)) => Expected::Revoked,
        Some(Some(_)) => Expected::Yes,
        // A board that people enrolled is not the maker's to take over.
        Some(None) => Expected::NotNamed,
        None if unknown_too => Expected::Yes,
        None => Expected::NotNamed,
    }
}
