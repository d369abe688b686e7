//! Images from and to any registry (distribution-spec v1.1): the engineer's way to what others have built, and to where
//! boards' mirrors may take it from. What comes is held against its digests before it gets a name in the layout.

//!
//! | file | what it holds |
//! |---|---|
//! | this one | how a registry is reached, and asked |
//! | `reference` | names of images |
//! | `login` | passwords and tokens |
//! | `pull` | images and blobs from there |
//! | `push` | images and blobs to there |
//! | `referrers` | what is there about an image |

mod error;
mod login;
mod pull;
mod push;
mod reference;
mod referrers;

use crate::console::{SYSTEM_CA, authorities, problem};
use crate::files;
use login::Login;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::request::Builder;
use ureq::http::{Request, Response, Uri};
use ureq::tls::{ClientCert, PrivateKey, TlsConfig};
use ureq::{Agent, Body, ResponseExt};

pub use error::RegistryError;
pub use push::Attached;
pub use reference::Reference;

/// A private key, in bytes.
const KEY_BYTES: u64 = 64 << 10;

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// User name and the file that holds the password.
    pub login: Option<(String, PathBuf)>,
    /// Authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Without TLS: a registry on this machine.
    pub plain_http: bool,
}

/// One repository of a registry.
pub struct Registry {
    agent: Agent,
    login: Login,
    base: String,
    reference: Reference,
}

impl Registry {
    /// Reads passwords and certificates; does not connect yet.
    pub fn new(reference: Reference, access: &Access, push: bool) -> Result<Self, RegistryError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Blobs may lie elsewhere. Who is asked there gets no word of the login (ureq's default), nor is asked in the clear.
            .max_redirects(4)
            .https_only(!access.plain_http)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(120)))
            .user_agent(concat!("coracle-release/", env!("CARGO_PKG_VERSION")));
        let scheme = if access.plain_http { "http" } else { "https" };
        if !access.plain_http {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let roots = authorities(access.ca.as_deref().unwrap_or(Path::new(SYSTEM_CA)))?;
            let mut tls = TlsConfig::builder()
                .unversioned_rustls_crypto_provider(provider)
                .root_certs(roots.into());
            if let Some((certificate, key)) = &access.client {
                let pem = files::read(key, KEY_BYTES)?;
                let key =
                    PrivateKey::from_pem(&pem).map_err(|_| RegistryError::Key(key.clone()))?;
                let chain = authorities(certificate)?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
            config = config.tls_config(tls.build());
        }
        let scope = format!(
            "repository:{}:pull{}",
            reference.name,
            if push { ",push" } else { "" }
        );
        let login = Login::read(access.login.as_ref(), scope, access.plain_http)?;
        Ok(Self {
            agent: config.build().into(),
            login,
            base: format!("{scheme}://{}", reference.host),
            reference,
        })
    }

    /// What it was opened for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.reference.name)
    }

    /// Asks once, and once more with a login when the registry wants one: it, and nobody that it has sent us to.
    fn ask(
        &self,
        method: &'static str,
        url: &str,
        send: impl Fn(Builder) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, RegistryError> {
        let attempt = || {
            let mut request = Request::builder().method(method).uri(url);
            if let Some(word) = self.login.word() {
                request = request.header("authorization", word);
            }
            send(request).map_err(|source| RegistryError::Unreachable {
                method,
                url: url.to_owned(),
                source: Box::new(source),
            })
        };
        let mut answer = attempt()?;
        if answer.status().as_u16() == 401
            && self.is_here(answer.get_uri())
            && self.login.answer(&self.agent, &answer)?
        {
            answer = attempt()?;
        }
        if answer.status().is_success() {
            return Ok(answer);
        }
        match self.is_here(answer.get_uri()) {
            true => Err(refused(method, url, answer)),
            false => Err(RegistryError::RefusedElsewhere {
                method,
                url: url.to_owned(),
                place: origin(answer.get_uri()),
                status: answer.status().as_u16(),
            }),
        }
    }

    /// Whether the registry itself has answered.
    fn is_here(&self, answered: &Uri) -> bool {
        let base = self.base.parse::<Uri>().ok();
        base.is_some_and(|base| {
            (base.scheme(), base.authority()) == (answered.scheme(), answered.authority())
        })
    }
}

/// Where an address leads, without its path: that of a blob elsewhere may be a key to it.
fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    format!("{scheme}://{}", url.host().unwrap_or_default())
}

fn refused(method: &'static str, url: &str, mut answer: Response<Body>) -> RegistryError {
    let body = answer.body_mut().with_config().limit(64 << 10);
    let (error, _) = problem(&body.read_to_string().unwrap_or_default());
    let status = answer.status().as_u16();
    RegistryError::Refused {
        method,
        url: url.to_owned(),
        status,
        error,
        hint: match status {
            401 | 403 => "; `--user NAME --password-file FILE` signs in",
            _ => "",
        },
    }
}
