//! HTTP to the console: REST and the registry's side of it. One token, one origin: an answer that
//! points somewhere else gets no token.

use crate::failure;
use crate::files::{self, FileError};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, RequestBuilder, SendBody};

/// A token, in bytes.
const TOKEN_BYTES: u64 = 4096;
/// A bundle of authorities, in bytes; Debian's has 220 KiB.
const CA_BYTES: u64 = 8 << 20;
/// A JSON answer, in bytes: the list of a large fleet.
const ANSWER_BYTES: u64 = 64 << 20;
/// Where the system keeps the authorities that it trusts; used for https without `--ca`.
pub(crate) const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The console may first make deltas before it answers.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// Why the console did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Not `http://host…` or `https://host…`.
    #[error("--console `{0}` is no address; write `https://host:port` or `http://127.0.0.1:8080`")]
    Address(String),
    /// The token's or authority's file.
    #[error("{0}")]
    File(#[from] FileError),
    /// No certificates in the file.
    #[error("`{path}` holds no certificates in PEM{detail}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why, when that is known.
        detail: String,
    },
    /// No token can be sent.
    #[error("--token-file `{0}` holds no token")]
    Token(PathBuf),
    /// Nobody answers there, or not as a console does.
    #[error("cannot reach the console: {method} {url}")]
    Unreachable {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It said no.
    #[error("the console refused {method} {path}: {error} (status {status}{hint})")]
    Refused {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        path: String,
        /// HTTP status.
        status: u16,
        /// In its words.
        error: String,
        /// What to do, in its words, with `; ` before it.
        hint: String,
    },
    /// It said something else than a console says.
    #[error("{method} {path} brought an answer that is not understood: {what}")]
    Answer {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        path: String,
        /// What was wrong with it.
        what: String,
    },
}

impl ConsoleError {
    /// For the program's end.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => failure::UNREACHABLE,
            Self::Refused { status: 422, .. } => failure::REFUSED,
            _ => failure::FAILED,
        }
    }
}

/// A console and the token for it.
pub struct Console {
    agent: Agent,
    base: String,
    token: String,
}

