//! The console's own certificates, while it serves: issued anew when half of their life is over, and where the CA's token was
//! away then, as soon as it is back. Boards that connect meet the new one at once, on the console's port and at its own broker, and
//! where the broker's folder does not take it, as soon as it does; the link to the broker shows its own with the next start.

use crate::ca::{Ca, Own};
use crate::mosquitto::Reload;
use crate::tls;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3600);
/// While one is due and cannot be issued.
const DUE: Duration = Duration::from_secs(60);

/// Looks until `stop`.
pub(super) async fn keep(
    ca: Arc<Ca>,
    server: watch::Sender<Arc<ServerConfig>>,
    broker: Option<Reload>,
    stop: CancellationToken,
) {
    // The start has looked already, and one that could not be issued then is due still.
    let mut pause = DUE;
    let mut told = String::new();
    // One was issued that does not serve everywhere.
    let mut waits = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        // A token may take its time.
        let look = ca.clone();
        let looked = tokio::task::spawn_blocking(move || look.keep_own_fresh()).await;
        let looked = match looked {
            Ok(looked) => looked,
            Err(_) => return,
        };
        pause = DUE;
        match looked {
            Ok(Own::Fresh) if !waits => pause = LOOK,
            Ok(Own::Fresh) => {}
            Ok(Own::Issued) => waits = true,
            Ok(Own::Due(why)) => tracing::debug!(why, "still due"),
            Err(error) => {
                let what = "the console's own certificate cannot be issued anew";
                tell_once(&mut told, what, &error);
            }
        }
        if !waits {
            continue;
        }
        match take(&ca, &server, broker.as_ref()) {
            Ok(()) => {
                waits = false;
                told.clear();
                tracing::info!("the console's own certificate was issued anew, and serves");
            }
            Err(error) => {
                let what =
                    "the console's new certificate does not serve yet; it is tried each minute";
                tell_once(&mut told, what, &error);
            }
        }
    }
}

fn tell_once(told: &mut String, what: &str, error: &dyn std::fmt::Display) {
    let words = format!("{what}: {error}");
    if *told != words {
        tracing::error!(%error, "{what}");
        *told = words;
    }
}

fn take(
    ca: &Ca,
    server: &watch::Sender<Arc<ServerConfig>>,
    broker: Option<&Reload>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    server.send_replace(tls::server(ca.server(), &ca.files().certificate)?);
    if let Some(broker) = broker {
        broker.certificate(ca)?;
    }
    Ok(())
}
