//! `filters=` of `GET /containers/json`: `{"name": ["web"]}`, or the older `{"name": {"web": true}}`.

use super::containers::word;
use coracle_protocol::report::AppStatus;
use std::collections::BTreeMap;

/// Which containers are wanted.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Map(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the parameter; an empty one wants everything. The error is for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let written: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|e| format!("invalid filters: {e}"))?;
        let mut filters = BTreeMap::new();
        for (key, values) in written {
            if !["name", "id", "status", "health", "label", "ancestor"].contains(&key.as_str()) {
                return Err(format!("invalid filter '{key}'"));
            }
            let values = match values {
                Values::List(list) => list,
                Values::Map(map) => map
                    .into_iter()
                    .filter(|(_, on)| *on)
                    .map(|(v, _)| v)
                    .collect(),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// Whether stopped containers are asked for by their state.
    pub fn wants_stopped(&self) -> bool {
        self.0.contains_key("status")
    }

    /// Whether the container of `id` is wanted.
    pub fn accept(&self, id: &str, app: &AppStatus) -> bool {
        let health = match app.healthy {
            None => "none",
            Some(true) => "healthy",
            Some(false) => "unhealthy",
        };
        let matches = |key: &str, value: &str| match key {
            // Docker takes a pattern; a part of the name is what people write.
            "name" => app
                .name
                .as_str()
                .contains(value.trim_matches(['^', '$', '/'])),
            "id" => id.starts_with(value),
            "status" => word(app) == value,
            "health" => health == value,
            "ancestor" => app.image == value || app.image.split(':').next() == Some(value),
            _ => false,
        };
        self.0
            .iter()
            .all(|(key, values)| values.is_empty() || values.iter().any(|v| matches(key, v)))
    }
}
