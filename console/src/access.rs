//! Who may use the operators' port. A token comes as `Authorization: Bearer`, as the password of
//! `Authorization: Basic` (registry clients), or by a session that the sign-in page opened.

use crate::secrets;
use crate::store::{Identity, Role, Store, StoreError};
use axum::http::{HeaderMap, Method, header};
use base64::Engine;

/// Why a request is not served.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No token, or one that is not known.
    #[error("an API token is needed")]
    Unknown,
    /// A read-only token.
    #[error("this API token may look, not change")]
    ReadOnly,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whoever holds the token in `headers`; a token that may only look is refused for a `method`
/// that changes something.
pub async fn check(
    store: &Store,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Identity, AccessError> {
    let token = token_of(headers).ok_or(AccessError::Unknown)?;
    check_token(store, &token, method).await
}

/// As [`check`], for a token in hand.
pub async fn check_token(
    store: &Store,
    token: &str,
    method: &Method,
) -> Result<Identity, AccessError> {
    let who = store
        .identity(&secrets::hash(token))
        .await?
        .ok_or(AccessError::Unknown)?;
    if who.role != Role::Admin && !matches!(*method, Method::GET | Method::HEAD) {
        return Err(AccessError::ReadOnly);
    }
    Ok(who)
}

fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(rest.trim())
            .ok()?;
        let text = String::from_utf8(bytes).ok()?;
        return text.split_once(':').map(|(_, token)| token.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_carry_the_token() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token_of(&headers)
        };
        assert_eq!(with("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("bearer abc").as_deref(), Some("abc"));
        // token:abc
        assert_eq!(with("Basic dG9rZW46YWJj").as_deref(), Some("abc"));
        assert_eq!(with("Basic !!"), None);
        assert_eq!(with("Digest x"), None);
    }
}
