//! REST for operators and programs, `/api/v1`. Every answer is JSON; a refusal is
//! `{"error", "hint"}`. `Authorization: Bearer TOKEN`.
//!
//! | method and path | answer |
//! |---|---|
//! | `POST /enrolments` `{board, hours?}` | an `EnrolmentFile` |
//! | `GET /fleet` | the `FleetFile` for boards with a manufacturing certificate |
//! | `GET /boards`, `GET /boards/<id>` | presence, `current`, last `feedback`, `assignment` |
//! | `GET /boards/<id>/certificates` | serial numbers, ends, last uses; the newest first |
//! | `POST /boards/<id>/revocation` `{reason?}` | its certificates are taken back; `{certificates}` |
//! | `GET /crl` | the list of revoked certificates, PEM |
//! | `POST /boards/<id>/secrets` (sealed) | kept; the next deployment brings it |
//! | `GET /boards/<id>/secrets` | `[{app, name, key}]`, never a value |
//! | `POST /boards/<id>/commands` `{restart: {app}}`, `{logs: {app, tail}}` or `{action: {app, name}}` | signed and sent to a board that is online; `{id, state}` |
//! | the same with an envelope | a command that was signed elsewhere, of role `reset` too; sent as it is |
//! | `GET /boards/<id>/commands`, `GET /boards/<id>/commands/<id>` | `waiting`, `done`, `failed`, `unanswered`; code and text |
//! | `POST /releases` (envelope) | `{digest, product, version}` |
//! | `GET /releases`, `GET /releases/<digest>` | releases, newest first, with how many of their deltas are made; one with its document |
//! | `POST /deployments` `{release, boards, expires_in_seconds?}` | `{id, boards: [{board, activity, seq, deltas}]}` |
//! | `GET /deployments`, `GET /deployments/<id>` | `state`; each board's phase, reason, bytes, `standing` |
//! | `POST /deployments/<id>/pause`, `…/resume` | boards that were not sent to are held, or no more; the deployment |
//! | `POST /deployments/<id>/cancel` | taken back where it has not switched; the deployment, with what became of it on each board; 503 as long as the key cannot sign all of it |
//! | `POST /roots` (envelope) | `{version}`; every board is told |
//! | `GET /audit` | who changed what |
//! | `GET /status` | the console itself |

mod boards;
mod certificates;
mod commands;
mod deployments;
mod releases;
mod roots;
mod secrets;
mod views;

pub use boards::new_enrolment;
pub use certificates::revoke_board;
pub use commands::command_state;
pub use deployments::{Change, change_deployment, deploy, standings, state};
pub use releases::{AddError, add_release};
pub use views::{assignment_view, board_view};

use crate::access;
use crate::blobs::Blobs;
use crate::deltas::Deltas;
use crate::deploy::Deployer;
use crate::link::Link;
use crate::live::Live;
use crate::problem::Problem;
use crate::revocation::Revocations;
use crate::roots::Roots;
use crate::store::{Identity, Store};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::topics::Separator;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Where boards reach this console: what an enrolment file says.
#[derive(Debug, Clone)]
pub struct Advertised {
    /// `https://host:port` of the boards' port.
    pub console_url: String,
    /// `host:port` of the broker.
    pub mqtt: String,
    /// PEM.
    pub ca_pem: String,
    /// How boards' topics are written.
    pub topic_separator: Separator,
}

/// What the routes work on.
#[derive(Clone)]
pub struct Rest {
    /// The truth.
    pub store: Store,
    /// Whether a release's blobs are here.
    pub blobs: Blobs,
    /// Makes deployments.
    pub deployer: Deployer,
    /// Told of new releases.
    pub deltas: Deltas,
    /// Takes root documents.
    pub roots: Roots,
    /// What was taken back.
    pub revocations: Revocations,
    /// Told of changes.
    pub live: Live,
    /// For `/status`.
    pub link: Link,
    /// For enrolment files.
    pub advertised: Arc<Advertised>,
}

/// The routes.
pub fn router(rest: Rest) -> Router {
    let guard = middleware::from_fn_with_state(rest.store.clone(), guard);
    Router::new()
        .route("/enrolments", post(boards::enrol))
        .route("/fleet", get(boards::fleet))
        .route("/boards", get(boards::list))
        .route("/boards/{id}", get(boards::one))
        .route(
            "/boards/{id}/secrets",
            get(secrets::list).post(secrets::set),
        )
        .route("/boards/{id}/certificates", get(certificates::list))
        .route("/boards/{id}/revocation", post(certificates::revoke))
        .route(
            "/boards/{id}/commands",
            get(commands::list).post(commands::send),
        )
        .route("/boards/{id}/commands/{command}", get(commands::one))
        .route("/crl", get(certificates::crl))
        .route("/releases", get(releases::list).post(releases::add))
        .route("/releases/{digest}", get(releases::one))
        .route(
            "/deployments",
            get(deployments::list).post(deployments::add),
        )
        .route("/deployments/{id}", get(deployments::one))
        .route("/deployments/{id}/{change}", post(deployments::change))
        .route("/roots", post(roots::add))
        .route("/audit", get(audit))
        .route("/status", get(status))
        .fallback(|| async { Problem::missing("no such path", "GET /api/v1/boards is one") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "this path does not do that",
                "GET reads, POST adds; nothing is changed or deleted in place",
            )
        })
        .layer(guard)
        .layer(DefaultBodyLimit::max(LIMITS.envelope_bytes))
        .with_state(rest)
}

async fn guard(State(store): State<Store>, mut request: Request, next: Next) -> Response {
    match access::check(&store, request.headers(), request.method()).await {
        Ok(who) => {
            request.extensions_mut().insert::<Identity>(who);
            next.run(request).await
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Reads a JSON body; the refusal says where it is wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad(
            format!("the body cannot be read: {error}"),
            "send JSON with the fields that the documentation names",
        )
    })
}

/// How many rows a listing gives.
#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<u32>,
}

impl Page {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1000)
    }
}

async fn audit(State(rest): State<Rest>, Query(page): Query<Page>) -> Result<Response, Problem> {
    Ok(Json(rest.store.audit(page.limit()).await?).into_response())
}

async fn status(State(rest): State<Rest>) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "broker_connected": rest.link.is_up(),
        "mqtt": rest.advertised.mqtt,
        "console_url": rest.advertised.console_url,
    }))
}
