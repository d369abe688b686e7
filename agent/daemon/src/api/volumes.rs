//! Volumes: Docker's `/volumes`, and `/coracle/v1/volumes` with backup and restore. The supervisor decides who may what; it is
//! told the peer's user.

use super::reply::{Fault, Reply, empty, json, of_answer, typed};
use super::router::{Query, read_body};
use super::{Api, Body, Peer};
use crate::docker::volumes::{Filters, list, shape, size};
use coracle_protocol::local::{Answer, Request as Ask, Verdict, VolumeAction, VolumeStatus};
use coracle_protocol::names::VolumeName;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bytes of a body that describes a volume.
const DESCRIPTION: usize = 64 << 10;
/// Bytes of a piece of a tar.
const PIECE: usize = 32 << 10;
/// Without a piece for so long the other side counts as gone.
const SILENCE: Duration = Duration::from_secs(60);
/// For the verdict on a restore, which comes when everything is on the disk.
const VERDICT: Duration = Duration::from_secs(15 * 60);
/// Bytes of a verdict.
const WORDS: u64 = 64 << 10;

/// `POST /volumes/create`, with what Docker's client sends beside it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Description {
    #[serde(default)]
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    driver_opts: Option<BTreeMap<String, String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    cluster_volume_spec: Option<serde_json::Value>,
}

/// Answers a path below `/volumes`.
pub async fn route(
    api: &Api,
    peer: Peer,
    parts: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    match (request.method().as_str(), parts) {
        ("GET", []) => {
            let filters = filters(query)?;
            let all = all(api, peer).await?;
            Ok(json(&list(all.iter().filter(|v| filters.accept(v)))))
        }
        ("GET", [name]) => Ok(json(&shape(&one(api, peer, name).await?))),
        ("POST", ["create"]) => create(api, peer, query, request).await,
        ("POST", ["prune"]) => prune(api, peer, query).await,
        ("DELETE", [name]) => {
            let name = named(name)?;
            audit(peer, "remove", name.as_str());
            match ask(api, peer, VolumeAction::Remove { name }).await {
                Err(fault) if fault.status == StatusCode::NOT_FOUND && query.is_set("force") => {}
                other => drop(other?),
            }
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Fault::not_found("no such path below /volumes")),
    }
}

/// Answers a path below `/coracle/v1/volumes`.
pub async fn own(
    api: &Api,
    peer: Peer,
    parts: &[&str],
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    match (request.method().as_str(), parts) {
        ("GET", []) => Ok(json(&all(api, peer).await?)),
        ("GET", [name, "backup"]) => {
            let name = named(name)?;
            audit(peer, "backup", name.as_str());
            backup(
                api,
                transfer(api, peer, VolumeAction::Backup { name }).await?,
            )
        }
        ("PUT", [name, "restore"]) => {
            let name = named(name)?;
            audit(peer, "restore", name.as_str());
            let to = transfer(api, peer, VolumeAction::Restore { name }).await?;
            restore(to, request).await
        }
        _ => Err(Fault::not_found("no such path below /coracle/v1/volumes")),
    }
}

fn audit(peer: Peer, what: &str, volume: &str) {
    tracing::info!(target: "audit", uid = peer.uid, gid = peer.gid, pid = peer.pid, what, volume, "volume");
}

fn named(name: &str) -> Result<VolumeName, Fault> {
    VolumeName::new(name).map_err(|error| Fault::bad(error.to_string()))
}

fn filters(query: &Query) -> Result<Filters, Fault> {
    Filters::parse(query.get("filters").unwrap_or_default()).map_err(Fault::bad)
}

async fn ask(api: &Api, peer: Peer, action: VolumeAction) -> Result<Vec<VolumeStatus>, Fault> {
    let uid = peer.uid;
    match api.supervisor.ask(Ask::Volume { action, uid }).await? {
        Answer::Volumes { volumes } => Ok(volumes),
        other => Err(fault(other)),
    }
}

/// As Docker's engine answers where it has the same case.
fn fault(answer: Answer) -> Fault {
    let mut fault = of_answer(answer);
    fault.status = match fault.code.as_deref() {
        Some("no-volume") => StatusCode::NOT_FOUND,
        Some("volume-exists" | "volume-in-use" | "busy") => StatusCode::CONFLICT,
        Some("not-owner" | "not-allowed") => StatusCode::FORBIDDEN,
        Some("bad-size" | "bad-tar" | "kernel-lacks") => StatusCode::BAD_REQUEST,
        Some("no-space" | "too-many") => StatusCode::INSUFFICIENT_STORAGE,
        _ => fault.status,
    };
    fault
}

async fn all(api: &Api, peer: Peer) -> Result<Vec<VolumeStatus>, Fault> {
    ask(api, peer, VolumeAction::List).await
}

async fn one(api: &Api, peer: Peer, name: &str) -> Result<VolumeStatus, Fault> {
    let found = all(api, peer).await?.into_iter();
    let mut found = found.filter(|volume| volume.name.as_str() == name);
    found
        .next()
        .ok_or_else(|| Fault::not_found(format!("get {name}: no such volume")))
}

