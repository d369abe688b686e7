//! The key that signs assignments.

use super::DeployError;
use coracle_protocol::deploy::{DEPLOY_TYPE, Deploy};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::root::{Role, TrustedRoot};
use coracle_protocol::verify::VerifiedDeploy;
use std::sync::Arc;

/// The deploy key, once the root was seen to know it.
#[derive(Clone)]
pub struct Signer {
    key: Arc<SigningKey>,
    root: Arc<TrustedRoot>,
    epoch: u64,
}

impl Signer {
    /// Takes a key that the root names for role `deploy`.
    pub fn new(key: SigningKey, root: TrustedRoot) -> Result<Self, DeployError> {
        let (keys, threshold, epoch) = root.role(Role::Deploy).ok_or(DeployError::NoRole)?;
        if !keys.contains(&key.public()) {
            return Err(DeployError::NotADeployKey);
        }
        if threshold != 1 {
            return Err(DeployError::Threshold(threshold));
        }
        Ok(Self {
            key: Arc::new(key),
            root: Arc::new(root),
            epoch,
        })
    }

    /// The root that documents are checked against.
    pub fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// The epoch of the deploy keys.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn sign(&self, deploy: &Deploy) -> Result<Envelope, DeployError> {
        let mut envelope = Envelope::unsigned(DEPLOY_TYPE, &serde_json::to_vec(deploy)?);
        envelope.sign(&self.key)?;
        // What a board would refuse is found here, not there.
        VerifiedDeploy::open(&envelope, &self.root)?;
        Ok(envelope)
    }
}
