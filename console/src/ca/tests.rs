use super::*;

fn open(folder: &Path, advertise: &str) -> Result<Ca, CaError> {
    Ca::open(
        folder,
        advertise,
        std::time::Duration::from_secs(30 * 86_400),
    )
}

fn csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["evil.example".to_string()]).unwrap();
    params.distinguished_name = named("acme.somebody-else");
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn only_the_key_of_a_request_counts() {
    let dir = tempfile::tempdir().unwrap();
    let ca = open(dir.path(), "127.0.0.1").unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let board = BoardId::new("acme.b1").unwrap();
    let request = BoardRequest::read(&csr(&key)).unwrap();
    let issued = ca.issue_board(&board, &request).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let shown = crate::certificates::Shown::read(&pem.contents).unwrap();
    assert_eq!(
        (shown.serial, shown.key_hash, shown.not_after),
        (issued.serial, issued.key_hash, issued.not_after)
    );
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
    open(dir.path(), "127.0.0.1").unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let good = csr(&key);
    // One bit of the signature, at the end of the DER.
    let mut der = pem_bytes(&good);
    let last = der.len() - 1;
    der[last] ^= 1;
    for bad in [pem_text(&der), "nonsense".into(), "x".repeat(9000)] {
        assert!(
            matches!(BoardRequest::read(&bad), Err(CaError::Request(_))),
            "{bad}"
        );
    }
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(BoardRequest::read(&csr(&other)).is_err());
}

#[test]
fn a_second_start_keeps_the_ca_and_a_new_name_renews_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), "127.0.0.1").unwrap();
    let server = files::read_text(&first.server().certificate).unwrap();
    let again = open(dir.path(), "127.0.0.1").unwrap();
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    assert_eq!(
        server,
        files::read_text(&again.server().certificate).unwrap()
    );
    assert_eq!(again.keep_own_fresh().unwrap(), Own::Fresh);
    // As if half of its life were over.
    std::fs::remove_file(dir.path().join("server.json")).unwrap();
    assert_eq!(again.keep_own_fresh().unwrap(), Own::Issued);
    assert_eq!(again.keep_own_fresh().unwrap(), Own::Fresh);
    let server = {
        let newer = files::read_text(&again.server().certificate).unwrap();
        assert_ne!(server, newer);
        newer
    };
    let renamed = open(dir.path(), "console.example").unwrap();
    assert_ne!(
        server,
        files::read_text(&renamed.server().certificate).unwrap()
    );
    std::fs::remove_file(&first.files().key).unwrap();
    assert!(matches!(open(dir.path(), "x"), Err(CaError::HalfLost(_))));
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
