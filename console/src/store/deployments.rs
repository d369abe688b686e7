//! Deployments, the assignments that they made, and how far each board came.

use super::withheld::{self, Fate, Heard};
use super::{Store, StoreError, from_sql, json, row_fault, to_sql};
use coracle_digest::Sha256Digest;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::Feedback;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

/// Activities whose progress is kept for one board; boards also report those that came by stick.
const ACTIVITIES_PER_BOARD: i64 = 100;

/// A deployment: one release, some boards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub id: String,
    /// SHA-256 of the release's payload.
    pub release: Sha256Digest,
    /// Unix seconds.
    pub created_at: u64,
    /// Who made it.
    pub created_by: String,
    /// Since when boards that were not sent to are held, Unix seconds.
    pub paused_at: Option<u64>,
    /// When it was taken back, Unix seconds.
    pub cancelled_at: Option<u64>,
}

/// What is stored of one board's part of a deployment.
#[derive(Debug, Clone)]
pub struct NewAssignment {
    /// Names it in feedback.
    pub activity: String,
    /// The board.
    pub board: BoardId,
    /// Of the signed document.
    pub seq: u64,
    /// The whole `desired` message, as it is published.
    pub desired: String,
    /// JSON of what the answer says of deltas.
    pub deltas: serde_json::Value,
}

/// One board's part of a deployment.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Names it in feedback.
    pub activity: String,
    /// The deployment.
    pub deployment: String,
    /// The board.
    pub board: BoardId,
    /// SHA-256 of the release's payload.
    pub release: Sha256Digest,
    /// Of the signed document.
    pub seq: u64,
    /// Unix seconds.
    pub created_at: u64,
    /// What the answer said of deltas.
    pub deltas: serde_json::Value,
    /// It is not sent for now.
    pub held: bool,
    /// When it was taken back, Unix seconds.
    pub withdrawn_at: Option<u64>,
    /// The activity that it takes back: it is of what ran.
    pub takes_back: Option<String>,
    /// What a cancel found that could not take it back.
    pub fate: Option<Fate>,
    /// How far it is; `None` before the board said anything.
    pub progress: Option<FeedbackKept>,
}

/// A board's last word on an activity.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackKept {
    /// What it said.
    pub feedback: Feedback,
    /// When, Unix seconds.
    pub at: u64,
}

const ASSIGNMENTS: &str = "SELECT a.activity, a.deployment, a.board, a.release, a.seq, \
     a.created_at, a.deltas, a.held, a.withdrawn_at, a.takes_back, a.fate, p.feedback, p.at FROM assignments a \
     LEFT JOIN progress p ON p.board = a.board AND p.activity = a.activity";

/// What a board is to have: its newest assignment that is neither held nor taken back.
pub(super) const IS_WANTED: &str = "held = 0 AND withdrawn_at IS NULL";

impl Store {
    /// Adds a deployment with its assignments, all or none.
    pub async fn add_deployment(
        &self,
        deployment: &Deployment,
        assignments: &[NewAssignment],
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let release = deployment.release.to_string();
        sqlx::query(
            "INSERT INTO deployments (id, release, created_at, created_by) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(&deployment.id)
        .bind(&release)
        .bind(to_sql(deployment.created_at))
        .bind(&deployment.created_by)
        .execute(&mut *tx)
        .await?;
        for new in assignments {
            insert(&mut tx, deployment, &release, new, None).await?;
        }
        Ok(tx.commit().await?)
    }

    /// One deployment.
    pub async fn deployment(&self, id: &str) -> Result<Option<Deployment>, StoreError> {
        let row = sqlx::query("SELECT * FROM deployments WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read_deployment(&row)).transpose()
    }

    /// The newest deployments, newest first.
    pub async fn deployments(&self, limit: u32) -> Result<Vec<Deployment>, StoreError> {
        let rows = sqlx::query("SELECT * FROM deployments ORDER BY created_at DESC, id LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read_deployment).collect()
    }

    /// The assignments of one deployment, by board.
    pub async fn assignments(&self, deployment: &str) -> Result<Vec<Assignment>, StoreError> {
        let rows = sqlx::query(&format!(
            "{ASSIGNMENTS} WHERE a.deployment = $1 AND a.takes_back IS NULL ORDER BY a.board"
        ))
        .bind(deployment)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read_assignment).collect()
    }

    /// Those that take one of a deployment back, the newest last.
    pub async fn takings_back(&self, deployment: &str) -> Result<Vec<Assignment>, StoreError> {
        let rows = sqlx::query(&format!(
            "{ASSIGNMENTS} WHERE a.deployment = $1 AND a.takes_back IS NOT NULL ORDER BY a.seq"
        ))
        .bind(deployment)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read_assignment).collect()
    }

    /// What each board is to have.
    pub async fn latest_assignments(&self) -> Result<Vec<Assignment>, StoreError> {
        let rows = sqlx::query(&format!(
            "{ASSIGNMENTS} WHERE a.seq = (SELECT MAX(b.seq) FROM assignments b \
             WHERE b.board = a.board AND {IS_WANTED}) ORDER BY a.board"
        ))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read_assignment).collect()
    }

