//! The fleet's CA and what it issues: the console's server and MQTT certificates, and one
//! certificate for each board; and the list of those that were taken back. P-256 throughout.
//!
//! Its key is in a file of its folder, or in a PKCS#11 token, which it never leaves ([`key`]).
//!
//! Every certificate begins in 1970: a board without a clock starts near that day, and under a CA
//! of the fleet's own the day of issue says nothing.

mod begin;
pub mod key;
mod revoked;

use crate::certificates::{hex, key_hash};
use crate::files::{self, FileError, Mode};
use crate::secrets::{NoRandom, random_hex};
pub use begin::check_token;
use coracle_keys::token::TokenError;
use coracle_keys::uri::Pkcs11Uri;
use coracle_protocol::names::BoardId;
use key::CaKey;
use rcgen::{
    Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Re-issued with less than half of it left.
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
    /// What it wrote cannot be read.
    #[error("fleet CA: {what} cannot be read: {why}")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A board's request.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// One half is missing: making a new CA would cut off every board.
    #[error(
        "{0} is missing beside the rest of the fleet's CA; restore it from a backup, or name the token that holds \
         the CA's key: --ca-key"
    )]
    HalfLost(PathBuf),
    /// Its token.
    #[error("the fleet CA's key: {0}")]
    Token(#[source] TokenError),
    /// The token holds no key of the CA.
    #[error(
        "`{0}` holds another key than the certificate of the fleet's CA is for: name the right one, or put its token back"
    )]
    AnotherKey(String),
    /// A copy beside the token.
    #[error(
        "--ca-key names a token, and {0} is there too: put that file where nobody gets at it, or away, and start again"
    )]
    KeyInFileToo(PathBuf),
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

    fn is_there(&self) -> bool {
        self.certificate.exists() && self.key.exists()
    }
}

/// The fleet's CA.
pub struct Ca {
    issuer: Issuer<'static, CaKey>,
    certificate_pem: String,
    files: Pair,
    server: Pair,
    client: Pair,
    /// That the console is reached by.
    names: Vec<String>,
    board_life: std::time::Duration,
}

/// What a look at the console's own certificates came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Own {
    /// They are good for years.
    Fresh,
    /// One was issued anew.
    Issued,
    /// One is due, and the CA's token is away, as this says: the old one serves.
    Due(String),
}

/// A board's certificate as it was issued.
#[derive(Debug, Clone)]
pub struct BoardCertificate {
    /// PEM.
    pub pem: String,
    /// In hexadecimal.
    pub serial: String,
    /// SHA-256 of the public key.
    pub key_hash: String,
    /// Unix seconds.
    pub not_after: u64,
}

/// A board's request that may be signed: its key is of the kind that boards have, and whoever sent it holds it.
pub struct BoardRequest(CertificateSigningRequestParams);

impl BoardRequest {
    /// Reads PEM. Of the request only the key counts; its signature proves that whoever asks holds it (RFC 2986,
    /// section 3).
    pub fn read(csr_pem: &str) -> Result<Self, CaError> {
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
        Ok(Self(request))
    }

    /// SHA-256 of the public key.
    pub fn key_hash(&self) -> String {
        key_hash(self.0.public_key.der_bytes())
    }
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Issued {
    names: Vec<String>,
    expires: i64,
}

impl Ca {
    /// Opens the CA in `folder`, or makes it; issues the console's own certificates for
    /// `advertise` and localhost when they are missing, old or for other names.
    pub fn open(
        folder: &Path,
        advertise: &str,
        board_life: std::time::Duration,
    ) -> Result<Self, CaError> {
        Self::open_with(folder, advertise, board_life, None)
    }

