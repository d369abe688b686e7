//! Random tokens. Only their SHA-256 is kept: they hold 256 random bits, so that a slow hash would
//! protect nothing more.

use coracle_digest::Sha256Digest;
use ring::rand::{SecureRandom, SystemRandom};

/// The system's random source failed.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source failed")]
pub struct NoRandom;

/// `bytes` random bytes in hexadecimal.
pub fn random_hex(bytes: usize) -> Result<String, NoRandom> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut buffer)
        .map_err(|_| NoRandom)?;
    Ok(buffer.iter().map(|b| format!("{b:02x}")).collect())
}

/// A token for a person, a program or a board, marked so that scanners recognise it when it leaks.
pub fn token() -> Result<String, NoRandom> {
    Ok(format!("coracle_{}", random_hex(32)?))
}

/// What is stored of a token.
pub fn hash(token: &str) -> String {
    Sha256Digest::of(token.trim().as_bytes()).hex()
}
