//! TLS that trusts one CA, on a board whose clock may stand at 1970.

use super::der;
use super::tpm::{self, TpmError, TpmKey};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Why no TLS configuration can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// PEM that holds nothing usable.
    #[error("{what}: {why}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// rustls refuses it.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The board's key is one of its TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

/// A client that trusts the PEM certificates in `ca` and nothing else, and shows `identity`
/// (certificate and key, PEM) when given. A key that a TPM wrapped is used by the one at its usual place.
pub fn client_config(
    ca: &[u8],
    identity: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, TlsError> {
    config_with(ca, identity, Path::new(tpm::DEVICE))
}

/// The same, with the TPM at `tpm`.
pub(super) fn config_with(
    ca: &[u8],
    identity: Option<(&[u8], &[u8])>,
    tpm: &Path,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authorities = certificates("the fleet CA", ca)?;
    let mut floor = crate::clock::built_at();
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        floor = floor.max(der::not_before(&authority).unwrap_or(0));
        roots.add(authority)?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| pem("the fleet CA", e))?;
    let verifier = Arc::new(ClocklessVerifier {
        inner,
        floor,
        told: crate::clock::at_least,
        synchronised: crate::clock::is_kept,
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("the board's certificate", certificate)?;
            let pair = match tpm::is_wrapped(key) {
                false => {
                    let key = PrivateKeyDer::from_pem_slice(key);
                    let key = key.map_err(|e| pem("the board's key", e))?;
                    CertifiedKey::from_der(chain, key, builder.crypto_provider())?
                }
                true => {
                    let pair = CertifiedKey::new(chain, Arc::new(TpmKey::from_pem(tpm, key)?));
                    pair.keys_match()?;
                    pair
                }
            };
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
    };
    // Sessions of one console and one broker are not worth the memory of their tickets.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The certificates of a PEM text, at most 8 of them and at least one.
pub(super) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .take(8)
        .collect::<Result<_, _>>()
        .map_err(|e| pem(what, e))?;
    if found.is_empty() {
        return Err(pem(what, "no certificate in it"));
    }
    Ok(found)
}

fn pem(what: &'static str, why: impl std::fmt::Display) -> TlsError {
    TlsError::Pem {
        what,
        why: why.to_string(),
    }
}

/// webpki with a time that is never below what is known: what signed documents say, the build of this program,
/// the CA's `notBefore` and that of the certificate itself. So `notBefore` refuses nothing on a board whose
/// clock is behind. The bound of a certificate serves its own verification only, so a forged one gains
/// nothing by it.
///
/// The clock counts beyond that when the kernel holds it to be right. One that nobody keeps may be years
/// ahead, and would lock the board out of its own fleet: then the bound alone says what has expired.
#[derive(Debug)]
struct ClocklessVerifier {
    inner: Arc<WebPkiServerVerifier>,
    floor: u64,
    /// The lower bound of time, as it is at each handshake.
    told: fn() -> u64,
    /// Whether the clock is kept by somebody.
    synchronised: fn() -> bool,
}

impl ServerCertVerifier for ClocklessVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |seconds: u64| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            self.inner.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                time,
            )
        };
        let bound = der::not_before(end_entity)
            .unwrap_or(0)
            .max(self.floor)
            .max((self.told)());
        let clock = now.as_secs();
        if clock <= bound {
            return verify(bound);
        }
        match (verify(clock), (self.synchronised)()) {
            (Err(error), synchronised) if is_expired(&error) && verify(bound).is_ok() => {
                if !synchronised {
                    tracing::warn!(
                        clock,
                        at_least = bound,
                        "the clock is past the server's certificate, and nobody keeps it: it is taken to be ahead"
                    );
                    return verify(bound);
                }
                Err(rustls::Error::General(format!(
                    "the server's certificate has expired, or this board's clock is ahead: it says {}; signed documents say that it is at least {}",
                    crate::clock::rfc3339(Duration::from_secs(clock)),
                    crate::clock::rfc3339(Duration::from_secs(bound)),
                )))
            }
            (result, _) => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_expired(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    struct Ca {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca() -> Ca {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Ca { pem, issuer }
    }

    fn server(ca: &Ca, from: i32, to: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["console.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &ca.issuer).unwrap().der().clone()
    }

    /// With a clock that is kept.
    fn verify(ca: &Ca, certificate: &CertificateDer<'_>, now: u64) -> bool {
        verifies(ca, certificate, now, || 0, || true).is_ok()
    }

    fn verifies(
        ca: &Ca,
        certificate: &CertificateDer<'_>,
        now: u64,
        told: fn() -> u64,
        synchronised: fn() -> bool,
    ) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in certificates("ca", ca.pem.as_bytes()).unwrap() {
            roots.add(authority).unwrap();
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let verifier = ClocklessVerifier {
            inner,
            floor: crate::clock::built_at(),
            told,
            synchronised,
        };
        let name = ServerName::try_from("console.test").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verifier
            .verify_server_cert(certificate, &[], &name, &[], now)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// 2080-01-01, and ten years after it.
    const IN_2080: u64 = 3_471_292_800;
    const IN_2090: u64 = 3_786_912_000;

    #[test]
    fn a_board_ten_years_ahead_is_told_apart() {
        let ca = ca();
        let certificate = server(&ca, 2020, 2085);
        // Nobody keeps the clock: signed documents say what has expired.
        assert_eq!(verifies(&ca, &certificate, IN_2090, || 0, || false), Ok(()));
        assert_eq!(
            verifies(&ca, &certificate, IN_2090, || IN_2080, || false),
            Ok(())
        );
        assert!(verifies(&ca, &certificate, IN_2090, || IN_2090, || false).is_err());
        // A kept clock counts, and the words name both times.
        let words = verifies(&ca, &certificate, IN_2090, || IN_2080, || true).unwrap_err();
        for part in ["clock is ahead", "2090-01-01", "2080-01-01"] {
            assert!(words.contains(part), "{words}");
        }
        // Expired for sure: no word of the clock.
        let old = server(&ca, 2000, 2001);
        let words = verifies(&ca, &old, IN_2080, || 0, || true).unwrap_err();
        assert!(!words.contains("clock"), "{words}");
    }

    #[test]
    fn a_clock_that_jumps_both_ways_locks_nobody_out() {
        let ca = ca();
        let certificate = server(&ca, 2020, 2085);
        for now in [0, IN_2090, 1, IN_2080, u64::MAX / 4, 0, IN_2090] {
            let result = verifies(&ca, &certificate, now, || 1_800_000_000, || false);
            assert_eq!(result, Ok(()), "clock at {now}");
        }
        // What signed documents said stays said, wherever the clock goes.
        for now in [0, IN_2080] {
            assert!(verifies(&ca, &certificate, now, || IN_2090, || false).is_err());
        }
    }

    #[test]
    fn a_board_in_1970_opens_a_certificate_of_today_and_of_tomorrow() {
        let ca = ca();
        assert!(verify(&ca, &server(&ca, 2020, 2090), 0));
        assert!(verify(&ca, &server(&ca, 2080, 2090), 0));
    }

    #[test]
    fn an_expired_certificate_is_refused_whatever_the_clock_says() {
        let ca = ca();
        let old = server(&ca, 2000, 2001);
        assert!(!verify(&ca, &old, 0));
        let later = server(&ca, 2020, 2080);
        assert!(
            !verify(&ca, &later, 3_500_000_000),
            "the clock is past 2080"
        );
    }

    #[test]
    fn another_ca_is_refused() {
        assert!(!verify(&ca(), &server(&ca(), 2020, 2090), 0));
    }
}
