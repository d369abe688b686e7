//! Paths and methods of the registry (distribution-spec, "Endpoints"). Repository names hold
//! slashes, so that paths are read from their end.

use super::lists::query;
use super::names::tags_beside;
use super::{MANIFEST_BYTES, Manifests, Reference, RegistryError, Repository, Uploads};
use crate::access;
use crate::blobs::{self, Blobs};
use crate::store::Store;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use coracle_digest::Sha256Digest;

/// What the registry's routes work on.
#[derive(Clone)]
pub struct Registry {
    /// Tokens.
    pub store: Store,
    /// Blobs.
    pub blobs: Blobs,
    /// Blobs on their way in.
    pub uploads: Uploads,
    /// Manifests and tags.
    pub manifests: Manifests,
}

/// `/v2/…`.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(registry)
}

async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    let answer = match access::check(&registry.store, request.headers(), request.method()).await {
        Ok(_) => registry.answer(request).await,
        Err(error) => Err(error.into()),
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Ok(value) = "registry/2.0".parse() {
        response
            .headers_mut()
            .insert("docker-distribution-api-version", value);
    }
    response
}

impl Registry {
    async fn answer(&self, request: Request) -> Result<Response, RegistryError> {
        let path = request.uri().path().to_owned();
        let rest = path.strip_prefix("/v2").unwrap_or_default();
        let rest = rest.trim_start_matches('/');
        if rest.is_empty() {
            return Ok(axum::Json(serde_json::json!({})).into_response());
        }
        let unknown = || RegistryError::NameUnknown(rest.chars().take(255).collect());
        let (head, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return self.upload(&repository(name)?, last, request).await;
        }
        // POST …/blobs/uploads without the slash at its end, as some clients send it.
        if last == "uploads"
            && let Some(name) = head.strip_suffix("/blobs")
        {
            return self.upload(&repository(name)?, "", request).await;
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            repository(name)?;
            return self.blob(last, request.method(), request.headers()).await;
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return self.manifest(repository(name)?, last, request).await;
        }
        if let Some(name) = head.strip_suffix("/tags")
            && last == "list"
        {
            return self.tags(repository(name)?, request.uri()).await;
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return self.referrers(repository(name)?, last, request.uri()).await;
        }
        Err(unknown())
    }

