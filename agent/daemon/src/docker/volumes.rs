//! Volumes in Docker's shapes.

use coracle_protocol::local::VolumeStatus;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One volume, of `GET /volumes/<name>`.
pub fn shape(volume: &VolumeStatus) -> Value {
    let mut options = BTreeMap::new();
    if let Some(bytes) = volume.used.limit_bytes {
        options.insert("size", bytes.to_string());
    }
    if let Some(inodes) = volume.used.limit_inodes {
        options.insert("inodes", inodes.to_string());
    }
    let created = std::time::Duration::from_secs(volume.created_at);
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.path,
        "CreatedAt": crate::clock::rfc3339(created),
        "Labels": {
            "coracle.owner": volume.owner.map_or_else(|| "release".to_owned(), |uid| uid.to_string()),
        },
        "Scope": "local",
        "Options": options,
        "Status": {
            "limit": volume.means,
            "held_bytes": volume.held_bytes,
            "inodes": volume.used.inodes,
            "apps": volume.apps,
            "in_previous": volume.in_previous,
        },
        "UsageData": {"Size": volume.used.bytes, "RefCount": volume.apps.len()},
    })
}

/// `GET /volumes`.
pub fn list<'a>(volumes: impl Iterator<Item = &'a VolumeStatus>) -> Value {
    let volumes: Vec<Value> = volumes.map(shape).collect();
    json!({"Volumes": volumes, "Warnings": []})
}

/// Which volumes are wanted, of `filters=`.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the parameter; an empty one wants everything. The error is for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = ["name", "dangling", "driver", "label", "all"];
        super::filters::values(text, &known).map(Self)
    }

    fn is_true(&self, key: &str) -> Option<bool> {
        let values = self.0.get(key)?;
        let value = values.first()?;
        Some(matches!(value.as_str(), "1" | "true"))
    }

    /// `docker volume prune -a`. Without it Docker deletes volumes that nobody named, of which there are none.
    pub fn wants_all(&self) -> bool {
        self.is_true("all") == Some(true)
    }

    /// Whether the volume is wanted.
    pub fn accept(&self, volume: &VolumeStatus) -> bool {
        let dangling = volume.apps.is_empty() && !volume.in_previous;
        self.is_true("dangling").is_none_or(|on| on == dangling)
            && self.0.iter().all(|(key, values)| match key.as_str() {
                "name" => values.iter().any(|v| volume.name.as_str().contains(v)),
                "driver" => values.iter().any(|v| v == "local"),
                "label" => false,
                _ => true,
            })
    }
}

/// `64m`, `1.5g` is refused: a number with `k`, `m`, `g` or `t`, as `docker volume create -o size=` takes it.
pub fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_takes_them() {
        for (text, bytes) in [
            ("65536", Some(65_536)),
            ("64k", Some(64 << 10)),
            ("64MiB", Some(64 << 20)),
            ("2g", Some(2 << 30)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("18446744073709551615t", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
