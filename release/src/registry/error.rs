//! What can go wrong between an engineer and a registry.

use crate::console::ConsoleError;
use crate::files::FileError;
use coracle_images::Sha256Digest;
use coracle_images::layout::LayoutError;
use coracle_images::store::StoreError;
use std::io;
use std::path::PathBuf;

/// Why an image did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not `host[:port]/name[:tag]`.
    #[error("`{0}` names no image of a registry; write `registry.example/shop/web:1.4`")]
    Reference(String),
    /// Password, key.
    #[error("{0}")]
    File(#[from] FileError),
    /// Certificates.
    #[error("{0}")]
    Certificates(#[from] ConsoleError),
    /// The key of the client's certificate.
    #[error("--key `{0}` holds no private key in PEM")]
    Key(PathBuf),
    /// Nobody answers.
    #[error("cannot reach the registry: {method} {url}")]
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
    #[error("the registry refused {method} {url}: {error} (status {status}){hint}")]
    Refused {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        url: String,
        /// HTTP status.
        status: u16,
        /// In its words.
        error: String,
        /// What may help.
        hint: &'static str,
    },
    /// Another host, to which the registry had sent us, said no.
    #[error(
        "{place} refused {method} {url}, for which the registry sends us there (status {status}); the login is for the registry alone"
    )]
    RefusedElsewhere {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        url: String,
        /// Who refused.
        place: String,
        /// HTTP status.
        status: u16,
    },
    /// It said something else than a registry does.
    #[error("{url} brought an answer that is not understood: {what}")]
    Answer {
        /// Of the request.
        url: String,
        /// What was wrong with it.
        what: String,
    },
    /// An artifact about nothing.
    #[error("the artifact {0} has no `subject`: it is about no image")]
    NoSubject(Sha256Digest),
    /// Something else has the tag.
    #[error(
        "{tag}, where what is about the image is listed in a registry without a list of its own, holds something else: {what}; \
         nothing was changed"
    )]
    Tag {
        /// With host and name.
        tag: String,
        /// What is wrong with it.
        what: String,
    },
    /// Others write the same index.
    #[error(
        "the index `{tag}` was changed by others each of {tries} times: what was pushed is there by its digest and not listed; \
         push again"
    )]
    Contended {
        /// Of the subject.
        tag: String,
        /// Attempts.
        tries: u32,
    },
    /// A password would go to somebody else, or in the clear.
    #[error("the registry sends passwords to `{0}`, which is not https")]
    Realm(String),
    /// The bytes have another digest.
    #[error("{url} brought {found}, not {wanted}")]
    WrongDigest {
        /// Of the request.
        url: String,
        /// Asked for.
        wanted: Sha256Digest,
        /// What came.
        found: Sha256Digest,
    },
    /// While a blob came.
    #[error("fetching {url}")]
    Stream {
        /// Of the request.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The layout.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// Its blobs.
    #[error("{0}")]
    Store(#[from] StoreError),
}