    async fn blob(
        &self,
        digest: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, RegistryError> {
        let head = match *method {
            Method::GET => false,
            Method::HEAD => true,
            _ => return Err(RegistryError::Unsupported),
        };
        let wanted = self::digest(digest)?;
        blobs::serve(&self.blobs, &wanted, headers, head)
            .await
            .ok_or_else(|| RegistryError::BlobUnknown(wanted.to_string()))
    }

    async fn upload(
        &self,
        repository: &Repository,
        id: &str,
        request: Request,
    ) -> Result<Response, RegistryError> {
        let query = query(request.uri());
        let wanted = query.get("digest").map(|d| digest(d)).transpose()?;
        let first = first_byte(request.headers())?;
        let method = request.method().clone();
        match (method, id) {
            (Method::POST, "") => {
                if let Some(mount) = query.get("mount") {
                    // Blobs have no owner here: one that any repository holds is there at once.
                    let mount = digest(mount)?;
                    if self.blobs.size(&mount).is_some() {
                        return Ok(created(repository, &mount));
                    }
                }
                let id = self.uploads.begin().await?;
                let Some(wanted) = wanted else {
                    return Ok(under_way(StatusCode::ACCEPTED, repository, &id, 0));
                };
                self.uploads.append(&id, None, request.into_body()).await?;
                self.uploads.finish(&id, wanted).await?;
                Ok(created(repository, &wanted))
            }
            (Method::PATCH, id) => {
                let size = self.uploads.append(id, first, request.into_body()).await?;
                Ok(under_way(StatusCode::ACCEPTED, repository, id, size))
            }
            (Method::PUT, id) => {
                let wanted = wanted.ok_or_else(|| {
                    RegistryError::DigestInvalid("the query has no `digest`".into())
                })?;
                self.uploads.append(id, first, request.into_body()).await?;
                self.uploads.finish(id, wanted).await?;
                Ok(created(repository, &wanted))
            }
            (Method::GET, id) => {
                let size = self.uploads.size(id).await?;
                Ok(under_way(StatusCode::NO_CONTENT, repository, id, size))
            }
            (Method::DELETE, id) => {
                self.uploads.cancel(id).await?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(RegistryError::Unsupported),
        }
    }

    async fn manifest(
        &self,
        repository: Repository,
        reference: &str,
        request: Request,
    ) -> Result<Response, RegistryError> {
        let wanted = Reference::new(reference).ok_or_else(|| {
            RegistryError::ReferenceInvalid(reference.chars().take(160).collect())
        })?;
        let manifests = self.manifests.clone();
        match *request.method() {
            Method::GET | Method::HEAD => {
                let head = *request.method() == Method::HEAD;
                let blobs = self.blobs.clone();
                let found = blocking(move || {
                    let stored = manifests.get(&repository, &wanted)?;
                    let bytes = blobs.read(&stored.digest, MANIFEST_BYTES as u64)?;
                    Some((stored, bytes))
                })
                .await?;
                let (stored, bytes) =
                    found.ok_or_else(|| RegistryError::ManifestUnknown(reference.to_owned()))?;
                let headers = [
                    (header::CONTENT_TYPE, stored.media_type),
                    (header::CONTENT_LENGTH, bytes.len().to_string()),
                    (header::ETAG, format!("\"{}\"", stored.digest)),
                ];
                let digest = [("docker-content-digest", stored.digest.to_string())];
                let body = if head {
                    Body::empty()
                } else {
                    Body::from(bytes)
                };
                Ok((headers, digest, body).into_response())
            }
            Method::PUT => {
                let media_type = request
                    .headers()
                    .get(header::CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default()
                    .to_owned();
                let tags = match wanted {
                    Reference::Digest(_) => tags_beside(request.uri())?,
                    Reference::Tag(_) => Vec::new(),
                };
                let bytes = axum::body::to_bytes(request.into_body(), MANIFEST_BYTES)
                    .await
                    .map_err(|_| RegistryError::TooLarge)?;
                let name = repository.clone();
                let wanted: Vec<Reference> = [wanted].into_iter().chain(tags).collect();
                let (stored, tags) = blocking(move || {
                    let stored = manifests.put(&name, &wanted[0], &media_type, &bytes)?;
                    let mut tags = Vec::new();
                    for tag in &wanted[1..] {
                        tags.extend(manifests.tag(&name, tag, &stored.digest)?);
                    }
                    Ok::<_, RegistryError>((stored, tags))
                })
                .await??;
                let location = format!("/v2/{repository}/manifests/{}", stored.digest);
                let mut response = (
                    StatusCode::CREATED,
                    [(header::LOCATION, location)],
                    [("docker-content-digest", stored.digest.to_string())],
                )
                    .into_response();
                if let Some(subject) = stored.subject
                    && let Ok(value) = subject.to_string().parse()
                {
                    response.headers_mut().insert("oci-subject", value);
                }
                for tag in tags {
                    if let Ok(value) = tag.parse() {
                        response.headers_mut().append("oci-tag", value);
                    }
                }
                Ok(response)
            }
            _ => Err(RegistryError::Unsupported),
        }
    }
}

fn repository(name: &str) -> Result<Repository, RegistryError> {
    Repository::new(name)
        .ok_or_else(|| RegistryError::NameInvalid(name.chars().take(255).collect()))
}

pub(super) fn digest(text: &str) -> Result<Sha256Digest, RegistryError> {
    text.parse()
        .map_err(|e| RegistryError::DigestInvalid(format!("{e}")))
}

fn created(repository: &Repository, digest: &Sha256Digest) -> Response {
    let location = format!("/v2/{repository}/blobs/{digest}");
    (
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        [("docker-content-digest", digest.to_string())],
    )
        .into_response()
}

// `Range` names the last byte, so that an empty upload says `0-0` too (distribution-spec).
fn under_way(status: StatusCode, repository: &Repository, id: &str, size: u64) -> Response {
    let location = format!("/v2/{repository}/blobs/uploads/{id}");
    (
        status,
        [
            (header::LOCATION, location),
            (header::RANGE, format!("0-{}", size.saturating_sub(1))),
        ],
        [("docker-upload-uuid", id.to_owned())],
    )
        .into_response()
}

// `Content-Range: <first>-<last>`, without a unit (distribution-spec, "Pushing a blob in chunks").
fn first_byte(headers: &HeaderMap) -> Result<Option<u64>, RegistryError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let first = value
        .to_str()
        .ok()
        .and_then(|v| v.trim_start_matches("bytes ").split_once('-'))
        .and_then(|(first, _)| first.parse().ok());
    first
        .map(Some)
        .ok_or_else(|| RegistryError::DigestInvalid("Content-Range cannot be read".into()))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| RegistryError::Inside(e.to_string()))
}
