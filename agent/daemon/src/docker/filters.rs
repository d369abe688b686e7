//! `filters=`, of `GET /containers/json` first of all: `{"name": ["web"]}`, or the older `{"name": {"web": true}}`.

use super::containers::word;
use coracle_protocol::report::AppStatus;
use serde_json::Value;
use std::collections::BTreeMap;

/// Which containers are wanted.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// Any `filters=`, by key; a key that is not `known` is an error for the client.
pub fn values(text: &str, known: &[&str]) -> Result<BTreeMap<String, Vec<String>>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let written: BTreeMap<String, Value> =
        serde_json::from_slice(text.as_bytes()).map_err(|e| format!("invalid filters: {e}"))?;
    let mut filters = BTreeMap::new();
    for (key, values) in written {
        if !known.contains(&key.as_str()) {
            return Err(format!("invalid filter '{key}'"));
        }
        let wanted = wanted(values)
            .ok_or_else(|| format!("invalid filters: '{key}' is no list of words and no map"))?;
        filters.insert(key, wanted);
    }
    Ok(filters)
}

fn wanted(values: Value) -> Option<Vec<String>> {
    let word = |value| match value {
        Value::String(word) => Some(word),
        _ => None,
    };
    match values {
        Value::Array(list) => list.into_iter().map(word).collect(),
        Value::Object(map) => {
            let on = |(word, on): (String, Value)| on.as_bool().map(|on| on.then_some(word));
            let words: Option<Vec<Option<String>>> = map.into_iter().map(on).collect();
            Some(words?.into_iter().flatten().collect())
        }
        _ => None,
    }
}

impl Filters {
    /// Reads the parameter; an empty one wants everything. The error is for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = ["name", "id", "status", "health", "label", "ancestor"];
        values(text, &known).map(Self)
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
