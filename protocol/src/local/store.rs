//! What is on the board's disk of layers and blobs: read again, and mended.

#[cfg(doc)]
use super::{Answer, Request};
use super::{LayerNeed, LayerSource};
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// What may be done about what is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoreAction {
    /// Begin to read. Answer: [`Answer::Done`] at once.
    Check,
    /// How far that is, or what came of the last one. Answer: [`Answer::Store`].
    Look,
    /// Make a layer anew from a blob in the daemon's store, one that the last check found broken, and let it take the other's
    /// place: apps of it are stopped before and started after that. Answer: [`Answer::Done`] when it has its place.
    Mend {
        /// Which layer.
        diff_id: Sha256Digest,
        /// From what.
        from: LayerSource,
    },
}

/// A check of what is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCheck {
    /// It goes on.
    pub running: bool,
    /// Layers and blobs that were read.
    pub done: u64,
    /// And how many there are to read.
    pub of: u64,
    /// Those that are not as they should be.
    pub found: Vec<StoreFault>,
    /// How many of these are not named, because there are too many.
    pub more: u64,
}

/// A layer or blob that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFault {
    /// A layer's diff_id, or the blob's digest.
    pub digest: Sha256Digest,
    /// Which of the two.
    pub kind: StoreKind,
    /// What is known of it.
    pub state: StoreState,
    /// Who has it, in words: "app `web` of the running set 1.2". Empty: nobody.
    pub needed_by: Vec<String>,
    /// What is wrong, the first of it.
    pub faults: Vec<FileFault>,
    /// How much more.
    pub more: u64,
    /// What it can be made anew from, when a set that may run has it. Of a blob that is the blob, and `diff_id` its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<LayerNeed>,
}

/// What is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// A layer that was unpacked.
    Layer,
    /// A blob of the daemon's store.
    Blob,
}

/// What is known of a layer or blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreState {
    /// It is another than was signed.
    Broken,
    /// It cannot be looked at.
    Unknown,
    /// It was made anew since.
    Mended,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFault {
    /// A file of the layer; empty: all of it.
    pub path: String,
    /// In words, after the path: "has other bytes".
    pub what: String,
}
