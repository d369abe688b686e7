//! Who asks: Basic (RFC 7617), or Bearer tokens as Docker's registries give them (distribution's "Token Authentication
//! Specification").

use super::RegistryError;
use crate::files;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use std::cell::RefCell;
use std::path::PathBuf;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A password, in bytes.
const PASSWORD_BYTES: u64 = 4096;
/// A token's answer, in bytes.
const TOKEN_BYTES: u64 = 64 << 10;

/// A user, and what the registry wants to hear.
pub(super) struct Login {
    /// `Basic …`, when there is a password.
    basic: Option<String>,
    scope: String,
    plain_http: bool,
    word: RefCell<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Login {
    pub(super) fn read(
        login: Option<&(String, PathBuf)>,
        scope: String,
        plain_http: bool,
    ) -> Result<Self, RegistryError> {
        let basic = match login {
            None => None,
            Some((user, file)) => {
                let password = files::read_line(file, PASSWORD_BYTES)?;
                let pair = BASE64.encode(format!("{user}:{password}"));
                Some(format!("Basic {pair}"))
            }
        };
        Ok(Self {
            basic,
            scope,
            plain_http,
            word: RefCell::default(),
        })
    }

    /// The value of `Authorization`.
    pub(super) fn word(&self) -> Option<String> {
        self.word.borrow().clone()
    }

    /// Takes up what a refusal asks for; whether there is something else to say than before.
    pub(super) fn answer(
        &self,
        agent: &Agent,
        refusal: &Response<Body>,
    ) -> Result<bool, RegistryError> {
        let challenges = refusal.headers().get_all("www-authenticate");
        let challenges: Vec<&str> = challenges.iter().filter_map(|v| v.to_str().ok()).collect();
        let of = |scheme: &str| {
            challenges.iter().find_map(|challenge| {
                let (found, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
                found.eq_ignore_ascii_case(scheme).then_some(rest)
            })
        };
        let word = match (of("bearer"), of("basic"), &self.basic) {
            (Some(challenge), ..) => format!("Bearer {}", self.token(agent, challenge)?),
            (None, Some(_), Some(basic)) => basic.clone(),
            _ => return Ok(false),
        };
        Ok(self.word.replace(Some(word.clone())) != Some(word))
    }

    fn token(&self, agent: &Agent, challenge: &str) -> Result<String, RegistryError> {
        let realm = parameter(challenge, "realm").unwrap_or_default();
        // Where a password goes in the clear, its owner has said so by --plain-http.
        let in_the_clear = self.plain_http && realm.starts_with("http://");
        if !realm.starts_with("https://") && !in_the_clear {
            return Err(RegistryError::Realm(crate::console::visible(&realm)));
        }
        let mut request = agent.get(&realm);
        if let Some(service) = parameter(challenge, "service") {
            request = request.query("service", service);
        }
        let scope = parameter(challenge, "scope").unwrap_or_else(|| self.scope.clone());
        request = request.query("scope", scope);
        if let Some(basic) = &self.basic {
            request = request.header("authorization", basic);
        }
        let answer = request.call();
        let mut answer = answer.map_err(|source| RegistryError::Unreachable {
            method: "GET",
            url: realm.clone(),
            source: Box::new(source),
        })?;
        if !answer.status().is_success() {
            return Err(super::refused("GET", &realm, answer));
        }
        let body = answer.body_mut().with_config().limit(TOKEN_BYTES);
        let token = body
            .read_to_vec()
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok())
            .and_then(|token| token.token.or(token.access_token));
        token.ok_or_else(|| RegistryError::Answer {
            url: realm,
            what: "there is no token in it".to_owned(),
        })
    }
}

/// A parameter of a challenge: `realm="https://…",service="…"` (RFC 9110, 11.2).
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn challenges() {
        let text = r#"realm="https://a/t",service="r, x", scope=repository:a:pull,error=x"#;
        assert_eq!(parameter(text, "realm").unwrap(), "https://a/t");
        assert_eq!(parameter(text, "Service").unwrap(), "r, x");
        assert_eq!(parameter(text, "scope").unwrap(), "repository:a:pull");
        assert_eq!(parameter(text, "error").unwrap(), "x");
        assert_eq!(parameter(text, "other"), None);
        assert_eq!(parameter(r#"realm="open"#, "realm"), None);
    }
}
