//! API tokens: people and programs that use the operators' port.

use super::{Store, StoreError, to_sql};
use serde::Serialize;
use sqlx::Row;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Looking.
    ReadOnly,
}

impl Role {
    fn text(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Whom a token names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The token's name, as the audit log writes it.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

impl Store {
    /// Adds a token by its hash; `false` when the name is taken.
    pub async fn add_token(
        &self,
        hash: &str,
        who: &Identity,
        now: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO tokens (hash, name, role, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(hash)
        .bind(&who.name)
        .bind(who.role.text())
        .bind(to_sql(now))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Who holds the token with this hash.
    pub async fn identity(&self, hash: &str) -> Result<Option<Identity>, StoreError> {
        let row = sqlx::query("SELECT name, role FROM tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// Every token's name and role.
    pub async fn tokens(&self) -> Result<Vec<Identity>, StoreError> {
        let rows = sqlx::query("SELECT name, role FROM tokens ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Deletes a token by its name; `false` when there is none.
    pub async fn delete_token(&self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM tokens WHERE name = $1")
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<Identity, StoreError> {
    let role: String = row.try_get("role")?;
    Ok(Identity {
        name: row.try_get("name")?,
        // An unknown role of a later version may look and no more.
        role: if role == Role::Admin.text() {
            Role::Admin
        } else {
            Role::ReadOnly
        },
    })
}
