//! The key that signs assignments, and the root that it is held against.

use super::DeployError;
use coracle_keys::token::TokenError;
use coracle_keys::{Key, KeyFileError, KeyRef, SignError};
use coracle_protocol::deploy::{DEPLOY_TYPE, Deploy};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::PublicKey;
use coracle_protocol::root::{Role, TrustedRoot};
use coracle_protocol::verify::VerifiedDeploy;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The deploy key, once the root was seen to know it.
#[derive(Clone)]
pub struct Signer {
    key: Arc<DeployKey>,
    root: Arc<RwLock<Arc<TrustedRoot>>>,
}

struct DeployKey {
    place: KeyRef,
    public: PublicKey,
    open: Mutex<Open>,
}

enum Open {
    Yes(Key),
    /// Its token failed; the next signature opens it anew.
    No,
    /// Its token refused the PIN: another try could lock it, so that is an operator's.
    Never(String),
}

impl Signer {
    /// Takes a key that the root names for role `deploy`, from where it was opened.
    pub fn new(place: KeyRef, key: Key, root: TrustedRoot) -> Result<Self, DeployError> {
        let public = key.public();
        epoch(&public, &root)?;
        Ok(Self {
            key: Arc::new(DeployKey {
                place,
                public,
                open: Mutex::new(Open::Yes(key)),
            }),
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
        if let Err(error) = epoch(&self.key.public, &root) {
            tracing::error!(%error, "no assignment is signed under the root now in force; start the console with a --deploy-key that it names");
        }
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(root);
    }

    /// The epoch of the deploy keys, as long as ours is one of them.
    pub(super) fn epoch(&self) -> Result<u64, DeployError> {
        epoch(&self.key.public, &self.root())
    }

    /// The public half of the key.
    pub(crate) fn public(&self) -> PublicKey {
        self.key.public
    }

    /// A token takes its time: not on the thread that asks.
    pub(crate) async fn sign_envelope(&self, unsigned: Envelope) -> Result<Envelope, DeployError> {
        let key = self.key.clone();
        let signed = tokio::task::spawn_blocking(move || key.sign(unsigned));
        signed.await.map_err(|_| DeployError::SigningPanicked)?
    }

    pub(super) async fn sign(&self, deploy: &Deploy) -> Result<Envelope, DeployError> {
        let unsigned = Envelope::unsigned(DEPLOY_TYPE, &serde_json::to_vec(deploy)?);
        let envelope = self.sign_envelope(unsigned).await?;
        // What a board would refuse is found here, not there.
        VerifiedDeploy::open(&envelope, &self.root())?;
        Ok(envelope)
    }
}

impl DeployKey {
    /// A token that was away, or whose session ended, is opened once more.
    fn sign(&self, mut envelope: Envelope) -> Result<Envelope, DeployError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Open::Yes(key) => match key.sign(&mut envelope) {
                Ok(()) => return Ok(envelope),
                Err(SignError::Token(error)) => {
                    tracing::warn!(%error, key = %self.place, "the deploy key's token failed; it is opened anew");
                }
                Err(error) => return Err(error.into()),
            },
            Open::No => {}
            Open::Never(fault) => return Err(DeployError::TokenLocked(fault.clone())),
        }
        // A library knows one session of ours: the old one ends first.
        *open = Open::No;
        let key = match Key::open(&self.place) {
            Err(KeyFileError::Token(error @ TokenError::Login { .. })) => {
                *open = Open::Never(error.to_string());
                return Err(DeployError::Key(error.into()));
            }
            other => other?,
        };
        if key.public() != self.public {
            return Err(DeployError::AnotherKey(self.place.to_string()));
        }
        key.sign(&mut envelope)?;
        *open = Open::Yes(key);
        Ok(envelope)
    }
}

fn epoch(key: &PublicKey, root: &TrustedRoot) -> Result<u64, DeployError> {
    let (keys, threshold, epoch) = root.role(Role::Deploy).ok_or(DeployError::NoRole)?;
    if !keys.contains(key) {
        return Err(DeployError::NotADeployKey);
    }
    if threshold != 1 {
        return Err(DeployError::Threshold(threshold));
    }
    Ok(epoch)
}
