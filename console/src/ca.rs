//! The fleet's CA and what it issues: the console's server and MQTT certificates, and one
//! certificate for each board. P-256 throughout.
//!
//! Every certificate begins in 1970: a board without a clock starts near that day, and under a CA
//! of the fleet's own the day of issue says nothing.

use crate::files::{self, FileError, Mode};
use crate::secrets::{NoRandom, random_hex};
use coracle_protocol::names::BoardId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

const CA_YEARS: i64 = 25;
/// Re-issued at a start with less than half of it left.
const SERVER_DAYS: i64 = 3650;
/// A PKCS#10 request for P-256 has about 450 bytes as PEM.
const CSR_BYTES: usize = 8 * 1024;

/// Why the CA could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key or certificate of it.
    #[error("fleet CA: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The random source.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// A board's request.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// One half is missing: making a new CA would cut off every board.
    #[error("{0} is missing beside the rest of the fleet's CA; restore it from a backup")]
    HalfLost(PathBuf),
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, 0600.
    pub key: PathBuf,
}

impl Pair {
    fn new(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }
}

/// The fleet's CA.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    files: Pair,
    server: Pair,
    client: Pair,
    board_days: u32,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Issued {
    names: Vec<String>,
    expires: i64,
}

impl Ca {
    /// Opens the CA in `folder`, or makes it; issues the console's own certificates for
    /// `advertise` and localhost when they are missing, old or for other names.
    pub fn open(folder: &Path, advertise: &str, board_days: u32) -> Result<Self, CaError> {
        files::make_dir(folder, 0o700)?;
        let pair = Pair::new(folder, "ca");
        match (pair.key.exists(), pair.certificate.exists()) {
            (false, false) => make_ca(&pair)?,
            // Cut off while it was made: nothing was signed with this key yet.
            (true, false) if !Pair::new(folder, "server").certificate.exists() => make_ca(&pair)?,
            (true, false) => return Err(CaError::HalfLost(pair.certificate)),
            (false, true) => return Err(CaError::HalfLost(pair.key)),
            (true, true) => {}
        }
        let certificate_pem = files::read_text(&pair.certificate)?;
        let key = KeyPair::from_pem(&files::read_text(&pair.key)?)?;
        let ca = Self {
            issuer: Issuer::from_ca_cert_pem(&certificate_pem, key)?,
            certificate_pem,
            files: pair,
            server: Pair::new(folder, "server"),
            client: Pair::new(folder, "console"),
            board_days,
        };
        let mut names: Vec<String> = vec![advertise.into()];
        for name in ["localhost", "127.0.0.1", "::1"] {
            if name != advertise {
                names.push(name.into());
            }
        }
        ca.keep_fresh(
            &ca.server,
            "Coracle console",
            &names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        ca.keep_fresh(
            &ca.client,
            CONSOLE,
            &[],
            ExtendedKeyUsagePurpose::ClientAuth,
        )?;
        Ok(ca)
    }

    /// PEM of the CA's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
    /// The CA's own files.
    pub fn files(&self) -> &Pair {
        &self.files
    }
    /// For the boards' port and the broker.
    pub fn server(&self) -> &Pair {
        &self.server
    }
    /// For the console's MQTT link; common name [`CONSOLE`].
    pub fn client(&self) -> &Pair {
        &self.client
    }

    /// A certificate with common name `board` for the public key in `csr_pem`. Nothing else of the
    /// request counts; its signature proves that whoever asks holds the key (RFC 2986, section 3).
    pub fn issue_board(&self, board: &BoardId, csr_pem: &str) -> Result<String, CaError> {
        let refused = |text: &str| CaError::Request(text.into());
        if csr_pem.len() > CSR_BYTES {
            return Err(refused("larger than 8 KiB"));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| CaError::Request(e.to_string()))?;
        let key = &request.public_key;
        // rcgen names the key by the algorithm of the signature: an uncompressed point of another
        // curve would end up under P-256's name.
        let p256 = key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256
            && key.der_bytes().len() == 65
            && key.der_bytes().first() == Some(&4);
        if !p256 {
            return Err(refused("the key is not ECDSA P-256 with SHA-256"));
        }
        let params = self.params(
            board.as_str(),
            &[],
            ExtendedKeyUsagePurpose::ClientAuth,
            i64::from(self.board_days),
        )?;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    fn params(
        &self,
        common_name: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        days: i64,
    ) -> Result<CertificateParams, CaError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(common_name);
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        params.serial_number = Some(serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn keep_fresh(
        &self,
        pair: &Pair,
        common_name: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(), CaError> {
        let facts = pair.certificate.with_extension("json");
        let half = (OffsetDateTime::now_utc() + Duration::days(SERVER_DAYS / 2)).unix_timestamp();
        let known: Option<Issued> = std::fs::read(&facts)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fresh = known.is_some_and(|i| i.names == names && i.expires > half);
        if fresh && pair.certificate.exists() && pair.key.exists() {
            return Ok(());
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = self.params(common_name, names, usage, SERVER_DAYS)?;
        let issued = Issued {
            names: names.to_vec(),
            expires: params.not_after.unix_timestamp(),
        };
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        // The facts go first and come last: a cut in between issues again at the next start.
        let _ = std::fs::remove_file(&facts);
        files::write(&pair.key, key.serialize_pem().as_bytes(), Mode::Private)?;
        files::write(&pair.certificate, certificate.as_bytes(), Mode::Public)?;
        let json = serde_json::to_vec(&issued).unwrap_or_default();
        files::write(&facts, &json, Mode::Public)?;
        Ok(())
    }
}

/// Common name and MQTT user of the console. It holds no dot, so that no board can have it.
pub const CONSOLE: &str = "console";

fn make_ca(pair: &Pair) -> Result<(), CaError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named(&format!("Coracle fleet {}", random_hex(4)?));
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(CA_YEARS * 365);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    let certificate = params.self_signed(&key)?;
    files::write(&pair.key, key.serialize_pem().as_bytes(), Mode::Private)?;
    files::write(
        &pair.certificate,
        certificate.pem().as_bytes(),
        Mode::Public,
    )?;
    Ok(())
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

// RFC 5280, 4.1.2.2: positive, at most 20 octets.
fn serial() -> Result<SerialNumber, NoRandom> {
    let hex = random_hex(16)?;
    let mut bytes: Vec<u8> = (0..16)
        .filter_map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok())
        .collect();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr(key: &KeyPair) -> String {
        let mut params = CertificateParams::new(vec!["evil.example".to_string()]).unwrap();
        params.distinguished_name = named("acme.somebody-else");
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn only_the_key_of_a_request_counts() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), "127.0.0.1", 30).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let board = BoardId::new("acme.b1").unwrap();
        let pem = ca.issue_board(&board, &csr(&key)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=acme.b1");
        assert!(certificate.subject_alternative_name().unwrap().is_none());
        assert_eq!(
            certificate.public_key().subject_public_key.data.as_ref(),
            key.public_key_raw()
        );
        assert!(!certificate.is_ca());
    }

    #[test]
    fn a_request_without_its_key_or_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), "127.0.0.1", 30).unwrap();
        let board = BoardId::new("acme.b1").unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let good = csr(&key);
        // One bit of the signature, at the end of the DER.
        let mut der = pem_bytes(&good);
        let last = der.len() - 1;
        der[last] ^= 1;
        for bad in [pem_text(&der), "nonsense".into(), "x".repeat(9000)] {
            assert!(
                matches!(ca.issue_board(&board, &bad), Err(CaError::Request(_))),
                "{bad}"
            );
        }
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(ca.issue_board(&board, &csr(&other)).is_err());
    }

    #[test]
    fn a_second_start_keeps_the_ca_and_a_new_name_renews_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ca::open(dir.path(), "127.0.0.1", 30).unwrap();
        let server = files::read_text(&first.server().certificate).unwrap();
        let again = Ca::open(dir.path(), "127.0.0.1", 30).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        assert_eq!(
            server,
            files::read_text(&again.server().certificate).unwrap()
        );
        let renamed = Ca::open(dir.path(), "console.example", 30).unwrap();
        assert_ne!(
            server,
            files::read_text(&renamed.server().certificate).unwrap()
        );
        std::fs::remove_file(&first.files().key).unwrap();
        assert!(matches!(
            Ca::open(dir.path(), "x", 30),
            Err(CaError::HalfLost(_))
        ));
    }

    fn pem_bytes(pem: &str) -> Vec<u8> {
        use base64::Engine;
        let body: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
        base64::engine::general_purpose::STANDARD
            .decode(body)
            .unwrap()
    }

    fn pem_text(der: &[u8]) -> String {
        use base64::Engine;
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        )
    }
}
