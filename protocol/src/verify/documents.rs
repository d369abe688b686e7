//! From an envelope to a document that enough keys of its role signed.

use super::Refusal;
use crate::deploy::{AssignmentRole, DEPLOY_TYPE, Deploy};
use crate::dsse::Envelope;
use crate::release::{RELEASE_TYPE, SignedRelease};
use crate::root::{Role, TrustedRoot};
use coracle_digest::Sha256Digest;

/// Of the root that a document was opened under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RootTimes {
    pub(super) issued_at: u64,
    pub(super) expires: u64,
    /// Of roles `release`, `deploy` and `offline-deploy`; 0 where the root has no such role.
    pub(super) epochs: [u64; 3],
}

impl RootTimes {
    pub(super) fn of(root: &TrustedRoot) -> Self {
        Self {
            issued_at: root.document().issued_at,
            expires: root.document().expires,
            epochs: [Role::Release, Role::Deploy, Role::OfflineDeploy].map(|role| {
                let role = root.document().roles.get(&role);
                role.map_or(0, |role| role.epoch)
            }),
        }
    }
}

/// A release that enough release keys signed.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedRelease {
    release: SignedRelease,
    digest: Sha256Digest,
    size: u64,
}

/// An assignment that enough keys of its role signed.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedDeploy {
    deploy: Deploy,
    root: RootTimes,
    digest: Sha256Digest,
}

pub(super) fn open(
    envelope: &Envelope,
    document: &'static str,
    payload_type: &'static str,
    role: Role,
    root: &TrustedRoot,
) -> Result<(Vec<u8>, u64), Refusal> {
    let (keys, threshold, epoch) = root.role(role).ok_or(Refusal::NoRole { document, role })?;
    let payload = envelope
        .verify(payload_type, &keys, threshold)
        .map_err(|source| Refusal::Envelope { document, source })?;
    Ok((payload.bytes().to_vec(), epoch))
}

impl VerifiedRelease {
    /// Counts signatures of role `release`, then reads the same bytes.
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, Refusal> {
        const WHAT: &str = "release";
        let (bytes, epoch) = open(envelope, WHAT, RELEASE_TYPE, Role::Release, root)?;
        let malformed = |fault| Refusal::Malformed {
            document: WHAT,
            fault,
        };
        let release: SignedRelease =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        release.check().map_err(malformed)?;
        if release.epoch != epoch {
            return Err(Refusal::Epoch {
                document: WHAT,
                role: Role::Release,
                got: release.epoch,
                want: epoch,
            });
        }
        Ok(Self {
            // What was read has room for more in each of its lists; a copy has none.
            release: release.clone(),
            digest: Sha256Digest::of(&bytes),
            size: bytes.len() as u64,
        })
    }
    /// The document.
    pub fn document(&self) -> &SignedRelease {
        &self.release
    }
    /// SHA-256 of the payload: what an assignment names.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }
    /// Size of the payload in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl VerifiedDeploy {
    /// Counts signatures of either role that may assign, then reads the same bytes: they must claim
    /// a role whose keys signed. Nothing is parsed before a signature was good.
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, Refusal> {
        const WHAT: &str = "assignment";
        let malformed = |fault| Refusal::Malformed {
            document: WHAT,
            fault,
        };
        let mut opened = None;
        let mut refused = Vec::new();
        for role in [AssignmentRole::Deploy, AssignmentRole::OfflineDeploy] {
            match open(envelope, WHAT, DEPLOY_TYPE, role.role(), root) {
                Ok((bytes, _)) => opened = Some(bytes),
                Err(refusal) => refused.push((role, refusal)),
            }
        }
        let Some(bytes) = opened else {
            // A role that the root does not name says less than the signatures of one that it does.
            let says_more =
                |(_, refusal): &(_, Refusal)| !matches!(refusal, Refusal::NoRole { .. });
            let told = refused.iter().position(says_more).unwrap_or(0);
            return Err(refused.swap_remove(told).1);
        };
        let deploy: Deploy =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        let role = deploy.role.role();
        if let Some(at) = refused.iter().position(|(of, _)| *of == deploy.role) {
            return Err(refused.swap_remove(at).1);
        }
        let (_, _, epoch) = root.role(role).ok_or(Refusal::NoRole {
            document: WHAT,
            role,
        })?;
        deploy.check().map_err(malformed)?;
        if deploy.epoch != epoch {
            return Err(Refusal::Epoch {
                document: WHAT,
                role,
                got: deploy.epoch,
                want: epoch,
            });
        }
        Ok(Self {
            deploy,
            root: RootTimes::of(root),
            digest: Sha256Digest::of(&bytes),
        })
    }
    /// The document.
    pub fn document(&self) -> &Deploy {
        &self.deploy
    }
    /// SHA-256 of the payload: what the journal calls this deployment.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }
    /// When the root that it was opened under was made, and until when it holds.
    pub(super) fn root_times(&self) -> RootTimes {
        self.root
    }
}
