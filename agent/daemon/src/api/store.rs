//! `/coracle/v1/store`: what the board keeps of layers and blobs is read again, and mended.

use super::own::{audit, ending, parse, send};
use super::reply::{Fault, Reply, empty, json, of_answer};
use super::router::read_body;
use super::{Api, Peer};
use crate::deployment::Command;
use coracle_protocol::Sha256Digest;
use coracle_protocol::local::{self, Answer, StoreAction, StoreKind};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::oneshot;

/// `POST /coracle/v1/store/mend`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MendBody {
    kind: StoreKind,
    digest: Sha256Digest,
}

/// Answers a path below `/coracle/v1/store`.
pub async fn route(
    api: &Api,
    peer: Peer,
    parts: &[&str],
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    match (request.method().as_str(), parts) {
        ("GET", ["check"]) => match ask(api, StoreAction::Look).await? {
            Answer::Store(said) => Ok(json(&said)),
            other => Err(of_answer(other)),
        },
        ("POST", ["check"]) => {
            audit(peer, "store check", "");
            match ask(api, StoreAction::Check).await? {
                Answer::Done => Ok(empty(StatusCode::NO_CONTENT)),
                other => Err(of_answer(other)),
            }
        }
        ("POST", ["mend"]) => {
            let MendBody { kind, digest } = parse(&read_body(request, 4096).await?)?;
            audit(peer, "store mend", &digest.to_string());
            let (answer, end) = oneshot::channel();
            let command = Command::Mend {
                kind,
                digest,
                answer,
            };
            send(api, command)?;
            end.await.map_err(|_| ending())??;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Fault::not_found("no such path below /coracle/v1/store")),
    }
}

async fn ask(api: &Api, action: StoreAction) -> Result<Answer, Fault> {
    Ok(api.supervisor.ask(local::Request::Store { action }).await?)
}
