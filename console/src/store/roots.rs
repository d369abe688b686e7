//! Root documents, by version.

use super::{Store, StoreError, from_sql, json, row_fault, to_sql};
use coracle_protocol::dsse::Envelope;
use sqlx::Row;

impl Store {
    /// Keeps a root document; `false` when that version was there.
    pub async fn add_root(
        &self,
        version: u64,
        envelope: &Envelope,
        now: u64,
    ) -> Result<bool, StoreError> {
        let text = String::from_utf8(envelope.to_json())
            .map_err(|e| row_fault("roots.envelope", &version.to_string(), e))?;
        let done = sqlx::query(
            "INSERT INTO roots (version, envelope, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(to_sql(version))
        .bind(text)
        .bind(to_sql(now))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// One root document.
    pub async fn root(&self, version: u64) -> Result<Option<Envelope>, StoreError> {
        let row = sqlx::query("SELECT envelope FROM roots WHERE version = $1")
            .bind(to_sql(version))
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let text: String = row.try_get("envelope")?;
            json("roots.envelope", &version.to_string(), &text)
        })
        .transpose()
    }

    /// The newest one, and its version.
    pub async fn newest_root(&self) -> Result<Option<(u64, Envelope)>, StoreError> {
        let row = sqlx::query("SELECT version FROM roots ORDER BY version DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let version = from_sql(row.try_get("version")?);
        Ok(self.root(version).await?.map(|root| (version, root)))
    }
}
