//! The spec's error codes (distribution-spec, "Error Codes").

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use coracle_protocol::limits::LIMITS;

/// Why a registry request was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No or a wrong token.
    #[error("an API token is needed: user `token`, password the token")]
    Unauthorized,
    /// A read-only token.
    #[error("this API token may look, not change")]
    Denied,
    /// Not a repository name.
    #[error("`{0}` is not a repository name")]
    NameInvalid(String),
    /// Not a tag or digest.
    #[error("`{0}` is not a tag or a SHA-256 digest")]
    ReferenceInvalid(String),
    /// More tags in one push than are taken.
    #[error("the query names {got} tags; push at most {most} at once")]
    TooManyTags {
        /// In the query.
        got: usize,
        /// That are taken.
        most: usize,
    },
    /// No such blob.
    #[error("blob {0} is not here")]
    BlobUnknown(String),
    /// No such manifest.
    #[error("manifest {0} is not here")]
    ManifestUnknown(String),
    /// No such repository.
    #[error("repository {0} is not here")]
    NameUnknown(String),
    /// No such upload.
    #[error("upload {0} is not here; it was finished, or left alone for a day")]
    UploadUnknown(String),
    /// A chunk that does not follow the one before.
    #[error("the chunk begins at {got}; {want} bytes are here")]
    ChunkOrder {
        /// Where it must begin.
        want: u64,
        /// Where it begins.
        got: u64,
    },
    /// Bytes do not match.
    #[error("{0}")]
    DigestInvalid(String),
    /// Past a limit.
    #[error("a blob is at most {} bytes, a manifest {} bytes", LIMITS.blob_bytes, super::MANIFEST_BYTES)]
    TooLarge,
    /// Not a manifest.
    #[error("{0}")]
    ManifestInvalid(String),
    /// A manifest names a blob that is not here.
    #[error("the manifest names {0}, which is not here; push it first")]
    ManifestBlobUnknown(String),
    /// Not served.
    #[error("this registry does not do that")]
    Unsupported,
    /// The disk or the database; logged.
    #[error("the registry could not do this; its log says why")]
    Inside(String),
}

impl RegistryError {
    fn code(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Unauthorized => (S::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Denied => (S::FORBIDDEN, "DENIED"),
            Self::NameInvalid(_) => (S::BAD_REQUEST, "NAME_INVALID"),
            Self::ReferenceInvalid(_) => (S::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::TooManyTags { .. } => (S::URI_TOO_LONG, "SIZE_INVALID"),
            Self::BlobUnknown(_) => (S::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::ManifestUnknown(_) => (S::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::NameUnknown(_) => (S::NOT_FOUND, "NAME_UNKNOWN"),
            Self::UploadUnknown(_) => (S::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::ChunkOrder { .. } => (S::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::DigestInvalid(_) => (S::BAD_REQUEST, "DIGEST_INVALID"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Self::ManifestInvalid(_) => (S::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestBlobUnknown(_) => (S::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Self::Unsupported => (S::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Inside(_) => (S::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }
}

impl From<crate::files::FileError> for RegistryError {
    fn from(error: crate::files::FileError) -> Self {
        Self::Inside(error.to_string())
    }
}

impl From<crate::blobs::BlobError> for RegistryError {
    fn from(error: crate::blobs::BlobError) -> Self {
        use crate::blobs::BlobError;
        match error {
            BlobError::Digest { .. } => Self::DigestInvalid(error.to_string()),
            BlobError::TooLarge => Self::TooLarge,
            BlobError::File(_) | BlobError::Stopped => Self::Inside(error.to_string()),
        }
    }
}

impl From<crate::access::AccessError> for RegistryError {
    fn from(error: crate::access::AccessError) -> Self {
        use crate::access::AccessError;
        match error {
            AccessError::Unknown => Self::Unauthorized,
            AccessError::ReadOnly => Self::Denied,
            AccessError::Store(error) => Self::Inside(error.to_string()),
        }
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        if let Self::Inside(error) = &self {
            tracing::error!(error, "registry request failed");
        }
        let body = serde_json::json!({"errors": [{"code": code, "message": self.to_string()}]});
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"coracle\", charset=\"UTF-8\""),
            );
        }
        response
    }
}