    /// What one board is to have.
    pub async fn latest_assignment(
        &self,
        board: &BoardId,
    ) -> Result<Option<Assignment>, StoreError> {
        let row = sqlx::query(&format!(
            "{ASSIGNMENTS} WHERE a.board = $1 AND {IS_WANTED} ORDER BY a.seq DESC LIMIT 1"
        ))
        .bind(board.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| read_assignment(&row)).transpose()
    }

    /// The `desired` message of what a board is to have.
    pub async fn desired(&self, board: &BoardId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(&format!(
            "SELECT desired FROM assignments WHERE board = $1 AND {IS_WANTED} \
             ORDER BY seq DESC LIMIT 1"
        ))
        .bind(board.as_str())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| row.try_get("desired")).transpose()?)
    }

    /// Notes a board's word on an activity when it is news; see [`is_news`]. [`Heard::Nothing`] when it is
    /// not, or when the board is not known.
    pub async fn add_feedback(
        &self,
        board: &BoardId,
        feedback: &Feedback,
        now: u64,
    ) -> Result<Heard, StoreError> {
        let mut tx = self.pool.begin().await?;
        let known = sqlx::query("SELECT 1 FROM boards WHERE id = $1")
            .bind(board.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_none() {
            return Ok(Heard::Nothing);
        }
        let last = sqlx::query("SELECT feedback FROM progress WHERE board = $1 AND activity = $2")
            .bind(board.as_str())
            .bind(&feedback.activity)
            .fetch_optional(&mut *tx)
            .await?;
        let mut feedback = feedback.clone();
        if let Some(row) = last {
            let text: String = row.try_get("feedback")?;
            let last: Feedback = json("progress.feedback", board.as_str(), &text)?;
            if !is_news(&last, &feedback) {
                return Ok(Heard::Nothing);
            }
            // Bytes are told while they come; later phases need not repeat them.
            feedback.fetched = feedback.fetched.or(last.fetched);
        }
        let text = serde_json::to_string(&feedback)
            .map_err(|e| row_fault("progress.feedback", board.as_str(), e))?;
        sqlx::query(
            "INSERT INTO progress (board, activity, sequence, feedback, at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (board, activity) DO UPDATE \
             SET sequence = excluded.sequence, feedback = excluded.feedback, at = excluded.at",
        )
        .bind(board.as_str())
        .bind(&feedback.activity)
        .bind(to_sql(feedback.sequence))
        .bind(text)
        .bind(to_sql(now))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM progress WHERE board = $1 AND activity NOT IN \
             (SELECT activity FROM progress WHERE board = $1 ORDER BY at DESC, activity LIMIT $2)",
        )
        .bind(board.as_str())
        .bind(ACTIVITIES_PER_BOARD)
        .execute(&mut *tx)
        .await?;
        let heard = withheld::settle(&mut tx, board, &feedback, now).await?;
        tx.commit().await?;
        Ok(heard)
    }

    /// A board's last word on anything.
    pub async fn last_feedback(&self, board: &BoardId) -> Result<Option<FeedbackKept>, StoreError> {
        let row = sqlx::query(
            "SELECT feedback, at FROM progress WHERE board = $1 ORDER BY at DESC, sequence DESC \
             LIMIT 1",
        )
        .bind(board.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let text: String = row.try_get("feedback")?;
            Ok(FeedbackKept {
                feedback: json("progress.feedback", board.as_str(), &text)?,
                at: from_sql(row.try_get("at")?),
            })
        })
        .transpose()
    }
}

