//! Edge cases of Ed25519 verification: the twelve points that tell implementations apart ("Taming the many
//! EdDSAs", Chalkias, Garillot, Nikolaenko 2020; the vectors of novifinancial/ed25519-speccheck). All that
//! matters here: no signature counts under a key that anybody can sign for, and none is malleable.

use super::{KeyError, PublicKey};
use serde::Deserialize;

/// What becomes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Is {
    /// The key itself is refused when a root is loaded.
    KeyRefused,
    /// The signature does not count.
    Invalid,
    /// It counts: the key's holder made it, in a way that the cofactorless equation accepts.
    Valid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is odd about it.
    what: String,
    /// These three in hexadecimal.
    message: String,
    key: String,
    signature: String,
    outcome: Is,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn edge_cases_of_ed25519_are_decided_as_written() {
    let cases =
        include_str!("../../tests/attacks/edge_cases_of_ed25519_are_decided_as_written/cases.json");
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let key: [u8; 32] = bytes(&case.key).try_into().unwrap();
        let is = match PublicKey::from_bytes(key) {
            Err(KeyError::SmallOrder) => Is::KeyRefused,
            Err(other) => panic!("{}: {other}", case.what),
            Ok(key) if key.verifies(&bytes(&case.message), &bytes(&case.signature)) => Is::Valid,
            Ok(_) => Is::Invalid,
        };
        assert_eq!(is, case.outcome, "{}", case.what);
    }
}
