//! The board's key in its TPM 2.0 (TCG, "TPM 2.0 Library", part 3: Commands). The TPM makes it and signs with it; what
//! lies in the identity folder is the key wrapped under this TPM, of no use to any other.
//!
//! | file | what it does |
//! |---|---|
//! | `channel` | one command and its answer, to a device or a socket |
//! | `wire` | bytes of commands and answers, each length checked |
//! | `codes` | a TPM's error codes in words |
//! | `file` | the wrapped key as PEM |
//!
//! The key's parent is made anew each time from the owner's seed, by the template that tpm2-tss and the OpenSSL providers
//! use: it is the same one until somebody clears the TPM, and takes none of its memory.

mod channel;
mod codes;
mod file;
mod wire;

use super::der::tlv;
use channel::Channel;
use coracle_protocol::Sha256Digest;
pub(super) use file::is_wrapped;
use rustls::pki_types::{SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use std::io;
use std::path::{Path, PathBuf};

/// The door through the kernel's resource manager, which keeps users of the TPM apart.
pub const DEVICE: &str = "/dev/tpmrm0";

/// Why the TPM does not serve.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// It cannot be opened, or does not answer.
    #[error("the TPM at {}: {source}{}", device.display(), advice(source))]
    Io {
        /// Where it should be.
        device: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It answers with what makes no sense.
    #[error("the TPM answered {step} with {what}")]
    Answer {
        /// What was asked.
        step: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// It says no.
    #[error("the TPM refuses {step}: {} (code {code:#x})", codes::words(*code))]
    Refused {
        /// What was asked.
        step: &'static str,
        /// TPM_RC.
        code: u32,
    },
    /// It made the key in another life, or another one did.
    #[error(
        "this board's key is of no use to its TPM any more: the TPM was cleared, or the disk comes from another board. \
         Enrol the board anew: `coracle enrol FILE`"
    )]
    Cleared,
    /// The wrapped key.
    #[error(
        "the board's key, which its TPM wrapped, is damaged; enrol the board anew: `coracle enrol FILE`"
    )]
    Damaged,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "; is there one, and its driver in the kernel? `[identity] tpm` names the device, and `key = \"file\"` does without"
        }
        io::ErrorKind::PermissionDenied => {
            "; coracled must be let in: with systemd by coracled-tpm.conf (/usr/share/doc/coracle), else by the group `tss` \
             (`usermod -a -G tss coracle`); then restart coracled"
        }
        _ => "",
    }
}

/// A key that one TPM can use.
#[derive(Clone)]
pub(super) struct TpmKey {
    device: PathBuf,
    /// TPMT_PUBLIC.
    public: Vec<u8>,
    /// TPM2B_PRIVATE without its length: encrypted.
    private: Vec<u8>,
    /// Uncompressed, 65 bytes.
    point: Vec<u8>,
}

impl std::fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a key in the TPM at {}", self.device.display())
    }
}

impl TpmKey {
    /// Has the TPM make one.
    pub(super) fn make(device: &Path) -> Result<Self, TpmError> {
        const STEP: &str = "a new key";
        let mut tpm = Channel::open(device)?;
        let parent = tpm.primary()?;
        let parameters = wire::creation(&wire::signing_template());
        let answer = tpm.run(STEP, wire::CREATE, &[parent], &parameters)?;
        let (private, public) = wire::made(&answer).ok_or(TpmError::Answer {
            step: STEP,
            what: "fewer bytes than it should",
        })?;
        Self::new(device, public, private).ok_or(TpmError::Answer {
            step: STEP,
            what: "a key of another kind",
        })
    }

    fn new(device: &Path, public: Vec<u8>, private: Vec<u8>) -> Option<Self> {
        let point = wire::point(&public)?;
        let fits = (1..=wire::PRIVATE_LIMIT).contains(&private.len());
        fits.then(|| Self {
            device: device.to_owned(),
            public,
            private,
            point,
        })
    }

    /// Reads what [`TpmKey::to_pem`] wrote; the TPM is not asked.
    pub(super) fn from_pem(device: &Path, pem: &[u8]) -> Result<Self, TpmError> {
        let halves = file::read(pem);
        let key = halves.and_then(|(public, private)| Self::new(device, public, private));
        key.ok_or(TpmError::Damaged)
    }

    pub(super) fn to_pem(&self) -> String {
        file::write(&self.public, &self.private)
    }

    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Whether the TPM still takes it.
    pub(super) fn probe(&self) -> Result<(), TpmError> {
        self.load().map(drop)
    }

    fn load(&self) -> Result<(Channel, u32), TpmError> {
        let mut tpm = Channel::open(&self.device)?;
        let parent = tpm.primary()?;
        let mut parameters = Vec::new();
        wire::sized(&mut parameters, &self.private);
        wire::sized(&mut parameters, &self.public);
        match tpm.load("its key", wire::LOAD, &[parent], &parameters) {
            Ok(key) => Ok((tpm, key)),
            Err(TpmError::Refused { code, .. }) if codes::is_integrity(code) => {
                Err(TpmError::Cleared)
            }
            Err(error) => Err(error),
        }
    }

    /// ECDSA with SHA-256, DER.
    pub(super) fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        const STEP: &str = "a signature";
        let digest = Sha256Digest::of(message);
        let (mut tpm, key) = self.load()?;
        let answer = tpm.run(STEP, wire::SIGN, &[key], &wire::to_sign(digest.as_bytes()))?;
        let (r, s) = wire::signature(&answer).ok_or(TpmError::Answer {
            step: STEP,
            what: "something else",
        })?;
        let both = [integer(&r), integer(&s)].concat();
        Ok(tlv(0x30, &both))
    }
}

/// DER: positive, and no byte longer than it must be.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let mut short = bytes.get(zeros..).unwrap_or_default().to_vec();
    if short.first().is_none_or(|high| *high >= 0x80) {
        short.insert(0, 0);
    }
    tlv(0x02, &short)
}

impl SigningKey for TpmKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let here: Box<dyn Signer> = Box::new(self.clone());
        offered.contains(&here.scheme()).then_some(here)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(rustls::sign::public_key_to_spki(
            &alg_id::ECDSA_P256,
            &self.point,
        ))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TpmKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = self.signature(message);
        signed.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests;
