//! Standard output, with errors instead of panics.

use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// Writes text as it is, at once.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are, at once.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// The same on standard error.
pub fn error_bytes(bytes: &[u8]) -> Result<(), Failure> {
    std::io::stderr().write_all(bytes).map_err(Failure::Output)
}

/// Writes a value as indented JSON.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::Output(std::io::Error::other(e)))?;
    text.push('\n');
    bytes(text.as_bytes())
}
