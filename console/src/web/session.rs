//! Sign-in: an API token is exchanged for a random cookie, so that the token is not in the browser.
//! A session ends with its token, after a time, and when the console restarts.

use super::{Page, Web, layout, see_other};
use crate::access::{self, AccessError};
use crate::audit;
use crate::clock::now;
use crate::problem::Problem;
use crate::secrets;
use crate::store::Identity;
use axum::extract::{Form, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const COOKIE: &str = "coracle_session";
/// Seconds: a working day.
const LASTS: u64 = 12 * 3600;
/// Sessions at once; the oldest go first.
const MOST: usize = 1000;

struct Session {
    token: String,
    expires: u64,
}

/// Open sessions, by the hash of their cookie.
#[derive(Clone, Default)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<String, Session>>>,
}

impl Sessions {
    fn begin(&self, token: String) -> Result<String, secrets::NoRandom> {
        let cookie = secrets::random_hex(32)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        open.retain(|_, session| session.expires > now);
        if open.len() >= MOST
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, session)| session.expires)
                .map(|(key, _)| key.clone())
        {
            open.remove(&oldest);
        }
        let expires = now + LASTS;
        open.insert(secrets::hash(&cookie), Session { token, expires });
        Ok(cookie)
    }

    fn token(&self, cookie: &str) -> Option<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(&secrets::hash(cookie))?;
        (session.expires > now()).then(|| session.token.clone())
    }

    fn end(&self, cookie: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&secrets::hash(cookie));
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.to_owned())
}

/// Whoever is signed in. Others are sent to the sign-in page.
pub struct SignedIn(pub Identity);

impl FromRequestParts<Web> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let token = cookie(&parts.headers).and_then(|cookie| web.sessions.token(&cookie));
        let Some(token) = token else {
            return Err(see_other("/sign-in"));
        };
        match access::check_token(&web.rest.store, &token, &parts.method).await {
            Ok(who) => Ok(Self(who)),
            Err(AccessError::Unknown) => Err(see_other("/sign-in")),
            Err(error) => Err(super::PageError::from(Problem::from(error)).into_response()),
        }
    }
}

pub async fn form() -> Response {
    layout::sign_in(None).into_response()
}

#[derive(Deserialize)]
pub struct SignIn {
    token: String,
}

pub async fn sign_in(State(web): State<Web>, Form(form): Form<SignIn>) -> Page {
    let token = form.token.trim();
    // GET: a token that may only look signs in too.
    let who = match access::check_token(&web.rest.store, token, &Method::GET).await {
        Ok(who) => who,
        Err(AccessError::Unknown) => {
            let page = layout::sign_in(Some("This is not a token of this console."));
            return Ok((StatusCode::UNAUTHORIZED, page).into_response());
        }
        Err(error) => return Err(Problem::from(error).into()),
    };
    let cookie = web
        .sessions
        .begin(token.to_owned())
        .map_err(Problem::inside)?;
    audit::note(&web.rest.store, &who.name, "web.sign-in", &who.name, "").await;
    Ok(with_cookie(&cookie, LASTS))
}

pub async fn sign_out(State(web): State<Web>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        web.sessions.end(&cookie);
    }
    with_cookie("", 0)
}

// No `Secure`: the port is plain HTTP on loopback, and a proxy before it adds its own.
fn with_cookie(value: &str, seconds: u64) -> Response {
    let mut response = see_other("/");
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// A form of another site must not act for whoever is signed in here: SameSite keeps the cookie
/// back, and this keeps out browsers that do not know it.
pub async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let ours = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => matches!(site, "same-origin" | "none"),
        (None, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, at)| at == host)
        }
        // Not a browser: it has no cookie that another site could use.
        (None, ..) => true,
    };
    if ours || matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::FORBIDDEN,
        "this request comes from another site",
        "open the console's own page and try there",
    )
    .into_response()
}
