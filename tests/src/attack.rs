//! Documents as an attacker would make them, with whatever keys the attacker is given.

use anyhow::Result;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy, Target};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::BoardId;
use coracle_protocol::release::{Blob, SignedRelease};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads a private key from its PKCS#8 file.
pub fn key(path: &Path) -> Result<SigningKey> {
    Ok(SigningKey::from_pkcs8(&std::fs::read(path)?)?)
}

/// Reads an envelope from a file.
pub fn envelope(path: &Path) -> Result<Envelope> {
    Ok(Envelope::parse(&std::fs::read(path)?)?)
}

/// An assignment of `release` to `board`, signed by `key`.
pub fn assignment(
    key: &SigningKey,
    board: &BoardId,
    release: &Envelope,
    seq: u64,
    issued_at: u64,
    expires: u64,
) -> Result<Envelope> {
    let payload = release.payload_unverified()?;
    let deploy = Deploy {
        spec_version: 1,
        critical: Vec::new(),
        role: AssignmentRole::Deploy,
        target: Target::Boards(BTreeSet::from([board.clone()])),
        release: Blob {
            digest: Sha256Digest::of(&payload),
            size: payload.len() as u64,
        },
        epoch: 1,
        seq,
        issued_at,
        expires,
        deltas: Vec::new(),
        site: Default::default(),
        secrets: Vec::new(),
        result: false,
    };
    let mut envelope = Envelope::unsigned(DEPLOY_TYPE, &serde_json::to_vec(&deploy)?);
    envelope.sign(key)?;
    Ok(envelope)
}

/// The same release with one app's arguments replaced, under the old signatures.
pub fn tampered(release: &Envelope) -> Result<Envelope> {
    let mut document: SignedRelease = serde_json::from_slice(&release.payload_unverified()?)?;
    document.apps[0].args = vec!["/bin/sh".into(), "-c".into(), "echo owned".into()];
    let mut out = Envelope::unsigned(&release.payload_type, &serde_json::to_vec(&document)?);
    out.signatures = release.signatures.clone();
    Ok(out)
}

/// The message on `desired`.
pub fn desired(activity: &str, deploy: Envelope, release: Envelope) -> Result<Vec<u8>> {
    let desired = Desired {
        activity: activity.to_owned(),
        deploy: Document::Inline(deploy),
        release: Document::Inline(release),
    };
    Ok(serde_json::to_vec(&desired)?)
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
