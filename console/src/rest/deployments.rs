//! `/deployments`.

use super::{Page, Rest, assignment_view, parse};
use crate::audit;
use crate::deploy::{DeployError, EXPIRES_IN, Order, Ordered, Standing};
use crate::problem::Problem;
use crate::store::{Assignment, Deployment, Identity, Store, StoreError};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use coracle_digest::Sha256Digest;
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::site::Settings;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The longest that an assignment is good, in seconds: 20 years.
const MOST_EXPIRES_IN: u64 = 20 * 366 * 24 * 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDeployment {
    release: Sha256Digest,
    boards: BTreeSet<BoardId>,
    expires_in_seconds: Option<u64>,
    #[serde(default)]
    site: BTreeMap<AppName, Settings>,
}

pub(super) async fn add(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Result<Json<Ordered>, Problem> {
    let new: NewDeployment = parse(&body)?;
    let expires_in = new.expires_in_seconds.unwrap_or(EXPIRES_IN);
    if !(1..=MOST_EXPIRES_IN).contains(&expires_in) {
        return Err(Problem::bad(
            format!("expires_in_seconds is {expires_in}"),
            format!("between 1 and {MOST_EXPIRES_IN}"),
        ));
    }
    let order = Order {
        release: new.release,
        boards: new.boards,
        expires_in,
        site: new.site,
        actor: who.name.clone(),
    };
    Ok(Json(deploy(&rest, order).await?))
}

/// Makes a deployment and writes it into the audit log.
pub async fn deploy(rest: &Rest, order: Order) -> Result<Ordered, Problem> {
    // In a task of its own: a client that hangs up must not leave half a deployment.
    let deployer = rest.deployer.clone();
    let done = {
        let order = order.clone();
        tokio::spawn(async move { deployer.deploy(&order).await })
    };
    let ordered = done.await.map_err(Problem::inside)?.map_err(refused)?;
    let boards: Vec<&str> = order.boards.iter().map(BoardId::as_str).collect();
    let detail = format!("release {} on {}", order.release, boards.join(", "));
    audit::note(
        &rest.store,
        &order.actor,
        "deployment.create",
        &ordered.id,
        &detail,
    )
    .await;
    Ok(ordered)
}

fn refused(error: DeployError) -> Problem {
    let text = error.to_string();
    match error {
        DeployError::NoBoards | DeployError::TooMany(_) => Problem::bad(
            text,
            "name the boards in `boards`; several deployments reach more",
        ),
        DeployError::UnknownRelease(_) => {
            Problem::missing(text, "POST /api/v1/releases first: `coracle-release push`")
        }
        DeployError::UnknownBoards(_) => Problem::missing(
            text,
            "POST /api/v1/enrolments makes a board known: `coracle-release enrol-file`",
        ),
        DeployError::RevokedBoards(_) => Problem::new(
            StatusCode::CONFLICT,
            text,
            "leave them out, or enrol them again: `coracle-release enrol-file`",
        ),
        DeployError::Refused(refusal) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("boards would refuse this: {text} ({})", refusal.code()),
            "check the release, the deploy key and the root document",
        ),
        DeployError::Site { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            text,
            "set what the release names in site_settable, and its secrets with `coracle-release secret set`",
        ),
        DeployError::NotADeployKey | DeployError::Threshold(_) | DeployError::NoRole => {
            Problem::new(
                StatusCode::CONFLICT,
                text,
                "start the console with a --deploy-key that the root document in force names",
            )
        }
        DeployError::Sign(_)
        | DeployError::Key(_)
        | DeployError::TokenLocked(_)
        | DeployError::AnotherKey(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nothing was deployed: {text}"),
            "see that the deploy key's token is there and opens (`coracle-console check --deploy-key URI`), and deploy again",
        ),
        DeployError::NotAllSigned { .. } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            text,
            "see that the deploy key's token is there and opens (`coracle-console check --deploy-key URI`), and cancel once \
             more: boards with the standing `not-signed` are left",
        ),
        other => Problem::inside(other),
    }
}

/// What may be done about a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Take it back.
    Cancel,
    /// Hold the boards that were not sent to.
    Pause,
    /// Hold them no more.
    Resume,
}

impl Change {
    /// As the path calls it.
    pub fn named(name: &str) -> Result<Self, Problem> {
        match name {
            "cancel" => Ok(Self::Cancel),
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            _ => Err(Problem::missing(
                "no deployment is changed so",
                "cancel, pause and resume are possible",
            )),
        }
    }
}

