//! The root document: which keys may sign what. Everything on a board is trusted because this is.

use crate::document::{ends_after_it_begins, understood, within};
use crate::dsse::{DsseError, Envelope};
use crate::key::PublicKey;
use crate::limits::LIMITS;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The payload type of a root document.
pub const ROOT_TYPE: &str = "application/vnd.coracle.root.v1+json";

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Signs root documents; offline, by threshold.
    Root,
    /// Signs releases; the developers' key, offline.
    Release,
    /// Signs assignments; the console's key, online.
    Deploy,
    /// Signs the assignment on a USB stick.
    OfflineDeploy,
    /// Signs commands; the console's key, online.
    Command,
    /// Signs orders that take a board's apps, or the board itself, out of the fleet; offline.
    Reset,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Root => "root",
            Role::Release => "release",
            Role::Deploy => "deploy",
            Role::OfflineDeploy => "offline-deploy",
            Role::Command => "command",
            Role::Reset => "reset",
        })
    }
}

/// The root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Always 1 in this version of the format.
    pub spec_version: u32,
    /// Extensions that a reader must know; none exist yet.
    #[serde(default)]
    pub critical: Vec<String>,
    /// Counts up by one with each root.
    pub version: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires: u64,
    /// Every key, named by its hint.
    #[serde(deserialize_with = "crate::strict::map")]
    pub keys: BTreeMap<String, PublicKey>,
    /// Every role.
    #[serde(deserialize_with = "crate::strict::map")]
    pub roles: BTreeMap<Role, RoleKeys>,
}

/// The keys of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKeys {
    /// Names in [`Root::keys`].
    pub keys: Vec<String>,
    /// How many distinct keys must sign.
    pub threshold: usize,
    /// Raised to start the role's counters anew after a key was stolen.
    pub epoch: u64,
}

/// Why a root was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The envelope is not good.
    #[error("root document: {0}")]
    Envelope(#[from] DsseError),
    /// The payload is not a root document, or breaks a limit.
    #[error("root document: {0}")]
    Malformed(String),
    /// Not the next version.
    #[error("root version {got} offered; this board has version {have}, the next must be {}", have + 1)]
    Version { have: u64, got: u64 },
    /// The next root would take a role's epoch back, and with it the counters that stop replays.
    #[error("root document: epoch of role `{role}` goes back from {have} to {got}")]
    Epoch { role: Role, have: u64, got: u64 },
}

/// A root that signed itself by threshold. Only its constructors make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    root: Root,
    digest: Sha256Digest,
}

impl TrustedRoot {
    /// The first root, that came with the board's image: trusted because the image is. It must
    /// still carry its own threshold of signatures, which finds a damaged or half-signed file.
    pub fn from_image(envelope: &Envelope) -> Result<Self, RootError> {
        let root = parse(&envelope.payload_unverified()?)?;
        let (keys, threshold) = role_of(&root, Role::Root)?;
        let payload = envelope.verify(ROOT_TYPE, &keys, threshold)?;
        Ok(Self {
            root,
            digest: Sha256Digest::of(payload.bytes()),
        })
    }

    /// The next root: signed by a threshold of the old keys and of its own (TUF 5.3.4, 5.3.5).
    pub fn next(&self, envelope: &Envelope) -> Result<Self, RootError> {
        let (old_keys, old_threshold) = role_of(&self.root, Role::Root)?;
        let payload = envelope.verify(ROOT_TYPE, &old_keys, old_threshold)?;
        let root = parse(payload.bytes())?;
        if root.version != self.root.version + 1 {
            return Err(RootError::Version {
                have: self.root.version,
                got: root.version,
            });
        }
        for (role, next) in &root.roles {
            let have = self.root.roles.get(role).map_or(0, |old| old.epoch);
            if next.epoch < have {
                return Err(RootError::Epoch {
                    role: *role,
                    have,
                    got: next.epoch,
                });
            }
        }
        let (keys, threshold) = role_of(&root, Role::Root)?;
        envelope.verify(ROOT_TYPE, &keys, threshold)?;
        Ok(Self {
            root,
            digest: Sha256Digest::of(payload.bytes()),
        })
    }

    /// SHA-256 of the payload.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Version of a root document before anybody checked a signature: to choose what to ask for.
    pub fn version_unverified(envelope: &Envelope) -> Result<u64, RootError> {
        Ok(parse(&envelope.payload_unverified()?)?.version)
    }

