//! A new key of the board's, and the request for a certificate of it.

use super::tpm::{DEVICE, TpmError, TpmKey};
use coracle_board_support::config::{Config, KeyHome};
use coracle_protocol::names::BoardId;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use std::cell::RefCell;
use std::path::PathBuf;

/// Where new keys are made, and where the TPM is that has made some.
#[derive(Debug, Clone)]
pub struct Keys {
    home: KeyHome,
    pub(super) tpm: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            home: KeyHome::File,
            tpm: DEVICE.into(),
        }
    }
}

impl Keys {
    /// As the configuration has it.
    pub fn of(config: &Config) -> Self {
        Self {
            home: config.identity_key,
            tpm: config.tpm.clone(),
        }
    }
}

/// Why there is no new key, or no request for a certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key in a file, or the request.
    #[error("cannot make a key and a request for a certificate: {0}")]
    Request(#[from] rcgen::Error),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

enum NewKey {
    File(KeyPair),
    /// And why it did not sign: rcgen has no room for that in its errors.
    Tpm(TpmKey, RefCell<Option<TpmError>>),
}

/// A new key, PEM, and a request for a certificate of it.
pub(super) fn request(keys: &Keys, board: &BoardId) -> Result<(String, String), KeyError> {
    let key = match keys.home {
        KeyHome::File => NewKey::File(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?),
        KeyHome::Tpm => NewKey::Tpm(TpmKey::make(&keys.tpm)?, RefCell::new(None)),
    };
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, board.as_str());
    let request = params.serialize_request(&key);
    if let (Err(_), NewKey::Tpm(_, fault)) = (&request, &key)
        && let Some(fault) = fault.take()
    {
        return Err(fault.into());
    }
    let pem = match &key {
        NewKey::File(key) => key.serialize_pem(),
        NewKey::Tpm(key, _) => key.to_pem(),
    };
    Ok((pem, request?.pem()?))
}

impl SigningKey for NewKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::File(key) => key.sign(message),
            Self::Tpm(key, fault) => key.signature(message).map_err(|error| {
                fault.replace(Some(error));
                rcgen::Error::RemoteKeyError
            }),
        }
    }
}

impl PublicKeyData for NewKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::File(key) => key.der_bytes(),
            Self::Tpm(key, _) => key.point(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
