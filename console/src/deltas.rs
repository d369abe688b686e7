//! Deltas for what boards hold.

use crate::blobs::Blobs;
use crate::files::FileError;
use crate::store::{Board, DeltaRow, Store, StoreError};
use coracle_protocol::release::Release;
use std::path::PathBuf;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Finds and makes deltas.
#[derive(Clone)]
pub struct Deltas {}

impl Deltas {
    pub fn start(
        _s: Store,
        _b: Blobs,
        _p: PathBuf,
        _c: CancellationToken,
    ) -> Result<Self, FileError> {
        Ok(Self {})
    }
    pub fn prepare(&self, _release: Release) {}
    pub async fn plan(
        &self,
        _board: &Board,
        _release: &Release,
        _until: Instant,
    ) -> Result<Vec<DeltaRow>, StoreError> {
        Ok(Vec::new())
    }
}
