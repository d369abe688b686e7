//! `/coracle/v1`: what Docker has no word for.

use super::reply::{Fault, Reply, json, of_answer, typed};
use super::router::read_body;
use super::{Api, Body, Peer, enrol};
use crate::blobs;
use crate::deployment::{Command, Outcome, is_end};
use crate::link::LinkState;
use crate::metrics;
use crate::own_program;
use crate::renewal::CertificateState;
use crate::roots::{self, RootsError};
use bytes::Bytes;
use coracle_protocol::Sha256Digest;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{self, Answer, Needs, Status};
use coracle_protocol::release::Blob;
use coracle_protocol::report::{BoardUse, Feedback, OwnProgram};
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::verify::{Refusal, VerifiedDeploy};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast::error::RecvError, oneshot};

/// Longest enrolment file, in bytes.
const ENROLMENT: usize = 64 * 1024;
/// So old may metrics be: a look asks root's one thread and the board's sensors, however many ask for it.
const METRICS: Duration = Duration::from_secs(1);
/// Between two pieces of a blob that is PUT.
const PIECE: Duration = Duration::from_secs(60);

/// `GET /coracle/v1/status`.
#[derive(Serialize)]
struct FullStatus {
    #[serde(flatten)]
    status: Option<Status>,
    link: LinkState,
    /// What the console said of the board's certificate.
    certificate: CertificateState,
    daemon: &'static str,
    daemon_program: OwnProgram,
    supervisor_up: bool,
    /// What the board itself uses.
    board_use: BoardUse,
    /// What was last said of a deployment since the daemon started, refusals included.
    last_deployment: Option<Feedback>,
}

/// `POST /coracle/v1/offer`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferBody {
    deploy: Envelope,
    release: Envelope,
}

/// `POST /coracle/v1/stick/result`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultBody {
    deploy: Envelope,
}

/// `POST /coracle/v1/root`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootBody {
    root: Envelope,
}

/// `POST /coracle/v1/apply`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyBody {
    activity: String,
}

/// `POST /coracle/v1/accept`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    deployment: Sha256Digest,
}

/// Answers a path below `/coracle/v1`.
pub async fn route(
    api: &Api,
    peer: Peer,
    parts: &[&str],
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    match (request.method().as_str(), parts) {
        ("GET", ["status"]) => Ok(json(&status(api).await)),
        ("GET", ["metrics"]) => {
            let mut last = api.metrics.lock().await;
            if last.0.is_none_or(|at| at.elapsed() >= METRICS) {
                let status = api.supervisor.status().await.ok();
                let link = api.link.borrow().clone();
                let board = api.places.look(status.as_ref()).await;
                let text = metrics::text(&api.counters, &link, &board, status.as_ref());
                *last = (Some(Instant::now()), text.into());
            }
            Ok(typed(
                "text/plain; version=0.0.4",
                Body::whole(last.1.clone()),
            ))
        }
        ("POST", ["enrol"]) => {
            audit(peer, "enrol", "");
            let file = parse(&read_body(request, ENROLMENT).await?)?;
            enrol::enrol(api, &file).await
        }
        ("POST", ["offer"]) => {
            audit(peer, "offer", "");
            let body = read_body(request, 2 * LIMITS.envelope_bytes).await?;
            offer(api, parse(&body)?).await
        }
        ("POST", ["root"]) => {
            audit(peer, "root", "");
            let body: RootBody = parse(&read_body(request, LIMITS.envelope_bytes + 64).await?)?;
            root(api, body.root).await
        }
        ("POST", ["stick", "result"]) => {
            let limit = LIMITS.envelope_bytes + 64;
            let body: ResultBody = parse(&read_body(request, limit).await?)?;
            result_wanted(api, &body.deploy).await
        }
        ("PUT", ["blobs", "sha256", hex]) => {
            let digest = Sha256Digest::from_hex(hex).map_err(|e| Fault::bad(e.to_string()))?;
            put(api, digest, request).await
        }
        ("POST", ["apply"]) => {
            let body: ApplyBody = parse(&read_body(request, 4096).await?)?;
            audit(peer, "apply", &body.activity);
            apply(api, body.activity).await
        }
        ("POST", ["accept"]) => {
            let body: AcceptBody = parse(&read_body(request, 4096).await?)?;
            audit(peer, "accept", &body.deployment.to_string());
            let accept = local::Request::Accept {
                deployment: body.deployment,
                uid: peer.uid,
            };
            match api.supervisor.ask(accept).await? {
                Answer::Done => Ok(super::reply::empty(StatusCode::NO_CONTENT)),
                other => Err(of_answer(other)),
            }
        }
        _ => Err(Fault::not_found("no such path below /coracle/v1")),
    }
}

pub(super) fn audit(peer: Peer, what: &str, about: &str) {
    tracing::info!(target: "audit", uid = peer.uid, gid = peer.gid, pid = peer.pid, what, about, "local request");
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|e| Fault::bad(format!("the body cannot be read: {e}")))
}

