//! A board asks a console for its certificate: `POST <console>/enrol`, JSON, over TLS that is
//! checked against the fleet's CA from the enrolment file.

use crate::names::BoardId;
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
