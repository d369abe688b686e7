//! Images from and to any registry (distribution-spec v1.1): the engineer's way to what others have built, and to where
//! boards' mirrors may take it from. What comes is held against its digests before it gets a name in the layout.

mod error;
mod login;
mod reference;

use crate::console::{SYSTEM_CA, authorities, problem};
use crate::files;
use crate::image::limits;
use crate::progress;
use coracle_images::Sha256Digest;
use coracle_images::layout::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Image, Layout, MANIFEST, Manifest, Platform,
    is_index, is_manifest,
};
use login::Login;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::request::Builder;
use ureq::http::{Request, Response, Uri};
use ureq::tls::{ClientCert, PrivateKey, TlsConfig};
use ureq::{Agent, Body, ResponseExt, SendBody};

pub use error::RegistryError;
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

    /// Brings the image for `machine` into `layout` and calls it `tag`. Layers that are there already do not come again, and
    /// one that was cut off goes on.
    pub fn pull(
        &self,
        layout: &Layout,
        tag: &str,
        machine: &Platform,
    ) -> Result<Image, RegistryError> {
        let before = layout.store().list()?;
        let mut entry = self.manifest(layout, &self.reference.version)?;
        if is_index(&entry.media_type) {
            let index = entry.digest;
            entry = layout.resolve(entry, machine)?;
            self.manifest(layout, &entry.digest.to_string())?;
            if before.binary_search(&index).is_err() {
                layout.store().remove(&index)?;
            }
        }
        let manifest: Manifest = layout.document(&entry)?;
        for blob in manifest.blobs() {
            self.fetch(layout, blob)?;
        }
        let image = layout.image_of(entry.clone())?;
        layout.tag(entry, tag)?;
        Ok(image)
    }

    /// Fetches a manifest or an index into the store.
    fn manifest(&self, layout: &Layout, version: &str) -> Result<Descriptor, RegistryError> {
        let url = self.url(&format!("manifests/{version}"));
        let accept = [
            MANIFEST,
            DOCKER_MANIFEST,
            coracle_images::layout::INDEX,
            DOCKER_LIST,
        ]
        .join(", ");
        let mut answer = self.ask("GET", &url, |request| {
            self.agent.run(request.header("accept", &accept).body(())?)
        })?;
        let wrong = |what: String| RegistryError::Answer {
            url: url.clone(),
            what,
        };
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(limits().document_bytes)
            .read_to_vec()
            .map_err(|error| wrong(error.to_string()))?;
        let found = Sha256Digest::of(&bytes);
        if let Ok(wanted) = version.parse::<Sha256Digest>()
            && wanted != found
        {
            return Err(RegistryError::WrongDigest { url, wanted, found });
        }
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !is_manifest(kind) && !is_index(kind) {
            return Err(wrong(format!(
                "it is `{}`, neither a manifest nor an index",
                crate::console::visible(kind)
            )));
        }
        Ok(layout.put(kind, &bytes)?)
    }

    fn fetch(&self, layout: &Layout, blob: &Descriptor) -> Result<(), RegistryError> {
        if layout.store().has(&blob.digest) {
            return Ok(());
        }
        let mut part = layout.store().download(blob.digest, blob.size)?;
        let url = self.url(&format!("blobs/{}", blob.digest));
        if part.length() < blob.size {
            let from = part.length();
            let mut answer = self.ask("GET", &url, |request| {
                let request = match from {
                    0 => request,
                    from => request.header("range", format!("bytes={from}-")),
                };
                self.agent.run(request.body(())?)
            })?;
            if answer.status().as_u16() != 206 {
                part.restart()?;
            }
            let bar = progress::bytes(&format!("pulling {}", self.reference), blob.size);
            bar.set_position(part.length());
            // One byte more tells that it is too long.
            let most = (blob.size - part.length()).saturating_add(1);
            let body = answer.body_mut().with_config().limit(most).reader();
            let mut body = progress::reading(&bar, body.take(most));
            io::copy(&mut body, &mut part).map_err(|source| RegistryError::Stream {
                url: url.clone(),
                source,
            })?;
            bar.finish_and_clear();
        }
        part.finish()?;
        Ok(())
    }

    /// Sends an image; the bytes that were not there before.
    pub fn push(&self, layout: &Layout, image: &Image) -> Result<u64, RegistryError> {
        let mut sent = 0;
        for blob in image.manifest.blobs() {
            let url = self.url(&format!("blobs/{}", blob.digest));
            match self.ask("HEAD", &url, |request| self.agent.run(request.body(())?)) {
                Ok(_) => continue,
                Err(RegistryError::Refused { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
            self.send(layout, blob)?;
            sent += blob.size;
        }
        let bytes = layout.document_bytes(&image.descriptor)?;
        let url = self.url(&format!("manifests/{}", self.reference.version));
        self.ask("PUT", &url, |request| {
            let request = request
                .header("content-type", &image.descriptor.media_type)
                .header("content-length", bytes.len())
                .body(SendBody::from_owned_reader(Cursor::new(bytes.clone())))?;
            self.agent.run(request)
        })?;
        Ok(sent + bytes.len() as u64)
    }

    fn send(&self, layout: &Layout, blob: &Descriptor) -> Result<(), RegistryError> {
        let begin = self.url("blobs/uploads/");
        let answer = self.ask("POST", &begin, |request| {
            self.agent
                .run(request.header("content-length", 0).body(())?)
        })?;
        let place = answer.headers().get("location");
        let place = place.and_then(|place| place.to_str().ok());
        let place = place.ok_or_else(|| RegistryError::Answer {
            url: begin.clone(),
            what: "no Location for the upload".to_owned(),
        })?;
        let place = match place.starts_with('/') {
            true => format!("{}{place}", self.base),
            false => place.to_owned(),
        };
        // The login goes along, so that it must be the same registry.
        if !place.starts_with(&format!("{}/", self.base)) {
            return Err(RegistryError::Answer {
                url: begin,
                what: format!("the upload is to go elsewhere, to `{place}`"),
            });
        }
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={}", blob.digest);
        let bar = progress::bytes(&format!("pushing {}", self.reference), blob.size);
        self.ask("PUT", &url, |request| {
            let file = layout.store().open_blob(&blob.digest);
            let file = file.map_err(|error| ureq::Error::Io(io::Error::other(error)))?;
            let request = request
                .header("content-type", "application/octet-stream")
                .header("content-length", blob.size)
                .body(SendBody::from_owned_reader(progress::reading(&bar, file)))?;
            self.agent.run(request)
        })?;
        bar.finish_and_clear();
        Ok(())
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
