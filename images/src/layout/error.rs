use std::io;
use std::path::PathBuf;

use coracle_digest::Sha256Digest;

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
    /// The config's DiffIDs and the manifest's layers are not equally many.
    #[error("the image has {layers} layers but {diff_ids} DiffIDs")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
}
