//! `/roots`.

use super::Rest;
use crate::audit;
use crate::problem::Problem;
use crate::roots::RootsError;
use crate::store::Identity;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use coracle_protocol::dsse::Envelope;
use serde_json::{Value, json};

/// Takes the next root document.
pub(super) async fn add(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let envelope = Envelope::parse(&body).map_err(|e| {
        Problem::bad(
            e.to_string(),
            "send the file that `coracle-release trust sign` completes",
        )
    })?;
    let version = rest.roots.add(&envelope).await.map_err(|error| match error {
        RootsError::Refused(_) | RootsError::Gap { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            error.to_string(),
            "bring the versions one by one, each signed by enough root keys of the one before it and of its own",
        ),
        RootsError::Store(error) => Problem::inside(error),
    })?;
    let name = version.to_string();
    audit::note(&rest.store, &who.name, "root.add", &name, "").await;
    Ok(Json(json!({ "version": version })))
}