pub(super) async fn change(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    Path((id, change)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let change = Change::named(&change)?;
    let deployment = change_deployment(&rest, &who.name, &id, change).await?;
    Ok(Json(view(&rest.store, &deployment).await?))
}

/// Changes a deployment and writes it into the audit log; as it is then.
pub async fn change_deployment(
    rest: &Rest,
    actor: &str,
    id: &str,
    change: Change,
) -> Result<Deployment, Problem> {
    let deployment = rest.store.deployment(id).await?.ok_or_else(unknown)?;
    if deployment.cancelled_at.is_some() && change != Change::Cancel {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this deployment was cancelled",
            "deploy the release again: POST /api/v1/deployments",
        ));
    }
    // In a task of its own: a client that hangs up must not leave half of it.
    let deployer = rest.deployer.clone();
    let done = tokio::spawn(async move {
        match change {
            Change::Cancel => deployer.cancel(&deployment).await,
            Change::Pause => deployer.pause(&deployment).await,
            Change::Resume => deployer.resume(&deployment).await,
        }
    });
    let done = done.await.map_err(Problem::inside)?;
    // A cancel holds boards first: what was done of it all the same is to be found later.
    let refusal = done.map_err(refused);
    if change != Change::Cancel
        && let Err(problem) = refusal
    {
        return Err(problem);
    }
    let deployment = rest.store.deployment(id).await?.ok_or_else(unknown)?;
    let standings = standings(&rest.store, &deployment).await?;
    let told: Vec<String> = standings
        .iter()
        .filter_map(|(assignment, standing)| {
            let word = serde_json::to_value(standing.as_ref()?).ok()?;
            let word = word["standing"].as_str()?.to_owned();
            Some(format!("{} {word}", assignment.board))
        })
        .collect();
    let action = match change {
        Change::Cancel => "deployment.cancel",
        Change::Pause => "deployment.pause",
        Change::Resume => "deployment.resume",
    };
    audit::note(&rest.store, actor, action, id, &told.join(", ")).await;
    refusal.map(|()| deployment)
}

fn unknown() -> Problem {
    Problem::missing(
        "this deployment is not known",
        "GET /api/v1/deployments lists them",
    )
}

/// Each board's part of a deployment, by board, and what somebody's holding or taking back made of it.
pub async fn standings(
    store: &Store,
    deployment: &Deployment,
) -> Result<Vec<(Assignment, Option<Standing>)>, StoreError> {
    let by = store.takings_back(&deployment.id).await?;
    let assignments = store.assignments(&deployment.id).await?.into_iter();
    Ok(assignments
        .map(|assignment| {
            let activity = Some(assignment.activity.as_str());
            let by = by.iter().rfind(|by| by.takes_back.as_deref() == activity);
            let standing = Standing::of(deployment, &assignment, by);
            (assignment, standing)
        })
        .collect())
}

pub(super) async fn list(
    State(rest): State<Rest>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<Value>>, Problem> {
    let mut all = Vec::new();
    for deployment in rest.store.deployments(page.limit()).await? {
        all.push(view(&rest.store, &deployment).await?);
    }
    Ok(Json(all))
}

pub(super) async fn one(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let deployment = rest.store.deployment(&id).await?.ok_or_else(unknown)?;
    Ok(Json(view(&rest.store, &deployment).await?))
}

/// `open`, `paused` or `cancelled`.
pub fn state(deployment: &Deployment) -> &'static str {
    match (deployment.cancelled_at, deployment.paused_at) {
        (Some(_), _) => "cancelled",
        (None, Some(_)) => "paused",
        (None, None) => "open",
    }
}

/// `{id, state, release, product, version, created_at, created_by, paused_at, cancelled_at, boards: […]}`; a board that was
/// held or taken back has a `standing`, and where that needs one a `standing_reason`.
async fn view(store: &Store, deployment: &Deployment) -> Result<Value, StoreError> {
    let release = store.release(&deployment.release).await?;
    let board = |(assignment, standing): &(Assignment, Option<Standing>)| {
        let mut view = assignment_view(assignment);
        let standing = serde_json::to_value(standing).unwrap_or_default();
        view["standing"] = standing["standing"].clone();
        view["standing_reason"] = standing["reason"].clone();
        view
    };
    let boards = standings(store, deployment).await?;
    Ok(json!({
        "id": deployment.id,
        "state": state(deployment),
        "release": deployment.release,
        "product": release.as_ref().map(|r| r.product.clone()),
        "version": release.as_ref().map(|r| r.version.clone()),
        "created_at": deployment.created_at,
        "created_by": deployment.created_by,
        "paused_at": deployment.paused_at,
        "cancelled_at": deployment.cancelled_at,
        "boards": boards.iter().map(board).collect::<Vec<_>>(),
    }))
}
