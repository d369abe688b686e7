//! From one root document to the next (TUF 1.0.34, 5.3): version N+1 signed by the keys of N and of N+1,
//! each step on disk before the next is looked at. A cut leaves the old one or the new one.
//!
//! An expired root may be a step on the way (5.3.10 looks at the last one only): documents under a root
//! that has expired are refused when they are offered.

use super::{Trust, TrustError};
use crate::disk;
use coracle_digest::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::trust_state::TrustState;
use std::path::Path;

/// The root to go by.
pub(super) struct InForce {
    pub root: TrustedRoot,
    pub envelope: Envelope,
    /// There is a later one on the disk: what runs goes on, and this one vouches for nothing new.
    pub newer: Option<NewerRoot>,
}

/// A copy that a newer program left behind.
#[derive(Debug)]
pub(super) struct NewerRoot {
    version: u64,
    fault: String,
}

/// Of the image's root and the copy in `trust/` the one with the higher version counts: both are root's, and neither an
/// image nor a program that was put back must bring revoked keys back. A copy that is not understood stays where it is, one
/// that is damaged is set aside.
pub(super) fn load(folder: &Path, image_root: &Path) -> Result<InForce, TrustError> {
    let path = folder.join("root.json");
    let image = read(image_root)?;
    let (copy, newer) = match read(&path) {
        Err(fault @ (TrustError::Root { .. } | TrustError::RootFile { .. })) => {
            let newer = not_understood(&path)?;
            if newer.is_none() {
                tracing::error!(%fault, "the copy of the root document is damaged; set aside");
                disk::set_aside(&path)?;
            }
            let fault = fault.to_string();
            (None, newer.map(|version| NewerRoot { version, fault }))
        }
        other => (other?, None),
    };
    let newest = [copy, image]
        .into_iter()
        .flatten()
        .max_by_key(|(_, root)| root.document().version);
    let Some((envelope, root)) = newest else {
        return Err(match newer {
            Some(newer) => newer.error(folder),
            None => TrustError::NoRoot(image_root.to_owned()),
        });
    };
    let newer = newer.filter(|newer| newer.version > root.document().version);
    let json = envelope.to_json();
    if newer.is_none()
        && disk::read_bounded(&path, LIMITS.envelope_bytes as u64)?.as_ref() != Some(&json)
    {
        disk::write_whole(&path, &json, 0o600)?;
    }
    Ok(InForce {
        root,
        envelope,
        newer,
    })
}

impl NewerRoot {
    fn error(&self, folder: &Path) -> TrustError {
        TrustError::NewerRoot {
            path: folder.join("root.json"),
            version: self.version,
            fault: self.fault.clone(),
        }
    }
}

impl Trust {
    /// Whether the root in force is the newest on the disk.
    pub(super) fn root_is_newest(&self) -> Result<(), TrustError> {
        match &self.newer_root {
            Some(newer) => Err(newer.error(&self.folder)),
            None => Ok(()),
        }
    }

    /// Takes the next root document; `false` when the board has it, or a newer one, already.
    pub fn take_root(&mut self, envelope: &Envelope) -> Result<bool, TrustError> {
        self.root_is_newest()?;
        let have = self.root.document().version;
        let version = TrustedRoot::version_unverified(envelope)?;
        if version < have {
            return Ok(false);
        }
        if version == have {
            let payload = envelope.payload_unverified();
            let got = Sha256Digest::of(&payload.unwrap_or_default());
            return match got == self.root.digest() {
                true => Ok(false),
                false => Err(TrustError::OtherRoot {
                    version,
                    have: self.root.digest(),
                    got,
                }),
            };
        }
        let next = self.root.next(envelope)?;
        disk::write_whole(&self.folder.join("root.json"), &envelope.to_json(), 0o600)?;
        self.root = next;
        self.root_envelope = envelope.clone();
        Ok(true)
    }

    /// What the board trusts, to be told.
    pub fn state(&self) -> TrustState {
        TrustState {
            clock_kept: coracle_board_support::clock::is_synchronised(),
            secret_key: self.opening.as_ref().ok().map(|key| key.public().clone()),
            ..TrustState::of(&self.root, self.seen().map_err(|damage| damage.to_string()))
        }
    }
}

fn not_understood(path: &Path) -> Result<Option<u64>, TrustError> {
    let json = disk::read_bounded(path, LIMITS.envelope_bytes as u64)?;
    let envelope = json.and_then(|json| Envelope::parse(&json).ok());
    Ok(envelope.and_then(|envelope| TrustedRoot::version_not_understood(&envelope)))
}

fn read(path: &Path) -> Result<Option<(Envelope, TrustedRoot)>, TrustError> {
    let Some(json) = disk::read_bounded(path, LIMITS.envelope_bytes as u64)? else {
        return Ok(None);
    };
    let envelope = Envelope::parse(&json).map_err(|fault| TrustError::RootFile {
        path: path.to_owned(),
        fault: fault.to_string(),
    })?;
    let root = TrustedRoot::from_image(&envelope).map_err(|source| TrustError::Root {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some((envelope, root)))
}
