//! Assignments that are not sent for now, or not wanted any more.

use super::deployments::{IS_WANTED, insert};
use super::{Deployment, NewAssignment, Store, StoreError, json, row_fault, to_sql};
use coracle_digest::Sha256Digest;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{Feedback, Phase};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

/// Assignments of one release to one board that are looked at for the one that runs.
const LOOKED_AT: i64 = 100;

/// Codes of a board that refuses to go back, since what was to be taken back runs there.
const TOO_LATE: [&str; 2] = ["old-release", "old-agent"];

/// What became of a word of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is known, or of no board of ours.
    Nothing,
    /// It is news.
    News,
    /// It is news, and what the board is to have is another assignment now.
    Wanted,
}

/// Why a cancel left an assignment as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "standing", content = "reason")]
pub enum Fate {
    /// The board has switched to it, or is at it.
    TooLate,
    /// It did not stay there.
    Ended,
    /// A newer assignment is wanted there anyway.
    Superseded,
    /// It cannot be taken back, and why.
    GoesOn(String),
}

/// What is done about one assignment of a deployment.
#[derive(Debug)]
pub enum Withdrawal {
    /// An assignment of what runs, of this release, takes its place.
    Signed(NewAssignment, Sha256Digest),
    /// It is not sent any more.
    Unsent,
    /// Nothing.
    None(Fate),
}

impl Store {
    /// Holds those of a deployment that their boards have said nothing of; which boards these are.
    pub async fn pause(&self, deployment: &str, now: u64) -> Result<Vec<BoardId>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let paused = sqlx::query(
            "UPDATE deployments SET paused_at = COALESCE(paused_at, $1) WHERE id = $2 AND cancelled_at IS NULL",
        )
        .bind(to_sql(now))
        .bind(deployment)
        .execute(&mut *tx)
        .await?;
        // Cancelled since somebody looked.
        if paused.rows_affected() == 0 {
            return Ok(Vec::new());
        }
        let held = hold(&mut tx, deployment).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// Before anything is signed for it: the deployment is cancelled, and boards that have said nothing of it are held. Which
    /// these are.
    pub async fn begin_cancel(
        &self,
        deployment: &str,
        now: u64,
    ) -> Result<Vec<BoardId>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "UPDATE deployments SET cancelled_at = COALESCE(cancelled_at, $1), paused_at = NULL \
             WHERE id = $2",
        )
        .bind(to_sql(now))
        .bind(deployment)
        .execute(&mut *tx)
        .await?;
        let held = hold(&mut tx, deployment).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// Holds none any more; which boards were. Where a newer one is wanted by now that one stays, and this one is over: it could
    /// only be refused there.
    pub async fn resume(&self, deployment: &str, now: u64) -> Result<Vec<BoardId>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let resumed = sqlx::query(
            "UPDATE deployments SET paused_at = NULL WHERE id = $1 AND cancelled_at IS NULL",
        )
        .bind(deployment)
        .execute(&mut *tx)
        .await?;
        // Cancelled since somebody looked: what that holds must not go out.
        if resumed.rows_affected() == 0 {
            return Ok(Vec::new());
        }
        sqlx::query(&format!(
            "UPDATE assignments SET held = 0, withdrawn_at = $1, fate = $2 \
             WHERE deployment = $3 AND held = 1 AND EXISTS (SELECT 1 FROM assignments b \
             WHERE b.board = assignments.board AND b.seq > assignments.seq AND {IS_WANTED})"
        ))
        .bind(to_sql(now))
        .bind(superseded(deployment)?)
        .bind(deployment)
        .execute(&mut *tx)
        .await?;
        let rows = sqlx::query(
            "UPDATE assignments SET held = 0 WHERE deployment = $1 AND held = 1 RETURNING board",
        )
        .bind(deployment)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        boards(&rows)
    }

    /// Takes some assignments of a deployment back, by activity, as it is told here; after [`Self::begin_cancel`].
    pub async fn cancel(
        &self,
        deployment: &Deployment,
        withdrawals: &[(String, Withdrawal)],
        now: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let this = Deployment {
            created_at: now,
            ..deployment.clone()
        };
        for (activity, withdrawal) in withdrawals {
            let begun = Fate::GoesOn("it began meanwhile: cancel once more".into());
            let fate = match withdrawal {
                Withdrawal::None(fate) => Some(fate),
                Withdrawal::Signed(new, release) => {
                    let release = release.to_string();
                    insert(&mut tx, &this, &release, new, Some(activity)).await?;
                    overtake(&mut tx, new, now).await?;
                    None
                }
                Withdrawal::Unsent if has_begun(&mut tx, activity).await? => Some(&begun),
                Withdrawal::Unsent => None,
            };
            // What is superseded must not be wanted again when the newer one is held or taken back.
            let is_withdrawn = matches!(fate, None | Some(Fate::Superseded));
            let fate = fate.map(serde_json::to_string).transpose();
            let fate = fate.map_err(|e| row_fault("assignments.fate", activity, e))?;
            sqlx::query(
                "UPDATE assignments SET held = 0, fate = $1, \
                 withdrawn_at = CASE WHEN $4 = 1 THEN $2 ELSE withdrawn_at END WHERE activity = $3",
            )
            .bind(fate)
            .bind(to_sql(now))
            .bind(activity)
            .bind(i64::from(is_withdrawn))
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Whether another assignment is wanted on this board that was signed after `seq`.
    pub async fn has_newer(&self, board: &BoardId, seq: u64) -> Result<bool, StoreError> {
        let row = sqlx::query(&format!(
            "SELECT 1 FROM assignments WHERE board = $1 AND seq > $2 AND {IS_WANTED}"
        ))
        .bind(board.as_str())
        .bind(to_sql(seq))
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.is_some())
    }

    /// The `desired` messages by which a board was assigned a release, the newest first.
    pub async fn desired_of(
        &self,
        board: &BoardId,
        release: &Sha256Digest,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT desired FROM assignments WHERE board = $1 AND release = $2 \
             ORDER BY seq DESC LIMIT $3",
        )
        .bind(board.as_str())
        .bind(release.to_string())
        .bind(LOOKED_AT)
        .fetch_all(&self.pool)
        .await?;
        let texts = rows.iter().map(|row| Ok(row.try_get("desired")?));
        texts.collect()
    }

    /// Boards that were ever assigned something.
    pub async fn assigned_boards(&self) -> Result<Vec<BoardId>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT board FROM assignments")
            .fetch_all(&self.pool)
            .await?;
        boards(&rows)
    }
}

