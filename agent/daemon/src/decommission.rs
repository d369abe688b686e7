//! The end of a board in its fleet. The supervisor has destroyed its key and its name on the disk; what is left of them in this
//! process says so once, by the connection that stands, and goes. Nothing connects again until somebody enrols the board.

use crate::identity::Identity;
use crate::link::Outbox;
use crate::supervisor::{Notice, Supervisor};
use coracle_protocol::names::BoardId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast::error::RecvError, watch};

/// For the last word to reach the broker.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// What the task works with.
pub struct Ends {
    /// Who says so.
    pub supervisor: Supervisor,
    /// What waits for the link, the last word too.
    pub outbox: Arc<Outbox>,
    /// Who the board was.
    pub identity: watch::Sender<Option<Identity>>,
    /// And its name.
    pub board: watch::Sender<Option<BoardId>>,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until shutdown.
pub async fn run(mut ends: Ends) {
    let mut notices = ends.supervisor.watch();
    loop {
        if let Some(leaving) = who_leaves(&ends).await {
            leave(&ends, &leaving).await;
            if who_leaves(&ends).await.is_some() {
                // Its certificate was renewed meanwhile.
                continue;
            }
        }
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(Notice::Connected | Notice::Lost | Notice::Event(_)) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = ends.shutdown.changed() => return,
        }
    }
}

/// The identity of a board that was decommissioned.
async fn who_leaves(ends: &Ends) -> Option<Identity> {
    // Before the question: one that comes after the answer is of an enrolment.
    let identity = ends.identity.borrow().clone()?;
    let status = ends.supervisor.status().await.ok()?;
    status.decommissioned.then_some(identity)
}

async fn leave(ends: &Ends, leaving: &Identity) {
    let told = async {
        while !ends.outbox.last_word_is_out() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.is_ok();
    let status = ends.supervisor.status().await;
    if !status.is_ok_and(|status| status.decommissioned) {
        return;
    }
    let gone = ends.identity.send_if_modified(|identity| {
        let same = identity
            .as_ref()
            .is_some_and(|identity| Arc::ptr_eq(&identity.tls, &leaving.tls));
        if same {
            ends.board.send_replace(None);
            *identity = None;
            ends.outbox.forget();
        }
        same
    });
    if gone {
        tracing::warn!(
            told,
            "this board was decommissioned; it connects no more until it is enrolled"
        );
    }
}
