//! Pages for people: rendered here, refreshed by themselves, nothing fetched from elsewhere.
//!
//! | file | what it holds |
//! |---|---|
//! | `session` | sign-in by API token, cookie, who asks |
//! | `layout` | the frame of every page, small parts, words and numbers for people |
//! | `boards`, `board_use`, `certificates`, `deployments`, `journal` | the pages |
//! | `events` | tells open pages that something changed |
//! | `style.css`, `app.js` | the only assets |

mod board_use;
mod boards;
mod certificates;
mod commands;
mod deployments;
mod events;
mod journal;
mod layout;
mod session;

use crate::problem::Problem;
use crate::rest::Rest;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use session::Sessions;
use tokio_util::sync::CancellationToken;

/// A form, in bytes: a thousand boards fit.
const FORM_BYTES: usize = 128 * 1024;

/// What the pages work on.
#[derive(Clone)]
pub struct Web {
    rest: Rest,
    sessions: Sessions,
    stop: CancellationToken,
}

impl Web {
    /// Pages over what REST works on; open pages are let go at `stop`.
    pub fn new(rest: Rest, stop: CancellationToken) -> Self {
        Self {
            rest,
            sessions: Sessions::default(),
            stop,
        }
    }
}

/// The pages.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(boards::list))
        .route("/boards/{id}", get(boards::one))
        .route("/boards/{id}/revoke", post(certificates::revoke))
        .route("/enrol", post(boards::enrol))
        .route(
            "/deployments",
            get(deployments::list).post(deployments::add),
        )
        .route("/deployments/{id}", get(deployments::one))
        .route("/deployments/{id}/{change}", post(deployments::change))
        .route("/audit", get(journal::page))
        .route("/events", get(events::stream))
        .route("/sign-in", get(session::form).post(session::sign_in))
        .route("/sign-out", post(session::sign_out))
        .route("/healthz", get(|| async { "ok\n" }))
        // Browsers ask for it unasked.
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .route("/style.css", get(|| async { asset("text/css", STYLE) }))
        .route(
            "/app.js",
            get(|| async { asset("text/javascript", SCRIPT) }),
        )
        .fallback(|| async { Problem::missing("no such page", "the pages begin at /") })
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(middleware::from_fn(session::same_origin))
        .layer(middleware::from_fn(safe_headers))
        .with_state(web)
}

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("app.js");

fn asset(kind: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
        .into_response()
}

/// Nothing runs or loads that is not ours; no other site may show a page in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

async fn safe_headers(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A page that could not be shown.
struct PageError(Problem);

impl<T: Into<Problem>> From<T> for PageError {
    fn from(error: T) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let page = layout::problem(&self.0);
        (self.0.status(), page).into_response()
    }
}

type Page = Result<Response, PageError>;

fn see_other(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}
