//! Boards that show who made them: a certificate of the maker's CA, and a signature with its key over the request for the
//! fleet's certificate. The maker's CA opens this door alone: what it signed is shown to no other route and to no broker.

use crate::settings::{Manufacturing as Settings, Tenant};
use coracle_digest::Sha256Digest;
use coracle_protocol::enrol::{ManufacturingRequest, manufacturing_statement};
use coracle_protocol::names::{BoardId, NameError};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::PathBuf;
use std::sync::Arc;
use webpki::EndEntityCert;
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256};
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates in a request: the board's, and those between it and the maker's CA.
const CHAIN: usize = 8;

/// Why the maker's CA cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot take manufacturing certificates (--manufacturing-ca {}): {why}", path.display())]
pub struct MakerError {
    path: PathBuf,
    why: String,
}

/// Why a board was not taken for what it says.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    /// The certificates.
    #[error("the manufacturing certificate: {0}")]
    Certificate(String),
    /// The signature.
    #[error(
        "the request is not signed with the key of the manufacturing certificate, for this fleet"
    )]
    Signature,
    /// The name.
    #[error("the manufacturing certificate names no board: {0}")]
    Name(#[from] NameError),
}

/// Who is believed about who made a board, and what such boards are called.
pub struct Makers {
    verifier: Arc<dyn ClientCertVerifier>,
    tenant: Tenant,
    /// SHA-256 of the fleet's CA.
    fleet: Sha256Digest,
    /// Boards that nobody has heard of are taken in too.
    pub unknown_too: bool,
}

impl std::fmt::Debug for Makers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "makers of boards of {}", self.tenant)
    }
}

impl Makers {
    /// Reads the CA's file; `fleet_ca_pem` is the fleet's own.
    pub fn open(settings: &Settings, fleet_ca_pem: &str) -> Result<Option<Self>, MakerError> {
        let (Some(path), Some(tenant)) =
            (&settings.manufacturing_ca, &settings.manufacturing_tenant)
        else {
            return Ok(None);
        };
        let fault = |why: String| MakerError {
            path: path.clone(),
            why,
        };
        let mut roots = RootCertStore::empty();
        let authorities = CertificateDer::pem_file_iter(path).map_err(|e| fault(e.to_string()))?;
        for authority in authorities {
            let authority = authority.map_err(|e| fault(e.to_string()))?;
            roots.add(authority).map_err(|e| fault(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fault("no certificate in it".into()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| fault(e.to_string()))?;
        let fleet_ca = CertificateDer::from_pem_slice(fleet_ca_pem.as_bytes())
            .map_err(|e| fault(format!("the fleet's own CA cannot be read: {e}")))?;
        Ok(Some(Self {
            verifier,
            tenant: tenant.clone(),
            fleet: Sha256Digest::of(&fleet_ca),
            unknown_too: settings.manufacturing_any,
        }))
    }

    /// Which board asks.
    pub fn board(&self, asked: &ManufacturingRequest, now: u64) -> Result<BoardId, NotMade> {
        let wrong = |why: &dyn std::fmt::Display| NotMade::Certificate(why.to_string());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(asked.certificates_pem.as_bytes())
            .take(CHAIN)
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(&e))?;
        let (own, between) = chain.split_first().ok_or_else(|| wrong(&"none was sent"))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        self.verifier
            .verify_client_cert(own, between, now)
            .map_err(|e| wrong(&e))?;
        let signature = asked.signature().ok_or(NotMade::Signature)?;
        let statement = manufacturing_statement(&self.fleet, &asked.csr_pem);
        let key = EndEntityCert::try_from(own).map_err(|e| wrong(&e))?;
        // Each looks at the kind of key first; at most one fits.
        let signed = [
            ECDSA_P256_SHA256,
            ECDSA_P384_SHA384,
            ED25519,
            RSA_PKCS1_2048_8192_SHA256,
        ]
        .into_iter()
        .any(|kind| {
            key.verify_signature(kind, statement.as_bytes(), &signature)
                .is_ok()
        });
        if !signed {
            return Err(NotMade::Signature);
        }
        let (_, certificate) = X509Certificate::from_der(own).map_err(|e| wrong(&e))?;
        let name = serial(&certificate).ok_or_else(|| {
            wrong(&"its subject has no serial number and no common name, or several")
        })?;
        Ok(self.tenant.board(&name)?)
    }
}

/// The board's serial number, or where there is none the common name: one of it, or two would leave open which counts.
fn serial(certificate: &X509Certificate<'_>) -> Option<String> {
    let subject = certificate.subject();
    let numbers: Vec<_> = subject.iter_by_oid(&OID_X509_SERIALNUMBER).collect();
    let names: Vec<_> = subject.iter_common_name().collect();
    let one = match (numbers.as_slice(), names.as_slice()) {
        ([number], _) => number,
        ([], [name]) => name,
        _ => return None,
    };
    Some(one.as_str().ok()?.to_ascii_lowercase())
}
