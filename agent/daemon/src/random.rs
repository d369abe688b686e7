//! Random numbers for jitter and ids. The only room that asks the system for them.

use ring::rand::{SecureRandom, SystemRandom};

/// 64 random bits. Should the system's source fail, the clock's nanoseconds serve: jitter needs to
/// differ between boards, not to be secret.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::from(d.subsec_nanos())),
    }
}