    /// Version of a root document that is whole but not understood here, as a newer program leaves one behind: the
    /// threshold that it names itself has signed it, and it has a role, a field or a number that this program does
    /// not know. `None` for all else, damage above all. It says what the file is, and makes nothing trusted.
    pub fn version_not_understood(envelope: &Envelope) -> Option<u64> {
        let payload = envelope.payload_unverified().ok()?;
        if parse(&payload).is_ok() {
            return None;
        }
        let root: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        let role = &root["roles"]["root"];
        let keys = role["keys"].as_array()?.iter().take(LIMITS.keys);
        let keys: Vec<PublicKey> = keys
            .filter_map(|id| root["keys"][id.as_str()?].as_str())
            .filter_map(|key| PublicKey::try_from(key.to_owned()).ok())
            .collect();
        let threshold = usize::try_from(role["threshold"].as_u64()?).ok()?;
        envelope.verify(ROOT_TYPE, &keys, threshold).ok()?;
        root["version"].as_u64()
    }

    /// The document.
    pub fn document(&self) -> &Root {
        &self.root
    }

    /// Distinct keys and threshold of a role; a role that the root does not name has no keys.
    pub fn role(&self, role: Role) -> Option<(Vec<PublicKey>, usize, u64)> {
        let (keys, threshold) = role_of(&self.root, role).ok()?;
        Some((keys, threshold, self.root.roles.get(&role)?.epoch))
    }
}

fn role_of(root: &Root, role: Role) -> Result<(Vec<PublicKey>, usize), RootError> {
    let entry = root
        .roles
        .get(&role)
        .ok_or_else(|| RootError::Malformed(format!("role `{role}` is missing")))?;
    let mut keys = BTreeSet::new();
    for id in &entry.keys {
        keys.insert(*root.keys.get(id).ok_or_else(|| {
            RootError::Malformed(format!(
                "role `{role}` names key `{id}`, which is not in `keys`"
            ))
        })?);
    }
    if entry.threshold == 0 || entry.threshold > keys.len() {
        return Err(RootError::Malformed(format!(
            "role `{role}` has threshold {} with {} distinct keys",
            entry.threshold,
            keys.len()
        )));
    }
    Ok((keys.into_iter().collect(), entry.threshold))
}

fn parse(payload: &[u8]) -> Result<Root, RootError> {
    let root: Root =
        serde_json::from_slice(payload).map_err(|e| RootError::Malformed(e.to_string()))?;
    understood(root.spec_version, &root.critical).map_err(RootError::Malformed)?;
    if root.keys.len() > LIMITS.keys {
        return Err(RootError::Malformed(format!(
            "{} keys; the limit is {}",
            root.keys.len(),
            LIMITS.keys
        )));
    }
    for (field, value) in [
        ("version", root.version),
        ("issued_at", root.issued_at),
        ("expires", root.expires),
    ] {
        within(field, value, LIMITS.integer).map_err(RootError::Malformed)?;
    }
    ends_after_it_begins(root.issued_at, root.expires).map_err(RootError::Malformed)?;
    for (role, entry) in &root.roles {
        within("roles.epoch", entry.epoch, LIMITS.integer).map_err(RootError::Malformed)?;
        within("roles.keys", entry.keys.len() as u64, LIMITS.keys as u64)
            .map_err(RootError::Malformed)?;
        role_of(&root, *role)?;
    }
    apart(&root)?;
    Ok(root)
}

/// A console's keys are online. One that also signs roots, releases, sticks or resets would make a stolen
/// console all-powerful, whatever the rest of this crate checks.
fn apart(root: &Root) -> Result<(), RootError> {
    for online in [Role::Deploy, Role::Command] {
        for offline in [Role::Root, Role::Release, Role::OfflineDeploy, Role::Reset] {
            if !root.roles.contains_key(&online) || !root.roles.contains_key(&offline) {
                continue;
            }
            let (theirs, _) = role_of(root, offline)?;
            let (keys, _) = role_of(root, online)?;
            if let Some(key) = keys.iter().find(|key| theirs.contains(key)) {
                return Err(RootError::Malformed(format!(
                    "key {} is in role `{online}`, which is online, and in role `{offline}`, which is offline; use two keys",
                    key.key_id()
                )));
            }
        }
    }
    Ok(())
}
