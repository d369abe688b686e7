//! A fleet CA, a server certificate for 127.0.0.1 and a client certificate for a board.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls;

pub const BOARD: &str = "acme.board-1";

/// PEM of everything.
pub struct Fleet {
    pub ca_pem: String,
    pub server_pem: String,
    pub server_key_pem: String,
    pub board_pem: String,
    pub board_key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Fleet {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "fleet CA");
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: Vec<String>, common: &str| {
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common);
            // For boards whose clock is past it.
            params.not_after = rcgen::date_time_ymd(2085, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let names = vec!["127.0.0.1".into(), "localhost".into()];
        let (server_pem, server_key_pem) = signed(names, "console");
        let (board_pem, board_key_pem) = signed(vec![], BOARD);
        Self {
            ca_pem,
            server_pem,
            server_key_pem,
            board_pem,
            board_key_pem,
            issuer,
        }
    }

    /// Signs a board's request, as a console does.
    pub fn sign(&self, csr_pem: &str) -> String {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// TLS of a server that asks for the board's certificate.
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(&self.ca_pem)).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            provider.clone(),
        )
        .allow_unauthenticated()
        .build()
        .unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.server_key_pem.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate(&self.server_pem)], key)
            .unwrap();
        Arc::new(config)
    }

    /// TLS of the board.
    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        let identity = (self.board_pem.as_bytes(), self.board_key_pem.as_bytes());
        let config =
            coracle_daemon::identity::client_config(self.ca_pem.as_bytes(), Some(identity));
        Arc::new(config.unwrap())
    }

    /// Fills an identity folder, as an enrolment does.
    pub fn enrol(&self, folder: &Path, console_port: u16, mqtt_port: u16) {
        std::fs::create_dir_all(folder).unwrap();
        let enrolment = format!(
            r#"{{"enrolment_version":1,"board":"{BOARD}","console_url":"https://127.0.0.1:{console_port}","mqtt":"127.0.0.1:{mqtt_port}"}}"#
        );
        for (name, text) in [
            ("ca.crt", &self.ca_pem),
            ("board.crt", &self.board_pem),
            ("board.key", &self.board_key_pem),
            ("enrolment.json", &enrolment),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
}
