//! Deltas between two layers, each computed once.

use super::{Store, StoreError, from_sql, row_fault, to_sql};
use coracle_digest::Sha256Digest;
use sqlx::Row;

/// What became of one pair of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRow {
    /// diff_id that a board must have.
    pub from: Sha256Digest,
    /// diff_id that it makes.
    pub to: Sha256Digest,
    /// Bytes of the full blob of `to`.
    pub full_size: u64,
    /// The delta, or why there is none.
    pub outcome: Result<coracle_protocol::deploy::Delta, String>,
}

impl Store {
    /// What became of a pair; `None` when nobody has tried it.
    pub async fn delta(
        &self,
        from: &Sha256Digest,
        to: &Sha256Digest,
    ) -> Result<Option<DeltaRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM deltas WHERE from_diff = $1 AND to_diff = $2")
            .bind(from.to_string())
            .bind(to.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let digest: Option<String> = row.try_get("digest")?;
            let outcome = match digest {
                Some(digest) => Ok(coracle_protocol::deploy::Delta {
                    from: *from,
                    to: *to,
                    media_type: row.try_get("media_type")?,
                    digest: digest
                        .parse()
                        .map_err(|e| row_fault("deltas.digest", &to.to_string(), e))?,
                    size: from_sql(row.try_get("size")?),
                }),
                None => Err(row
                    .try_get::<Option<String>, _>("why_not")?
                    .unwrap_or_default()),
            };
            Ok(DeltaRow {
                from: *from,
                to: *to,
                full_size: from_sql(row.try_get("full_size")?),
                outcome,
            })
        })
        .transpose()
    }

    /// Notes what became of a pair.
    pub async fn add_delta(&self, row: &DeltaRow, now: u64) -> Result<(), StoreError> {
        let delta = row.outcome.as_ref().ok();
        sqlx::query(
            "INSERT INTO deltas \
             (from_diff, to_diff, media_type, digest, size, full_size, why_not, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (from_diff, to_diff) DO UPDATE \
             SET media_type = excluded.media_type, digest = excluded.digest, \
             size = excluded.size, why_not = excluded.why_not",
        )
        .bind(row.from.to_string())
        .bind(row.to.to_string())
        .bind(delta.map(|d| d.media_type.clone()))
        .bind(delta.map(|d| d.digest.to_string()))
        .bind(delta.map(|d| to_sql(d.size)))
        .bind(to_sql(row.full_size))
        .bind(row.outcome.as_ref().err())
        .bind(to_sql(now))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
