//! A board asks the console how its certificate stands (`GET <console>/certificate`) and has it renewed
//! (`POST <console>/renew`), both over TLS with the certificate in question, an expired one too: the handshake
//! proves that whoever asks holds its key.
//!
//! The console's clock decides when a renewal is due. The board's plays no part: it may say anything.

use crate::names::BoardId;
use serde::{Deserialize, Serialize};

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do.
    Good,
    /// Two thirds of its life are over: to be renewed.
    Due,
    /// Over, and not for so long that it could not be renewed.
    Expired,
    /// Over for too long, or over and superseded: the board must be enrolled again.
    TooLate,
    /// Taken back: the board must be enrolled again.
    Revoked,
    /// A newer one of this board is in use. It is good until its end and not renewed: whoever asks
    /// holds an old copy, or the other does.
    Superseded,
    /// The console has no record of it.
    Unknown,
    /// A word of a newer console.
    #[serde(other)]
    Other,
}

impl State {
    /// Whether the console renews it.
    pub fn may_renew(self) -> bool {
        matches!(self, Self::Due | Self::Expired)
    }
    /// Whether the console serves a board that shows it.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Good | Self::Due | Self::Superseded)
    }
}

/// The answer to `GET /certificate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Common name.
    pub board: BoardId,
    /// In hexadecimal.
    pub serial: String,
    /// Its end, Unix seconds.
    pub not_after: u64,
    /// How it stands.
    pub state: State,
    /// In words, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Ask again after at most so many seconds: a twelfth of the certificate's life.
    pub ask_in_seconds: u64,
}

/// `POST /renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PEM of a PKCS#10 request with a new key; the key never leaves the board.
    pub csr_pem: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// The common name, as before.
    pub board: BoardId,
    /// PEM of the new certificate.
    pub certificate_pem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_newer_console_is_read() {
        let text = r#"{"board":"acme.b","serial":"41","not_after":7,"state":"on-holiday","ask_in_seconds":9,"more":1}"#;
        let standing: Standing = serde_json::from_str(text).unwrap();
        assert_eq!(standing.state, State::Other);
        assert!(!standing.state.may_renew() && !standing.state.is_served());
        let word = serde_json::to_string(&State::TooLate).unwrap();
        assert_eq!(word, "\"too-late\"");
    }
}