impl Console {
    /// Reads token and authorities; does not connect yet.
    pub fn new(url: &str, token_file: &Path, ca: Option<&Path>) -> Result<Self, ConsoleError> {
        let base = url.trim_end_matches('/').to_owned();
        let host = base
            .strip_prefix("https://")
            .or_else(|| base.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '@', '?', '#'])) {
            return Err(ConsoleError::Address(url.to_owned()));
        }
        let token = files::read_line(token_file, TOKEN_BYTES)?;
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ConsoleError::Token(token_file.to_owned()));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect is nothing that a console sends, and would carry the token along.
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(ANSWER_TIME))
            .user_agent(concat!("coracle-release/", env!("CARGO_PKG_VERSION")));
        if base.starts_with("https://") {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let roots: RootCerts = authorities(ca.unwrap_or(Path::new(SYSTEM_CA)))?.into();
            config = config.tls_config(
                TlsConfig::builder()
                    .unversioned_rustls_crypto_provider(provider)
                    .root_certs(roots)
                    .build(),
            );
        }
        Ok(Self {
            agent: config.build().into(),
            base,
            token,
        })
    }

    /// GET of a JSON document.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ConsoleError> {
        let request = self.agent.get(self.url(path));
        let answer = self.bearer(request).call();
        let answer = self.checked("GET", path, answer)?;
        json("GET", path, answer)
    }

    /// POST of JSON bytes, answered by JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ConsoleError> {
        let request = self.agent.post(self.url(path));
        let answer = self
            .bearer(request)
            .content_type("application/json")
            .send(body);
        let answer = self.checked("POST", path, answer)?;
        json("POST", path, answer)
    }

    /// Whether the registry has this (distribution-spec, "Checking if content exists").
    pub fn registry_has(&self, path: &str) -> Result<bool, ConsoleError> {
        let answer = self.basic(self.agent.head(self.url(path))).call();
        match self.checked("HEAD", path, answer) {
            Ok(_) => Ok(true),
            Err(ConsoleError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens an upload; returns the path and query where it goes on.
    pub fn registry_begin(&self, path: &str) -> Result<String, ConsoleError> {
        let answer = self.basic(self.agent.post(self.url(path))).send_empty();
        let answer = self.checked("POST", path, answer)?;
        let wrong = |what: String| ConsoleError::Answer {
            method: "POST",
            path: path.to_owned(),
            what,
        };
        let location = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| wrong("no Location".into()))?;
        let place = location.strip_prefix(&self.base).unwrap_or(location);
        if !place.starts_with('/') || place.starts_with("//") {
            return Err(wrong(format!("it points elsewhere, to `{location}`")));
        }
        Ok(place.to_owned())
    }

    /// PUT to the registry.
    pub fn registry_put(
        &self,
        path: &str,
        content_type: &str,
        size: u64,
        body: SendBody<'_>,
    ) -> Result<(), ConsoleError> {
        let request = self.basic(self.agent.put(self.url(path)));
        let answer = request
            .content_type(content_type)
            .header("content-length", size.to_string())
            .send(body);
        self.checked("PUT", path, answer).map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn bearer<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        request.header("authorization", format!("Bearer {}", self.token))
    }

    fn basic<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let pair = BASE64.encode(format!("token:{}", self.token));
        request.header("authorization", format!("Basic {pair}"))
    }

    fn checked(
        &self,
        method: &'static str,
        path: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ConsoleError> {
        let mut answer = answer.map_err(|source| ConsoleError::Unreachable {
            method,
            url: self.url(path),
            source: Box::new(source),
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 10)
            .read_to_string()
            .unwrap_or_default();
        let (error, hint) = problem(&text);
        Err(ConsoleError::Refused {
            method,
            path: path.to_owned(),
            status: answer.status().as_u16(),
            error,
            hint,
        })
    }
}

/// The console's `{"error", "hint"}`, or a registry's `{"errors": [{"message"}]}`.
pub(crate) fn problem(text: &str) -> (String, String) {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let word = |value: &Value| value.as_str().map(visible);
    let error = word(&value["error"])
        .or_else(|| word(&value["errors"][0]["message"]))
        .unwrap_or_else(|| visible(text.lines().next().unwrap_or_default()));
    let hint = word(&value["hint"]).filter(|hint| !hint.is_empty());
    (
        error,
        hint.map(|hint| format!("; {hint}")).unwrap_or_default(),
    )
}

/// Text from elsewhere, fit for a terminal.
pub fn visible(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(1000)
        .collect()
}

fn json<T: DeserializeOwned>(
    method: &'static str,
    path: &str,
    mut answer: Response<Body>,
) -> Result<T, ConsoleError> {
    let wrong = |what: String| ConsoleError::Answer {
        method,
        path: path.to_owned(),
        what,
    };
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES)
        .read_to_vec()
        .map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))
}

/// The certificates in a file of PEM.
pub(crate) fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, ConsoleError> {
    let pem = files::read(path, CA_BYTES)?;
    let certificates = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<Vec<Certificate<'static>>, _>>()
        .map_err(|error| ConsoleError::Ca {
            path: path.to_owned(),
            detail: format!(": {error}"),
        })?;
    if certificates.is_empty() {
        return Err(ConsoleError::Ca {
            path: path.to_owned(),
            detail: String::new(),
        });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_consoles() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "secret\n").unwrap();
        assert!(Console::new("http://127.0.0.1:8080/", &token, None).is_ok());
        for bad in [
            "127.0.0.1:8080",
            "ftp://x",
            "http://",
            "http://user@host",
            "http://host/path",
        ] {
            let error = Console::new(bad, &token, None).err().unwrap();
            assert!(error.to_string().contains(bad), "{error}");
        }
        std::fs::write(&token, "two words").unwrap();
        assert!(matches!(
            Console::new("http://x", &token, None),
            Err(ConsoleError::Token(_))
        ));
        std::fs::write(&token, "secret").unwrap();
        assert!(matches!(
            Console::new("https://x", &token, Some(&token)),
            Err(ConsoleError::Ca { .. })
        ));
    }

    #[test]
    fn what_it_says_is_said_on() {
        assert_eq!(
            problem(r#"{"error":"no\u001b[2J","hint":"do"}"#),
            ("no[2J".into(), "; do".into())
        );
        assert_eq!(
            problem(r#"{"errors":[{"code":"X","message":"m"}]}"#),
            ("m".into(), String::new())
        );
        assert_eq!(problem("<html>\n"), ("<html>".into(), String::new()));
    }
}
