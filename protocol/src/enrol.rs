//! A board asks a console for its certificate: `POST <console>/enrol` with a one-time token, or
//! `POST <console>/enrol/manufacturing` with the certificate that its maker gave it; JSON, over TLS that is
//! checked against the fleet's CA from the enrolment file or from `fleet.json`.

use crate::names::BoardId;
use crate::topics::Separator;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// What the operator hands to whoever sets the board up: one file, good for one board, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentFile {
    /// Whom it makes of the board.
    pub board: BoardId,
    /// `https://host:port` of the console's board port.
    pub console_url: String,
    /// `host:port` of the broker (TLS).
    pub mqtt: String,
    /// PEM of the fleet's CA: the only one that the board trusts.
    pub ca_pem: String,
    /// The one-time token.
    pub token: String,
    /// What separates tenant and name in the board's topics; `.` where it is not said.
    #[serde(default, skip_serializing_if = "Separator::is_dot")]
    pub topic_separator: Separator,
}

/// The request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The one-time token.
    pub token: String,
    /// PEM of a PKCS#10 request; the key never leaves the board.
    pub csr_pem: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolAnswer {
    /// Who the board is now: the common name of the certificate.
    pub board: BoardId,
    /// PEM of the board's certificate.
    pub certificate_pem: String,
}

/// `fleet.json` beside coracle.toml: where each board of a fleet finds its console. Nothing in it is secret, so that
/// an image for all boards may hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    /// `https://host:port` of the console's board port.
    pub console_url: String,
    /// `host:port` of the broker (TLS).
    pub mqtt: String,
    /// PEM of the fleet's CA, and after it of others that boards trust.
    pub ca_pem: String,
    /// What separates tenant and name in the board's topics; `.` where it is not said.
    #[serde(default, skip_serializing_if = "Separator::is_dot")]
    pub topic_separator: Separator,
}

/// The request of a board that shows who made it (IEEE 802.1AR calls that certificate an IDevID). The answer is an
/// [`EnrolAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManufacturingRequest {
    /// PEM of the manufacturing certificate, and after it of those that lead to the maker's CA.
    pub certificates_pem: String,
    /// PEM of a PKCS#10 request for a new key.
    pub csr_pem: String,
    /// [`manufacturing_statement`], signed with the manufacturing key; base64.
    pub signature: String,
}

impl ManufacturingRequest {
    /// `signature` as the key made it.
    pub fn new(certificates_pem: String, csr_pem: String, signature: &[u8]) -> Self {
        Self {
            certificates_pem,
            csr_pem,
            signature: BASE64.encode(signature),
        }
    }

    /// The signature's bytes; `None` when it is not base64.
    pub fn signature(&self) -> Option<Vec<u8>> {
        BASE64.decode(&self.signature).ok()
    }
}

/// What the manufacturing key signs: for this fleet, by the SHA-256 of its CA's certificate as DER, and for this request.
/// Sent to another fleet or with another request it is worth nothing.
pub fn manufacturing_statement(fleet_ca: &Sha256Digest, csr_pem: &str) -> String {
    format!(
        "coracle manufacturing enrolment v1\nfleet {}\nrequest {}\n",
        fleet_ca.hex(),
        Sha256Digest::of(csr_pem.as_bytes()).hex()
    )
}
