//! A board that shows who made it. Beside coracle.toml lie `fleet.json`, which is the same on all boards of a fleet, and
//! `manufacturing.crt` and `manufacturing.key`, which its maker gave to this one. The manufacturing key signs the request
//! for the fleet's certificate, and does nothing else: the fleet's key is a new one, made here.

use super::enrol::Asked;
use super::{Endpoint, EnrolError, FILE_LIMIT, Overrides, pair, tls};
use crate::disk;
use coracle_board_support::config::Config;
use coracle_protocol::Sha256Digest;
use coracle_protocol::enrol::{
    EnrolAnswer, FleetFile, ManufacturingRequest, manufacturing_statement,
};
use coracle_protocol::names::BoardId;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the console tries, in the order of preference.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// Where these files are.
#[derive(Debug, Clone)]
pub struct Maker {
    fleet: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Maker {
    /// As the configuration has them.
    pub fn of(config: &Config) -> Self {
        let [certificate, key] = config.manufacturing();
        Self {
            fleet: config.fleet_file(),
            certificate,
            key,
        }
    }

    /// Whether this board was made for a fleet: it has a `fleet.json`.
    pub fn is_there(&self) -> bool {
        self.fleet.exists()
    }
}

/// A certificate that the console gave, not stored yet.
pub struct Given {
    asked: Asked,
    fleet: FleetFile,
    answer: EnrolAnswer,
    before: Option<Vec<u8>>,
}

/// Asks the fleet's console for a certificate.
pub async fn ask_as_made(
    folder: &Path,
    maker: &Maker,
    overrides: &Overrides,
) -> Result<Given, EnrolError> {
    let fleet: FleetFile = serde_json::from_slice(&read(&maker.fleet)?).map_err(|e| {
        fault(
            &maker.fleet,
            format!("not what `coracle-release fleet-file` writes: {e}"),
        )
    })?;
    let signer = signer(maker)?;
    if let Some(mqtt) = &overrides.mqtt {
        Endpoint::parse(mqtt, 8883)?;
    }
    let asked = Asked::prepare(
        &fleet,
        overrides.console.as_deref(),
        &overrides.keys,
        &BoardId::unenrolled(),
    )?;
    let authorities = tls::certificates("the fleet CA", fleet.ca_pem.as_bytes());
    let authorities = authorities.map_err(|e| fault(&maker.fleet, e))?;
    let fleet_ca = authorities.first().map_or(&[][..], |first| first);
    let statement = manufacturing_statement(&Sha256Digest::of(fleet_ca), &asked.csr_pem);
    let signature = signer
        .sign(statement.as_bytes())
        .map_err(|e| fault(&maker.key, e))?;
    let certificates = String::from_utf8(read(&maker.certificate)?)
        .map_err(|_| fault(&maker.certificate, "not PEM"))?;
    let request = ManufacturingRequest::new(certificates, asked.csr_pem.clone(), &signature);
    let before = disk::read(&folder.join(pair::IN_FORCE), FILE_LIMIT)?;
    let answer = asked.post("/enrol/manufacturing", &request).await?;
    Ok(Given {
        asked,
        fleet,
        answer,
        before,
    })
}

impl Given {
    /// Whom it makes of the board.
    pub fn board(&self) -> &BoardId {
        &self.answer.board
    }

    /// Stores it in `folder`, unless a person was quicker.
    pub async fn store(self, folder: &Path) -> Result<(), EnrolError> {
        let _replacing = pair::REPLACING.lock().await;
        if disk::read(&folder.join(pair::IN_FORCE), FILE_LIMIT)? != self.before {
            return Err(EnrolError::Overtaken);
        }
        // Nobody could use what is there: it is evidence. So is what an earlier time left, which is the older one.
        for name in ["enrolment.json", pair::IN_FORCE] {
            if folder.join(name).exists() && !folder.join(format!("{name}.bad")).exists() {
                disk::set_aside(&folder.join(name), &"another enrolment takes its place");
            }
        }
        self.asked.store(folder, &self.fleet, self.answer)
    }
}

fn signer(maker: &Maker) -> Result<Box<dyn rustls::sign::Signer>, EnrolError> {
    let text = read(&maker.certificate)?;
    let chain = tls::certificates("the manufacturing certificate", &text)
        .map_err(|e| fault(&maker.certificate, e))?;
    if let Some(Err(e)) = chain.first().map(ParsedCertificate::try_from) {
        let why = format!("not a certificate of X.509 version 3 that can be used: {e}");
        return Err(fault(&maker.certificate, why));
    }
    let mode = maker.key.metadata().map(|m| m.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        return Err(fault(
            &maker.key,
            "others than coracled's user may read or write it: `chown coracle FILE; chmod 400 FILE`",
        ));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&read(&maker.key)?).map_err(|e| fault(&maker.key, e))?;
    let provider = rustls::crypto::ring::default_provider();
    let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|e| fault(&maker.key, e))?;
    pair.key.choose_scheme(&SCHEMES).ok_or_else(|| {
        fault(
            &maker.key,
            "a kind of key that is not known; ECDSA P-256 and P-384, Ed25519 and RSA are",
        )
    })
}

fn read(path: &Path) -> Result<Vec<u8>, EnrolError> {
    disk::read(path, FILE_LIMIT)?.ok_or_else(|| fault(path, "missing"))
}

fn fault(path: &Path, why: impl std::fmt::Display) -> EnrolError {
    EnrolError::Manufacturing {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
