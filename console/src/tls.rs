//! TLS configurations: the boards' port and the MQTT link. ring, TLS 1.2 and 1.3.

use crate::ca::Pair;
use crate::certificates::Shown;
use base64::Engine;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Boards read 8 certificates from their enrolment file, and the fleet's CA is one of them.
const MOST_AUTHORITIES: usize = 7;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// rustls.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// A file of authorities that boards could not use.
    #[error("{path}: {count} certificates; 1 to {MOST_AUTHORITIES} are possible")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// How many it holds.
        count: usize,
    },
    /// The client verifier.
    #[error("{0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A server with `pair` that asks for a client certificate from `ca` and serves without one too:
/// a board that enrols has none yet. One that is over passes, for whoever asks for the next one: what its
/// holder may do is decided at each request, by [`crate::certificates::judge`].
pub fn server(pair: &Pair, ca: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
        .allow_unauthenticated()
        .build()?;
    let verifier = Arc::new(ExpiredToo(verifier));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&pair.certificate)?, key(&pair.key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// webpki, and for a certificate that is over webpki as of its last second: signature, chain and usage are checked
/// all the same, and the handshake proves the key.
#[derive(Debug)]
struct ExpiredToo(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ExpiredToo {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        use CertificateError::{Expired, ExpiredContext};
        let verify = |now| self.0.verify_client_cert(end_entity, intermediates, now);
        match verify(now) {
            Err(rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                let shown = Shown::read(end_entity);
                let last = shown.map_or(0, |shown| shown.not_after.saturating_sub(1));
                verify(UnixTime::since_unix_epoch(Duration::from_secs(last)))
            }
            other => other,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A client that trusts `ca` alone and shows a certificate and its key that are in no file, PEM.
pub fn client_of(certificate: &str, key: &str, ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let pem = |source| TlsError::Pem {
        path: "a certificate in memory".into(),
        source,
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(pem)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// A client that trusts `ca` alone and shows `pair`.
pub fn client(pair: &Pair, ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(certificates(&pair.certificate)?, key(&pair.key)?)?;
    Ok(Arc::new(config))
}

/// The certificates in a file, written anew: whatever else is in there, a key perhaps, stays behind.
pub fn authorities(path: &Path) -> Result<String, TlsError> {
    let found = certificates(path)?;
    if !(1..=MOST_AUTHORITIES).contains(&found.len()) {
        return Err(TlsError::Authorities {
            path: path.to_owned(),
            count: found.len(),
        });
    }
    Ok(found.iter().map(|der| pem(der)).collect())
}

// RFC 7468, section 2: 64 characters a line.
fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        text.push_str(&base64::engine::general_purpose::STANDARD.encode(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_only_certificates_are_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        let certificate = made.self_signed(&key).unwrap().pem().replace("\r\n", "\n");
        let file = dir.path().join("ca.pem");
        let write = |text: String| std::fs::write(&file, text).unwrap();
        write(format!("a comment\n{}{certificate}", key.serialize_pem()));
        assert_eq!(authorities(&file).unwrap(), certificate);
        for (text, n) in [("nothing".into(), 0), (certificate.repeat(8), 8)] {
            write(text);
            let error = authorities(&file).unwrap_err();
            assert!(
                matches!(error, TlsError::Authorities { count, .. } if count == n),
                "{error}"
            );
        }
    }
}