async fn status(api: &Api) -> FullStatus {
    let status = api.supervisor.status().await.ok();
    FullStatus {
        supervisor_up: status.is_some(),
        board_use: api.places.look(status.as_ref()).await,
        daemon_program: own_program::own(status.as_ref().and_then(|s| s.program.as_ref())),
        status,
        link: api.link.borrow().clone(),
        certificate: api.certificate.borrow().clone(),
        daemon: env!("CARGO_PKG_VERSION"),
        last_deployment: api.last.borrow().clone(),
    }
}

async fn offer(api: &Api, body: OfferBody) -> Result<Reply, Fault> {
    let documents = Box::new((body.deploy, body.release));
    let (answer, end) = oneshot::channel();
    send(api, Command::Offer { documents, answer })?;
    Ok(json(&end.await.map_err(|_| ending())??))
}

/// A root document from a stick.
async fn root(api: &Api, root: Envelope) -> Result<Reply, Fault> {
    let version = TrustedRoot::version_unverified(&root).map_err(|e| Fault::bad(e.to_string()))?;
    match roots::give(&api.supervisor, version, root).await {
        Ok(()) => Ok(super::reply::empty(StatusCode::NO_CONTENT)),
        Err(RootsError::Refused { code, reason, .. }) => {
            Err(Outcome::refused(&code, reason).into())
        }
        Err(error) => Err(Outcome::failed("supervisor", error.to_string()).into()),
    }
}

/// Whether a stick's assignment, signed by its role, asks that what became of it is left on the stick. Who signed it is
/// all that counts: for another board, or too old, it may still ask.
async fn result_wanted(api: &Api, deploy: &Envelope) -> Result<Reply, Fault> {
    let refused = |refusal: Refusal| Outcome::refused(refusal.code(), refusal.to_string());
    let root = roots::trusted(&api.supervisor).await?.root;
    let root =
        TrustedRoot::from_image(&root).map_err(|e| Outcome::refused("no-root", e.to_string()))?;
    let deploy = VerifiedDeploy::open(deploy, &root).map_err(refused)?;
    match deploy.document().result {
        true => Ok(super::reply::empty(StatusCode::NO_CONTENT)),
        false => Err(Outcome::refused("not-asked", "the assignment asks for no result").into()),
    }
}

async fn apply(api: &Api, activity: String) -> Result<Reply, Fault> {
    let mut heard = api.heard.subscribe();
    let (answer, end) = oneshot::channel();
    let command = Command::Apply {
        activity: activity.clone(),
        answer,
    };
    send(api, command)?;
    end.await.map_err(|_| ending())??;
    let (pieces, body) = Body::stream();
    tokio::spawn(async move {
        loop {
            let feedback = match heard.recv().await {
                Ok(feedback) if feedback.activity == activity => feedback,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let mut line = serde_json::to_vec(&feedback).unwrap_or_default();
            line.push(b'\n');
            // Whoever asked may go away; the deployment goes on.
            if pieces.send(line.into()).await.is_err() || is_end(&feedback, &activity) {
                return;
            }
        }
    });
    Ok(typed("application/x-ndjson", body))
}

pub(super) fn send(api: &Api, command: Command) -> Result<(), Fault> {
    let busy = "too many offers wait already";
    api.commands
        .try_send(command)
        .map_err(|_| Fault::new(StatusCode::SERVICE_UNAVAILABLE, busy))
}

pub(super) fn ending() -> Fault {
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "coracled is ending")
}

/// The blob of that digest among what the open offer needs.
fn needed(needs: &Needs, digest: Sha256Digest) -> Option<Blob> {
    let layers = needs.layers.iter();
    let layers = layers.flat_map(|l| std::iter::once(&l.full).chain(&l.deltas));
    let mut all = needs.configs.iter().chain(layers);
    all.find(|blob| blob.digest == digest).copied()
}

/// Takes a blob, when the open offer needs it: the disk cannot be filled with anything else.
async fn put(api: &Api, digest: Sha256Digest, request: Request<Incoming>) -> Result<Reply, Fault> {
    let blob = api
        .offered
        .borrow()
        .as_ref()
        .and_then(|needs| needed(needs, digest))
        .ok_or_else(|| Fault::not_found("no open offer needs this blob"))?;
    if api.blobs.has(&blob) {
        return Ok(super::reply::empty(StatusCode::NO_CONTENT));
    }
    let fault = |e: blobs::BlobError| {
        let status = match e.is_about_bytes() {
            true => StatusCode::BAD_REQUEST,
            false => StatusCode::INSUFFICIENT_STORAGE,
        };
        let code = Some(e.code().to_owned());
        let message = e.to_string();
        Fault {
            status,
            code,
            message,
        }
    };
    let mut download = api.blobs.download(blob).await.map_err(fault)?;
    download.restart().map_err(|e| fault(e.into()))?;
    let mut body = request.into_body();
    let broken = |why: &dyn std::fmt::Display| Fault::bad(format!("the blob did not come: {why}"));
    while let Some(frame) = tokio::time::timeout(PIECE, body.frame())
        .await
        .map_err(|_| broken(&"too slow"))?
    {
        if let Some(data) = frame.map_err(|e| broken(&e))?.data_ref() {
            download.write(data).map_err(|e| fault(e.into()))?;
        }
    }
    blobs::finish(download).await.map_err(fault)?;
    Ok(super::reply::empty(StatusCode::CREATED))
}
