use std::io;
use std::path::PathBuf;

use coracle_digest::Sha256Digest;

use super::media::is_schema_1;
use crate::store::StoreError;

/// Why a layout or a document in it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// No `oci-layout` file of version 1.
    #[error("`{0}` is no OCI image layout")]
    NotALayout(PathBuf),
    /// The file system said no.
    #[error("reading or writing `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The blobs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document above [`Limits::document_bytes`].
    #[error("{what} has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Which document.
        what: String,
        /// Its bytes.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The bytes do not have the digest or the size that the descriptor says.
    #[error("the blob {0} is damaged")]
    Damaged(Sha256Digest),
    /// Not the JSON that it should be.
    #[error("{what} can't be understood")]
    Json {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// No such tag.
    #[error("there is no image `{0}` in the layout")]
    NoTag(String),
    /// The layout has several images, so one must be named.
    #[error("the layout has {0} images; say which")]
    Ambiguous(usize),
    /// An index has nothing for the machine.
    #[error("the image has nothing for {os}/{architecture}")]
    NoPlatform {
        /// GOOS asked for.
        os: String,
        /// GOARCH asked for.
        architecture: String,
    },
    /// A media type that is neither manifest nor index.
    #[error("`{0}` is no image")]
    NotAnImage(String),
    /// Docker's first format.
    #[error(
        "`{0}` is Docker's schema 1, which names no contents and is not read: have the image pushed again by `docker push` of 1.10 \
         or newer, or by `skopeo copy --format v2s2`"
    )]
    Schema1(String),
    /// The config's DiffIDs and the manifest's layers are not equally many.
    #[error("the image has {layers} layers but {diff_ids} DiffIDs")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
}

impl LayoutError {
    /// For a media type that is neither a manifest's nor an index's.
    #[must_use]
    pub fn no_image(media_type: String) -> Self {
        match is_schema_1(&media_type) {
            true => Self::Schema1(media_type),
            false => Self::NotAnImage(media_type),
        }
    }
}
