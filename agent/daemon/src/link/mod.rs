//! MQTT: the board's presence, what is wanted of it and what it reports. The only room that knows
//! rumqttc.
//!
//! Each connection is a session of its own: a number, a will, a birth, a subscription, then whatever
//! waits in the [`Outbox`]. A message leaves the outbox when the broker acknowledged it.

pub mod backoff;
mod connection;
pub mod odd;
mod outbox;
mod sessions;
mod shrink;
mod spool;

pub use outbox::Outbox;
pub use sessions::Sessions;

use crate::disk::DiskError;
use crate::identity::Identity;
use backoff::Failures;
use coracle_protocol::desired::{Desired, RootNotice};
use coracle_protocol::dsse::Envelope;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How the link is; shown by `coracle status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct LinkState {
    /// The board's name, when it is enrolled.
    pub board: Option<String>,
    /// `host:port` of the console's port for boards.
    pub console: Option<String>,
    /// `host:port` of the broker.
    pub broker: Option<String>,
    /// Whether the broker has accepted the connection.
    pub connected: bool,
    /// Number of this or the last session.
    pub session: Option<u64>,
    /// Unix seconds of the last change of `connected`, by the board's clock.
    pub since: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Connections that opened since the daemon started.
    pub connects: u64,
    /// Feedback that waits for the link.
    pub waiting: usize,
}

/// The link's ends: the daemon gives them to [`run`].
#[derive(Debug)]
pub struct Ends {
    /// Who the board is, once it is enrolled.
    pub identity: watch::Receiver<Option<Identity>>,
    /// What is wanted of the board goes there.
    pub desired: mpsc::Sender<Desired>,
    /// Signed commands go there.
    pub commands: mpsc::Sender<Envelope>,
    /// The newest root document, as the console says.
    pub roots: watch::Sender<Option<RootNotice>>,
    /// How the link is.
    pub state: watch::Sender<LinkState>,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Keeps the link until shutdown. `folder` is the spool.
pub async fn run(folder: &Path, outbox: Arc<Outbox>, mut ends: Ends) -> Result<(), DiskError> {
    let mut sessions = Sessions::open(&folder.join("session"))?;
    let mut failures = Failures::default();
    while !*ends.shutdown.borrow() {
        let Some(identity) = ends.identity.borrow_and_update().clone() else {
            ends.state.send_replace(LinkState::default());
            tokio::select! {
                changed = ends.identity.changed() => if changed.is_err() { break },
                _ = ends.shutdown.changed() => {}
            }
            continue;
        };
        let session = sessions.take()?;
        ends.state.send_modify(|state| {
            state.board = Some(identity.board.to_string());
            state.console = Some(identity.console.to_string());
            state.broker = Some(identity.mqtt.to_string());
            state.session = Some(session);
        });
        let mut traffic = connection::Traffic::default();
        let end = connection::run(&identity, session, &outbox, &mut ends, &mut traffic).await;
        let error = match end {
            Ok(connection::Ended::Shutdown) => break,
            Ok(connection::Ended::NewIdentity) => {
                failures = Failures::default();
                continue;
            }
            Err(error) => error,
        };
        let how = traffic.end();
        let wait = failures.wait(how, crate::random::u64());
        tracing::warn!(broker = %identity.mqtt, error = %error, ?how, wait_ms = wait.as_millis() as u64, "no link to the broker");
        ends.state.send_modify(|state| {
            if state.connected {
                state.since = crate::clock::now();
            }
            state.connected = false;
            state.error = Some(error.to_string());
        });
        let until = Instant::now() + wait;
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            _ = ends.identity.changed() => failures = Failures::default(),
            _ = ends.shutdown.changed() => {}
        }
    }
    Ok(())
}
