//! Releases that were checked against the root, and the layers that they name.

use super::{Store, StoreError, from_sql, json, row_fault, to_sql};
use coracle_digest::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::release::Layer;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A release.
#[derive(Debug, Clone)]
pub struct ReleaseRow {
    /// SHA-256 of its payload.
    pub digest: Sha256Digest,
    /// The product.
    pub product: String,
    /// For people.
    pub version: String,
    /// As it was uploaded.
    pub envelope: Envelope,
    /// Unix seconds.
    pub created_at: u64,
    /// Who uploaded it.
    pub created_by: String,
}

/// A layer of some release, whose blob the registry holds.
#[derive(Debug, Clone)]
pub struct KnownLayer {
    /// As the release says.
    pub layer: Layer,
}

impl Store {
    /// Adds a release with its layers; `false` when it was there.
    pub async fn add_release(
        &self,
        release: &ReleaseRow,
        layers: &[&Layer],
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let key = release.digest.to_string();
        let envelope = String::from_utf8(release.envelope.to_json())
            .map_err(|e| row_fault("releases.envelope", &key, e))?;
        let done = sqlx::query(
            "INSERT INTO releases (digest, product, version, envelope, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(&key)
        .bind(&release.product)
        .bind(&release.version)
        .bind(envelope)
        .bind(to_sql(release.created_at))
        .bind(&release.created_by)
        .execute(&mut *tx)
        .await?;
        for layer in layers {
            sqlx::query(
                "INSERT INTO layers (diff_id, media_type, digest, size, unpacked_size) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(layer.diff_id.to_string())
            .bind(&layer.media_type)
            .bind(layer.digest.to_string())
            .bind(to_sql(layer.size))
            .bind(to_sql(layer.unpacked_size))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// One release.
    pub async fn release(&self, digest: &Sha256Digest) -> Result<Option<ReleaseRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM releases WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// The newest releases, newest first.
    pub async fn releases(&self, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM releases ORDER BY created_at DESC, digest LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The newest releases of one product, newest first.
    pub async fn releases_of(
        &self,
        product: &str,
        limit: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM releases WHERE product = $1 ORDER BY created_at DESC, digest LIMIT $2",
        )
        .bind(product)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// A layer that some release named.
    pub async fn layer(&self, diff_id: &Sha256Digest) -> Result<Option<KnownLayer>, StoreError> {
        let key = diff_id.to_string();
        let row = sqlx::query("SELECT * FROM layers WHERE diff_id = $1")
            .bind(&key)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let digest: String = row.try_get("digest")?;
            Ok(KnownLayer {
                layer: Layer {
                    media_type: row.try_get("media_type")?,
                    digest: digest
                        .parse()
                        .map_err(|e| row_fault("layers.digest", &key, e))?,
                    size: from_sql(row.try_get("size")?),
                    diff_id: *diff_id,
                    unpacked_size: from_sql(row.try_get("unpacked_size")?),
                    entries: None,
                },
            })
        })
        .transpose()
    }
}

fn read(row: &SqliteRow) -> Result<ReleaseRow, StoreError> {
    let key: String = row.try_get("digest")?;
    let envelope: String = row.try_get("envelope")?;
    Ok(ReleaseRow {
        digest: key
            .parse()
            .map_err(|e| row_fault("releases.digest", &key, e))?,
        product: row.try_get("product")?,
        version: row.try_get("version")?,
        envelope: json("releases.envelope", &key, &envelope)?,
        created_at: from_sql(row.try_get("created_at")?),
        created_by: row.try_get("created_by")?,
    })
}
