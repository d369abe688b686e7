//! The key that signs assignments, and the root that it is held against.

use super::DeployError;
use coracle_protocol::deploy::{DEPLOY_TYPE, Deploy};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::root::{Role, TrustedRoot};
use coracle_protocol::verify::VerifiedDeploy;
use std::sync::{Arc, PoisonError, RwLock};

/// The deploy key, once the root was seen to know it.
#[derive(Clone)]
pub struct Signer {
    key: Arc<SigningKey>,
    root: Arc<RwLock<Arc<TrustedRoot>>>,
}

impl Signer {
    /// Takes a key that the root names for role `deploy`.
    pub fn new(key: SigningKey, root: TrustedRoot) -> Result<Self, DeployError> {
        epoch(&key, &root)?;
        Ok(Self {
            key: Arc::new(key),
            root: Arc::new(RwLock::new(Arc::new(root))),
        })
    }

    /// The root that documents are checked against.
    pub fn root(&self) -> Arc<TrustedRoot> {
        self.root
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on this root. One that no longer knows the key is taken all the same, since boards need
    /// it: then nothing is signed until the console is started with another key.
    pub fn replace_root(&self, root: TrustedRoot) {
        if let Err(error) = epoch(&self.key, &root) {
            tracing::error!(%error, "no assignment is signed under the root now in force; start the console with a --deploy-key that it names");
        }
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(root);
    }

    /// The epoch of the deploy keys, as long as ours is one of them.
    pub(super) fn epoch(&self) -> Result<u64, DeployError> {
        epoch(&self.key, &self.root())
    }

    pub(super) fn sign(&self, deploy: &Deploy) -> Result<Envelope, DeployError> {
        let mut envelope = Envelope::unsigned(DEPLOY_TYPE, &serde_json::to_vec(deploy)?);
        envelope.sign(&self.key)?;
        // What a board would refuse is found here, not there.
        VerifiedDeploy::open(&envelope, &self.root())?;
        Ok(envelope)
    }
}

fn epoch(key: &SigningKey, root: &TrustedRoot) -> Result<u64, DeployError> {
    let (keys, threshold, epoch) = root.role(Role::Deploy).ok_or(DeployError::NoRole)?;
    if !keys.contains(&key.public()) {
        return Err(DeployError::NotADeployKey);
    }
    if threshold != 1 {
        return Err(DeployError::Threshold(threshold));
    }
    Ok(epoch)
}
