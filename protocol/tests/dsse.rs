//! The published test vector of DSSE (secure-systems-lab/dsse, `protocol.md`, "Test Vectors"), and
//! envelopes signed with the keys of RFC 8032. The vector's own signature is ECDSA, which is not
//! spoken here: what is held against it is the bytes that are signed.

use base64::Engine;
use coracle_protocol::dsse::{DsseError, Envelope, Signature, pae};
use coracle_protocol::key::{PublicKey, SigningKey};

const TYPE: &str = "http://example.com/HelloWorld";

/// RFC 8032, section 7.1, test 1: the secret key, as PKCS#8.
const SECRET: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
/// The same key, public.
const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/// Over the vector's PAE, made by OpenSSL 3.0 (`pkeyutl -sign -rawin`).
const BY_OPENSSL: &str =
    "4DHX3Zn4qpBKvEj7maE8O9u9bjXEnPLLnyXVUJ2PXJR8DSLcL3QDpFvfJOj3pB/SPHsl6Jg4boxsMb6KvuYABw==";

fn public() -> PublicKey {
    PUBLIC.to_owned().try_into().unwrap()
}

fn envelope() -> Envelope {
    let mut envelope = Envelope::unsigned(TYPE, b"hello world");
    envelope
        .sign(&SigningKey::from_pkcs8(&SECRET).unwrap())
        .unwrap();
    envelope
}

#[test]
fn the_signed_bytes_are_those_of_the_vector() {
    let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
    assert_eq!(pae(TYPE, b"hello world"), expected);
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ".as_slice());
    // Lengths are in bytes, not characters.
    assert_eq!(pae("ä", "ö".as_bytes()), "DSSEv1 2 ä 2 ö".as_bytes());
}

#[test]
fn the_payload_is_encoded_as_in_the_vector() {
    assert_eq!(envelope().payload, "aGVsbG8gd29ybGQ=");
    assert_eq!(envelope().payload_type, TYPE);
}

#[test]
fn another_implementation_signs_the_same() {
    assert_eq!(envelope().signatures[0].sig, BY_OPENSSL);
    let payload = envelope().verify(TYPE, &[public()], 1).unwrap();
    assert_eq!(payload.bytes(), b"hello world");
}

#[test]
fn url_safe_base64_is_read_too() {
    let mut envelope = envelope();
    let sig = &mut envelope.signatures[0].sig;
    *sig = sig.replace('+', "-").replace('/', "_");
    assert!(envelope.verify(TYPE, &[public()], 1).is_ok());
}

#[test]
fn type_and_length_cannot_change_places_with_the_payload() {
    let mut moved = envelope();
    moved.payload_type = format!("{TYPE} 11 hello world");
    moved.payload = String::new();
    assert!(matches!(
        moved.verify(TYPE, &[public()], 1),
        Err(DsseError::PayloadType { .. })
    ));
    let mut shorter = envelope();
    shorter.payload = Envelope::unsigned(TYPE, b"hello worl").payload;
    assert_eq!(
        shorter.verify(TYPE, &[public()], 1),
        Err(DsseError::Threshold {
            valid: 0,
            threshold: 1
        })
    );
}

#[test]
fn no_threshold_is_no_permission() {
    assert!(envelope().verify(TYPE, &[public()], 0).is_err());
    assert!(envelope().verify(TYPE, &[], 1).is_err());
    assert!(envelope().verify(TYPE, &[public(), public()], 2).is_err());
}

/// Envelopes inside other messages do not pass through `Envelope::parse`.
#[test]
fn limits_hold_without_parse() {
    let mut many = envelope();
    many.signatures = vec![
        Signature {
            keyid: String::new(),
            sig: BY_OPENSSL.into()
        };
        17
    ];
    assert!(matches!(
        many.verify(TYPE, &[public()], 1),
        Err(DsseError::Malformed(_))
    ));
    let mut long = envelope();
    long.payload = "A".repeat(256 * 1024 + 4);
    assert!(matches!(
        long.verify(TYPE, &[public()], 1),
        Err(DsseError::TooLarge { .. })
    ));
}

#[test]
fn signing_twice_leaves_one_signature() {
    let mut envelope = envelope();
    envelope
        .sign(&SigningKey::from_pkcs8(&SECRET).unwrap())
        .unwrap();
    assert_eq!(envelope.signatures.len(), 1);
    assert_eq!(Envelope::parse(&envelope.to_json()), Ok(envelope));
}

#[test]
fn what_a_token_made_is_checked_before_it_counts() {
    let (key, _) = SigningKey::generate().unwrap();
    let (other, _) = SigningKey::generate().unwrap();
    let mut made = Envelope::unsigned("application/x", b"payload");
    made.sign(&other).unwrap();
    let bytes = made.signatures[0].sig.clone();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(bytes)
        .unwrap();
    assert_eq!(
        made.bytes_to_sign().unwrap(),
        pae("application/x", b"payload")
    );
    let mut envelope = Envelope::unsigned("application/x", b"payload");
    for wrong in [&bytes[..], &[0; 64], &[]] {
        let refused = envelope.add_signature(&key.public(), wrong);
        assert_eq!(
            refused,
            Err(DsseError::NotASignature(key.public().key_id()))
        );
    }
    assert!(envelope.signatures.is_empty());
    // Once, however often it is added.
    for _ in 0..2 {
        envelope.add_signature(&other.public(), &bytes).unwrap();
    }
    assert_eq!(envelope.signatures, made.signatures);
    assert!(
        envelope
            .verify("application/x", &[other.public()], 1)
            .is_ok()
    );
}
