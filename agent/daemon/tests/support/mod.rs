//! What the daemon's tests share: a fleet CA, a supervisor that answers as it is told, signed
//! documents.
#![allow(dead_code)] // each test program uses a part

pub mod daemon;
pub mod documents;
pub mod fleet;
pub mod supervisor;

use std::time::Duration;

/// Waits until `done`, or fails after 20 s.
pub async fn until(what: &str, done: impl FnMut() -> bool) {
    until_within(20, what, done).await;
}

/// Waits until `done`, or fails after so many seconds.
pub async fn until_within(seconds: u32, what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..seconds * 20 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited {seconds} s for: {what}");
}
