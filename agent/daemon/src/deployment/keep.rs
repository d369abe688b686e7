//! Which blobs stay when the store is tidied.

use super::early::EarlyVerified;
use super::record::Record;
use super::stick::LocalOffer;
use coracle_protocol::Sha256Digest;
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

/// What documents name.
pub fn of_documents(documents: &EarlyVerified) -> BTreeSet<Sha256Digest> {
    let release = documents.release.document();
    let of_apps = release.apps.iter().map(|app| &app.image);
    let mut blobs = BTreeSet::new();
    for image in of_apps.chain(release.agent.iter().map(|agent| &agent.image)) {
        blobs.insert(image.config.digest);
        blobs.extend(image.layers.iter().map(|layer| layer.digest));
    }
    let deltas = &documents.deploy.document().deltas;
    blobs.extend(deltas.iter().map(|delta| delta.digest));
    blobs
}
