//! Which blobs stay when the store is tidied.

use super::LocalOffer;
use super::record::Record;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::Deploy;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::release::Release;
use std::collections::BTreeSet;

/// What the sets that may run and an open offer need.
pub fn of_others(record: &Record, local: Option<&LocalOffer>) -> BTreeSet<Sha256Digest> {
    let mut keep = BTreeSet::new();
    keep.extend(record.kept_blobs());
    if let Some(LocalOffer { needs, .. }) = local {
        keep.extend(needs.configs.iter().map(|b| b.digest));
        keep.extend(
            needs.layers.iter().flat_map(|l| {
                std::iter::once(l.full.digest).chain(l.deltas.iter().map(|d| d.digest))
            }),
        );
    }
    keep
}

/// Blobs that documents name.
pub fn of_documents(deploy: &Envelope, release: &Envelope) -> BTreeSet<Sha256Digest> {
    let mut blobs = BTreeSet::new();
    if let Some(release) = read::<Release>(release) {
        let of_apps = release.apps.iter().map(|app| &app.image);
        for image in of_apps.chain(release.agent.iter().map(|agent| &agent.image)) {
            blobs.insert(image.config.digest);
            blobs.extend(image.layers.iter().map(|layer| layer.digest));
        }
    }
    if let Some(deploy) = read::<Deploy>(deploy) {
        blobs.extend(deploy.deltas.iter().map(|delta| delta.digest));
    }
    blobs
}

/// Without a look at the signatures: for what to keep, not for what to run.
fn read<T: serde::de::DeserializeOwned>(envelope: &Envelope) -> Option<T> {
    serde_json::from_slice(&envelope.payload_unverified().ok()?).ok()
}
