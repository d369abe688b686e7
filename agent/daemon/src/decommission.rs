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
        if ends.identity.borrow().is_some()
            && let Ok(status) = ends.supervisor.status().await
            && status.decommissioned
        {
            leave(&ends).await;
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

async fn leave(ends: &Ends) {
    let told = async {
        while !ends.outbox.last_word_is_out() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.is_ok();
    tracing::warn!(
        told,
        "this board was decommissioned; it connects no more until it is enrolled"
    );
    ends.board.send_replace(None);
    ends.identity.send_replace(None);
    ends.outbox.forget();
}
