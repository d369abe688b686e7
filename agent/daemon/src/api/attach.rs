//! `POST /containers/<id>/attach`: what an app writes from now on, over the connection itself. An app has no standard input: what
//! a client sends is not read.

use super::containers::find;
use super::logs::{self, Wanted};
use super::reply::{Fault, Reply, typed};
use super::router::Query;
use super::{Api, Body};
use bytes::Bytes;
use coracle_protocol::report::AppState;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

/// Connections that are no HTTP any more: the API's own limit does not count them.
static ROOM: Semaphore = Semaphore::const_new(16);
/// Between two looks whether a client is there that is told nothing.
const LOOK: Duration = Duration::from_secs(3);

/// Goes on until the app has ended for good, as a log that is followed.
pub async fn attach(
    api: &Api,
    id: &str,
    query: &Query,
    request: &mut Request<Incoming>,
) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let (_, app) = find(&status, id)?;
    let name = app.name.clone();
    let conflict = |what: &str| {
        let text = format!("app `{name}` {what}");
        Err(Fault::new(StatusCode::CONFLICT, text))
    };
    if app.state != AppState::Running {
        return conflict("does not run");
    }
    if app.paused {
        return conflict("is paused: resume it first");
    }
    let wanted = Wanted {
        stdout: query.is_set("stdout"),
        stderr: query.is_set("stderr"),
        timestamps: false,
        since: None,
        until: None,
        tail: (!query.is_set("logs")).then_some(0),
        follow: query.is_set("stream"),
    };
    let Ok(room) = ROOM.try_acquire() else {
        let text = "too many clients are attached already";
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let (pieces, body) = Body::stream();
    let log = logs::send(
        api.logs_dir.clone(),
        name,
        wanted,
        pieces,
        api.supervisor.clone(),
        api.shutdown.clone(),
    );
    let mut reply = typed("application/vnd.docker.multiplexed-stream", Body::whole(""));
    match (request.headers().get(UPGRADE), body) {
        (Some(_), Body::Stream(output)) => {
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(log);
            tokio::spawn(async move {
                if let Ok(connection) = upgrade.await {
                    pour(connection, output).await;
                }
                drop(room);
            });
            *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = reply.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        }
        // A client of before upgrades reads what comes after the head.
        (_, body) => {
            tokio::spawn(log);
            *reply.body_mut() = body;
        }
    }
    Ok(reply)
}

async fn pour(connection: Upgraded, mut output: mpsc::Receiver<Bytes>) {
    let Ok(parts) = connection.downcast::<TokioIo<UnixStream>>() else {
        return;
    };
    let mut stream = parts.io.into_inner();
    loop {
        tokio::select! {
            piece = output.recv() => match piece {
                Some(piece) => if stream.write_all(&piece).await.is_err() {
                    return;
                },
                None => return,
            },
            () = tokio::time::sleep(LOOK) => if has_gone(&stream).await {
                return;
            },
        }
    }
}

/// Closed for both ways: a client that sends no more may still read.
async fn has_gone(stream: &UnixStream) -> bool {
    let ready = tokio::time::timeout(Duration::ZERO, stream.ready(Interest::WRITABLE)).await;
    matches!(ready, Ok(Ok(ready)) if ready.is_write_closed())
}
