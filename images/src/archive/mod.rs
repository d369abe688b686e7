//! Images in one file: an OCI layout in a tar, and what `docker save` writes and `docker load` reads.
//!
//! The engineer's side. What comes in is checked before it gets a name in the layout: each blob has the digest that
//! names it, each layer the DiffID of its configuration. What goes out is the same, to the byte, for the same image.

mod export;
mod files;
mod import;

use std::io;

use coracle_digest::Sha256Digest;

use crate::build::BuildError;
use crate::layout::LayoutError;
use crate::store::StoreError;

pub use export::{Format, export};
pub use import::{Import, Imported, import};

/// Files of an archive: an image has some dozen.
const FILES: usize = 10_000;

/// `oci-layout`.
const LAYOUT_FILE: &str = "oci-layout";
/// `index.json` of an OCI layout.
const INDEX_FILE: &str = "index.json";
/// The list of images in what `docker save` writes.
const DOCKER_FILE: &str = "manifest.json";
/// Where an OCI layout has its blobs.
const BLOBS: &str = "blobs/sha256/";

/// Name of an image as containerd and Docker 25 write it into an index.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Why an image was not taken from an archive, or not written to one.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive ends too early, or is no tar.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// Where it is to go.
    #[error("writing the archive")]
    Write(#[source] io::Error),
    /// A tar of something else.
    #[error(
        "this is no image: it has neither `oci-layout` and `index.json` nor the `manifest.json` of `docker save`{0}"
    )]
    NotAnImage(&'static str),
    /// More files than any image has.
    #[error("the archive has more than {FILES} files")]
    TooManyFiles,
    /// A name that leads elsewhere.
    #[error("the archive's file `{0}` has a name that leads out of it")]
    Name(String),
    /// A file that another one names.
    #[error("`{name}`, which {by} names, is not in the archive")]
    Missing {
        /// The file.
        name: String,
        /// Who names it.
        by: String,
    },
    /// Bytes that are not what they are called.
    #[error("`{name}` of the archive is damaged: it is {found}, not {wanted}")]
    Damaged {
        /// The file.
        name: String,
        /// What it is called.
        wanted: Sha256Digest,
        /// What it is.
        found: Sha256Digest,
    },
    /// A document of the archive.
    #[error("`{name}` of the archive can't be understood")]
    Json {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A document that is too long to be one.
    #[error("`{name}` of the archive has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// The file.
        name: String,
        /// Its bytes.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// More bytes than an archive may unpack to.
    #[error(
        "up to `{name}` the archive has more than {limit} bytes of files, which is all that is taken at once: split it by its images"
    )]
    TooMuch {
        /// The file with which they are too many.
        name: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The configuration names other layers.
    #[error("`{config}` has {diff_ids} DiffIDs for {layers} layers")]
    LayerCount {
        /// The configuration.
        config: String,
        /// In it.
        diff_ids: usize,
        /// In the list of layers.
        layers: usize,
    },
    /// A layer that boards do not read.
    #[error("layer `{name}` is `{media_type}`, which is no layer that boards read")]
    MediaType {
        /// The layer.
        name: String,
        /// What it is.
        media_type: String,
    },
    /// Nothing says how the image is to be called.
    #[error("the archive does not say what its image is called; say it with --tag NAME:TAG")]
    NoName,
    /// One name for several images.
    #[error("the archive has {0} images; one name is not enough for them")]
    Several(usize),
    /// The layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Its blobs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Packing a layer.
    #[error(transparent)]
    Build(#[from] BuildError),
}
