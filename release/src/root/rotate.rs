//! The next root document, made from the one in force: keys come and go, thresholds and epochs change.

use super::{RootFileError, read_trusted};
use crate::keys;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::root::{ROOT_TYPE, Role, RootError};
use std::path::{Path, PathBuf};

/// What changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Public key files that join a role.
    pub add: Vec<(Role, PathBuf)>,
    /// Hints of keys that leave a role: revoked.
    pub remove: Vec<(Role, String)>,
    /// New thresholds.
    pub thresholds: Vec<(Role, usize)>,
    /// Roles whose epoch goes up by one: after a stolen key ran counters up.
    pub raise: Vec<Role>,
}

/// An unsigned root with the next version. `issued_at`, `expires`: Unix seconds.
pub fn rotate(
    from: &Path,
    changes: &Changes,
    issued_at: u64,
    expires: u64,
) -> Result<Envelope, RootFileError> {
    let old = read_trusted(from)?;
    let mut root = old.document().clone();
    root.version += 1;
    // The first document under a raised epoch starts time at its root: never before the old one.
    root.issued_at = issued_at.max(root.issued_at);
    root.expires = expires;
    for (role, path) in &changes.add {
        let key = keys::read_public(path)?;
        root.keys.insert(key.key_id(), key);
        let entry = root
            .roles
            .entry(*role)
            .or_insert_with(|| coracle_protocol::root::RoleKeys {
                keys: Vec::new(),
                threshold: 1,
                epoch: 1,
            });
        if !entry.keys.contains(&key.key_id()) {
            entry.keys.push(key.key_id());
        }
    }
    for (role, hint) in &changes.remove {
        let keys = root.roles.get_mut(role).map(|entry| &mut entry.keys);
        let place = keys
            .as_ref()
            .and_then(|keys| keys.iter().position(|key| key == hint));
        match (keys, place) {
            (Some(keys), Some(place)) => drop(keys.remove(place)),
            _ => {
                return Err(RootFileError::NoSuchKey {
                    path: from.to_owned(),
                    key: hint.clone(),
                    role: *role,
                });
            }
        }
    }
    for (role, threshold) in &changes.thresholds {
        if let Some(entry) = root.roles.get_mut(role) {
            entry.threshold = *threshold;
        }
    }
    for role in &changes.raise {
        if let Some(entry) = root.roles.get_mut(role) {
            entry.epoch += 1;
        }
    }
    let roles = &root.roles;
    root.keys
        .retain(|id, _| roles.values().any(|entry| entry.keys.contains(id)));
    let payload = serde_json::to_vec(&root).map_err(|e| RootFileError::Root {
        path: from.to_owned(),
        source: RootError::Malformed(e.to_string()),
    })?;
    Ok(Envelope::unsigned(ROOT_TYPE, &payload))
}
