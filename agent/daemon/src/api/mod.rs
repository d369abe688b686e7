//! HTTP/1.1 on docker.sock: what the Docker CLI reads, and Coracle's own under `/coracle/v1`.
//! Whoever may open the socket (mode 0660) may use it; each change is logged with the peer's ids.

mod attach;
mod body;
mod containers;
mod enrol;
pub mod exec;
pub(crate) mod logs;
mod networks;
mod own;
mod reply;
mod router;
mod store;
mod volumes;
mod wait;

pub use body::Body;

use crate::blobs::Blobs;
use crate::board_use::Places;
use crate::deployment::Command;
use crate::identity::{Identity, Overrides};
use crate::link::{LinkState, Outbox};
use crate::metrics::Counters;
use crate::renewal::CertificateState;
use crate::supervisor::Supervisor;
use bytes::Bytes;
use coracle_board_support::config::LocalPolicy;
use coracle_protocol::local::Needs;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::Feedback;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// Open connections; the next waits. `docker logs -f` holds one each.
const CONNECTIONS: usize = 32;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Longest head of a request, and buffer of each connection, in bytes.
const BUFFER: usize = 16 * 1024;
/// For open requests when the daemon ends.
const DRAIN: Duration = Duration::from_secs(3);

/// What the API works with.
pub struct Api {
    /// Who may make containers.
    pub supervisor: Supervisor,
    /// The store.
    pub blobs: Blobs,
    /// Where to look what the board uses.
    pub places: Places,
    /// How the link is.
    pub link: watch::Receiver<LinkState>,
    /// How the board's certificate stands.
    pub certificate: watch::Receiver<CertificateState>,
    /// To the deployments.
    pub commands: mpsc::Sender<Command>,
    /// What the open local offer needs: only that may be PUT.
    pub offered: watch::Receiver<Option<Needs>>,
    /// Feedback as it is said.
    pub heard: broadcast::Sender<Feedback>,
    /// The last feedback.
    pub last: watch::Receiver<Option<Feedback>>,
    /// What metrics count.
    pub counters: Arc<Counters>,
    /// When metrics were looked at last, and what was said.
    pub metrics: Mutex<(Option<Instant>, Bytes)>,
    /// What waits for the link.
    pub outbox: Arc<Outbox>,
    /// A new identity goes there, and under its lock its name.
    pub identity: watch::Sender<Option<Identity>>,
    /// Its name goes there.
    pub board: watch::Sender<Option<BoardId>>,
    /// Addresses from coracle.toml.
    pub overrides: Overrides,
    /// Where the identity lies.
    pub identity_dir: PathBuf,
    /// One folder of logs for each app.
    pub logs_dir: PathBuf,
    /// `[agent] instance`.
    pub instance: String,
    /// `[local] allow`.
    pub local_allow: LocalPolicy,
    /// Programs that people have in apps.
    pub execs: exec::Execs,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Who is at the other end (SO_PEERCRED).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process, when the kernel tells.
    pub pid: Option<i32>,
}

/// Serves until shutdown.
pub async fn serve(listener: UnixListener, api: Arc<Api>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut shutdown = api.shutdown.clone();
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely: they come back.
                    tracing::warn!(error = %e, "cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            _ = shutdown.changed() => break,
        };
        let api = api.clone();
        connections.spawn(async move {
            connection(stream, api).await;
            drop(slot);
        });
    }
    let drain = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, drain).await;
}

async fn connection(stream: UnixStream, api: Arc<Api>) {
    let peer = match stream.peer_cred() {
        Ok(peer) => Peer {
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
        },
        Err(e) => {
            tracing::warn!(error = %e, "a peer without credentials was turned away");
            return;
        }
    };
    let mut shutdown = api.shutdown.clone();
    let service = service_fn(|request| {
        let api = api.clone();
        async move {
            api.counters.requests.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(router::answer(&api, peer, request).await)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let end = tokio::select! {
        end = &mut serving => end,
        _ = shutdown.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(e) = end {
        tracing::debug!(error = %e, uid = peer.uid, "a local connection broke");
    }
}
