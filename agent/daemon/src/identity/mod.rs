//! Who the board is: its key, its certificate and the fleet CA, in the identity folder.
//!
//! | file | what it holds |
//! |---|---|
//! | `board.key` | the certificate that the console gave, and its P-256 key, PEM: one file, so that neither is there without the other. The key was made here and never leaves the board; one that the TPM made is there wrapped, for this TPM alone |
//! | `renewed.key` | the next of these, until it has proved itself at the console |
//! | `board.crt` | the certificate alone, for an older version that a board goes back to; its `board.key` was the key alone |
//! | `ca.crt` | the fleet CA: the only one that the board trusts |
//! | `enrolment.json` | where console and broker are; written last, so that it says "enrolled" |

mod console;
mod der;
mod enrol;
mod key;
mod manufacturing;
mod pair;
mod renew;
mod tls;
mod tpm;

pub use console::ConsoleError;
pub use enrol::{EnrolError, enrol};
pub use key::{KeyError, Keys};
pub use manufacturing::{Given, Maker, ask_as_made};
pub use renew::{Checked, RenewError, check};
pub use tls::{TlsError, client_config};
pub use tpm::TpmError;

use crate::disk::{self, DiskError};
use coracle_protocol::names::BoardId;
use coracle_protocol::topics::{Separator, Topic};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// Largest file in the identity folder, in bytes; a certificate has about 1 KiB.
const FILE_LIMIT: u64 = 64 * 1024;

/// A board that is enrolled.
#[derive(Clone)]
pub struct Identity {
    /// Common name of the certificate.
    pub board: BoardId,
    /// The console's port for boards.
    pub console: Endpoint,
    /// The broker.
    pub mqtt: Endpoint,
    /// How its topics are written.
    pub topic_separator: Separator,
    /// Trusts the fleet CA alone and shows the board's certificate.
    pub tls: Arc<rustls::ClientConfig>,
}

impl Identity {
    /// One of the board's topics.
    pub fn topic(&self, topic: Topic) -> String {
        topic.of(&self.board, self.topic_separator)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} and {}", self.board, self.console, self.mqtt)
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, `[v6]:port`, or either after `https://`, `mqtts://` or `ssl://`; a path
    /// is not allowed, because every path is the protocol's.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Endpoint(text.chars().take(120).collect());
        let rest = ["https://", "mqtts://", "ssl://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or_else(bad)?;
                (host, port.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(bad());
        }
        let port = port.map_or(Ok(default_port), |p| p.parse().map_err(|_| bad()))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why the identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Key, certificate or CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that cannot be read.
    #[error("`{0}` is not host:port")]
    Endpoint(String),
    /// `enrolment.json` is there and another file is not.
    #[error("{} is missing; enrol the board again", .0.display())]
    Missing(std::path::PathBuf),
}

impl IdentityError {
    /// Whether the files are of no use for ever: nothing that a person set, and nothing that may pass.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Tls(TlsError::Tpm(TpmError::Cleared | TpmError::Damaged)) => true,
            Self::Tls(TlsError::Tpm(_)) => false,
            Self::Tls(_) | Self::Missing(_) => true,
            Self::Disk(_) | Self::Endpoint(_) => false,
        }
    }
}

/// `enrolment.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Enrolment {
    enrolment_version: u32,
    board: BoardId,
    console_url: String,
    mqtt: String,
    #[serde(default, skip_serializing_if = "Separator::is_dot")]
    topic_separator: Separator,
}

/// What coracle.toml says of it: addresses there win over those from the enrolment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `[console] url`.
    pub console: Option<String>,
    /// `[console] mqtt`.
    pub mqtt: Option<String>,
    /// `[identity]`.
    pub keys: Keys,
}

/// The name in `enrolment.json`, whatever became of the other files.
pub fn name_on_disk(folder: &Path) -> Option<BoardId> {
    let enrolment = disk::read_json::<Enrolment>(&folder.join("enrolment.json"), FILE_LIMIT);
    enrolment.ok().flatten().map(|enrolment| enrolment.board)
}

/// Reads the identity folder; `None` when the board is not enrolled.
pub fn load(folder: &Path, overrides: &Overrides) -> Result<Option<Identity>, IdentityError> {
    let Some(enrolment) = disk::read_json::<Enrolment>(&folder.join("enrolment.json"), FILE_LIMIT)?
    else {
        return Ok(None);
    };
    let missing = |name: &str| IdentityError::Missing(folder.join(name));
    let file =
        |name: &str| disk::read(&folder.join(name), FILE_LIMIT)?.ok_or_else(|| missing(name));
    let ca = file("ca.crt")?;
    let pair = pair::Pair::read(folder)?.ok_or_else(|| missing(pair::lacking(folder)))?;
    let console = overrides.console.as_ref().unwrap_or(&enrolment.console_url);
    let mqtt = overrides.mqtt.as_ref().unwrap_or(&enrolment.mqtt);
    let (tpm, halves) = (&overrides.keys.tpm, pair.halves());
    let tls = tls::config_with(&ca, Some(halves), tpm)?;
    if tpm::is_wrapped(halves.1) {
        match tpm::TpmKey::from_pem(tpm, halves.1).and_then(|key| key.probe()) {
            Ok(()) => {}
            Err(error @ TpmError::Cleared) => return Err(TlsError::from(error).into()),
            // It may come back, and is asked again at each connection.
            Err(error) => tracing::error!(%error, "the board's key cannot be used now"),
        }
    }
    Ok(Some(Identity {
        board: enrolment.board,
        console: Endpoint::parse(console, 8443)?,
        mqtt: Endpoint::parse(mqtt, 8883)?,
        topic_separator: enrolment.topic_separator,
        tls: Arc::new(tls),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let parse = |text| Endpoint::parse(text, 8443).map(|e| e.to_string()).ok();
        assert_eq!(parse("https://a.example:1/"), Some("a.example:1".into()));
        assert_eq!(parse("10.0.0.1"), Some("10.0.0.1:8443".into()));
        assert_eq!(parse("[fd00::1]:7"), Some("[fd00::1]:7".into()));
        for bad in [
            "",
            "http://a",
            "https://a/x",
            "a:99999",
            "a b:1",
            "[fd00::1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