/// Those of a deployment that are wanted, and that their boards have said nothing of.
async fn hold(
    tx: &mut Transaction<'_, Sqlite>,
    deployment: &str,
) -> Result<Vec<BoardId>, StoreError> {
    let rows = sqlx::query(&format!(
        "UPDATE assignments SET held = 1 WHERE deployment = $1 AND takes_back IS NULL AND {IS_WANTED} \
         AND NOT EXISTS (SELECT 1 FROM progress p WHERE p.board = assignments.board \
         AND p.activity = assignments.activity) RETURNING board"
    ))
    .bind(deployment)
    .fetch_all(&mut **tx)
    .await?;
    boards(&rows)
}

fn superseded(row: &str) -> Result<String, StoreError> {
    let fate = serde_json::to_string(&Fate::Superseded);
    fate.map_err(|e| row_fault("assignments.fate", row, e))
}

/// What is held for a board and was signed before the one that takes another back cannot be sent any more.
async fn overtake(
    tx: &mut Transaction<'_, Sqlite>,
    new: &NewAssignment,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE assignments SET held = 0, withdrawn_at = $1, fate = $2 \
         WHERE board = $3 AND held = 1 AND seq < $4",
    )
    .bind(to_sql(now))
    .bind(superseded(&new.activity)?)
    .bind(new.board.as_str())
    .bind(to_sql(new.seq))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether the board has said that it has begun with it, and not yet that this has failed.
