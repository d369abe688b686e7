//! The root document: who may sign what. Made here without a signature, then signed by one key after
//! the other, each where it is kept.

pub mod chain;
pub mod parts;
pub mod rotate;

use crate::envelope_file::{self, EnvelopeFileError};
use crate::human;
use crate::keys::{self, Key, KeyFileError, KeyRef, SignError};
use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::key::PublicKey;
use coracle_protocol::root::{ROOT_TYPE, Role, RoleKeys, Root, RootError, TrustedRoot};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Why a root can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RootFileError {
    /// The envelope's file.
    #[error(transparent)]
    File(#[from] EnvelopeFileError),
    /// A key file.
    #[error("{0}")]
    Key(#[from] KeyFileError),
    /// Signing.
    #[error("signing `{path}`")]
    Sign {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SignError,
    },
    /// Not a root, or not one that boards would take.
    #[error("`{path}`")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RootError,
    },
    /// Two files that should hold the same document.
    #[error(
        "`{path}` holds another document than `{first}`; only signatures of one document go together"
    )]
    OtherDocument {
        /// The file that differs.
        path: PathBuf,
        /// The one before it.
        first: PathBuf,
    },
    /// A chain with a gap.
    #[error("no root document is named")]
    NoRoots,
    /// More than boards read at once.
    #[error("{count} root documents; a stick holds up to {limit}")]
    TooMany {
        /// Named.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A key that is to go and is not there.
    #[error("key {key} is not in role `{role}` of `{path}`; `coracle-release trust inspect {}` lists them", path.display())]
    NoSuchKey {
        /// The file.
        path: PathBuf,
        /// The key's hint.
        key: String,
        /// The role.
        role: Role,
    },
    /// A key that is no root key signs for nothing.
    #[error(
        "key {key} is in role {roles} of `{path}`, not in role `root`; its signature would count for nothing"
    )]
    NotARootKey {
        /// The file.
        path: PathBuf,
        /// The key's hint.
        key: String,
        /// The roles that it is in.
        roles: String,
    },
}

/// The public keys of one role and how many of them must sign.
#[derive(Debug, Clone)]
pub struct RoleInput {
    /// The role.
    pub role: Role,
    /// Public key files.
    pub keys: Vec<PathBuf>,
    /// How many must sign.
    pub threshold: usize,
    /// Epoch of the role.
    pub epoch: u64,
}

/// What a root says apart from its roles.
#[derive(Debug, Clone, Copy)]
pub struct RootInput {
    /// Counts up by one.
    pub version: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires: u64,
}

/// An unsigned root.
pub fn create(input: RootInput, roles: &[RoleInput]) -> Result<Envelope, RootFileError> {
    let mut root = Root {
        spec_version: 1,
        critical: Vec::new(),
        version: input.version,
        issued_at: input.issued_at,
        expires: input.expires,
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
    };
    for role in roles.iter().filter(|role| !role.keys.is_empty()) {
        let mut ids = Vec::new();
        for path in &role.keys {
            let key = keys::read_public(path)?;
            root.keys.insert(key.key_id(), key);
            ids.push(key.key_id());
        }
        let entry = RoleKeys {
            keys: ids,
            threshold: role.threshold,
            epoch: role.epoch,
        };
        root.roles.insert(role.role, entry);
    }
    let payload = serde_json::to_vec(&root).map_err(|e| RootFileError::Root {
        path: "the new root".into(),
        source: RootError::Malformed(e.to_string()),
    })?;
    Ok(Envelope::unsigned(ROOT_TYPE, &payload))
}

/// Whether enough keys have signed, and everything in it is as boards want it. Too few signatures
/// are no error while a root is in the making: `Ok(None)`.
pub fn state(path: &Path, envelope: &Envelope) -> Result<Option<TrustedRoot>, RootFileError> {
    match TrustedRoot::from_image(envelope) {
        Ok(root) => Ok(Some(root)),
        Err(RootError::Envelope(DsseError::Threshold { .. })) => Ok(None),
        Err(source) => Err(RootFileError::Root {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a root that boards would take.
pub fn read_trusted(path: &Path) -> Result<TrustedRoot, RootFileError> {
    let envelope = envelope_file::read(path)?;
    TrustedRoot::from_image(&envelope).map_err(|source| RootFileError::Root {
        path: path.to_owned(),
        source,
    })
}

/// The document, whoever signed it.
pub fn document(path: &Path, envelope: &Envelope) -> Result<Root, RootFileError> {
    let failed = |source| RootFileError::Root {
        path: path.to_owned(),
        source,
    };
    let payload = envelope
        .payload_unverified()
        .map_err(|e| failed(RootError::Envelope(e)))?;
    serde_json::from_slice(&payload).map_err(|e| failed(RootError::Malformed(e.to_string())))
}

/// Adds one key's signature and writes `output`. `previous`: the root before it, whose keys sign too.
pub fn sign(
    path: &Path,
    key: &KeyRef,
    previous: Option<&Path>,
    output: &Path,
) -> Result<Envelope, RootFileError> {
    let mut envelope = envelope_file::read(path)?;
    let root = document(path, &envelope)?;
    state(path, &envelope)?;
    let key = Key::open(key)?;
    let mut known = in_role(&root, key.public(), Role::Root);
    if let Some(previous) = previous {
        known |= in_role(read_trusted(previous)?.document(), key.public(), Role::Root);
    }
    if !known {
        let roles: Vec<String> = root
            .roles
            .keys()
            .filter(|role| in_role(&root, key.public(), **role))
            .map(|role| format!("`{role}`"))
            .collect();
        return Err(RootFileError::NotARootKey {
            path: path.to_owned(),
            key: key.public().key_id(),
            roles: if roles.is_empty() {
                "none".into()
            } else {
                roles.join(", ")
            },
        });
    }
    key.sign(&mut envelope)
        .map_err(|source| RootFileError::Sign {
            path: path.to_owned(),
            source,
        })?;
    envelope_file::write(output, &envelope).map_err(EnvelopeFileError::File)?;
    Ok(envelope)
}

fn in_role(root: &Root, key: PublicKey, role: Role) -> bool {
    let Some(entry) = root.roles.get(&role) else {
        return false;
    };
    entry.keys.iter().any(|id| root.keys.get(id) == Some(&key))
}

/// A root in words.
pub fn show(path: &Path) -> Result<String, RootFileError> {
    let envelope = envelope_file::read(path)?;
    let root = document(path, &envelope)?;
    let signed = match state(path, &envelope)? {
        Some(_) => "complete".to_owned(),
        None => "not enough yet; boards refuse it".to_owned(),
    };
    let mut out = String::new();
    let _ = writeln!(out, "root version {}", root.version);
    let _ = writeln!(
        out,
        "issued {}, expires {}",
        human::date(root.issued_at),
        human::date(root.expires)
    );
    let _ = writeln!(out, "signatures: {} ({signed})", envelope.signatures.len());
    for (role, entry) in &root.roles {
        let _ = writeln!(
            out,
            "role {role}: {} of {}, epoch {}",
            entry.threshold,
            entry.keys.len(),
            entry.epoch
        );
        for id in &entry.keys {
            let has_signed =
                *role == Role::Root && envelope.signatures.iter().any(|s| s.keyid == *id);
            let _ = writeln!(out, "  {id}{}", if has_signed { "  signed" } else { "" });
        }
    }
    Ok(out)
}