/// One assignment of `deployment`, of `release`.
pub(super) async fn insert(
    tx: &mut Transaction<'_, Sqlite>,
    deployment: &Deployment,
    release: &str,
    new: &NewAssignment,
    takes_back: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO assignments \
         (activity, deployment, board, release, seq, desired, deltas, created_at, takes_back) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&new.activity)
    .bind(&deployment.id)
    .bind(new.board.as_str())
    .bind(release)
    .bind(to_sql(new.seq))
    .bind(&new.desired)
    .bind(new.deltas.to_string())
    .bind(to_sql(deployment.created_at))
    .bind(takes_back)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether `next` says more than `last`, of the same activity. QoS 1 brings repeats, and a daemon
/// that lost its count starts again at 1: then a later phase is still news, an earlier is not.
pub(super) fn is_news(last: &Feedback, next: &Feedback) -> bool {
    next.sequence > last.sequence || (!last.phase.is_end() && next.phase > last.phase)
}

fn read_deployment(row: &SqliteRow) -> Result<Deployment, StoreError> {
    let id: String = row.try_get("id")?;
    let release: String = row.try_get("release")?;
    Ok(Deployment {
        release: release
            .parse()
            .map_err(|e| row_fault("deployments.release", &id, e))?,
        created_at: from_sql(row.try_get("created_at")?),
        created_by: row.try_get("created_by")?,
        paused_at: row.try_get::<Option<i64>, _>("paused_at")?.map(from_sql),
        cancelled_at: row.try_get::<Option<i64>, _>("cancelled_at")?.map(from_sql),
        id,
    })
}

fn read_assignment(row: &SqliteRow) -> Result<Assignment, StoreError> {
    let activity: String = row.try_get("activity")?;
    let board: String = row.try_get("board")?;
    let release: String = row.try_get("release")?;
    let deltas: String = row.try_get("deltas")?;
    let feedback: Option<String> = row.try_get("feedback")?;
    let at: Option<i64> = row.try_get("at")?;
    let fate: Option<String> = row.try_get("fate")?;
    let fate = fate.map(|text| json("assignments.fate", &activity, &text));
    let progress = match (feedback, at) {
        (Some(text), Some(at)) => Some(FeedbackKept {
            feedback: json("progress.feedback", &activity, &text)?,
            at: from_sql(at),
        }),
        _ => None,
    };
    Ok(Assignment {
        deployment: row.try_get("deployment")?,
        board: BoardId::new(&board).map_err(|e| row_fault("assignments.board", &activity, e))?,
        release: release
            .parse()
            .map_err(|e| row_fault("assignments.release", &activity, e))?,
        seq: from_sql(row.try_get("seq")?),
        created_at: from_sql(row.try_get("created_at")?),
        deltas: json("assignments.deltas", &activity, &deltas)?,
        held: row.try_get::<i64, _>("held")? == 1,
        withdrawn_at: row.try_get::<Option<i64>, _>("withdrawn_at")?.map(from_sql),
        takes_back: row.try_get("takes_back")?,
        fate: fate.transpose()?,
        progress,
        activity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::report::Phase;

    fn word(sequence: u64, phase: Phase) -> Feedback {
        Feedback {
            activity: "a".into(),
            sequence,
            phase,
            percent: None,
            code: None,
            reason: None,
            fetched: None,
            blob: None,
        }
    }

    #[test]
    fn repeats_are_no_news_and_an_end_stays_the_end() {
        use Phase::*;
        for (last, next, news) in [
            (word(1, Received), word(2, Verified), true),
            (word(2, Verified), word(2, Verified), false),
            (word(5, Fetching), word(1, Received), false),
            (word(5, Fetching), word(3, Trial), true),
            (word(9, Committed), word(3, Failed), false),
            (word(9, Refused), word(10, Received), true),
        ] {
            assert_eq!(is_news(&last, &next), news, "{last:?} {next:?}");
        }
    }
}
