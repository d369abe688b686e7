//! Refusals as JSON: `{"error": what is wrong, "hint": what to do about it}`.

use crate::access::AccessError;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A refusal.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    error: String,
    hint: String,
}

impl Problem {
    /// A refusal with a status, what is wrong and what to do.
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            hint: hint.into(),
        }
    }
    /// 400.
    pub fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }
    /// 404.
    pub fn missing(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, hint)
    }
    /// 500: logged here, since the other side cannot do anything about it.
    pub fn inside(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the console could not do this",
            "its log says why",
        )
    }
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
    /// What is wrong.
    pub fn error(&self) -> &str {
        &self.error
    }
    /// What to do.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::inside(error)
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Unknown => Self::new(
                StatusCode::UNAUTHORIZED,
                error.to_string(),
                "send `Authorization: Bearer TOKEN`; the first token is in STATE/admin.token, \
                 `coracle-console token new` makes more",
            ),
            AccessError::ReadOnly => Self::new(
                StatusCode::FORBIDDEN,
                error.to_string(),
                "use a token made without --read-only",
            ),
            AccessError::Store(error) => Self::inside(error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
