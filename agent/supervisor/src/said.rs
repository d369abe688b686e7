//! What a short-lived child says, and its end, waited for by the supervisor's one thread: within bounds.

use crate::ended;
use coracle_runtime::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes: some lines.
const SAID: usize = 4096;

/// Up to its end, or until patience is.
pub fn listen(from: OwnedFd, patience: Duration) -> String {
    let (mut from, end) = (File::from(from), Instant::now() + patience);
    let mut said = Vec::new();
    let mut piece = [0; 512];
    while said.len() < SAID {
        let left = end.saturating_duration_since(Instant::now());
        if !is_ready(&from, left) {
            break;
        }
        match from.read(&mut piece) {
            Ok(count @ 1..) => said.extend_from_slice(&piece[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether it has ended, or does in that time. One that hangs in the kernel does not, not even when it is killed.
pub fn ends(child: &Child, patience: Duration) -> bool {
    ended::within(&child.pidfd, patience) == Ok(true)
}

fn is_ready(what: &impl AsFd, patience: Duration) -> bool {
    let Ok(patience) = Timespec::try_from(patience) else {
        return false;
    };
    let mut looked = [PollFd::new(what, PollFlags::IN)];
    matches!(
        retry_on_intr(|| poll(&mut looked, Some(&patience))),
        Ok(1..)
    )
}
