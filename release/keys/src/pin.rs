//! The PIN of a token: from the file that the URI or `CORACLE_PIN_FILE` names, or typed. Never an argument.

use super::uri::Pkcs11Uri;
use crate::files::{self, FileError};
use std::io;
use std::path::Path;

/// Names a file that holds the PIN.
pub const FILE: &str = "CORACLE_PIN_FILE";

/// Longest PIN, in bytes.
const BYTES: u64 = 256;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// Three wrong ones lock a card.
    #[error("the PIN of {token} is empty: {from} holds none; it was not tried")]
    Empty {
        /// The token.
        token: String,
        /// Where it should be.
        from: String,
    },
    /// Nobody there to ask.
    #[error(
        "{token} needs its PIN and there is no terminal to ask at: name a file that holds it in {FILE}, or \
         in pin-source of the URI"
    )]
    Terminal {
        /// The token.
        token: String,
        /// What the terminal said.
        #[source]
        source: io::Error,
    },
}

/// The PIN of `token`.
pub fn of(uri: &Pkcs11Uri, token: &str) -> Result<String, PinError> {
    let named = std::env::var_os(FILE).map(Into::into);
    let (pin, from) = match uri.pin_source.clone().or(named) {
        Some(file) => {
            let pin = files::read_line(Path::new(&file), BYTES)?;
            (pin, file.display().to_string())
        }
        None => {
            let asked = rpassword::prompt_password(format!("PIN of {token}: "));
            let pin = asked.map_err(|source| PinError::Terminal {
                token: token.to_owned(),
                source,
            })?;
            (pin, "what was typed".to_owned())
        }
    };
    match pin.is_empty() {
        true => Err(PinError::Empty {
            token: token.to_owned(),
            from,
        }),
        false => Ok(pin),
    }
}
