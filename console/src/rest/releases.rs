//! `/releases`: a release counts once its signatures do, and every blob that it names is here.

use super::{Page, Rest};
use crate::audit;
use crate::blobs::Blobs;
use crate::clock::now;
use crate::live::Change;
use crate::problem::Problem;
use crate::store::{Identity, ReleaseRow, Store, StoreError};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use coracle_digest::Sha256Digest;
use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::release::{Layer, SignedRelease};
use coracle_protocol::root::TrustedRoot;
use coracle_protocol::verify::{Refusal, VerifiedRelease};
use serde_json::{Value, json};

/// Why a release was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// Signatures, limits, epoch.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Blobs that are not in the registry, or have another size.
    #[error("these blobs are not in the registry: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks and stores a release; what it says.
pub async fn add_release(
    store: &Store,
    blobs: &Blobs,
    root: &TrustedRoot,
    envelope_json: &[u8],
    actor: &str,
) -> Result<VerifiedRelease, AddError> {
    let envelope = Envelope::parse(envelope_json)?;
    let release = VerifiedRelease::open(&envelope, root)?;
    let missing = missing(blobs, release.document());
    if !missing.is_empty() {
        return Err(AddError::Missing(missing));
    }
    let document = release.document();
    let layers: Vec<&Layer> = document.layers().collect();
    let row = ReleaseRow {
        digest: release.digest(),
        product: document.product.to_string(),
        version: document.version.clone(),
        envelope,
        created_at: now(),
        created_by: actor.to_owned(),
    };
    if store.add_release(&row, &layers).await? {
        let detail = format!("{} {}", row.product, row.version);
        audit::note(
            store,
            actor,
            "release.add",
            &row.digest.to_string(),
            &detail,
        )
        .await;
    }
    Ok(release)
}

fn missing(blobs: &Blobs, release: &SignedRelease) -> Vec<String> {
    let mut found = Vec::new();
    let apps = release.apps.iter();
    let of_apps = apps.map(|app| (format!("app `{}`", app.name), &app.image));
    let agent = release.agent.iter();
    let of_agent = agent.map(|agent| ("the agent".to_owned(), &agent.image));
    for (whose, image) in of_apps.chain(of_agent) {
        let layers = image.layers.iter().map(|l| ("layer", l.digest, l.size));
        let others = [
            ("manifest", image.manifest.digest, image.manifest.size),
            ("config", image.config.digest, image.config.size),
        ];
        for (what, digest, size) in others.into_iter().chain(layers) {
            let fault = match blobs.size(&digest) {
                Some(have) if have == size => continue,
                Some(have) => format!("{have} bytes instead of {size}"),
                None => "missing".into(),
            };
            found.push(format!("{what} {digest} of {whose}: {fault}"));
        }
    }
    found.truncate(10);
    found
}

pub(super) async fn add(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let root = rest.deployer.signer.root();
    let release = add_release(&rest.store, &rest.blobs, &root, &body, &who.name)
        .await
        .map_err(refused)?;
    let document = release.document();
    rest.live.tell(Change::Fleet);
    rest.deltas.prepare(release.digest(), document.clone());
    Ok(Json(json!({
        "digest": release.digest(),
        "product": document.product,
        "version": document.version,
    })))
}

fn refused(error: AddError) -> Problem {
    let text = error.to_string();
    match error {
        AddError::Envelope(_) => Problem::bad(
            text,
            "send the release.json that `coracle-release release create` writes",
        ),
        AddError::Refused(refusal) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{text} ({})", refusal.code()),
            "sign it with a key that the root document names for role `release`",
        ),
        AddError::Missing(_) => Problem::new(
            StatusCode::CONFLICT,
            text,
            "push the images first: `coracle-release push` does both",
        ),
        AddError::Store(error) => Problem::inside(error),
    }
}

/// `deltas`: how far those are that boards will need; `null` once the console was started anew.
fn view(rest: &Rest, row: &ReleaseRow) -> Value {
    json!({
        "digest": row.digest,
        "product": row.product,
        "version": row.version,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "deltas": rest.deltas.progress(&row.digest),
    })
}

pub(super) async fn list(
    State(rest): State<Rest>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<Value>>, Problem> {
    let rows = rest.store.releases(page.limit()).await?;
    Ok(Json(rows.iter().map(|row| view(&rest, row)).collect()))
}

pub(super) async fn one(
    State(rest): State<Rest>,
    Path(digest): Path<String>,
) -> Result<Json<Value>, Problem> {
    let digest: Sha256Digest = digest
        .parse()
        .map_err(|e| Problem::bad(format!("{e}"), "ask for /releases/sha256:…"))?;
    let row = rest.store.release(&digest).await?.ok_or_else(|| {
        Problem::missing(
            format!("release {digest} is not known"),
            "GET /api/v1/releases lists them",
        )
    })?;
    let mut value = view(&rest, &row);
    let payload = row.envelope.payload_unverified().unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        let document: Value = serde_json::from_slice(&payload).unwrap_or_default();
        map.insert("document".into(), document);
        map.insert("envelope".into(), json!(row.envelope));
    }
    Ok(Json(value))
}
