//! What the daemon's tests share: a fleet CA, a supervisor that answers as it is told, signed
//! documents.
#![allow(dead_code)] // each test program uses a part

pub mod daemon;
pub mod documents;
pub mod fleet;
pub mod supervisor;

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

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

/// The head of a request, as far as it comes.
pub async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