/// Docker's engine answers with the volume that is there already; with `?new=1` that is an error.
async fn create(
    api: &Api,
    peer: Peer,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let body = read_body(request, DESCRIPTION).await?;
    let wanted: Description = serde_json::from_slice(&body)
        .map_err(|error| Fault::bad(format!("the body cannot be read: {error}")))?;
    if wanted.name.is_empty() {
        return Err(Fault::bad("a volume needs a name here"));
    }
    if !["", "local"].contains(&wanted.driver.as_str()) || wanted.cluster_volume_spec.is_some() {
        let driver = &wanted.driver;
        return Err(Fault::not_found(format!(
            "driver `{driver}` is not there; only `local` is"
        )));
    }
    if wanted.labels.is_some_and(|labels| !labels.is_empty()) {
        return Err(Fault::bad("volumes have no labels here"));
    }
    let name = named(&wanted.name)?;
    let (mut size_bytes, mut inodes) = (None, None);
    for (key, value) in wanted.driver_opts.unwrap_or_default() {
        let bad = || Fault::bad(format!("option `{key}`: `{value}` is no number"));
        match key.as_str() {
            "size" => size_bytes = Some(size(&value).ok_or_else(bad)?),
            "inodes" => inodes = Some(value.parse().map_err(|_| bad())?),
            _ => {
                return Err(Fault::bad(format!(
                    "option `{key}` is not known: size, inodes"
                )));
            }
        }
    }
    audit(peer, "create", name.as_str());
    let action = VolumeAction::Create {
        name: name.clone(),
        size_bytes,
        inodes,
    };
    let made = match ask(api, peer, action).await {
        Err(fault) if fault.code.as_deref() == Some("volume-exists") && !query.is_set("new") => {
            one(api, peer, name.as_str()).await?
        }
        other => other?
            .pop()
            .ok_or_else(|| Fault::new(StatusCode::BAD_GATEWAY, "no volume in the answer"))?,
    };
    let mut reply = json(&shape(&made));
    *reply.status_mut() = StatusCode::CREATED;
    Ok(reply)
}

async fn prune(api: &Api, peer: Peer, query: &Query) -> Result<Reply, Fault> {
    let gone = match filters(query)?.wants_all() {
        true => {
            audit(peer, "prune", "");
            ask(api, peer, VolumeAction::Prune).await?
        }
        false => Vec::new(),
    };
    let names: Vec<&str> = gone.iter().map(|volume| volume.name.as_str()).collect();
    // An image gives back all of itself, a folder what was in it.
    let bytes = |volume: &VolumeStatus| match volume.means.as_deref() {
        Some("image") => volume.held_bytes,
        _ => volume.used.bytes,
    };
    let reclaimed: u64 = gone.iter().map(bytes).sum();
    Ok(json(&serde_json::json!({
        "VolumesDeleted": names,
        "SpaceReclaimed": reclaimed,
    })))
}

/// The supervisor's socket for the bytes.
async fn transfer(api: &Api, peer: Peer, action: VolumeAction) -> Result<UnixStream, Fault> {
    let uid = peer.uid;
    match api.supervisor.ask(Ask::Volume { action, uid }).await? {
        Answer::Transfer { socket } => UnixStream::connect(&socket)
            .await
            .map_err(|error| Fault::new(StatusCode::BAD_GATEWAY, format!("{socket}: {error}"))),
        other => Err(fault(other)),
    }
}

fn backup(api: &Api, mut from: UnixStream) -> Result<Reply, Fault> {
    let (pieces, body) = Body::stream();
    let mut shutdown = api.shutdown.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = tokio::select! {
                read = tokio::time::timeout(SILENCE, from.read(&mut buffer)) => match read {
                    Ok(Ok(count)) if count > 0 => count,
                    // A tar that broke off lacks its end, by which the reader knows.
                    _ => return,
                },
                _ = shutdown.changed() => return,
            };
            let piece = bytes::Bytes::copy_from_slice(&buffer[..count]);
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    Ok(typed("application/x-tar", body))
}

async fn restore(mut to: UnixStream, request: Request<Incoming>) -> Result<Reply, Fault> {
    let mut body = request.into_body();
    let gone = |why: &dyn std::fmt::Display| Fault::bad(format!("the tar did not come: {why}"));
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame())
        .await
        .map_err(|_| gone(&"too slow"))?
    {
        let frame = frame.map_err(|error| gone(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let written = tokio::time::timeout(SILENCE, to.write_all(data)).await;
        if !matches!(written, Ok(Ok(()))) {
            // It has had enough, and says why.
            break;
        }
    }
    // A body that broke off must not look like one that ended; only here it did.
    let _ = to.shutdown().await;
    let mut words = Vec::new();
    let mut bounded = to.take(WORDS);
    let read = tokio::time::timeout(VERDICT, bounded.read_to_end(&mut words)).await;
    let verdict = match read {
        Ok(Ok(_)) => serde_json::from_slice(&words).ok(),
        _ => None,
    };
    match verdict {
        Some(Verdict::Done) => Ok(empty(StatusCode::NO_CONTENT)),
        Some(Verdict::Failed { code, reason }) => Err(fault(Answer::Failed { code, reason })),
        None => Err(Fault::new(
            StatusCode::BAD_GATEWAY,
            "the supervisor did not say how the restore ended; `coracle volume inspect` shows what is there",
        )),
    }
}
