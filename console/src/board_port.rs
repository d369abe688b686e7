//! The listener of the boards' port: TLS, bounded in connections and in time, and for each
//! connection the certificate that was shown.

use crate::boards_api::Peer;
use crate::certificates::Shown;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at once; boards keep one each, and only while they fetch.
const CONNECTIONS: usize = 2048;
/// For the TLS handshake, and for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// For requests under way when the console stops; boards resume what is cut off.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves `router` until `stop`.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = Arc::new(GracefulShutdown::new());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to close.
                    tracing::warn!(%error, "cannot accept a board's connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        // The certificate may have been issued anew.
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let (router, graceful) = (router.clone(), graceful.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, router, &graceful) => {}
                () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
            }
            drop(place);
        });
    }
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    } else {
        // Connections still hold it: each ends by itself within the same time.
        let _ = tokio::time::timeout(DRAIN, places.acquire_many(CONNECTIONS as u32)).await;
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    graceful: &GracefulShutdown,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS with a board failed");
            return;
        }
        Err(_) => return,
    };
    let peer = Peer(
        stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| Shown::read(certificate)),
    );
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = graceful.watch(connection).await {
        tracing::debug!(%error, "a board's connection ended");
    }
}