    /// The same, with the CA's key in a token when `token` names one.
    pub fn open_with(
        folder: &Path,
        advertise: &str,
        board_life: std::time::Duration,
        token: Option<&Pkcs11Uri>,
    ) -> Result<Self, CaError> {
        files::make_dir(folder, 0o700)?;
        let pair = Pair::new(folder, "ca");
        let key = match token {
            None => begin::key_here(folder, &pair)?,
            Some(token) => begin::key_in_token(folder, &pair, token)?,
        };
        let certificate_pem = files::read_text(&pair.certificate)?;
        let mut names: Vec<String> = vec![advertise.into()];
        for name in ["localhost", "127.0.0.1", "::1"] {
            if name != advertise {
                names.push(name.into());
            }
        }
        let ca = Self {
            issuer: Issuer::from_ca_cert_pem(&certificate_pem, key)?,
            certificate_pem,
            files: pair,
            server: Pair::new(folder, "server"),
            client: Pair::new(folder, "console"),
            names,
            board_life,
        };
        if let Own::Due(why) = ca.keep_own_fresh()? {
            tracing::error!(
                why,
                "due to be issued anew, and the CA's token is away: the old one serves until it is back"
            );
        }
        Ok(ca)
    }

    /// Issues the console's own certificates anew where they are missing, old or for other names.
    pub fn keep_own_fresh(&self) -> Result<Own, CaError> {
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let server = self.keep_fresh(&self.server, "Coracle console", &self.names, server)?;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let client = self.keep_fresh(&self.client, CONSOLE, &[], client)?;
        Ok(match (server, client) {
            (Own::Fresh, other) | (other, Own::Fresh) => other,
            // A server's is of use at once; another look finds what is still due.
            (Own::Issued, _) => Own::Issued,
            (due, _) => due,
        })
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

    /// A certificate with common name `board` for the key of `request`.
    pub fn issue_board(
        &self,
        board: &BoardId,
        request: &BoardRequest,
    ) -> Result<BoardCertificate, CaError> {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let life = Duration::try_from(self.board_life).unwrap_or(Duration::days(36_500));
        let params = self.params(board.as_str(), &[], usage, life)?;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes);
        Ok(BoardCertificate {
            serial: hex(&serial.unwrap_or_default()),
            key_hash: request.key_hash(),
            not_after: u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0),
            pem: self.sign(&params, &request.0.public_key)?.pem(),
        })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, CaError> {
        let signed = params.signed_by(key, &self.issuer);
        signed.map_err(|error| self.issuer.key().told(error))
    }

    fn params(
        &self,
        common_name: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        life: Duration,
    ) -> Result<CertificateParams, CaError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(common_name);
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = OffsetDateTime::now_utc() + life;
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
    ) -> Result<Own, CaError> {
        let facts = pair.certificate.with_extension("json");
        let half = (OffsetDateTime::now_utc() + Duration::days(SERVER_DAYS / 2)).unix_timestamp();
        let known: Option<Issued> = std::fs::read(&facts)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fresh = known.is_some_and(|i| i.names == names && i.expires > half);
        if fresh && pair.is_there() {
            return Ok(Own::Fresh);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = self.params(common_name, names, usage, Duration::days(SERVER_DAYS))?;
        let issued = Issued {
            names: names.to_vec(),
            expires: params.not_after.unix_timestamp(),
        };
        let certificate = match self.sign(&params, &key) {
            Ok(certificate) => certificate.pem(),
            // Boards that know the old one are better served with it than not at all.
            Err(CaError::Token(error)) if error.may_pass() && pair.is_there() => {
                let file = pair.certificate.display();
                return Ok(Own::Due(format!("{file}: {error}")));
            }
            Err(error) => return Err(error),
        };
        // The facts go first and come last: a cut in between issues again at the next start.
        let _ = std::fs::remove_file(&facts);
        files::write(&pair.key, key.serialize_pem().as_bytes(), Mode::Private)?;
        files::write(&pair.certificate, certificate.as_bytes(), Mode::Public)?;
        let json = serde_json::to_vec(&issued).unwrap_or_default();
        files::write(&facts, &json, Mode::Public)?;
        Ok(Own::Issued)
    }
}

/// Common name and MQTT user of the console. It holds no dot, so that no board can have it.
pub const CONSOLE: &str = "console";

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
mod tests;