async fn has_begun(tx: &mut Transaction<'_, Sqlite>, activity: &str) -> Result<bool, StoreError> {
    let phase = phase_of(tx, activity).await?;
    Ok(!matches!(phase, None | Some(Phase::Failed)))
}

/// The last that a board has said of it.
async fn phase_of(
    tx: &mut Transaction<'_, Sqlite>,
    activity: &str,
) -> Result<Option<Phase>, StoreError> {
    let row = sqlx::query(
        "SELECT p.feedback FROM progress p JOIN assignments a \
         ON a.activity = p.activity AND a.board = p.board WHERE a.activity = $1",
    )
    .bind(activity)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get("feedback")?;
    let feedback: Feedback = json("progress.feedback", activity, &text)?;
    Ok(Some(feedback.phase))
}

fn boards(rows: &[SqliteRow]) -> Result<Vec<BoardId>, StoreError> {
    let board = |row: &SqliteRow| {
        let board: String = row.try_get("board")?;
        BoardId::new(&board).map_err(|e| row_fault("assignments.board", &board, e))
    };
    rows.iter().map(board).collect()
}

/// What a board does says what came too late: one that speaks of an assignment that was held has it, one that keeps it runs it.
/// What a cancel holds is sent no more for that.
pub(super) async fn settle(
    tx: &mut Transaction<'_, Sqlite>,
    board: &BoardId,
    feedback: &Feedback,
    now: u64,
) -> Result<Heard, StoreError> {
    let committed = i64::from(feedback.phase == Phase::Committed);
    let is_over = matches!(
        feedback.phase,
        Phase::Failed | Phase::Refused | Phase::RolledBack
    );
    let begun = sqlx::query(
        "UPDATE assignments SET held = 0, \
         withdrawn_at = CASE WHEN $3 = 1 OR ($4 = 1 AND fate IS NULL) THEN NULL ELSE withdrawn_at END \
         WHERE activity = $1 AND board = $2 AND takes_back IS NULL \
         AND ((held = 1 AND ($3 = 1 OR NOT EXISTS (SELECT 1 FROM deployments d \
         WHERE d.id = assignments.deployment AND d.cancelled_at IS NOT NULL))) OR (withdrawn_at IS NOT NULL AND ($3 = 1 OR ($4 = 1 AND fate IS NULL)))) \
         AND NOT EXISTS (SELECT 1 FROM assignments b WHERE b.takes_back = $1)",
    )
    .bind(&feedback.activity)
    .bind(board.as_str())
    .bind(committed)
    .bind(i64::from(!is_over))
    .execute(&mut **tx)
    .await?;
    let code = feedback.code.as_deref().unwrap_or_default();
    let mut changed = begun.rows_affected() > 0;
    if feedback.phase == Phase::Refused && TOO_LATE.contains(&code) {
        let void = sqlx::query(
            "SELECT takes_back FROM assignments \
             WHERE activity = $1 AND board = $2 AND takes_back IS NOT NULL AND withdrawn_at IS NULL",
        )
        .bind(&feedback.activity)
        .bind(board.as_str())
        .fetch_optional(&mut **tx)
        .await?;
        let stays: Option<String> = void.map(|row| row.try_get("takes_back")).transpose()?;
        // The counter may be another one's, which was tried there and went back: nothing is switched to then.
        let switched = match &stays {
            Some(stays) => matches!(
                phase_of(tx, stays).await?,
                Some(Phase::Switching | Phase::Trial | Phase::Committed)
            ),
            None => false,
        };
        if let Some(stays) = stays.filter(|_| switched) {
            sqlx::query("UPDATE assignments SET withdrawn_at = $1 WHERE activity = $2")
                .bind(to_sql(now))
                .bind(&feedback.activity)
                .execute(&mut **tx)
                .await?;
            sqlx::query(
                "UPDATE assignments SET withdrawn_at = NULL WHERE activity = $1 AND board = $2",
            )
            .bind(stays)
            .bind(board.as_str())
            .execute(&mut **tx)
            .await?;
            changed = true;
        }
    }
    Ok(match changed {
        true => Heard::Wanted,
        false => Heard::News,
    })
}
