//! A CA is made once: its key, in a file or in a token, and its certificate; after that it is the one that there is.

use super::key::{CaKey, TokenCaKey};
use super::{CaError, Pair, named, serial};
use crate::files::{self, Mode};
use crate::secrets::random_hex;
use coracle_keys::uri::Pkcs11Uri;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use std::path::Path;
use time::{Duration, OffsetDateTime};

const CA_YEARS: i64 = 25;

pub(super) fn key_here(folder: &Path, pair: &Pair) -> Result<CaKey, CaError> {
    let make = || -> Result<(), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let text = key.serialize_pem();
        let certificate = self_signed(&CaKey::Here(key))?;
        files::write(&pair.key, text.as_bytes(), Mode::Private)?;
        Ok(files::write(
            &pair.certificate,
            certificate.as_bytes(),
            Mode::Public,
        )?)
    };
    match (pair.key.exists(), pair.certificate.exists()) {
        (false, false) => make()?,
        // Cut off while it was made: nothing was signed with this key yet.
        (true, false) if !Pair::new(folder, "server").certificate.exists() => make()?,
        (true, false) => return Err(CaError::HalfLost(pair.certificate.clone())),
        (false, true) => return Err(CaError::HalfLost(pair.key.clone())),
        (true, true) => {}
    }
    let key = KeyPair::from_pem(&files::read_text(&pair.key)?)?;
    Ok(CaKey::Here(key))
}

pub(super) fn key_in_token(
    folder: &Path,
    pair: &Pair,
    token: &Pkcs11Uri,
) -> Result<CaKey, CaError> {
    if pair.key.exists() {
        return Err(CaError::KeyInFileToo(pair.key.clone()));
    }
    if pair.certificate.exists() {
        let point = point_of(&files::read_text(&pair.certificate)?)?;
        return Ok(CaKey::Token(TokenCaKey::of_certificate(token, &point)?));
    }
    if Pair::new(folder, "server").certificate.exists() {
        return Err(CaError::HalfLost(pair.certificate.clone()));
    }
    let key = CaKey::Token(TokenCaKey::open(token)?);
    let certificate = self_signed(&key)?;
    files::write(&pair.certificate, certificate.as_bytes(), Mode::Public)?;
    Ok(key)
}

/// Whether a key in a token is that of the CA in `folder`.
pub fn check_token(folder: &Path, token: &Pkcs11Uri) -> Result<(), CaError> {
    let pair = Pair::new(folder, "ca");
    if pair.key.exists() {
        return Err(CaError::KeyInFileToo(pair.key));
    }
    let key = TokenCaKey::open(token)?;
    match !pair.certificate.exists()
        || point_of(&files::read_text(&pair.certificate)?)? == key.point
    {
        true => Ok(()),
        false => Err(CaError::AnotherKey(token.to_string())),
    }
}

/// The public key of a certificate.
fn point_of(certificate_pem: &str) -> Result<Vec<u8>, CaError> {
    let unreadable = |why: String| CaError::Unreadable {
        what: "its certificate",
        why,
    };
    let pem = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes());
    let (_, pem) = pem.map_err(|e| unreadable(e.to_string()))?;
    let certificate = pem.parse_x509().map_err(|e| unreadable(e.to_string()))?;
    Ok(certificate.public_key().subject_public_key.data.to_vec())
}

/// PEM of a new CA's certificate.
fn self_signed(key: &CaKey) -> Result<String, CaError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named(&format!("Coracle fleet {}", random_hex(4)?));
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(CA_YEARS * 365);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    let signed = params.self_signed(key).map_err(|error| key.told(error))?;
    Ok(signed.pem())
}
