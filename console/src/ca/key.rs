//! The key that the CA signs with: in a file of its folder, or in a token, where a token that is away is no fault of
//! what was signed before: certificates and lists stay good, and the next signature opens it anew.

use super::CaError;
use coracle_keys::token::{P256Key, TokenError};
use coracle_keys::uri::Pkcs11Uri;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The CA's key.
pub(super) enum CaKey {
    /// In its file.
    Here(KeyPair),
    /// In a token.
    Token(TokenCaKey),
}

/// A key that is opened again after each failure.
pub(super) struct TokenCaKey {
    uri: Pkcs11Uri,
    pub(super) point: Vec<u8>,
    open: Mutex<Option<P256Key>>,
    fault: Mutex<Option<CaError>>,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenCaKey {
    /// The key that is in the token.
    pub(super) fn open(uri: &Pkcs11Uri) -> Result<Self, CaError> {
        let key = P256Key::open(uri).map_err(CaError::Token)?;
        Ok(Self {
            uri: uri.clone(),
            point: key.point().to_vec(),
            open: Mutex::new(Some(key)),
            fault: Mutex::new(None),
        })
    }

    /// The key whose public half is `point`, which the CA's certificate shows. Its token may be away for now; anything
    /// else that is wrong is for whoever starts the console.
    pub(super) fn of_certificate(uri: &Pkcs11Uri, point: &[u8]) -> Result<Self, CaError> {
        let this = Self {
            uri: uri.clone(),
            point: point.to_vec(),
            open: Mutex::new(None),
            fault: Mutex::new(None),
        };
        match this.opened() {
            Ok(key) => *lock(&this.open) = Some(key),
            Err(CaError::Token(error)) if error.may_pass() => {
                tracing::error!(%error, "the CA's token is away: boards are served, and nothing is certified or revoked at the broker until it is back");
            }
            Err(error) => return Err(error),
        }
        Ok(this)
    }

    fn opened(&self) -> Result<P256Key, CaError> {
        let key = P256Key::open(&self.uri).map_err(CaError::Token)?;
        match key.point() == self.point {
            true => Ok(key),
            false => Err(CaError::AnotherKey(self.uri.to_string())),
        }
    }

    fn signed(&self, message: &[u8]) -> Result<Vec<u8>, CaError> {
        let mut open = lock(&self.open);
        if let Some(key) = open.as_ref() {
            match key.sign(message) {
                Ok(signature) => return Ok(signature),
                Err(error) => {
                    tracing::warn!(%error, key = %self.uri, "the CA's token failed; it is opened anew");
                }
            }
        }
        // The old session ends first.
        *open = None;
        let key = self.opened()?;
        let signature = key.sign(message).map_err(CaError::Token)?;
        *open = Some(key);
        Ok(signature)
    }
}

impl CaKey {
    /// What rcgen has no room for in its errors.
    pub(super) fn told(&self, error: rcgen::Error) -> CaError {
        match self {
            Self::Token(key) => lock(&key.fault)
                .take()
                .unwrap_or(CaError::Certificate(error)),
            Self::Here(_) => CaError::Certificate(error),
        }
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Here(key) => key.sign(message),
            Self::Token(key) => key.signed(message).map_err(|fault| {
                *lock(&key.fault) = Some(fault);
                rcgen::Error::RemoteKeyError
            }),
        }
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Here(key) => key.der_bytes(),
            Self::Token(key) => &key.point,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// Makes a key for a CA in the token; which token, and its public half.
pub fn make(uri: &Pkcs11Uri) -> Result<(String, Vec<u8>), TokenError> {
    let key = P256Key::generate(uri)?;
    Ok((key.token().to_owned(), key.point().to_vec()))
}
