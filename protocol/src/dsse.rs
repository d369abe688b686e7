//! DSSE envelopes (secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.2).
//!
//! The exact payload bytes are verified and only then parsed, so that nothing needs a canonical form.

use crate::key::{PublicKey, SigningKey};
use crate::limits::LIMITS;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// Larger than [`LIMITS`].
    #[error("the envelope has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// Not the JSON of an envelope.
    #[error("not a DSSE envelope: {0}")]
    Malformed(String),
    /// Signed for another purpose: a signature over one kind of document never serves another.
    #[error("the payload type is `{got}`; `{expected}` was expected")]
    PayloadType { expected: &'static str, got: String },
    /// What was made elsewhere is no signature of this envelope by this key.
    #[error("what key {0} made is no signature of this document")]
    NotASignature(String),
    /// Too few distinct keys of the role signed these bytes.
    #[error("{valid} of {threshold} required signatures are valid")]
    Threshold { valid: usize, threshold: usize },
}

/// An envelope as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Base64 of the payload.
    pub payload: String,
    /// What the payload is.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// Signatures over [`pae`] of type and payload.
    pub signatures: Vec<Signature>,
}

/// One signature. `keyid` is a hint and decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint.
    #[serde(default)]
    pub keyid: String,
    /// Base64 of 64 bytes.
    pub sig: String,
}

/// Payload bytes whose signatures were counted. Only [`Envelope::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPayload {
    bytes: Vec<u8>,
}

impl VerifiedPayload {
    /// The bytes that were signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Pre-authentication encoding: `DSSEv1 <len(type)> <type> <len(body)> <body>`.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {} {} ",
        payload_type.len(),
        payload_type,
        payload.len()
    )
    .into_bytes();
    out.extend_from_slice(payload);
    out
}

// "Consumers MUST accept either standard or URL-safe encoding" (envelope.md).
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}

fn too_many(signatures: usize) -> DsseError {
    DsseError::Malformed(format!(
        "{signatures} signatures; the limit is {}",
        LIMITS.signatures
    ))
}

impl Envelope {
    /// Reads an envelope from JSON of at most [`LIMITS`]`.envelope_bytes`.
    pub fn parse(json: &[u8]) -> Result<Self, DsseError> {
        if json.len() > LIMITS.envelope_bytes {
            return Err(DsseError::TooLarge {
                bytes: json.len(),
                limit: LIMITS.envelope_bytes,
            });
        }
        let envelope: Self =
            serde_json::from_slice(json).map_err(|e| DsseError::Malformed(e.to_string()))?;
        if envelope.signatures.len() > LIMITS.signatures {
            return Err(too_many(envelope.signatures.len()));
        }
        Ok(envelope)
    }

    /// An envelope without a signature yet.
    pub fn unsigned(payload_type: &str, payload: &[u8]) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: Vec::new(),
        }
    }

    /// Adds `key`'s signature, once.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), DsseError> {
        let signature = key.sign(&self.bytes_to_sign()?);
        self.put(&key.public(), &signature);
        Ok(())
    }

    /// What a key signs that is not in this process.
    pub fn bytes_to_sign(&self) -> Result<Vec<u8>, DsseError> {
        let payload = self.payload_unverified()?;
        Ok(pae(&self.payload_type, &payload))
    }

    /// Adds a signature over [`Envelope::bytes_to_sign`] that was made elsewhere, once; it is checked first.
    pub fn add_signature(&mut self, key: &PublicKey, signature: &[u8]) -> Result<(), DsseError> {
        if !key.verifies(&self.bytes_to_sign()?, signature) {
            return Err(DsseError::NotASignature(key.key_id()));
        }
        self.put(key, signature);
        Ok(())
    }

    fn put(&mut self, key: &PublicKey, signature: &[u8]) {
        let keyid = key.key_id();
        let sig = STANDARD.encode(signature);
        self.signatures.retain(|s| s.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
    }

    /// The payload before anybody checked a signature: to show or to sign, never to act on.
    pub fn payload_unverified(&self) -> Result<Vec<u8>, DsseError> {
        if self.payload.len() > LIMITS.envelope_bytes {
            return Err(DsseError::TooLarge {
                bytes: self.payload.len(),
                limit: LIMITS.envelope_bytes,
            });
        }
        decode(&self.payload)
            .ok_or_else(|| DsseError::Malformed("the payload is not base64".into()))
    }

    /// Compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Counts the *distinct keys* among `keys` with a valid signature; the payload comes back only
    /// when they reach `threshold` (DSSE protocol.md, "verifier", step 6; TUF 5.3.3).
    pub fn verify(
        &self,
        expected_type: &'static str,
        keys: &[PublicKey],
        threshold: usize,
    ) -> Result<VerifiedPayload, DsseError> {
        if self.payload_type != expected_type {
            return Err(DsseError::PayloadType {
                expected: expected_type,
                got: self.payload_type.chars().take(80).collect(),
            });
        }
        // Envelopes inside other messages did not come through `parse`.
        if self.signatures.len() > LIMITS.signatures {
            return Err(too_many(self.signatures.len()));
        }
        let bytes = self.payload_unverified()?;
        let message = pae(&self.payload_type, &bytes);
        let mut distinct = BTreeSet::<&PublicKey>::new();
        distinct.extend(keys);
        let signatures: Vec<Vec<u8>> = self
            .signatures
            .iter()
            .filter_map(|s| decode(&s.sig))
            .collect();
        let valid = distinct
            .iter()
            .filter(|key| signatures.iter().any(|s| key.verifies(&message, s)))
            // More would only cost a slow core its time.
            .take(threshold)
            .count();
        if threshold == 0 || valid < threshold {
            return Err(DsseError::Threshold {
                valid,
                threshold: threshold.max(1),
            });
        }
        Ok(VerifiedPayload { bytes })
    }
}
